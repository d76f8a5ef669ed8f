"""Confidence intervals from resampling patients.

The cluster bootstrap (Davison and Hinkley 1997, section 3.8; Field and Welsh 2007): patients, not
studies, are drawn with replacement, each bringing all its rows, because the rows of one patient
are not independent. Intervals are percentiles of the drawn values (Efron and Tibshirani 1993,
chapter 13). Two models are compared on the same draws, so what is common to both cancels.

The expected calibration error is resampled with its bins held where they are. Resampling adds
noise to every bin, and noise never lowers this error: its interval lies somewhat too high.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mvp.errors import ConfigError, DataError
from mvp.statistics.intervals import Interval
from mvp.statistics.metrics import known_rows
from mvp.statistics.ranking import Ranking, weighted_auprc, weighted_auroc
from mvp.statistics.scores import (
    ECE_BINS,
    equal_count_bins,
    log_losses,
    probable_rows,
    squared_errors,
)

AREAS = {"auroc": weighted_auroc, "auprc": weighted_auprc}
AT_THRESHOLD = ("sensitivity", "specificity")
METRICS = (*AREAS, "brier", "log_loss", "ece", *AT_THRESHOLD)
LEAST_DEFINED = 0.5
# What is cumulated at once stays in a processor's cache.
_ELEMENTS_AT_ONCE = 300_000


class PatientBootstrap:
    """Resamples of patients, drawn once and used for every metric, label and model.

    Args:
        groups: (row,) patient of each row.
        draws: number of resamples.
        seed: decides the draws.
        level: nominal coverage of the intervals.

    Raises:
        ConfigError: `draws` below 1 or a level outside (0, 1).
        DataError: there are no rows.
    """

    def __init__(
        self,
        groups: Sequence[Any] | NDArray[Any],
        *,
        draws: int = 1000,
        seed: int,
        level: float = 0.95,
    ) -> None:
        if draws < 1 or not 0 < level < 1:
            raise ConfigError(
                f"draws={draws} and level={level}: expected draws >= 1, 0 < level < 1"
            )
        if not len(groups):
            raise DataError("there are no rows to resample")
        patients, member = np.unique(np.asarray(groups).astype(str), return_inverse=True)
        self.level = level
        self.draws = draws
        self._member = member.reshape(-1)
        rng, count = np.random.default_rng(seed), len(patients)
        drawn = np.empty((draws, count), np.int32)
        for row in drawn:
            row[:] = np.bincount(rng.integers(0, count, count), minlength=count)
        # (patient, draw); in memory draw by draw, as the ranking metrics read it.
        self._times_drawn = drawn.T

    def interval(
        self,
        y: ArrayLike,
        p: ArrayLike,
        metric: str = "auroc",
        *,
        threshold: float | None = None,
    ) -> Interval:
        """The metric of one model with its percentile interval.

        Args:
            y: (row,) 0, 1, or NaN for unknown, rows as in `groups`.
            p: (row,) scores; probabilities for `brier`, `log_loss` and `ece`.
            metric: one of `METRICS`.
            threshold: of `sensitivity` and `specificity` alone: a row at or above it is positive.

        Raises:
            ConfigError: no such metric, or a threshold missing or without meaning.
            DataError: labels or scores that cannot be used.
        """
        known, labels, (scores,) = self._known(y, p)
        estimate, values = self._measure(labels, scores, known, metric, threshold)
        return self.summary(estimate, values, y)

    def paired_difference(
        self,
        y: ArrayLike,
        p: ArrayLike,
        other: ArrayLike,
        metric: str = "auroc",
        *,
        threshold: float | None = None,
    ) -> Interval:
        """Metric of `p` minus that of `other` on the same rows, from the same draws.

        Args:
            y: (row,) 0, 1, or NaN for unknown, rows as in `groups`.
            p: (row,) scores of one model.
            other: (row,) scores of the model that it is compared with.
            metric: as in `interval`.
            threshold: as in `interval`, the same for both.

        Raises:
            ConfigError: as in `interval`.
            DataError: likewise.
        """
        known, labels, columns = self._known(y, p, other)
        (one, first), (two, second) = (
            self._measure(labels, column, known, metric, threshold) for column in columns
        )
        gap = None if one is None or two is None else one - two
        return self.summary(gap, first - second, y)

    def values(
        self,
        y: ArrayLike,
        p: ArrayLike,
        metric: str = "auroc",
        *,
        threshold: float | None = None,
    ) -> tuple[float | None, NDArray[np.float64]]:
        """The metric on the rows themselves and in every draw, as `interval` rests on them.

        Whatever is computed of several models draw by draw keeps what is common to them.

        Returns:
            The metric, None where undefined; (draw,) of it, NaN where undefined.
        """
        known, labels, (scores,) = self._known(y, p)
        return self._measure(labels, scores, known, metric, threshold)

    def summary(
        self, estimate: float | None, values: NDArray[np.float64], y: ArrayLike
    ) -> Interval:
        """An interval out of values by draw.

        Args:
            estimate: the value on the rows themselves; None where undefined.
            values: (draw,) of it, NaN where undefined.
            y: (row,) labels, 0, 1 or NaN for unknown: what the interval says it rests on.

        Raises:
            DataError: other rows or another number of draws.
        """
        labels = np.asarray(y, np.float64)
        if labels.shape != self._member.shape or np.shape(values) != (self.draws,):
            raise DataError(
                f"labels of shape {labels.shape} and values of shape {np.shape(values)} for "
                f"{self.draws} resamples of {len(self._member)} rows"
            )
        known = ~np.isnan(labels)
        defined = values[~np.isnan(values)]
        member, positives = self._member[known], int((labels[known] > 0).sum())
        return self._summary(estimate, defined, int(known.sum()), positives, member)

    def mean(self, values: ArrayLike) -> Interval:
        """The mean of some values with its percentile interval.

        Of `hits` it is the accuracy; of the hits of one model minus those of another the paired
        difference, from the same draws as every other interval.

        Args:
            values: (row,) rows as in `groups`; NaN is unknown, and the row is left out.

        Raises:
            DataError: unequal lengths, or a value that is infinite.
        """
        column = np.asarray(values, dtype=np.float64)
        if column.shape != self._member.shape or np.isinf(column).any():
            raise DataError(
                f"a mean was given values of shape {column.shape} for resamples of "
                f"{len(self._member)} rows, or infinite ones"
            )
        known = ~np.isnan(column)
        member, column = self._member[known], column[known]
        sums, counts = self._sums(member, np.stack([column, np.ones(len(column))]))
        means = sums[counts > 0] / counts[counts > 0]
        estimate = float(column.mean()) if len(column) else None
        return self._summary(estimate, means, len(column), int((column > 0).sum()), member)

    def _known(self, y: ArrayLike, *scores: ArrayLike) -> tuple[Any, Any, list[Any]]:
        known, labels, columns = known_rows(y, *scores)
        if len(known) != len(self._member):
            raise DataError(f"{len(known)} labels for resamples of {len(self._member)} rows")
        return known, labels, columns

    def _measure(
        self,
        labels: NDArray[np.bool_],
        scores: NDArray[np.float64],
        known: NDArray[np.bool_],
        metric: str,
        threshold: float | None,
    ) -> tuple[float | None, NDArray[np.float64]]:
        """The metric on known rows, and in every draw."""
        if metric not in METRICS:
            raise ConfigError(f"there is no metric {metric!r}; there are {', '.join(METRICS)}")
        if (threshold is None) is (metric in AT_THRESHOLD):
            raise ConfigError(
                f"{metric} was given the threshold {threshold}: a threshold belongs to "
                f"{' and '.join(AT_THRESHOLD)}, and to them alone"
            )
        member = self._member[known]
        values = np.full(self.draws, np.nan)
        if metric not in AREAS:
            parts = np.stack(_ratio(labels, scores, metric, threshold))
            own = parts.sum(axis=1)
            drawn = self._sums(member, parts)
            there = drawn[-1] > 0
            values[there] = np.abs(drawn[:-1, there]).sum(axis=0) / drawn[-1, there]
            return float(np.abs(own[:-1]).sum() / own[-1]) if own[-1] > 0 else None, values
        if not labels.any() or labels.all():
            return None, values
        ranked = Ranking(labels, scores, member)
        step = max(1, _ELEMENTS_AT_ONCE // len(labels))
        for start in range(0, self.draws, step):
            part = slice(start, start + step)
            values[part] = AREAS[metric](ranked, self._times_drawn[:, part])
        once = AREAS[metric](Ranking(labels, scores), np.ones((len(labels), 1), np.int32))
        return float(once[0]), values

    def _sums(self, member: NDArray[Any], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(value, draw) sums of values (value, row) over the rows of every draw."""
        patients = len(self._times_drawn)
        own = np.stack([np.bincount(member, column, patients) for column in values])
        drawn = np.empty((len(own), self.draws))
        step = max(1, 8 * _ELEMENTS_AT_ONCE // patients)
        for start in range(0, self.draws, step):
            part = slice(start, start + step)
            drawn[:, part] = own @ self._times_drawn[:, part]
        return drawn

    def _summary(
        self,
        estimate: float | None,
        defined: NDArray[np.float64],
        n: int,
        positives: int,
        member: NDArray[Any],
    ) -> Interval:
        """An interval from the values of those draws in which the metric is defined."""
        low = high = None
        if len(defined) >= LEAST_DEFINED * self.draws:
            tail = (1 - self.level) / 2
            low, high = (float(v) for v in np.quantile(defined, [tail, 1 - tail]))
        return Interval(
            estimate,
            low,
            high,
            self.level,
            self.draws,
            self.draws - len(defined),
            n,
            positives,
            len(np.unique(member)),
        )


def _ratio(
    labels: NDArray[np.bool_],
    scores: NDArray[np.float64],
    metric: str,
    threshold: float | None,
) -> list[NDArray[np.float64]]:
    """Values by row, whose sums make a metric: of all but the last, without sign, by the last."""
    rows = np.ones(len(labels))
    if threshold is not None:
        of = labels if metric == "sensitivity" else ~labels
        return [(of & ((scores >= threshold) == labels)).astype(np.float64), of.astype(np.float64)]
    if metric == "brier":
        return [squared_errors(labels, scores), rows]
    if metric == "log_loss":
        return [log_losses(labels, scores), rows]
    _, truth, chance = probable_rows(labels, scores)
    if not len(truth):
        return [rows, rows]
    which, count = equal_count_bins(chance, ECE_BINS)
    return [*((truth - chance) * (which == b) for b in range(count)), rows]
