"""What a view's network is trained on: its images, volumes or texts, with their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mvp.config import ResolvedView
from mvp.data.augment import Augmentation
from mvp.data.datasets import InputSet
from mvp.data.loading import Request
from mvp.data.reading.inventory import FileRecord
from mvp.data.splits.split import parts_for
from mvp.errors import DataError
from mvp.pipeline.items import reject_items, view_items
from mvp.pipeline.networks import view_inputs, view_targets
from mvp.pipeline.project import Project, label_indices
from mvp.pipeline.recording import Reject
from mvp.types import IntArray, Labels


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
    """

    records: list[FileRecord]
    labels: Labels
    patients: list[str]
    studies: list[str]
    train: IntArray
    inner: IntArray
    rejects: list[Reject]

    @property
    def volumes(self) -> bool:
        """Whether a row has several slices."""
        return any(record.instances > 1 for record in self.records)


def training_rows(project: Project, view: ResolvedView) -> TrainingRows:
    """The rows of a view that belong to stage one and have a known label.

    Raises:
        DataError: none is left to train on.
    """
    manifest, split = project.manifest, project.split
    protocol = project.config.protocol
    values = manifest.labels.values[:, label_indices(manifest, view.labels)]
    stage1, inner = (
        split.mask(manifest.studies, parts_for(role, protocol, protocol))
        for role in ("stage1", "stage1-inner")
    )
    # A study without any known label teaches nothing.
    wanted = (stage1 | inner) & ~np.isnan(values).all(axis=1)
    items = [i for i in view_items(project, manifest, view, project.contents) if wanted[i.study]]
    rejects = reject_items(manifest, view.name, items, [item.error for item in items])
    usable = [(i.study, i.record) for i in items if i.record is not None and not i.error]
    studies = np.array([study for study, _ in usable], np.int64)
    if not stage1[studies].any():
        raise DataError(
            "there are no images to train on",
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
    )


def training_inputs(project: Project, view: ResolvedView, rows: TrainingRows) -> InputSet:
    """The inputs of some rows; every slice of a volume, in order."""
    return InputSet(
        [Request(r.file, r.digest, tuple(range(r.instances))) for r in rows.records],
        view_inputs(project, project.manifest, view),
        Augmentation(view.augment) if view.kind == "image" else None,
        project.workers,
        int(view.training.memory_gb * 2**30),
    )
