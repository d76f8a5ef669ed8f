"""The images that a table names: a row for each, with its view, its file and why it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mvp.config import Config
from mvp.data.tables.columns import Columns, text_array
from mvp.data.tables.ids import Ids
from mvp.data.tables.location import locate
from mvp.data.tables.order import ranks
from mvp.data.tables.problems import Problem, quoted
from mvp.data.tables.views import source_views
from mvp.errors import DataError
from mvp.types import IntArray, TextArray

if TYPE_CHECKING:
    import pandas as pd


def read_images(config: Config, ids: Ids, root: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """The images in the order of the table, and what was found on the way.

    Columns: `study` (index), `view` (source name), `path` (text as in the table), `file` (where it
    lies), `line`, `error` (why it cannot be used, or ""), `rank` (how new it is by `data.order`; 0
    where nothing asks for the newest).

    Args:
        config: the settings.
        ids: whose the rows are.
        root: where paths start, absolute and normalised.

    Raises:
        ConfigError: a column is not there.
        DataError: a row is repeated and `data.duplicates = "error"`, or the cells of `data.order`
            cannot be compared.
    """
    columns, codes = ids.columns, ids.codes
    if not any(view.own_files for view in config.views.values()):
        # Neither a column of views nor one of paths is needed.
        nothing = np.zeros(0, np.int64)
        return _frame(config, columns, nothing, text_array([]), nothing, text_array([]), root), []
    bare = _cells_alone(config, columns)
    if len(bare):
        rest = np.setdiff1d(np.arange(len(columns)), bare)
        columns, codes = columns.select(rest), codes[rest]
    views, problems = source_views(config, columns)
    known = np.array([view is not None for view in views], dtype=bool)
    blank = np.flatnonzero(known & columns.blank(config.data.path, "data.path"))
    if len(blank):
        text = (
            f"{len(blank)} rows name no file (first: line {columns.line(int(blank[0]))}); the view "
            "is missing there; fill in data.path to use them"
        )
        problems.append(Problem("blank-path", "warning", text, len(blank)))
        known[blank] = False
    rows = np.flatnonzero(known)
    paths = columns.cells(config.data.path, "data.path")[rows]
    frame = _frame(config, columns, rows, paths, codes[rows], views[rows], root)
    # One file may be written in several ways; a path that leads nowhere is its text.
    place = frame["file"].where(frame["file"] != "", frame["path"])
    problems += _refused(frame)
    frame, repeated = _once(config, ids, frame, place)
    place = place[frame.index]
    problems += [*repeated, *_of_two_views(frame, place), *_of_two_studies(ids, frame, place)]
    return frame.reset_index(drop=True), problems


def _frame(
    config: Config,
    columns: Columns,
    rows: IntArray,
    paths: TextArray,
    studies: IntArray,
    views: TextArray,
    root: Path,
) -> pd.DataFrame:
    import pandas as pd

    outside = config.data.allow_outside_root
    places = [locate(root, path, outside) for path in paths]
    return pd.DataFrame(
        {
            "study": studies.astype(np.int64),
            "view": pd.Series(views, dtype=object),
            "path": pd.Series(paths, dtype=object),
            "file": pd.Series([file for file, _ in places], dtype=object),
            "line": np.array([columns.line(int(row)) for row in rows], dtype=np.int64),
            "error": pd.Series([error for _, error in places], dtype=object),
            "rank": _ranks(config, columns, rows, views),
        }
    )


def _cells_alone(config: Config, columns: Columns) -> IntArray:
    """Rows that name neither a view nor a file, but fill a column of a view of columns."""
    filled = np.zeros(len(columns), bool)
    for name, view in config.views.items():
        for column in view.columns:
            filled |= ~columns.blank(column, f"views.{name}")
    if not filled.any():
        return np.flatnonzero(filled)
    filled &= columns.blank(config.data.view, "data.view")
    return np.flatnonzero(filled & columns.blank(config.data.path, "data.path"))


def _ranks(config: Config, columns: Columns, rows: IntArray, views: TextArray) -> IntArray:
    result = np.zeros(len(rows), np.int64)
    newest = {config.source_of(n) for n, view in config.views.items() if view.images == "newest"}
    asked = np.isin(views.astype(str), list(newest))
    if newest and asked.any():
        result[asked] = ranks(columns, str(config.data.order), rows[asked])
    return result


def _refused(frame: pd.DataFrame) -> list[Problem]:
    refused = frame[frame["error"] != ""]
    if not len(refused):
        return []
    first = refused.iloc[0]
    text = (
        f"{len(refused)} paths are refused, the first on line {first['line']}, "
        f"{quoted(first['path'])}: {first['error']}"
    )
    return [Problem("path-refused", "error", text, len(refused))]


def _once(
    config: Config, ids: Ids, frame: pd.DataFrame, place: pd.Series
) -> tuple[pd.DataFrame, list[Problem]]:
    """Every image of a study and view once; of different ranks it keeps the highest."""
    whose = [frame["study"], frame["view"], place]
    again = frame.assign(place=place).duplicated(["study", "view", "place"])
    if not again.any():
        return frame, []
    row = frame[again].iloc[0]
    same = (frame["study"] == row["study"]) & (frame["view"] == row["view"])
    first = frame[same & (place == place[row.name])].iloc[0]
    lines = f"line {first['line']} and line {row['line']}"
    if config.data.duplicates == "error":
        raise DataError(
            f"{again.sum()} rows name an image that their study and view already has, the first "
            f"two on {lines}",
            study=str(ids.studies[row["study"]]),
            view=row["view"],
            path=row["path"],
            remedy='remove them, or set data.duplicates = "once"',
        )
    text = (
        f"{again.sum()} rows name an image that their study and view already has (first: {lines}); "
        "it is used once"
    )
    frame["rank"] = frame["rank"].groupby(whose).transform("max")
    return frame[~again], [Problem("repeated-row", "warning", text, int(again.sum()))]


def _of_two_views(frame: pd.DataFrame, place: pd.Series) -> list[Problem]:
    """An image under two views of one study is refused: nobody can tell which it is."""
    twice = frame.assign(place=place).duplicated(["study", "place"], keep=False)
    if not twice.any():
        return []
    first = frame[twice].iloc[0]
    same = twice & (frame["study"] == first["study"]) & (place == place[first.name])
    second = frame[same].iloc[1]
    reason = "the file stands under two views of its study"
    frame.loc[twice & (frame["error"] == ""), "error"] = reason
    text = (
        f"{twice.sum()} rows are refused because one file stands under two views of a study, the "
        f"first two on line {first['line']} ({first['view']}) and line {second['line']} "
        f"({second['view']}), {quoted(first['path'])}; correct data.view, or let one view look at "
        "the other's images with `source`"
    )
    return [Problem("two-views", "error", text, int(twice.sum()))]


def _of_two_studies(ids: Ids, frame: pd.DataFrame, place: pd.Series) -> list[Problem]:
    """An image under several studies is told, with those of different patients apart."""
    one = ~frame.assign(place=place).duplicated(["study", "place"])
    shared = frame[one & place.where(one).duplicated(keep=False)]
    if not len(shared):
        return []
    where = place[shared.index]
    patients = shared["study"].map(dict(enumerate(ids.patients)))
    across = patients.groupby(where).transform("nunique") > 1
    problems = []
    for mask, whose in ((across, "of different patients"), (~across, "of one patient")):
        if not mask.any():
            continue
        first = shared[mask].iloc[0]
        second = shared[mask & (where == where[first.name])].iloc[1]
        count = int(where[mask].nunique())
        text = (
            f"{count} files stand under several studies {whose} (first: line {first['line']} and "
            f"line {second['line']}, {quoted(first['path'])}); correct data.path or data.study "
            "unless that is meant"
        )
        problems.append(Problem("shared-file", "warning", text, count))
    return problems
