"""What every view adds: exact Shapley values over all subsets of views.

A view's value is what it adds to a subset without it, averaged over all orders in which the views
could have come (Shapley 1953). The values sum to what all views reach above what none reaches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import ArrayLike

from mvp.errors import ConfigError, DataError
from mvp.statistics.bootstrap import PatientBootstrap
from mvp.statistics.intervals import Interval
from mvp.statistics.ranking import Float

Subset = frozenset[str]
# 2 ** 16 subsets; each is a model to be measured.
MOST_VIEWS = 16


def subsets(views: Sequence[str]) -> list[Subset]:
    """All subsets of the views, the empty one first and all of them last.

    Raises:
        ConfigError: a view stands twice, or there are more than 16.
    """
    if len(set(views)) != len(views) or len(views) > MOST_VIEWS:
        raise ConfigError(
            f"{len(views)} views: expected different ones, at most {MOST_VIEWS}, of which "
            "every subset can be measured"
        )
    return [frozenset(s) for size in range(len(views) + 1) for s in combinations(views, size)]


def shapley_values(values: Mapping[Subset, ArrayLike], views: Sequence[str]) -> Float:
    """The Shapley value of every view.

    Args:
        values: for every subset of the views, the empty one too, a number or an array (draw,) of
            what it reaches in every resample; NaN where undefined. Of the empty subset it is what
            chance reaches, 0.5 for AUROC.
        views: their order in the result.

    Returns:
        (view,) or (view, draw); the sum over views is the value of all minus that of none. NaN in
        every draw in which any subset is undefined.

    Raises:
        ConfigError: as in `subsets`.
        DataError: a subset has no value.
    """
    wanted = subsets(views)
    missing = [s for s in wanted if s not in values]
    if missing:
        names = "+".join(sorted(missing[0])) or "no view"
        raise DataError(f"{len(missing)} subsets of views have no value, the first is {names}")
    parts = np.broadcast_arrays(*(np.asarray(values[s], np.float64) for s in wanted))
    reached, count = dict(zip(wanted, parts, strict=True)), len(views)
    total = np.zeros((count, *parts[0].shape))
    for row, view in enumerate(views):
        for without in wanted:
            # Every subset has a part in every view's value, so that none hides what is undefined.
            if view not in without:
                size = len(without)
                orders = factorial(size) * factorial(count - size - 1) / factorial(count)
                total[row] += orders * (reached[without | {view}] - reached[without])
    return total


def shapley_intervals(
    resamples: PatientBootstrap,
    y: ArrayLike,
    scores: Mapping[Subset, ArrayLike],
    views: Sequence[str],
    *,
    metric: str = "auroc",
    nothing: float = 0.5,
) -> dict[str, Interval]:
    """Shapley values of one label with intervals, every subset measured on the same resamples.

    All subsets are measured on the same rows, those that every one of them can score: otherwise
    a view would seem to help because easier studies have it.

    Args:
        resamples: of the rows.
        y: (row,) 0, 1 or NaN for unknown.
        scores: for every subset but the empty one (row,) of its model, NaN where it says nothing.
        views: their order.
        metric: as in `PatientBootstrap.interval`, without a threshold.
        nothing: what the metric is without any view.

    Raises:
        ConfigError: no such metric; as in `subsets`.
        DataError: a subset has no scores; labels or scores that cannot be used.
    """
    wanted = [s for s in subsets(views) if s]
    missing = [s for s in wanted if s not in scores]
    if missing:
        raise DataError(f"{len(missing)} subsets of views have no scores")
    columns = {s: np.asarray(scores[s], np.float64) for s in wanted}
    if any(column.shape != np.shape(y) for column in columns.values()):
        raise DataError(f"scores of the subsets do not all have the shape {np.shape(y)} of labels")
    silent = np.isnan(np.stack(list(columns.values()))).any(axis=0)
    labels = np.where(silent, np.nan, np.asarray(y, np.float64))
    estimates: dict[Subset, float] = {frozenset(): nothing}
    draws: dict[Subset, ArrayLike] = {frozenset(): nothing}
    for subset, column in columns.items():
        one, many = resamples.values(labels, column, metric)
        estimates[subset], draws[subset] = np.nan if one is None else one, many
    own, drawn = shapley_values(estimates, views), shapley_values(draws, views)
    return {
        view: resamples.summary(None if np.isnan(own[i]) else float(own[i]), drawn[i], labels)
        for i, view in enumerate(views)
    }
