"""What an evaluation measured, as rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mvp.stages._accuracy import AccuracyDifferenceRow, AccuracyRow
from mvp.stages._decisions import Decisions
from mvp.stages._judged import Judged
from mvp.stages._optimism import OptimismRow
from mvp.types import FloatArray, Labels


@dataclass(frozen=True)
class MetricRow:
    """One model on one label.

    AUROC and AUPRC are None ("undefined") where a class is missing among the rows.
    """

    model: str
    label: str
    auroc: float | None
    low: float | None
    high: float | None
    auprc: float | None
    auprc_low: float | None
    auprc_high: float | None
    n: int
    positives: int
    negatives: int
    patients: int


@dataclass(frozen=True)
class DifferenceRow:
    """AUROC of the fusion minus that of another model, on the rows that both can score.

    `chosen_on` says how the other model was chosen: the best single view on validation, or on
    nothing (the mean of opinions needs no choice).
    """

    label: str
    other: str
    chosen_on: str
    difference: float | None
    low: float | None
    high: float | None
    n: int
    positives: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All that was measured on the test studies.

    Attributes:
        metrics: one row per model and label.
        differences: the fusion against the best single view and against the mean.
        accuracies: one row per model and label with several classes.
        accuracy_differences: of these labels, the same comparison by accuracy.
        optimism: what the fusion, and the ablation, seem to be worth on their own rows, and what
            they are worth on test.
        judged: the fusion by pattern of present views: ranking, calibration, calls, sets.
        decisions: what the head decides.
        calibrated: (study, output) the fusion's probabilities as they are given out.
        labels: of the test studies.
        curves: for each model (study, output) probabilities of the test studies.
        truth: (study, output) 0, 1 or NaN.
        outputs: names of the columns.
        studies: test studies with at least one view.
        without_views: test studies that no model can score.
        level: nominal coverage of the intervals.
        draws: resamples of patients.
    """

    metrics: list[MetricRow]
    differences: list[DifferenceRow]
    accuracies: list[AccuracyRow]
    accuracy_differences: list[AccuracyDifferenceRow]
    optimism: list[OptimismRow]
    judged: Judged
    decisions: Decisions
    calibrated: FloatArray
    labels: Labels
    curves: Mapping[str, FloatArray]
    truth: FloatArray
    outputs: tuple[str, ...]
    studies: int
    without_views: int
    level: float
    draws: int

    def records(self) -> list[dict[str, Any]]:
        """The metric rows as plain dictionaries."""
        return [asdict(row) for row in self.metrics]

    def mean_records(self) -> list[dict[str, Any]]:
        """For each model its mean AUROC over the labels where it is defined, and their number."""
        areas: dict[str, list[float]] = {row.model: [] for row in self.metrics}
        for row in self.metrics:
            if row.auroc is not None:
                areas[row.model].append(row.auroc)
        return [
            {"model": model, "auroc": float(np.mean(some)) if some else None, "labels": len(some)}
            for model, some in areas.items()
        ]

    def difference_records(self) -> list[dict[str, Any]]:
        """The difference rows as plain dictionaries."""
        return [asdict(row) for row in self.differences]

    def accuracy_records(self) -> list[dict[str, Any]]:
        """The rows of accuracy as plain dictionaries."""
        return [asdict(row) for row in self.accuracies]

    def accuracy_difference_records(self) -> list[dict[str, Any]]:
        """The differences of accuracy as plain dictionaries."""
        return [asdict(row) for row in self.accuracy_differences]

    def optimism_records(self) -> list[dict[str, Any]]:
        """The optimism rows as plain dictionaries."""
        return [asdict(row) for row in self.optimism]
