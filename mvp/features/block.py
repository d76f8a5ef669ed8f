"""One view's features as a table reads them, and those that are held in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mvp.types import FloatArray, IntArray


class Block(Protocol):
    """One view's features, read by row."""

    @property
    def width(self) -> int:
        """Number of features."""
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


@dataclass(frozen=True, eq=False)
class ArrayBlock:
    """A view's features held in memory.

    Attributes:
        values: (study, feature) or (study, draw, feature) float32; missing rows NaN.
    """

    values: FloatArray

    @property
    def width(self) -> int:
        """Number of features."""
        return int(self.values.shape[-1])

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


def of_draws(values: FloatArray, draws: IntArray | None) -> FloatArray:
    """(row, feature) of (row, draw, feature): one draw of each row, or the mean of all."""
    if draws is None:
        return np.asarray(values.mean(axis=1), dtype=np.float32)
    return np.asarray(values[np.arange(len(values)), draws])
