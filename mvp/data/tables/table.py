"""Tables as people bring them: CSV, TSV or Parquet, read as text so that no id loses a zero."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mvp.data.tables.delimited import header, read_delimited
from mvp.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

BLANK = frozenset({"", "nan", "na", "n/a", "null", "none"})
_LONGEST = max(map(len, BLANK))


@dataclass(frozen=True)
class Table:
    """A table of strings, and how it was read."""

    frame: pd.DataFrame
    path: Path
    encoding: str
    separator: str
    lines: Sequence[int] = ()

    @property
    def how(self) -> str:
        """How it was read, in words: encoding and separator."""
        return f"{self.encoding}, separator {self.separator!r}" if self.separator else self.encoding

    def line(self, row: int) -> int:
        """The line that a row starts on, counting the header as line 1."""
        # Blank lines and line breaks in quotes: the row's number does not give its line.
        return self.lines[row] if self.lines else row + 2


def is_blank(text: str) -> bool:
    """Whether a cell says nothing."""
    # Nearly every cell is longer than every word for nothing.
    text = text.strip()
    return len(text) <= _LONGEST and text.casefold() in BLANK


def join_ids(columns: Sequence[Sequence[str]], *, whole: bool = False) -> list[str]:
    """One id per row from one or more columns, "" where the first of them says nothing.

    Args:
        columns: the cells of each column.
        whole: "" also where another one says nothing.

    Raises:
        ValueError: two rows of different cells would have one id.
    """
    # "nan" in an id column is a missing id that went through a data frame.
    blank = {cell for column in columns for cell in _blanks(column)}
    if len(columns) == 1:
        return ["" if cell in blank else cell for cell in columns[0]] if blank else list(columns[0])
    parts = [
        () if p[0] in blank or (whole and not blank.isdisjoint(p)) else _spoken(p, blank)
        for p in zip(*columns, strict=True)
    ]
    joined = ["/".join(p) for p in parts]
    if len(set(joined)) != len(set(parts)):
        raise ValueError("a cell contains the character '/'")
    return joined


def _blanks(cells: Sequence[str]) -> set[str]:
    """The different cells that say nothing."""
    # No step of Python for each cell where, as nearly always, there is none.
    if BLANK.isdisjoint(map(str.casefold, map(str.strip, cells))):
        return set()
    return {cell for cell in set(cells) if is_blank(cell)}


def _spoken(parts: tuple[str, ...], blank: set[str]) -> tuple[str, ...]:
    """The parts of an id, every word for nothing as nothing: it is one in all rows."""
    return parts if blank.isdisjoint(parts) else tuple("" if p in blank else p for p in parts)


def read_table(path: Path) -> Table:
    """Read a table, packed by gzip or not; every cell is a string, blank where it is missing.

    Raises:
        DataError: the file is not there, is empty, or cannot be parsed.
    """
    with readable(path):
        return _read_parquet(path) if is_parquet(path) else _read_text(path)


def is_parquet(path: Path) -> bool:
    """Whether a table's name says that it is Parquet."""
    return path.suffix.lower() in {".parquet", ".pq"}


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a table is read into a DataError."""
    if not path.is_file():
        raise DataError(
            "the table is not there", path=path, remedy="correct data.table in mvp.toml or the path"
        )
    try:
        yield
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
    return _table(pd.DataFrame(text, dtype=object), path, "parquet", "", ())


def parquet_frame(path: Path) -> pd.DataFrame:
    """A Parquet file's columns in their own types, each under a name of its own.

    Raises:
        DataError: a column stands twice.
    """
    import pandas as pd

    return named_columns(pd.read_parquet(path), path)


def named_columns(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A frame that came out of Parquet, its index a column and its columns named as text.

    Raises:
        DataError: a column stands twice.
    """
    import pandas as pd

    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()  # an id that pandas kept as the index is a column again
    frame.columns = pd.Index(header([str(name) for name in frame.columns], path))
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

    read = read_delimited(path)
    frame = pd.DataFrame(read.columns, dtype=object)
    return _table(frame, path, read.encoding, read.separator, read.lines)


def _table(
    frame: pd.DataFrame, path: Path, encoding: str, separator: str, lines: Sequence[int]
) -> Table:
    if not len(frame):
        raise DataError("the table has a header and no rows", path=path)
    return Table(frame, path, encoding, separator, lines)
