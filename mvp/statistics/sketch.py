"""Quantiles of any number of values in one pass and bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mvp.errors import DataError
from mvp.statistics.ranking import Float, Int

_STEP, _REACH = 0.005, 30.0


class Sketch:
    """A histogram whose bins grow with the distance from 0, like those of DDSketch.

    Bins are equally wide in asinh(value) (Masson, Rim and Lee 2019 use the logarithm, which has no
    0): quantiles are right to half a percent of their size, or to .0025 near 0, for values up to
    5e12; larger ones count as that. Sketches of parts add up to that of the whole.
    """

    def __init__(self) -> None:
        self.counts: Int = np.zeros(int(2 * _REACH / _STEP), np.int64)

    @property
    def n(self) -> int:
        """Values added so far."""
        return int(self.counts.sum())

    def add(self, values: ArrayLike) -> None:
        """Count some values.

        Raises:
            DataError: a value is NaN or infinite.
        """
        some = np.asarray(values, np.float64).ravel()
        if not np.isfinite(some).all():
            raise DataError("a sketch of quantiles was given values that are not finite")
        places = np.floor((np.arcsinh(some) + _REACH) / _STEP).astype(np.int64)
        self.counts += np.bincount(
            np.clip(places, 0, len(self.counts) - 1), minlength=len(self.counts)
        )

    def quantiles(self, shares: ArrayLike) -> Float:
        """(share,) values below which these shares lie, linear within a bin.

        Raises:
            DataError: nothing was added.
        """
        wanted = np.asarray(shares, np.float64) * self._total()
        filled = np.flatnonzero(self.counts)
        below = np.append(0, np.cumsum(self.counts))
        ends = np.stack([filled, filled + 1], axis=1).ravel()
        return np.interp(wanted, below[ends], _edge(ends))

    def cuts(self, parts: int) -> Int:
        """Bins at which the values fall into so many parts, as equal as ties let them be.

        Returns:
            (cut,) different bins, rising, each the first of the next part.

        Raises:
            DataError: nothing was added.
        """
        shares = np.cumsum(self.counts) / self._total()
        places = np.searchsorted(shares, np.arange(1, parts) / parts - 1e-12) + 1
        # A cut above the last value parts nothing.
        return np.unique(places[places <= np.flatnonzero(self.counts)[-1]])

    def divided(self, cuts: ArrayLike) -> Int:
        """(cut + 1,) values in the parts between the cuts, of this sketch or another."""
        starts = np.append(0, np.asarray(cuts, np.int64))
        return np.add.reduceat(self.counts, starts)

    def above(self, share: float) -> float:
        """A value that at least this share of the values lies below, and hardly more.

        Raises:
            DataError: nothing was added.
        """
        shares = np.cumsum(self.counts) / self._total()
        return float(_edge(np.searchsorted(shares, share - 1e-12) + 1))

    def _total(self) -> int:
        if not self.n:
            raise DataError("quantiles of no values")
        return self.n


def _edge(places: ArrayLike) -> Float:
    """The lower ends of bins."""
    return np.sinh(np.asarray(places) * _STEP - _REACH)
