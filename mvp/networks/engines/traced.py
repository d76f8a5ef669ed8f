"""The way from a batch to its pooled features as one module, for what traces and compiles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mvp.config import NetworkConfig
from mvp.networks.capture import Capture
from mvp.networks.network import Network
from mvp.networks.pooling import pooled


class PooledFeatures(nn.Module):
    """A network that gives pooled features instead of logits.

    It takes what `Capture` takes, but checks nothing while it runs: a check would be traced as a
    fixed number of rows. So whoever uses it runs a `Capture` on the same network first. What
    stands behind the last of the layers leads to no output, and whatever traces this drops it.

    Args:
        network: whose layers.
        config: which layers, and how they are pooled.
    """

    def __init__(self, network: Network, config: NetworkConfig) -> None:
        super().__init__()
        self.module = network.module
        self._pooling = config.pooling
        self._layers = Capture(network, config.layer, config.pooling).layer_name.split(",")
        self._seen: dict[str, Tensor] = {}

    def forward(self, batch: Tensor) -> Tensor:
        """The features of a batch, inside `hooks` only."""
        self._seen = {}
        self.module(batch)
        values = [self._seen[layer] for layer in self._layers]
        self._seen = {}  # a tensor that stayed would be taken for a part of the module
        return values[0] if len(values) == 1 else torch.cat(values, 1)

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Look into the network; the hooks are gone afterwards."""
        handles = []
        for layer in self._layers:
            name = layer.rpartition(":")[0]
            hook = partial(self._hook, layer)
            handles.append(self.module.get_submodule(name).register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, layer: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        value = inputs[0] if layer.endswith(":input") else output
        self._seen[layer] = pooled(value, self._pooling, f"layer {layer!r}")
