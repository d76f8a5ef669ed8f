"""A network cut in two at a named layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, fx, nn

from mvp.errors import ConfigError
from mvp.networks.capture import unknown_layer
from mvp.networks.network import Network
from mvp.networks.tracing import trace


class Part(nn.Module):
    """One side of a cut network.

    It computes with the network's own modules and holds them under their own names, so its
    parameters are the network's. Forward hooks fire on torch's own modules (convolutions, linear
    layers, …), not on the containers around them.

    Args:
        root: the whole network.
        graphs: what this side computes, in evaluation and in training.
        others: what the other side computes.
    """

    def __init__(
        self, root: nn.Module, graphs: tuple[fx.Graph, fx.Graph], others: tuple[fx.Graph, fx.Graph]
    ) -> None:
        super().__init__()
        mine, theirs = _targets(graphs), _targets(others)
        self.whole = wholly(root, mine, theirs)
        self.single = [name for name in sorted(mine) if not _inside(name, self.whole)]
        # In a tuple, so that the network does not become a submodule of its part.
        self._root = (root,)
        self._codes = tuple(_code(root, graph) for graph in graphs)
        self._originals = [m for name in self.whole for m in root.get_submodule(name).modules()]
        for name in (*self.whole, *self.single):
            _hold(self, root, name)

    def forward(self, batch: Tensor) -> Tensor:
        """What this side gives.

        It computes as in training while any of its modules is in training mode: these are the
        network's own, so the network's mode and the part's are one.
        """
        root = self._root[0]
        training = any(m.training for m in self._originals or [root])
        return self._codes[training](root, batch)

    def _apply(self, fn: Any, recurse: bool = True) -> Part:
        super()._apply(fn, recurse)
        # Moving replaces buffers; those held one by one have to be replaced in the network too.
        for name in self.single:
            path, _, attribute = name.rpartition(".")
            owner = self._root[0].get_submodule(path)
            if attribute in owner._buffers:
                owner._buffers[attribute] = self.get_submodule(path)._buffers[attribute]
        return self


def split_at(network: Network, layer: str) -> tuple[Part, Part]:
    """A network's stem, up to and with a layer's output, and its tail from there to the logits.

    Both use the network's own modules, parameters and buffers. The tail may overwrite the stem's
    output, as an in-place activation does.

    Args:
        network: left as it is, the modes of its modules too.
        layer: a module's dotted name as in `named_modules()`.

    Returns:
        (stem, tail): `tail(stem(batch))` is what `network.module(batch)` gives, in training as
        in evaluation, bit for bit.

    Raises:
        ConfigError: no such layer, or the network cannot be cut there.
    """
    names = [name for name, _ in network.module.named_modules() if name]
    if layer not in names:
        raise unknown_layer(network.name, layer, names)
    pairs = [_cut(network, layer, training) for training in (False, True)]
    stems, tails = (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])
    both = _with_values(network.module, _targets(stems) & _targets(tails))
    if both:
        raise _cannot(network, layer, f"{both[0]!r} is used before the layer's output and after it")
    return Part(network.module, stems, tails), Part(network.module, tails, stems)


def wholly(root: nn.Module, mine: Iterable[str], theirs: Iterable[str]) -> list[str]:
    """The outermost modules of which something is in `mine` and nothing in `theirs`.

    Args:
        root: the network.
        mine: dotted names of modules, parameters and buffers.
        theirs: more of these.
    """
    used, taken = set(_around(mine)), set(_around(theirs))
    found: list[str] = []
    for name, _ in root.named_modules():
        if name and name in used and name not in taken and not _inside(name, found):
            found.append(name)
    return found


def _around(names: Iterable[str]) -> Iterable[str]:
    """Every name and those of all modules around it."""
    for name in names:
        parts = name.split(".")
        yield from (".".join(parts[: i + 1]) for i in range(len(parts)))


def _inside(name: str, modules: Iterable[str]) -> bool:
    return any(name == m or name.startswith(f"{m}.") for m in modules)


def _cut(network: Network, layer: str, training: bool) -> tuple[fx.Graph, fx.Graph]:
    graph, cut = trace(network, layer, training)
    nodes = list(graph.nodes)
    images = nodes[0]
    seen = {images}
    for node in nodes:
        if any(n in seen for n in node.all_input_nodes):
            seen.add(node)
    place = nodes.index(cut)
    before = set(nodes[:place]) & seen
    for node in nodes[place + 1 :]:
        early = [n for n in node.all_input_nodes if n in before]
        if early:
            raise _cannot(
                network, layer, f"a later step ({node.name}) needs an earlier one ({early[0].name})"
            )
    end = next(node for node in nodes if node.op == "output")
    if not isinstance(end.args[0], fx.Node):
        raise _cannot(network, layer, "the network gives no single tensor")
    if cut not in seen:
        raise _cannot(network, layer, "its output does not depend on the image")
    stem = [node for node in nodes[1 : place + 1] if node in seen]
    tail = [node for node in nodes[place + 1 :] if node in seen and node is not end]
    return _copy(stem, images, cut), _copy(tail, cut, end.args[0])


def _copy(nodes: list[fx.Node], first: fx.Node, last: fx.Node) -> fx.Graph:
    """A graph of some nodes, from one that comes in to one that goes out."""
    graph = fx.Graph()
    new = {first: graph.placeholder("batch")}

    def copied(node: fx.Node) -> fx.Node:
        # What is not there yet depends on no image, and either side computes it for itself.
        if node not in new:
            new[node] = graph.node_copy(node, copied)
        return new[node]

    for node in nodes:
        copied(node)
    graph.output(new[last])
    return graph


def _code(root: nn.Module, graph: fx.Graph) -> Callable[[nn.Module, Tensor], Tensor]:
    """A graph as a function of the network that it was traced from, and of a batch."""
    return type(fx.GraphModule(root, graph)).forward


def _targets(graphs: Iterable[fx.Graph]) -> set[str]:
    """The dotted names of all modules, parameters and buffers that graphs use."""
    return {
        str(node.target)
        for graph in graphs
        for node in graph.nodes
        if node.op in {"call_module", "get_attr"}
    }


def _with_values(root: nn.Module, names: set[str]) -> list[str]:
    """Those of them that are, or hold, parameters or buffers."""
    state = [*dict(root.named_parameters()), *dict(root.named_buffers())]
    return [name for name in sorted(names) if any(_inside(value, [name]) for value in state)]


def _hold(part: nn.Module, root: nn.Module, name: str) -> None:
    """Register a module, parameter or buffer of the network under its own name."""
    path, _, attribute = name.rpartition(".")
    place = part
    for step in path.split(".") if path else ():
        if step not in place._modules:
            place.add_module(step, nn.Module())
        place = place.get_submodule(step)
    owner = root.get_submodule(path)
    if attribute in owner._modules:
        place.add_module(attribute, owner._modules[attribute])
    elif attribute in owner._parameters:
        place.register_parameter(attribute, owner._parameters[attribute])
    elif attribute in owner._buffers:
        persistent = attribute not in owner._non_persistent_buffers_set
        place.register_buffer(attribute, owner._buffers[attribute], persistent)


def _cannot(network: Network, layer: str, cause: str) -> ConfigError:
    return ConfigError(
        f"network {network.name!r} cannot be cut at layer {layer!r}",
        cause=cause,
        remedy="name another layer, as the end of a block or stage; "
        f"`mvp networks --layers {network.name}` lists them",
    )
