"""What an importer is given and what it gives back: one contract for every data set.

An importer is a module of this folder with `read(request) -> Draft`, named in `kinds.py`. It reads
tables and file names, never an image, and accounts for every row: kept, or left out for a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mvp.config import nearest
from mvp.data.tables.table import Table, read_table
from mvp.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("study", "patient", "view", "path")
OPTIONAL = ("laterality", "order", "split")


@dataclass(frozen=True)
class ImportRequest:
    """What the user named.

    Attributes:
        source: the data set's table, or its folder.
        root: where the paths of the images start.
        labels: a table of labels that stands apart.
        metadata: a table on images that stands apart.
        split: a table of splits that stands apart.
        pattern: of file names, for folders.
        findings: names of the labels wanted, where the data set has more than one would learn.
    """

    source: Path
    root: Path | None = None
    labels: Path | None = None
    metadata: Path | None = None
    split: Path | None = None
    pattern: str | None = None
    findings: tuple[str, ...] = ()

    @property
    def base(self) -> Path:
        """Where paths start: the root, else the source's own folder."""
        if self.root is not None:
            return self.root
        return self.source if self.source.is_dir() else self.source.parent


@dataclass
class ViewDraft:
    """One [views] table.

    Attributes:
        aliases: names that the manifest's column `view` has for it, besides its own.
        side: "left" or "right"; needs the manifest's column `laterality`.
        kind: as in `ViewConfig`.
        transform: what differs from the common [transform].
        further: other settings of the view.
        comment: why it is so, for the reader of mvp.toml.
    """

    aliases: list[str] = field(default_factory=list)
    side: Literal["left", "right"] | None = None
    kind: Literal["image", "table", "text"] = "image"
    transform: dict[str, Any] = field(default_factory=dict)
    further: dict[str, Any] = field(default_factory=dict)
    comment: str = ""

    def settings(self) -> dict[str, Any]:
        """As [views.NAME] writes them: what is said, without defaults."""
        found: dict[str, Any] = {}
        if self.kind != "image":
            found["kind"] = self.kind
        if self.aliases:
            found["aliases"] = self.aliases
        if self.side is not None:
            found["side"] = self.side
        found.update(self.further)
        if self.transform:
            found["transform"] = self.transform
        return found


@dataclass
class LabelDraft:
    """One [labels] table.

    Attributes:
        column: of the manifest.
        further: its other settings: policies, separator, kind, classes.
        hints: settings written as a comment, for a reading that others prefer.
        comment: why it is so.
    """

    column: str
    further: dict[str, Any] = field(default_factory=dict)
    hints: dict[str, Any] = field(default_factory=dict)
    comment: str = ""


@dataclass
class Draft:
    """A manifest and the settings that fit it.

    Attributes:
        frame: one row per image, every cell text: `study`, `patient`, `view`, `path`, and
            `laterality`, `order`, `split` where the data set has them, then label and other
            columns. A study's id is unique over the data set, a path starts at `root`.
        rows: how many images the source lists.
        root: where the paths start.
        views: the [views] tables by name.
        labels: the [labels] tables by name.
        left_out: reason to number of rows; what is kept and left out adds up to `rows`.
        data: further settings of [data].
        settings: further or other settings of the tables split, network, transform, training,
            augment, head, extract, and of the top (`protocol`).
        comments: what to say at the head of a table, by its name ("labels", "split").
        notes: what was decided, and what a user should know.
    """

    frame: pd.DataFrame
    rows: int
    root: Path
    views: dict[str, ViewDraft]
    labels: dict[str, LabelDraft]
    left_out: dict[str, int] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_columns(path: Path, columns: Sequence[str], kind: str) -> Table:
    """Read a table that must have some columns; cells are stripped.

    Raises:
        DataError: it is no table, or lacks a column; the nearest one is named.
    """
    if path.is_dir():
        raise DataError(
            "this is a folder, not a table", path=path, remedy=f"{kind} is given its table"
        )
    table = read_table(path)
    for name in columns:
        if name not in table.frame:
            listed = ", ".join(map(str, table.frame.columns[:12]))
            raise DataError(
                f"the table has no column {name!r}" + nearest(name, table.frame.columns),
                path=path,
                cause=f"its columns are {listed}",
                remedy=f"give the table of {kind} as it was published",
            )
    for name in columns:
        table.frame[name] = table.frame[name].str.strip()
    return table


def refuse_rows(table: Table, wrong: pd.Series, what: str, remedy: str) -> None:
    """A DataError that counts the wrong rows and names the first by its line; else nothing.

    Args:
        table: as `read_columns` gave it, its rows in their order.
        wrong: (row,) bool.
        what: what is wrong with them, as "rows have no patient".
        remedy: what mends it.
    """
    if wrong.any():
        first = int(wrong.to_numpy().argmax())
        raise DataError(
            f"{int(wrong.sum())} {what}, the first on line {table.line(first)}",
            path=table.path,
            remedy=remedy,
        )
