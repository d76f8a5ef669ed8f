"""A network from its settings: created by name, weights loaded, classifier replaced."""

from __future__ import annotations

from pathlib import Path

from mvp.config import NetworkConfig, ResolvedView, weights_file
from mvp.errors import ConfigError
from mvp.networks.capture import Capture
from mvp.networks.catalogue import NO_WEIGHTS, create
from mvp.networks.network import Network, no_linear_classifier
from mvp.networks.state import fit_state, read_state
from mvp.networks.text import build_text
from mvp.networks.weights import load_weights


def build(config: NetworkConfig, outputs: int | None) -> Network:
    """Build a network on the CPU.

    Random values come from torch's global generator, which the caller seeds. Weights are loaded
    into the native classifier's shape first, so a file must fit in all but its classifier.

    Args:
        config: name, weights, and the layers that features will be taken from.
        outputs: a new linear classifier with so many logits; None keeps the native one.

    Raises:
        ConfigError: unknown names, files that do not fit, or no linear classifier where one is
            needed.
        MissingExtraError: `timm:NAME` without timm.
    """
    path = weights_file(config)
    network = create(config.name, NO_WEIGHTS if path else config.weights)
    if network.classifier is None and (outputs is not None or "auto" in config.layers):
        raise no_linear_classifier(config.name)
    if path is not None:
        _load_file(network, config, path, outputs)
    if outputs is not None:
        network.replace_head(outputs)
    return network


def build_view(view: ResolvedView, outputs: int | None) -> Network:
    """The network of a view by its settings: a CNN, or for texts the character network."""
    return build_text(view.text, outputs) if view.kind == "text" else build(view.network, outputs)


def restore_view(view: ResolvedView, outputs: int | None, path: Path) -> Network:
    """A view's network as `save_weights` wrote it, without looking for its first weights again."""
    if view.kind != "text":
        return restore(view.network, outputs, path)
    network = build_text(view.text, outputs)
    load_weights(network, path)
    return network


def restore(config: NetworkConfig, outputs: int | None, path: Path) -> Network:
    """Rebuild a network that `save_weights` wrote, without looking for its first weights again.

    Args:
        config: the settings that it was built with.
        outputs: its number of logits, as given to `build`.
        path: the file.
    """
    network = build(config.model_copy(update={"weights": NO_WEIGHTS}), outputs)
    load_weights(network, path)
    return network


def _load_file(network: Network, config: NetworkConfig, path: Path, outputs: int | None) -> None:
    by_position = config.weights_order == "by-position"
    state = fit_state(
        read_state(path), network.module, network.classifier, by_position=by_position, path=path
    )
    headless = network.classifier is not None and f"{network.classifier}.weight" not in state
    for layer in config.layers if headless and outputs is None else ():
        if Capture(network, layer).uses_classifier:
            raise ConfigError(
                f"layer {layer!r} depends on the classifier, which the weights file lacks",
                path=path,
                remedy='set network.layer to a layer before it, or to "auto"',
            )
    network.module.load_state_dict(state, strict=False)
