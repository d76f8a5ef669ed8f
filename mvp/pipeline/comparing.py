"""What a comparison found, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mvp.reports.comparing import candidates_text, gaps_text, ranking_text, values_text
from mvp.stages.compare import Comparison


@dataclass
class CompareOutcome:
    """What was compared, who won, and where it is written."""

    comparison: Comparison
    learners: list[str]
    protocols: list[str]
    views: list[str]
    folder: str
    warnings: list[str]
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        found = self.comparison
        winner, valued = found.winner, found.valued
        return {
            "winner": {
                "learner": winner.learner,
                "views": list(winner.views),
                "protocol": winner.protocol,
            },
            "candidates": found.candidates,
            "ranked": found.ranked,
            "ranked_by": "mean AUROC over labels on validation",
            "learners": self.learners,
            "protocols": self.protocols,
            "views": self.views,
            "labels": found.labels,
            "labels_on_test": found.reported,
            "validation_studies": found.validation_studies,
            "test_studies": found.test_studies,
            "level": found.level,
            "draws": found.draws,
            "rows": found.records("rows"),
            "differences": found.records("gaps"),
            "view_values": found.records("values"),
            "view_values_sum": found.records("gains"),
            "view_values_of": valued.name if valued else None,
            "notes": found.notes,
            "warnings": self.warnings,
            "folder": self.folder,
        }

    @property
    def text(self) -> str:
        """For a person."""
        found = self.comparison
        means, rows = found.means(), found.records("rows")
        intervals = f"{found.level:.0%} intervals from {found.draws} resamples of patients"
        lines = [
            f"{found.candidates} candidates fitted, {found.ranked} ranked by mean AUROC on "
            f"{found.validation_studies} validation studies over {', '.join(found.labels)}",
            f"test: {found.test_studies} studies, looked at once, after the ranking; {intervals}",
            "",
            ranking_text(means),
            "",
            f"winner on validation: {found.winner.name}" + _caution(found.ranked),
            "",
            "Test AUROC by label",
            candidates_text(rows),
            "",
        ]
        if found.gaps:
            paired = "Winner minus others: test AUROC, paired, on the studies that both can score"
            lines += [paired, gaps_text(found.records("gaps")), ""]
        if found.valued is not None:
            lines += [
                f"What each view is worth to {found.valued.name}: Shapley values of test AUROC, "
                f"{intervals}",
                values_text(found.records("values"), found.records("gains")),
                "",
            ]
        return "\n".join([*lines, *self.warnings, *found.notes, f"written: {self.folder}"])


def _caution(ranked: int) -> str:
    if ranked < 2:
        return "; nothing was chosen"
    return f"; as the best of {ranked} its validation figure is too good, its test figure is not"
