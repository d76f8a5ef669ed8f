"""Text files as programs write them: packed or not, in one of several encodings."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from mvp.errors import DataError

MAX_BYTES = 2_000_000_000
_BLOCK = 1 << 24
_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")
# Zip archives (which .xlsx and .ods are) and the compound files of older Excel.
_ARCHIVES = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_GZIP = b"\x1f\x8b"
_ENCODINGS = ("utf-8-sig", "cp1252")


def content(path: Path) -> tuple[bytes, bool]:
    """The bytes of a table, unpacked, and whether they were packed.

    Raises:
        DataError: the file is too large, damaged, or an archive.
    """
    packed = is_packed(path)
    with damage_told(path), opened(path) as stream:
        blocks, size = [], 0
        while block := stream.read(_BLOCK):
            blocks.append(block)
            size += len(block)
            if size > MAX_BYTES:
                raise DataError(
                    f"the table has more than {MAX_BYTES:,} bytes of text",
                    path=path,
                    remedy="save it as Parquet, or with the columns alone that are needed",
                )
    return b"".join(blocks), packed


def is_packed(path: Path) -> bool:
    """Whether a file is packed by gzip.

    Raises:
        DataError: it is an archive of another kind.
    """
    with path.open("rb") as stream:
        start = stream.read(4)
    if path.suffix.lower() in _WORKBOOKS or start.startswith(_ARCHIVES):
        raise DataError(
            "the table is an Excel workbook or another archive, not a text table",
            path=path,
            remedy="save the sheet as CSV in UTF-8, or unpack the archive, and name that file",
        )
    return start.startswith(_GZIP)


def opened(path: Path) -> BinaryIO:
    """The bytes of a table as a stream, unpacked."""
    # A gzip stream is read as any other.
    return cast(BinaryIO, gzip.open(path)) if is_packed(path) else path.open("rb")


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Turn what is wrong with a packed file into a DataError."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            "the packed table is damaged or cut off",
            path=path,
            cause=str(error),
            remedy="copy it again, or unpack it",
        ) from None


def find_encoding(path: Path) -> tuple[str, bool]:
    """The encoding that `decode` would find, and whether the file is packed; read once, in blocks.

    Raises:
        DataError: the file is empty, or an archive.
    """
    fitting = {name: codecs.getincrementaldecoder(name)() for name in _ENCODINGS}
    said, first = False, True
    with opened(path) as stream:
        while block := stream.read(_BLOCK):
            if first and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return "utf-16", is_packed(path)
            first = False
            said = said or bool(block.strip())
            for name in list(fitting):
                try:
                    fitting[name].decode(block)
                except UnicodeDecodeError:
                    del fitting[name]
    for name in list(fitting):
        try:
            fitting[name].decode(b"", final=True)
        except UnicodeDecodeError:
            del fitting[name]
    if not said:
        raise DataError("the table is empty", path=path)
    return next(iter(fitting), "latin-1"), is_packed(path)


def decode(raw: bytes) -> tuple[str, str]:
    """The encoding of a text, and the text."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Excel's "Unicode text"
        return "utf-16", raw.decode("utf-16")
    for encoding in _ENCODINGS:
        try:
            return encoding, raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return "latin-1", raw.decode("latin-1")
