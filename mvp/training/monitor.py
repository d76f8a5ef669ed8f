"""Which labels can be learnt, and how well the inner rows are told apart."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mvp.errors import DataError
from mvp.networks import masked_loss, probabilities
from mvp.statistics.metrics import auroc
from mvp.types import IntArray, Labels, one_hot


@dataclass(frozen=True)
class Score:
    """What the inner rows say after an epoch.

    Attributes:
        loss: per known label.
        auroc: mean over the outputs where it is defined; None where it is nowhere.
        aurocs: of each output; None where its rows are of one class.
    """

    loss: float
    auroc: float | None
    aurocs: dict[str, float | None] = field(default_factory=dict)

    def beats(
        self, loss: float | None, auroc: float | None, by: Literal["loss", "auroc", "none"]
    ) -> bool:
        """Whether this is better than the best so far; equal AUROCs are decided by the loss.

        By "none" the latest is always kept.
        """
        if loss is None or by == "none":
            return True
        if by == "auroc" and self.auroc is not None and auroc is not None:
            return (self.auroc, -self.loss) > (auroc, -loss)
        return self.loss < loss


def learnable(labels: Labels, train: IntArray, inner: IntArray, view: str) -> Labels:
    """The labels with every target masked that the training rows show only one class of.

    Raises:
        DataError: no target has two classes among the training rows, or nothing that can be
            learnt is known in the inner rows.
    """
    values = labels.values.copy()
    for index, target in enumerate(labels.targets):
        seen = values[train, index]
        if len(np.unique(seen[~np.isnan(seen)])) < 2:
            values[:, index] = np.nan
            logging.getLogger("mvp").warning(
                "view %s: label %s has fewer than two classes among the training rows; "
                "stage one leaves it out",
                view,
                target.name,
            )
    masked = Labels(labels.targets, values)
    remedy = (
        "set other labels for the view (views.NAME.labels), correct how [labels] reads them, or "
        "give stage one more studies ([split])"
    )
    if np.isnan(values[train]).all():
        raise DataError(
            "no label can be learnt",
            view=view,
            cause=f"none of {', '.join(t.name for t in labels.targets)} is known with two classes "
            f"among the {len(train)} training images",
            remedy=remedy,
        )
    if np.isnan(values[inner]).all():
        raise DataError(
            "the best epoch cannot be chosen",
            view=view,
            cause=f"none of the {len(inner)} inner images has a known label",
            remedy=remedy + "; or raise split.inner",
        )
    return masked


def score(logits: Tensor, labels: Labels, pos_weight: Tensor) -> Score:
    """Loss and mean AUROC over the outputs where it is defined.

    Args:
        logits: (N, output) of the inner rows.
        labels: of the same rows.
        pos_weight: (target,), as in training.
    """
    values = torch.from_numpy(labels.values).to(logits.device)
    loss = float(masked_loss(logits, values, labels.targets, pos_weight))
    if not math.isfinite(loss):
        return Score(loss, None, dict.fromkeys(labels.outputs))
    truth = one_hot(labels)
    chances = probabilities(logits, labels.targets).cpu().numpy()
    areas = [auroc(truth[:, column], chances[:, column]) for column in range(truth.shape[1])]
    defined = [area for area in areas if area is not None]
    named = dict(zip(labels.outputs, areas, strict=True))
    return Score(loss, float(np.mean(defined)) if defined else None, named)
