"""Lists of studies or patients from elsewhere that fix the parts of a split."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvp.data.tables.problems import Problem, quoted
from mvp.errors import DataError
from mvp.types import TextArray

_SHOWN = 5
_STUDY, _PATIENT = ("study", "study_id"), ("patient", "patient_id")


@dataclass(frozen=True, eq=False)
class FixedParts:
    """What is wished for each study.

    Attributes:
        parts: (study,) a part, "train", or "" where nothing is wished.
        origins: (study,) who wishes it: the split column, or a list and its line.
        problems: ids that were not found.
    """

    parts: TextArray
    origins: TextArray
    problems: tuple[Problem, ...] = ()


def fixed_by_lists(
    studies: TextArray,
    patients: TextArray,
    column: TextArray,
    lists: Mapping[str, str],
    folder: Path,
) -> FixedParts:
    """The wishes of the split column and of all lists together.

    A list is text or CSV with one id per line, in the first column. Under a first line `study` or
    `patient` the ids are of that kind; without one they are looked up among the studies, then
    among the patients. A patient stands for all of its studies.

    Args:
        studies: (study,) ids.
        patients: (study,) group keys.
        column: (study,) what the split column says.
        lists: part (or "train") to file.
        folder: where relative files start.

    Raises:
        DataError: a list cannot be read, none of its ids is known, an id is a study's and another
            patient's; or two wishes for one study contradict each other, both are named.
    """
    parts = np.array([str(part) for part in column], dtype=object)
    origins = np.array(["the split column" if part else "" for part in column], dtype=object)
    problems: list[Problem] = []
    if not lists:
        return FixedParts(parts, origins)
    own: dict[str, list[int]] = {}
    for index, patient in enumerate(map(str, patients)):
        own.setdefault(patient, []).append(index)
    places = {str(study): [index] for index, study in enumerate(studies)}
    for part, name in lists.items():
        path = folder / name
        kind, ids = _read(path)
        unknown = []
        for identity, line in ids:
            rows = _rows(identity, line, kind, places, own, path)
            if not rows:
                unknown.append((identity, line))
            for row in rows:
                _wish(parts, origins, row, part, f"{name} line {line}", str(studies[row]))
        if unknown:
            problems.append(_unknown(unknown, len(ids), path))
    return FixedParts(parts, origins, tuple(problems))


def _read(path: Path) -> tuple[str, list[tuple[str, int]]]:
    """What the header says, and every id with its line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = stream.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DataError(
            "a list of the split cannot be read",
            path=path,
            cause=reason,
            remedy="correct split.lists in mvp.toml",
        ) from None
    found = []
    for number, text in enumerate(lines, start=1):
        row = next(csv.reader([text], delimiter="\t" if "\t" in text else ","), [])
        if row and row[0].strip():
            found.append((row[0].strip(), number))
    kind = ""
    if found:
        first = found[0][0].casefold()
        kind = "study" if first in _STUDY else "patient" if first in _PATIENT else ""
    found = found[1:] if kind else found
    if not found:
        raise DataError(
            "a list of the split names no study and no patient",
            path=path,
            remedy="write one id per line, or take it out of split.lists",
        )
    return kind, found


def _rows(
    identity: str,
    line: int,
    kind: str,
    studies: Mapping[str, list[int]],
    patients: Mapping[str, list[int]],
    path: Path,
) -> list[int]:
    as_study = studies.get(identity, []) if kind != "patient" else []
    as_patient = patients.get(identity, []) if kind != "study" else []
    if as_study and as_patient and as_study != as_patient:
        raise DataError(
            f"line {line}: {quoted(identity)} is the id of a study and of a patient, who are not "
            "the same",
            path=path,
            remedy="write `study` or `patient` on the list's first line",
        )
    return as_study or as_patient


def _wish(
    parts: TextArray, origins: TextArray, row: int, part: str, origin: str, study: str
) -> None:
    held = parts[row]
    if held and held != part:
        # "train" is any part but test, so that a list may say more than the column.
        if "test" in (held, part) or "train" not in (held, part):
            raise DataError(
                f"{origins[row]} says {held} and {origin} says {part}",
                study=study,
                remedy="take the study, or its patient, out of one of them",
            )
        if part == "train":
            return
    parts[row], origins[row] = part, origin


def _unknown(unknown: Sequence[tuple[str, int]], total: int, path: Path) -> Problem:
    if len(unknown) == total:
        identity, line = unknown[0]
        raise DataError(
            f"none of the {total} ids of a list is a study or patient of the table, as "
            f"{quoted(identity)} on line {line}",
            path=path,
            remedy="write ids as the table does (0012 is not 12; columns joined by /)",
        )
    shown = ", ".join(f"{quoted(identity)} (line {line})" for identity, line in unknown[:_SHOWN])
    more = ", …" if len(unknown) > _SHOWN else ""
    text = f"{path.name}: {len(unknown)} of {total} ids are not in the table: {shown}{more}"
    return Problem("unknown-in-list", "warning", text, len(unknown))
