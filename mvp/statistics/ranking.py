"""Areas under curves for many resamples at once: rows are ranked once, then only weighed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]


class Ranking:
    """Positive and negative rows by rising score: made once, used for every resample.

    Args:
        y: (row,) bool.
        p: (row,) finite scores.
        owner: (row,) which row of the weights is each row's; its own unless given. Rows of one
            patient share the patient's weight, and no weight is copied for them.
    """

    def __init__(self, y: NDArray[np.bool_], p: Float, owner: NDArray[Any] | None = None) -> None:
        whose = np.arange(len(y)) if owner is None else np.asarray(owner)
        positive, negative = (rows[np.argsort(p[rows], kind="stable")] for rows in _split(y))
        hits, misses = p[positive], p[negative]
        self.positive: Int = whose[positive].astype(np.intp)
        self.negative: Int = whose[negative].astype(np.intp)
        # For each positive: negatives below it, negatives not above it, positives below it.
        self.below: Int = np.searchsorted(misses, hits, "left")
        self.not_above: Int = np.searchsorted(misses, hits, "right")
        self.worse: Int = np.searchsorted(hits, hits, "left")
        # For each negative the same of positives; the shorter list looks up in the longer one.
        self.hits_below: Int = np.searchsorted(hits, misses, "left")
        self.hits_not_above: Int = np.searchsorted(hits, misses, "right")


def weighted_auroc(ranking: Ranking, weights: NDArray[Any]) -> Float:
    """(draw,) AUROC under each column of weights; NaN where a class has none.

    Whole-number weights give the exact number of pairs, whatever the order of summation.

    Args:
        ranking: of the rows.
        weights: (row, draw), 0 or more; fastest as the transpose of a (draw, row) array.
    """
    by_draw = weights.T
    if len(ranking.positive) <= len(ranking.negative):
        own = np.take(by_draw, ranking.positive, axis=1)
        others = _cumulated(by_draw, ranking.negative)
        twice = np.take(others, ranking.below, axis=1) + np.take(others, ranking.not_above, axis=1)
        area = np.einsum("dr,dr->d", own.astype(np.float64), twice)
    else:
        own = np.take(by_draw, ranking.negative, axis=1)
        others = _cumulated(by_draw, ranking.positive)
        twice = np.take(others, ranking.hits_below, axis=1)
        twice += np.take(others, ranking.hits_not_above, axis=1)
        area = np.einsum("dr,dr->d", own.astype(np.float64), 2 * others[:, -1:] - twice)
    pairs = own.sum(axis=1, dtype=np.float64) * others[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, area / 2 / pairs, np.nan)


def weighted_auprc(ranking: Ranking, weights: NDArray[Any]) -> Float:
    """(draw,) average precision under each column of weights; NaN where a class has none.

    Args as in `weighted_auroc`.
    """
    by_draw = weights.T
    hits = _cumulated(by_draw, ranking.positive)
    misses = _cumulated(by_draw, ranking.negative)
    own = np.diff(hits, axis=1).astype(np.float64)
    hits_above = hits[:, -1:] - np.take(hits, ranking.worse, axis=1)
    misses_above = misses[:, -1:] - np.take(misses, ranking.below, axis=1)
    # A positive that was not drawn counts nothing, and may have nothing above it.
    precision = hits_above / np.maximum(hits_above + misses_above, 1e-300)
    area = np.einsum("dr,dr->d", own, precision)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((hits[:, -1] > 0) & (misses[:, -1] > 0), area / hits[:, -1], np.nan)


def _split(y: NDArray[np.bool_]) -> tuple[Int, Int]:
    return np.flatnonzero(y), np.flatnonzero(~y)


def _cumulated(by_draw: NDArray[Any], rows: Int) -> NDArray[Any]:
    """(draw, 1 + row): the weight of the first rows, from none of them to all."""
    # Narrow sums take a third of the time; twice the largest must still fit.
    narrow = by_draw.dtype == np.int32 and len(rows) * int(by_draw.max(initial=0)) < 2**30
    whole = np.issubdtype(by_draw.dtype, np.integer)
    total = np.int32 if narrow else np.int64 if whole else np.float64
    sums = np.zeros((len(by_draw), len(rows) + 1), total)
    np.cumsum(np.take(by_draw, rows, axis=1), axis=1, out=sums[:, 1:])
    return sums
