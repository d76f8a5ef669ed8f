"""The RSNA screening mammography breast cancer detection data: one examination per patient."""

from __future__ import annotations

from mvp.data.importers.base import Draft, ImportRequest, LabelDraft, read_columns
from mvp.data.importers.breasts import (
    breast_ids,
    breast_views,
    files_below,
    require_ids,
    sides,
    standard_views,
    without_repeats,
)

IDS = ("patient_id", "image_id")
COLUMNS = (*IDS, "laterality", "view", "cancer")
# Columns that stay in the manifest where the table has them.
FURTHER = (
    "site_id",
    "age",
    "biopsy",
    "invasive",
    "BIRADS",
    "implant",
    "density",
    "machine_id",
    "difficult_negative_case",
)
_AGE = """\
The age may be an input of stage two beside the images. biopsy, invasive, BIRADS and
difficult_negative_case say what was found: they give the label away and are no inputs.
[views.age]
kind = "table"
numbers = ["age"]
"""


def read(request: ImportRequest) -> Draft:
    """Read `train.csv`; a study is one breast of one patient.

    Raises:
        DataError: a column is missing, an id is blank, or a laterality has no meaning.
    """
    import pandas as pd

    table = read_columns(request.source, COLUMNS, "rsna-mammo")
    cells = table.frame
    require_ids(table, IDS)
    side = sides(table, "laterality")
    further = [name for name in FURTHER if name in cells]
    start = files_below(request.base, "train_images", str(cells["patient_id"].iloc[0]))
    frame = pd.DataFrame(
        {
            "study": breast_ids(cells["patient_id"], side),
            "patient": cells["patient_id"],
            "view": cells["view"],
            "path": start + cells["patient_id"] + "/" + cells["image_id"] + ".dcm",
            "breast": side,
            "cancer": cells["cancer"],
            **{name: cells[name].str.strip() for name in further},
        }
    )
    left_out: dict[str, int] = {}
    frame = without_repeats(frame, table, left_out, ["study", "view", "cancer"])
    frame = standard_views(frame, left_out)
    several = int((frame.groupby(["study", "view"]).size() > 1).sum())
    notes = [
        "A study is one breast of one patient, and cancer is a label of the breast.",
        "Views other than CC and MLO (ML, LM, LMO, AT) are other projections and are left out.",
    ]
    if several:
        notes.append(
            f"{several} views of a breast have several images; all are used, and head.instances "
            "joins their features."
        )
    return Draft(
        frame=frame,
        rows=len(cells),
        root=request.base,
        views=breast_views({"crop": "breast", "intensity": "window"}),
        labels={"cancer": LabelDraft("cancer")},
        left_out=left_out,
        settings={"augment": {"preset": "mammo"}},
        comments={"labels": _AGE} if "age" in further else {},
        notes=notes,
    )
