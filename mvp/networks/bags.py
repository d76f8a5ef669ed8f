"""Volumes: the network sees every slice, and its classifier one vector for all of them.

The reduction stands before the last linear layer, as in MRNet (Bien et al. 2018,
doi:10.1371/journal.pmed.1002699), so that features stored for each slice and reduced afterwards
are what the classifier was trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mvp.config.training import Slices
from mvp.errors import ConfigError, MvpError
from mvp.networks.network import Network


class BagReduction:
    """Reduces the features of bags while they come in, so that no bag has to be there at once.

    Args:
        counts: how many inputs each bag has, at least one, in the order in which they come.
        how: "max" or "mean" over the inputs of a bag, feature by feature.
    """

    def __init__(self, counts: Iterable[int], how: Slices) -> None:
        self._counts = [int(n) for n in counts]
        self._how = how
        self._bags: list[Tensor] = []
        self._open: Tensor | None = None
        self._seen = 0

    def add(self, features: Tensor) -> None:
        """Take the features (n, D) of the next n inputs."""
        while len(features):
            if len(self._bags) == len(self._counts):
                raise MvpError(f"there are more inputs than the {sum(self._counts)} of all bags")
            count = self._counts[len(self._bags)]
            taken = min(count - self._seen, len(features))
            part, features = features[:taken], features[taken:]
            self._open = self._joined(part)
            self._seen += taken
            if self._seen == count:
                self._bags.append(self._open if self._how == "max" else self._open / count)
                self._open, self._seen = None, 0

    def _joined(self, part: Tensor) -> Tensor:
        if self._how == "max":
            part = part.amax(0)
            return part if self._open is None else torch.maximum(self._open, part)
        return part.sum(0) if self._open is None else self._open + part.sum(0)

    def features(self) -> Tensor:
        """(bags, D), when all inputs have come."""
        if len(self._bags) != len(self._counts):
            raise MvpError(
                f"inputs came for {len(self._bags)} whole bags, not for {len(self._counts)}"
            )
        return torch.stack(self._bags)


def forward_bags(network: Network, inputs: Tensor, counts: Iterable[int], how: Slices) -> Tensor:
    """Logits (bags, output) of bags of inputs, with gradients.

    The hooks stand during this call only. Dropout right before the classifier is drawn for the
    reduced features, one mask a bag: drawn for each slice by itself, the maximum of many would
    hardly ever see it, yet be scaled up by it, as it is not in evaluation.

    Args:
        network: any with a linear classifier.
        inputs: (sum of counts, 3, H, W), the slices of each bag in order.
        counts: how many of them belong to each bag.
        how: "max" or "mean".

    Raises:
        ConfigError: the classifier does not see one vector for each input.
        MvpError: the network uses its classifier other than once.
    """
    with reducing_bags(network, counts, how):
        return network.forward(inputs)


@contextmanager
def reducing_bags(network: Network, counts: Iterable[int], how: Slices) -> Iterator[None]:
    """What `forward_bags` does, around one forward that somebody else runs.

    Raises:
        ConfigError: the classifier does not see one vector for each input.
        MvpError: the network used its classifier other than once.
    """
    hooks = _Hooks(network, [int(n) for n in counts], how)
    try:
        yield
    finally:
        hooks.remove()
    if hooks.fired != 1:
        raise MvpError(
            f"network {network.name!r} used its classifier {network.classifier!r} {hooks.fired} "
            "times in one forward, so what it sees of a volume is undefined",
            remedy='name another network, or set protocol = "frozen"',
        )


class _Hooks:
    """The reduction before the classifier, and what went into a dropout just before it."""

    def __init__(self, network: Network, counts: list[int], how: Slices) -> None:
        self.fired = 0
        self._network, self._counts, self._how = network, counts, how
        self._dropped: tuple[nn.Dropout, Tensor] | None = None
        self._output: Any = None
        self._handles = [network.head.register_forward_pre_hook(self._before_head)]
        for module in network.module.modules():
            if isinstance(module, nn.Dropout):
                self._handles.append(module.register_forward_pre_hook(self._before_dropout))
                self._handles.append(module.register_forward_hook(self._after_dropout))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _before_dropout(self, module: nn.Dropout, inputs: tuple[Any, ...]) -> None:
        value = inputs[0] if inputs else None
        self._dropped = self._output = None
        if module.training and isinstance(value, Tensor) and value.ndim == 2:
            self._dropped = module, value.clone() if module.inplace else value

    def _after_dropout(self, module: nn.Dropout, inputs: tuple[Any, ...], output: Any) -> None:
        self._output = output

    def _before_head(self, module: nn.Linear, inputs: tuple[Any, ...]) -> tuple[Tensor]:
        value = inputs[0] if inputs else None
        if not isinstance(value, Tensor) or value.shape != (sum(self._counts), module.in_features):
            what = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(
                f"the classifier {self._network.classifier!r} of network {self._network.name!r} "
                f"sees {what}, not one vector for each of {sum(self._counts)} slices",
                remedy='name another network, or set protocol = "frozen"',
            )
        self.fired += 1
        dropout = None
        if self._dropped is not None and value is self._output:
            dropout, value = self._dropped
        bags = BagReduction(self._counts, self._how)
        bags.add(value)
        features = bags.features()
        if dropout is not None:
            features = functional.dropout(features, dropout.p, training=True)
        return (features,)
