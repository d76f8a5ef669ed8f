"""`split.csv`: the part of every study, and its fold where there are folds."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from mvp.data.splits.split import PARTS, TRAIN, Split
from mvp.errors import DataError
from mvp.files import plain_cell, safe_cell, write_bytes

_HEADERS = (["study", "part"], ["study", "part", "fold"])


def read_split(path: Path) -> Split | None:
    """The split that a file holds; None where there is none.

    Raises:
        DataError: it is damaged, or gives a study two parts or folds; the line is named.
    """
    if not path.exists():
        return None
    parts: dict[str, str] = {}
    folds: dict[str, int] = {}
    wrong = ""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream))
    except (csv.Error, UnicodeDecodeError) as error:
        rows, wrong = [[]], str(error)
    if not wrong and (not rows or rows[0] not in _HEADERS):
        wrong = "its first line is neither study,part nor study,part,fold"
    for line, row in enumerate(rows[1:] if not wrong else [], start=2):
        wrong = wrong or _row(row, len(rows[0]), parts, folds, line)
    if wrong:
        raise DataError(
            "split.csv cannot be used",
            path=path,
            cause=f"{wrong} (parts are {', '.join(PARTS)})",
            remedy="restore it; or delete it to deal anew, which makes networks stale",
        )
    return Split(parts, folds)


def _row(
    row: list[str], width: int, parts: dict[str, str], folds: dict[str, int], line: int
) -> str:
    """Takes in one line; returns what is wrong with it."""
    if len(row) != width or row[1] not in PARTS:
        return f"line {line} does not name a study and a part"
    study, part = plain_cell(row[0]), row[1]
    if parts.setdefault(study, part) != part:
        return f"line {line} gives study {study} a second part"
    fold = row[2] if width == 3 else ""
    if not fold:
        return ""
    if not (fold.isascii() and fold.isdecimal() and len(fold) < 7):
        return f"line {line} does not name a fold: 0, 1, 2, …"
    if part not in TRAIN:
        return f"line {line} gives study {study} of the {part} part a fold"
    if folds.setdefault(study, int(fold)) != int(fold):
        return f"line {line} gives study {study} a second fold"
    return ""


def write_split(path: Path, split: Split) -> None:
    """Publish a split, whole; without folds in two columns."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_HEADERS[bool(split.folds)])
    for study, part in split.parts.items():
        fold = [split.folds.get(study, "")] if split.folds else []
        writer.writerow([safe_cell(study), part, *fold])
    write_bytes(path, text.getvalue().encode())
