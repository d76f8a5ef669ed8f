"""Views that a table has and does not show: what would be said of a study without them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from mvp.features.block import Bags, Block
from mvp.features.table import FeatureTable
from mvp.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class HiddenBlock:
    """A view that every study lacks, of the width and shape that it would have.

    Attributes:
        block: the view as it is.
    """

    block: Block

    @property
    def width(self) -> int:
        """Number of features."""
        return self.block.width

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what one instance would have."""
        return self.block.shape

    @property
    def finite(self) -> bool:
        """There is no row that could be otherwise."""
        return True

    @property
    def draws(self) -> int:
        """Rows that each study would have."""
        return self.block.draws

    def read(self, rows: IntArray, draws: IntArray | None = None) -> FloatArray:
        """(len(rows), width) NaN; see `Block`."""
        return np.full((len(rows), self.width), np.nan, np.float32)

    def instances(self, rows: IntArray) -> IntArray:
        """(len(rows),) zeros."""
        return np.zeros(len(rows), np.int64)

    def bags(self, rows: IntArray, draws: IntArray | None = None) -> Bags:
        """Empty bags; see `Block`."""
        return Bags(np.empty((0, self.width), np.float32), self.instances(rows))


def hide(table: FeatureTable, views: Collection[str]) -> FeatureTable:
    """The same studies without some of their views: these are missing, and a head misses nothing.

    Args:
        table: the features.
        views: which to hide; names that the table does not have are none of it already.
    """
    blocks = {v: HiddenBlock(b) if v in views else b for v, b in table.blocks.items()}
    shown = np.array([view not in views for view in table.views], bool)
    return replace(table, blocks=blocks, presence=table.presence & shown, _selected=True)
