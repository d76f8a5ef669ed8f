"""Networks of several views that share their first layers, or all of them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mvp.errors import ConfigError
from mvp.networks.network import Network
from mvp.networks.split import Part, split_at

ALL = "all"


class SharedNetworks:
    """Networks of several views with one stem, made by `share_stem`.

    Each view's `Network` stays an ordinary one: it can be called, captured, saved and restored by
    itself.

    Attributes:
        networks: by view, in the order in which they were given.
        layer: the last shared layer, or "all".
        module: holds all networks under their views' names (a dot in them written "/"). Its
            parameters, buffers and state dict have every shared tensor once, under the first
            view's name; use it for `train`, `eval`, `to`, the optimizer and checkpoints.
    """

    def __init__(self, networks: Mapping[str, Network], layer: str) -> None:
        self.networks = dict(networks)
        self.layer = layer
        self._first = next(iter(self.networks))
        self._stem: Part | None = None
        self._tails: dict[str, Part] = {}
        if layer == ALL:
            _share_all(self.networks)
        else:
            self._cut()
        self.module = _Together(self.networks)

    def _cut(self) -> None:
        parts = {view: split_at(network, self.layer) for view, network in self.networks.items()}
        self._stem = parts[self._first][0]
        self._tails = {view: tail for view, (_, tail) in parts.items()}
        if not any(True for _ in self._tails[self._first].parameters()):
            # The views' labels may differ, and so may what each output of it means.
            raise ConfigError(
                f"layers up to {self.layer!r} are all that network "
                f"{self.networks[self._first].name!r} has, its classifier too",
                remedy=f'name an earlier layer, or "{ALL}" for one network of the same labels',
            )
        first = self.networks[self._first].module
        for view, network in self.networks.items():
            if view != self._first:
                for name in self._stem.whole:
                    _put(network.module, name, first.get_submodule(name))
                for name in self._stem.single:
                    _put_single(network, name, first, self.layer)

    def forward(self, batches: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits (N_view, output) of each view's images (N_view, C, H, W).

        The stem runs once on all views' images together, so batch norm sees them in one batch;
        then each view's tail runs on its own part. Views that are not in `batches` are left out.
        Errors are those of `Network.forward`, and:

        Raises:
            ConfigError: no view or an unknown one, or images that differ in shape.
        """
        self._require_alike(batches)
        first = self.networks[self._first]
        together = torch.cat(list(batches.values()))
        seen = first.forward(together, None if self._stem is None else self._stem)
        logits: dict[str, Tensor] = {}
        start = 0
        for view, batch in batches.items():
            # Not split(), whose parts no in-place activation may overwrite.
            part = seen[start : start + len(batch)]
            start += len(batch)
            network = self.networks[view]
            logits[view] = network.forward(part, self._tails[view]) if self._tails else part
        return logits

    def _require_alike(self, batches: Mapping[str, Tensor]) -> None:
        unknown = [view for view in batches if view not in self.networks]
        if unknown or not batches:
            raise ConfigError(
                f"there is no view {unknown[0]!r} among those that share a network"
                if unknown
                else "no view's images are there to go through the shared network",
                remedy=f"give images of {', '.join(self.networks)}",
            )
        for (a, one), (b, other) in pairwise(batches.items()):
            if one.shape[1:] != other.shape[1:]:
                raise ConfigError(
                    f"views {a!r} and {b!r} share layers, but their images are "
                    f"{tuple(one.shape[1:])} and {tuple(other.shape[1:])}",
                    remedy="give both views the same transform.size and transform.color",
                )

    def stem_parameters(self) -> list[nn.Parameter]:
        """The parameters that all views share, each once."""
        part = self.networks[self._first].module if self._stem is None else self._stem
        return list(part.parameters())

    def tail_parameters(self, view: str) -> list[nn.Parameter]:
        """The parameters that are a view's own; none with layer "all"."""
        shared = {id(p) for p in self.stem_parameters()}
        return [p for p in self.networks[view].module.parameters() if id(p) not in shared]


def share_stem(networks: Mapping[str, Network], layer: str) -> SharedNetworks:
    """Let networks that are built alike share all modules up to and with a layer.

    The networks are changed: the modules of the first take the others' place. Moving them to a
    device goes through the result's `module` afterwards.

    Args:
        networks: by view, at least two, of one name, on one device.
        layer: a module's dotted name; "all" shares the classifiers too.

    Raises:
        ConfigError: they are not built alike, there is no such layer, or they cannot be cut there.
    """
    if len(networks) < 2:
        raise ConfigError(
            "fewer than two views are to share layers", remedy="name two or more views"
        )
    if len({id(network.module) for network in networks.values()}) < len(networks):
        raise ConfigError(
            "two views that are to share layers have one network already",
            remedy="build a network for each view",
        )
    for (a, one), (b, other) in pairwise(networks.items()):
        _require_built_alike(a, one, b, other, with_head=layer == ALL)
    return SharedNetworks(networks, layer)


def _require_built_alike(a: str, one: Network, b: str, other: Network, *, with_head: bool) -> None:
    """Raise a ConfigError unless only the classifiers of two networks differ, if they may."""
    shapes = [
        {
            name: tuple(value.shape)
            for name, value in network.module.state_dict().items()
            if with_head or not name.startswith(f"{network.classifier}.")
        }
        for network in (one, other)
    ]
    differing = [n for n in shapes[0] | shapes[1] if shapes[0].get(n, ()) != shapes[1].get(n, ())]
    if one.name == other.name and not differing:
        return
    cause = (
        f"the networks are {one.name!r} and {other.name!r}"
        if one.name != other.name
        else f"{differing[0]!r} is {shapes[0].get(differing[0], 'absent')} and "
        f"{shapes[1].get(differing[0], 'absent')}"
    )
    raise ConfigError(
        f"views {a!r} and {b!r} cannot share layers",
        cause=cause,
        remedy="give both the same network.name, transform.color and, to share all, labels",
    )


def _share_all(networks: Mapping[str, Network]) -> None:
    giver, *others = networks.values()
    first = giver.module
    for network in others:
        for name, child in first.named_children():
            _put(network.module, name, child)
        for name, _ in (
            *first.named_parameters(recurse=False),
            *first.named_buffers(recurse=False),
        ):
            _put_single(network, name, first, ALL)


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    path, _, attribute = name.rpartition(".")
    root.get_submodule(path).add_module(attribute, module)


def _put_single(network: Network, name: str, first: nn.Module, layer: str) -> None:
    """Let a network have a parameter that a module outside the stem holds, as a class token."""
    path, _, attribute = name.rpartition(".")
    owner, giver = network.module.get_submodule(path), first.get_submodule(path)
    if attribute in giver._parameters:
        owner.register_parameter(attribute, giver._parameters[attribute])
    elif attribute in giver._buffers:
        # Each of two holders would move and change its own.
        raise ConfigError(
            f"network {network.name!r} cannot be shared up to layer {layer!r}",
            cause=f"buffer {name!r} belongs to a module that is not shared as a whole",
            remedy="name another layer",
        )


class _Together(nn.Module):
    """All networks under their views' names; the state dict has shared tensors once."""

    def __init__(self, networks: Mapping[str, Network]) -> None:
        super().__init__()
        for view, network in networks.items():
            name = view.replace(".", "/")
            # A view may be called as something that every module has, such as "type".
            self.add_module(f"{name}:" if hasattr(self, name) else name, network.module)
        self._again = _same(self)
        self.register_state_dict_post_hook(_once)
        self.register_load_state_dict_pre_hook(_everywhere)


def _same(module: nn.Module) -> dict[str, str]:
    """For every name that a tensor has after its first, the first."""
    first: dict[tuple[int, str], str] = {}
    again: dict[str, str] = {}
    for path, owner in module.named_modules(remove_duplicate=False):
        for name in (*owner._parameters, *owner._buffers):
            value = owner._parameters.get(name)
            # A parameter may have several holders; a buffer is one with its holder alone.
            key = (id(owner), name) if value is None else (id(value), "")
            full = f"{path}.{name}"
            if key in first:
                again[full] = first[key]
            else:
                first[key] = full
    return again


def _once(module: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in module._again:
        state.pop(prefix + name, None)


def _everywhere(module: Any, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    for name, first in module._again.items():
        if prefix + first in state:
            state[prefix + name] = state[prefix + first]
