"""Text tables as programs write them: bytes to cells, with the encoding and separator found out."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

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
            names: list[str] = []
            lines: list[int] = []
            found = _rows(reader, names, lines, path)
            while True:
                before = lines[-1] if lines else 1
                lines.clear()
                columns = _columns(islice(found, rows), names)
                if not lines and before > 1:
                    return
                yield Delimited(columns, _compact(lines), how, separator)
                if not lines:
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
    names: list[str] = []
    lines: list[int] = []
    return _columns(_rows(reader, names, lines, path), names), _compact(lines)


def _columns(rows: Iterable[list[str]], names: list[str]) -> dict[str, list[str]]:
    """Rows turned into columns; `names` is filled when the first row comes."""
    columns: list[list[str]] = []
    for block in _blocks(rows):
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


def _rows(
    reader: Iterator[list[str]], names: list[str], lines: list[int], path: Path
) -> Iterator[list[str]]:
    """The rows under the header, all of its width; `names` and `lines` are filled on the way."""
    end, width, closed = 0, 0, False
    for cells in reader:
        start, end = end + 1, reader.line_num  # type: ignore[attr-defined]
        if not (cells and cells[0].strip()) and not any(cell.strip() for cell in cells):
            continue
        if cells == [_END]:
            closed = True
            break
        if not width:
            names.extend(header(cells, path))
            width = len(names)
            continue
        if len(cells) != width:
            _fit(cells, width, start, path)
        lines.append(start)
        yield cells
    if not closed:
        raise DataError(
            f"a quote that opens in the row of line {start} is never closed",
            path=path,
            cause="everything after it would be one cell",
            remedy='close it, or write a quote that belongs to a cell twice, as in "5"" long"',
        )


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


def _blocks(rows: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    block: list[list[str]] = []
    for row in rows:
        block.append(row)
        if len(block) == _ROWS:
            yield block
            block = []
    if block:
        yield block


def _compact(lines: list[int]) -> Sequence[int]:
    plain = range(lines[0], lines[0] + len(lines)) if lines else range(2, 2)
    return plain if lines == list(plain) else list(lines)
