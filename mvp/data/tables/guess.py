"""What a table's columns probably mean, and why: the start of an `mvp.toml`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mvp.data.reading.readers import SUFFIXES
from mvp.data.tables.table import Table, is_blank
from mvp.errors import ConfigError

_NAMES = {
    "study": ("study", "studyid", "exam", "examid", "accession", "accessionnumber", "studyuid"),
    "patient": ("patient", "patientid", "subject", "subjectid", "person", "case", "caseid"),
    "view": ("view", "viewposition", "projection", "plane", "imageview", "position"),
    "split": ("split", "partition", "subset"),
}
_KNOWN_VIEWS = {
    "frontal": ("frontal", "pa", "ap", "apsupine", "aperect", "aphorizontal"),
    "lateral": ("lateral", "l", "ll", "rl", "lat", "leftlateral"),
    "cc": ("cc", "craniocaudal"),
    "mlo": ("mlo", "mediolateraloblique"),
    "axial": ("axial", "ax"),
    "coronal": ("coronal", "cor"),
    "sagittal": ("sagittal", "sag"),
}
_BINARY = frozenset({"0", "1", "0.0", "1.0", "-1", "-1.0", "true", "false", "yes", "no"})
_FINDING_NAMES = ("finding", "findings", "diagnosis", "label", "labels", "class", "pathology")
MAX_LABELS_OF_TEXT = 8
MAX_VALUES_OF_TEXT = 40


@dataclass
class Guess:
    """Columns and their likely meaning.

    Attributes:
        study, patient: columns of the ids.
        view, path, split: columns, split may be "".
        views: view name to the values that are its aliases.
        binary: columns that look like 0/1 labels.
        findings: for a text column, label name to the values that make it positive.
        finding_column: that text column, or "".
        notes: what was guessed, in words.
    """

    study: list[str]
    patient: list[str]
    view: str
    path: str
    split: str = ""
    views: dict[str, list[str]] = field(default_factory=dict)
    binary: list[str] = field(default_factory=list)
    findings: dict[str, list[str]] = field(default_factory=dict)
    finding_column: str = ""
    separator: str = ""
    notes: list[str] = field(default_factory=list)


def guess(
    table: Table,
    *,
    study: Sequence[str] = (),
    patient: Sequence[str] = (),
    view: str = "",
    path: str = "",
) -> Guess:
    """Guess what the columns mean; what the caller names is taken as it is.

    Raises:
        ConfigError: a named column is not there, or no column of views or paths can be found.
    """
    frame = table.frame
    columns = [str(c) for c in frame.columns]
    for name in [*study, *patient, *filter(None, (view, path))]:
        if name not in columns:
            raise ConfigError(
                f"the table has no column {name!r}",
                path=table.path,
                cause=f"its columns are {', '.join(columns[:30])}",
            )
    path = path or _path_column(table, columns)
    view = view or _named(columns, "view") or _view_column(table, columns, path)
    found_patient = list(patient) or [c for c in [_named(columns, "patient")] if c]
    found_study = list(study) or [c for c in [_named(columns, "study")] if c] or found_patient
    if not found_study:
        raise ConfigError(
            "no column looks like a study or patient id",
            path=table.path,
            cause=f"its columns are {', '.join(columns[:30])}",
            remedy="name it: mvp init TABLE --study COLUMN --patient COLUMN",
        )
    result = Guess(found_study, found_patient or found_study, view, path)
    result.split = _named(columns, "split")
    result.notes.append(f"a study is {' + '.join(found_study)}" + _why(study, found_study, patient))
    result.notes.append(
        f"a patient is {' + '.join(result.patient)}"
        + ("" if found_patient else " (no patient column was found: correct this if there is one)")
    )
    result.notes.append(f"views are in {view!r}, image files in {path!r}")
    result.views = _views(frame[view], result)
    taken = {*result.study, *result.patient, view, path, result.split}
    _labels(table, [c for c in columns if c not in taken], result)
    return result


def _why(study: Sequence[str], found: Sequence[str], patient: Sequence[str]) -> str:
    if not study and _plain(found[0]) in _NAMES["patient"]:
        return " (no study column was found: each patient is taken as one study)"
    return ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _named(columns: Sequence[str], role: str) -> str:
    for name in _NAMES[role]:
        for column in columns:
            if _plain(column) == name:
                return column
    return ""


def _path_column(table: Table, columns: Sequence[str]) -> str:
    shares = {
        c: sum(str(v).lower().endswith((*SUFFIXES, ".gz")) for v in table.frame[c]) for c in columns
    }
    # Of two equally good columns an address is the worse one.
    best = max(columns, key=lambda c: (shares[c], "://" not in str(table.frame[c].iloc[0])))
    if shares[best] < 0.5 * len(table.frame):
        raise ConfigError(
            "no column looks like image files",
            path=table.path,
            remedy="name it: mvp init TABLE --path COLUMN",
        )
    return best


def _view_column(table: Table, columns: Sequence[str], path: str) -> str:
    known = {alias for aliases in _KNOWN_VIEWS.values() for alias in aliases}
    for column in columns:
        values = {_plain(str(v)) for v in table.frame[column].unique()[:50]} - {""}
        if column != path and values and len(values & known) >= max(1, len(values) // 2):
            return column
    raise ConfigError(
        "no column looks like views",
        path=table.path,
        cause="a table has one row per image, and a column that says which view it is",
        remedy="name it: mvp init TABLE --view COLUMN",
    )


def _views(column: Sequence[str], result: Guess) -> dict[str, list[str]]:
    counts = Counter(str(v).strip() for v in column)
    views: dict[str, list[str]] = {}
    for value, count in counts.most_common():
        if is_blank(value):
            result.notes.append(f"{count} rows have no view and will be left out")
            continue
        name = next((n for n, a in _KNOWN_VIEWS.items() if _plain(value) in a), _slug(value))
        if not name:
            result.notes.append(f"{count} rows have the view {value!r}: name it by hand")
            continue
        views.setdefault(name, []).append(value)
    for name, values in views.items():
        total = sum(counts[v] for v in values)
        result.notes.append(f"view {name}: {', '.join(map(repr, values))} ({total} images)")
    return views


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()


def _labels(table: Table, columns: Sequence[str], result: Guess) -> None:
    frame = table.frame
    for column in columns:
        values = {str(v).strip().casefold() for v in frame[column].unique()}
        filled = {v for v in values if not is_blank(v)}
        if len(filled) >= 2 and filled <= _BINARY:
            result.binary.append(column)
    if result.binary:
        result.notes.append(f"labels (0/1): {', '.join(result.binary)}")
        return
    for column in columns:
        counts = Counter(str(v).strip() for v in frame[column] if not is_blank(str(v)))
        named = _plain(column) in _FINDING_NAMES
        if named and 2 <= len(counts) <= MAX_VALUES_OF_TEXT:
            result.finding_column = column
            result.separator = next((s for s in "|,;" if any(s in v for v in counts)), "")
            tokens = Counter(
                t.strip() for v in counts.elements() for t in v.split(result.separator or "\0")
            )
            for value, _ in tokens.most_common(MAX_LABELS_OF_TEXT):
                if name := _slug(value):
                    result.findings.setdefault(name, []).append(value)
            result.notes.append(
                f"labels from the text in {column!r}: {', '.join(result.findings)}; every other "
                "finding counts as negative"
            )
            return
    raise ConfigError(
        "no column looks like a label",
        path=table.path,
        cause="no column holds only 0, 1, -1 and blanks, and none is called finding or label",
        remedy="add one, or write mvp.toml by hand as docs/configuration.md shows",
    )
