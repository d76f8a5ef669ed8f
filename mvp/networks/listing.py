"""Which networks there are, and which of their layers can be looked into.

Sizes are asked of the networks themselves, built on torch's device "meta": it has shapes, but
neither values nor memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision import models

from mvp.errors import MissingExtraError
from mvp.networks.capture import AUTO
from mvp.networks.catalogue import OWN, TIMM_PREFIX, create
from mvp.networks.network import Network

_ROWS = 2  # so that an axis of the batch is told from one of a single place
_MAKERS = (torch.empty, torch.zeros, torch.ones)


@dataclass(frozen=True)
class Listed:
    """A network that can be named.

    Attributes:
        name: as in `network.name`.
        weights: published sets of weights, as in `network.weights`.
        features: numbers before the classifier; None where not asked for, or without a linear one.
        parameters: how many it has with its native classifier; None where not asked for.
    """

    name: str
    weights: tuple[str, ...]
    features: int | None
    parameters: int | None


@dataclass(frozen=True)
class Layer:
    """A layer that features can be taken from.

    Attributes:
        name: as in `network.layer`.
        kind: the module's class.
        shape: of what it gives of one image: (C, H, W), (T, C) or (D,).
    """

    name: str
    kind: str
    shape: tuple[int, ...]


def list_networks(match: str = "", *, timm: bool = False, sizes: bool = False) -> list[Listed]:
    """The networks whose names hold a text, in any case.

    Args:
        match: the text; one that begins with "timm:" asks for timm's alone.
        timm: timm's too.
        sizes: build each one on the meta device for `features` and `parameters`; otherwise
            parameters are those of torchvision's published tables.

    Raises:
        MissingExtraError: timm is asked for and not installed.
    """
    only_timm = match.startswith(TIMM_PREFIX)
    known: dict[str, tuple[str, ...]] = {}
    if not only_timm:
        known |= dict.fromkeys(OWN, ())
        for name in models.list_models(module=models):
            known[name] = tuple(models.get_model_weights(name).__members__)
    if timm or only_timm:
        known |= _of_timm()
    return [
        _listed(name, weights, sizes)
        for name, weights in known.items()
        if match.lower() in name.lower()
    ]


def _of_timm() -> dict[str, tuple[str, ...]]:
    try:
        import timm
    except ImportError:
        raise MissingExtraError("timm", "timm", "the list of timm's networks") from None
    sets: dict[str, tuple[str, ...]] = dict.fromkeys(timm.list_models(), ())
    for tagged in timm.list_pretrained():
        name, _, tag = tagged.partition(".")
        sets[name] = (*sets.get(name, ()), tag or "pretrained")
    return {f"{TIMM_PREFIX}{name}": tags for name, tags in sets.items()}


def _listed(name: str, weights: tuple[str, ...], sizes: bool) -> Listed:
    if sizes:
        network = sketch(name)
        parameters = sum(p.numel() for p in network.module.parameters())
        features = network.width if network.classifier is not None else None
        return Listed(name, weights, features, parameters)
    published = None
    if weights and not name.startswith(TIMM_PREFIX):
        # Inception's and GoogLeNet's tables count their auxiliary classifiers, which are dropped.
        published = int(models.get_model_weights(name)[weights[0]].meta["num_params"])
    return Listed(name, weights, None, published)


def list_layers(name: str, size: int = 224) -> list[Layer]:
    """The layers of a network that features can be taken from, in the order in which they fire.

    These are those that fire once in a call and give a map (N, C, H, W), tokens (N, T, C) or
    vectors (N, D); the first is "auto", what goes into the classifier, where there is one.

    Args:
        name: of the network, as in `network.name`.
        size: pixels per side of the images.

    Raises:
        ConfigError: no such network, or it cannot take images of this size.
    """
    network = sketch(name)
    try:
        return _layers(network, size)
    # A network may look at values, which the meta device has none of, and say so in any way.
    except Exception:
        if not next(iter(network.module.parameters())).is_meta:
            raise
        return _layers(create(name), size)


def _layers(network: Network, size: int) -> list[Layer]:
    given: dict[str, list[Any]] = {}

    def hook(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        shape = tuple(output.shape) if isinstance(output, Tensor) else None
        given.setdefault(name, []).append(shape)

    modules = {name: module for name, module in network.module.named_modules() if name}
    handles = [m.register_forward_hook(partial(hook, n)) for n, m in modules.items()]
    device = next(network.module.parameters()).device
    network.module.eval()
    try:
        with torch.inference_mode():
            network.forward(torch.zeros(_ROWS, 3, size, size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    layers = [
        Layer(name, type(modules[name]).__name__, shapes[0][1:])
        for name, shapes in given.items()
        if len(shapes) == 1 and _fits(shapes[0])
    ]
    if network.classifier is not None:
        layers.insert(0, Layer(AUTO, f"input of {network.classifier}", (network.width,)))
    return layers


def _fits(shape: tuple[int, ...] | None) -> bool:
    """Whether `Capture` takes what a layer gives of square images."""
    if shape is None or len(shape) not in (2, 3, 4) or shape[0] != _ROWS:
        return False
    return len(shape) != 4 or shape[2] == shape[3]


def sketch(name: str) -> Network:
    """A network on the meta device, or on the CPU where it cannot be built without values."""
    try:
        with _ShapesOnly():
            network = create(name)
        network.module.to("meta")
    # Whatever it is, building the network in earnest says it in the right words.
    except Exception:  # noqa: BLE001
        return create(name)
    return network


class _ShapesOnly(TorchFunctionMode):
    """New weights have no values; what networks compute while they are built still has."""

    # torch.device("meta") would take arange and linspace too, whose values RegNet's widths and
    # depths of blocks come from.
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _MAKERS and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)
