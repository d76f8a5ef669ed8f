"""What was fitted in stage two, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class FitHeadOutcome:
    """What was fitted, and where it lies."""

    name: str
    learner: str
    protocol: str
    views: list[str]
    labels: list[str]
    rows: int
    inner_rows: int
    calibration_rows: int
    folds: int
    digest: str
    folder: str
    options: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {k: v for k, v in self.__dict__.items() if k != "exit_code"}

    @property
    def text(self) -> str:
        """For a person."""
        # A member of a cross-fit is surer than their mean: its threshold would not be theirs.
        both = " and thresholds"
        early, late = ("", both) if self.folds and self.calibration_rows else (both, "")
        lines = [
            f"head {self.name}: {self.learner} on {' + '.join(self.views)}, {self.rows} training "
            f"studies, {self.inner_rows} for early stopping{early}"
            f"{f', {self.calibration_rows} for calibration{late}' if self.calibration_rows else ''}"
            f", protocol {self.protocol}"
            f"{f' over {self.folds} folds' if self.folds else ''}; {self.folder}"
        ]
        if self.protocol == "same-rows":
            lines.append(
                "same-rows is an ablation: the networks have seen these rows, so the head trusts "
                "their features too much"
            )
        return "\n".join([*lines, *self.notes])
