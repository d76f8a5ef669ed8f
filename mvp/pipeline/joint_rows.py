"""The inputs that a joint network is trained on, view by view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mvp.config.training import Slices
from mvp.data.reading.inventory import FileRecord
from mvp.errors import ConfigError, DataError
from mvp.pipeline.items import reject_items, view_items
from mvp.pipeline.project import Project
from mvp.pipeline.recording import Reject
from mvp.pipeline.stage_two import joint_masks
from mvp.types import IntArray


@dataclass(frozen=True, eq=False)
class ViewRows:
    """One view's usable inputs, study by study.

    Attributes:
        records: of the inputs.
        owner: (input,) index of the study in the manifest, never falling.
        rejects: inputs that cannot be used.
    """

    records: list[FileRecord]
    owner: IntArray
    rejects: list[Reject]


def view_rows(project: Project, name: str) -> ViewRows:
    """A view's usable inputs, of the studies that a joint network is trained on.

    Raises:
        DataError: there are none.
    """
    masks = joint_masks(project)
    wanted = masks["train"] | masks["inner"]
    items = view_items(project, project.manifest, project.view(name), project.contents)
    items = [item for item in items if wanted[item.study]]
    rejects = reject_items(project.manifest, name, items, [item.error for item in items])
    # Two copies of an image in a study are one opinion, as in the table that heads see.
    once: dict[tuple[int, str | None], FileRecord] = {}
    for item in items:
        if item.record is not None and not item.error:
            once.setdefault((item.study, item.record.pixels), item.record)
    kept = sorted(once.items(), key=lambda one: one[0][0])
    if not kept:
        raise DataError(
            "there are no images to train the joint network on",
            view=name,
            cause=f"{len(rejects)} were rejected" if rejects else None,
            remedy="look with `mvp check`, or leave the view out by head.views",
        )
    owner = np.array([study for (study, _), _ in kept], np.int64)
    return ViewRows([record for _, record in kept], owner, rejects)


def reduction(project: Project, rows: Iterable[ViewRows]) -> Slices:
    """What becomes of several images or slices of a study, as heads see it.

    Args:
        project: the workspace.
        rows: of every body.

    Raises:
        ConfigError: images are reduced otherwise than slices, which takes two steps.
    """
    slices, images = project.config.extract.instances, project.config.head.instances
    parts = list(rows)
    several = any(len(np.unique(own.owner)) < len(own.owner) for own in parts)
    if slices == "keep" or slices == images == "max":
        return images
    volumes = any(record.instances > 1 for own in parts for record in own.records)
    if not several:
        return slices
    if not volumes:
        return images
    raise ConfigError(
        f'extract.instances = "{slices}" and head.instances = "{images}" reduce slices and '
        "images in two steps, a joint network does it in one",
        remedy='set extract.instances = "keep", or both to "max"',
    )
