"""What a joint network is shown of some studies: the inputs of every body, and fixed features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mvp.networks.bodies import ViewFeatures, ViewInputs
from mvp.training.joint_task import JointTask, JointView
from mvp.training.schedule import derived_seed
from mvp.training.source import in_parts
from mvp.training.task import for_network, on_device
from mvp.types import IntArray


class JointInputs:
    """Reads what the parts of an epoch need, ahead, view by view.

    Args:
        task: what is trained on what.
    """

    def __init__(self, task: JointTask) -> None:
        self._task = task

    def batches(
        self, parts: Sequence[IntArray], epoch: int | None
    ) -> Iterator[dict[str, ViewInputs]]:
        """For each part the inputs of every view that it has, read ahead.

        Args:
            parts: studies.
            epoch: whose random changes are made; None makes none.
        """
        task = self._task
        coming: list[Iterator[Tensor]] = []
        for one in task.views:
            wanted = [own for part in parts if len(own := one.rows_of(part)[0])]
            coming.append(in_parts(one.images, wanted, task.settings.step_size))
        for part in parts:
            batch = {}
            for one, inputs in zip(task.views, coming, strict=True):
                rows, counts = one.rows_of(part)
                if len(rows):
                    batch[one.view.name] = self._inputs(one, part, rows, counts, inputs, epoch)
            yield batch

    def _inputs(
        self,
        one: JointView,
        part: IntArray,
        rows: IntArray,
        counts: IntArray,
        coming: Iterator[Tensor],
        epoch: int | None,
    ) -> ViewInputs:
        task = self._task
        images = on_device(next(coming), task.device)
        if epoch is not None:
            slices = None if one.images.counts is None else one.images.counts[rows]
            name = one.view.name
            seeds = [derived_seed(task.seed, "augment", epoch, name, int(row)) for row in rows]
            if task.together:
                owners = [int(study) for study in one.owner[rows]]
                places = [derived_seed(task.seed, "augment", epoch, study) for study in owners]
                images = one.images.augment(images, seeds, slices, places)
            else:
                images = one.images.augment(images, seeds, slices)
        there = np.flatnonzero(counts)
        return ViewInputs(
            torch.from_numpy(there).to(task.device),
            for_network(images, one.images, one.network),
            one.inputs_of(part)[there].tolist(),
        )

    def fixed(self, rows: IntArray) -> dict[str, ViewFeatures]:
        """Of some studies the features of views without a body."""
        found = {}
        for view, values in self._task.fixed.items():
            own = values[rows]
            there = np.flatnonzero(~np.isnan(own).all(axis=1))
            if len(there):
                found[view] = ViewFeatures(
                    torch.from_numpy(there).to(self._task.device),
                    torch.from_numpy(own[there]).to(self._task.device),
                )
        return found
