"""Pooled activations through one forward hook."""

from __future__ import annotations

import difflib
from types import TracebackType
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mvp.errors import ConfigError, MvpError
from mvp.networks.network import Network

AUTO = "auto"


class Capture:
    """What one layer sees, pooled to one vector per image.

    `layer = "auto"` takes the input of the classifier, which is what global pooling gives, also
    where the pooling is no module (DenseNet). A named layer gives its output: (N, C, H, W) is
    pooled over space, (N, T, C) over tokens, (N, D) is kept.

    The hook stands only inside the `with` block, and nothing is kept between calls: a module
    that several views share cannot overwrite another view's features. Pooling happens inside the
    hook, since a later in-place layer may overwrite the activation (DenseNet's last ReLU does).

    Args:
        network: whose layer.
        layer: "auto", or a module's dotted name as in `named_modules()`.
        pooling: over space or tokens, "avg" or "max".

    Raises:
        ConfigError: no such layer, or max pooling of what was pooled already.
    """

    def __init__(
        self, network: Network, layer: str = AUTO, pooling: Literal["avg", "max"] = "avg"
    ) -> None:
        self._network = network
        self._pooling = pooling
        self._auto = layer == AUTO
        if self._auto:
            self._layer: nn.Module = network.head
            name = str(network.classifier)
            if pooling != "avg":
                raise ConfigError(
                    f'pooling = {pooling!r} cannot be had with layer = "auto"',
                    cause="the classifier's input was pooled by the network itself",
                    remedy="set network.layer to a layer before the pooling, e.g. 'layer4'",
                )
        else:
            modules = dict(network.module.named_modules())
            if not layer or layer not in modules:
                raise _unknown_layer(network.name, layer, [n for n in modules if n])
            self._layer, name = modules[layer], layer
        self._name = name
        self._handle: RemovableHandle | None = None
        self._fired: list[Tensor] | None = None
        self._rows = 0
        self._square = False

    @property
    def layer_name(self) -> str:
        """The resolved layer for the feature key, as "fc:input" or "layer4:output"."""
        return f"{self._name}:{'input' if self._auto else 'output'}"

    @property
    def uses_classifier(self) -> bool:
        """Whether the features may depend on the classifier's weights.

        They do when the layer is the classifier, holds it, or is registered after it.
        """
        if self._auto or self._network.classifier is None:
            return False
        names = [name for name, _ in self._network.module.named_modules()]
        classifier = self._network.classifier
        return classifier.startswith(f"{self._name}.") or (
            names.index(self._name) >= names.index(classifier)
        )

    def __enter__(self) -> Capture:
        if self._handle is not None:
            raise MvpError(f"layer {self._name!r} is being captured by this object already")
        self._handle = self._layer.register_forward_hook(self._hook)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = None
        self._fired = None

    def __call__(self, batch: Tensor) -> Tensor:
        """Run one forward and give the features.

        Args:
            batch: (N, 3, H, W) float32, normalised.

        Returns:
            (N, D) float32.

        Raises:
            MvpError: outside the `with` block, or the layer fired other than exactly once, or
                gave other than N rows.
            ConfigError: a layer whose output cannot be pooled to one vector per image.
        """
        return self.with_logits(batch)[0]

    def with_logits(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The features (N, D) and the logits (N, output) of the same forward."""
        if self._handle is None:
            raise MvpError("a Capture gives features only inside its `with` block")
        self._rows, self._square = len(batch), batch.shape[-1] == batch.shape[-2]
        self._fired = []
        try:
            logits = self._network.forward(batch)
            fired = self._fired
        finally:
            self._fired = None
        if len(fired) != 1:
            raise MvpError(
                f"layer {self._name!r} of network {self._network.name!r} fired {len(fired)} times "
                "in one forward, so its features are undefined",
                cause="the network uses it several times"
                if fired
                else "the network does not use it",
                remedy='name another layer in network.layer, or "auto"',
            )
        if self._auto:
            self._network.require_logits(logits, len(batch))
        return fired[0], logits

    def _hook(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if self._fired is not None:
            value = output if not self._auto else inputs[0] if inputs else None
            self._fired.append(self._pooled(value))

    def _pooled(self, value: Any) -> Tensor:
        if not isinstance(value, Tensor) or value.ndim not in (2, 3, 4):
            what = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(
                f"layer {self._name!r} of network {self._network.name!r} gives {what}, "
                "which cannot be pooled to one vector per image",
                remedy="name a layer that gives (N, C, H, W), (N, T, C) or (N, D)",
            )
        if len(value) != self._rows:
            raise MvpError(
                f"layer {self._name!r} of network {self._network.name!r} gave {len(value)} rows "
                f"for {self._rows} images",
                cause="its first axis is not the batch",
                remedy='name another layer in network.layer, or "auto"',
            )
        if value.ndim == 2:
            return value.float().clone()
        if value.ndim == 4 and self._square and value.shape[2] != value.shape[3]:
            raise ConfigError(
                f"layer {self._name!r} of network {self._network.name!r} gives "
                f"{tuple(value.shape)} for square images: its channels stand last",
                remedy="name a later layer that gives (N, C, H, W), as Swin's `permute`",
            )
        axes = (1,) if value.ndim == 3 else (2, 3)
        return value.float().mean(axes) if self._pooling == "avg" else value.float().amax(axes)


def _unknown_layer(network: str, layer: str, names: list[str]) -> ConfigError:
    near = difflib.get_close_matches(layer, names, n=3) or [n for n in names if "." not in n][:12]
    return ConfigError(
        f"network {network!r} has no layer {layer!r}; near it: {', '.join(near)}",
        remedy='name one of its modules in network.layer, or "auto"',
    )
