"""One view's features, read from the store study by study; several images are aggregated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from mvp.errors import StaleError, StoreDamagedError
from mvp.features.block import of_draws
from mvp.features.keystore import KeyStore
from mvp.features.reading import SegmentGoneError
from mvp.features.rows import StudyRows
from mvp.features.table import FeatureTable
from mvp.types import BoolArray, FloatArray, IntArray, TextArray

Aggregate = Literal["mean", "max"]
# What is read of all draws at a time, to become one row of each study.
_DRAWN_BYTES = 128 << 20


class StoreBlock:
    """Reads the rows of one view on demand, so that a table need not fit into memory.

    Rows that are not stored are left out. What is kept in memory is an id and a place a row, 36
    bytes.

    Args:
        store: the features of one key.
        rows: for each study the row ids of its instances; none for a missing view.
        aggregate: how several instances become one row; of draws, draw by draw.
        draws: how many draws a stored row holds, (draw, feature).

    Raises:
        StaleError: the store holds another number of draws.
        StoreDamagedError: rows are not found, and part of the store cannot be read.
    """

    def __init__(
        self, store: KeyStore, rows: StudyRows, aggregate: Aggregate, draws: int = 1
    ) -> None:
        self._store, self._aggregate, self._draws = store, aggregate, draws
        shape = store.shape
        if draws > 1 and shape is not None and (len(shape) != 2 or shape[0] != draws):
            raise StaleError(
                f"the cached features are not of {draws} draws, but of shape {shape}",
                view=store.key.view,
                path=store.url,
                remedy="restore extract.tta, or run `mvp extract`",
            )
        places = store.places(rows.ids)
        stored = places[:, 0] >= 0
        study = np.repeat(np.arange(len(rows.counts)), rows.counts)
        self._ids, self._places = rows.ids[stored], places[stored]
        self._counts = np.bincount(study[stored], minlength=len(rows.counts)).astype(np.int64)
        self._starts = np.cumsum(self._counts) - self._counts

    @property
    def width(self) -> int:
        """Number of features of one draw; those of a map are counted one by one."""
        return (self._store.width or 0) // self._draws

    @property
    def draws(self) -> int:
        """Rows of each study."""
        return self._draws

    @property
    def finite(self) -> bool:
        """Whether what is read was checked when its unit was; sums of several rows were not."""
        return self._draws == 1 and bool((self._counts <= 1).all())

    @property
    def present(self) -> BoolArray:
        """(study,) which studies have a stored row."""
        return self._counts > 0

    def read(self, rows: IntArray, draws: IntArray | None = None) -> FloatArray:
        """(len(rows), width) float32, NaN where the study has no instance; see `Block`."""
        if self._draws == 1:
            return self._rows(rows)
        out = np.empty((len(rows), self.width), np.float32)
        size = max(1, _DRAWN_BYTES // (4 * max(1, self.width) * self._draws))
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            # The rows of one study stand together and are read once.
            studies, back = np.unique(rows[part], return_inverse=True)
            values = self._rows(studies).reshape(len(studies), self._draws, -1)
            if draws is None:
                out[part] = of_draws(values, None)[back]
            else:
                out[part] = values[back, draws[part]]
        return out

    def _rows(self, rows: IntArray) -> FloatArray:
        """(len(rows), all stored numbers) float32."""
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
        out = np.empty((len(rows), self.width * self._draws), np.float32)
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
    draws: Mapping[str, int] | None = None,
) -> FeatureTable:
    """Join the views' stores on the study.

    Args:
        studies: (study,) ids, the one row order of all views.
        groups: (study,) patients.
        stores: for each view, in order, the features of its key.
        rows: for each view, for each study, the row ids it is to read; those that are not
            stored are left out, and a study left without any lacks the view.
        aggregate: how several instances of a study become one row.
        draws: for views of several draws their number; without it a row is a vector or a map.

    Raises:
        StaleError: a store holds another number of draws.
        StoreDamagedError: rows are not found, and part of the store cannot be read.
    """
    blocks = {}
    for view, store in stores.items():
        wanted = rows[view]
        ragged = wanted if isinstance(wanted, StudyRows) else StudyRows.of(wanted)
        blocks[view] = StoreBlock(store, ragged, aggregate, (draws or {}).get(view, 1))
    presence = np.array([blocks[view].present for view in stores], dtype=bool)
    return FeatureTable(
        studies,
        groups,
        blocks,
        presence.T.reshape(len(studies), len(stores)),
        {view: store.key.digest for view, store in stores.items()},
    )
