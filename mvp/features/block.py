"""One view's features as a table reads them, and those that are held in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from mvp.types import FloatArray, IntArray

Aggregate = Literal["mean", "max"]


@dataclass(frozen=True, eq=False)
class Bags:
    """All instances of a view of some studies, those of a study together.

    Attributes:
        values: (instance, feature) float32.
        counts: (study,) instances of each study; 0 where it lacks the view.
    """

    values: FloatArray
    counts: IntArray

    @property
    def offsets(self) -> IntArray:
        """(study + 1,) where the instances of each study begin, and where the last ones end."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)


class Block(Protocol):
    """One view's features, read by row."""

    @property
    def width(self) -> int:
        """Number of features."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what one instance has: (width,), or that of a map whose rows are flattened."""
        ...

    @property
    def finite(self) -> bool:
        """Whether the rows that are present were found finite already."""
        ...

    @property
    def draws(self) -> int:
        """Rows of each study: its draws (`extract.tta`), or 1."""
        ...

    def read(self, rows: IntArray, draws: IntArray | None = None) -> FloatArray:
        """(len(rows), width) float32, NaN rows where the study lacks the view.

        Args:
            rows: numbers of studies.
            draws: (len(rows),) which draw of each; None takes the mean of all. A study of one row
                has that row in every draw.
        """
        ...

    def instances(self, rows: IntArray) -> IntArray:
        """(len(rows),) how many instances each study has, 0 where it lacks the view."""
        ...

    def bags(self, rows: IntArray, draws: IntArray | None = None) -> Bags:
        """All instances of these studies, without aggregation; arguments as of `read`."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayBlock:
    """A view's features held in memory.

    Attributes:
        values: (study, feature) or (study, draw, feature) float32; missing rows NaN.
        map_shape: shape of the map that a row is, flattened; None is (feature,).
    """

    values: FloatArray
    map_shape: tuple[int, ...] | None = None

    @property
    def width(self) -> int:
        """Number of features."""
        return int(self.values.shape[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what one study has."""
        return self.map_shape or (self.width,)

    @property
    def draws(self) -> int:
        """Rows of each study."""
        return int(self.values.shape[1]) if self.values.ndim == 3 else 1

    @property
    def finite(self) -> bool:
        """Nobody has looked."""
        return False

    def read(self, rows: IntArray, draws: IntArray | None = None) -> FloatArray:
        """(len(rows), width) float32; see `Block`."""
        if self.values.ndim == 2:
            return np.asarray(self.values[rows], dtype=np.float32)
        return of_draws(np.asarray(self.values[rows], dtype=np.float32), draws)

    def instances(self, rows: IntArray) -> IntArray:
        """(len(rows),) 1 where a study has the view."""
        first = self.values[rows].reshape(len(rows), -1)[:, :1]
        return np.asarray((~np.isnan(first)).sum(axis=1), dtype=np.int64)

    def bags(self, rows: IntArray, draws: IntArray | None = None) -> Bags:
        """Bags of one; see `Block`."""
        counts = self.instances(rows)
        there = counts > 0
        return Bags(self.read(rows[there], None if draws is None else draws[there]), counts)


def of_draws(values: FloatArray, draws: IntArray | None) -> FloatArray:
    """(row, feature) of (row, draw, feature): one draw of each row, or the mean of all."""
    if draws is None:
        return np.asarray(values.mean(axis=1), dtype=np.float32)
    return np.asarray(values[np.arange(len(values)), draws])


def instances_of(starts: IntArray, counts: IntArray) -> IntArray:
    """(instance,) where the instances of some studies stand, one study after the other.

    Args:
        starts: (study,) where those of each begin.
        counts: (study,) how many each has; 0 is none.
    """
    first = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(starts - first, counts)


def over_instances(values: FloatArray, counts: IntArray, aggregate: Aggregate) -> FloatArray:
    """(study, feature) mean or maximum of bags, none of them empty.

    Args:
        values: (instance, feature), those of a study together.
        counts: (study,) at least 1 each.
        aggregate: which of both.
    """
    first = np.cumsum(counts) - counts
    if aggregate == "max":
        return np.asarray(np.maximum.reduceat(values, first, axis=0))
    return np.asarray(np.add.reduceat(values, first, axis=0) / counts[:, None], dtype=np.float32)
