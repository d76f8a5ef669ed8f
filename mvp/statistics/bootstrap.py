"""Confidence intervals from resampling patients.

The cluster bootstrap (Davison and Hinkley 1997, section 3.8; Field and Welsh 2007): patients, not
studies, are drawn with replacement, each bringing all its rows, because the rows of one patient
are not independent. Intervals are percentiles of the drawn values (Efron and Tibshirani 1993,
chapter 13). Two models are compared on the same draws, so what is common to both cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mvp.errors import ConfigError, DataError
from mvp.statistics.metrics import Ranking, known_rows, weighted_auprc, weighted_auroc

METRICS: dict[str, Callable[[Ranking, NDArray[Any]], NDArray[np.float64]]] = {
    "auroc": weighted_auroc,
    "auprc": weighted_auprc,
}
LEAST_DEFINED = 0.5
_ELEMENTS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A metric, or a difference of two, with its interval and what it rests on.

    Attributes:
        estimate: the value on the rows themselves; None where a class is missing.
        low: lower end; None if too few draws are defined.
        high: upper end, likewise.
        level: nominal coverage.
        draws: number of resamples.
        undefined_draws: how many of them lacked a class and were left out.
        n: known rows.
        positives: how many of them are positive; of a mean, how many are above zero.
        patients: number of different patients among them.
    """

    estimate: float | None
    low: float | None
    high: float | None
    level: float
    draws: int
    undefined_draws: int
    n: int
    positives: int
    patients: int

    @property
    def negatives(self) -> int:
        """How many of the known rows are negative."""
        return self.n - self.positives


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
        drawn = np.empty((count, draws), np.int32)
        for draw in range(draws):
            drawn[:, draw] = np.bincount(rng.integers(0, count, count), minlength=count)
        self._times_drawn = drawn  # (patient, draw)

    def interval(self, y: ArrayLike, p: ArrayLike, metric: str = "auroc") -> Interval:
        """The metric of one model with its percentile interval.

        Args:
            y: (row,) 0, 1, or NaN for unknown, rows as in `groups`.
            p: (row,) scores.
            metric: `auroc` or `auprc`.
        """
        return self._interval(y, [p], metric)

    def paired_difference(
        self, y: ArrayLike, p: ArrayLike, other: ArrayLike, metric: str = "auroc"
    ) -> Interval:
        """Metric of `p` minus that of `other` on the same rows, from the same draws.

        Args:
            y: (row,) 0, 1, or NaN for unknown, rows as in `groups`.
            p: (row,) scores of one model.
            other: (row,) scores of the model that it is compared with.
            metric: `auroc` or `auprc`.
        """
        return self._interval(y, [p, other], metric)

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
        patients = len(self._times_drawn)
        own = np.stack(
            [np.bincount(member, column, patients), np.bincount(member, minlength=patients)]
        )
        drawn = np.empty((2, self.draws))
        step = max(1, _ELEMENTS_AT_ONCE // patients)
        for start in range(0, self.draws, step):
            part = slice(start, start + step)
            drawn[:, part] = own @ self._times_drawn[:, part]
        sums, counts = drawn
        means = sums[counts > 0] / counts[counts > 0]
        estimate = float(column.mean()) if len(column) else None
        return self._summary(estimate, means, len(column), int((column > 0).sum()), member)

    def _interval(self, y: ArrayLike, scores: list[ArrayLike], metric: str) -> Interval:
        if metric not in METRICS:
            raise ConfigError(f"there is no metric {metric!r}; there are {', '.join(METRICS)}")
        known, labels, columns = known_rows(y, *scores)
        if len(known) != len(self._member):
            raise DataError(f"{len(known)} labels for resamples of {len(self._member)} rows")
        member = self._member[known]
        estimate, values = None, np.full(self.draws, np.nan)
        if labels.any() and not labels.all():
            rankings = [Ranking(labels, column) for column in columns]
            once = np.ones((len(labels), 1), np.int32)
            estimate = float(_difference(METRICS[metric], rankings, once)[0])
            step = max(1, _ELEMENTS_AT_ONCE // len(labels))
            for start in range(0, self.draws, step):
                part = slice(start, start + step)
                weights = self._times_drawn[member, part]
                values[part] = _difference(METRICS[metric], rankings, weights)
        defined = values[~np.isnan(values)]
        return self._summary(estimate, defined, len(labels), int(labels.sum()), member)

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


def _difference(
    metric: Callable[[Ranking, NDArray[Any]], NDArray[np.float64]],
    rankings: list[Ranking],
    weights: NDArray[Any],
) -> NDArray[np.float64]:
    """(draw,) the metric of one ranking, or that of the first minus that of the second."""
    first, *others = (metric(ranking, weights) for ranking in rankings)
    return first - others[0] if others else first
