"""A table of any length in parts: the lines of a study that stand together stay together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mvp.data.tables.delimited import stream_delimited
from mvp.data.tables.table import (
    Table,
    is_blank,
    is_parquet,
    join_ids,
    named_columns,
    readable,
    text_cells,
)
from mvp.errors import DataError

# Rows of a part: enough that what every part costs is nothing beside them.
ROWS = 131_072


@dataclass
class _Pending:
    """Rows that were read and belong to no part yet."""

    columns: dict[str, list[str]]
    lines: Sequence[int]
    encoding: str
    separator: str

    def __len__(self) -> int:
        return len(self.lines)

    def join(self, other: _Pending) -> None:
        for name, cells in other.columns.items():
            self.columns[name].extend(cells)
        mine, others = self.lines, other.lines
        together = (
            isinstance(mine, range) and isinstance(others, range) and mine.stop == others.start
        )
        self.lines = range(mine[0], others[-1] + 1) if together and mine else [*mine, *others]

    def cut(self, rows: int) -> _Pending:
        """Take the first rows away."""
        taken = {name: cells[:rows] for name, cells in self.columns.items()}
        first = _Pending(taken, self.lines[:rows], self.encoding, self.separator)
        self.columns = {name: cells[rows:] for name, cells in self.columns.items()}
        self.lines = self.lines[rows:]
        return first

    def table(self, path: Path) -> Table:
        import pandas as pd

        frame = pd.DataFrame(self.columns, dtype=object)
        return Table(frame, path, self.encoding, self.separator, self.lines)


def table_parts(path: Path, ids: Sequence[str], rows: int | None = None) -> Iterator[Table]:
    """The rows of a table in parts, in order; a table of no more than `rows` rows is one part.

    Args:
        path: CSV, TSV or Parquet, as for `read_table`.
        ids: columns of the study's id; rows that agree in them and stand together are never parted.
        rows: of a part, about so many; default: `ROWS`.

    Raises:
        DataError: the file is not there, is empty, or cannot be parsed.
    """
    rows = ROWS if rows is None else rows
    pending: _Pending | None = None
    with readable(path):
        for read in _read(path, rows):
            if pending is None:
                pending = read
            elif len(read):
                border = _last_border(pending, read, ids)
                if border:
                    yield pending.cut(border).table(path)
                pending.join(read)
        if pending is None or not len(pending):
            raise DataError("the table has a header and no rows", path=path)
        yield pending.table(path)


def part_ids(table: Table, ids: Sequence[str]) -> list[str]:
    """(row,) the study of every row of a part, as the manifest calls it."""
    return join_ids([[str(cell).strip() for cell in table.frame[name]] for name in ids])


def _read(path: Path, rows: int) -> Iterator[_Pending]:
    if is_parquet(path):
        yield from _read_parquet(path, rows)
        return
    for part in stream_delimited(path, rows):
        yield _Pending(part.columns, part.lines, part.encoding, part.separator)


def _read_parquet(path: Path, rows: int) -> Iterator[_Pending]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    start = 2
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(rows):
            frame = named_columns(pa.Table.from_batches([batch]).to_pandas(), path)
            cells = {str(name): text_cells(frame[name]) for name in frame.columns}
            yield _Pending(cells, range(start, start + len(frame)), "parquet", "")
            start += len(frame)


def _last_border(pending: _Pending, read: _Pending, ids: Sequence[str]) -> int:
    """Before which row of `pending` the last study begins that may go on; 0 where none does."""
    if any(name not in pending.columns for name in ids):
        return len(pending)  # whoever looks for the ids says that they are not there
    here = [pending.columns[name] for name in ids]
    last = _id([read.columns[name][0] for name in ids])
    for row in range(len(pending), 0, -1):
        if _id([column[row - 1] for column in here]) != last:
            return row
    return 0


def _id(cells: Sequence[str]) -> tuple[str, ...]:
    return tuple("" if is_blank(cell) else cell.strip() for cell in cells)
