"""The manifest: which studies there are, what views they have, what is known about them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mvp.config import Config, nearest
from mvp.data.labels import merge_labels, parse_labels, target_of
from mvp.data.location import locate
from mvp.data.tables import Table, is_blank, join_ids, read_table
from mvp.data.views import source_views
from mvp.errors import ConfigError, DataError
from mvp.types import BoolArray, IntArray, Labels, TextArray

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Problem:
    """Something about the data that a user should know.

    An `error` costs images or studies; a `warning` is dealt with as its text says.
    """

    kind: str
    severity: Literal["error", "warning"]
    text: str
    count: int = 1


@dataclass(frozen=True, eq=False)
class Manifest:
    """The studies of one table.

    Attributes:
        studies: (study,) ids in the order of their first row.
        patients: (study,) group keys; whatever shares one never stands in two splits.
        labels: (study, target).
        fixed_parts: (study,) what the split column says, blank where it says nothing.
        images: one row per image: `study` (index), `view` (source name), `path` (text as in the
            table), `file` (where it lies), `line`, `error` (why it cannot be used, or "").
        problems: what was found on the way.
        rows: number of rows of the table.
    """

    studies: TextArray
    patients: TextArray
    labels: Labels
    fixed_parts: TextArray
    images: pd.DataFrame
    problems: tuple[Problem, ...]
    rows: int

    def __len__(self) -> int:
        return len(self.studies)

    def images_of(self, source: str, policy: str) -> pd.DataFrame:
        """The images of one source, several per study as the policy says.

        Raises:
            DataError: the policy is "error" and a study has several.
        """
        rows = self.images[self.images["view"] == source]
        if policy == "all":
            return rows
        again = rows["study"].duplicated()
        if policy == "error" and again.any():
            first = rows[again].iloc[0]
            raise DataError(
                "a study has several images of one view",
                study=str(self.studies[first["study"]]),
                view=source,
                path=first["path"],
                remedy=f'set views.{source}.images = "all" or "first"',
            )
        return rows[~again]

    def presence(self, sources: Sequence[str]) -> BoolArray:
        """(study, source): whether the table names an image."""
        mask = np.zeros((len(self), len(sources)), bool)
        for column, source in enumerate(sources):
            mask[self.images.loc[self.images["view"] == source, "study"].unique(), column] = True
        return mask

    def select(self, rows: IntArray) -> Manifest:
        """The manifest of some studies, in the order given."""
        new = {int(old): i for i, old in enumerate(rows)}
        images = self.images[self.images["study"].isin(list(new))].copy()
        images["study"] = images["study"].map(new).astype(np.int64)
        return Manifest(
            self.studies[rows],
            self.patients[rows],
            self.labels.select(rows),
            self.fixed_parts[rows],
            images,
            self.problems,
            self.rows,
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
    """
    source = read_table(table if table is not None else folder / config.data.table)
    base = root if root is not None else folder / config.data.root
    # abspath, not resolve: links are followed and checked when a file is opened.
    start = Path(os.path.abspath(base))  # noqa: PTH100
    return _Builder(config, source, start, scoring).build()


class _Builder:
    """Walks the columns once and gathers problems on the way."""

    def __init__(self, config: Config, table: Table, root: Path, scoring: bool) -> None:
        self.config, self.table, self.root, self.scoring = config, table, root, scoring
        self.frame = table.frame
        self.problems: list[Problem] = []

    def build(self) -> Manifest:
        import pandas as pd

        data = self.config.data
        study_text = self._ids(data.study, "study")
        blank = np.array([not s for s in study_text])
        if blank.any():
            line = self.table.line(int(np.flatnonzero(blank)[0]))
            raise DataError(
                f"{blank.sum()} rows have no study id, the first on line {line}",
                path=self.table.path,
                remedy="fill in data.study, or name another column",
            )
        codes, studies = pd.factorize(np.asarray(study_text, dtype=object))
        patients = self._per_study(self._patients(study_text), codes, len(studies), "patient")
        labels = self._labels(codes, len(studies))
        return Manifest(
            studies=np.asarray(studies, dtype=object),
            patients=patients,
            labels=labels,
            fixed_parts=self._fixed_parts(codes, len(studies)),
            images=self._images(codes, studies),
            problems=tuple(self.problems),
            rows=len(self.frame),
        )

    def _column(self, name: str, setting: str) -> list[str]:
        if name not in self.frame:
            raise ConfigError(
                f"the table has no column {name!r}" + nearest(name, self.frame.columns),
                path=self.table.path,
                cause=f"its columns are {', '.join(map(str, self.frame.columns[:20]))}",
                remedy=f"correct {setting} in mvp.toml",
            )
        return [str(cell).strip() for cell in self.frame[name]]

    def _ids(self, names: Sequence[str], role: str) -> list[str]:
        columns = [self._column(name, f"data.{role}") for name in names]
        try:
            return join_ids(columns)
        except ValueError as error:
            raise DataError(
                f"data.{role} = {list(names)} makes one id of different cells: {error}",
                remedy="name a single column",
            ) from None

    def _patients(self, studies: list[str]) -> list[str]:
        names = self.config.data.patient
        if self.scoring and not set(names) <= set(self.frame.columns):
            return studies
        ids = self._ids(names, "patient")
        # A study whose patient stands on another of its rows belongs to that patient.
        known = {s: p for s, p in reversed(list(zip(studies, ids, strict=True))) if p}
        ids = [p or known.get(s, "") for s, p in zip(studies, ids, strict=True)]
        missing = [i for i, p in enumerate(ids) if not p]
        if missing:
            self._warn(
                "no-patient",
                f"{len(missing)} rows have no patient id (first: line "
                f"{self.table.line(missing[0])}); each such study is taken as its own patient",
                len(missing),
            )
        return [p or f"study {s}" for p, s in zip(ids, studies, strict=True)]

    def _per_study(self, values: Sequence[str], codes: IntArray, n: int, what: str) -> TextArray:
        result = np.full(n, None, dtype=object)
        for row, (code, value) in enumerate(zip(codes, values, strict=True)):
            if result[code] is None:
                result[code] = value
            elif result[code] != value:
                raise DataError(
                    f"one study belongs to two values of {what}",
                    study=str(self._study_at(row)),
                    path=self.table.path,
                    cause=f"line {self.table.line(row)} says {value!r}, an earlier one "
                    f"{result[code]!r}",
                    remedy="correct the table, or add a column to data.study",
                )
        return result

    def _study_at(self, row: int) -> str:
        return "/".join(str(self.frame[c].iloc[row]).strip() for c in self.config.data.study)

    def _labels(self, codes: IntArray, n: int) -> Labels:
        targets, columns = [], []
        for name, label in self.config.labels.items():
            targets.append(target_of(name, label))
            if self.scoring:
                columns.append(np.full(n, np.nan, np.float32))
                continue
            cells = self._column(label.column or name, f"labels.{name}.column")
            values = parse_labels(cells, name, label, self.table.line)
            merged, conflicts = merge_labels(values, codes, n)
            columns.append(merged)
            if conflicts:
                self._warn(
                    "label-conflict",
                    f"label {name!r}: the rows of {conflicts} studies contradict each other; it "
                    "is taken as unknown there",
                    conflicts,
                )
        return Labels(tuple(targets), np.stack(columns, axis=1).astype(np.float32))

    def _fixed_parts(self, codes: IntArray, n: int) -> TextArray:
        if self.config.data.split is None or self.scoring:
            return np.full(n, "", dtype=object)
        cells = [c.casefold() for c in self._column(self.config.data.split, "data.split")]
        return self._per_study(cells, codes, n, "the split column")

    def _images(self, codes: IntArray, studies: TextArray) -> pd.DataFrame:
        import pandas as pd

        views, paths = self._views(), self._column(self.config.data.path, "data.path")
        rows: list[tuple[int, str, str, str, int, str]] = []
        seen: set[tuple[int, str, str]] = set()
        repeated, blank = 0, 0
        for row, (code, view, text) in enumerate(zip(codes, views, paths, strict=True)):
            if view is None:
                continue
            if is_blank(text):
                blank += 1
                continue
            if (int(code), view, text) in seen:
                repeated += 1
                continue
            seen.add((int(code), view, text))
            file, error = locate(self.root, text, self.config.data.allow_outside_root)
            rows.append((int(code), view, text, file, self.table.line(row), error))
        if repeated:
            self._warn(
                "repeated-row",
                f"{repeated} rows name an image that their study and view already has; "
                "it is used once",
                repeated,
            )
        if blank:
            self._warn("blank-path", f"{blank} rows name no file; the view is missing there", blank)
        frame = pd.DataFrame(rows, columns=["study", "view", "path", "file", "line", "error"])
        refused = frame[frame["error"] != ""]
        if len(refused):
            first = refused.iloc[0]
            self.problems.append(
                Problem(
                    "path-refused",
                    "error",
                    f"{len(refused)} paths are refused, the first on line {first['line']}: "
                    f"{first['error']}",
                    len(refused),
                )
            )
        return frame.astype({"study": np.int64})

    def _views(self) -> list[str | None]:
        cells = self._column(self.config.data.view, "data.view")
        views, strange = source_views(cells, self.config)
        for text, count in strange:
            self._warn("unknown-view", f"{count} rows are of {text}; they are left out", count)
        return views

    def _warn(self, kind: str, text: str, count: int) -> None:
        self.problems.append(Problem(kind, "warning", text, count))
