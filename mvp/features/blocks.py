"""One view's features, read from the store study by study; several images are aggregated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mvp.errors import StaleError, StoreDamagedError
from mvp.features.block import Aggregate, Bags, instances_of, of_draws, over_instances
from mvp.features.keystore import KeyStore
from mvp.features.reading import SegmentGoneError
from mvp.features.rows import StudyRows
from mvp.features.table import FeatureTable
from mvp.types import BoolArray, FloatArray, IntArray, TextArray

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
    def shape(self) -> tuple[int, ...]:
        """Shape of one draw of one instance; (0,) while nothing is stored."""
        shape = self._store.shape or (0,)
        return shape[1:] if self._draws > 1 else shape

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

    def let_go(self) -> None:
        """Take what was read of the store's files out of this process's memory."""
        self._store.let_go()

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

    def instances(self, rows: IntArray) -> IntArray:
        """(len(rows),) how many stored rows each study has."""
        return np.asarray(self._counts[rows])

    def bags(self, rows: IntArray, draws: IntArray | None = None) -> Bags:
        """All stored rows of these studies; see `Block`."""
        values, counts = self._again(lambda: self._instances(rows)), self._counts[rows]
        if self._draws == 1:
            return Bags(values, counts)
        drawn = values.reshape(len(values), self._draws, -1)
        return Bags(of_draws(drawn, None if draws is None else draws.repeat(counts)), counts)

    def _rows(self, rows: IntArray) -> FloatArray:
        """(len(rows), all stored numbers) float32."""
        return self._again(lambda: self._read(rows))

    def _again(self, read: Callable[[], FloatArray]) -> FloatArray:
        """What is read, at the second try where its segment was merged into another."""
        try:
            return read()
        except SegmentGoneError:
            # The rows stand in the other segment, with the same numbers.
            self._store.refresh(gone=True)
            self._places = self._store.places(self._ids)
            if (self._places < 0).any():
                raise StoreDamagedError(
                    "features were deleted while they were read",
                    view=self._store.key.view,
                    path=self._store.url,
                    remedy="run `mvp extract`, then this command again",
                ) from None
            return read()

    def _read(self, rows: IntArray) -> FloatArray:
        counts = self._counts[rows]
        out = np.empty((len(rows), self.width * self._draws), np.float32)
        if (counts == 1).all():
            return self._store.read_places(self._places[self._starts[rows]], out)
        present = counts > 0
        out[~present] = np.nan
        if present.any():
            values = self._instances(rows[present])
            out[present] = over_instances(values, counts[present], self._aggregate)
        return out

    def _instances(self, rows: IntArray) -> FloatArray:
        """(instance, all stored numbers) of these studies, one after the other."""
        every = instances_of(self._starts[rows], self._counts[rows])
        return self._store.read_places(self._places[every])


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
