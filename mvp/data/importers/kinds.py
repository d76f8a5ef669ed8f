"""The data sets that can be imported, and what every import is checked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvp.config import LabelConfig, nearest
from mvp.data.importers.base import REQUIRED, Draft, ImportRequest
from mvp.data.tables.labels import parse_labels
from mvp.errors import ConfigError, DataError


@dataclass(frozen=True)
class Kind:
    """A data set that can be imported.

    Attributes:
        module: of this folder.
        source: what the user passes first.
        options: further fields of the request that it reads.
        needs: of these, the ones it cannot do without.
    """

    module: str
    source: str
    options: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()


KINDS = {
    "chexpert": Kind("chexpert", "train.csv or valid.csv"),
    "mimic-cxr": Kind(
        "mimic_cxr",
        "mimic-cxr-2.0.0-metadata.csv.gz",
        frozenset({"labels", "split"}),
        frozenset({"labels"}),
    ),
    "padchest": Kind(
        "padchest", "PADCHEST_chest_x_ray_images_labels_160K.csv", frozenset({"findings"})
    ),
    "nih-cxr14": Kind("nih_cxr14", "Data_Entry_2017_v2020.csv", frozenset({"split", "findings"})),
    "openi": Kind(
        "openi",
        "the reports: NLMCXR_reports.tgz, or the folder of its XML files",
        frozenset({"metadata", "findings"}),
        frozenset({"metadata"}),
    ),
    "mrnet": Kind("mrnet", "the folder MRNet-v1.0"),
    "vindr-mammo": Kind("vindr_mammo", "breast-level_annotations.csv"),
    "cbis-ddsm": Kind("cbis_ddsm", "a description table, or the folder of all of them"),
    "rsna-mammo": Kind("rsna_mammo", "train.csv"),
    "folder": Kind("folder", "a folder of images", frozenset({"pattern", "labels"})),
}


def read_draft(kind: str, request: ImportRequest) -> Draft:
    """Read a data set as its importer does, and check that every row is accounted for.

    Args:
        kind: a key of `KINDS`.
        request: what the user named.

    Raises:
        ConfigError: no such kind, or an option that this kind does not read, or lacks.
        DataError: the source is not what this kind reads.
    """
    if kind not in KINDS:
        raise ConfigError(
            f"there is no importer {kind!r}" + nearest(kind, KINDS),
            cause=f"there are {', '.join(KINDS)}",
            remedy="use `mvp init TABLE` for a table of your own",
        )
    known = KINDS[kind]
    for option in ("labels", "metadata", "split", "pattern", "findings"):
        given = bool(getattr(request, option))
        flag = "--finding" if option == "findings" else f"--{option}"
        if given and option not in known.options:
            raise ConfigError(f"{kind} takes no {flag}", remedy="leave it out")
        if not given and option in known.needs:
            raise ConfigError(f"{kind} needs {flag}", remedy="docs/importing.md says which file")
    if not request.source.exists():
        raise DataError(
            "the source is not there",
            path=request.source,
            remedy=f"{kind} is given {known.source}",
        )
    draft = importlib.import_module(f"mvp.data.importers.{known.module}").read(request)
    return _learnable(_accounted(draft, request.source))


def _learnable(draft: Draft) -> Draft:
    """The draft without the labels of one class: nothing could be learnt of them here."""
    found = {}
    for name, label in draft.labels.items():
        cells = draft.frame[label.column].unique().tolist()
        config = LabelConfig(column=label.column, **label.further)
        try:
            values = parse_labels(cells, np.arange(len(cells)), name, config, lambda row: row)
        except DataError:
            continue  # `mvp check` names the cell, with its line of the manifest
        found[name] = len(np.unique(values[~np.isnan(values)]))
    poor = [name for name, classes in found.items() if classes < 2]
    # Where none is left there is no mvp.toml to write; `mvp check` then says what is wrong.
    if poor and len(poor) < len(draft.labels):
        draft.notes.append(f"labels with fewer than two classes, left out: {', '.join(poor)}")
        draft.labels = {name: d for name, d in draft.labels.items() if name not in poor}
    return draft


def _accounted(draft: Draft, source: Path) -> Draft:
    """The draft, if it is one: what an importer got wrong must not become a manifest."""
    frame = draft.frame
    lacking = [c for c in (*REQUIRED, *(d.column for d in draft.labels.values())) if c not in frame]
    if lacking:
        raise DataError(f"the import made no column {lacking[0]!r}", path=source)
    if not len(frame):
        raise DataError(
            "no image is left to import",
            path=source,
            cause="; ".join(f"{n} {why}" for why, n in draft.left_out.items()) or None,
        )
    if len(frame) + sum(draft.left_out.values()) != draft.rows:
        raise DataError(
            f"{draft.rows} rows came in, {len(frame)} are kept and "
            f"{sum(draft.left_out.values())} are said to be left out",
            path=source,
        )
    blank = (frame["study"] == "") | (frame["path"] == "")
    if blank.any():
        raise DataError(f"{int(blank.sum())} rows have no study or no path", path=source)
    pairs = frame[["study", "patient"]].drop_duplicates()
    again = pairs["study"].duplicated()
    if again.any():
        study = str(pairs.loc[again, "study"].iloc[0])
        owners = pairs.loc[pairs["study"] == study, "patient"].tolist()
        raise DataError(
            f"one study belongs to two patients, {owners[0]!r} and {owners[1]!r}",
            study=study,
            path=source,
            remedy="correct the table",
        )
    return draft
