"""ROC, precision–recall and calibration curves as points, and confusion matrices.

A row is left out where its label is unknown (NaN), or where the model says nothing of it (NaN).
What has no value is None, never 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mvp.errors import DataError
from mvp.statistics.ranking import Float, Int
from mvp.statistics.scores import ECE_BINS, binary_view, equal_count_bins, probable_rows


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Points of a receiver operating characteristic, from (0, 0) to (1, 1).

    Attributes:
        false_positive_rate: (point,) 1 - specificity, rising.
        sensitivity: (point,) rising.
        threshold: (point,) a row at or above it is called positive; the first is infinite.
        positives: known positive rows.
        negatives: known negative rows.
    """

    false_positive_rate: Float
    sensitivity: Float
    threshold: Float
    positives: int
    negatives: int


@dataclass(frozen=True, eq=False)
class PrecisionRecallCurve:
    """Points of precision over recall, from recall 0 (precision 1 by convention) to recall 1.

    Attributes:
        recall: (point,) rising.
        precision: (point,) positive predictive value.
        threshold: (point,) a row at or above it is called positive; the first is infinite.
        positives: known positive rows.
        negatives: known negative rows.
    """

    recall: Float
    precision: Float
    threshold: Float
    positives: int
    negatives: int

    @property
    def prevalence(self) -> float:
        """The precision of a model that knows nothing."""
        return self.positives / (self.positives + self.negatives)


@dataclass(frozen=True, eq=False)
class CalibrationCurve:
    """Said and observed frequency in bins of (nearly) equal count, by rising probability.

    Attributes:
        predicted: (bin,) mean probability.
        observed: (bin,) share of rows in which it came true.
        count: (bin,) rows.
    """

    predicted: Float
    observed: Float
    count: Int


@dataclass(frozen=True)
class BinaryConfusion:
    """Rows by truth and by a threshold: at or above it is positive.

    Every share is None where nothing is in its denominator.
    """

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def n(self) -> int:
        """Known rows."""
        return sum(self.matrix().ravel().tolist())

    @property
    def sensitivity(self) -> float | None:
        """Share of the positive rows that are called positive."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> float | None:
        """Share of the negative rows that are called negative."""
        return _share(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def ppv(self) -> float | None:
        """Positive predictive value: share of those called positive that are."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def npv(self) -> float | None:
        """Negative predictive value: share of those called negative that are."""
        return _share(self.true_negatives, self.true_negatives + self.false_negatives)

    @property
    def accuracy(self) -> float | None:
        """Share of rows called what they are."""
        return _share(self.true_positives + self.true_negatives, self.n)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of sensitivity and positive predictive value."""
        hits = 2 * self.true_positives
        return _share(hits, hits + self.false_positives + self.false_negatives)

    def matrix(self) -> Int:
        """(2, 2) rows: true class (negative, positive) by called class."""
        return np.array(
            [
                [self.true_negatives, self.false_positives],
                [self.false_negatives, self.true_positives],
            ],
            np.int64,
        )

    def to_json(self) -> dict[str, Any]:
        """Counts and shares as plain values."""
        shares = ("sensitivity", "specificity", "ppv", "npv", "accuracy", "f1")
        return {**self.__dict__, "n": self.n, **{name: getattr(self, name) for name in shares}}


def roc_curve(y: ArrayLike, p: ArrayLike) -> RocCurve | None:
    """The ROC curve, a point for every different score; None where a class is missing.

    Args:
        y: (row,) 0, 1 or NaN.
        p: (row,) scores, NaN where nothing is said.

    Raises:
        DataError: other labels, infinite scores or unequal lengths.
    """
    counted = _counts_above(y, p)
    if counted is None:
        return None
    hits, misses, threshold = counted
    return RocCurve(misses / misses[-1], hits / hits[-1], threshold, int(hits[-1]), int(misses[-1]))


def precision_recall_curve(y: ArrayLike, p: ArrayLike) -> PrecisionRecallCurve | None:
    """Precision over recall, a point for every different score; None where a class is missing.

    Args and errors as in `roc_curve`.
    """
    counted = _counts_above(y, p)
    if counted is None:
        return None
    hits, misses, threshold = counted
    precision = np.append(1.0, hits[1:] / (hits + misses)[1:])
    return PrecisionRecallCurve(
        hits / hits[-1], precision, threshold, int(hits[-1]), int(misses[-1])
    )


def calibration_curve(
    y: ArrayLike, p: ArrayLike, *, bins: int = ECE_BINS
) -> CalibrationCurve | None:
    """Observed frequency by probability, in bins between quantiles; None without a known row.

    Rows of equal probability stay in one bin, so there may be fewer bins. With several classes it
    is that of the most probable class.

    Args:
        y: (row,) 0, 1 or NaN; with several classes the index of the class or NaN.
        p: (row,) or (row, class) probabilities, NaN where nothing is said.
        bins: at most so many.

    Raises:
        DataError: other labels, what is no probability, unequal lengths.
    """
    _, truth, chance = binary_view(y, p)
    if not len(truth):
        return None
    which, filled = equal_count_bins(chance, bins)
    count = np.bincount(which, minlength=filled)
    said, true = (np.bincount(which, values, filled) / count for values in (chance, truth))
    return CalibrationCurve(said, true, count)


def binary_confusion(y: ArrayLike, p: ArrayLike, threshold: float) -> BinaryConfusion:
    """Counts of truth by call, a row at or above the threshold being called positive.

    Args and errors as in `roc_curve`.
    """
    truth, scores = _said(y, p)
    called = scores >= threshold
    return BinaryConfusion(
        float(threshold),
        int((called & truth).sum()),
        int((called & ~truth).sum()),
        int((~called & truth).sum()),
        int((~called & ~truth).sum()),
    )


def confusion_matrix(y: ArrayLike, p: ArrayLike) -> Int:
    """(class, class) counts: true class by most probable class, of equal ones the first.

    Args:
        y: (row,) index of the class, or NaN.
        p: (row, class) probabilities, NaN where nothing is said.

    Raises:
        DataError: other labels, what is no probability, unequal lengths.
    """
    if np.ndim(p) != 2:
        raise DataError(f"probabilities have shape {np.shape(p)}, expected (row, class)")
    classes = np.shape(p)[1]
    _, labels, chances = probable_rows(y, p)
    cells = labels.astype(np.int64) * classes + chances.argmax(axis=1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def _said(y: ArrayLike, p: ArrayLike) -> tuple[NDArray[np.bool_], Float]:
    labels, scores = np.asarray(y, np.float64), np.asarray(p, np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise DataError(
            f"labels and scores have shapes {labels.shape}, {scores.shape}, expected (row,) twice"
        )
    kept = ~np.isnan(labels) & ~np.isnan(scores)
    labels, scores = labels[kept], scores[kept]
    if not np.isin(labels, (0, 1)).all():
        raise DataError("a binary curve was given labels other than 0, 1 and NaN (unknown)")
    if np.isinf(scores).any():
        raise DataError("a curve was given infinite scores")
    return labels == 1, scores


def _counts_above(y: ArrayLike, p: ArrayLike) -> tuple[Int, Int, Float] | None:
    """Positives and negatives at or above each threshold, from infinity to the least score."""
    truth, scores = _said(y, p)
    if truth.all() or not truth.any():
        return None
    order = np.argsort(-scores, kind="stable")
    truth, scores = truth[order], scores[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    hits, misses = np.cumsum(truth)[ends], np.cumsum(~truth)[ends]
    return np.append(0, hits), np.append(0, misses), np.append(np.inf, scores[ends])


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
