"""What extraction did, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mvp.errors import REJECTED_EXIT_CODE, StoreDamagedError
from mvp.pipeline.recording import Reject

_ACTIVITIES = {
    "decode": "reading and decoding",
    "write": "writing",
    "wait": "other processes",
    "start": "making the engine ready",
}


@dataclass
class ViewExtraction:
    """What became of one view's images.

    `rows` are stored for them: one an image, or one a slice; `rows` = `computed` + `cached`. An
    image that stands in the table twice was computed once. `forward_passes` counts the images and
    slices that went through the network here.
    """

    key: str
    images: int
    rows: int
    computed: int
    forward_passes: int
    cached: int
    rejected: int
    recomputed_units: int
    seconds: float
    time: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The counts as plain values."""
        times = {name: round(seconds, 3) for name, seconds in self.time.items()}
        return {**self.__dict__, "seconds": round(self.seconds, 3), "time": times}


@dataclass
class ExtractOutcome:
    """What was extracted, by view.

    Of imported views nothing is extracted: `imported` are their rows, `lost` those studies whose
    rows are not in the store.
    """

    views: dict[str, ViewExtraction] = field(default_factory=dict)
    imported: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    reject_table: str | None = None

    @property
    def exit_code(self) -> int:
        """0, or 4 when images were rejected, or 5 when imported rows are lost."""
        if any(self.lost.values()):
            return StoreDamagedError.exit_code
        return REJECTED_EXIT_CODE if self.rejects else 0

    @property
    def forward_passes(self) -> int:
        """Images that went through a network."""
        return sum(view.forward_passes for view in self.views.values())

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "views": {name: view.to_json() for name, view in self.views.items()},
            "imported": self.imported,
            "imported_lost": self.lost,
            "forward_passes": self.forward_passes,
            "rejected": len(self.rejects),
            "reject_table": self.reject_table,
        }

    @property
    def text(self) -> str:
        """For a person."""
        lines = []
        for name, view in self.views.items():
            line = f"{name}: {view.rows} rows, {view.rejected} rejected, {view.seconds:.1f} s"
            line += f"; {view.forward_passes} forward passes, {view.cached} avoided by the cache"
            if view.forward_passes:
                line += f"; {view.forward_passes / max(view.seconds, 1e-9):.1f} images/s ("
                line += ", ".join(
                    f"{_ACTIVITIES.get(name, name)} {seconds:.1f} s"
                    for name, seconds in view.time.items()
                    if seconds >= 0.05 or name in ("decode", "network", "write")
                )
                line += ")"
            if view.recomputed_units:
                line += f"; {view.recomputed_units} damaged units recomputed"
            lines.append(line)
        for name, count in self.imported.items():
            line = f"{name}: imported, {count} rows"
            if self.lost[name]:
                line += (
                    f"; {self.lost[name]} studies have lost theirs: run `mvp import-features "
                    f"--view {name} TABLE` again"
                )
            lines.append(line)
        if self.rejects:
            lines.append(f"{len(self.rejects)} images rejected: {self.reject_table}")
        return "\n".join(lines)
