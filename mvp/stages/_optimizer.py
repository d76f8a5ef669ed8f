"""AdamW along the cycle, and its state as plain tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Tensors = dict[str, Tensor]


def adamw(trained: nn.Module, weight_decay: float) -> Optimizer:
    parameters = [p for p in trained.parameters() if p.requires_grad]
    # Decay is for weights; it would pull batch norm's scales towards zero.
    decayed = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
    )


def take_step(
    optimizer: Optimizer,
    trained: nn.Module,
    loss: Tensor,
    rate: float,
    beta: float,
    clip: float,
) -> None:
    for group in optimizer.param_groups:
        group["lr"], group["betas"] = rate, (beta, 0.999)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(trained.parameters(), clip)
    optimizer.step()


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
