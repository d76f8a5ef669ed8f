"""What the files are: content digests, remembered so that no file is read twice without cause."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from os import stat_result
from pathlib import Path

from tqdm import tqdm

from mvp.data.ahead import work_ahead
from mvp.data.reading.decoding import examine
from mvp.data.reading.decoding_pool import pool
from mvp.data.reading.limits import Limits, check_file
from mvp.data.reading.readers import READER_VERSION
from mvp.data.reading.texts import TEXT_VERSION
from mvp.data.splits.near import LOOK_VERSION
from mvp.errors import DataError, ImageError

# A file changed within this time of its scan may change again without a new time stamp.
_RACE_NS = 2_000_000_000
# The versions are in the name: what another one decoded is not remembered.
_TABLE = f"files_reader_{READER_VERSION}_text_{TEXT_VERSION}_look_{LOOK_VERSION}"
_SCHEMA = f"""create table if not exists {_TABLE} (
    path text primary key, size integer, mtime_ns integer, ctime_ns integer, scanned_ns integer,
    digest text not null, pixels text, error text, shape text, bits integer, instances integer,
    look text
)"""
# What a kill may cost: so many decoded files, or so many seconds.
_BATCH_FILES, _BATCH_SECONDS = 1000, 10.0


@dataclass(frozen=True)
class FileRecord:
    """One file.

    Attributes:
        file: where it lies.
        digest: digest of its bytes; "" when it cannot be read at all.
        pixels: digest of its decoded pixels and of how the file says they are shown, or of its
            text, for every readable file; None for the others. A stack of one has the digest of
            its one image.
        error: why it cannot be used, or "".
        shape: of one instance, (H, W) or (H, W, 3), of a text (characters,); () where it could
            not be decoded.
        bits: of one sample as decoded, 8, 16 or 32; 0 where it could not be decoded.
        instances: images in it, 1 unless it is a volume; 0 where it could not be decoded.
        size: bytes.
        mtime_ns: when it was changed, nanoseconds since 1970.
        look: `mvp.data.splits.near.thumbnail` of its middle instance in hexadecimal; "" of a text,
            and where it could not be decoded.
    """

    file: str
    digest: str
    pixels: str | None
    error: str
    shape: tuple[int, ...] = ()
    bits: int = 0
    instances: int = 0
    size: int = 0
    mtime_ns: int = 0
    look: str = ""


# Size, time of change and time of change of status: the last one moves when a copy that keeps
# time stamps is laid over a file.
_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class _Remembered:
    stamp: _Stamp
    scanned_ns: int
    record: FileRecord

    def holds(self, stamp: _Stamp) -> bool:
        # A file that did not decode may do so now, with other limits or libraries.
        settled = self.stamp == stamp and self.scanned_ns - stamp[1] > _RACE_NS
        return settled and not self.record.error


def _stamp(status: stat_result) -> _Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Inventory:
    """Remembers, per file, size, modification time, digests and what is in it, in one SQLite file.

    Several processes may scan at a time.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def scan(
        self, files: Iterable[str], limits: Limits, *, workers: int = 2, progress: bool = False
    ) -> dict[str, FileRecord]:
        """A record for every file; unchanged ones are not read again, all others are decoded.

        What was found is stored while the scan goes on, and when it is broken off.

        Args:
            files: paths, in any number and order.
            limits: what one file may cost.
            workers: threads.
            progress: show a bar.

        Raises:
            DataError: the inventory cannot be used.
            MissingExtraError: the library that reads one of the files is not installed.
        """
        wanted = list(dict.fromkeys(files))
        remembered = self._remembered(wanted)
        records: dict[str, FileRecord] = {}
        fresh: list[_Remembered] = []

        def one(file: str) -> list[_Remembered]:
            return [_look(file, limits, remembered.get(file))]

        found = work_ahead(one, wanted, lambda _: 1, workers, 16 * max(1, workers))
        bar = tqdm(found, total=len(wanted), desc="files", unit="", disable=not progress)
        stored = time.monotonic()
        try:
            for file, seen in zip(wanted, bar, strict=True):
                records[file] = seen.record
                if seen.record.digest and seen is not remembered.get(file):
                    fresh.append(seen)
                late = time.monotonic() - stored > _BATCH_SECONDS
                if len(fresh) >= _BATCH_FILES or (fresh and late):
                    self._remember(fresh)
                    fresh, stored = [], time.monotonic()
        except KeyboardInterrupt:
            found.close()
            pool().close()  # or a file that hangs would be waited for
            raise
        finally:
            # Also when a missing library or an interrupt ends it: what is decoded is decoded.
            found.close()
            self._remember(fresh)
        return records

    def known(self, files: Sequence[str]) -> dict[str, FileRecord]:
        """What is remembered, without opening any file; one that changed since is left out."""
        known = {}
        for file, old in self._remembered(files).items():
            try:
                status = Path(file).stat()
            except OSError:
                known[file] = old.record  # the images may have been moved away since
                continue
            if old.stamp == _stamp(status):
                known[file] = old.record
        return known

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
                connection.execute(_SCHEMA)
                yield connection
        except sqlite3.Error as error:
            raise DataError(
                "the inventory of files cannot be used",
                path=self.path,
                cause=str(error),
                remedy="delete it; it is made anew",
            ) from None

    def _remembered(self, files: Sequence[str]) -> dict[str, _Remembered]:
        found = {}
        with self._connected() as connection:
            for start in range(0, len(files), 500):
                some = files[start : start + 500]
                marks = ",".join("?" * len(some))
                rows = connection.execute(
                    "select path, size, mtime_ns, ctime_ns, scanned_ns, digest, pixels, error, "
                    f"shape, bits, instances, look from {_TABLE} where path in ({marks})",
                    list(some),
                )
                for row in rows:
                    path, size, mtime, ctime, scanned, digest, pixels, error = row[:8]
                    wide, bits, instances, look = row[8:]
                    shape = tuple(int(side) for side in wide.split())
                    found[path] = _Remembered(
                        (size, mtime, ctime),
                        scanned,
                        FileRecord(
                            path, digest, pixels, error, shape, bits, instances, size, mtime, look
                        ),
                    )
        return found

    def _remember(self, rows: Sequence[_Remembered]) -> None:
        if not rows:
            return
        with self._connected() as connection:
            # The lock at once: a transaction that turns from reading to writing does not wait.
            connection.execute("begin immediate")
            connection.executemany(
                f"insert or replace into {_TABLE} values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(s.record.file, *s.stamp, s.scanned_ns, *_content(s.record)) for s in rows],
            )


def _content(record: FileRecord) -> tuple[str, str | None, str, str, int, int, str]:
    shape = " ".join(str(n) for n in record.shape)
    said = record.digest, record.pixels, record.error
    return *said, shape, record.bits, record.instances, record.look


def _look(file: str, limits: Limits, old: _Remembered | None) -> _Remembered:
    """What a file is: `old` itself where it still holds."""
    scanned = time.time_ns()
    try:
        stamp = _stamp(check_file(Path(file), limits))
    except ImageError as error:
        return _Remembered((0, 0, 0), scanned, FileRecord(file, "", None, plain(error)))
    if old is not None and old.holds(stamp):
        return old
    record = _examine(file, limits, stamp)
    # Bytes and pixels must be of one content: a file replaced in between would give the pixels
    # of one to the digest of the other.
    if not _stands(file, stamp):
        reason = "the file changed while it was being read; run it again"
        record = FileRecord(file, "", None, reason, size=stamp[0], mtime_ns=stamp[1])
    return _Remembered(stamp, scanned, record)


def _stands(file: str, stamp: _Stamp) -> bool:
    try:
        return _stamp(Path(file).stat()) == stamp
    except OSError:
        return False


def _examine(file: str, limits: Limits, stamp: _Stamp) -> FileRecord:
    size, mtime, _ = stamp
    found = examine(file, limits)
    return FileRecord(
        file,
        found.digest,
        found.pixels,
        "" if found.error is None else plain(found.error),
        found.shape,
        found.bits,
        found.instances,
        size,
        mtime,
        found.look,
    )


def plain(error: ImageError) -> str:
    """What happened and why, without the place: the row that holds it says where."""
    return error.what + (f": {error.cause}" if error.cause else "")
