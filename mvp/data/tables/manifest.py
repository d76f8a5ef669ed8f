"""The manifest: which studies there are, what views they have, what is known about them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mvp.config import Config
from mvp.data.tables.cells import study_cells
from mvp.data.tables.columns import Columns, contradictions, text_array
from mvp.data.tables.ids import NoUsableIdError, RefusedRow, fixed_parts, read_ids
from mvp.data.tables.images import read_images
from mvp.data.tables.labels import merge_labels, overlooked, parse_labels, target_of
from mvp.data.tables.parts import part_ids, table_parts
from mvp.data.tables.problems import Problem, quoted
from mvp.data.tables.table import Table, read_table
from mvp.errors import DataError
from mvp.types import BoolArray, IntArray, Labels, TextArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Manifest", "Problem", "RefusedRow", "load_manifest"]


@dataclass(frozen=True, eq=False)
class Manifest:
    """The studies of one table.

    Attributes:
        studies: (study,) ids in the order of their first row.
        patients: (study,) group keys; whatever shares one never stands in two splits.
        labels: (study, target).
        fixed_parts: (study,) what the split column says, blank where it says nothing.
        images: one row per image: `study` (index), `view` (source name), `path` (text as in the
            table), `file` (where it lies), `line`, `error` (why it cannot be used, or ""), `rank`
            (how new it is by `data.order`, the newest has the highest).
        cells: for each view of columns (study, column) text, "" where blank.
        refused: rows that belong to no study because of their ids.
        problems: what was found on the way.
        rows: number of rows of the table.
        source: how the table was read: encoding and separator.
    """

    studies: TextArray
    patients: TextArray
    labels: Labels
    fixed_parts: TextArray
    images: pd.DataFrame
    problems: tuple[Problem, ...]
    rows: int
    cells: Mapping[str, TextArray] = field(default_factory=dict)
    refused: tuple[RefusedRow, ...] = ()
    source: str = ""

    def __len__(self) -> int:
        return len(self.studies)

    def images_of(self, source: str, policy: str) -> pd.DataFrame:
        """The images of one source, several per study as the policy says.

        "first" and "newest" choose before any file is opened: a chosen one that cannot be read is
        not replaced by the next.

        Raises:
            DataError: the policy is "error" and a study has several.
        """
        rows = self.images[self.images["view"] == source]
        if policy == "all":
            return rows
        if policy == "newest":
            # Stable, so that of equal ones the later row is the last.
            last = rows.sort_values("rank", kind="stable").drop_duplicates("study", keep="last")
            return rows[rows.index.isin(last.index)]
        again = rows["study"].duplicated()
        if policy == "error" and again.any():
            second = rows[again].iloc[0]
            first = rows[rows["study"] == second["study"]].iloc[0]
            raise DataError(
                f"{rows.loc[again, 'study'].nunique()} studies have several images of one view, "
                f"the first on line {first['line']} and line {second['line']}",
                study=str(self.studies[second["study"]]),
                view=source,
                path=second["path"],
                remedy=f'set views.{source}.images = "all", "first" or "newest"',
            )
        return rows[~again]

    def presence(self, sources: Sequence[str]) -> BoolArray:
        """(study, source): whether the table names an image."""
        mask = np.zeros((len(self), len(sources)), bool)
        for column, source in enumerate(sources):
            mask[self.images.loc[self.images["view"] == source, "study"].unique(), column] = True
        return mask

    def filled(self, view: str) -> BoolArray:
        """(study,): whether any cell of a view of columns is filled."""
        return np.asarray((self.cells[view] != "").any(axis=1), dtype=bool)

    def select(self, rows: IntArray) -> Manifest:
        """The manifest of some studies, in the order given."""
        rows = np.asarray(rows, dtype=np.int64)
        new = np.full(len(self), -1, dtype=np.int64)
        new[rows] = np.arange(len(rows))
        places = new[self.images["study"].to_numpy()]
        return replace(
            self,
            studies=self.studies[rows],
            patients=self.patients[rows],
            labels=self.labels.select(rows),
            fixed_parts=self.fixed_parts[rows],
            images=self.images[places >= 0].assign(study=places[places >= 0]),
            cells={view: cells[rows] for view, cells in self.cells.items()},
        )


def load_manifest(
    config: Config,
    folder: Path,
    *,
    table: Path | None = None,
    root: Path | None = None,
    scoring: bool = False,
) -> Manifest:
    """Read the table that `mvp.toml` names, or another one of the same columns.

    Args:
        config: the settings.
        folder: the workspace; relative paths in the settings start there.
        table: read this table instead.
        root: where the paths of the table start, instead of data.root.
        scoring: labels, patients and splits may be absent; each study then is its own patient.

    Raises:
        ConfigError: a column that the settings name is not in the table.
        DataError: the table cannot be read, or contradicts itself in what cannot be left out.
    """
    read = read_table(table if table is not None else folder / config.data.table)
    return _manifest(config, folder, read, root, scoring=scoring)


def manifest_parts(
    config: Config, folder: Path, table: Path, root: Path | None = None
) -> Iterator[Manifest | tuple[RefusedRow, ...]]:
    """The studies of a table of any length, for scoring, part by part.

    A study whose rows stand together is in one part. One that stands again further down may be in
    two of them, which `repeated_study` tells.

    Args:
        config: the settings.
        folder: the workspace.
        table: its labels, patients and splits are not looked at.
        root: where the paths of the table start, instead of data.root.

    Yields:
        A manifest; of a part in which no row has a usable id, when there are others, its rows.

    Raises:
        ConfigError: a column that the settings name is not in the table.
        DataError: the table cannot be read, contradicts itself, or has no usable id at all.
    """
    unusable: list[NoUsableIdError] = []
    any_study = False
    for read in table_parts(table, config.data.study):
        try:
            manifest = _manifest(config, folder, read, root, scoring=True)
        except NoUsableIdError as error:
            unusable.append(error)
            continue
        yield from (error.refused for error in unusable)
        unusable, any_study = [], True
        yield manifest
    if unusable and not any_study:
        raise unusable[0]
    yield from (error.refused for error in unusable)


def repeated_study(
    config: Config, table: Path, suspected: Callable[[TextArray], BoolArray]
) -> tuple[str, int, int] | None:
    """The first study whose rows stand apart in a table, and the lines of two of them.

    Args:
        config: the settings.
        table: the table.
        suspected: asked of (n,) ids which of them may be one; of the others nothing is kept.
    """
    lines: dict[str, int] = {}
    for read in table_parts(table, config.data.study):
        here: dict[str, int] = {}
        studies = part_ids(read, config.data.study)
        for row in np.flatnonzero(suspected(text_array(studies))).tolist():
            here.setdefault(studies[row], read.line(row))
        for study, line in here.items():
            if study in lines:
                return study, lines[study], line
        lines.update(here)
    return None


def _manifest(
    config: Config, folder: Path, read: Table, root: Path | None, *, scoring: bool
) -> Manifest:
    base = root if root is not None else folder / config.data.root
    # abspath, not resolve: links are followed and checked when a file is opened.
    start = Path(os.path.abspath(base))  # noqa: PTH100
    ids = read_ids(config, Columns(read), scoring=scoring)
    columns, codes, n = ids.columns, ids.codes, len(ids.studies)
    labels, contradicted = _labels(config, columns, codes, n, scoring=scoring)
    parts = text_array([""] * n) if scoring else fixed_parts(config, columns, codes, ids.studies)
    cells, conflicts = study_cells(config, columns, codes, n)
    images, found = read_images(config, ids, start)
    return Manifest(
        studies=ids.studies,
        patients=ids.patients,
        labels=labels,
        fixed_parts=parts,
        images=images,
        problems=(*ids.problems, *contradicted, *conflicts, *found),
        rows=len(read.frame),
        cells=cells,
        refused=ids.refused,
        source=read.how,
    )


def _labels(
    config: Config, columns: Columns, codes: IntArray, n: int, *, scoring: bool
) -> tuple[Labels, list[Problem]]:
    targets = tuple(target_of(name, label) for name, label in config.labels.items())
    values = np.full((n, len(targets)), np.nan, np.float32)
    problems: list[Problem] = []
    if scoring:
        return Labels(targets, values), problems
    for place, (name, label) in enumerate(config.labels.items()):
        column = label.column or name
        for view in (v for v, own in config.views.items() if column in own.columns):
            text = (
                f"view {view} reads the column {column!r}, and so does the label {name!r}: the "
                "answer is among the inputs"
            )
            problems.append(Problem("label-input", "warning", text))
        numbers, cells = columns.distinct(column, f"labels.{name}.column")
        rows = parse_labels(cells, numbers, name, label, columns.line)
        if passed := overlooked(cells, label):
            apart = np.flatnonzero(np.isin(numbers, passed))
            text = (
                f"label {name!r}: {len(apart)} rows count as negative though a positive value "
                f"stands in them (first: line {columns.line(int(apart[0]))}, "
                f"{quoted(cells[numbers[apart[0]]])}); set labels.{name}.separator to what stands "
                f"between the values of column {column!r}"
            )
            problems.append(Problem("label-separator", "warning", text, len(apart)))
        values[:, place], contradicted = merge_labels(rows, codes, n)
        if contradicted.any():
            apart = contradictions(rows, ~np.isnan(rows), codes, n)
            text = (
                f"label {name!r}: the rows of {contradicted.sum()} studies contradict each other "
                f"in column {column!r}, the first on line {columns.line(int(apart[0]))}; it is "
                "taken as unknown there"
            )
            count = int(contradicted.sum())
            problems.append(Problem("label-conflict", "warning", text, count))
    return Labels(targets, values), problems
