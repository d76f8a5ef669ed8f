"""MRNet (Bien et al. 2018): knee examinations as one stack of slices per plane."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mvp.data.importers.base import Draft, ImportRequest, LabelDraft, ViewDraft
from mvp.data.importers.walking import walk
from mvp.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# The published parts, and what the split column calls them.
PARTS = {"train": "train", "valid": "test"}
PLANES = ("axial", "coronal", "sagittal")
LABELS = ("abnormal", "acl", "meniscus")
_SUFFIX = ".npy"


@dataclass
class _Part:
    """Of one part: files by id and plane, labels by id and label, and what else lay there."""

    files: dict[str, dict[str, str]] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)
    other: dict[str, int] = field(default_factory=dict)

    @property
    def ids(self) -> set[str]:
        return self.files.keys() | self.labels.keys()


def read(request: ImportRequest) -> Draft:
    """Read the folder `MRNet-v1.0`: its label tables, and the names of its files.

    A study is an examination of which a label or a file exists; every one is listed with three
    planes.

    Raises:
        DataError: no folder of a plane, a damaged label table, ids that lost their leading zeros,
            or one id in both parts.
    """
    import pandas as pd

    if not request.source.is_dir():
        raise DataError(
            "this is no folder", path=request.source, remedy="mrnet is given the folder MRNet-v1.0"
        )
    base = request.base
    if not any((base / part / plane).is_dir() for part in PARTS for plane in PLANES):
        raise DataError(
            "the folder holds no train/axial, valid/axial and so on",
            path=base,
            remedy="name the folder MRNet-v1.0 itself",
        )
    parts = {part: _read_part(request.source, base, part) for part in PARTS}
    _require_apart(parts, base)
    rows, absent = [], 0
    left_out: dict[str, int] = {}
    for name, part in parts.items():
        for study in sorted(part.ids):
            labels = part.labels.get(study, {})
            for plane in PLANES:
                path = part.files.get(study, {}).get(plane)
                if path is None:
                    absent += 1
                    continue
                cells = {label: labels.get(label, "") for label in LABELS}
                rows.append((study, study, plane, path, PARTS[name], *cells.values()))
        for reason, count in part.other.items():
            left_out[reason] = left_out.get(reason, 0) + count
    if absent:
        left_out["planes of a listed examination without a file"] = absent
    columns = ["study", "patient", "view", "path", "split", *LABELS]
    frame = pd.DataFrame(rows, columns=columns, dtype=str)
    labelled = [label for label in LABELS if (frame[label] != "").any()]
    if not labelled:
        raise DataError(
            "no examination has a label",
            path=request.source,
            cause="train-abnormal.csv, train-acl.csv and so on are missing, or name other ids",
            remedy="put them beside the folders train and valid",
        )
    return Draft(
        frame=frame,
        rows=len(rows) + sum(left_out.values()),
        root=base,
        views={plane: ViewDraft() for plane in PLANES},
        labels={label: LabelDraft(label) for label in labelled},
        left_out=left_out,
        settings={
            # The published network: one AlexNet per plane, the maximum over its slices.
            "network": {"name": "alexnet", "weights": "DEFAULT"},
            "transform": {"size": 224, "intensity": "full"},
            "training": {"slices": "max"},
            "augment": {"preset": "mri"},
            "extract": {"instances": "max"},
            "head": {"instances": "max"},
        },
        notes=_notes(parts, frame),
    )


def _notes(parts: dict[str, _Part], frame: pd.DataFrame) -> list[str]:
    notes = [
        "The published split is kept: train is dealt to every part but test, valid is the test.",
        "MRNet names no patients: every examination is taken as its own, two of one patient cannot "
        "be recognised.",
    ]
    lacking = [name for part in parts.values() for name in part.lacking]
    if lacking:
        notes.append(f"Not there: {', '.join(lacking)}; these labels are unknown.")
    for name, part in parts.items():
        bare = sum(study not in part.files for study in part.labels)
        if bare:
            notes.append(f"{bare} examinations of {name} have labels and no file at all.")
        unlabelled = sum(study not in part.labels for study in part.files)
        if unlabelled:
            notes.append(f"{unlabelled} examinations of {name} have files and no label.")
    partial = int((frame.groupby("study").size() < len(PLANES)).sum())
    if partial:
        notes.append(f"{partial} examinations lack a plane; they are kept with the others.")
    return notes


def _read_part(source: Path, base: Path, name: str) -> _Part:
    part = _Part()
    for plane in PLANES:
        folder = base / name / plane
        if not folder.is_dir():
            continue
        found = walk(folder)
        for reason, count in found.passed_over.items():
            part.other[reason] = part.other.get(reason, 0) + count
        for file in found.files:
            if "/" in file or not file.endswith(_SUFFIX):
                reason = f"files that are no {_SUFFIX} of a plane"
                part.other[reason] = part.other.get(reason, 0) + 1
                continue
            study = file.removesuffix(_SUFFIX)
            part.files.setdefault(study, {})[plane] = f"{name}/{plane}/{file}"
    for label in LABELS:
        table = source / f"{name}-{label}.csv"
        if not table.is_file():
            part.lacking.append(table.name)
            continue
        for study, cell in _read_labels(table).items():
            part.labels.setdefault(study, {})[label] = cell
    _require_zeros(part, source, name)
    return part


def _read_labels(table: Path) -> dict[str, str]:
    """Id to "0" or "1" of a table without a header; ids are text, so that no zero is lost."""
    found: dict[str, str] = {}
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("the table is no UTF-8 text", path=table) from None
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    for line in reader:
        cells = [cell.strip() for cell in line]
        if not any(cells):
            continue
        if len(cells) != 2 or not cells[0] or cells[1] not in ("0", "1"):
            raise DataError(
                f"line {reader.line_num} is no id with 0 or 1: {','.join(cells)[:60]!r}",
                path=table,
                remedy="give the table as it was published, without a header: 0000,1",
            )
        study, cell = cells
        if found.setdefault(study, cell) != cell:
            raise DataError(
                f"line {reader.line_num} gives another label than an earlier line",
                study=study,
                path=table,
                remedy="take one of the two out",
            )
    return found


def _require_zeros(part: _Part, source: Path, name: str) -> None:
    """Ids that a spreadsheet shortened must not become examinations without a file."""
    full = {study.lstrip("0"): study for study in part.files}
    for study in sorted(part.labels.keys() - part.files.keys()):
        file = full.get(study.lstrip("0"))
        if file is not None:
            raise DataError(
                f"the label tables of {name} write the id {study!r}, the files {file!r}",
                path=source,
                cause="a spreadsheet took the leading zeros away",
                remedy="give the tables as they were published",
            )


def _require_apart(parts: dict[str, _Part], base: Path) -> None:
    both = sorted(set.intersection(*(part.ids for part in parts.values())))
    if both:
        raise DataError(
            f"{len(both)} ids stand in train and in valid, the first {both[0]!r}",
            path=base,
            cause="one examination in both would be tested on what it was trained on",
            remedy="rename the files and ids of one part where they are other examinations",
        )
