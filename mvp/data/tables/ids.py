"""Who a row belongs to: its study, its patient, and the part that the table gives it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mvp.config import Config
from mvp.data.tables.alike import alike_ids
from mvp.data.tables.columns import Columns, contradictions, first_values, text_array
from mvp.data.tables.problems import Problem, escaped, quoted
from mvp.data.tables.table import is_blank, join_ids
from mvp.errors import DataError
from mvp.types import IntArray, TextArray

MAX_ID = 512
# Control characters, and those of Unicode's class Cf that hide or turn what is written: two ids
# that look alike would be two patients.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)


@dataclass(frozen=True)
class RefusedRow:
    """A row that belongs to no study because its id cannot be used.

    `study` is its id with control characters written out, shortened.
    """

    line: int
    study: str
    reason: str


class NoUsableIdError(DataError):
    """No row of a table has an id that can be used.

    Attributes:
        refused: its rows.
    """

    refused: tuple[RefusedRow, ...] = ()


@dataclass(frozen=True, eq=False)
class Ids:
    """The studies of a table.

    Attributes:
        columns: of the rows that were not refused.
        codes: (row,) the index of each row's study.
        studies: (study,) ids in the order of their first row.
        patients: (study,) group keys.
        refused: the other rows.
        problems: what was found on the way.
    """

    columns: Columns
    codes: IntArray
    studies: TextArray
    patients: TextArray
    refused: tuple[RefusedRow, ...]
    problems: tuple[Problem, ...]


def read_ids(config: Config, columns: Columns, *, scoring: bool) -> Ids:
    """The study and the patient of every row.

    Args:
        config: the settings.
        columns: of the table.
        scoring: there may be no patients; each study then is its own.

    Raises:
        ConfigError: a column is not there.
        DataError: a row has no study id, a study has two patients, or no row has a usable id.
    """
    import pandas as pd

    data = config.data
    studies = _joined(columns, data.study, "study")
    if not all(studies):
        blank = [row for row, study in enumerate(studies) if not study]
        raise DataError(
            f"{len(blank)} rows have no study id, the first on line {columns.line(blank[0])}",
            path=columns.table.path,
            cause=f"data.study = {list(data.study)} is blank there",
            remedy="fill it in, or name another column in data.study",
        )
    alone = scoring and not set(data.patient) <= set(columns.names)
    patients = studies if alone else _joined(columns, data.patient, "patient")
    refused, problems = _refuse(columns, studies, patients)
    if refused:
        keep = np.setdiff1d(np.arange(len(columns)), list(refused))
        columns = columns.select(keep)
        studies = [studies[row] for row in keep]
        patients = [patients[row] for row in keep]
    codes, order = pd.factorize(text_array(studies))
    order = np.asarray(order, dtype=object)
    problems += _half_blank(columns, data.study)
    if alone:  # no two studies of one patient, so none that differ in their writing only
        return Ids(columns, codes, order, order, tuple(refused.values()), tuple(problems))
    owners, without = _patients(columns, codes, order, text_array(patients))
    problems += alike_ids(columns, codes, owners, "patient", data.patient)
    problems += alike_ids(columns, codes, order, "study", data.study, owners)
    return Ids(columns, codes, order, owners, tuple(refused.values()), (*problems, *without))


def fixed_parts(config: Config, columns: Columns, codes: IntArray, studies: TextArray) -> TextArray:
    """(study,) what the split column says in lower case, blank where it says nothing.

    Raises:
        ConfigError: there is no such column.
        DataError: the rows of a study say different things.
    """
    name = config.data.split
    if name is None:
        return text_array([""] * len(studies))
    numbers, values = columns.distinct(name, "data.split")
    cells = text_array(["" if is_blank(v) else v.casefold() for v in values])[numbers]
    return _per_study(columns, codes, studies, cells, "the split column (data.split)")


def _joined(columns: Columns, names: Sequence[str], role: str) -> list[str]:
    cells = [columns.cells(name, f"data.{role}").tolist() for name in names]
    try:
        # Of a part that is missing nobody knows whether it is the same in two rows: two patients
        # must not become one, nor one patient two.
        return join_ids(cells, whole=role == "patient")
    except ValueError as error:
        rows: dict[str, int] = {}
        cells = [["" if is_blank(cell) else cell for cell in column] for column in cells]
        first, second = next(
            (rows[joined], row)
            for row, parts in enumerate(zip(*cells, strict=True))
            if rows.setdefault(joined := "/".join(parts), row) != row
            and any(column[rows[joined]] != column[row] for column in cells)
        )
        shared = quoted("/".join(column[second] for column in cells))
        raise DataError(
            f"data.{role} = {list(names)} makes one id, {shared}, of different cells on line "
            f"{columns.line(first)} and line {columns.line(second)}: {error}",
            path=columns.table.path,
            remedy="name a single column",
        ) from None


def _half_blank(columns: Columns, names: Sequence[str]) -> list[Problem]:
    """Rows whose study is named in part: those that agree in the rest are one study."""
    blank = np.zeros(len(columns), bool)
    for name in names[1:]:
        blank |= columns.blank(name, "data.study")
    if not blank.any():
        return []
    count, line = int(blank.sum()), columns.line(int(np.flatnonzero(blank)[0]))
    text = (
        f"{count} rows fill data.study = {list(names)} in part only (first: line {line}); those "
        "that agree in the rest are taken as one study"
    )
    return [Problem("half-study", "warning", text, count)]


def _refuse(
    columns: Columns, studies: Sequence[str], patients: Sequence[str]
) -> tuple[dict[int, RefusedRow], list[Problem]]:
    """Rows whose ids cannot be used; never all of them."""
    bad: dict[str, str] = {}
    # One text for all: hardly ever is there anything to be found in it.
    if not any(map(_looked_into, (studies,) if patients is studies else (studies, patients))):
        return {}, []
    for text in {*studies, *patients}:
        if len(text) > MAX_ID:
            bad[text] = f"is longer than {MAX_ID} characters"
        elif _UNSAFE.search(text):
            bad[text] = "holds control or invisible characters"
    if not bad:
        return {}, []
    refused: dict[int, RefusedRow] = {}
    first = ""
    for row, (study, patient) in enumerate(zip(studies, patients, strict=True)):
        what, text = ("study", study) if study in bad else ("patient", patient)
        if text in bad:
            first = first or f"{what} {quoted(text)} {bad[text]}"
            shown, reason = escaped(study, MAX_ID), f"the {what} id {bad[text]}"
            refused[row] = RefusedRow(columns.line(row), shown, reason)
    line = next(iter(refused.values())).line
    remedy = "correct the ids, or name another column in data.study or data.patient"
    if len(refused) == len(columns):
        error = NoUsableIdError(
            f"no row has a usable id, the first is on line {line}",
            path=columns.table.path,
            cause=first,
            remedy=remedy,
        )
        error.refused = tuple(refused.values())
        raise error
    text = (
        f"{len(refused)} rows are left out for their ids, the first on line {line}: {first}; "
        + remedy
    )
    return refused, [Problem("bad-id", "error", text, len(refused))]


def _looked_into(ids: Sequence[str]) -> bool:
    """Whether any of some ids may be one that cannot be used."""
    if max(map(len, ids), default=0) > MAX_ID:
        return True
    text = " ".join(ids)
    # What can be printed holds nothing unsafe, and is found many times faster.
    return not text.isprintable() and _UNSAFE.search(text) is not None


def _patients(
    columns: Columns, codes: IntArray, studies: TextArray, patients: TextArray
) -> tuple[TextArray, list[Problem]]:
    # A study whose patient stands on another of its rows belongs to that patient.
    owners = _per_study(columns, codes, studies, patients, "patient")
    missing = np.flatnonzero(owners[codes] == "")
    if not len(missing):
        return owners, []
    problem = Problem(
        "no-patient",
        "warning",
        f"{len(missing)} rows have no patient id (first: line {columns.line(missing[0])}); each "
        "such study is taken as its own patient; fill in data.patient",
        len(missing),
    )
    alone = text_array([f"study {study}" for study in studies])
    return np.where(owners == "", alone, owners), [problem]


def _per_study(
    columns: Columns, codes: IntArray, studies: TextArray, cells: TextArray, what: str
) -> TextArray:
    """(study,) what the rows of each study say, "" where they say nothing."""
    n = len(studies)
    said = cells != ""
    first = first_values(said, codes, n)
    rows = contradictions(cells, said, codes, n)
    if len(rows):
        row = int(rows[0])
        earlier = int(first[codes[row]])
        several = len(np.unique(codes[rows]))
        more = f" (and {several - 1} further studies)" if several > 1 else ""
        raise DataError(
            f"one study belongs to two values of {what}{more}",
            study=str(studies[codes[row]]),
            path=columns.table.path,
            cause=f"line {columns.line(row)} says {quoted(cells[row])}, line "
            f"{columns.line(earlier)} {quoted(cells[earlier])}",
            remedy="correct the table, or add a column to data.study",
        )
    return np.where(first >= 0, cells[first], "")
