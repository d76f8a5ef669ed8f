"""Files of features from elsewhere: CSV, TSV, Parquet or `.npz`, a row for each study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvp.config import nearest
from mvp.data.tables.table import is_blank, join_ids, parquet_frame, read_table, text_cells
from mvp.errors import ConfigError, DataError

# A column, or an array of an `.npz`, that holds the studies' ids unless another is named.
ID_NAMES = ("study", "studies")
# The array of an `.npz` whose columns have no name of their own.
UNNAMED_ARRAY = "features"
MAX_NAMED = 8


@dataclass(frozen=True, eq=False)
class RawTable:
    """A table as it lies in its file.

    Attributes:
        path: the file.
        studies: id of each row, blank where there is none.
        lines: where each row stands in the file.
        columns: the other columns by name: text, arrays or pandas columns of any type.
        line: what `lines` counts, `line` or `row`.
    """

    path: Path
    studies: list[str]
    lines: Sequence[int]
    columns: dict[str, Any]
    line: str = "line"


def read_columns(path: Path, ids: list[str], usual: list[str], drop: Sequence[str]) -> RawTable:
    """Read `.csv`, `.tsv` or any text, `.parquet`, or `.npz`.

    Args:
        path: the file.
        ids: columns of the study's id, joined as in the manifest.
        usual: those to try first when there are no `ids`; the last resort are `ID_NAMES`.
        drop: arrays of an `.npz` that are not even read.

    Raises:
        ConfigError: a column of the id is not there.
        DataError: the file is not there or cannot be read.
    """
    if not path.is_file():
        raise DataError("the table is not there", path=path, remedy="correct the path")
    try:
        if path.suffix.lower() == ".npz":
            return _read_npz(path, ids, drop)
        if path.suffix.lower() in {".parquet", ".pq"}:
            return _read_parquet(path, ids, usual)
        return _read_text(path, ids, usual)
    except (DataError, ConfigError):
        raise
    except Exception as error:  # noqa: BLE001 - parsers raise anything
        raise DataError(
            "the table cannot be read", path=path, cause=f"{type(error).__name__}: {error}"
        ) from None


def _read_text(path: Path, ids: list[str], usual: list[str]) -> RawTable:
    table = read_table(path)
    cells = {str(name): table.frame[name].tolist() for name in table.frame.columns}
    lines = [table.line(row) for row in range(len(table.frame))]
    return _with_ids(path, ids, usual, cells, lines)


def _read_parquet(path: Path, ids: list[str], usual: list[str]) -> RawTable:
    frame = parquet_frame(path)
    if not len(frame):
        raise DataError("the table has no rows", path=path)
    columns = {str(name): frame[name] for name in frame.columns}
    return _with_ids(path, ids, usual, columns, range(2, len(frame) + 2))


def _with_ids(
    path: Path,
    ids: list[str],
    usual: list[str],
    columns: dict[str, Any],
    lines: Sequence[int],
) -> RawTable:
    if not ids:
        # The settings first: what they call the study's id is the id that the images go by.
        ids = usual if set(usual) <= set(columns) else _usual_name(columns)
    for name in ids:
        if name not in columns:
            raise ConfigError(
                f"the table has no column {name!r}" + nearest(name, columns),
                path=path,
                cause=f"its columns are {listed(columns, 20)}",
                remedy="name the column of the study's id with --study",
            )
    cells = [columns.pop(name) for name in dict.fromkeys(ids)]
    texts = [c if isinstance(c, list) else text_cells(c) for c in cells]
    try:
        studies = join_ids([[str(cell).strip() for cell in column] for column in texts])
    except ValueError as error:
        raise DataError(
            f"--study {' --study '.join(ids)} makes one id of different cells: {error}",
            path=path,
            remedy="name a single column",
        ) from None
    return RawTable(path, studies, lines, columns)


def _read_npz(path: Path, ids: list[str], drop: Sequence[str]) -> RawTable:
    with np.load(path, allow_pickle=False) as file:
        names = [n for n in file.files if n in ids or n not in drop]
        # A single value beside the rows says something about the file, not about a study.
        arrays = {name: a for name in names if (a := _array(file, name, path)).ndim}
    if not ids:
        ids = _usual_name(arrays)
    if len(ids) > 1 or ids[0] not in arrays:
        raise ConfigError(
            f"the file has no array {' or '.join(map(repr, ids if len(ids) == 1 else ID_NAMES))}"
            " of study ids",
            path=path,
            cause=f"its arrays are {listed(arrays, 20)}",
            remedy="name the array of the studies' ids with --study",
        )
    codes = arrays.pop(ids[0])
    if codes.ndim != 1 or codes.dtype.kind not in "USiu":
        raise DataError(
            f"the array {ids[0]!r} does not hold one id per row",
            path=path,
            cause=f"its shape is {codes.shape}, its type {codes.dtype}",
            remedy="store the ids as an array of strings",
        )
    if codes.dtype.kind == "S":
        codes = np.char.decode(codes, "utf-8")
    studies = ["" if is_blank(text) else text.strip() for text in map(str, codes.tolist())]
    if not studies:
        raise DataError("the table has no rows", path=path)
    columns: dict[str, Any] = {}
    for name, array in arrays.items():
        if len(array) != len(studies):
            raise DataError(
                f"the array {name!r} has shape {array.shape}, not a row for each of "
                f"{len(studies)} studies",
                path=path,
                remedy=f"leave it out with --drop {name}",
            )
        stem = "f" if name == UNNAMED_ARRAY else name
        # Of a map the places side by side.
        flat = array.reshape(len(array), -1)
        several = {f"{stem}{i}": flat[:, i] for i in range(flat.shape[1])}
        parts = {name: array} if array.ndim == 1 else several
        if twice := sorted(columns.keys() & parts.keys()):
            raise DataError(
                f"two arrays have a column called {twice[0]!r}",
                path=path,
                remedy=f"leave one of them out, as with --drop {name}",
            )
        columns.update(parts)
    return RawTable(path, studies, range(1, len(studies) + 1), columns, "row")


def _usual_name(columns: Iterable[str]) -> list[str]:
    return [next((name for name in ID_NAMES if name in set(columns)), ID_NAMES[0])]


def _array(file: Any, name: str, path: Path) -> np.ndarray:
    try:
        return np.asarray(file[name])
    except ValueError as error:
        raise DataError(
            f"the array {name!r} cannot be read",
            path=path,
            cause="it holds Python objects, which could run code"
            if "allow_pickle" in str(error)
            else str(error),
            remedy=f"store it as numbers or strings, or leave it out with --drop {name}",
        ) from None


def listed(names: Any, most: int = MAX_NAMED) -> str:
    """Names in quotes, the first few of them."""
    some = [repr(str(name)) for name in names]
    further = f" and {len(some) - most} more" if len(some) > most else ""
    return ", ".join(some[:most]) + further
