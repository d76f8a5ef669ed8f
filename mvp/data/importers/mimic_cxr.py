"""MIMIC-CXR-JPG (Johnson et al. 2019): one table on images, one on labels, one on splits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from mvp.data.importers.base import Draft, ImportRequest, read_columns, refuse_rows
from mvp.data.importers.chest import (
    CHEXPERT_COMMENT,
    CHEXPERT_LABELS,
    FRONTAL,
    LATERAL,
    chexpert_labels,
    sort_out,
    tell_no_finding,
    two_views,
    without_prefix,
)
from mvp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

_STUDY = ["subject_id", "study_id"]
_PUBLISHED = {"train": "train", "validate": "train", "test": "test"}


def read(request: ImportRequest) -> Draft:
    """The metadata table, joined with labels on subject and study, with splits on the image."""
    import pandas as pd

    assert request.labels is not None
    table = read_columns(request.source, ["dicom_id", *_STUDY, "ViewPosition"], "mimic-cxr")
    given = table.frame
    for name in ("dicom_id", *_STUDY):
        refuse_rows(table, given[name] == "", f"rows have no {name}", f"fill in {name}")
    for name in _STUDY:
        refuse_rows(
            table,
            ~given[name].str.fullmatch(r"\d+"),
            f"rows have a {name} of other than digits",
            "give the table of mimic-cxr as it was published",
        )
    refuse_rows(
        table,
        given["dicom_id"].str.contains(r"[/\\\\]"),
        "rows have a dicom_id that is no file name",
        "give the table of mimic-cxr as it was published",
    )
    keep, left_out = sort_out(given["ViewPosition"], [*FRONTAL, *LATERAL], "ViewPosition")
    kept = given[keep].reset_index(drop=True)
    subject, study = kept["subject_id"], kept["study_id"]
    labels, notes = _labels(request.labels, kept)
    paths = (
        "files/p"
        + subject.str[:2]
        + "/p"
        + subject
        + "/s"
        + study
        + "/"
        + kept["dicom_id"]
        + ".jpg"
    )
    paths, cut = without_prefix(paths, request.base)
    columns = {"study": study, "patient": subject, "view": kept["ViewPosition"], "path": paths}
    if request.split is not None:
        columns["split"], note = _split(request.split, kept["dicom_id"])
        notes.append(note)
    return Draft(
        frame=pd.concat([pd.DataFrame(columns), labels], axis=1),
        rows=len(given),
        root=request.base,
        views=two_views(FRONTAL, LATERAL),
        labels=chexpert_labels(),
        left_out=left_out,
        comments={"labels": CHEXPERT_COMMENT},
        notes=notes + ([cut] if cut else []),
    )


def _labels(path: Path, kept: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """(row, label) of the images kept, blank where the table has no such study; and notes."""
    table = read_columns(path, [*_STUDY, *CHEXPERT_LABELS], "mimic-cxr")
    refuse_rows(
        table,
        table.frame.duplicated(_STUDY),
        "rows repeat a subject and study",
        "leave one row per study in the table of labels",
    )
    joined = kept[_STUDY].merge(table.frame, how="left", on=_STUDY, indicator="found")
    lacking = joined["found"] == "left_only"
    if len(kept) and lacking.all():
        _no_common(path, "study", table.frame[_STUDY].iloc[0].tolist(), kept[_STUDY].iloc[0])
    alone = joined.loc[lacking, "study_id"].nunique()
    labels, note = tell_no_finding(joined[list(CHEXPERT_LABELS)].fillna(""))
    notes = [note]
    if alone:
        notes.append(f"{alone} studies stand not in the table of labels: unknown there")
    return labels, notes


def _split(path: Path, images: pd.Series) -> tuple[pd.Series, str]:
    """(row,) "train", "test" or blank."""
    table = read_columns(path, ["dicom_id", "split"], "mimic-cxr")
    said = table.frame["split"].str.casefold()
    refuse_rows(
        table,
        ~said.isin(_PUBLISHED),
        "rows have a split other than train, validate and test",
        "give the table of splits as it was published",
    )
    refuse_rows(
        table,
        table.frame["dicom_id"].duplicated(),
        "rows repeat a dicom_id",
        "leave one row per image in the table of splits",
    )
    parts = dict(zip(table.frame["dicom_id"], said.map(_PUBLISHED), strict=True))
    found = images.map(parts)
    if len(images) and found.isna().all():
        _no_common(path, "image", [table.frame["dicom_id"].iloc[0]], [images.iloc[0]])
    missing = int(found.isna().sum())
    note = "published split: `validate` is dealt with `train`, mvp holds out parts of its own"
    if missing:
        note += f"; {missing} images stand not in it, mvp deals their studies"
    return found.fillna(""), note


def _no_common(path: Path, what: str, there: Iterable[str], here: Iterable[str]) -> NoReturn:
    raise DataError(
        f"no {what} of the metadata stands in this table",
        path=path,
        cause=f"its first is {'/'.join(there)!r}, that of the metadata {'/'.join(here)!r}",
        remedy="give the table as it was published, of the same release",
    )
