"""One view's features, read from the store study by study; several images are aggregated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from mvp.errors import StoreDamagedError
from mvp.features.keystore import KeyStore
from mvp.features.reading import SegmentGoneError
from mvp.features.rows import StudyRows
from mvp.features.table import FeatureTable
from mvp.types import BoolArray, FloatArray, IntArray, TextArray

Aggregate = Literal["mean", "max"]


class StoreBlock:
    """Reads the rows of one view on demand, so that a table need not fit into memory.

    Rows that are not stored are left out. What is kept in memory is an id and a place a row, 36
    bytes.

    Args:
        store: the features of one key.
        rows: for each study the row ids of its instances; none for a missing view.
        aggregate: how several instances become one row.

    Raises:
        StoreDamagedError: rows are not found, and part of the store cannot be read.
    """

    def __init__(self, store: KeyStore, rows: StudyRows, aggregate: Aggregate) -> None:
        self._store, self._aggregate = store, aggregate
        places = store.places(rows.ids)
        stored = places[:, 0] >= 0
        study = np.repeat(np.arange(len(rows.counts)), rows.counts)
        self._ids, self._places = rows.ids[stored], places[stored]
        self._counts = np.bincount(study[stored], minlength=len(rows.counts)).astype(np.int64)
        self._starts = np.cumsum(self._counts) - self._counts

    @property
    def width(self) -> int:
        """Number of features; those of a map are counted one by one."""
        return self._store.width or 0

    @property
    def finite(self) -> bool:
        """Whether what is read was checked when its unit was; sums of several rows were not."""
        return bool((self._counts <= 1).all())

    @property
    def present(self) -> BoolArray:
        """(study,) which studies have a stored row."""
        return self._counts > 0

    def read(self, rows: IntArray) -> FloatArray:
        """(len(rows), width) float32, NaN where the study has no instance."""
        try:
            return self._read(rows)
        except SegmentGoneError:
            # Merged into another segment since: the rows stand there, with the same numbers.
            self._store.refresh(gone=True)
            self._places = self._store.places(self._ids)
            if (self._places < 0).any():
                raise StoreDamagedError(
                    "features were deleted while they were read",
                    view=self._store.key.view,
                    path=self._store.url,
                    remedy="run `mvp extract`, then this command again",
                ) from None
            return self._read(rows)

    def _read(self, rows: IntArray) -> FloatArray:
        counts, starts = self._counts[rows], self._starts[rows]
        out = np.empty((len(rows), self.width), np.float32)
        if (counts == 1).all():
            return self._store.read_places(self._places[starts], out)
        present = counts > 0
        out[~present] = np.nan
        if not present.any():
            return out
        counts, starts = counts[present], starts[present]
        first = np.cumsum(counts) - counts
        every = np.arange(counts.sum()) + np.repeat(starts - first, counts)
        values = self._store.read_places(self._places[every])
        if self._aggregate == "max":
            out[present] = np.maximum.reduceat(values, first, axis=0)
        else:
            out[present] = np.add.reduceat(values, first, axis=0) / counts[:, None]
        return out


def table_from_stores(
    studies: TextArray,
    groups: TextArray,
    stores: Mapping[str, KeyStore],
    rows: Mapping[str, StudyRows | Sequence[Sequence[bytes]]],
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

    Raises:
        StoreDamagedError: rows are not found, and part of the store cannot be read.
    """
    blocks = {}
    for view, store in stores.items():
        wanted = rows[view]
        ragged = wanted if isinstance(wanted, StudyRows) else StudyRows.of(wanted)
        blocks[view] = StoreBlock(store, ragged, aggregate)
    presence = np.array([blocks[view].present for view in stores], dtype=bool)
    return FeatureTable(
        studies,
        groups,
        blocks,
        presence.T.reshape(len(studies), len(stores)),
        {view: store.key.digest for view, store in stores.items()},
    )
