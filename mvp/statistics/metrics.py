"""AUROC, AUPRC and accuracy, which know when they are undefined."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mvp.errors import DataError
from mvp.statistics.ranking import Float, Ranking, weighted_auprc, weighted_auroc


def auroc(y: ArrayLike, p: ArrayLike) -> float | None:
    """Area under the receiver operating characteristic; None where a class is missing.

    The probability that a positive scores above a negative, ties counting one half (Hanley and
    McNeil 1982).

    Args:
        y: (row,) 0 or 1; NaN is unknown, and the row is left out.
        p: (row,) scores; higher means positive.

    Raises:
        DataError: other labels, scores that are not finite, or unequal lengths.
    """
    return _single(weighted_auroc, y, p)


def auprc(y: ArrayLike, p: ArrayLike) -> float | None:
    """Area under precision over recall as average precision; None where a class is missing.

    The sum over thresholds of precision times the gain in recall, without interpolation (Davis
    and Goadrich 2006), as scikit-learn's `average_precision_score`. Without a positive it is
    undefined; without a negative it is 1 whatever the scores, and reported as undefined too.

    Args and errors as in `auroc`.
    """
    return _single(weighted_auprc, y, p)


def accuracy(y: ArrayLike, p: ArrayLike) -> float | None:
    """Share of rows whose most probable class is the true one; None where fewer than two classes
    are among the known rows.

    Args and errors as in `hits`.
    """
    right = hits(y, p)
    known = ~np.isnan(right)
    if len(np.unique(np.asarray(y, dtype=np.float64)[known])) < 2:
        return None
    return float(right[known].mean())


def hits(y: ArrayLike, p: ArrayLike) -> Float:
    """Whether the most probable class is the true one, for every row.

    Args:
        y: (row,) index of the class; NaN is unknown.
        p: (row, class) probabilities; of equal ones the first counts.

    Returns:
        (row,) 1 where it is, 0 where it is not, NaN where the label is unknown.

    Raises:
        DataError: other labels, probabilities of known rows that are not finite, or unequal
            lengths.
    """
    labels, chances = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    if labels.ndim != 1 or chances.ndim != 2 or len(chances) != len(labels):
        raise DataError(
            f"labels and probabilities have shapes {labels.shape}, {chances.shape}, "
            "expected (row,) and (row, class)"
        )
    known = ~np.isnan(labels)
    if not np.isin(labels[known], np.arange(chances.shape[1])).all():
        raise DataError(f"accuracy was given labels that are none of {chances.shape[1]} classes")
    if not np.isfinite(chances[known]).all():
        raise DataError("accuracy was given probabilities that are not finite")
    right = np.full(len(labels), np.nan)
    right[known] = chances[known].argmax(axis=1) == labels[known]
    return right


def known_rows(y: ArrayLike, *scores: ArrayLike) -> tuple[Any, Any, list[Any]]:
    """Which rows are known, and their labels and scores.

    Returns:
        (row,) bool mask; (known,) bool labels; for each score (known,) float64.

    Raises:
        DataError: other labels, scores that are not finite, or unequal lengths.
    """
    labels = np.asarray(y, dtype=np.float64)
    columns = [np.asarray(p, dtype=np.float64) for p in scores]
    if labels.ndim != 1 or any(column.shape != labels.shape for column in columns):
        shapes = ", ".join(str(array.shape) for array in (labels, *columns))
        raise DataError(f"labels and scores have shapes {shapes}, expected (row,) for all")
    known = ~np.isnan(labels)
    labels, columns = labels[known], [column[known] for column in columns]
    if not np.isin(labels, (0, 1)).all():
        raise DataError("a binary metric was given labels other than 0, 1 and NaN (unknown)")
    if not all(np.isfinite(column).all() for column in columns):
        raise DataError("a metric was given scores that are not finite")
    return known, labels == 1, columns


def _single(metric: Any, y: ArrayLike, p: ArrayLike) -> float | None:
    _, labels, (scores,) = known_rows(y, p)
    if labels.all() or not labels.any():
        return None
    return float(metric(Ranking(labels, scores), np.ones((len(labels), 1), np.int64))[0])
