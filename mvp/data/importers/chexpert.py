"""CheXpert (Irvin et al. 2019): patient and study stand only in the path."""

from __future__ import annotations

from mvp.data.importers.base import Draft, ImportRequest, read_columns, refuse_rows
from mvp.data.importers.chest import (
    CHEXPERT_COMMENT,
    CHEXPERT_LABELS,
    chexpert_labels,
    tell_no_finding,
    two_views,
    without_prefix,
)

_LATERAL = ("LL", "RL")
_COLUMNS = ("Path", "Frontal/Lateral", "AP/PA", *CHEXPERT_LABELS)
_PATH = r"(?:^|/)(patient\d+)/(study\d+)/[^/]+$"


def read(request: ImportRequest) -> Draft:
    """`train.csv` or `valid.csv` as published, small or large."""
    import pandas as pd

    table = read_columns(request.source, _COLUMNS, "chexpert")
    given = table.frame
    ids = given["Path"].str.extract(_PATH)
    refuse_rows(
        table,
        ids[0].isna(),
        "rows have a Path without .../patientN/studyN/FILE",
        "give the table of chexpert as it was published",
    )
    side = given["Frontal/Lateral"].str.casefold()
    refuse_rows(
        table,
        ~side.isin(["frontal", "lateral"]),
        "rows say neither Frontal nor Lateral",
        "correct the column Frontal/Lateral",
    )
    labels, note = tell_no_finding(given[list(CHEXPERT_LABELS)])
    notes = [note]
    turned = (side == "frontal") & given["AP/PA"].isin(_LATERAL)
    if turned.any():
        notes.append(
            f"{int(turned.sum())} rows say Frontal, but LL or RL under AP/PA: taken as lateral"
        )
    paths, cut = without_prefix(given["Path"], request.base)
    notes += [cut] if cut else []
    frame = pd.DataFrame(
        {
            "study": ids[0] + "/" + ids[1],
            "patient": ids[0],
            "view": side.mask(turned, "lateral"),
            "path": paths,
            "projection": given["AP/PA"],
            **{c.casefold(): given[c].str.strip() for c in ("Sex", "Age") if c in given},
            **labels,
        }
    )
    return Draft(
        frame=frame,
        rows=len(given),
        root=request.base,
        views=two_views(["frontal"], ["lateral"]),
        labels=chexpert_labels(),
        comments={"labels": CHEXPERT_COMMENT},
        notes=notes,
    )
