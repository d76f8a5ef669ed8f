"""Evaluate: each view, the mean of their opinions and the fusion, side by side, with intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mvp.config import EvaluateConfig
from mvp.errors import DataError
from mvp.learners.comparison import FUSION, MEAN
from mvp.learners.ensemble import Asked, Ensemble, HeadRows
from mvp.learners.head import Head
from mvp.stages._accuracy import (
    NO_CHOICE,
    UNDEFINED_CHOICE,
    accuracies,
    accuracy_differences,
)
from mvp.stages._by_pattern import judge
from mvp.stages._decisions import Decisions, LabelDecision
from mvp.stages._evaluation import DifferenceRow, Evaluation, MetricRow
from mvp.stages._optimism import optimism
from mvp.stages._resampling import Resampling
from mvp.statistics import auroc
from mvp.types import FloatArray, one_hot


def evaluate(
    ensemble: Ensemble,
    rows: Mapping[str, HeadRows],
    *,
    settings: EvaluateConfig,
    seed: int,
    ablation: Head | None = None,
    decisions: Decisions | None = None,
) -> Evaluation:
    """Measure every model on the test studies.

    Args:
        ensemble: the fitted heads.
        rows: for each fold its studies: roles `test`, `inner`, on which the best single view is
            chosen, and `train`, for the optimism gap.
        settings: resamples and level.
        seed: decides the resamples.
        ablation: the fusion fitted on rows that its networks have seen.
        decisions: what is decided by the fusion's probabilities; nothing by default.

    Raises:
        DataError: there is no test study with any of the views.
    """
    tested = ensemble.ask(rows, "test")
    if not len(tested):
        raise DataError(
            "no test study has cached features",
            remedy="run `mvp extract`, or look at the split with `mvp check`",
        )
    validation = ensemble.ask(rows, "inner")
    predicted, truth = tested.predicted, one_hot(tested.labels)
    resampling = Resampling(tested.groups, settings, seed)
    if decisions is None:
        decisions = Decisions(ensemble.views, tuple(map(LabelDecision, ensemble.targets)))
    calibrated = decisions.calibrated(predicted[FUSION])
    outputs = ensemble.outputs
    metrics = [
        _metric_row(resampling, model, name, truth[:, i], predicted[model][:, i])
        for i, name in enumerate(outputs)
        for model in ensemble.models
    ]
    alone = _view_counts(ensemble, rows)
    chosen = _best_views(ensemble, validation, alone)
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
    return Evaluation(
        metrics=metrics,
        differences=differences,
        accuracies=accuracies(tested.labels, predicted, resampling),
        accuracy_differences=accuracy_differences(
            tested.labels, predicted, validation.labels, validation.predicted, resampling, alone
        ),
        optimism=optimism(ensemble, rows, tested, ablation, resampling),
        judged=judge(tested, decisions, calibrated, resampling),
        decisions=decisions,
        calibrated=calibrated,
        labels=tested.labels,
        curves=predicted,
        truth=truth,
        outputs=outputs,
        studies=len(tested),
        without_views=_without_views(rows),
        level=settings.level,
        draws=settings.draws,
    )


def _view_counts(ensemble: Ensemble, rows: Mapping[str, HeadRows]) -> dict[str, int]:
    """How many studies have each view that is fitted alone."""
    one = next(iter(rows.values()))
    return {v: int(one.table.only([v]).presence.sum()) for v in ensemble.singles}


def _without_views(rows: Mapping[str, HeadRows]) -> int:
    """Test studies that no model can score."""
    one = next(iter(rows.values()))
    return int((one.roles["test"] & ~one.mask("test")).sum())


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
    ensemble: Ensemble, validation: Asked, alone: Mapping[str, int]
) -> dict[str, list[tuple[str, str]]]:
    """For each output what the fusion is compared with, and how that was chosen.

    The choice is made on validation rows, by their labels and what the models say of them: the
    best view on the test rows would be a moving target that chance favours.
    """
    truth, guessed = one_hot(validation.labels), validation.predicted
    chosen: dict[str, list[tuple[str, str]]] = {}
    for i, name in enumerate(ensemble.outputs):
        able = [
            v
            for v in ensemble.singles
            if any(
                name in family.singles[v].outputs
                for family in ensemble.members.values()
                if v in family.singles
            )
        ]
        areas = {v: _area(truth[:, i], guessed[v][:, i]) for v in able}
        defined = {v: a for v, a in areas.items() if a is not None}
        if defined:
            chosen[name] = [(max(defined, key=lambda v: defined[v]), "validation")]
        elif able:
            # Validation has one class: the view that most studies have stands in, and it is said.
            chosen[name] = [(max(able, key=lambda v: alone[v]), UNDEFINED_CHOICE)]
        if name in chosen:
            chosen[name].append((MEAN, NO_CHOICE))
    return chosen


def _area(y: FloatArray, p: FloatArray) -> float | None:
    rows = ~np.isnan(p)
    return auroc(y[rows], p[rows]) if rows.any() else None
