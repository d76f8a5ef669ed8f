"""One change of the weights, from the parts of a step and from all processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from mvp.training.division import Share
from mvp.training.objective import Loss
from mvp.training.optimizer import fitted
from mvp.training.processes import Processes
from mvp.types import Labels


@dataclass(frozen=True, eq=False)
class Taken:
    """What a step's rows said, those of all processes.

    Attributes:
        loss: summed over their known labels.
        inputs: that went through the network.
        logits: (N, output) float32 on the CPU; None where the objective does not give them.
        labels: (N, target), of the same rows.
    """

    loss: float
    inputs: int
    logits: Tensor | None
    labels: Labels | None


def add_gradients(
    losses: Callable[[int], Loss], share: Share, known: int, scaler: GradScaler
) -> list[Loss]:
    """Let the parts of a step go through the network, and add their gradients up.

    Args:
        losses: gives the loss of part i; called once for each in turn.
        share: the parts.
        known: labels of the whole step, which the loss is divided by.
        scaler: of the gradients.
    """
    done = []
    for number in range(len(share.parts)):
        loss = losses(share.first + number)
        mean = loss.total / (max(known, 1) * share.copies)
        # The head of a step without a known label has no gradient to give.
        if mean.requires_grad:
            scaler.scale(mean).backward()
        done.append(Loss(loss.total.detach(), loss.inputs, loss.logits, loss.labels))
    return done


def share_gradients(
    optimizer: Optimizer, losses: list[Loss], share: Share, processes: Processes
) -> Taken:
    """Add up the gradients, and what the rows said, of all processes in one exchange."""
    total = torch.stack([one.total for one in losses]).sum().float()
    inputs = sum(one.inputs for one in losses)
    logits, labels = _joined(losses)
    if processes.number == 1:
        return Taken(float(total), inputs, None if logits is None else logits.cpu(), labels)
    parameters = fitted(optimizer)
    said = [total.view(1), total.new_tensor([inputs])]
    if logits is not None and labels is not None:
        values = torch.from_numpy(labels.values).to(logits)
        own = torch.cat([logits, values], dim=1)
        everything = own.new_zeros(len(share.rows), own.shape[1])
        everything[share.start : share.start + len(own)] = own
        said.append(everything.flatten())
    gradients = [_gradient(p) for p in parameters]
    # A tail that a step does not reach is left alone, as by one process: a gradient of zero would
    # let momentum and weight decay move it.
    reached = total.new_tensor([float(p.grad is not None) for p in parameters])
    # What the rows said is divided by hand; the loss was before its gradient was taken.
    said = [one / share.copies for one in said]
    bucket = torch.cat([*(g.flatten() for g in gradients), reached, *said])
    processes.add_up(bucket)
    sizes = [*(g.numel() for g in gradients), len(reached)]
    parts = bucket.split([*sizes, 1, 1, len(bucket) - sum(sizes) - 2])
    for parameter, part, by in zip(parameters, parts, parts[-4].tolist(), strict=False):
        parameter.grad = part.view_as(parameter) if by else None
    total, count, rest = parts[-3:]
    if labels is None or logits is None:
        return Taken(float(total), round(float(count)), None, None)
    rows = rest.view(len(share.rows), -1).cpu()
    return Taken(
        float(total),
        round(float(count)),
        rows[:, : logits.shape[1]].contiguous(),
        Labels(labels.targets, rows[:, logits.shape[1] :].round().numpy()),
    )


def change_weights(optimizer: Optimizer, clip: float, scaler: GradScaler) -> None:
    """Change the weights by the gradients, whose norm is kept at `clip` at most."""
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(fitted(optimizer), clip)
    scaler.step(optimizer)
    scaler.update()


def _joined(losses: list[Loss]) -> tuple[Tensor | None, Labels | None]:
    logits = [one.logits for one in losses if one.logits is not None]
    labels = [one.labels for one in losses if one.labels is not None]
    if len(logits) < len(losses) or len(labels) < len(losses):
        return None, None
    values = np.concatenate([one.values for one in labels])
    return torch.cat(logits).detach().float(), Labels(labels[0].targets, values)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
