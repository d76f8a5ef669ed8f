"""Losses and probabilities of several labels at once, some of them unknown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from mvp.types import FloatArray, Labels, Target, output_slices


def positive_weights(labels: Labels, cap: float) -> FloatArray:
    """How much a positive counts for each target: negatives / positives, capped.

    Args:
        labels: of the training rows alone.
        cap: weights are kept in [1 / cap, cap]; at least 1.

    Returns:
        (target,) float32; 1 for multi-class targets and where a class is missing.
    """
    weights = np.ones(len(labels.targets), np.float32)
    for index, target in enumerate(labels.targets):
        positives = int((labels.values[:, index] == 1).sum())
        negatives = int((labels.values[:, index] == 0).sum())
        if not target.multiclass and positives and negatives:
            weights[index] = np.clip(negatives / positives, 1 / cap, cap)
    return weights


def masked_loss(
    logits: Tensor, values: Tensor, targets: Sequence[Target], pos_weight: Tensor
) -> Tensor:
    """The mean loss over all known labels of a batch.

    Binary cross-entropy for binary targets, cross-entropy for multi-class ones. An unknown label
    (NaN) takes no part: its logits get a gradient of exactly zero. Without any known label the
    loss is zero.

    Args:
        logits: (N, output), the outputs of each target side by side.
        values: (N, target); 0 or 1, a class index, or NaN.
        targets: what the columns of `values` mean.
        pos_weight: (target,), see `positive_weights`; read for binary targets only.

    Returns:
        A scalar.
    """
    total = summed_loss(logits, values, targets, pos_weight)
    return total / (~torch.isnan(values)).sum().clamp(min=1)


def summed_loss(
    logits: Tensor, values: Tensor, targets: Sequence[Target], pos_weight: Tensor
) -> Tensor:
    """`masked_loss` before it is divided by the number of known labels."""
    total = logits.new_zeros(())
    # NaN times zero is NaN, in gradients too: unknown rows are left out, not multiplied away.
    for index, (target, columns) in enumerate(zip(targets, output_slices(targets), strict=True)):
        known = ~torch.isnan(values[:, index])
        own, value = logits[known, columns], values[known, index]
        if target.multiclass:
            total = total + F.cross_entropy(own, value.long(), reduction="sum")
        else:
            total = total + F.binary_cross_entropy_with_logits(
                own[:, 0], value, pos_weight=pos_weight[index], reduction="sum"
            )
    return total


def probabilities(logits: Tensor, targets: Sequence[Target]) -> Tensor:
    """(N, output) probabilities: sigmoid of binary targets, softmax within multi-class ones."""
    columns = [
        logits[:, own].softmax(1) if target.multiclass else logits[:, own].sigmoid()
        for target, own in zip(targets, output_slices(targets), strict=True)
    ]
    return torch.cat(columns, dim=1) if columns else logits[:, :0]
