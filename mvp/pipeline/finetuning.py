"""What a fine-tuning did, in numbers and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mvp.errors import REJECTED_EXIT_CODE
from mvp.pipeline.recording import Reject
from mvp.training.result import FinetuneResult


@dataclass
class FinetuneOutcome:
    """What was trained.

    Attributes:
        views: for each view its result, or None where the network was fresh or stays frozen; a
            network without one fold stands under the view's name and the fold's, "frontal fold-0".
        reasons: for each of them why it was trained or not.
        folders: where the networks lie.
        together: for each view that was trained with others, their names.
        rejects: images that could not be used.
        reject_table: where they are listed.
    """

    views: dict[str, FinetuneResult | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    together: dict[str, list[str]] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    reject_table: str | None = None

    @property
    def exit_code(self) -> int:
        """0, or 4 when images were rejected."""
        return REJECTED_EXIT_CODE if self.rejects else 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "views": {
                view: {
                    "reason": self.reasons[view],
                    **({"together": self.together[view]} if view in self.together else {}),
                    **({"folder": self.folders[view]} if view in self.folders else {}),
                    **(asdict(result) if result else {}),
                }
                for view, result in self.views.items()
            },
            "rejected": len(self.rejects),
            "reject_table": self.reject_table,
        }

    @property
    def text(self) -> str:
        """For a person."""
        lines = []
        for view, result in self.views.items():
            if result is None:
                lines.append(f"{view}: {self.reasons[view]}")
                continue
            if not result.epochs_run:
                lines.append(f"{view}: not trained, its weights stay; {self.folders[view]}")
                continue
            others = self.together.get(view)
            beside = f", together with {', '.join(others)}" if others else ""
            area = "undefined" if result.best_auroc is None else f"{result.best_auroc:.3f}"
            lines.append(
                f"{view}: {result.epochs_run} epochs in {result.seconds:.0f} s{beside}, best epoch "
                f"{result.best_epoch} (inner AUROC {area}); {self.folders[view]}"
            )
        if self.rejects:
            lines.append(f"{len(self.rejects)} images rejected: {self.reject_table}")
        return "\n".join(lines)
