"""Batch norm over the rows of all processes, so that a step does not depend on their number."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mvp.training.processes import Processes


def shared_batch_norm(processes: Processes, copies: int = 1) -> AbstractContextManager[Any]:
    """While it lasts, batch norm in training mode sees the rows of all processes.

    Modules stay as they are: it is the function `batch_norm` that is replaced, so subclasses of
    the modules keep what else they do (timm's have the activation inside; exchanging them for
    `torch.nn.SyncBatchNorm` would lose it), and it works on every device.

    Args:
        processes: that train together.
        copies: how many of them do the very same rows.
    """
    return nullcontext() if processes.number == 1 else _Shared(processes, copies)


class _Shared(TorchFunctionMode):
    def __init__(self, processes: Processes, copies: int = 1) -> None:
        super().__init__()
        self._processes, self._copies = processes, copies

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.batch_norm:
            return self._batch_norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return functional.batch_norm(
                input, running_mean, running_var, weight, bias, False, momentum, eps
            )
        normal, mean, variance, count = _Normalise.apply(input, eps, self._processes)
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                # As torch does: the running variance is the unbiased one.
                once = count / self._copies
                unbiased = variance * (once / (once - 1).clamp(min=1))
                running_mean.lerp_(mean.to(running_mean), momentum)
                running_var.lerp_(unbiased.to(running_var), momentum)
        # As torch does: a half precision is what comes out, scale and shift are not rounded to it.
        if weight is not None:
            normal = normal * _channels(weight, normal).to(normal)
        if bias is not None:
            normal = normal + _channels(bias, normal).to(normal)
        return normal.to(input.dtype)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps), mean and variance over the rows of all processes.

    The gradient is that of Ioffe & Szegedy 2015 (arXiv:1502.03167), its two means taken over all
    processes as well.
    """

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, eps: float, processes: Processes
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = torch.promote_types(input.dtype, torch.float32)
        values, over = input.to(wide), [d for d in range(input.ndim) if d != 1]
        rows = values.new_tensor([values.numel() / values.shape[1]])
        sums = torch.cat([values.sum(over), rows])
        processes.add_up(sums)
        count, mean = sums[-1], sums[:-1] / sums[-1]
        # In two passes: the difference of large squares would lose the variance.
        centred = values - _channels(mean, values)
        squares = centred.square().sum(over)
        processes.add_up(squares)
        variance = squares / count
        scale = (variance + eps).rsqrt()
        normal = centred * _channels(scale, values)
        ctx.save_for_backward(normal, scale, count)
        ctx.over, ctx.processes, ctx.type = over, processes, input.dtype
        ctx.mark_non_differentiable(mean, variance, count)
        return normal, mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        normal, scale, count = ctx.saved_tensors
        sums = torch.cat([gradient.sum(ctx.over), (gradient * normal).sum(ctx.over)])
        ctx.processes.add_up(sums)
        mean, along = (sums / count).chunk(2)
        result = gradient - _channels(mean, gradient) - normal * _channels(along, gradient)
        return (result * _channels(scale, gradient)).to(ctx.type), None, None


def _channels(values: Tensor, like: Tensor) -> Tensor:
    """(C,) as it stands beside (N, C, ...)."""
    return values.view(1, -1, *[1] * (like.ndim - 2))
