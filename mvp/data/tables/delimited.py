"""Text tables as programs write them: bytes to cells, with the encoding and separator found out."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from mvp.data.tables.encodings import content, damage_told, decode, find_encoding, opened
from mvp.errors import DataError

SEPARATORS = ",;\t|"
_HEAD = 1 << 20
_LOOKED_AT = 50
# Few, so that a block stays in the processor's cache until it is turned into columns.
_ROWS = 128
# A line after the last one: where it is missing, a quote has swallowed it.
_END = "\ufdd0 end of the table"


@dataclass(frozen=True)
class Delimited:
    """The cells of a text table.

    Attributes:
        columns: name to (row,) cells, as written.
        lines: the line that each row starts on.
        encoding: of the text, with `gzip` before it where the file is packed.
        separator: between cells.
    """

    columns: dict[str, list[str]]
    lines: Sequence[int]
    encoding: str
    separator: str


def read_delimited(path: Path) -> Delimited:
    """Read a CSV or TSV file, also one packed with gzip, as `.csv.gz`.

    Encodings: UTF-8 and UTF-16 with their marks, UTF-8, else Windows-1252. Separators: comma,
    semicolon, tab, vertical bar: the one under which the first rows are as wide as the header, of
    several the one that makes most columns.

    Raises:
        DataError: the file is empty, too large, no text, or its rows do not fit its header.
    """
    raw, packed = content(path)
    if not raw.strip():
        raise DataError("the table is empty", path=path)
    encoding, text = decode(raw)
    separator = _separator(text, path)
    columns, lines = _cells(text, separator, path)
    return Delimited(columns, lines, f"gzip, {encoding}" if packed else encoding, separator)


def stream_delimited(path: Path, rows: int) -> Iterator[Delimited]:
    """The same in parts of so many rows, of a file of any length; at least one part.

    The file is read twice: its encoding is known when all of it was seen.

    Raises:
        DataError: as for `read_delimited`; for a row when its part is read.
    """
    with damage_told(path):
        encoding, packed = find_encoding(path)
        with opened(path) as raw:
            text = io.TextIOWrapper(raw, encoding, newline="")
            separator = _separator(text.read(_HEAD), path)
        how = f"gzip, {encoding}" if packed else encoding
        with opened(path) as raw:
            text = io.TextIOWrapper(raw, encoding, newline="")
            reader = csv.reader(chain(text, [_END]), delimiter=separator, skipinitialspace=True)
            found = _Rows(reader, path)
            while True:
                before = found.lines[-1] if found.lines else 1
                found.lines.clear()
                columns = _columns(found.blocks(rows), found.names)
                if not found.lines and before > 1:
                    return
                yield Delimited(columns, _compact(found.lines), how, separator)
                if not found.lines:
                    return


def header(names: Sequence[str], path: Path) -> list[str]:
    """The names of columns, stripped, nameless ones numbered.

    Raises:
        DataError: a column stands twice, or the header is no text.
    """
    stripped = [name.strip() for name in names]
    if any("\0" in name for name in stripped):
        raise DataError(
            "the header of the table holds NUL characters",
            path=path,
            cause="it is no text, or UTF-16 without a mark",
            remedy="save it as CSV in UTF-8",
        )
    twice = sorted({name for name in stripped if name and stripped.count(name) > 1})
    if twice:
        raise DataError(
            f"the column {twice[0]!r} stands twice in the header",
            path=path,
            remedy="rename one of them",
        )
    return [name or f"unnamed {i + 1}" for i, name in enumerate(stripped)]


def _separator(text: str, path: Path) -> str:
    if path.with_suffix("").suffix.lower() == ".tsv" or path.suffix.lower() == ".tsv":
        return "\t"
    return max(SEPARATORS, key=lambda separator: _fitness(text, separator))


def _fitness(text: str, separator: str) -> tuple[bool, float, int]:
    """How well a separator fits a table: it makes columns, of one number, and many."""
    lines = io.StringIO(text[:_HEAD], newline="")
    rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    filled = (len(row) for row in rows if any(cell.strip() for cell in row))
    width, *widths = islice(filled, _LOOKED_AT)
    alike = sum(w == width for w in widths) / max(len(widths), 1)
    return width > 1, alike, width


def _cells(text: str, separator: str, path: Path) -> tuple[dict[str, list[str]], Sequence[int]]:
    # csv, not pandas: it knows the line of every row, and a row that is too long is an error
    # instead of a silent shift of all columns by one.
    stream = chain(io.StringIO(text, newline=""), [_END])
    reader = csv.reader(stream, delimiter=separator, skipinitialspace=True)
    found = _Rows(reader, path)
    return _columns(found.blocks(), found.names), _compact(found.lines)


def _columns(blocks: Iterable[list[list[str]]], names: list[str]) -> dict[str, list[str]]:
    """Rows turned into columns; `names` is filled when the first row comes."""
    columns: list[list[str]] = []
    for block in blocks:
        if not columns:
            columns = [[] for _ in names]
            # Few values, many times: one string for all of them, unless they turn out to differ.
            shared: list[dict[str, str] | None] = [{} for _ in names]
        for place, cells in enumerate(zip(*block, strict=True)):
            values = shared[place]
            if values is None:
                columns[place].extend(cells)
                continue
            columns[place].extend(map(values.setdefault, cells, cells))
            if len(values) > max(len(columns[place]) // 2, 1000):
                shared[place] = None
    return dict(zip(names, columns or [[] for _ in names], strict=True))


class _Rows:
    """The rows under the header, all of its width.

    Args:
        reader: gives the cells of one row after the other.
        path: of the table, for messages.

    Attributes:
        names: of the columns, when the first rows are there.
        lines: the line that each row starts on, of the rows given so far.
    """

    def __init__(self, reader: Iterator[list[str]], path: Path) -> None:
        self._reader, self._path = reader, path
        self.names: list[str] = []
        self.lines: list[int] = []
        self._start = self._end = 0
        self._closed = False

    def blocks(self, most: int = sys.maxsize) -> Iterator[list[list[str]]]:
        """The next rows, a few at a time and at most so many of them."""
        reader: Any = self._reader
        while most and not self._closed:
            # The header alone: it says how wide the others are.
            number = min(most, _ROWS) if self.names else 1
            read = [(cells, reader.line_num) for cells in islice(reader, number)]
            if not read:
                raise DataError(
                    f"a quote that opens in the row of line {self._start} is never closed",
                    path=self._path,
                    cause="everything after it would be one cell",
                    remedy="close it, or write a quote that belongs to a cell twice, as in "
                    '"5"" long"',
                )
            rows = [cells for cells, _ in read]
            end = read[-1][1]
            if end - self._end == len(rows) and self._are_plain(rows):
                self.lines.extend(range(self._end + 1, end + 1))
                self._start, self._end = end, end
            else:
                rows = list(self._looked_at(read))
            most -= len(rows)
            if rows:
                yield rows

    def _are_plain(self, rows: list[list[str]]) -> bool:
        """Whether all rows are as wide as the header, and none of them is blank or the last."""
        return (
            set(map(len, rows)) == {len(self.names)}
            and all(map(str.strip, map(itemgetter(0), rows)))
            and [_END] not in rows
        )

    def _looked_at(self, read: list[tuple[list[str], int]]) -> Iterator[list[str]]:
        """Those of some rows, with the lines that they end on, that are rows of the table."""
        for cells, end in read:
            self._start, self._end = self._end + 1, end
            if not (cells and cells[0].strip()) and not any(cell.strip() for cell in cells):
                continue
            if cells == [_END]:
                self._closed = True
                return
            if not self.names:
                self.names.extend(header(cells, self._path))
                continue
            if len(cells) != len(self.names):
                _fit(cells, len(self.names), self._start, self._path)
            self.lines.append(self._start)
            yield cells


def _fit(cells: list[str], width: int, line: int, path: Path) -> None:
    """A row of the header's width: blank cells at its end are added, or taken away."""
    if any(cell.strip() for cell in cells[width:]):
        raise DataError(
            f"line {line} has {len(cells)} cells, the header has {width}",
            path=path,
            cause="a cell contains the separator and is not quoted",
            remedy="quote the cell, or correct the header",
        )
    del cells[width:]
    cells.extend([""] * (width - len(cells)))


def _compact(lines: list[int]) -> Sequence[int]:
    plain = range(lines[0], lines[0] + len(lines)) if lines else range(2, 2)
    return plain if lines == list(plain) else list(lines)
