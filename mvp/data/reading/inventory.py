"""What the files are: content digests, remembered so that no file is read twice without cause."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from mvp.data.ahead import run_ahead, work_ahead
from mvp.data.reading.decoding import Content, Decoded, examine, examine_and_decode
from mvp.data.reading.decoding_pool import Errand, pool
from mvp.data.reading.limits import Limits, check_file
from mvp.data.reading.readers import READER_VERSION
from mvp.data.reading.records import FileRecord, Remembered, plain, stamp_of, stands
from mvp.data.reading.texts import TEXT_VERSION
from mvp.data.splits.near import LOOK_VERSION
from mvp.errors import DataError, ImageError

__all__ = ["FileRecord", "Inventory", "plain"]

Prepared = TypeVar("Prepared")

# The versions are in the name: what another one decoded is not remembered.
_TABLE = f"files_reader_{READER_VERSION}_text_{TEXT_VERSION}_look_{LOOK_VERSION}"
_SCHEMA = f"""create table if not exists {_TABLE} (
    path text primary key, size integer, mtime_ns integer, ctime_ns integer, scanned_ns integer,
    digest text not null, pixels text, error text, shape text, bits integer, instances integer,
    look text
)"""
# What a kill may cost: so many decoded files, or so many seconds.
_BATCH_FILES, _BATCH_SECONDS = 1000, 10.0


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

        def one(file: str) -> list[tuple[Remembered, None]]:
            def found() -> tuple[Content, None]:
                return examine(file, limits), None

            return [_look(file, limits, remembered.get(file), found)]

        found = work_ahead(one, wanted, lambda _: 1, workers, 16 * max(1, workers))
        records: dict[str, FileRecord] = {}
        try:
            for record, _ in self._storing(wanted, remembered, found, progress):
                records[record.file] = record
        except KeyboardInterrupt:
            found.close()
            pool().close()  # or a file that hangs would be waited for
            raise
        return records

    def stream(
        self,
        files: Iterable[str],
        limits: Limits,
        *,
        workers: int,
        ahead: int,
        prepare: Callable[[Decoded], Prepared],
        most: int = 64,
        progress: bool = False,
    ) -> Generator[tuple[FileRecord, Prepared | None], None, None]:
        """The records that `scan` gives, one by one, each file's pixels prepared where it is read.

        A file that has to be read is decoded once, for its record and for whoever needs its
        pixels. What was found is stored while the stream is taken from, and when it is closed.

        Args:
            files: paths; each comes once, in the order in which they are first named.
            limits: what one file may cost.
            workers: threads; what is yielded does not depend on their number.
            ahead: while so many instances lie prepared and were not asked for, no further file is
                begun. One that is under way may still add up to `most`.
            prepare: called in a worker's thread with all instances of a file whose record is
                made and holds; what it returns is handed on. Its ImageError leaves the record as
                it is; any other error ends the stream.
            most: a file of more instances is recorded only.
            progress: show a bar.

        Yields:
            The record, and what `prepare` made; None for a file that was remembered and is
            unchanged (it is not opened), that cannot be used, is a text, holds more than `most`
            instances, or could not be prepared.

        Raises:
            DataError: the inventory cannot be used.
            MissingExtraError: the library that reads one of the files is not installed.
        """
        wanted = list(dict.fromkeys(files))
        remembered = self._remembered(wanted)
        errand = Errand()

        def one(file: str) -> tuple[Remembered, Prepared | None]:
            def found() -> tuple[Content, Decoded | None]:
                return examine_and_decode(file, limits, most=most, errand=errand)

            seen, decoded = _look(file, limits, remembered.get(file), found)
            if decoded is None:
                return seen, None
            try:
                return seen, prepare(decoded)
            except ImageError:
                return seen, None

        def weight(result: tuple[Remembered, Prepared | None]) -> int:
            seen, prepared = result
            return 1 if prepared is None else seen.record.instances

        found = run_ahead(one, wanted, weight, workers, ahead)
        try:
            yield from self._storing(wanted, remembered, found, progress)
        finally:
            pool().end(errand)  # what is still being decoded is for nobody

    def known(self, files: Sequence[str]) -> dict[str, FileRecord]:
        """What is remembered, without opening any file; one that changed since is left out."""
        known = {}
        for file, old in self._remembered(files).items():
            try:
                status = Path(file).stat()
            except OSError:
                known[file] = old.record  # the images may have been moved away since
                continue
            if old.stamp == stamp_of(status):
                known[file] = old.record
        return known

    def _storing(
        self,
        wanted: Sequence[str],
        remembered: dict[str, Remembered],
        found: Generator[tuple[Remembered, Prepared | None], None, None],
        progress: bool,
    ) -> Iterator[tuple[FileRecord, Prepared | None]]:
        """Hand on what is found, and store what is new of it."""
        fresh: list[Remembered] = []
        bar = tqdm(found, total=len(wanted), desc="files", unit="", disable=not progress)
        stored = time.monotonic()
        try:
            for file, (seen, prepared) in zip(wanted, bar, strict=True):
                if seen.record.digest and seen is not remembered.get(file):
                    fresh.append(seen)
                yield seen.record, prepared
                del prepared
                late = time.monotonic() - stored > _BATCH_SECONDS
                if len(fresh) >= _BATCH_FILES or (fresh and late):
                    self._remember(fresh)
                    fresh, stored = [], time.monotonic()
        finally:
            # Also when a missing library or an interrupt ends it: what is decoded is decoded.
            found.close()
            self._remember(fresh)

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

    def _remembered(self, files: Sequence[str]) -> dict[str, Remembered]:
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
                    found[path] = Remembered(
                        (size, mtime, ctime),
                        scanned,
                        FileRecord(
                            path, digest, pixels, error, shape, bits, instances, size, mtime, look
                        ),
                    )
        return found

    def _remember(self, rows: Sequence[Remembered]) -> None:
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


_Pixels = TypeVar("_Pixels")


def _look(
    file: str,
    limits: Limits,
    old: Remembered | None,
    find: Callable[[], tuple[Content, _Pixels | None]],
) -> tuple[Remembered, _Pixels | None]:
    """What a file is, `old` itself where it still holds; and the pixels that `find` found."""
    scanned = time.time_ns()
    try:
        stamp = stamp_of(check_file(Path(file), limits))
    except ImageError as error:
        return Remembered((0, 0, 0), scanned, FileRecord(file, "", None, plain(error))), None
    if old is not None and old.holds(stamp):
        return old, None
    size, mtime, _ = stamp
    content, pixels = find()
    # Bytes and pixels must be of one content: a file replaced in between would give the pixels
    # of one to the digest of the other.
    if not stands(file, stamp):
        reason = "the file changed while it was being read; run it again"
        record = FileRecord(file, "", None, reason, size=size, mtime_ns=mtime)
        return Remembered(stamp, scanned, record), None
    record = FileRecord(
        file,
        content.digest,
        content.pixels,
        "" if content.error is None else plain(content.error),
        content.shape,
        content.bits,
        content.instances,
        size,
        mtime,
        content.look,
    )
    return Remembered(stamp, scanned, record), pixels
