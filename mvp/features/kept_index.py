"""The index over many rows, kept beside the features: derived, checked, and made anew at need.

    <key>/index/NAME.keys   hashes of the row ids, sorted, and where each row stands
    <key>/index/NAME.json   which segments it is of, in what state, and the digest of the other

NAME follows from the segments and their states. An index that is damaged, or of segments that have
changed since, is none: it is built again. Whatever it finds is held against the segment's own row
ids, so a wrong index can lose a row, which its digest shows, and never give another's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from mvp.errors import StorageError
from mvp.features import documents
from mvp.features.index import Index, IndexedRows, hashes
from mvp.features.mapped import blocks, is_whole, take
from mvp.features.rows import ROW_ID_BYTES, RowIds
from mvp.features.sorted_keys import ENTRY_BYTES, Keys, SortedKeys, write_sorted
from mvp.features.storage import Storage
from mvp.files import digest_file, digest_json, replacing
from mvp.types import BoolArray, IntArray

FORMAT = 1
# A place is the number of its segment in the index and the row in it.
_ROW_BITS = 40
_BLOCK = 1 << 18


class FileIndex:
    """A `RowIndex` in a file.

    Args:
        keys: hashes and places.
        segments: those that it is of, in its order.
        rows: how many different rows there are.
    """

    def __init__(self, keys: SortedKeys, segments: Sequence[IndexedRows], rows: int) -> None:
        self._keys, self._segments, self._count = keys, segments, rows
        self._numbers = np.array([segment.number for segment in segments], np.int64)

    def __len__(self) -> int:
        """Number of different rows."""
        return self._count

    @property
    def stored(self) -> int:
        """Number of places, of which a row may have several."""
        return len(self._keys)

    def find(self, ids: RowIds) -> IntArray:
        """As `RowIndex.find`."""

        def agrees(numbers: IntArray, places: IntArray) -> BoolArray:
            return np.asarray((_ids_at(self._segments, places) == ids[numbers]).all(axis=1))

        places = self._keys.find(hashes(ids), agrees)
        found = np.stack([places >> _ROW_BITS, places & ((1 << _ROW_BITS) - 1)], axis=1)
        found[:, 0] = self._numbers[found[:, 0]]
        found[places < 0] = -1
        return found

    def ids(self) -> RowIds:
        """As `RowIndex.ids`."""
        every = [segment.ids[segment.readable()] for segment in self._segments]
        return np.unique(np.concatenate([np.empty((0, ROW_ID_BYTES), np.uint8), *every]), axis=0)


class IndexFolder:
    """Where the indices of a key are kept; nothing is, in a store that has no files.

    Args:
        storage: the store's.
        folder: of the indices.
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage, self._folder = storage, folder

    def load(self, segments: Sequence[IndexedRows]) -> tuple[Index, dict[int, str]] | None:
        """The index over most of these segments and the states of those; None without any."""
        here = {segment.name: segment for segment in segments}
        best: tuple[Index, dict[int, str]] | None = None
        if self._file("") is None:
            return None
        with suppress(StorageError, OSError):
            for name in self._storage.names(self._folder):
                found = self._load(name, here) if name.endswith(".json") else None
                if found is not None and (best is None or found[0].stored > best[0].stored):
                    best = found
        return best

    def build(self, segments: Sequence[IndexedRows]) -> Index | None:
        """Make the index over some segments and take its forerunners away.

        Returns:
            None where it cannot be written: what is derived needs no place.
        """
        name = digest_json([FORMAT, _states(segments)])[:16]
        path = self._file(f"{name}.keys")
        if path is None:
            return None
        masks = [segment.readable() for segment in segments]
        count, repeated = sum(int(mask.sum()) for mask in masks), 0
        try:
            with replacing(path) as partial:
                with partial.open("r+b") as stream:
                    parts = write_sorted(stream, count, lambda: _entries(segments, masks))
                    repeated = sum(_repeated(segments, *part) for part in parts)
                digest = digest_file(partial)
            says = {
                "format": FORMAT,
                "segments": _states(segments),
                "entries": count,
                "rows": count - repeated,
                "digest": digest,
            }
            # Nobody shall meet an index before its file, nor one that a repair has replaced.
            self._storage.delete(f"{self._folder}/{name}.json")
            self._storage.create(f"{self._folder}/{name}.json", documents.dump(says))
            for other in self._storage.names(self._folder):
                if other.rpartition(".")[0] != name:
                    self._storage.delete(f"{self._folder}/{other}")
            return FileIndex(SortedKeys(path, count), list(segments), count - repeated)
        except (OSError, StorageError):
            return None

    def _load(
        self, name: str, here: dict[str, IndexedRows]
    ) -> tuple[FileIndex, dict[int, str]] | None:
        try:
            says = documents.load(self._storage.read(f"{self._folder}/{name}"))
            path = self._file(f"{name.removesuffix('.json')}.keys")
            segments = [here[segment] for segment, _ in says["segments"]]
            if says["format"] != FORMAT or _states(segments) != says["segments"] or path is None:
                return None
            entries, rows, digest = int(says["entries"]), int(says["rows"]), str(says["digest"])
            if path.stat().st_size != ENTRY_BYTES * entries or not is_whole(path, digest):
                return None
            index = FileIndex(SortedKeys(path, entries), segments, rows)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return index, {segment.number: segment.state for segment in segments}

    def _file(self, name: str) -> Path | None:
        return self._storage.local(f"{self._folder}/{name}")


def _states(segments: Sequence[IndexedRows]) -> list[list[str]]:
    return [[segment.name, segment.state] for segment in segments]


def _entries(
    segments: Sequence[IndexedRows], masks: Sequence[BoolArray]
) -> Iterator[tuple[Keys, IntArray]]:
    for number, (segment, mask) in enumerate(zip(segments, masks, strict=True)):
        start = 0
        for ids in blocks(segment.ids, _BLOCK):
            rows = np.flatnonzero(mask[start : start + len(ids)])
            yield hashes(ids)[rows], rows + start + (number << _ROW_BITS)
            start += len(ids)


def _repeated(segments: Sequence[IndexedRows], keys: Keys, places: IntArray) -> int:
    """How many of some entries are rows that stand before."""
    again = np.flatnonzero(keys[1:] == keys[:-1])
    if not len(again):
        return 0
    same = np.union1d(again, again + 1)
    return len(same) - len(np.unique(_ids_at(segments, places[same]), axis=0))


def _ids_at(segments: Sequence[IndexedRows], places: IntArray) -> RowIds:
    """(n, 20) the row ids at some places."""
    out = np.empty((len(places), ROW_ID_BYTES), np.uint8)
    owners, rows = places >> _ROW_BITS, places & ((1 << _ROW_BITS) - 1)
    for owner in np.unique(owners):
        mine = np.flatnonzero(owners == owner)
        out[mine] = take(segments[int(owner)].ids, rows[mine])
    return out
