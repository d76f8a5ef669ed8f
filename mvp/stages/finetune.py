"""Stage one: fine-tune one view's network."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mvp.config import ResolvedView
from mvp.errors import DataError
from mvp.files import tidy
from mvp.networks import Network, build_view, positive_weights, save_weights, weights_digest
from mvp.stages._checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mvp.stages._curves import draw_curve, write_history
from mvp.stages._fingerprint import fingerprint
from mvp.stages._monitor import learnable
from mvp.stages._schedule import derived_seed, seeded
from mvp.stages._task import ImageSource, Task
from mvp.stages.training import Training
from mvp.types import IntArray, Labels

__all__ = ["FinetuneResult", "ImageSource", "finetune"]

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
HISTORY = "history.csv"
CURVE = "curve.png"
DEFAULT_HEAD_EPOCHS = 5


@dataclass(frozen=True)
class FinetuneResult:
    """How a fine-tuning went.

    Attributes:
        epochs_run: of both phases, those before an interruption among them.
        best_epoch: whose weights were kept, counted over both phases from 1; 0 if none ran.
        best_auroc: mean over outputs on the inner rows; None where undefined.
        best_loss: on the inner rows.
        resumed_from: epochs that an earlier call had finished; None if it started here.
        seconds: in all calls.
        images_seen: images and slices that went through the whole network, in all calls.
        parameters: of the network.
        stopped_early: whether patience ended the last phase.
    """

    epochs_run: int
    best_epoch: int
    best_auroc: float | None
    best_loss: float | None
    resumed_from: int | None
    seconds: float
    images_seen: int
    parameters: int
    stopped_early: bool


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
) -> FinetuneResult:
    """Train a new head on the frozen network, then the whole network, and keep the best epoch.

    A fine-tuning that starts from a random head distorts good features before the head has
    learnt to read them: the head comes first, on features computed once, and the whole network
    follows (Kumar et al. 2022, arXiv:2202.10054). `training.learning_rate` should then be about
    a tenth of `training.head_learning_rate`. Without published weights there is nothing to keep,
    and the head's phase is skipped unless `training.head_epochs` asks for it.

    The folder gets `weights.safetensors`, `history.csv` and `curve.png`. While training runs it
    holds `checkpoint.safetensors`; the same call goes on from there after an interruption and
    ends with the same bits on the same machine and number of threads.

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

    Raises:
        ConfigError: the network or its weights cannot be had, or do not fit the images.
        DataError: no label can be learnt, or no epoch be chosen.
        MvpError: the loss is no longer finite.
    """
    train, inner = np.asarray(train, np.int64), np.asarray(inner, np.int64)
    _require_rows(view, labels, train, inner)
    masked = learnable(labels, train, inner, view.name)
    with seeded(derived_seed(seed, "weights"), torch.device("cpu")):
        network = build_view(view, len(labels.outputs))
    first = weights_digest(network, without_classifier=False)
    network.module.to(device)
    network.module.to(memory_format=torch.channels_last)
    network.module.eval()
    tidy(folder, lambda path: path.name.startswith(".partial-"))
    mark = fingerprint(view, labels, train, inner, seed, first, images.counts)
    checkpoint = load_checkpoint(folder / CHECKPOINT, mark)
    resumed = len(checkpoint.progress.history) if checkpoint else None
    weights = positive_weights(masked.select(train), view.training.max_pos_weight)
    task = Task(
        view=view,
        network=network,
        images=images,
        labels=masked,
        train=train,
        inner=inner,
        pos_weight=torch.from_numpy(weights).to(device),
        seed=seed,
        device=device,
        progress_bar=progress,
    )

    def save(state: Checkpoint) -> None:
        save_checkpoint(folder / CHECKPOINT, mark, state)

    training = Training(task, checkpoint, save)
    early = training.run(_head_epochs(view))
    _publish(folder, view, network, training)
    state = training.progress
    return FinetuneResult(
        epochs_run=len(state.history),
        best_epoch=state.best_epoch,
        best_auroc=state.best_auroc,
        best_loss=state.best_loss,
        resumed_from=resumed,
        seconds=state.seconds,
        images_seen=state.images_seen,
        parameters=sum(p.numel() for p in network.module.parameters()),
        stopped_early=early,
    )


def _head_epochs(view: ResolvedView) -> int:
    if view.training.head_epochs is not None:
        return view.training.head_epochs
    return 0 if view.network.weights == "none" else DEFAULT_HEAD_EPOCHS


def _publish(folder: Path, view: ResolvedView, network: Network, training: Training) -> None:
    """Write the artefacts; the checkpoint goes last, so that a crash here repeats only this."""
    state = training.progress
    if not state.history:
        logging.getLogger("mvp").warning(
            "view %s: training.epochs and head_epochs are 0; its weights stay as they were",
            view.name,
        )
    save_weights(network, folder / WEIGHTS)
    write_history(folder / HISTORY, state.history)
    draw_curve(folder / CURVE, view.name, state.history, state.best_epoch)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _require_rows(view: ResolvedView, labels: Labels, train: IntArray, inner: IntArray) -> None:
    remedy = "give stage one more studies ([split])"
    for name, rows in (("training", train), ("inner", inner)):
        if not len(rows):
            raise DataError(f"there are no {name} images", view=view.name, remedy=remedy)
        if rows.min() < 0 or rows.max() >= len(labels) or len(np.unique(rows)) != len(rows):
            raise DataError(
                f"the {name} rows are not distinct rows of the {len(labels)} images",
                view=view.name,
            )
    if np.isin(train, inner).any():
        raise DataError(
            "an image stands among both training and inner rows",
            view=view.name,
            cause="early stopping would be judged on what was fitted",
        )
