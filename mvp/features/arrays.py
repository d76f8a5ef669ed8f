"""Feature tables from arrays in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mvp.errors import DataError
from mvp.features.block import Aggregate, ArrayBlock, Bags, Block, instances_of, over_instances
from mvp.features.table import FeatureTable
from mvp.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class InstanceBlock:
    """A view of which studies have several instances, held in memory.

    Attributes:
        values: (instance, feature) float32, those of a study together.
        counts: (study,) how many each has; 0 is a missing view.
        aggregate: how they become one row where one is asked for.
    """

    values: FloatArray
    counts: IntArray
    aggregate: Aggregate = "mean"

    @property
    def width(self) -> int:
        """Number of features."""
        return int(self.values.shape[1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one instance."""
        return (self.width,)

    @property
    def finite(self) -> bool:
        """Nobody has looked."""
        return False

    @property
    def draws(self) -> int:
        """One: instances are no draws."""
        return 1

    def instances(self, rows: IntArray) -> IntArray:
        """(len(rows),) how many instances each study has."""
        return np.asarray(self.counts[rows])

    def bags(self, rows: IntArray, draws: IntArray | None = None) -> Bags:
        """All instances of these studies, the same in every draw; see `Block`."""
        counts = self.counts[rows]
        starts = (np.cumsum(self.counts) - self.counts)[rows]
        return Bags(np.asarray(self.values[instances_of(starts, counts)]), counts)

    def read(self, rows: IntArray, draws: IntArray | None = None) -> FloatArray:
        """(len(rows), width) float32, NaN where there is no instance; see `Block`."""
        bags = self.bags(rows)
        out = np.full((len(rows), self.width), np.nan, np.float32)
        there = bags.counts > 0
        if there.any():
            out[there] = over_instances(bags.values, bags.counts[there], self.aggregate)
        return out


def table_from_arrays(
    studies: Sequence[str],
    blocks: Mapping[str, FloatArray | Sequence[FloatArray]],
    *,
    groups: Sequence[str] | None = None,
    keys: Mapping[str, str] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    aggregate: Aggregate = "mean",
) -> FeatureTable:
    """A FeatureTable from arrays in memory; a row that is all NaN is a missing view.

    Args:
        studies: ids of the rows.
        blocks: for each view (study, feature), or (study, draw, feature), or of several instances
            a list with (instance, feature) for each study; one without any lacks the view.
        groups: patient of each row; default: every study is its own patient.
        keys: feature key digest per view; default: the view's name.
        shapes: of views that are maps, the shape of one, of which a row is the flattened numbers.
        aggregate: how several instances become one row of `matrix()`.

    Raises:
        DataError: a view has other numbers of rows or features than it should.
    """
    ids = np.asarray(studies, dtype=object)
    held: dict[str, Block] = {}
    presence = np.empty((len(ids), len(blocks)), dtype=bool)
    for position, (view, given) in enumerate(blocks.items()):
        if len(given) != len(ids):
            raise DataError(
                f"views are misaligned: {len(ids)} studies, {len(given)} rows of features",
                view=view,
            )
        shape = (shapes or {}).get(view)
        if isinstance(given, np.ndarray):
            values = np.asarray(given, np.float32)
            held[view] = ArrayBlock(values, shape)
            presence[:, position] = ~np.isnan(values).reshape(len(values), -1).all(axis=1)
        else:
            counts = np.array([len(bag) for bag in given], dtype=np.int64)
            values = np.concatenate([np.asarray(bag, np.float32) for bag in given])
            held[view] = InstanceBlock(values, counts, aggregate)
            presence[:, position] = counts > 0
        if shape is not None and np.prod(shape) != held[view].width:
            raise DataError(f"rows of {held[view].width} numbers are no maps {shape}", view=view)
    return FeatureTable(
        ids,
        np.asarray(groups if groups is not None else studies, dtype=object),
        held,
        presence,
        dict(keys) if keys is not None else {v: v for v in blocks},
    )
