"""The order of a network's computations, as torch.fx sees them."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torchvision
from torch import fx, nn

from mvp.errors import ConfigError
from mvp.networks.network import Network


def trace(network: Network, layer: str, training: bool) -> tuple[fx.Graph, fx.Node]:
    """The graph of a network in one mode, and the node that is a layer's output.

    Args:
        network: each of its modules keeps its own mode.
        layer: a module's dotted name; it must be used once in a call.
        training: trace what is computed in training, else in evaluation.

    Raises:
        ConfigError: the network decides by the values of an image what it computes next, or the
            layer is not used exactly once, or gives no single tensor.
    """
    tracer = _Tracer()
    try:
        with _mode(network.module, training):
            graph = tracer.trace(network.module)
    # Tracing runs a network's own Python with stand-ins for tensors, which may fail in any way.
    except Exception as error:
        raise ConfigError(
            f"network {network.name!r} cannot be cut",
            cause=f"what it computes cannot be followed ({type(error).__name__}: {error})",
            remedy='share the whole network (layer "all"), or name another network',
        ) from error
    given = tracer.given.get(layer, [])
    if len(given) != 1:
        raise ConfigError(
            f"network {network.name!r} cannot be cut at layer {layer!r}",
            cause=f"it uses the layer {len(given)} times in one call, or inside a module that "
            "counts as one step",
            remedy="name a layer that is used once, as those of `mvp networks --layers "
            f"{network.name}`",
        )
    if not isinstance(given[0], fx.Proxy):
        raise ConfigError(
            f"network {network.name!r} cannot be cut at layer {layer!r}",
            cause="the layer gives no single tensor",
            remedy="name a layer that gives one tensor",
        )
    return graph, given[0].node


class _Tracer(fx.Tracer):
    """Follows a network down to torch's own modules, and keeps what each module gave."""

    def __init__(self) -> None:
        modules, functions = _whole()
        # math and torchvision.ops look at values, so their functions stay single steps too.
        super().__init__(autowrap_modules=(math, torchvision.ops), autowrap_functions=functions)
        self.given: dict[str, list[Any]] = {}
        self._leaves = modules

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, self._leaves) or super().is_leaf_module(module, name)

    def call_module(self, module: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        given = super().call_module(module, forward, args, kwargs)
        self.given.setdefault(self.path_of_module(module), []).append(given)
        return given


def _whole() -> tuple[tuple[type, ...], tuple[Any, ...]]:
    """Modules and functions that cannot be looked into, of torchvision and of timm."""
    modules = [
        kind
        for kind in vars(torchvision.ops).values()
        if isinstance(kind, type)
        and issubclass(kind, nn.Module)
        and not issubclass(kind, nn.Sequential)
    ]
    functions: list[Any] = []
    if importlib.util.find_spec("timm") is not None:
        from timm.models import get_notrace_functions, get_notrace_modules

        modules += get_notrace_modules()
        functions += get_notrace_functions()
    return tuple(modules), tuple(functions)


@contextmanager
def _mode(module: nn.Module, training: bool) -> Iterator[None]:
    modes = [(m, m.training) for m in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for m, mode in modes:
            m.training = mode
