"""A network that is only looked through, and cannot change while it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mvp.errors import MvpError
from mvp.files import digest_json
from mvp.networks.network import Network
from mvp.networks.weights import tensor_digest


def buffers_digest(module: nn.Module) -> str:
    """The digest of all buffers, batch norm's running statistics among them."""
    return digest_json([[name, tensor_digest(b)] for name, b in sorted(module.named_buffers())])


@contextmanager
def inference(network: Network | nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; each module's own mode comes back afterwards.

    Raises:
        MvpError: on leaving, as `evaluation` says.
    """
    with evaluation(network), torch.inference_mode():
        yield


@contextmanager
def evaluation(network: Network | nn.Module) -> Iterator[None]:
    """Evaluation mode; each module's own mode comes back afterwards.

    It changes nothing but these modules, so several networks may enter and leave in any order.

    Raises:
        MvpError: on leaving, if a module is in training mode or a buffer has changed: what was
            computed inside then depends on what stood in which batch.
    """
    module = network.module if isinstance(network, Network) else network
    modes = [(m, m.training) for m in module.modules()]
    before = buffers_digest(module)
    module.eval()
    try:
        yield
        training = [name or "the network" for name, m in module.named_modules() if m.training]
        if training:
            raise MvpError(
                f"{len(training)} modules are in training mode during inference, "
                f"{training[0]} first",
                cause="something switched them on, so results depend on the batch",
                remedy="do not call train() on a network that features are taken from",
            )
        if buffers_digest(module) != before:
            raise MvpError(
                "buffers of the network changed during inference",
                cause="batch-norm statistics moved, so results depend on the order of batches",
                remedy="discard what was computed and run the step again",
            )
    finally:
        # Not module.train(mode), which would set the children as well.
        for m, mode in modes:
            m.training = mode
