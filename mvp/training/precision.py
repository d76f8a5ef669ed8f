"""Mixed precision: what the forward computes in, and the scale that keeps gradients from zero."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler

from mvp.config.training import Precision
from mvp.errors import ConfigError

Tensors = dict[str, Tensor]
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def require_precision(precision: Precision, device: torch.device) -> None:
    """Refuse a precision that training on this device cannot take.

    Raises:
        ConfigError: float16 on anything but a CUDA GPU.
    """
    if precision == "float16" and device.type != "cuda":
        raise ConfigError(
            f'training.precision = "float16" cannot train on the device {device.type!r}',
            cause="gradients underflow without scaling, which is for CUDA alone",
            remedy='set training.precision = "bfloat16" or "float32"',
        )


def mixed(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """While it lasts, convolutions and products of matrices are computed in `precision`.

    Weights, their gradients, the optimiser's state and losses stay float32 (Micikevicius et al.
    2018, arXiv:1710.03740).
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def make_scaler(precision: Precision, device: torch.device) -> GradScaler:
    """The scaler of gradients; without an effect unless the precision is float16."""
    return GradScaler(device.type, enabled=precision == "float16")


def scaler_tensors(scaler: GradScaler) -> Tensors:
    """A scaler's state; empty where it has no effect."""
    state = scaler.state_dict()
    if not state:
        return {}
    return {
        "scale": torch.tensor(state["scale"], dtype=torch.float64),
        "growth_tracker": torch.tensor(state["_growth_tracker"]),
    }


def restore_scaler(scaler: GradScaler, tensors: Tensors) -> None:
    """Put a scaler's state back."""
    if scaler.is_enabled() and tensors:
        scaler.load_state_dict(
            {
                **scaler.state_dict(),
                "scale": float(tensors["scale"]),
                "_growth_tracker": int(tensors["growth_tracker"]),
            }
        )
