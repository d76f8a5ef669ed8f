"""64-bit keys and the place of each in one sorted file, searched without holding it in memory.

    count keys, ascending, little-endian uint64
    count places, little-endian int64

Of one key in 4,096 memory keeps a copy; the others are read in runs when they are looked for.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mvp.types import BoolArray, IntArray

Keys = NDArray[np.uint64]
ENTRY_BYTES = 16
_FENCE = 4096
# Fences whose entries are read at a time, 32 MB, and gaps that are read over rather than skipped.
_MOST_FENCES, _GAP = 512, 4
# Entries that are sorted in memory at a time.
_SORTED = 1 << 21


class SortedKeys:
    """The keys in a file that `write_sorted` wrote; it is open until the object is gone.

    Args:
        path: the file.
        count: number of keys.
        offset: where they start in the file.
    """

    def __init__(self, path: Path, count: int, offset: int = 0) -> None:
        self._stream = path.open("rb", buffering=0)
        # Open for as long as anybody may look something up: the name may be gone by then.
        weakref.finalize(self, self._stream.close)
        self._count, self._offset = count, offset
        starts = range(0, count, _FENCE)
        self._fences = np.array([self._keys(at, at + 1)[0] for at in starts], np.uint64)

    def __len__(self) -> int:
        return self._count

    def find(self, keys: Keys, agrees: Callable[[IntArray, IntArray], BoolArray]) -> IntArray:
        """(n,) the first place of each key that is the one meant, -1 for none.

        Args:
            keys: (n,) those that are looked for.
            agrees: asked of numbers among `keys` (m,) and places (m,), for equal keys: (m,) which
                are meant.
        """
        found = np.full(len(keys), -1, np.int64)
        if not self._count or not len(keys):
            return found
        order = np.argsort(keys, kind="stable")
        wanted = keys[order]
        fences = np.maximum(np.searchsorted(self._fences, wanted, "left") - 1, 0)
        for start, stop in _runs(fences):
            first = int(fences[start]) * _FENCE
            last = min((int(fences[stop - 1]) + 1) * _FENCE + 1, self._count)
            self._among(first, last, order[start:stop], wanted[start:stop], agrees, found)
        return found

    def _among(
        self,
        first: int,
        last: int,
        numbers: IntArray,
        wanted: Keys,
        agrees: Callable[[IntArray, IntArray], BoolArray],
        found: IntArray,
    ) -> None:
        """Look for sorted keys among the entries from `first` to `last`, or as far as needed."""
        keys, places = self._keys(first, last), self._places(first, last)
        at = np.searchsorted(keys, wanted)
        left = np.arange(len(wanted))
        while len(left):
            if (at[left] >= len(keys)).any():
                if last == self._count:
                    left = left[at[left] < len(keys)]
                else:
                    # Many entries of one key, which end behind what was read.
                    more = min(last + _FENCE, self._count)
                    keys = np.concatenate([keys, self._keys(last, more)])
                    places = np.concatenate([places, self._places(last, more)])
                    last = more
                continue
            left = left[keys[at[left]] == wanted[left]]
            same = agrees(numbers[left], places[at[left]])
            found[numbers[left[same]]] = places[at[left[same]]]
            left = left[~same]
            at[left] += 1

    def _keys(self, first: int, last: int) -> Keys:
        return np.frombuffer(self._read(first, last, 0), "<u8").astype(np.uint64, copy=False)

    def _places(self, first: int, last: int) -> IntArray:
        data = self._read(first, last, 8 * self._count)
        return np.frombuffer(data, "<i8").astype(np.int64, copy=False)

    def _read(self, first: int, last: int, column: int) -> bytes:
        at, length = self._offset + column + 8 * first, 8 * (last - first)
        data = os.pread(self._stream.fileno(), length, at)
        while len(data) < length:
            if not (more := os.pread(self._stream.fileno(), length - len(data), at + len(data))):
                raise OSError("the file of sorted keys was cut while it was read")
            data += more
        return data


def search(
    ordered: Keys, wanted: Keys, agrees: Callable[[IntArray, IntArray], BoolArray]
) -> IntArray:
    """(n,) for each key wanted the first place in `ordered` that is the one meant, -1 for none.

    Args:
        ordered: (m,) keys, ascending, all in memory.
        wanted: (n,) those that are looked for.
        agrees: asked of numbers among `wanted` (k,) and places in `ordered` (k,), for equal keys:
            (k,) which are meant.
    """
    found = np.full(len(wanted), -1, np.int64)
    at, left = np.searchsorted(ordered, wanted), np.arange(len(wanted))
    while len(left):
        # Different things may share a key: step on until the one meant is there.
        left = left[at[left] < len(ordered)]
        left = left[ordered[at[left]] == wanted[left]]
        same = agrees(left, at[left])
        found[left[same]] = at[left[same]]
        left = left[~same]
        at[left] += 1
    return found


def write_sorted(
    stream: BinaryIO, count: int, entries: Callable[[], Iterator[tuple[Keys, IntArray]]]
) -> Iterator[tuple[Keys, IntArray]]:
    """Write keys and places sorted by key where a stream stands, some range of keys at a time.

    Entries of equal keys keep their order.

    Args:
        stream: can be sought and written.
        count: number of entries.
        entries: the entries in parts; asked once for every two million entries.

    Yields:
        What was written, range by range.
    """
    begin, written = stream.tell(), 0
    passes = max(1, -(-count // _SORTED))
    edges = [(1 << 64) * number // passes for number in range(passes + 1)]
    for low, high in pairwise(edges):
        taken = [_between(keys, places, low, high) for keys, places in entries()]
        keys = np.concatenate([keys for keys, _ in taken])
        places = np.concatenate([places for _, places in taken])
        order = np.argsort(keys, kind="stable")
        keys, places = keys[order], places[order]
        stream.seek(begin + 8 * written)
        stream.write(keys.astype("<u8").tobytes())
        stream.seek(begin + 8 * count + 8 * written)
        stream.write(places.astype("<i8").tobytes())
        written += len(keys)
        yield keys, places


def _between(keys: Keys, places: IntArray, low: int, high: int) -> tuple[Keys, IntArray]:
    inside = (keys >= np.uint64(low)) & (keys <= np.uint64(high - 1))
    return keys[inside], places[inside]


def _runs(fences: IntArray) -> Iterator[tuple[int, int]]:
    """Runs of neighbours among ascending numbers of fences, none of them too long to be read."""
    edges = [0, *(np.flatnonzero(np.diff(fences)) + 1).tolist(), len(fences)]
    start = 0
    for here, end in pairwise(edges[1:]):
        gap = int(fences[here]) - int(fences[here - 1])
        if gap > _GAP or int(fences[end - 1]) - int(fences[start]) >= _MOST_FENCES:
            yield start, here
            start = here
    yield start, len(fences)
