"""Labels of a folder of images: its classes, or a table beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mvp.config.section import RESERVED_COLUMNS
from mvp.data.importers.base import LabelDraft, read_columns, refuse_rows
from mvp.data.tables.table import is_blank
from mvp.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

PER_STUDY = ("patient", "split")
PER_IMAGE = ("view", "path", "laterality", "order")
MAX_CLASSES = 20
# Of two classes, one so called is the negative one.
_NEGATIVE = frozenset(
    [
        "negative",
        "neg",
        "normal",
        "healthy",
        "benign",
        "control",
        "absent",
        "low",
        "no",
        "none",
        "0",
        "false",
    ]
)
_ZERO_ONE = frozenset({"0", "1", "0.0", "1.0", "-1", "-1.0", "true", "false", "yes", "no"})


def class_labels(frame: pd.DataFrame, notes: list[str]) -> dict[str, LabelDraft]:
    """The label of the column `label`: binary for two classes, multi-class for more.

    Raises:
        DataError: one class alone, or two that differ in case only.
    """
    return _label(frame, "label", notes)


def add_labels(frame: pd.DataFrame, table: Path, notes: list[str]) -> dict[str, LabelDraft]:
    """Join a table with a column `study` to the images; its other columns are labels.

    A column of 0, 1, true, false, yes, no, blank and -1 is binary, one of a few words multi-class.
    Columns of one value or of many stay in the manifest and are no labels. `patient` and `split`
    say what they say where the file names do not.

    Raises:
        DataError: no column `study`, a study with two different rows, no study in common, or no
            column that is a label.
    """
    read = read_columns(table, ["study"], "folder (--labels)")
    cells = read.frame.apply(lambda column: column.str.strip())
    refuse_rows(read, cells["study"].map(is_blank), "rows have no study", "take them out")
    refuse_rows(
        read,
        cells.duplicated(["study"]) & ~cells.duplicated(),
        "rows give a study of an earlier row other cells",
        "keep one row per study",
    )
    cells = cells.drop_duplicates("study").set_index("study")
    here = frame["study"].isin(cells.index)
    if not here.any():
        raise DataError(
            "no study of the folder stands in the table of labels",
            path=table,
            cause=f"the folder has {frame['study'].iloc[0]!r}, the table {cells.index[0]!r}",
            remedy="write the ids as the file names do",
        )
    if not here.all():
        count = frame.loc[~here, "study"].nunique()
        notes.append(f"{count} studies of the folder have no row in {table.name}: unknown labels.")
    if without := len(set(cells.index) - set(frame["study"])):
        notes.append(f"{without} studies of {table.name} have no image in the folder.")
    labels: dict[str, LabelDraft] = {}
    unused = []
    for name in map(str, cells.columns):
        if name in frame:
            notes.append(f"Column {name!r} of {table.name} is passed over: file names say it.")
            continue
        if name in PER_IMAGE:
            notes.append(f"Column {name!r} of {table.name} is passed over: it is one of images.")
            continue
        frame[name] = frame["study"].map(cells[name]).fillna("")
        if name in PER_STUDY:
            continue
        values = {v.casefold() for v in frame[name] if not is_blank(v)}
        if 2 <= len(values) <= MAX_CLASSES or (values and values <= _ZERO_ONE):
            labels.update(_label(frame, name, notes))
        else:
            unused.append(name)
    if unused:
        notes.append(f"Columns of {table.name} that are no labels: {', '.join(map(repr, unused))}.")
    if not labels and "label" not in frame:
        raise DataError(
            "the table of labels has no column that is a label",
            path=table,
            cause="no other column than study holds 0 and 1, or a few words",
            remedy="add one, or {label} to --pattern",
        )
    return labels


def _label(frame: pd.DataFrame, column: str, notes: list[str]) -> dict[str, LabelDraft]:
    # A folder called "none" is a class, a cell that says none is blank.
    said = {v for v in frame[column] if v and (column == "label" or not is_blank(v))}
    classes = sorted(said, key=lambda v: (v.zfill(12) if v.isdecimal() else v, v))
    folded = [c.casefold() for c in classes]
    if set(folded) <= _ZERO_ONE and column != "label":
        return {_usable(column): LabelDraft(column)}
    if len(set(folded)) < len(classes) or len(classes) < 2:
        raise DataError(
            f"the classes of {column!r} are {', '.join(map(repr, classes)) or 'none at all'}",
            cause="one class alone teaches nothing, and classes must differ in more than case",
            remedy="rename the folders or cells, or give --pattern where another part is the label",
        )
    if len(classes) > 2:
        if len(classes) > MAX_CLASSES:
            raise DataError(
                f"the label has {len(classes)} classes, more than {MAX_CLASSES}",
                cause=f"the first are {', '.join(classes[:5])}",
                remedy="give --pattern where another part of the name is the label",
            )
        return {_usable(column): LabelDraft(column, {"kind": "multiclass", "classes": classes})}
    absent = next((i for i, c in enumerate(folded) if c in _NEGATIVE), 0)
    negative, positive = classes[absent], classes[1 - absent]
    notes.append(f"Label {column!r}: {positive!r} is positive, {negative!r} negative.")
    name = positive if column == "label" and positive not in _ZERO_ONE else column
    return {_usable(name): LabelDraft(column, {"positive": [positive], "negative": [negative]})}


def _usable(name: str) -> str:
    """A name that the score table has no column of already."""
    name = "".join(c if c.isprintable() else "_" for c in name)
    taken = name in RESERVED_COLUMNS or name.startswith("has_")
    return f"label_{name}" if taken else name
