"""Where every row stands: a sorted index over the segments' row ids, 44 bytes a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mvp.features.rows import ROW_ID_BYTES, RowIds
from mvp.files import DIGEST_BYTES
from mvp.types import BoolArray, IntArray

# 2^64 divided by the golden ratio: spreads the instances of one image over all numbers.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
# Rows that are sorted anew each time without anybody noticing.
_SMALL = 4096


def _hashes(ids: RowIds) -> NDArray[np.uint64]:
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
        hashes = _hashes(every)
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._ids, self._places = hashes[order], every[order], where[order]
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
        found = np.full((len(ids), 2), -1, np.int64)
        hashes = _hashes(ids)
        at = np.searchsorted(self._hashes, hashes)
        left = np.arange(len(ids))
        while len(left):
            # Different rows may share a hash: step on until the id itself agrees.
            left = left[at[left] < len(self._hashes)]
            left = left[self._hashes[at[left]] == hashes[left]]
            same = (self._ids[at[left]] == ids[left]).all(axis=1)
            found[left[same]] = self._places[at[left[same]]]
            left = left[~same]
            at[left] += 1
        return found

    def ids(self) -> RowIds:
        """(row, 20) all row ids, each once, sorted."""
        return np.unique(self._ids, axis=0)

    def _repeated(self) -> int:
        if len(self._hashes) < 2 or not (self._hashes[1:] == self._hashes[:-1]).any():
            return 0
        return len(self._ids) - len(self.ids())


class GrowingIndex:
    """A RowIndex in two parts, so that a study that is added does not cost sorting all others.

    Args:
        segments: as for `RowIndex`.
        before: the index before; its large part is used again while its segments are as they were.
    """

    def __init__(
        self, segments: Sequence[tuple[int, RowIds, BoolArray]], before: GrowingIndex | None
    ) -> None:
        readable = {number: mask for number, _, mask in segments}
        self._base, self._in_base = RowIndex([]), dict[int, BoolArray]()
        if before is not None and all(
            number in readable and np.array_equal(readable[number], mask)
            for number, mask in before._in_base.items()
        ):
            self._base, self._in_base = before._base, before._in_base
        rest = [segment for segment in segments if segment[0] not in self._in_base]
        added = sum(int(mask.sum()) for _, _, mask in rest)
        if added > max(_SMALL, self._base.stored // 4):
            self._base, self._in_base, rest = RowIndex(segments), readable, []
        self._rest = RowIndex(rest)
        fresh = self._rest.ids()
        self._new = int((self._base.find(fresh)[:, 0] < 0).sum())

    def __len__(self) -> int:
        """Number of different rows."""
        return len(self._base) + self._new

    def find(self, ids: RowIds) -> IntArray:
        """As `RowIndex.find`."""
        found = self._base.find(ids)
        missing = np.flatnonzero(found[:, 0] < 0)
        if len(missing) and self._rest.stored:
            found[missing] = self._rest.find(ids[missing])
        return found

    def ids(self) -> RowIds:
        """As `RowIndex.ids`."""
        if not self._rest.stored:
            return self._base.ids()
        return np.unique(np.concatenate([self._base.ids(), self._rest.ids()]), axis=0)
