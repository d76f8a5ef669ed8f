"""The columns of a table by name, stripped, each worked out once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mvp.config import nearest
from mvp.data.tables.table import Table, is_blank
from mvp.errors import ConfigError
from mvp.types import BoolArray, IntArray, TextArray


class Columns:
    """Columns of a table, or of some of its rows.

    Tables repeat few values many times: what is asked of a cell is asked once of each value.

    Args:
        table: the table.
        rows: (row,) which of its rows; default: all.
    """

    def __init__(self, table: Table, rows: IntArray | None = None) -> None:
        self.table = table
        self.names = [str(name) for name in table.frame.columns]
        self._rows = np.arange(len(table.frame)) if rows is None else rows
        self._distinct: dict[str, tuple[IntArray, list[str]]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def line(self, row: int) -> int:
        """The line of the file that a row starts on."""
        return self.table.line(int(self._rows[row]))

    def select(self, rows: IntArray) -> Columns:
        """The same columns of some of the rows."""
        return Columns(self.table, self._rows[rows])

    def distinct(self, name: str, setting: str) -> tuple[IntArray, list[str]]:
        """(row,) the number of each cell's value, and the values, stripped.

        Raises:
            ConfigError: there is no such column; `setting` is what names it in mvp.toml.
        """
        import pandas as pd

        if name not in self.names:
            raise ConfigError(
                f"the table has no column {name!r}" + nearest(name, self.names),
                path=self.table.path,
                cause=f"its columns are {', '.join(self.names[:20])}",
                remedy=f"correct {setting} in mvp.toml",
            )
        if name not in self._distinct:
            raw = np.asarray(self.table.frame[name], dtype=object)[self._rows]
            codes, values = pd.factorize(raw)
            self._distinct[name] = codes, list(map(str.strip, map(str, values)))
        return self._distinct[name]

    def cells(self, name: str, setting: str) -> TextArray:
        """(row,) the stripped cells of a column.

        Raises:
            ConfigError: there is no such column; `setting` is what names it in mvp.toml.
        """
        codes, values = self.distinct(name, setting)
        return text_array(values)[codes]

    def blank(self, name: str, setting: str) -> BoolArray:
        """(row,) whether a cell of a column says nothing."""
        codes, values = self.distinct(name, setting)
        return each_value(codes, values, is_blank)


def each_value(codes: IntArray, values: Sequence[str], ask: Callable[[str], bool]) -> BoolArray:
    """(row,) what is asked of each row's value, asked once of each value."""
    return np.array([ask(value) for value in values], dtype=bool)[codes]


def text_array(values: Sequence[str]) -> TextArray:
    """Strings as an array of objects, whatever their number and lengths."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def first_values(said: BoolArray, codes: IntArray, n: int) -> IntArray:
    """(study,) the first row of each study that says something, -1 where none does.

    Args:
        said: (row,) whether they say something.
        codes: (row,) the index of each row's study.
        n: how many studies there are.
    """
    first = np.full(n, -1, dtype=np.int64)
    rows = np.flatnonzero(said)[::-1]
    first[codes[rows]] = rows  # of several the last assignment stays: the first row
    return first


def contradictions(values: TextArray, said: BoolArray, codes: IntArray, n: int) -> IntArray:
    """Rows that say something else than the first row of their study that says anything."""
    import pandas as pd

    first = first_values(said, codes, n)
    numbers, _ = pd.factorize(values)
    rows = np.flatnonzero(said)
    return rows[numbers[rows] != numbers[first[codes[rows]]]]
