"""Pooled activations of one or several layers through forward hooks."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mvp.config.network import KEEPS_PLACES, Pooling
from mvp.errors import ConfigError, MvpError
from mvp.networks.network import Network
from mvp.networks.pooling import POOLINGS, pooled

AUTO = "auto"
POOLED_BEFORE: tuple[Pooling, ...] = ("avg", "none")


@dataclass(frozen=True, eq=False)
class _Layer:
    """One captured module: what goes into it (the classifier) or what comes out."""

    name: str
    module: nn.Module
    auto: bool

    @property
    def key(self) -> str:
        return f"{self.name}:{'input' if self.auto else 'output'}"


class Capture:
    """What one or several layers see, in one pass through the network.

    `layer = "auto"` takes the input of the classifier, which is what global pooling gives, also
    where the pooling is no module (DenseNet). A named layer gives its output: a map (N, C, H, W),
    tokens (N, T, C) or vectors (N, D). `mvp.networks.pooling.pooled` says what each pooling makes
    of them. Of several layers the vectors are joined in the order in which they were named.

    The hooks stand only inside the `with` block, and nothing is kept between calls: a module
    that several views share cannot overwrite another view's features. Pooling happens inside the
    hook, since a later in-place layer may overwrite the activation (DenseNet's last ReLU does).

    Args:
        network: whose layers.
        layer: "auto", or a module's dotted name as in `named_modules()`; or several of these.
        pooling: "avg", "max", "avgmax", "rows", "map" or "none".
        gradients: let them flow back through the features, for what is trained on top of them.

    Raises:
        ConfigError: no such layer or pooling, a layer named twice, a pooling of what the network
            pooled already, or several layers under a pooling that gives no vectors.
    """

    def __init__(
        self,
        network: Network,
        layer: str | Sequence[str] = AUTO,
        pooling: Pooling = "avg",
        *,
        gradients: bool = False,
    ) -> None:
        names = [layer] if isinstance(layer, str) else list(layer)
        _require_fitting(names, pooling)
        self._network = network
        self._pooling, self._gradients = pooling, gradients
        modules = dict(network.module.named_modules())
        self._layers: list[_Layer] = []
        for name in names:
            if name == AUTO:
                self._layers.append(_Layer(str(network.classifier), network.head, True))
            elif not name or name not in modules:
                raise unknown_layer(network.name, name, [n for n in modules if n])
            else:
                self._layers.append(_Layer(name, modules[name], False))
        self._handles: list[RemovableHandle] = []
        self._fired: dict[str, list[Tensor]] | None = None
        self._rows = 0
        self._square = False

    @property
    def layer_name(self) -> str:
        """The resolved layers for the feature key, as "fc:input" or "layer3:output,fc:input"."""
        return ",".join(layer.key for layer in self._layers)

    @property
    def uses_classifier(self) -> bool:
        """Whether the features may depend on the classifier's weights.

        They do when one of the layers is the classifier, holds it, or is registered after it.
        """
        classifier = self._network.classifier
        if classifier is None:
            return False
        names = [name for name, _ in self._network.module.named_modules()]
        return any(
            classifier.startswith(f"{layer.name}.")
            or names.index(layer.name) >= names.index(classifier)
            for layer in self._layers
            if not layer.auto
        )

    def __enter__(self) -> Capture:
        if self._handles:
            raise MvpError(f"layer {self.layer_name!r} is being captured by this object already")
        self._handles = [
            layer.module.register_forward_hook(partial(self._hook, layer)) for layer in self._layers
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._fired = None

    def __call__(self, batch: Tensor) -> Tensor:
        """Run one forward and give the features.

        Args:
            batch: (N, 3, H, W) float32, normalised.

        Returns:
            float32: (N, D), of several layers their widths added up; (N, C, H) with "rows";
            (N, C, H, W) or (N, T, C) with "map".

        Raises:
            MvpError: outside the `with` block, or a layer fired other than exactly once, or gave
                other than N rows.
            ConfigError: a layer whose output this pooling cannot take.
        """
        return _joined(self.separately(batch))

    def separately(self, batch: Tensor) -> dict[str, Tensor]:
        """Run one forward and give every layer's features by its resolved name, in order.

        The names are the parts of `layer_name`, as "layer3:output". Errors are those of a call.
        """
        return self._forward(batch)[0]

    def with_logits(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The features, as a call gives them, and the logits (N, output) of the same forward."""
        features, logits = self._forward(batch)
        return _joined(features), logits

    def _forward(self, batch: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        if not self._handles:
            raise MvpError("a Capture gives features only inside its `with` block")
        self._rows, self._square = len(batch), batch.shape[-1] == batch.shape[-2]
        fired: dict[str, list[Tensor]] = {layer.key: [] for layer in self._layers}
        self._fired = fired
        try:
            logits = self._network.forward(batch)
        finally:
            self._fired = None
        for layer in self._layers:
            times = len(fired[layer.key])
            if times != 1:
                raise MvpError(
                    f"{self._who(layer)} fired {times} times in one forward, so its features are "
                    "undefined",
                    cause=f"the network {'uses it several times' if times else 'does not use it'}",
                    remedy='name another layer in network.layer, or "auto"',
                )
        if any(layer.auto for layer in self._layers):
            self._network.require_logits(logits, len(batch))
        return {key: values[0] for key, values in fired.items()}, logits

    def _hook(self, layer: _Layer, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if self._fired is not None:
            value = output if not layer.auto else inputs[0] if inputs else None
            self._fired[layer.key].append(self._taken(layer, value))

    def _taken(self, layer: _Layer, value: Any) -> Tensor:
        if not isinstance(value, Tensor) or value.ndim not in (2, 3, 4):
            what = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(
                f"{self._who(layer)} gives {what}, which is neither a map, tokens nor vectors",
                remedy="name a layer that gives (N, C, H, W), (N, T, C) or (N, D)",
            )
        if len(value) != self._rows:
            raise MvpError(
                f"{self._who(layer)} gave {len(value)} rows for {self._rows} images",
                cause="its first axis is not the batch",
                remedy='name another layer in network.layer, or "auto"',
            )
        if value.ndim == 4 and self._square and value.shape[2] != value.shape[3]:
            raise ConfigError(
                f"{self._who(layer)} gives {tuple(value.shape)} for square images: its channels "
                "stand last",
                remedy="name a later layer that gives (N, C, H, W), as Swin's `permute`",
            )
        return pooled(value, self._pooling, self._who(layer), gradients=self._gradients)

    def _who(self, layer: _Layer) -> str:
        return f"layer {layer.name!r} of network {self._network.name!r}"


def _joined(features: dict[str, Tensor]) -> Tensor:
    values = list(features.values())
    return values[0] if len(values) == 1 else torch.cat(values, 1)


def _require_fitting(names: list[str], pooling: Pooling) -> None:
    """Raise a ConfigError for layers and a pooling that no network can give together."""
    if pooling not in POOLINGS:
        raise ConfigError(
            f"there is no pooling {pooling!r}",
            remedy=f"set network.pooling to one of {', '.join(POOLINGS)}",
        )
    if not names:
        raise ConfigError(
            "no layer is named to take features from",
            remedy='name one or several layers in network.layer, or "auto"',
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(
            f"network.layer names {twice[0]!r} twice",
            cause="its features would stand twice in every row",
            remedy="name every layer once",
        )
    if len(names) > 1 and pooling in KEEPS_PLACES:
        raise ConfigError(
            f"pooling = {pooling!r} cannot be had of several layers",
            cause="their maps differ in size, so they cannot be joined",
            remedy='name one layer in network.layer, or set network.pooling to "avg"',
        )
    if AUTO in names and pooling not in POOLED_BEFORE:
        raise ConfigError(
            f'pooling = {pooling!r} cannot be had with layer = "auto"',
            cause="the classifier's input was pooled by the network itself",
            remedy="set network.layer to a layer before the pooling, e.g. 'layer4'",
        )


def unknown_layer(network: str, layer: str, names: list[str]) -> ConfigError:
    """The error for a layer that none of a network's modules is called by."""
    near = difflib.get_close_matches(layer, names, n=3) or [n for n in names if "." not in n][:12]
    return ConfigError(
        f"network {network!r} has no layer {layer!r}; near it: {', '.join(near)}",
        remedy=f"name one of its modules, as `mvp networks --layers {network}` lists them",
    )
