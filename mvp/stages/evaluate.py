"""Evaluate: each view, the mean of their opinions and the fusion, side by side, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mvp.config import EvaluateConfig
from mvp.errors import DataError
from mvp.features import FeatureTable
from mvp.learners.comparison import FUSION, MEAN, HeadFamily
from mvp.stages._accuracy import (
    NO_CHOICE,
    UNDEFINED_CHOICE,
    AccuracyDifferenceRow,
    AccuracyRow,
    accuracies,
    accuracy_differences,
)
from mvp.stages._resampling import Resampling
from mvp.statistics import auroc
from mvp.types import BoolArray, FloatArray, Labels, one_hot


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


def evaluate(
    heads: HeadFamily,
    table: FeatureTable,
    labels: Labels,
    *,
    test: BoolArray,
    inner: BoolArray,
    settings: EvaluateConfig,
    seed: int,
) -> Evaluation:
    """Measure every model on the test studies.

    Args:
        heads: the fitted family.
        table: features of the studies.
        labels: their labels, same rows, targets as the heads were fitted on.
        test: (study,) True for test rows.
        inner: (study,) True for the validation rows, on which the best single view is chosen.
        settings: resamples and level.
        seed: decides the resamples.

    Raises:
        DataError: there is no test study with any of the views.
    """
    seen = table.only(heads.fusion.signature.views).presence.any(axis=1)
    rows = np.flatnonzero(test & seen)
    if not len(rows):
        raise DataError(
            "no test study has cached features",
            remedy="run `mvp extract`, or look at the split with `mvp check`",
        )
    tested, truth = table.select(rows), one_hot(labels.select(rows))
    predicted = heads.predict(tested)
    resampling = Resampling(tested.groups, settings, seed)
    outputs = labels.outputs
    metrics = [
        _metric_row(resampling, model, name, truth[:, i], predicted[model][:, i])
        for i, name in enumerate(outputs)
        for model in heads.models
    ]
    validation = inner & seen
    guessed = heads.predict(table.select(validation)) if validation.any() else {}
    chosen = _best_views(heads, table, labels.select(validation), guessed)
    differences = [
        _difference_row(
            resampling,
            name,
            other,
            how,
            truth[:, i],
            predicted[FUSION][:, i],
            predicted[other][:, i],
        )
        for i, name in enumerate(outputs)
        for other, how in chosen.get(name, ())
    ]
    alone = {v: int(table.only([v]).presence.sum()) for v in heads.models if v in heads.singles}
    return Evaluation(
        metrics=metrics,
        differences=differences,
        accuracies=accuracies(labels.select(rows), predicted, resampling),
        accuracy_differences=accuracy_differences(
            labels.select(rows), predicted, labels.select(validation), guessed, resampling, alone
        ),
        curves=predicted,
        truth=truth,
        outputs=outputs,
        studies=len(rows),
        without_views=int((test & ~seen).sum()),
        level=settings.level,
        draws=settings.draws,
    )


def _metric_row(
    resampling: Resampling, model: str, label: str, y: FloatArray, p: FloatArray
) -> MetricRow:
    """AUROC and AUPRC of one model on the rows that it can score."""
    said = ~np.isnan(p)
    area = resampling.metric(said, y, p, "auroc")
    precision = resampling.metric(said, y, p, "auprc")
    return MetricRow(
        model,
        label,
        area.estimate,
        area.low,
        area.high,
        precision.estimate,
        precision.low,
        precision.high,
        area.n,
        area.positives,
        area.negatives,
        area.patients,
    )


def _difference_row(
    resampling: Resampling,
    label: str,
    other: str,
    how: str,
    y: FloatArray,
    p: FloatArray,
    q: FloatArray,
) -> DifferenceRow:
    """AUROC of p minus that of q, paired, on the rows that both can score."""
    gap = resampling.difference(~np.isnan(p) & ~np.isnan(q), y, p, q)
    return DifferenceRow(label, other, how, gap.estimate, gap.low, gap.high, gap.n, gap.positives)


def _best_views(
    heads: HeadFamily, table: FeatureTable, labels: Labels, guessed: Mapping[str, FloatArray]
) -> dict[str, list[tuple[str, str]]]:
    """For each output what the fusion is compared with, and how that was chosen.

    The choice is made on validation rows, by their labels and what the models say of them: the
    best view on the test rows would be a moving target that chance favours.
    """
    views = [m for m in heads.models if m in heads.singles]
    truth = one_hot(labels)
    chosen: dict[str, list[tuple[str, str]]] = {}
    for i, name in enumerate(labels.outputs):
        able = [v for v in views if name in heads.singles[v].outputs]
        areas = {v: _area(truth[:, i], guessed[v][:, i]) for v in able} if guessed else {}
        defined = {v: a for v, a in areas.items() if a is not None}
        if defined:
            chosen[name] = [(max(defined, key=lambda v: defined[v]), "validation")]
        elif able:
            # Validation has one class: the view that most studies have stands in, and it is said.
            common = max(able, key=lambda v: int(table.only([v]).presence.sum()))
            chosen[name] = [(common, UNDEFINED_CHOICE)]
        if name in chosen:
            chosen[name].append((MEAN, NO_CHOICE))
    return chosen


def _area(y: FloatArray, p: FloatArray) -> float | None:
    rows = ~np.isnan(p)
    return auroc(y[rows], p[rows]) if rows.any() else None
