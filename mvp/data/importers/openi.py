"""OpenI, the Indiana University chest films (Demner-Fushman et al. 2016): reports in XML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mvp.data.importers.base import Draft, ImportRequest, read_columns, refuse_rows
from mvp.data.importers.chest import (
    FINDINGS,
    FRONTAL,
    LATERAL,
    finding_labels,
    place_of,
    sort_out,
    two_views,
)
from mvp.data.importers.openi_reports import read_reports
from mvp.data.tables.table import read_table
from mvp.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_LATERAL = (*LATERAL, "RL", "LARGE LATERAL")
_SECTIONS = ("comparison", "indication", "findings", "impression")
# `CXR1_1_IM-0001-3001`, `CXR1_IM-0001-3001` and `1_IM-0001-3001.dcm.png` are one image.
_SHORT = r"(\d+_IM-[\d-]+?)(?:\.\w+)*$"
_MISTAKEN = "of studies captioned as frontal and lateral whose headers say frontal only"
_COMMENT = """Labels: a cell of `findings` lists the MeSH heads that a person coded from the report;
what it does not list is negative, a blank cell is unknown.
The sections text_findings and text_impression give the labels away: a text view may read
text_indication, which was written before the film was taken."""


def read(request: ImportRequest) -> Draft:
    """The reports, joined on the image with a table of projections."""
    import pandas as pd

    assert request.metadata is not None
    reports = list(read_reports(request.source))
    given = pd.DataFrame(
        [
            {
                "study": report.study,
                "patient": report.study,
                "id": image,
                "two_views": str(report.two_views),
                FINDINGS: "|".join(report.findings),
                **{f"text_{name}": report.sections.get(name, "") for name in _SECTIONS},
            }
            for report in reports
            for image in report.images
        ],
        dtype=str,
    )
    if not len(given):
        raise DataError("no report names an image", path=request.source)
    given["short"] = given["id"].str.extract(_SHORT)[0].fillna(given["id"])
    views, files = _projections(request.metadata)
    view = given["short"].map(views)
    absent = view.isna()
    keep, left_out = sort_out(view.fillna(""), [*FRONTAL, *_LATERAL, "Frontal", "Lateral"], "view")
    blank = left_out.pop("with a blank view", 0) - int(absent.sum())
    if blank:
        left_out["with a blank view in the metadata"] = blank
    if absent.any():
        left_out["not in the metadata"] = int(absent.sum())
    mistaken = pd.Series(False, index=given.index) if files else _mistaken(given, view, keep)
    if mistaken.any():
        left_out[_MISTAKEN] = int(mistaken.sum())
    keep &= ~mistaken
    kept = given[keep]
    if not len(kept):
        raise DataError(
            "the metadata have a view for no image of the reports",
            path=request.metadata,
            remedy="give nlmcxr_dicom_metadata.csv or indiana_projections.csv",
        )
    ways = _ways(kept, files)
    way = place_of(request.base, [w.iloc[:3].tolist() for w in ways])
    frame = kept.drop(columns=["id", "short", "two_views"]).assign(view=view[keep], path=ways[way])
    frame = frame[["study", "patient", "view", "path", FINDINGS, *_texts()]]
    labels, note = finding_labels(frame, request.findings)
    notes = [
        note,
        "no patient ids were published: each study is taken as its own patient",
        "reports stand in the columns " + ", ".join(_texts()),
    ]
    if none := sum(not report.images for report in reports):
        notes.append(f"{none} of {len(reports)} reports have no image")
    if lost := given["study"].nunique() - frame["study"].nunique():
        notes.append(f"{lost} studies have no image of a known view")
    if not files:
        notes.append(
            "a view is not guessed where the headers leave it blank or contradict the caption; a "
            "table with the columns filename and projection, read by eye, may be given as "
            "--metadata instead"
        )
    return Draft(
        frame=frame,
        rows=len(given),
        root=request.base,
        views=two_views([*FRONTAL], [*_LATERAL]),
        labels=labels,
        left_out=left_out,
        settings={"transform": {"intensity": "percentile"}},
        comments={"labels": _COMMENT},
        notes=notes,
    )


def _mistaken(given: pd.DataFrame, view: pd.Series, keep: pd.Series) -> pd.Series:
    """(row,) of the studies that are captioned as frontal and lateral, and have several frontals.

    One of these films is the lateral one, and nothing says which: headers call both PA.
    """
    frontal = keep & view.str.casefold().isin([name.casefold() for name in FRONTAL])
    by_study = given["study"]
    several = frontal.groupby(by_study).transform("sum") > 1
    lateral = (keep & ~frontal).groupby(by_study).transform("any")
    return keep & several & ~lateral & (given["two_views"] == "True")


def _texts() -> list[str]:
    return [f"text_{name}" for name in _SECTIONS]


def _projections(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Short image id to view, and to file where the table names one that was converted."""
    head = read_table(path) if path.is_file() else None
    by_eye = head is not None and "projection" in head.frame
    name, view = ("filename", "projection") if by_eye else ("imageid", "View Position")
    table = read_columns(path, [name, view], "openi")
    short = table.frame[name].str.extract(_SHORT)[0]
    refuse_rows(
        table,
        short.isna(),
        f"rows have a {name} that is no image of openi",
        "it should read like 1_IM-0001-4001.dcm.png",
    )
    refuse_rows(table, short.duplicated(), "rows repeat an image", "leave one row per image")
    views = dict(zip(short, table.frame[view], strict=True))
    return views, dict(zip(short, table.frame[name], strict=True)) if by_eye else {}


def _ways(kept: pd.DataFrame, files: dict[str, str]) -> Sequence[pd.Series]:
    """(row,) paths for each way that the images are handed on; the first where none is found."""
    number = kept["short"].str.partition("_")[0]
    named = [kept["short"].map(files)] if files else []
    return [
        *named,
        kept["id"] + ".png",
        number + "/" + kept["short"] + ".dcm",
        kept["short"] + ".dcm",
        kept["id"] + ".dcm",
    ]
