"""The features of one key: found by row id, read unit by unit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import numpy as np

from mvp.errors import StorageError, StoreDamagedError
from mvp.features.claims import LEASE_S, Claims
from mvp.features.golden import agree_with_golden
from mvp.features.index import GrowingIndex, IndexedRows
from mvp.features.kept_index import IndexFolder
from mvp.features.key import FeatureKey
from mvp.features.ledger import LedgerEntry
from mvp.features.reading import (
    AHEAD,
    WORTH_THREADS,
    SegmentGoneError,
    UnitReader,
    in_runs,
)
from mvp.features.rows import RowIds, pack, unpack
from mvp.features.segment import Segment
from mvp.features.shelf import Shelf
from mvp.features.storage import Storage
from mvp.types import BoolArray, FloatArray, IntArray


class KeyStore:
    """The features of one key.

    Args:
        storage: the store's.
        folder: the key's, in the storage.
        key: the key.
        lease_s: how long the claims of a process that cannot be asked are respected.
    """

    def __init__(
        self, storage: Storage, folder: str, key: FeatureKey, lease_s: float = LEASE_S
    ) -> None:
        self.storage, self.folder, self.key = storage, folder, key
        self.claims = Claims(storage, f"{folder}/claims", lease_s)
        self._reader = UnitReader()
        self._lock = threading.RLock()
        self._shelf = Shelf(storage, f"{folder}/segments")
        self._before: GrowingIndex | None = None
        self.refresh()

    @property
    def url(self) -> str:
        """Where it lies, for messages."""
        return f"{self.storage.url}/{self.folder}"

    @property
    def segments(self) -> list[Segment]:
        """The segments that rows are read from."""
        return [self._shelf.segments[number] for number in self._shelf.live]

    @property
    def shelf(self) -> Shelf:
        """All segments, with what is promised of them."""
        return self._shelf

    def refresh(self, *, gone: bool = False) -> None:
        """See what other processes have done since; `gone`: also what they have taken away."""
        with self._lock:
            self._shelf.refresh(gone=gone)
            self._before = self.__dict__.pop("_index", self._before)
            self.__dict__.pop("rejected", None)

    @cached_property
    def _index(self) -> GrowingIndex:
        shelf = self._shelf
        segments = [
            IndexedRows(
                number,
                shelf.segments[number].name,
                shelf.segments[number].ids,
                shelf.state(number),
                partial(shelf.readable, number),
            )
            for number in shelf.live
        ]
        kept = IndexFolder(self.storage, f"{self.folder}/index")
        return GrowingIndex(segments, self._before, kept)

    def __contains__(self, row: bytes) -> bool:
        return bool(self.has([row])[0])

    def __len__(self) -> int:
        """Number of rows that can be read."""
        return len(self._index)

    def has(self, rows: Sequence[bytes]) -> BoolArray:
        """(len(rows),) whether each row can be read."""
        return self.has_ids(pack(rows))

    def has_ids(self, ids: RowIds) -> BoolArray:
        """(n,) whether each row of (n, 20) can be read."""
        with self._lock:
            return np.asarray(self._index.find(ids)[:, 0] >= 0)

    def let_go(self) -> None:
        """Take the pages of units that were read out of memory; reading them again brings them."""
        self._reader.let_go()

    @property
    def ids(self) -> RowIds:
        """(row, 20) the row ids that can be read, sorted."""
        return self._index.ids()

    @property
    def rows(self) -> list[bytes]:
        """The same as bytes, one by one."""
        return unpack(self.ids)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of one row, None while there is none."""
        segments = self._shelf.segments
        return segments[0].shape if segments else None

    @property
    def width(self) -> int | None:
        """Numbers of one row, None while there is none."""
        return self._shelf.segments[0].layout.width if self._shelf.segments else None

    @cached_property
    def rejected(self) -> Mapping[bytes, str]:
        """Rows that were tried and could not be read, with the reason."""
        tried = self._shelf.rejected()
        stored = self.has(list(tried))
        return {row: tried[row] for row, there in zip(tried, stored, strict=True) if not there}

    @property
    def problems(self) -> list[StoreDamagedError]:
        """Damage that was met while looking: its rows cannot be found."""
        return self._shelf.problems

    def places(self, ids: RowIds) -> IntArray:
        """(n, 2) where each row id (n, 20) is stored, for `read_places`; -1 where it is not.

        Raises:
            StoreDamagedError: a row is not found, and part of the store cannot be read: nobody
                knows whether the row stood there.
        """
        with self._lock:  # or another thread might look again meanwhile
            places = self._index.find(ids)
            if self.problems and (places < 0).any():
                raise self.problems[0]
        return places

    def read(self, rows: Sequence[bytes]) -> FloatArray:
        """(len(rows), width) float32; every unit is read once.

        Raises:
            StoreDamagedError: a unit differs from its ledger entry.
            KeyError: a row is not stored.
        """
        ids = pack(rows)
        try:
            return self.read_places(self._found(ids))
        except SegmentGoneError:
            self.refresh(gone=True)
            return self.read_places(self._found(ids))

    def read_places(self, places: IntArray, out: FloatArray | None = None) -> FloatArray:
        """(n, width) float32 of rows by their `places` (n, 2); every unit is read once.

        Args:
            places: as `places` gives them.
            out: where to, instead of a new array.

        Raises:
            StoreDamagedError: a unit differs from its ledger entry.
            SegmentGoneError: a segment was merged into another; ask for the places anew.
        """
        if out is None:
            out = np.empty((len(places), self.width or 0), np.float32)
        target, units = out, list(_by_unit(places, self._shelf))

        def read(some: Sequence[tuple[int, int, slice | IntArray, IntArray]]) -> None:
            for number, unit, here, rows in some:
                self._reader.rows(*self._unit(number, unit), rows, here, target)

        if out.nbytes >= WORTH_THREADS:
            in_runs(read, units)
            return out
        for start in range(0, len(units), AHEAD):
            some = units[start : start + AHEAD]
            self._reader.fetch([self._unit(number, unit) for number, unit, _, _ in some])
            read(some)
        return out

    def _unit(self, number: int, unit: int) -> tuple[Segment, LedgerEntry]:
        return self._shelf.segments[number], self._shelf.entry(number, unit)

    def _found(self, ids: RowIds) -> IntArray:
        places = self.places(ids)
        if (places < 0).any():
            raise KeyError(ids[int(np.flatnonzero(places[:, 0] < 0)[0])].tobytes().hex())
        return places

    def count_damaged(self) -> int:
        """How many committed units are missing or of another length, without reading them all."""
        return self._shelf.count_damaged()

    def discard_damaged(self, *, deep: bool) -> int:
        """Forget what is not as the ledger says; it is recomputed whole.

        Args:
            deep: compare digests of all stored bytes, not only lengths.

        Returns:
            How many units were damaged; a segment whose plan is lost counts as one.
        """
        self._reader.forget()
        count = self._shelf.repair(self.claims, deep=deep)
        with suppress(StorageError):  # a place that can only be read is read
            self.claims.sweep(self._shelf.is_done)
        if count:
            self.refresh()
        return count

    def agree_with_golden(
        self,
        surroundings: Mapping[str, Any],
        compute: Callable[[], FloatArray],
        tolerance: float,
    ) -> bool:
        """Make sure that this machine gives the numbers of this key; see `mvp.features.golden`."""
        return agree_with_golden(
            self.storage,
            self.folder,
            self.key.view,
            surroundings,
            compute,
            tolerance,
            filled=bool(len(self)),
        )


def _by_unit(
    places: IntArray, shelf: Shelf
) -> Iterator[tuple[int, int, slice | IntArray, IntArray]]:
    """Segment number, unit, positions among `places` and rows within the unit, unit by unit."""
    if not len(places):
        return
    sizes = np.array([segment.layout.unit_rows for segment in shelf.segments], np.int64)
    units = places[:, 1] // sizes[places[:, 0]]
    rows = places[:, 1] - units * sizes[places[:, 0]]
    keys = (places[:, 0] << 40) | units
    ordered = bool((keys[1:] >= keys[:-1]).all())
    order = None if ordered else np.argsort(keys, kind="stable")
    grouped = keys if order is None else keys[order]
    edges = np.flatnonzero(grouped[1:] != grouped[:-1]) + 1
    for start, stop in zip([0, *edges], [*edges, len(keys)], strict=True):
        here = slice(start, stop) if order is None else order[start:stop]
        first = start if order is None else order[start]
        yield int(places[first, 0]), int(units[first]), here, rows[here]
