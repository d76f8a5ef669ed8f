"""Accuracy of labels with several classes: each model, and the fusion against the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mvp.learners.comparison import FUSION, MEAN
from mvp.stages._resampling import Resampling
from mvp.statistics import Interval, accuracy, hits
from mvp.types import BoolArray, FloatArray, Labels, output_slices

UNDEFINED_CHOICE = "most studies (validation is undefined)"
NO_CHOICE = "no choice"


@dataclass(frozen=True)
class AccuracyRow:
    """How often a model's most probable class of one label is the true one.

    `majority` is what always naming the most frequent class among the same rows would reach.
    All three are None ("undefined") where the rows hold fewer than two classes.
    """

    model: str
    label: str
    accuracy: float | None
    low: float | None
    high: float | None
    majority: float | None
    n: int
    correct: int
    patients: int


@dataclass(frozen=True)
class AccuracyDifferenceRow:
    """Accuracy of the fusion minus that of another model, on the rows that both can score.

    `chosen_on` says how the other model was chosen, as in `DifferenceRow`.
    """

    label: str
    other: str
    chosen_on: str
    difference: float | None
    low: float | None
    high: float | None
    n: int


def accuracies(
    labels: Labels, predicted: Mapping[str, FloatArray], resampling: Resampling
) -> list[AccuracyRow]:
    """One row per model for every label with several classes.

    Args:
        labels: of the test rows.
        predicted: for each model (row, output) probabilities, NaN where it says nothing.
        resampling: of the same rows.
    """
    rows = []
    for column, places in _multiclass(labels):
        name, truth = labels.targets[column].name, labels.values[:, column]
        for model, values in predicted.items():
            chances = values[:, places]
            said = _says(chances)
            found, majority = resampling.nothing(), None
            if _can_be_judged(truth[said]):
                found = resampling.mean(said, _hits(truth, chances, said))
                majority = _majority(truth[said])
            known = said & ~np.isnan(truth)
            rows.append(
                AccuracyRow(
                    model,
                    name,
                    found.estimate,
                    found.low,
                    found.high,
                    majority,
                    int(known.sum()),
                    int(np.nansum(_hits(truth, chances, said))),
                    len(np.unique(resampling.groups[known])),
                )
            )
    return rows


def accuracy_differences(
    labels: Labels,
    predicted: Mapping[str, FloatArray],
    inner: Labels,
    guessed: Mapping[str, FloatArray],
    resampling: Resampling,
    presence: Mapping[str, int],
) -> list[AccuracyDifferenceRow]:
    """The fusion against the single view that is best on validation, and against the mean.

    Args:
        labels: of the test rows.
        predicted: for each model (row, output) probabilities of the test rows.
        inner: labels of the validation rows.
        guessed: for each model its probabilities of these; empty where there are none.
        resampling: of the test rows.
        presence: for each single view how many studies have it.
    """
    rows = []
    for column, places in _multiclass(labels):
        truth = labels.values[:, column]
        able = [v for v in presence if not np.isnan(predicted[v][:, places]).all()]
        if not able:
            continue
        found = {v: _share(inner.values[:, column], p[:, places]) for v, p in guessed.items()}
        defined = {v: share for v in able if (share := found.get(v)) is not None}
        if defined:
            best, how = max(defined, key=lambda v: defined[v]), "validation"
        else:
            best, how = max(able, key=lambda v: presence[v]), UNDEFINED_CHOICE
        for other, chosen in ((best, how), (MEAN, NO_CHOICE)):
            p, q = predicted[FUSION][:, places], predicted[other][:, places]
            both = _says(p) & _says(q)
            gap: Interval = resampling.nothing()
            if _can_be_judged(truth[both]):
                gained = np.subtract(_hits(truth, p, both), _hits(truth, q, both))
                gap = resampling.mean(both, gained)
            rows.append(
                AccuracyDifferenceRow(
                    labels.targets[column].name,
                    other,
                    chosen,
                    gap.estimate,
                    gap.low,
                    gap.high,
                    int((both & ~np.isnan(truth)).sum()),
                )
            )
    return rows


def _multiclass(labels: Labels) -> Sequence[tuple[int, slice]]:
    """Number and columns of every label with several classes."""
    places = output_slices(labels.targets)
    return [(i, places[i]) for i, target in enumerate(labels.targets) if target.multiclass]


def _says(chances: FloatArray) -> BoolArray:
    """(row,) True where a model says something."""
    return np.asarray(~np.isnan(chances).any(axis=1))


def _hits(truth: FloatArray, chances: FloatArray, said: BoolArray) -> FloatArray:
    """(row,) 1, 0, or NaN where the label is unknown or the model says nothing."""
    return hits(np.where(said, truth, np.nan), chances).astype(np.float32)


def _can_be_judged(truth: FloatArray) -> bool:
    return len(np.unique(truth[~np.isnan(truth)])) > 1


def _majority(truth: FloatArray) -> float:
    counts = np.unique(truth[~np.isnan(truth)], return_counts=True)[1]
    return float(counts.max() / counts.sum())


def _share(truth: FloatArray, chances: FloatArray) -> float | None:
    said = _says(chances)
    return accuracy(truth[said], chances[said])
