"""One view's features, read from the store study by study; several images are aggregated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from mvp.features.store import KeyStore
from mvp.features.table import FeatureTable
from mvp.types import FloatArray, IntArray, TextArray

Aggregate = Literal["mean", "max"]


class StoreBlock:
    """Reads the rows of one view on demand, so that a table need not fit into memory.

    Args:
        store: the features of one key.
        rows: for each study the row ids of its instances; none for a missing view.
        aggregate: how several instances become one row.
    """

    def __init__(
        self, store: KeyStore, rows: Sequence[Sequence[bytes]], aggregate: Aggregate
    ) -> None:
        self._store, self._rows, self._aggregate = store, rows, aggregate

    @property
    def width(self) -> int:
        """Number of features."""
        return self._store.width or 0

    def read(self, rows: IntArray) -> FloatArray:
        """(len(rows), width) float32, NaN where the study has no instance."""
        counts = np.array([len(self._rows[i]) for i in rows], dtype=np.int64)
        out = np.full((len(rows), self.width), np.nan, np.float32)
        wanted = [row for i in rows for row in self._rows[i]]
        if not wanted:
            return out
        values = self._store.read(wanted)
        present = counts > 0
        starts = np.concatenate([[0], np.cumsum(counts[present])[:-1]])
        if self._aggregate == "max":
            out[present] = np.maximum.reduceat(values, starts, axis=0)
        else:
            out[present] = np.add.reduceat(values, starts, axis=0) / counts[present, None]
        return out


def table_from_stores(
    studies: TextArray,
    groups: TextArray,
    stores: Mapping[str, KeyStore],
    rows: Mapping[str, Sequence[Sequence[bytes]]],
    aggregate: Aggregate = "mean",
) -> FeatureTable:
    """Join the views' stores on the study.

    Args:
        studies: (study,) ids, the one row order of all views.
        groups: (study,) patients.
        stores: for each view, in order, the features of its key.
        rows: for each view, for each study, the row ids it is to read; those that are not
            stored are left out, and a study left without any lacks the view.
        aggregate: how several instances of a study become one row.
    """
    readable = {
        view: [[row for row in ids if row in stores[view]] for ids in rows[view]] for view in stores
    }
    presence = np.array(
        [[bool(ids) for ids in readable[view]] for view in stores], dtype=bool
    ).T.reshape(len(studies), len(stores))
    return FeatureTable(
        studies,
        groups,
        {view: StoreBlock(stores[view], readable[view], aggregate) for view in stores},
        presence,
        {view: store.key.digest for view, store in stores.items()},
    )
