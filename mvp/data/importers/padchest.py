"""PadChest (Bustos et al. 2020): findings in a list written as Python writes one."""

from __future__ import annotations

import ast

from mvp.data.importers.base import Draft, ImportRequest, read_columns, refuse_rows
from mvp.data.importers.chest import FINDINGS, finding_labels, place_of, sort_out, two_views
from mvp.data.tables.table import is_blank

_FRONTAL = ("PA", "AP", "AP_horizontal")
_LATERAL = ("L",)
_COLUMNS = ("ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "Labels")
_LONGEST = 10_000
# Alone they say nothing about findings: no change to a film that is not told, no report to use.
_SAYS_NOTHING = frozenset({"unchanged", "exclude", "suboptimal study"})
_COMMENT = """Labels: a cell of `findings` lists what a report names; what it does not is negative.
A blank cell is unknown: no labels, or only "unchanged", "exclude" or "suboptimal study".
Any other finding of the column can be added in the same way."""


def read(request: ImportRequest) -> Draft:
    """The table as published, with reports or without."""
    import pandas as pd

    table = read_columns(request.source, _COLUMNS, "padchest")
    given = table.frame
    for name in ("ImageID", "StudyID", "PatientID"):
        refuse_rows(
            table,
            given[name].map(is_blank),
            f"rows have no {name}",
            "give the table of padchest as it was published",
        )
    meaning = {cell: _findings(cell) for cell in given["Labels"].unique()}
    refuse_rows(
        table,
        given["Labels"].map(lambda cell: meaning[cell] is None),
        "rows have Labels that are no list of words",
        "correct the cells; they read ['cardiomegaly', 'nodule']",
    )
    findings = given["Labels"].map(meaning)

    keep, left_out = sort_out(given["Projection"], [*_FRONTAL, *_LATERAL], "Projection")
    owners = given.groupby("StudyID")["PatientID"].nunique()
    shared = keep & given["StudyID"].isin(owners.index[owners > 1])
    if shared.any():
        left_out["of a StudyID with two PatientIDs"] = int(shared.sum())
    keep &= ~shared
    kept, base = given[keep], request.base
    nested = kept["ImageDir"] + "/" + kept["ImageID"]
    flat = place_of(base, [nested.iloc[:3].tolist(), kept["ImageID"].iloc[:3].tolist()])
    frame = pd.DataFrame(
        {
            "study": kept["StudyID"],
            "patient": kept["PatientID"],
            "view": kept["Projection"],
            "path": kept["ImageID"] if flat else nested,
            FINDINGS: findings[keep],
        }
    )
    skip = () if request.findings else sorted(_SAYS_NOTHING)
    labels, note = finding_labels(frame, request.findings, skip=skip)
    silent = int(frame.loc[frame[FINDINGS] == "", "study"].nunique())
    return Draft(
        frame=frame,
        rows=len(given),
        root=base,
        views=two_views(_FRONTAL, _LATERAL),
        labels=labels,
        left_out=left_out,
        settings={"transform": {"intensity": "percentile"}},
        comments={"labels": _COMMENT},
        notes=[
            note,
            f"{silent} studies have no usable findings: unknown there",
            "12 or 10 bits in 16-bit files, so intensities are scaled by percentiles",
            *(["the images lie in one folder, not in those of ImageDir"] if flat else []),
        ],
    )


def _findings(cell: str) -> str | None:
    """`['a', ' b']` as `a|b`; blank where it says nothing, None where it is no list of words."""
    if is_blank(cell):
        return ""
    if len(cell) > _LONGEST:
        return None
    try:
        items = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(items, list) or not all(isinstance(i, str) and "|" not in i for i in items):
        return None
    # " pneumonia" and "pneumonia" are one finding; the table has both.
    words = [word for word in dict.fromkeys(i.strip() for i in items) if word]
    return "" if set(words) <= _SAYS_NOTHING else "|".join(words)
