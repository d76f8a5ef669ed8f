"""Stage one: fine-tune one view's network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mvp.config import ResolvedView
from mvp.networks import positive_weights, weights_digest
from mvp.training.fingerprint import fingerprint
from mvp.training.monitor import learnable
from mvp.training.one_view import HeadPhase, NetworkPhase
from mvp.training.processes import Processes
from mvp.training.result import (
    FinetuneResult,
    first_network,
    head_epochs,
    network_epochs,
    require_rows,
    result_of,
)
from mvp.training.session import Session
from mvp.training.source import ImageSource
from mvp.training.step_size import decided_step_size, with_step_size
from mvp.training.task import Task
from mvp.types import IntArray, Labels

__all__ = ["FinetuneResult", "ImageSource", "finetune"]


def finetune(
    view: ResolvedView,
    images: ImageSource,
    labels: Labels,
    *,
    train: IntArray,
    inner: IntArray,
    folder: Path,
    seed: int,
    device: torch.device,
    progress: bool = True,
    processes: Processes | None = None,
) -> FinetuneResult:
    """Train a new head on the frozen network, then the whole network, and keep the best epoch.

    A fine-tuning that starts from a random head distorts good features before the head has
    learnt to read them: the head comes first, on features computed once, and the whole network
    follows (Kumar et al. 2022, arXiv:2202.10054). `training.learning_rate` should then be about
    a tenth of `training.head_learning_rate`. Without published weights there is nothing to keep,
    and the head's phase is skipped unless `training.head_epochs` asks for it.

    The folder gets `weights.safetensors`, `history.csv` and `curve.png`. While training runs it
    holds `checkpoint.safetensors`; the same call goes on from there after an interruption, also
    within an epoch, and ends with the same bits on the same machine and number of threads.

    Args:
        view: its settings.
        images: row i belongs to row i of the labels. Where a row is a volume, every slice goes
            through the network, the classifier sees their maximum or mean (`training.slices`),
            and the loss is the volume's.
        labels: (row, target); a study's labels stand at each of its images and volumes.
        train: rows that weights are fitted on.
        inner: rows that choose the epoch; no patient in both.
        folder: where the artefacts go; made if absent.
        seed: all chance comes from it, and torch's global generator is left alone.
        device: where to train.
        progress: show bars on stderr.
        processes: that make the same call together; the first one writes.

    Raises:
        ConfigError: the network or its weights cannot be had, or do not fit the images; a layer
            that `training.freeze` or `training.rates` names is not in it.
        DataError: no label can be learnt, or no epoch be chosen.
        MvpError: the loss is no longer finite.
    """
    processes = processes or Processes()
    train, inner = np.asarray(train, np.int64), np.asarray(inner, np.int64)
    require_rows(view, labels, train, inner)
    masked = learnable(labels, train, inner, view.name)
    with processes.first_before_others():
        # Alone, because it may fetch published weights.
        network = first_network(view, len(labels.outputs), seed)
    first = weights_digest(network, without_classifier=False)
    network.module.to(device)
    network.module.to(memory_format=torch.channels_last)
    network.module.eval()
    mark = fingerprint(view, labels, train, inner, seed, first, images.counts)
    session = Session([folder], mark, processes)
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
            processes=processes,
        )

    size = decided_step_size(
        view.training,
        session.checkpoint,
        device,
        processes,
        lambda size: NetworkPhase(task(with_step_size(view, size)), view.training.epochs),
    )
    whole = task(with_step_size(view, size))
    phases = HeadPhase(whole, head_epochs(view)), NetworkPhase(whole, network_epochs(view))
    state, early = session.run(view.name, whole.view.training, seed, device, phases, progress)
    session.publish({folder: network}, view.name, state)
    return result_of(state, network.module, session.resumed, early)
