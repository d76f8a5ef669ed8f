"""A folder of images whose places and names say what they are."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mvp.config.section import NAME, RESERVED_VIEWS
from mvp.data.importers.base import Draft, ImportRequest, LabelDraft, ViewDraft
from mvp.data.importers.folder_labels import add_labels, class_labels
from mvp.data.importers.patterns import DEFAULT, compile_pattern
from mvp.data.importers.walking import walk
from mvp.data.reading.readers import SUFFIXES
from mvp.data.splits.split import PARTS
from mvp.data.tables.table import is_blank
from mvp.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

MAX_VIEWS = 24
ONE_VIEW = "image"
_VALIDATION = ("val", "valid", "validation")
_PARTS = {
    "train": "train",
    "training": "train",
    **dict.fromkeys(_VALIDATION, "train"),
    "test": "test",
    "testing": "test",
}
_SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}


def read(request: ImportRequest) -> Draft:
    """Read the names of a folder's files as `request.pattern` says.

    Raises:
        ConfigError: the pattern means nothing, or nothing says a label.
        DataError: no file matches, one study stands under two labels, splits or patients, or far
            too many views are found.
    """
    text = request.pattern or DEFAULT
    pattern = compile_pattern(text)
    fields = set(pattern.groupindex)
    if "label" not in fields and request.labels is None:
        raise ConfigError(
            "nothing says the labels",
            cause=f"the pattern {text!r} names no label",
            remedy="add {label} to the pattern, or give --labels, a table with a column study",
        )
    notes: list[str] = []
    left_out: Counter[str] = Counter()
    frame = _images(request, text, pattern, left_out, notes)
    if "laterality" in frame:
        frame["laterality"] = frame["laterality"].str.casefold().map(_SIDES)
    views = _views(frame, request.source)
    labels: dict[str, LabelDraft] = {}
    if "label" in fields:
        _require_one(frame, "label", request.source)
        labels.update(class_labels(frame, notes))
    if request.labels is not None:
        for name, draft in add_labels(frame, request.labels, notes).items():
            labels[f"{name}_2" if name in labels else name] = draft
    if "split" in frame:
        _require_one(frame, "split", request.source)
        frame["split"] = _parts(frame["split"], request.source, notes)
    if "patient" not in frame:
        frame["patient"] = frame["study"]
        notes.append("Nothing names patients: every study is taken as its own patient.")
    else:
        _fill_patients(frame, request.source, notes)
    return Draft(
        frame=frame,
        rows=len(frame) + sum(left_out.values()),
        root=request.base,
        views=views,
        labels=labels,
        left_out=dict(left_out),
        notes=notes,
    )


def _images(
    request: ImportRequest,
    text: str,
    pattern: re.Pattern[str],
    left_out: Counter[str],
    notes: list[str],
) -> pd.DataFrame:
    """One row per image that fits; whatever else lies there is counted in `left_out`."""
    import pandas as pd

    fields, start = set(pattern.groupindex), _start(request)
    found = walk(request.source)
    left_out.update(found.passed_over)
    rows: list[dict[str, str]] = []
    unmatched: list[str] = []
    for file in found.files:
        match = pattern.fullmatch(file)
        if not file.lower().endswith(SUFFIXES):
            left_out["files that are no images by their suffix"] += 1
        elif match is None:
            unmatched.append(file)
        elif reason := _unusable(match, fields):
            left_out[reason] += 1
        else:
            said = {name: (match[name] or "").strip() for name in fields}
            rows.append({"view": ONE_VIEW, **said, "path": start + file})
    if unmatched:
        left_out["images whose names do not fit the pattern"] = len(unmatched)
        notes.append(f"The first name that does not fit {text!r}: {unmatched[0]}")
    if not rows:
        raise DataError(
            f"no image of the folder fits the pattern {text!r}",
            path=request.source,
            cause=f"the first image is {unmatched[0]}" if unmatched else "it holds no images",
            remedy="give --pattern, with the names study, view, label, patient, laterality, "
            "order, split in braces",
        )
    return pd.DataFrame(rows, dtype=str)


def _start(request: ImportRequest) -> str:
    """How the manifest's paths begin: the way from the root to the folder."""
    if not request.source.is_dir():
        raise DataError("this is no folder", path=request.source)
    way = os.path.relpath(request.source.resolve(), request.base.resolve())
    if way == os.curdir:
        return ""
    if Path(way).parts[0] == os.pardir:
        raise ConfigError(
            "the folder does not lie under --root",
            path=request.source,
            remedy="leave --root out, or name a folder above it",
        )
    return Path(way).as_posix() + "/"


def _unusable(match: re.Match[str], fields: set[str]) -> str:
    """Why an image that fits the pattern cannot be used, or ""."""
    if is_blank(match["study"] or ""):
        return "images whose study is blank, or a word for it"
    if "view" in fields and is_blank(match["view"] or ""):
        return "images whose view is blank, or a word for it"
    if "laterality" in fields and (match["laterality"] or "").strip().casefold() not in _SIDES:
        return "images whose laterality is neither left nor right"
    return ""


def _require_one(frame: pd.DataFrame, what: str, folder: Path) -> None:
    """A study that stands under two of them is most likely two studies of one number."""
    pairs = frame[["study", what]].drop_duplicates()
    again = pairs["study"].duplicated()
    if again.any():
        study = str(pairs.loc[again, "study"].iloc[0])
        both = pairs.loc[pairs["study"] == study, what].tolist()
        raise DataError(
            f"{pairs.loc[again, 'study'].nunique()} studies stand under more than one {what}, the "
            f"first under {both[0]!r} and {both[1]!r}",
            study=study,
            path=folder,
            cause=f"numbers begin anew in every folder, or files lie in the wrong {what}",
            remedy=f"make the {what} part of the id with a pattern like "
            f"'(?P<study>(?P<{what}>[^/]+)/[^/]+)_(?P<view>[^/]+)\\.png'",
        )


def _fill_patients(frame: pd.DataFrame, folder: Path, notes: list[str]) -> None:
    said = frame["patient"].mask(frame["patient"].map(is_blank), "")
    _require_one(frame[said != ""], "patient", folder)
    # Another image of the study may name the patient.
    found = said.groupby(frame["study"]).transform("max")
    blank = found == ""
    frame["patient"] = found.mask(blank, frame["study"])
    if blank.any():
        notes.append(f"{int(blank.sum())} images name no patient: their study is taken as one.")


def _parts(split: pd.Series, folder: Path, notes: list[str]) -> pd.Series:
    """(row,) the parts as [data] split knows them."""
    said = split.str.casefold()
    strange = said[(said != "") & ~said.isin([*_PARTS, *PARTS])]
    if len(strange):
        raise DataError(
            f"{strange.nunique()} names of splits mean nothing, the first {strange.iloc[0][:40]!r}",
            path=folder,
            remedy=f"use {', '.join([*_PARTS, *PARTS])}, or leave split out of the pattern",
        )
    if said.isin(_VALIDATION).any():
        notes.append(
            "The validation split counts as training: mvp deals its own inner parts, per stage."
        )
    return said.map(lambda part: _PARTS.get(part, part))


def _views(frame: pd.DataFrame, folder: Path) -> dict[str, ViewDraft]:
    """One view for each name, whatever its case; for each name and side where sides are said."""
    spelled: dict[str, str] = {}
    for name in sorted(frame["view"].unique()):
        spelled.setdefault(name.casefold(), name)
    if ending := next((n for n in spelled if n.endswith(SUFFIXES)), ""):
        raise ConfigError(
            f"the pattern takes the suffix for a part of the view: {ending[:40]!r}",
            remedy="end the regular expression with the suffix, as \\.png",
        )
    if len(spelled) > MAX_VIEWS:
        raise DataError(
            f"the pattern finds {len(spelled)} views, more than {MAX_VIEWS}",
            path=folder,
            cause=f"the first are {', '.join(list(spelled)[:5])}",
            remedy="give --pattern: what differs from study to study is no view",
        )
    views: dict[str, ViewDraft] = {}
    # A view's own name is an alias of it: none may be what another goes by.
    taken = set(spelled)
    for alias, name in spelled.items():
        mine = frame["view"].str.casefold() == alias
        sides = sorted(frame.loc[mine, "laterality"].unique()) if "laterality" in frame else [None]
        for side in sides:
            key = _name(f"{name}_{side}" if side else name, taken - {alias})
            taken.add(key)
            views[key] = ViewDraft(aliases=[] if key == alias else [name], side=side)
    return views


def _name(text: str, taken: set[str]) -> str:
    """A name that mvp.toml can give a view, and that no other view has."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()
    if not NAME.fullmatch(name) or name in RESERVED_VIEWS:
        name = f"view_{name}".strip("_")
    number, base = 2, name
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name
