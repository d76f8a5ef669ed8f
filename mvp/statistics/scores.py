"""How far probabilities are from the truth: Brier score, log loss, calibration error.

Unlike a ranking metric these are defined with one class among the rows, and undefined (None) only
where no row is known. A row is left out where its label is unknown (NaN), or where the model says
nothing of it (NaN).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mvp.errors import DataError
from mvp.statistics.ranking import Float, Int

ECE_BINS = 15
# float32 tells no probability nearer to 1 from it; a sure and wrong row costs 17.3, not infinity.
LEAST = 2.0**-25


def probable_rows(y: ArrayLike, p: ArrayLike) -> tuple[NDArray[np.bool_], Float, Float]:
    """Which rows are known and spoken of, with their labels and probabilities.

    Args:
        y: (row,) 0, 1 or NaN; with several classes the index of the class or NaN.
        p: (row,) probability of 1, or (row, class) probabilities; NaN where nothing is said.

    Returns:
        (row,) mask; (kept,) labels; (kept,) or (kept, class) probabilities, float64.

    Raises:
        DataError: unequal lengths, other labels, or what is no probability.
    """
    labels, chances = np.asarray(y, np.float64), np.asarray(p, np.float64)
    if labels.ndim != 1 or chances.ndim not in (1, 2) or len(chances) != len(labels):
        raise DataError(
            f"labels and probabilities have shapes {labels.shape}, {chances.shape}, "
            "expected (row,) and (row,) or (row, class)"
        )
    silent = np.isnan(chances) if chances.ndim == 1 else np.isnan(chances).any(axis=1)
    kept = ~np.isnan(labels) & ~silent
    labels, chances = labels[kept], chances[kept]
    classes = 2 if chances.ndim == 1 else chances.shape[1]
    if not np.isin(labels, np.arange(classes)).all():
        raise DataError(f"labels are none of {classes} classes, nor NaN (unknown)")
    # Sums of float32 and the like may miss 1 by a hair; what is further off is a score.
    if len(chances) and not (chances.min() >= -1e-6 and chances.max() <= 1 + 1e-6):
        raise DataError(
            f"probabilities run from {chances.min():.3g} to {chances.max():.3g}",
            cause="these are scores, not probabilities",
        )
    return kept, labels, np.clip(chances, 0, 1)


def squared_errors(y: ArrayLike, p: ArrayLike) -> Float:
    """(row,) squared error of every row, NaN where left out; their mean is the Brier score.

    With several classes the errors of all classes add up, as Brier (1950) wrote it: 0 to 2.

    Args and errors as in `probable_rows`.
    """
    return _by_row(y, p, _squared)


def log_losses(y: ArrayLike, p: ArrayLike) -> Float:
    """(row,) minus the logarithm of the true class's probability, NaN where left out.

    Probabilities below 2**-25, what float32 resolves near 1, count as that.

    Args and errors as in `probable_rows`.
    """
    return _by_row(y, p, _minus_log)


def brier(y: ArrayLike, p: ArrayLike) -> float | None:
    """The Brier score, the mean of `squared_errors`; None without a known row."""
    return _mean(squared_errors(y, p))


def log_loss(y: ArrayLike, p: ArrayLike) -> float | None:
    """The mean of `log_losses`; None without a known row."""
    return _mean(log_losses(y, p))


def expected_calibration_error(y: ArrayLike, p: ArrayLike, *, bins: int = ECE_BINS) -> float | None:
    """Expected calibration error with bins of equal count; None without a known row.

    The mean over bins, by their rows, of the distance between mean probability and observed
    frequency (Naeini et al. 2015), in bins between quantiles of the probability, which bias it
    less than bins of equal width (Nixon et al. 2019; Roelofs et al. 2022). With few rows it is
    still too large: even a perfect model has one above 0. With several classes it is that of the
    most probable class (Guo et al. 2017): how often the model is right where it says so.

    Args:
        y: as in `probable_rows`.
        p: likewise.
        bins: at most so many; rows of equal probability stay in one bin.

    Raises:
        DataError: as in `probable_rows`.
    """
    _, truth, chance = binary_view(y, p)
    if not len(truth):
        return None
    which, count = equal_count_bins(chance, bins)
    return float(np.abs(np.bincount(which, truth - chance, count)).sum() / len(truth))


def binary_view(y: ArrayLike, p: ArrayLike) -> tuple[NDArray[np.bool_], Float, Float]:
    """`probable_rows`; of several classes, whether the most probable one is the true one."""
    kept, labels, chances = probable_rows(y, p)
    if chances.ndim == 2:
        right = (chances.argmax(axis=1) == labels).astype(np.float64)
        return kept, right, chances.max(axis=1)
    return kept, labels, chances


def equal_count_bins(p: Float, bins: int) -> tuple[Int, int]:
    """(row,) the bin of each row between quantiles of p, and the number of bins that hold any."""
    if bins < 1:
        raise DataError(f"{bins} bins: expected 1 or more")
    edges = np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1])
    filled, which = np.unique(np.searchsorted(edges, p, "left"), return_inverse=True)
    return which.reshape(-1), len(filled)


def _squared(labels: Float, chances: Float) -> Float:
    if chances.ndim == 1:
        return (chances - labels) ** 2
    wrong = chances.copy()
    wrong[np.arange(len(labels)), labels.astype(int)] -= 1
    return (wrong**2).sum(axis=1)


def _minus_log(labels: Float, chances: Float) -> Float:
    if chances.ndim == 1:
        true = np.where(labels == 1, chances, 1 - chances)
    else:
        true = chances[np.arange(len(labels)), labels.astype(int)]
    return -np.log(np.maximum(true, LEAST))


def _by_row(y: ArrayLike, p: ArrayLike, loss: Any) -> Float:
    kept, labels, chances = probable_rows(y, p)
    values = np.full(len(kept), np.nan)
    values[kept] = loss(labels, chances)
    return values


def _mean(values: Float) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
