"""What a view's network is trained on: its images, volumes or texts, with their labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from mvp.config import Protocol, ResolvedView, flipped_sides
from mvp.data.augment import Augmentation
from mvp.data.datasets import InputSet
from mvp.data.loading import Request
from mvp.data.reading.inventory import FileRecord
from mvp.data.splits.split import TRAIN, Split, parts_for
from mvp.errors import ConfigError, DataError
from mvp.files import digest_json
from mvp.pipeline.items import reject_items, view_items
from mvp.pipeline.networks import view_inputs, view_targets
from mvp.pipeline.project import Project, label_indices
from mvp.pipeline.recording import Reject
from mvp.pipeline.workspace import FOLD, fold_number
from mvp.types import BoolArray, IntArray, Labels, TextArray

log = logging.getLogger("mvp")


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """The inputs that a view's network is trained on.

    Attributes:
        records: what each row is.
        labels: (row, target), those of its study.
        patients: of each row.
        studies: of each row.
        train: rows that weights are fitted on.
        inner: rows that choose the epoch.
        rejects: inputs that cannot be used.
        offered: digest of the studies that have an input and stand in either part, whatever is
            known of them.
    """

    records: list[FileRecord]
    labels: Labels
    patients: list[str]
    studies: list[str]
    train: IntArray
    inner: IntArray
    rejects: list[Reject]
    offered: str

    @property
    def volumes(self) -> bool:
        """Whether a row has several slices."""
        return any(record.instances > 1 for record in self.records)


def training_masks(
    split: Split, studies: TextArray, protocol: Protocol, fold: str = FOLD
) -> tuple[BoolArray, BoolArray]:
    """Which studies a network is fitted on, and which choose its epoch.

    Args:
        split: the parts, and the folds where one is asked for.
        studies: (study,) ids.
        protocol: of the network without folds.
        fold: "fold-K" takes everything outside test and outside fold K.

    Returns:
        (study,) and (study,), no study in both.

    Raises:
        ConfigError: the split has no such fold.
    """
    number = fold_number(fold)
    if number is None:
        fitted = split.mask(studies, parts_for("stage1", protocol, protocol))
        return fitted, split.mask(studies, parts_for("stage1-inner", protocol, protocol))
    folds = len(split.fold_counts())
    if number >= folds:
        raise ConfigError(
            f"there is no {fold}",
            cause=f"the split has folds 0 to {folds - 1}" if folds else "the split has no folds",
            remedy=None if folds else "run `mvp finetune --folds 5`, or set split.folds",
        )
    # Who stands in no fold is held out by no network, so no network may learn from him.
    others = np.array([split.folds.get(str(s), number) != number for s in studies], dtype=bool)
    fitted = split.mask(studies, [part for part in TRAIN if not part.endswith("-inner")])
    inner = split.mask(studies, [part for part in TRAIN if part.endswith("-inner")])
    return fitted & others, inner & others


def training_rows(project: Project, view: ResolvedView, fold: str = FOLD) -> TrainingRows:
    """The rows of a view that belong to stage one and have a known label.

    Args:
        project: the workspace.
        view: whose rows.
        fold: the one that the network never sees; "all" for the network of the protocol.

    Raises:
        DataError: none is left to train on.
    """
    manifest, split = project.manifest, project.split
    values = manifest.labels.values[:, label_indices(manifest, view.labels)]
    stage1, inner = training_masks(split, manifest.studies, project.config.protocol, fold)
    # A study without any known label teaches nothing.
    wanted = (stage1 | inner) & ~np.isnan(values).all(axis=1)
    everything = view_items(project, manifest, view, project.contents)
    there = sorted({item.study for item in everything})
    offered = [[str(manifest.studies[i]) for i in there if part[i]] for part in (stage1, inner)]
    items = [item for item in everything if wanted[item.study]]
    rejects = reject_items(manifest, view.name, items, [item.error for item in items])
    usable = [(i.study, i.record) for i in items if i.record is not None and not i.error]
    studies = np.array([study for study, _ in usable], np.int64)
    if not stage1[studies].any():
        raise DataError(
            "there are no images to train on" + ("" if fold == FOLD else f" without {fold}"),
            view=view.name,
            cause=f"{len(rejects)} were rejected" if rejects else "none is in the training split",
            remedy="look with `mvp check`",
        )
    return TrainingRows(
        records=[record for _, record in usable],
        labels=Labels(view_targets(project, view), values[studies]),
        patients=[str(manifest.patients[study]) for study in studies],
        studies=[str(manifest.studies[study]) for study in studies],
        train=np.flatnonzero(stage1[studies]),
        inner=np.flatnonzero(inner[studies]),
        rejects=rejects,
        offered=digest_json(offered),
    )


def training_inputs(project: Project, view: ResolvedView, rows: TrainingRows) -> InputSet:
    """The inputs of some rows; every slice of a volume, in order."""
    if (sides := flipped_sides(project.config, view.name)) is not None:
        log.warning(sides)
    return InputSet(
        [Request(r.file, r.digest, tuple(range(r.instances))) for r in rows.records],
        view_inputs(project, project.manifest, view),
        Augmentation(view.augment) if view.kind == "image" else None,
        project.workers,
        int(view.training.memory_gb * 2**30),
    )
