"""NIH ChestX-ray14 (Wang et al. 2017): single frontal films, findings joined by `|`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvp.data.importers.base import Draft, ImportRequest, read_columns, refuse_rows
from mvp.data.importers.chest import FINDINGS, FRONTAL, finding_labels, sort_out, two_views
from mvp.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

_COLUMNS = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "View Position")
_PUBLISHED = "give the table of nih-cxr14 as it was published"
_NORMAL = "No Finding"
_COMMENT = """Labels: a cell of `findings` lists what was found; what it does not name is negative.
They were mined from reports, and uncertain mentions are not marked."""


def read(request: ImportRequest) -> Draft:
    """`Data_Entry_2017.csv` or that of 2020; `--split test_list.txt` keeps the official test."""
    import pandas as pd

    table = read_columns(request.source, _COLUMNS, "nih-cxr14")
    given = table.frame
    for name in ("Image Index", "Finding Labels", "Patient ID", "Follow-up #"):
        refuse_rows(table, given[name] == "", f"rows have no {name}", _PUBLISHED)
    again = given.duplicated(["Patient ID", "Follow-up #"])
    refuse_rows(table, again, "rows repeat a Patient ID and Follow-up #", _PUBLISHED)
    keep, left_out = sort_out(given["View Position"], FRONTAL, "View Position")
    kept = given[keep]
    paths, where = _paths(kept["Image Index"], request.base)
    frame = pd.DataFrame(
        {
            "study": kept["Patient ID"] + "/" + kept["Follow-up #"],
            "patient": kept["Patient ID"],
            "view": kept["View Position"],
            "path": paths,
            FINDINGS: kept["Finding Labels"]
            .str.split("|")
            .map(lambda words: "|".join(w.strip() for w in words)),
        }
    )
    notes = ["every film is frontal: there is one view, and nothing to fuse it with", *where]
    if request.split is not None:
        frame["split"], note = _official(request.split, kept["Image Index"])
        notes.append(note)
    # All fourteen, also the rare hernia.
    labels, note = finding_labels(frame, request.findings, share=0.0, skip=[_NORMAL])
    return Draft(
        frame=frame,
        rows=len(given),
        root=request.base,
        views=two_views(FRONTAL, ()),
        labels=labels,
        left_out=left_out,
        comments={"labels": _COMMENT},
        notes=[note, *notes],
    )


def _paths(names: pd.Series, root: Path) -> tuple[pd.Series, list[str]]:
    """(row,) the images in the folders images_001 to images_012, where the root has those."""
    folders = sorted(root.glob("images_0*/images")) + sorted(root.glob("images"))
    if not folders:
        return names, []
    lies = {
        file.name: file.relative_to(root).as_posix()
        for folder in folders
        for file in folder.iterdir()
        if file.suffix == ".png"
    }
    found = names.map(lies)
    missing = int(found.isna().sum())
    note = f"images looked up in {len(folders)} folders"
    if missing:
        note += f"; {missing} are not there and keep their bare names"
    return found.fillna(names), [note]


def _official(path: Path, names: pd.Series) -> tuple[pd.Series, str]:
    """(row,) "test" where the list names the image, else "train"."""
    if "train" in path.name:
        raise ConfigError(
            "the list of the training images would become the test set",
            path=path,
            remedy="give --split test_list.txt",
        )
    try:
        listed = set(path.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "the list of test images cannot be read", path=path, cause=str(error)
        ) from None
    test = names.isin(listed)
    if not test.any():
        raise DataError(
            "the list names no image of the table",
            path=path,
            remedy="give --split test_list.txt: one Image Index a line",
        )
    strange = len(listed - set(names))
    note = f"official split: {int(test.sum())} images are of the test set"
    if strange:
        note += f"; {strange} listed names are no image of the table"
    return test.map({True: "test", False: "train"}), note
