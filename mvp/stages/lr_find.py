"""Stage one: which learning rate a view's network can take."""

from __future__ import annotations

import sys
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from mvp.config import ResolvedView
from mvp.networks import positive_weights
from mvp.training.loop import Loop
from mvp.training.monitor import learnable
from mvp.training.one_view import HeadPhase, NetworkPhase
from mvp.training.processes import Processes
from mvp.training.range_test import RangeTest, range_test
from mvp.training.result import first_network, head_epochs, require_rows
from mvp.training.source import ImageSource
from mvp.training.step_size import decided_step_size, with_step_size
from mvp.training.task import Task
from mvp.types import IntArray, Labels


def lr_find(
    view: ResolvedView,
    images: ImageSource,
    labels: Labels,
    *,
    train: IntArray,
    inner: IntArray,
    phase: Literal["head", "all"],
    steps: int,
    seed: int,
    device: torch.device,
    progress: bool = True,
) -> RangeTest:
    """Test learning rates on a network as training would begin with it; nothing is written.

    For the phase of the whole network the head is trained first, as `finetune` does, since the
    rate that a random head can take says little.

    Args:
        view: its settings.
        images: row i belongs to row i of the labels.
        labels: (row, target).
        train: rows that weights are fitted on.
        inner: rows that choose the head's epoch.
        phase: "head", or "all" for the whole network.
        steps: of the test, at most.
        seed: as `finetune` is given.
        device: where.
        progress: show bars on stderr.

    Raises:
        ConfigError: the network or its weights cannot be had, or do not fit the images.
        DataError: no label can be learnt.
        MvpError: the loss explodes at once.
    """
    train, inner = np.asarray(train, np.int64), np.asarray(inner, np.int64)
    require_rows(view, labels, train, inner)
    masked = learnable(labels, train, inner, view.name)
    network = first_network(view, len(labels.outputs), seed)
    network.module.to(device)
    network.module.to(memory_format=torch.channels_last)
    network.module.eval()
    weights = positive_weights(masked.select(train), view.training.max_pos_weight)

    def task(view: ResolvedView) -> Task:
        return Task(
            view=view,
            network=network,
            images=images,
            labels=masked,
            train=train,
            inner=inner,
            pos_weight=torch.from_numpy(weights).to(device),
            seed=seed,
            device=device,
        )

    size = decided_step_size(
        view.training,
        None,
        device,
        Processes(),
        lambda size: NetworkPhase(task(with_step_size(view, size)), 1),
    )
    whole = task(with_step_size(view, size))
    settings = whole.view.training
    tested = HeadPhase(whole, 1) if phase == "head" else NetworkPhase(whole, 1)
    tested.groups()
    if phase == "all":
        loop = Loop(view.name, settings, seed, device, None, lambda _: None, progress)
        loop.run(HeadPhase(whole, head_epochs(view)), NetworkPhase(whole, 0))
    bar = tqdm(
        total=steps, desc=f"{view.name} rates", unit="step", file=sys.stderr, disable=not progress
    )
    with bar:
        return range_test(tested, settings, steps, seed, device, bar.update)
