"""What the files are: content digests, remembered so that no file is read twice without cause."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from os import stat_result
from pathlib import Path

from tqdm import tqdm

from mvp.data.readers import READER_VERSION, Limits, check_file, read_image
from mvp.errors import DataError, ImageError
from mvp.files import digest_bytes, digest_file

# A file changed within this time of its scan may change again without a new time stamp.
_RACE_NS = 2_000_000_000
# The reader's version is in the name: what another version decoded is not remembered.
_TABLE = f"files_reader_{READER_VERSION}"
_SCHEMA = f"""create table if not exists {_TABLE} (
    path text primary key, size integer, mtime_ns integer, ctime_ns integer, scanned_ns integer,
    digest text not null, pixels text, error text
)"""


@dataclass(frozen=True)
class FileRecord:
    """One file.

    Attributes:
        file: where it lies.
        digest: digest of its bytes; "" when it cannot be read at all.
        pixels: digest of its decoded pixels; None when it was never decoded here.
        error: why it cannot be used, or "".
    """

    file: str
    digest: str
    pixels: str | None
    error: str


# Size, time of change and time of change of status: the last one moves when a copy that keeps
# time stamps is laid over a file.
_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class _Remembered:
    stamp: _Stamp
    scanned_ns: int
    record: FileRecord

    def holds(self, stamp: _Stamp, decode: bool) -> bool:
        unchanged = self.stamp == stamp and self.scanned_ns - stamp[1] > _RACE_NS
        # A file that did not decode may do so now, with other limits or libraries.
        enough = not decode or (self.record.pixels and not self.record.error)
        return unchanged and bool(enough)


def _stamp(status: stat_result) -> _Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Inventory:
    """Remembers, per file, size, modification time and digests, in one SQLite file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def scan(
        self,
        files: Iterable[str],
        limits: Limits,
        *,
        decode: bool = False,
        workers: int = 2,
        progress: bool = False,
    ) -> dict[str, FileRecord]:
        """A record for every file; unchanged ones are not read again.

        Args:
            files: paths, in any number and order.
            limits: what one file may cost.
            decode: also decode the pixels, which finds damaged files.
            workers: threads.
            progress: show a bar.
        """
        wanted = list(dict.fromkeys(files))
        remembered = self._remembered(wanted)
        records: dict[str, FileRecord] = {}
        changed: list[tuple[str, _Stamp, int, FileRecord]] = []

        def one(file: str) -> tuple[FileRecord, tuple[_Stamp, int] | None]:
            try:
                status = check_file(Path(file), limits)
            except ImageError as error:
                return FileRecord(file, "", None, plain(error)), None
            old = remembered.get(file)
            if old is not None and old.holds(_stamp(status), decode):
                return old.record, None
            scanned = time.time_ns()
            return _examine(file, limits, decode), (_stamp(status), scanned)

        with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
            results = pool.map(one, wanted, chunksize=16)
            bar = tqdm(results, total=len(wanted), desc="files", unit="", disable=not progress)
            for file, (record, stamp) in zip(wanted, bar, strict=True):
                records[file] = record
                if stamp is not None and record.digest:
                    changed.append((file, *stamp, record))
        self._remember(changed)
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
                    "select path, size, mtime_ns, ctime_ns, scanned_ns, digest, pixels, error "
                    f"from {_TABLE} where path in ({marks})",
                    list(some),
                )
                for path, size, mtime, ctime, scanned, digest, pixels, error in rows:
                    record = FileRecord(path, digest, pixels, error or "")
                    found[path] = _Remembered((size, mtime, ctime), scanned, record)
        return found

    def _remember(self, rows: list[tuple[str, _Stamp, int, FileRecord]]) -> None:
        if not rows:
            return
        with self._connected() as connection:
            connection.executemany(
                f"insert or replace into {_TABLE} values (?, ?, ?, ?, ?, ?, ?, ?)",
                [(f, *s, t, r.digest, r.pixels, r.error) for f, s, t, r in rows],
            )


def _examine(file: str, limits: Limits, decode: bool) -> FileRecord:
    try:
        digest = digest_file(Path(file))
    except OSError as error:
        return FileRecord(file, "", None, f"the file cannot be read: {error.strerror}")
    if not decode:
        return FileRecord(file, digest, None, "")
    try:
        pixels = read_image(file, limits)
    except ImageError as error:
        return FileRecord(file, digest, "damaged", plain(error))
    header = f"{pixels.shape}{pixels.dtype}".encode()
    return FileRecord(file, digest, digest_bytes(header + pixels.tobytes()), "")


def plain(error: ImageError) -> str:
    """What happened and why, without the place: the row that holds it says where."""
    return error.what + (f": {error.cause}" if error.cause else "")
