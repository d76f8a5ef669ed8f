"""A figure with its interval and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass


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
