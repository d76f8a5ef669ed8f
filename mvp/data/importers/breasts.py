"""What the data sets of mammograms share: a study is one breast, seen as cc and as mlo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mvp.data.importers.base import ViewDraft, refuse_rows
from mvp.data.tables.table import Table, is_blank

if TYPE_CHECKING:
    import pandas as pd

VIEWS = ("cc", "mlo")
_SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}
_LETTER = {"left": "L", "right": "R"}


def breast_views(transform: dict[str, Any]) -> dict[str, ViewDraft]:
    """The two standard views, prepared in the same way."""
    comments = {"cc": "craniocaudal, of one breast", "mlo": "mediolateral oblique, of one breast"}
    return {name: ViewDraft(transform=dict(transform), comment=comments[name]) for name in VIEWS}


def require_ids(table: Table, columns: Sequence[str]) -> None:
    """Refuse rows without an id, naming the first of them.

    Raises:
        DataError: a cell of one of the columns is blank.
    """
    for column in columns:
        refuse_rows(
            table,
            table.frame[column].map(is_blank),
            f"rows have no {column!r}",
            "give the table as it was published, or take these rows out",
        )


def sides(table: Table, column: str) -> pd.Series:
    """(row,) "left" or "right".

    Raises:
        DataError: a cell says neither.
    """
    found = table.frame[column].str.casefold().map(_SIDES)
    refuse_rows(
        table,
        found.isna(),
        f"rows say neither left nor right under {column!r}",
        "write L or R there, or take these rows out",
    )
    return found


def breast_ids(owner: pd.Series, side: pd.Series) -> pd.Series:
    """(row,) ids of studies: the examination's or patient's id, then L or R."""
    return owner + "/" + side.map(_LETTER)


def without_repeats(
    frame: pd.DataFrame, table: Table, left_out: dict[str, int], meaning: Sequence[str]
) -> pd.DataFrame:
    """Each image once; what is dropped is counted in `left_out`.

    Args:
        frame: one row per row of the table, in its order.
        table: for the lines.
        left_out: reason to number of rows.
        meaning: the columns that must be equal where a path stands again.

    Raises:
        DataError: two rows of one image differ in one of these columns.
    """
    again = frame.duplicated(["path"])
    same = frame.duplicated(["path", *meaning])
    refuse_rows(
        table,
        again & ~same,
        "rows name an image of an earlier row and say other things of it",
        "correct the table: an image has one breast, one view and one reading",
    )
    if again.any():
        left_out["rows repeat an image"] = int(again.sum())
    return frame[~again]


def standard_views(frame: pd.DataFrame, left_out: dict[str, int]) -> pd.DataFrame:
    """The images that are cc or mlo; the others are counted in `left_out` by their view."""
    views = frame["view"].str.casefold()
    standard = views.isin(VIEWS)
    for name, count in frame.loc[~standard, "view"].value_counts(sort=False).items():
        said = "without a view" if is_blank(str(name)) else f"of view {str(name)[:40]!r}"
        reason = f"images {said}, neither CC nor MLO"
        left_out[reason] = left_out.get(reason, 0) + int(count)
    return frame[standard].assign(view=views[standard])


def files_below(base: Path, folder: str, first: str) -> str:
    """How paths begin: with the published folder, or with nothing where `base` is that folder.

    Args:
        base: where paths start.
        folder: the published folder of the images.
        first: the folder of one examination in it.
    """
    is_it = not (base / folder).is_dir() and (base / first).is_dir()
    return "" if is_it else f"{folder}/"
