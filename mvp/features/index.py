"""Where every row stands: a sorted index over the segments' row ids.

In memory it is 44 bytes a row; of many rows it is kept in a file, see `mvp.features.kept_index`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mvp.features.rows import ROW_ID_BYTES, RowIds
from mvp.features.sorted_keys import search
from mvp.files import DIGEST_BYTES
from mvp.types import BoolArray, IntArray

# 2^64 divided by the golden ratio: spreads the instances of one image over all numbers.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
# Rows that are sorted anew each time without anybody noticing.
_SMALL = 4096
# Rows whose index is held in memory; that of more is kept in a file where there is one.
IN_MEMORY = 250_000


def hashes(ids: RowIds) -> NDArray[np.uint64]:
    """(row,) what the index sorts by; different rows may share one, if hardly ever."""
    image = np.ascontiguousarray(ids[:, :8]).view("<u8").ravel()
    instance = np.ascontiguousarray(ids[:, DIGEST_BYTES:]).view(">u4").ravel()
    return image + instance.astype(np.uint64) * _SPREAD


class RowIndex:
    """Finds row ids. Of a row that stands twice the first place counts.

    Args:
        segments: for each segment its number, its row ids (row, 20) and which rows (row,) can be
            read.
    """

    def __init__(self, segments: Sequence[tuple[int, RowIds, BoolArray]]) -> None:
        ids = [rows[readable] for _, rows, readable in segments]
        places = [
            np.stack(
                [np.full(int(readable.sum()), number, np.int64), np.flatnonzero(readable)], axis=1
            )
            for number, _, readable in segments
        ]
        every = np.concatenate([np.empty((0, ROW_ID_BYTES), np.uint8), *ids])
        where = np.concatenate([np.empty((0, 2), np.int64), *places])
        keys = hashes(every)
        order = np.argsort(keys, kind="stable")
        self._hashes, self._ids, self._places = keys[order], every[order], where[order]
        # The first of several places answers, so the others can never be found: they are no rows.
        self._count = len(every) - self._repeated()

    def __len__(self) -> int:
        """Number of different rows."""
        return self._count

    @property
    def stored(self) -> int:
        """Number of places, of which a row may have several."""
        return len(self._ids)

    def find(self, ids: RowIds) -> IntArray:
        """(n, 2) segment number and row of each id (n, 20); -1 for one that is not there."""

        def agrees(numbers: IntArray, at: IntArray) -> BoolArray:
            return np.asarray((self._ids[at] == ids[numbers]).all(axis=1))

        at = search(self._hashes, hashes(ids), agrees)
        found = np.full((len(ids), 2), -1, np.int64)
        found[at >= 0] = self._places[at[at >= 0]]
        return found

    def ids(self) -> RowIds:
        """(row, 20) all row ids, each once, sorted."""
        return np.unique(self._ids, axis=0)

    def _repeated(self) -> int:
        if len(self._hashes) < 2 or not (self._hashes[1:] == self._hashes[:-1]).any():
            return 0
        return len(self._ids) - len(self.ids())


@dataclass(frozen=True, eq=False)
class IndexedRows:
    """The rows of one segment, as an index over several takes them.

    Attributes:
        number: of the segment, as places name it.
        name: of the segment, the same for every process.
        ids: (row, 20) row ids.
        state: which rows can be read, in a word that changes with them.
        readable: gives (row,) which rows can be read.
    """

    number: int
    name: str
    ids: RowIds
    state: str
    readable: Callable[[], BoolArray]


class Index(Protocol):
    """What `RowIndex` can do, wherever its rows are kept."""

    def __len__(self) -> int: ...

    @property
    def stored(self) -> int:
        """Number of places."""
        ...

    def find(self, ids: RowIds) -> IntArray:
        """(n, 2) where each row stands."""
        ...

    def ids(self) -> RowIds:
        """(row, 20) all rows, sorted."""
        ...


class KeptIndex(Protocol):
    """Where an index over many rows is kept outside of memory; see `mvp.features.kept_index`."""

    def load(self, segments: Sequence[IndexedRows]) -> tuple[Index, dict[int, str]] | None:
        """The index over some of these segments, and the states of those."""
        ...

    def build(self, segments: Sequence[IndexedRows]) -> Index | None:
        """Make one; None where it cannot be kept."""
        ...


class GrowingIndex:
    """An index in two parts, so that a study that is added does not cost sorting all others.

    Args:
        segments: all of them.
        before: the index before; its large part is used again while its segments are as they were.
        kept: where a large part is kept; without, it is in memory.
    """

    def __init__(
        self,
        segments: Sequence[IndexedRows],
        before: GrowingIndex | None = None,
        kept: KeptIndex | None = None,
    ) -> None:
        states = {segment.number: segment.state for segment in segments}
        self._base: Index = RowIndex([])
        self._in_base: dict[int, str] = {}
        if before is not None and before._in_base and before._in_base.items() <= states.items():
            self._base, self._in_base = before._base, before._in_base
        elif kept is not None and (found := kept.load(segments)) is not None:
            self._base, self._in_base = found
        rest = [segment for segment in segments if segment.number not in self._in_base]
        added = sum(len(segment.ids) for segment in rest)
        if added > max(_SMALL, min(self._base.stored // 4, IN_MEMORY)):
            total = sum(len(segment.ids) for segment in segments)
            large = kept.build(segments) if kept is not None and total > IN_MEMORY else None
            self._base = RowIndex(_in_memory(segments)) if large is None else large
            self._in_base, rest = states, []
        self._rest = RowIndex(_in_memory(rest))
        fresh = self._rest.ids()
        self._new = int((self._base.find(fresh)[:, 0] < 0).sum())

    def __len__(self) -> int:
        """Number of different rows."""
        return len(self._base) + self._new

    def find(self, ids: RowIds) -> IntArray:
        """As `RowIndex.find`."""
        found = self._base.find(ids)
        if self._rest.stored and len(missing := np.flatnonzero(found[:, 0] < 0)):
            found[missing] = self._rest.find(ids[missing])
        return found

    def ids(self) -> RowIds:
        """As `RowIndex.ids`."""
        if not self._rest.stored:
            return self._base.ids()
        return np.unique(np.concatenate([self._base.ids(), self._rest.ids()]), axis=0)


def _in_memory(segments: Sequence[IndexedRows]) -> list[tuple[int, RowIds, BoolArray]]:
    return [(segment.number, segment.ids, segment.readable()) for segment in segments]
