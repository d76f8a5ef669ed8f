"""`mvp networks`: which networks there are, and which layers they have."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mvp.errors import ConfigError
from mvp.networks.listing import Layer, Listed, list_layers, list_networks

SIZE = 224


@dataclass
class NetworksOutcome:
    """What can be named in `[network]`.

    Attributes:
        networks: those whose names match.
        layers: of one network, where its layers were asked for.
        network: its name.
        size: pixels per side of the images that the layers' shapes are for.
    """

    networks: list[Listed] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    network: str | None = None
    size: int | None = None

    @property
    def exit_code(self) -> int:
        """Always 0."""
        return 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        if self.network is not None:
            layers = [asdict(layer) for layer in self.layers]
            return {"network": self.network, "size": self.size, "layers": layers}
        return {"networks": [asdict(network) for network in self.networks]}

    @property
    def text(self) -> str:
        """For a person."""
        if self.network is not None:
            rows: list[tuple[str, ...]] = [("layer", "gives", "kind")]
            rows += [(x.name, " x ".join(map(str, x.shape)), x.kind) for x in self.layers]
            return _columns(rows)
        sized = any(n.features for n in self.networks)
        rows = [("network", "parameters", *(["features"] if sized else []), "weights")]
        for n in self.networks:
            count = "" if n.parameters is None else f"{n.parameters / 1e6:.2f} M"
            features = [str(n.features or "-")] if sized else []
            rows.append((n.name, count, *features, ", ".join(n.weights) or "none"))
        return _columns(rows)


def run_networks(
    match: str = "",
    *,
    layers: str | None = None,
    size: int | None = None,
    sizes: bool = False,
    timm: bool = False,
) -> NetworksOutcome:
    """List networks by name, or the layers of one.

    Args:
        match: a text in the names of networks, or of layers; "timm:..." lists timm's.
        layers: the network whose layers are wanted.
        size: pixels per side of the images that the layers see (default: 224).
        sizes: features before the classifier and parameters of every listed network.
        timm: timm's networks too.

    Raises:
        ConfigError: options that have no meaning together, no such network, or nothing matches.
        MissingExtraError: timm is asked for and not installed.
    """
    if layers is None:
        _require_meaning(size is not None, "--size", "it is the size of the images for --layers")
        found = list_networks(match, timm=timm, sizes=sizes)
        if not found:
            raise _nothing("network's name", match, "mvp networks, or mvp networks --timm")
        return NetworksOutcome(networks=found)
    _require_meaning(sizes, "--sizes", "--layers shows one network")
    _require_meaning(timm, "--timm", "--layers shows one network; name it as timm:NAME")
    size = SIZE if size is None else size
    shown = [x for x in list_layers(layers, size) if match.lower() in x.name.lower()]
    if not shown:
        raise _nothing(f"layer of {layers!r}", match, f"mvp networks --layers {layers}")
    return NetworksOutcome(layers=shown, network=layers, size=size)


def _require_meaning(given: bool, option: str, cause: str) -> None:
    if given:
        raise ConfigError(
            f"{option} has no meaning here", cause=cause, remedy=f"leave {option} out"
        )


def _nothing(what: str, match: str, remedy: str) -> ConfigError:
    return ConfigError(f"no {what} holds {match!r}", remedy=f"see all: {remedy}")


def _columns(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
