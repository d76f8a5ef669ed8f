"""Rows out of stored units: mapped into memory where a unit lies in an uncompressed file.

A unit's checksum is compared whenever its bytes are fetched: once for a file that is mapped, as
long as the file stays the same, and every time for one that is read. Then single rows can be
taken at the price of the rows.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mvp.errors import StorageError
from mvp.features.casting import finite_rows, widen
from mvp.features.layout import CRC_BYTES
from mvp.features.ledger import LedgerEntry
from mvp.features.mapped import let_go, open_files
from mvp.features.segment import Segment
from mvp.types import FloatArray, IntArray

# Open mappings cost a file handle each, of which a process has a limited number.
_SHARE, _MOST_MAPPED = 2, 8192
# Units that cannot be mapped are kept decoded, so that small batches do not fetch them each time.
_DECODED_BYTES = 256 << 20
# Units that are fetched before the first of them is used; few enough to be kept, all of them.
AHEAD = 16
# Fetching waits for a disk or a network most of the time.
_READERS = 8
WORTH_THREADS = 64 << 20

Item = TypeVar("Item")


class SegmentGoneError(StorageError):
    """A segment was merged or collected since the reader looked; looking again finds its rows."""

    def __init__(self, segment: Segment) -> None:
        super().__init__(
            f"feature segment {segment.name} was taken away while it was read",
            path=f"{segment.storage.url}/{segment.folder}",
            remedy="run the same command again",
        )


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_READERS, thread_name_prefix="mvp-read")


def in_runs(read: Callable[[Sequence[Item]], None], items: Sequence[Item]) -> None:
    """Read items in as many threads as there are processors, each a run of neighbours.

    One thread does not fill the memory bus when it copies unit by unit.
    """
    threads = max(1, min(os.cpu_count() or 1, _READERS, len(items)))
    edges = [len(items) * i // threads for i in range(threads + 1)]
    runs = [items[a:b] for a, b in pairwise(edges)]
    waiting = [_threads().submit(read, run) for run in runs]
    for future in waiting:
        future.exception()  # all end before what they write into can be let go
    for future in waiting:
        future.result()


class UnitReader:
    """Reads rows of committed units, and remembers what it has seen to be whole."""

    def __init__(self) -> None:
        self._mapped: OrderedDict[str, NDArray[Any]] = OrderedDict()
        self._decoded: OrderedDict[str, NDArray[Any]] = OrderedDict()
        self._touched: dict[str, NDArray[Any]] = {}
        self._whole: dict[str, tuple[int, int, int]] = {}
        self._lock = threading.Lock()
        self._scratch = threading.local()

    def rows(
        self,
        segment: Segment,
        entry: LedgerEntry,
        wanted: IntArray,
        here: slice | IntArray,
        out: FloatArray,
    ) -> None:
        """Put rows of a unit where they belong in `out`.

        Args:
            segment: the unit's.
            entry: what was promised of the unit.
            wanted: (n,) numbers of rows within the unit.
            here: which n rows of `out` they are.
            out: (row, width) float32.

        Raises:
            StoreDamagedError: the unit is not what its ledger entry says.
            SegmentGoneError: its segment is no longer published.
        """
        if not len(wanted):
            return
        unit = self.unit(segment, entry)
        flat = unit.reshape(len(unit), -1)
        run = wanted[-1] - wanted[0] == len(wanted) - 1 and (wanted[1:] > wanted[:-1]).all()
        # The unit was found finite, but for rows that were rejected.
        if isinstance(here, slice) and flat.dtype == np.float16 and not entry.rejected:
            widen(flat[wanted[0] : wanted[-1] + 1] if run else flat[wanted], out[here])
        elif run:
            out[here] = flat[wanted[0] : wanted[-1] + 1]
        elif isinstance(here, slice) and flat.dtype == out.dtype:
            # The rows were found in an index, so none is out of bounds; "raise" would copy twice.
            np.take(flat, wanted, axis=0, out=out[here], mode="clip")
        else:
            out[here] = flat[wanted]

    def fetch(self, units: Sequence[tuple[Segment, LedgerEntry]]) -> None:
        """Fetch and check those units that are not at hand, several at a time.

        What is wrong with one is told when its rows are asked for.
        """
        names = [_name(*unit) for unit in units]
        with self._lock:
            missing = [
                unit
                for unit, name in zip(units, names, strict=True)
                if name not in self._mapped and name not in self._decoded
            ]
        # No more than are kept, or the first would be gone before it is asked for.
        largest = max((segment.layout.unit_bytes for segment, _ in missing), default=1)
        missing = missing[: max(1, _DECODED_BYTES // largest)]
        if len(missing) > 1:
            for future in [_threads().submit(self.unit, *unit) for unit in missing]:
                future.exception()

    def unit(self, segment: Segment, entry: LedgerEntry) -> NDArray[Any]:
        """(row, ...) of the stored type, read-only; rejected rows are NaN."""
        name = segment.chunk(entry.unit)
        path = segment.storage.local(name)
        if path is not None and segment.layout.compression == "none":
            kept, most = self._mapped, open_files(_SHARE, _MOST_MAPPED)
        else:
            kept, most = self._decoded, max(1, _DECODED_BYTES // segment.layout.unit_bytes)
        made = _name(segment, entry)
        with self._lock:
            if (values := kept.get(made)) is not None:
                kept.move_to_end(made)
                if kept is self._mapped:
                    self._touched[made] = values
                return values
        mapped = path if kept is self._mapped else None
        values = self._checked(segment, entry, lambda: self._fetch(segment, entry, mapped))
        with self._lock:
            kept[made] = values
            if kept is self._mapped:
                self._touched[made] = values
            while len(kept) > most:
                gone, _ = kept.popitem(last=False)
                self._touched.pop(gone, None)
        return values

    def let_go(self) -> None:
        """Take the pages of mapped units out of this process: touched, they count as its memory."""
        with self._lock:
            touched, self._touched = self._touched, {}
        for values in touched.values():
            let_go(values)

    def forget(self) -> None:
        """Let go of everything kept, so that damage is seen anew."""
        with self._lock:
            self._mapped.clear()
            self._touched.clear()
            self._decoded.clear()
            self._whole.clear()

    def _fetch(self, segment: Segment, entry: LedgerEntry, path: Path | None) -> NDArray[Any]:
        name, layout = segment.chunk(entry.unit), segment.layout
        rows = layout.unit_slice(entry.unit)
        if path is None:
            values = layout.decode(_whole_read(segment, entry), entry.check)
            values = values[: rows.stop - rows.start]
            _require_finite(values, entry)
            return values
        with path.open("rb", buffering=0) as stream:
            status = os.fstat(stream.fileno())
            _require_length(status.st_size, entry)
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._whole.get(name) != stamp:
                # Read, not mapped: a disk that fails is an error here, and a killed process there.
                values = layout.decode(self._read(stream.fileno(), entry.length), entry.check)
                _require_finite(values[: rows.stop - rows.start], entry)
                self._whole[name] = stamp
            raw = np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        body = raw[:-CRC_BYTES].view(layout.stored)
        return body.reshape(layout.unit_rows, *layout.shape)[: rows.stop - rows.start]

    def _read(self, handle: int, length: int) -> NDArray[np.uint8]:
        """A file's bytes, in memory that is used again: new pages cost more than the reading."""
        scratch = getattr(self._scratch, "data", None)
        if scratch is None or len(scratch) < length:
            scratch = self._scratch.data = np.empty(length, np.uint8)
        done = 0
        while done < length:
            count = os.readv(handle, [scratch[done:length].data])
            if not count:
                raise ValueError("it ends early")
            done += count
        return scratch[:length]

    def _checked(
        self, segment: Segment, entry: LedgerEntry, fetch: Callable[[], NDArray[Any]]
    ) -> NDArray[Any]:
        try:
            return fetch()
        except FileNotFoundError:
            if segment.storage.size(f"{segment.folder}/segment.json") is None:
                raise SegmentGoneError(segment) from None
            wrong = "its stored object is missing"
        except StorageError:
            raise
        except OSError as error:
            wrong = f"its stored object cannot be read ({error.strerror})"
        except Exception as error:  # noqa: BLE001 - codecs raise anything
            wrong = str(error) or type(error).__name__
        raise segment.damaged(entry.unit, wrong)


def _name(segment: Segment, entry: LedgerEntry) -> str:
    # With the digest: a unit that was computed again may hold a row that was rejected before.
    return f"{segment.chunk(entry.unit)} {entry.digest}"


def _whole_read(segment: Segment, entry: LedgerEntry) -> bytes:
    name = segment.chunk(entry.unit)
    data = segment.storage.read(name)
    if len(data) != entry.length and segment.storage.size(name) == entry.length:
        data = segment.storage.read(name)  # an answer that was cut short is not damage
        if len(data) != entry.length:
            raise StorageError(
                "an answer of the feature store was cut short twice",
                path=f"{segment.storage.url}/{name}",
                remedy="mend the network and run the same command again",
            )
    _require_length(len(data), entry)
    return data


def _require_length(length: int, entry: LedgerEntry) -> None:
    if length != entry.length:
        raise ValueError(f"its stored object has {length} bytes, not {entry.length}")


def _require_finite(values: NDArray[Any], entry: LedgerEntry) -> None:
    finite = finite_rows(values)
    if not finite.all():
        finite[list(entry.rejected)] = True
        if not finite.all():
            raise ValueError("it holds values that are not finite")
