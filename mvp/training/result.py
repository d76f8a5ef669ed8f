"""What a fine-tuning starts from and what it says of itself, of one view or of several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mvp.config import ResolvedView
from mvp.config.variants import FROZEN_BODY
from mvp.errors import DataError
from mvp.networks import Network, build_view
from mvp.training.checkpoint import Progress
from mvp.training.schedule import derived_seed, seeded
from mvp.types import IntArray, Labels

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
        batch_size: inputs of a step, also where the settings say "auto".
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
    batch_size: int


def first_network(view: ResolvedView, outputs: int, seed: int) -> Network:
    """A view's network before any training, on the CPU.

    Args:
        view: its settings.
        outputs: logits of its new classifier.
        seed: of what no weights give.

    Raises:
        ConfigError: the network or its weights cannot be had.
    """
    with seeded(derived_seed(seed, "weights"), torch.device("cpu")):
        return build_view(view, outputs)


def result_of(
    state: Progress, module: nn.Module, resumed: int | None, early: bool
) -> FinetuneResult:
    """The result of a finished training.

    Args:
        state: where it ended.
        module: the network.
        resumed: epochs that an earlier call had finished; None if it started here.
        early: whether patience ended the last phase.
    """
    return FinetuneResult(
        epochs_run=len(state.history),
        best_epoch=state.best_epoch,
        best_auroc=state.best_auroc,
        best_loss=state.best_loss,
        resumed_from=resumed,
        seconds=state.seconds,
        images_seen=state.images_seen,
        parameters=sum(p.numel() for p in module.parameters()),
        stopped_early=early,
        batch_size=state.step_size,
    )


def head_epochs(view: ResolvedView) -> int:
    """Epochs of the new head alone: without weights there is nothing that it could distort."""
    if view.training.head_epochs is not None:
        return view.training.head_epochs
    # With freeze = "all" the head is all that is trained.
    nothing_to_keep = view.network.weights == "none" and view.training.freeze != FROZEN_BODY
    return 0 if nothing_to_keep else DEFAULT_HEAD_EPOCHS


def network_epochs(view: ResolvedView) -> int:
    """Epochs of the whole network; none where all but the head is frozen."""
    return 0 if view.training.freeze == FROZEN_BODY else view.training.epochs


def require_rows(view: ResolvedView, labels: Labels, train: IntArray, inner: IntArray) -> None:
    """Refuse rows that nothing can be trained on.

    Raises:
        DataError: there are none, they are not distinct rows, or one is in both parts.
    """
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
