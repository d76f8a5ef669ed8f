"""Which study has which row, for any number of studies: in a file, not in memory.

A file holds for each study, in the order in which they were imported, the digest of its id and the
digest of its row, 32 bytes; then the sorted keys of the former (`mvp.features.sorted_keys`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mvp.features import StudyRows
from mvp.features.mapped import is_whole, let_go, take
from mvp.features.rows import ROW_ID_BYTES
from mvp.features.sorted_keys import ENTRY_BYTES, Keys, SortedKeys, search, write_sorted
from mvp.files import DIGEST_BYTES, digest_file, replacing
from mvp.types import BoolArray, IntArray

Digests = NDArray[np.uint8]
_RECORD = 2 * DIGEST_BYTES


class StudyMap:
    """For some studies the digest of the row of each.

    Args:
        records: (study, 32) digest of the id and digest of the row, every id once.
        keys: of the records, where they are in a file; without, they are sorted here.
    """

    def __init__(self, records: Digests, keys: SortedKeys | None = None) -> None:
        self._records, self._keys = records, keys
        if keys is None:
            found = _keys(records)
            self._order = np.argsort(found, kind="stable")
            self._sorted = found[self._order]

    @classmethod
    def of(cls, studies: Iterable[str], digests: Sequence[str]) -> StudyMap:
        """From ids and the digests (hex) of their rows."""
        rows = np.frombuffer(bytes.fromhex("".join(digests)), np.uint8)
        return cls(np.hstack([study_digests(studies), rows.reshape(-1, DIGEST_BYTES)]))

    @classmethod
    def read(cls, path: Path, count: int, digest: str) -> StudyMap:
        """The map in a file that `write` wrote.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: it is not of this length and digest.
        """
        length = path.stat().st_size
        if length != count * (_RECORD + ENTRY_BYTES) or not is_whole(path, digest):
            raise ValueError("the file is not the one that was written")
        records = np.memmap(path, np.uint8, "r", 0, (count, _RECORD))
        return cls(records, SortedKeys(path, count, count * _RECORD))

    def write(self, path: Path) -> str:
        """Publish the map as a file, whole, and give its digest."""
        records = self._records
        with replacing(path) as partial:
            with partial.open("r+b") as stream:
                stream.write(np.ascontiguousarray(records).tobytes())
                places = np.arange(len(records), dtype=np.int64)
                for _ in write_sorted(
                    stream, len(records), lambda: iter([(_keys(records), places)])
                ):
                    pass
            return digest_file(partial)

    def __len__(self) -> int:
        return len(self._records)

    def find(self, studies: Iterable[str]) -> IntArray:
        """(n,) the number of each study's record, -1 for none."""
        return self.find_digests(study_digests(studies))

    def find_digests(self, wanted: Digests) -> IntArray:
        """(n,) the number of the record of each digest of an id (n, 16), -1 for none."""
        keys = _keys(wanted)

        def agrees(numbers: IntArray, places: IntArray) -> BoolArray:
            mine = take(self._records, places)[:, :DIGEST_BYTES]
            return np.asarray((mine == wanted[numbers]).all(axis=1))

        if self._keys is not None:
            return self._keys.find(keys, agrees)
        found = search(self._sorted, keys, lambda n, at: agrees(n, self._order[at]))
        found[found >= 0] = self._order[found[found >= 0]]
        return found

    def digests(self, numbers: IntArray) -> Digests:
        """(n, 16) the digests of the rows of some records."""
        return take(self._records, numbers)[:, DIGEST_BYTES:]

    def rows(self, studies: Iterable[str]) -> StudyRows:
        """The row ids of some studies; none where a study is not in the map."""
        found = self.find(studies)
        numbers = found[found >= 0]
        ids = np.zeros((len(numbers), ROW_ID_BYTES), np.uint8)
        ids[:, :DIGEST_BYTES] = self.digests(numbers)
        return StudyRows(ids, (found >= 0).astype(np.int64))

    def every(self) -> StudyRows:
        """The row ids of all studies, in their order."""
        ids = np.zeros((len(self), ROW_ID_BYTES), np.uint8)
        ids[:, :DIGEST_BYTES] = self._records[:, DIGEST_BYTES:]
        let_go(self._records)
        return StudyRows(ids, np.ones(len(self), np.int64))

    def updated(self, newer: StudyMap) -> StudyMap:
        """The map with the records of another added, or put in the place of its own."""
        records = np.array(self._records)
        let_go(self._records)
        found = newer.find_digests(records[:, :DIGEST_BYTES])
        mine = np.flatnonzero(found >= 0)
        records[mine] = newer._records[found[mine]]
        fresh = np.setdiff1d(np.arange(len(newer)), found[mine])
        return StudyMap(np.vstack([records, newer._records[fresh]]))


def study_digests(studies: Iterable[str]) -> Digests:
    """(study, 16) digests of ids."""
    empty = hashlib.blake2b(digest_size=DIGEST_BYTES)
    made = []
    for study in studies:
        state = empty.copy()  # half the time of a new one
        state.update(study.encode("utf-8", "surrogatepass"))
        made.append(state.digest())
    return np.frombuffer(b"".join(made), np.uint8).reshape(-1, DIGEST_BYTES)


def _keys(digests: Digests) -> Keys:
    return np.ascontiguousarray(digests[:, :8]).view("<u8").ravel().astype(np.uint64, copy=False)
