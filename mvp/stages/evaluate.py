"""Evaluate: each view, the mean of their opinions and the fusion, side by side, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mvp.config import EvaluateConfig
from mvp.errors import DataError
from mvp.features import FeatureTable
from mvp.learners.comparison import FUSION, HeadFamily
from mvp.statistics import Interval, PatientBootstrap, auroc
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
    bootstrap = _Resampling(tested, settings, seed)
    outputs = labels.outputs
    metrics = [
        bootstrap.row(model, name, truth[:, i], predicted[model][:, i])
        for i, name in enumerate(outputs)
        for model in heads.models
    ]
    chosen = _best_views(heads, table, labels, inner & seen)
    differences = []
    for i, name in enumerate(outputs):
        for other, how in chosen.get(name, ()):
            differences.append(
                bootstrap.difference(
                    name, other, how, truth[:, i], predicted[FUSION][:, i], predicted[other][:, i]
                )
            )
    return Evaluation(
        metrics=metrics,
        differences=differences,
        curves=predicted,
        truth=truth,
        outputs=outputs,
        studies=len(rows),
        without_views=int((test & ~seen).sum()),
        level=settings.level,
        draws=settings.draws,
    )


class _Resampling:
    """Draws patients once for every set of rows that models can score."""

    def __init__(self, table: FeatureTable, settings: EvaluateConfig, seed: int) -> None:
        self.groups, self.settings, self.seed = table.groups, settings, seed
        self._kept: dict[bytes, PatientBootstrap] = {}

    def row(self, model: str, label: str, y: FloatArray, p: FloatArray) -> MetricRow:
        """AUROC and AUPRC of one model on the rows that it can score."""
        area, precision = self._on(~np.isnan(p), y, p), self._on(~np.isnan(p), y, p, "auprc")
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

    def difference(
        self, label: str, other: str, how: str, y: FloatArray, p: FloatArray, q: FloatArray
    ) -> DifferenceRow:
        """AUROC of p minus that of q, paired, on the rows that both can score."""
        both = ~np.isnan(p) & ~np.isnan(q)
        gap = _nothing(self.settings)
        if both.any():
            gap = self._bootstrap(both).paired_difference(y[both], p[both], q[both])
        return DifferenceRow(
            label, other, how, gap.estimate, gap.low, gap.high, gap.n, gap.positives
        )

    def _on(self, rows: BoolArray, y: FloatArray, p: FloatArray, metric: str = "auroc") -> Interval:
        if not rows.any():
            return _nothing(self.settings)
        return self._bootstrap(rows).interval(y[rows], p[rows], metric)

    def _bootstrap(self, rows: BoolArray) -> PatientBootstrap:
        kept = self._kept.get(rows.tobytes())
        if kept is None:
            kept = PatientBootstrap(
                self.groups[rows],
                draws=self.settings.draws,
                seed=self.seed,
                level=self.settings.level,
            )
            self._kept[rows.tobytes()] = kept
        return kept


def _nothing(settings: EvaluateConfig) -> Interval:
    return Interval(
        estimate=None,
        low=None,
        high=None,
        level=settings.level,
        draws=settings.draws,
        undefined_draws=settings.draws,
        n=0,
        positives=0,
        patients=0,
    )


def _best_views(
    heads: HeadFamily, table: FeatureTable, labels: Labels, inner: BoolArray
) -> dict[str, list[tuple[str, str]]]:
    """For each output what the fusion is compared with, and how that was chosen.

    The choice is made on validation rows: the best view on the test rows would be a moving
    target that chance favours.
    """
    views = [m for m in heads.models if m in heads.singles]
    if not views:
        return {}
    truth = one_hot(labels.select(inner))
    predicted = heads.predict(table.select(inner)) if inner.any() else {}
    chosen: dict[str, list[tuple[str, str]]] = {}
    for i, name in enumerate(labels.outputs):
        able = [v for v in views if name in heads.singles[v].outputs]
        areas = {v: _area(truth[:, i], predicted[v][:, i]) for v in able} if predicted else {}
        defined = {v: a for v, a in areas.items() if a is not None}
        if defined:
            chosen[name] = [(max(defined, key=lambda v: defined[v]), "validation")]
        elif able:
            # Validation has one class: the view that most studies have stands in, and it is said.
            common = max(able, key=lambda v: int(table.only([v]).presence.sum()))
            chosen[name] = [(common, "most studies (validation is undefined)")]
        if name in chosen:
            chosen[name].append(("mean", "no choice"))
    return chosen


def _area(y: FloatArray, p: FloatArray) -> float | None:
    rows = ~np.isnan(p)
    return auroc(y[rows], p[rows]) if rows.any() else None
