"""Tables as people bring them: CSV, TSV or Parquet, read as text so that no id loses a zero."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mvp.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = ",;\t|"
BLANK = frozenset({"", "nan", "na", "n/a", "null", "none"})


@dataclass(frozen=True)
class Table:
    """A table of strings, and how it was read."""

    frame: pd.DataFrame
    path: Path
    encoding: str
    separator: str
    lines: Sequence[int] = ()

    def line(self, row: int) -> int:
        """The line that a row starts on, counting the header as line 1."""
        # Blank lines and line breaks in quotes: the row's number does not give its line.
        return self.lines[row] if self.lines else row + 2


def is_blank(text: str) -> bool:
    """Whether a cell says nothing."""
    return text.strip().casefold() in BLANK


def join_ids(columns: Sequence[list[str]]) -> list[str]:
    """One id per row from one or more columns, "" where the first of them says nothing.

    Raises:
        ValueError: two rows of different cells would have one id.
    """
    # "nan" in an id column is a missing id that went through a data frame.
    parts = [p if not is_blank(p[0]) else () for p in zip(*columns, strict=True)]
    joined = ["/".join(p) for p in parts]
    if len(set(joined)) != len(set(parts)):
        raise ValueError("a cell contains the character '/'")
    return joined


def read_table(path: Path) -> Table:
    """Read a table; every cell is a string, blank where it is missing.

    Raises:
        DataError: the file is not there, is empty, or cannot be parsed.
    """
    if not path.is_file():
        raise DataError(
            "the table is not there", path=path, remedy="correct data.table in mvp.toml or the path"
        )
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            return _read_parquet(path)
        return _read_text(path)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - parsers raise anything
        raise DataError(
            "the table cannot be read", path=path, cause=f"{type(error).__name__}: {error}"
        ) from None


def _read_parquet(path: Path) -> Table:
    import pandas as pd

    frame = parquet_frame(path)
    text = {name: text_cells(frame[name]) for name in frame.columns}
    return _table(pd.DataFrame(text, dtype=str), path, "parquet", "", ())


def parquet_frame(path: Path) -> pd.DataFrame:
    """A Parquet file's columns in their own types, each under a name of its own.

    Raises:
        DataError: a column stands twice.
    """
    import pandas as pd

    frame = pd.read_parquet(path)
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()  # an id that pandas kept as the index is a column again
    frame.columns = pd.Index(_header([str(name) for name in frame.columns], path))
    return frame


def text_cells(column: pd.Series) -> list[str]:
    """The cells of a column as text, blank where it is missing."""
    return ["" if missing else _cell(v) for v, missing in zip(column, column.isna(), strict=True)]


def _cell(value: object) -> str:
    # A nullable integer column often arrives as float: 3.0 was written as 3.
    if hasattr(value, "is_integer") and not isinstance(value, int) and value.is_integer():
        return str(int(value))  # type: ignore[call-overload]
    return str(value)


def _read_text(path: Path) -> Table:
    import pandas as pd

    raw = path.read_bytes()
    if not raw.strip():
        raise DataError("the table is empty", path=path)
    encoding, text = _decode(raw)
    separator = _separator(text, path)
    # csv, not pandas: it knows the line of every row, and a row that is too long is an error
    # instead of a silent shift of all columns by one.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    names: list[str] | None = None
    rows, lines, end = [], [], 0
    for cells in reader:
        start, end = end + 1, reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if names is None:
            names = _header(cells, path)
            continue
        if len(cells) > len(names):
            if any(cell.strip() for cell in cells[len(names) :]):
                raise DataError(
                    f"line {start} has {len(cells)} cells, the header has {len(names)}",
                    path=path,
                    cause="a cell contains the separator and is not quoted",
                    remedy="quote the cell, or correct the header",
                )
            del cells[len(names) :]
        rows.append(cells + [""] * (len(names) - len(cells)))
        lines.append(start)
    return _table(
        pd.DataFrame(rows, columns=names or [], dtype=str), path, encoding, separator, lines
    )


def _header(names: Sequence[str], path: Path) -> list[str]:
    stripped = [name.strip() for name in names]
    twice = sorted({name for name in stripped if name and stripped.count(name) > 1})
    if twice:
        raise DataError(
            f"the column {twice[0]!r} stands twice in the header",
            path=path,
            remedy="rename one of them",
        )
    return [name or f"unnamed {i + 1}" for i, name in enumerate(stripped)]


def _table(
    frame: pd.DataFrame, path: Path, encoding: str, separator: str, lines: Sequence[int]
) -> Table:
    if not len(frame):
        raise DataError("the table has a header and no rows", path=path)
    return Table(frame, path, encoding, separator, lines)


def _decode(raw: bytes) -> tuple[str, str]:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Excel's "Unicode text"
        return "utf-16", raw.decode("utf-16")
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return encoding, raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return "latin-1", raw.decode("latin-1")


def _separator(text: str, path: Path) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    head = next(line for line in text.splitlines() if line.strip())
    counts = {s: len(next(csv.reader([head], delimiter=s))) for s in SEPARATORS}
    return max(SEPARATORS, key=lambda s: counts[s])
