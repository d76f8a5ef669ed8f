"""Features from elsewhere, judged: which columns are numbers, which studies can be used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvp.config import Config, nearest
from mvp.data.tables.feature_files import ID_NAMES, RawTable, listed, read_columns
from mvp.data.tables.table import is_blank, text_cells
from mvp.errors import ConfigError, DataError
from mvp.types import FloatArray

MAX_DROPPED = 60
_TRUTH = {"true": 1.0, "false": 0.0}
# The number of the row, which data frames write in front of it.
_NO_NAME = re.compile(r"unnamed:? \d+|index|level_\d+", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class ImportedTable:
    """The rows of a table that can be used, and those that cannot.

    Attributes:
        columns: names of the features, in order.
        studies: id of each row; none stands twice.
        values: (row, feature) float32, all finite.
        refused: study (blank where it has none), line and reason of every other row.
    """

    columns: tuple[str, ...]
    studies: list[str]
    values: FloatArray
    refused: list[tuple[str, int, str]]


def read_imported(
    path: Path,
    config: Config,
    *,
    study: Sequence[str] = (),
    columns: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> ImportedTable:
    """Read a table with one row per study: its id, and features in the other columns.

    Args:
        path: `.csv`, `.tsv` or any text, `.parquet`, or `.npz`.
        config: names the study's columns, and the columns that are no features.
        study: columns of the id; default: data.study of the settings, else `study`.
        columns: take these columns only, in this order.
        drop: leave these columns out.

    Raises:
        ConfigError: a column that was named is not there, or is an id or a label by the settings.
        DataError: the file cannot be read, a study stands twice, or a column is not numeric.
    """
    raw = read_columns(path, list(study), list(config.data.study), drop)
    _require_once(raw)
    names = _chosen(raw, config, columns, drop)
    return _checked(raw, names, _matrix(raw, names))


def _require_once(raw: RawTable) -> None:
    first: dict[str, int] = {}
    for study, line in zip(raw.studies, raw.lines, strict=True):
        if study and first.setdefault(study, line) != line:
            raise DataError(
                f"a study stands twice, on {raw.line}s {first[study]} and {line}",
                study=study,
                path=raw.path,
                remedy="leave one row per study; several files of a study are several views",
            )


def _chosen(
    raw: RawTable, config: Config, columns: Sequence[str], drop: Sequence[str]
) -> tuple[str, ...]:
    there = raw.columns
    # Whole arrays of an `.npz` that were dropped are not read at all.
    dropped_arrays = set(drop) if raw.line == "row" else set()
    for name in [*columns, *drop]:
        if name not in there and name not in dropped_arrays:
            raise ConfigError(
                f"the table has no column {name!r} of features" + nearest(name, there),
                path=raw.path,
                cause=f"its columns are {listed(there, 20)}",
                remedy="correct --columns or --drop",
            )
    chosen = tuple(dict.fromkeys(n for n in columns or there if n not in set(drop)))
    taken = _taken(config)
    taken.update({name: "a row's number" for name in chosen if _NO_NAME.fullmatch(name)})
    if wrong := [name for name in chosen if name in taken]:
        raise ConfigError(
            f"{listed(wrong)}: no features, but {taken[wrong[0]]}",
            path=raw.path,
            cause="a label or an id among the features would tell the answer",
            remedy=f"leave out what is none: {_drop(wrong)}",
        )
    if not chosen:
        raise DataError(
            "the table has no column of features", path=raw.path, remedy="look at its header"
        )
    return chosen


def _taken(config: Config) -> dict[str, str]:
    """Columns that mvp.toml gives another meaning, with that meaning."""
    data = config.data
    taken = {label.column or name: f"the label {name}" for name, label in config.labels.items()}
    taken.update(dict.fromkeys([*ID_NAMES, *data.study], "the study's id"))
    taken.update(dict.fromkeys(data.patient, "the patient's id"))
    taken.update(dict.fromkeys(["instance", "instances"], "a slice's number"))
    taken.update({data.view: "the view's name", data.path: "the image's file"})
    if data.split is not None:
        taken[data.split] = "the split"
    return taken


def _drop(names: Sequence[str]) -> str:
    # To be copied into the command, so longer than what a person reads.
    return f"--drop {','.join(names[:MAX_DROPPED])}{',…' if len(names) > MAX_DROPPED else ''}"


def _matrix(raw: RawTable, names: Sequence[str]) -> np.ndarray:
    """(row, feature) float64, NaN where a cell is blank."""
    values = np.empty((len(raw.studies), len(names)))
    wrong: dict[str, int] = {}
    for place, name in enumerate(names):
        numbers = _numbers(raw.columns[name])
        if isinstance(numbers, int):
            wrong[name] = raw.lines[numbers]
        else:
            values[:, place] = numbers
    if wrong:
        line = next(iter(wrong.values()))
        raise DataError(
            f"not numeric: {listed(wrong)}",
            path=raw.path,
            cause=f"the first cell that is no number stands on {raw.line} {line}",
            remedy=f"leave them out, {_drop(list(wrong))}; or name the columns to take, "
            "--columns a,b,c",
        )
    empty = [names[i] for i in np.flatnonzero(np.isnan(values).all(axis=0)).tolist()]
    if empty:
        raise DataError(
            f"blank in every row: {listed(empty)}",
            path=raw.path,
            remedy=f"leave them out, {_drop(empty)}",
        )
    return values


def _numbers(column: Any) -> np.ndarray | int:
    """The numbers of a column, NaN for blanks; or the row of the first cell that is none."""
    kind = getattr(getattr(column, "dtype", None), "kind", "")
    if kind in "biuf" and kind:
        # Of a nullable column too: pandas gives its missing cells as NaN when it is asked to.
        if hasattr(column, "to_numpy"):
            return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
        return np.asarray(column, np.float64)
    cells = list(column) if isinstance(column, list | np.ndarray) else text_cells(column)
    numbers = np.empty(len(cells))
    for row, cell in enumerate(cells):
        number = _number(str(cell))
        if number is None:
            return row
        numbers[row] = number
    return numbers


def _number(cell: str) -> float | None:
    if "_" in cell:
        return None  # Python would read 1_0 as ten
    try:
        return float(cell)
    except ValueError:
        return float("nan") if is_blank(cell) else _TRUTH.get(cell.strip().casefold())


def _checked(raw: RawTable, names: tuple[str, ...], values: np.ndarray) -> ImportedTable:
    with np.errstate(over="ignore"):
        # No zero has a sign, so that one number is one row in every kind of file.
        narrow = values.astype(np.float32) + np.float32(0)
    usable = np.isfinite(narrow).all(axis=1) & np.array([bool(study) for study in raw.studies])
    refused = []
    for row in map(int, np.flatnonzero(~usable)):
        reason = "no study id" if not raw.studies[row] else "; ".join(_reasons(names, values[row]))
        refused.append((raw.studies[row], raw.lines[row], reason))
    kept = [study for study, use in zip(raw.studies, usable, strict=True) if use]
    return ImportedTable(names, kept, narrow[usable], refused)


def _reasons(names: Sequence[str], row: np.ndarray) -> Iterator[str]:
    big = np.abs(row) > np.finfo(np.float32).max
    for mask, what in (
        (np.isnan(row), "blank"),
        (np.isinf(row), "infinite"),
        (np.isfinite(row) & big, "too large for float32"),
    ):
        wrong = [name for name, here in zip(names, mask, strict=True) if here]
        if wrong:
            yield f"{'columns' if len(wrong) > 1 else 'column'} {listed(wrong)}: {what}"
