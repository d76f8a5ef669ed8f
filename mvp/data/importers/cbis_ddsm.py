"""CBIS-DDSM (Lee et al. 2017): digitised film mammograms, one row per abnormality."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mvp.data.importers.base import Draft, ImportRequest, LabelDraft, read_columns, refuse_rows
from mvp.data.importers.breasts import breast_ids, breast_views, require_ids, sides, standard_views
from mvp.data.importers.walking import walk
from mvp.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SIDE = "left or right breast"
FILE = "image file path"
COLUMNS = ("patient_id", SIDE, "image view", "pathology", FILE)
MALIGNANT = ["MALIGNANT"]
BENIGN = ["BENIGN", "BENIGN_WITHOUT_CALLBACK"]
_PART = re.compile(r"(train|test)", re.IGNORECASE)
_CASE = re.compile(r"(?:mass|calc)-(training|test)_", re.IGNORECASE)
_MAX_FILES_OF_CASE = 10_000


def read(request: ImportRequest) -> Draft:
    """Read one description table, or every one of a folder; a study is one breast of a patient.

    Raises:
        DataError: no table, a column is missing, an id is blank, or rows of one image contradict
            each other.
    """
    import pandas as pd

    files, passed_over = _tables(request.source)
    listed = pd.concat([_rows(file) for file in files], ignore_index=True)
    _require_one_meaning(listed)
    left_out: dict[str, int] = {}
    again = listed.duplicated(["path"])
    if again.any():
        left_out["further abnormalities of an image, which is kept once"] = int(again.sum())
    # Of the breast, not of the image: one view may show what the other hides.
    findings = listed.groupby("study")["pathology"].agg(lambda p: "|".join(sorted(set(p))))
    frame = listed[~again].drop(columns=["table", "line"])
    frame["pathology"] = frame["study"].map(findings)
    frame = standard_views(frame, left_out)
    notes = [
        "A study is one breast of one patient; it is malignant when any of its abnormalities is.",
        "Only breasts with an abnormality are listed: there are no normal ones.",
        *passed_over,
        *_one_part_per_patient(frame),
        *_find_files(frame, request.base),
    ]
    several = int((frame.groupby(["study", "view"]).size() > 1).sum())
    if several:
        notes.append(
            f"{several} views of a breast have several files, as the tables of masses and of "
            "calcifications each name their own; all are used, and head.instances joins them."
        )
    return Draft(
        frame=frame,
        rows=len(listed),
        root=request.base,
        views=breast_views({"crop": "breast"}),
        labels={
            "malignant": LabelDraft(
                "pathology",
                {"positive": MALIGNANT, "negative": BENIGN, "separator": "|"},
                comment="positive when any abnormality of the breast is malignant",
            )
        },
        left_out=left_out,
        settings={"augment": {"preset": "mammo"}},
        notes=notes,
    )


def _tables(source: Path) -> tuple[list[Path], list[str]]:
    """The description tables, and what to say of other tables beside them."""
    if not source.is_dir():
        return [source], []
    found = [n for n in walk(source).files if "/" not in n and n.lower().endswith(".csv")]
    described = [n for n in found if "case_description" in n.casefold()]
    chosen = described or found
    if not chosen:
        raise DataError(
            "the folder holds no table",
            path=source,
            remedy="name the folder of mass_case_description_train_set.csv and the like",
        )
    rest = [n for n in found if n not in chosen]
    notes = [f"Read {', '.join(chosen)}."]
    if rest:
        notes.append(f"Passed over {len(rest)} other tables, the first {rest[0]}.")
    return [source / n for n in chosen], notes


def _rows(file: Path) -> pd.DataFrame:
    """One row per abnormality, with the table and the line that say it."""
    import pandas as pd

    table = read_columns(file, COLUMNS, "cbis-ddsm")
    cells = table.frame
    require_ids(table, ["patient_id", FILE])
    side = sides(table, SIDE)
    pathology = cells["pathology"].str.upper()
    refuse_rows(
        table,
        ~pathology.isin([*MALIGNANT, *BENIGN]),
        f"rows have a pathology that is none of {', '.join([*MALIGNANT, *BENIGN])}",
        "correct the column",
    )
    whole = _PART.search(file.stem)
    found = cells[FILE].str.extract(_CASE, expand=False).fillna(whole[1] if whole else "")
    return pd.DataFrame(
        {
            "study": breast_ids(cells["patient_id"], side),
            "patient": cells["patient_id"],
            "view": cells["image view"],
            "path": cells[FILE].str.replace("\\", "/", regex=False),
            "split": found.str.lower().str.replace("training", "train"),
            "breast": side,
            "pathology": pathology,
            "table": str(file),
            "line": [table.line(row) for row in range(len(cells))],
        }
    )


def _require_one_meaning(listed: pd.DataFrame) -> None:
    again = listed.duplicated(["path"])
    wrong = listed[again & ~listed.duplicated(["path", "study", "view"])]
    if len(wrong):
        first = wrong.iloc[0]
        raise DataError(
            f"{len(wrong)} rows name an image of an earlier row under another breast or view, the "
            f"first on line {first['line']}",
            path=first["table"],
            remedy="correct the table: an image shows one breast in one view",
        )


def _one_part_per_patient(frame: pd.DataFrame) -> list[str]:
    """Blank parts stay; a patient of both parts is taken to train."""
    if not (frame["split"] != "").any():
        del frame["split"]
        return []
    parts = frame[frame["split"] != ""].groupby("patient")["split"].nunique()
    both = parts.index[parts > 1]
    # The test part then holds images of the published test parts alone.
    frame.loc[frame["patient"].isin(both), "split"] = "train"
    notes = ["The published split is kept: training is dealt to every part but test."]
    if len(both):
        notes.append(
            f"{len(both)} patients stand in the training part of one table and the test part of "
            "another; all their images count as training."
        )
    return notes


def _find_files(frame: pd.DataFrame, base: Path) -> list[str]:
    """Point paths at the files that lie there where the tables' own paths do not exist.

    Downloads from The Cancer Imaging Archive name folders and files otherwise than the tables do;
    the folder of the case keeps its name, and holds one mammogram.
    """
    moved, paths = 0, []
    for path in frame["path"]:
        other = "" if (base / path).is_file() else _only_file(base, path.split("/"))
        moved += bool(other)
        paths.append(other or path)
    frame["path"] = paths
    if not moved:
        return []
    return [
        f"{moved} paths of the tables are not there; the only DICOM file in the folder of the same "
        "case is used."
    ]


def _only_file(base: Path, parts: Sequence[str]) -> str:
    case = parts[0]
    if len(parts) < 2 or case in ("", ".", "..") or not (base / case).is_dir():
        return ""
    found = [f for f in walk(base / case, _MAX_FILES_OF_CASE).files if f.lower().endswith(".dcm")]
    return f"{case}/{found[0]}" if len(found) == 1 else ""
