"""Thresholds chosen on validation rows: above which probability a study is called positive."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from mvp.errors import ConfigError, DataError
from mvp.statistics.curves import roc_curve
from mvp.statistics.ranking import Float, Int

Rule = Literal["youden", "sensitivity", "specificity"]


@dataclass(frozen=True)
class Threshold:
    """A threshold, how it was chosen, and what it had on the rows that it was chosen on.

    Attributes:
        rule: `youden` (highest sensitivity + specificity - 1; Youden 1950), `sensitivity` (highest
            specificity among those with at least that sensitivity) or `specificity` (the reverse).
        target: what was asked of a fixed rule; None for `youden`.
        value: a row at or above it is called positive; None where none could be chosen.
        reason: why not; None where one was.
        sensitivity: on the rows of the choice.
        specificity: likewise.
        positives: known positive rows of the choice.
        negatives: known negative rows of the choice.
    """

    rule: Rule
    target: float | None
    value: float | None
    reason: str | None
    sensitivity: float | None
    specificity: float | None
    positives: int
    negatives: int

    def apply(self, p: ArrayLike) -> Float:
        """(row,) 1 at or above the threshold, 0 below, NaN where nothing is said.

        Raises:
            DataError: no threshold could be chosen.
        """
        if self.value is None:
            raise DataError("there is no threshold to apply", cause=self.reason)
        scores = np.asarray(p, np.float64)
        return np.where(np.isnan(scores), np.nan, (scores >= self.value).astype(np.float64))

    def to_json(self) -> dict[str, Any]:
        """The threshold as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Threshold:
        """The threshold that `to_json` wrote.

        Raises:
            DataError: the value is none.
        """
        try:
            read = cls(**value)
        except TypeError as error:
            raise DataError("a stored threshold cannot be read") from error
        numbers = [n for n in (read.value, read.target) if n is not None]
        if read.rule not in get_args(Rule) or not all(
            isinstance(n, int | float) and math.isfinite(n) for n in numbers
        ):
            raise DataError("a stored threshold cannot be read")
        return read


def choose_threshold(
    y: ArrayLike, p: ArrayLike, rule: Rule = "youden", target: float | None = None
) -> Threshold:
    """Choose a threshold on these rows, which must not be those that it is reported on.

    It stands midway between two neighbouring scores, so that a rounding of either changes no call.
    Of thresholds that serve `youden` equally the lowest is taken, which misses fewest positives;
    of those that serve a fixed rule equally, the one with most of what is fixed.

    Args:
        y: (row,) 0, 1 or NaN.
        p: (row,) probabilities, NaN where nothing is said.
        rule: what is asked of it.
        target: of `sensitivity` and `specificity`: the least share, in (0, 1].

    Returns:
        A threshold; its `value` is None, with a `reason`, where a class is missing or where no
        threshold is better than chance by Youden's index.

    Raises:
        ConfigError: no such rule, or a target missing or without meaning.
        DataError: labels or scores that cannot be used.
    """
    if rule not in get_args(Rule):
        raise ConfigError(f"there is no rule {rule!r}; there are {', '.join(get_args(Rule))}")
    fits = target is None or 0 < target <= 1
    if (rule == "youden") is (target is not None) or not fits:
        raise ConfigError(
            f"the rule {rule} was given the target {target}",
            remedy="give `sensitivity` and `specificity` a share in (0, 1], and `youden` none",
        )
    curve = roc_curve(y, p)
    if curve is None:
        truth = np.asarray(y, np.float64)[~np.isnan(np.asarray(p, np.float64))]
        positives, negatives = int((truth == 1).sum()), int((truth == 0).sum())
        reason = f"a class is missing: {positives} positive, {negatives} negative validation rows"
        return Threshold(rule, target, None, reason, None, None, positives, negatives)
    called = np.rint(curve.sensitivity * curve.positives).astype(np.int64)
    spared = curve.negatives - np.rint(curve.false_positive_rate * curve.negatives).astype(np.int64)
    at = _best(called, spared, rule, target)
    if at is None:
        reason = "no threshold is better than chance on the validation rows"
        return Threshold(rule, target, None, reason, None, None, curve.positives, curve.negatives)
    return Threshold(
        rule,
        target,
        _between(curve.threshold, at),
        None,
        float(called[at] / curve.positives),
        float(spared[at] / curve.negatives),
        curve.positives,
        curve.negatives,
    )


def _best(called: Int, spared: Int, rule: Rule, target: float | None) -> int | None:
    """Which point serves the rule best, counted in whole rows, so that equal is equal.

    Args:
        called: (point,) positive rows called positive, by falling threshold.
        spared: (point,) negative rows called negative.
        rule: as in `choose_threshold`.
        target: likewise.
    """
    positives, negatives = int(called[-1]), int(spared[0])
    if rule == "youden" or target is None:
        index = called * negatives + spared * positives
        # Of equals the last: the lowest threshold.
        best = len(index) - 1 - int(np.argmax(index[::-1]))
        return best if index[best] > positives * negatives else None
    kept, total, gained = (
        (called, positives, spared) if rule == "sensitivity" else (spared, negatives, called)
    )
    enough = np.flatnonzero(kept >= target * total - 1e-9)
    return int(enough[np.lexsort((kept[enough], gained[enough]))[-1]])


def _between(thresholds: Float, at: int) -> float:
    """A value that parts the scores at or above a point from those below it."""
    if at == 0:
        return float(np.nextafter(np.float32(thresholds[1]), np.float32(np.inf)))
    high = float(thresholds[at])
    if at == len(thresholds) - 1:
        return high
    low = float(thresholds[at + 1])
    middle = (low + high) / 2
    # Stored probabilities are float32, and a comparison with them may be made in float32.
    fitting = (v for v in (float(np.float32(middle)), middle) if low < v <= high)
    return next(fitting, high)
