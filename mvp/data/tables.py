"""Tables as people bring them: CSV, TSV or Parquet, read as text so that no id loses a zero."""

from __future__ import annotations

import csv
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

    def line(self, row: int) -> int:
        """The line of a row in the file, counting the header as line 1."""
        return row + 2


def is_blank(text: str) -> bool:
    """Whether a cell says nothing."""
    return text.strip().casefold() in BLANK


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

    frame = pd.read_parquet(path)
    text = {
        str(name): [
            "" if missing else _cell(v) for v, missing in zip(column, column.isna(), strict=True)
        ]
        for name, column in frame.items()
    }
    return Table(pd.DataFrame(text, dtype=str), path, "parquet", "")


def _cell(value: object) -> str:
    # A nullable integer column often arrives as float: 3.0 was written as 3.
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _read_text(path: Path) -> Table:
    import pandas as pd

    raw = path.read_bytes()
    if not raw.strip():
        raise DataError("the table is empty", path=path)
    encoding, text = _decode(raw)
    separator = _separator(text, path)
    header = next(csv.reader([text.splitlines()[0]], delimiter=separator))
    twice = sorted({name for name in header if header.count(name) > 1 and name})
    if twice:
        raise DataError(
            f"the column {twice[0]!r} stands twice in the header",
            path=path,
            remedy="rename one of them",
        )
    frame = pd.read_csv(
        path,
        sep=separator,
        dtype=str,
        keep_default_na=False,
        encoding=encoding,
        skipinitialspace=True,
    )
    if not len(frame):
        raise DataError("the table has a header and no rows", path=path)
    return Table(frame.fillna("").rename(columns=str.strip), path, encoding, separator)


def _decode(raw: bytes) -> tuple[str, str]:
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return encoding, raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return "latin-1", raw.decode("latin-1")


def _separator(text: str, path: Path) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    head = text.splitlines()[0]
    counts = {s: len(next(csv.reader([head], delimiter=s))) for s in SEPARATORS}
    return max(SEPARATORS, key=lambda s: counts[s])
