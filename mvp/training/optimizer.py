"""AdamW or SGD along the cycle, and their state as plain tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from mvp.config import TrainingConfig
from mvp.training.objective import Group

Tensors = dict[str, Tensor]
SECOND_BETA = 0.999


def make_optimizer(groups: Sequence[Group], settings: TrainingConfig) -> Optimizer:
    """The optimiser over groups of parameters, each with its own learning rate at the peak."""
    made: list[dict[str, Any]] = []
    for group in groups:
        # Decay is for weights; it would pull batch norm's scales towards zero.
        decayed = [p for p in group.parameters if p.ndim > 1]
        others = [p for p in group.parameters if p.ndim <= 1]
        made.append({"params": decayed, "weight_decay": settings.weight_decay, "peak": group.rate})
        made.append({"params": others, "weight_decay": 0.0, "peak": group.rate})
    if settings.optimizer == "sgd":
        # Both numbers are set before every step.
        return SGD(made, lr=1.0, momentum=0.5, nesterov=settings.nesterov)
    return AdamW(made)


def set_cycle(optimizer: Optimizer, share: float, momentum: float) -> None:
    """Put a step's place in the cycle into the optimiser.

    Args:
        optimizer: of `make_optimizer`.
        share: of the peak learning rate of each group.
        momentum: SGD's, or AdamW's first beta.
    """
    for group in optimizer.param_groups:
        group["lr"] = share * group["peak"]
        if "betas" in group:
            group["betas"] = (momentum, SECOND_BETA)
        else:
            group["momentum"] = momentum


def fitted(optimizer: Optimizer) -> list[nn.Parameter]:
    """All parameters that it changes."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def optimizer_tensors(optimizer: Optimizer) -> Tensors:
    """An optimiser's state as flat tensors."""
    return {
        f"{index}.{key}": value
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: Optimizer, tensors: Tensors) -> None:
    """Put flat tensors back; the groups' settings stay, since the schedule sets them anew."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
