"""VinDr-Mammo (Nguyen et al. 2023): 5,000 examinations of two breasts with two views each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvp.data.importers.base import Draft, ImportRequest, LabelDraft, read_columns, refuse_rows
from mvp.data.importers.breasts import (
    breast_ids,
    breast_views,
    files_below,
    require_ids,
    sides,
    standard_views,
    without_repeats,
)

if TYPE_CHECKING:
    import pandas as pd

IDS = ("study_id", "image_id")
READING = ("breast_birads", "breast_density")
COLUMNS = (*IDS, "laterality", "view_position", *READING, "split")
BIRADS = [f"BI-RADS {n}" for n in range(1, 6)]
DENSITY = [f"DENSITY {letter}" for letter in "ABCD"]
# Suspicious, or highly suggestive of malignancy: what a reader would send to biopsy.
SUSPICIOUS = BIRADS[3:]
_PARTS = {"training": "train", "test": "test"}


def read(request: ImportRequest) -> Draft:
    """Read `breast-level_annotations.csv`; a study is one breast of one examination.

    Raises:
        DataError: a column is missing, an id is blank, or a cell has no meaning.
    """
    import pandas as pd

    table = read_columns(request.source, COLUMNS, "vindr-mammo")
    cells = table.frame
    require_ids(table, IDS)
    parts = cells["split"].str.casefold().map(_PARTS)
    refuse_rows(
        table, parts.isna(), "rows are neither of split training nor test", "correct the column"
    )
    side = sides(table, "laterality")
    start = files_below(request.base, "images", str(cells["study_id"].iloc[0]))
    frame = pd.DataFrame(
        {
            "study": breast_ids(cells["study_id"], side),
            "patient": cells["study_id"],
            "view": cells["view_position"],
            "path": start + cells["study_id"] + "/" + cells["image_id"] + ".dicom",
            "split": parts,
            "breast": side,
            **{name: cells[name] for name in READING},
        }
    )
    left_out: dict[str, int] = {}
    meaning = ["study", "view", "split", *READING]
    frame = standard_views(without_repeats(frame, table, left_out, meaning), left_out)
    return Draft(
        frame=frame,
        rows=len(cells),
        root=request.base,
        views=breast_views({"crop": "breast", "intensity": "window"}),
        labels=_labels(),
        left_out=left_out,
        settings={"augment": {"preset": "mammo"}},
        notes=[
            "A study is one breast of one examination; its BI-RADS category and density are those "
            "of the breast.",
            "The table names no patients: both breasts of an examination stay together, two "
            "examinations of one woman cannot be recognised.",
            "The published split is kept: training is dealt to every part but test.",
            *_strange(frame, "breast_birads", BIRADS),
            *_strange(frame, "breast_density", DENSITY),
        ],
    )


def _labels() -> dict[str, LabelDraft]:
    return {
        "suspicious": LabelDraft(
            "breast_birads",
            {"positive": SUSPICIOUS, "negative": BIRADS[:3], "other": "unknown"},
            comment="BI-RADS 4 and 5 are positive, 1 to 3 negative",
        ),
        "birads": LabelDraft(
            "breast_birads", {"kind": "multiclass", "classes": BIRADS, "other": "unknown"}
        ),
        "density": LabelDraft(
            "breast_density", {"kind": "multiclass", "classes": DENSITY, "other": "unknown"}
        ),
    }


def _strange(frame: pd.DataFrame, column: str, classes: list[str]) -> list[str]:
    known = frame[column].str.casefold().isin([c.casefold() for c in classes])
    if known.all():
        return []
    first = str(frame.loc[~known, column].iloc[0])[:40]
    return [
        f"{int((~known).sum())} images have a {column} that is none of {classes[0]} to "
        f"{classes[-1]} (the first: {first!r}); it is unknown there."
    ]
