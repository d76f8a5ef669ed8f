"""Stage one: fine-tune the networks of several views that have layers in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from mvp.config import ResolvedView
from mvp.config.variants import SHARE_ALL
from mvp.errors import MvpError
from mvp.files import digest_json
from mvp.networks import positive_weights, weights_digest
from mvp.networks.sharing import SharedNetworks, share_stem
from mvp.training.fingerprint import fingerprint
from mvp.training.monitor import learnable
from mvp.training.processes import Processes
from mvp.training.result import FinetuneResult, first_network, head_epochs, require_rows, result_of
from mvp.training.session import Session
from mvp.training.several_views import SeveralHeads, SeveralNetworks
from mvp.training.source import ImageSource
from mvp.training.step_size import decided_step_size, with_step_size
from mvp.training.task import Task
from mvp.types import FloatArray, IntArray, Labels


@dataclass(frozen=True, eq=False)
class Member:
    """One view of a group; what is said of it is what `finetune` takes of one view.

    Attributes:
        view: its settings; `network.share` is the same for all members.
        images: row i belongs to row i of the labels.
        labels: (row, target).
        train: rows that weights are fitted on.
        inner: rows that choose the epoch.
        folder: where its artefacts go.
        seed: of its own tail, order of rows and augmentation.
    """

    view: ResolvedView
    images: ImageSource
    labels: Labels
    train: IntArray
    inner: IntArray
    folder: Path
    seed: int


def finetune_shared(
    members: Sequence[Member],
    *,
    seed: int,
    device: torch.device,
    progress: bool = True,
    processes: Processes | None = None,
) -> dict[str, FinetuneResult]:
    """Train several views' networks together, and keep the best epoch of all of them.

    With `network.share` a layer's name, the networks are one up to and with that layer, which
    sees the images of all views side by side, and each view has a tail of its own. With "all"
    they are one network. The losses of the views are added up, and an epoch is as good as the
    mean of their inner scores. Otherwise it goes as with one view: see `finetune`.

    Every view's folder gets a whole ordinary network, `history.csv` and `curve.png`, the last two
    of the group. The checkpoint of the group lies in the first view's folder.

    Args:
        members: the views, two or more, in the order of the settings.
        seed: chance that is no view's own comes from it.
        device: where to train.
        progress: show bars on stderr.
        processes: that make the same call together; the first one writes.

    Raises:
        ConfigError: a network cannot be had, cut at that layer, or does not fit the images.
        DataError: no label of a view can be learnt, or no epoch be chosen.
        MvpError: the loss is no longer finite.
    """
    processes = processes or Processes()
    for one in members:
        require_rows(one.view, one.labels, np.asarray(one.train), np.asarray(one.inner))
    known, weights = _learnable(members)
    with processes.first_before_others():
        # Alone, because it may fetch published weights.
        shared = _networks(members)
    networks = [shared.networks[one.view.name] for one in members]
    first = [weights_digest(network, without_classifier=False) for network in networks]
    shared.module.to(device)
    shared.module.to(memory_format=torch.channels_last)
    shared.module.eval()
    session = Session([one.folder for one in members], _mark(members, seed, first), processes)
    parts = list(zip(members, networks, known, weights, strict=True))

    def tasks(size: int) -> list[Task]:
        return [
            Task(
                view=with_step_size(one.view, size),
                network=network,
                images=one.images,
                labels=labels,
                train=np.asarray(one.train, np.int64),
                inner=np.asarray(one.inner, np.int64),
                pos_weight=torch.from_numpy(weight).to(device),
                seed=one.seed,
                device=device,
                processes=processes,
            )
            for one, network, labels, weight in parts
        ]

    view = members[0].view
    name = " + ".join(one.view.name for one in members)
    epochs = view.training.epochs
    size = decided_step_size(
        view.training,
        session.checkpoint,
        device,
        processes,
        lambda size: SeveralNetworks(tasks(size), epochs, shared),
    )
    whole = tasks(size)
    phases = SeveralHeads(whole, head_epochs(view)), SeveralNetworks(whole, epochs, shared)
    settings = with_step_size(view, size).training
    try:
        state, early = session.run(name, settings, seed, device, phases, progress)
    except MvpError as error:
        error.view = error.view or name
        raise
    session.publish(
        {one.folder: network for one, network in zip(members, networks, strict=True)}, name, state
    )
    return {
        one.view.name: result_of(state, network.module, session.resumed, early)
        for one, network in zip(members, networks, strict=True)
    }


def _networks(members: Sequence[Member]) -> SharedNetworks:
    """The views' networks with their common layers, those of the first view."""
    networks = {
        one.view.name: first_network(one.view, len(one.labels.outputs), one.seed) for one in members
    }
    return share_stem(networks, members[0].view.network.share)


def _learnable(members: Sequence[Member]) -> tuple[list[Labels], list[FloatArray]]:
    """For each view its labels that can be learnt, and what a positive counts.

    Both are asked of a network's training rows: those of all views where it is one network.
    """
    cap = members[0].view.training.max_pos_weight
    if members[0].view.network.share != SHARE_ALL:
        known = [learnable(one.labels, one.train, one.inner, one.view.name) for one in members]
        return known, [
            positive_weights(labels.select(one.train), cap)
            for one, labels in zip(members, known, strict=True)
        ]
    starts = np.cumsum([0, *(len(one.labels) for one in members)])
    both = Labels(members[0].labels.targets, np.concatenate([one.labels.values for one in members]))
    train, inner = (
        np.concatenate([rows + start for rows, start in zip(parts, starts, strict=False)])
        for parts in ([one.train for one in members], [one.inner for one in members])
    )
    name = " + ".join(one.view.name for one in members)
    masked = learnable(both, train, inner, name)
    weights = positive_weights(masked.select(train), cap)
    known = [replace(masked, values=masked.values[start:stop]) for start, stop in pairwise(starts)]
    return known, [weights] * len(members)


def _mark(members: Sequence[Member], seed: int, first: Sequence[str]) -> str:
    """What a checkpoint of the group belongs to."""
    return digest_json(
        [
            seed,
            list(first),
            [
                fingerprint(
                    one.view, one.labels, one.train, one.inner, one.seed, "", one.images.counts
                )
                for one in members
            ],
        ]
    )
