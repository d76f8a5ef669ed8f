"""A network from its settings: created by name, weights loaded, classifier replaced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mvp.config import NetworkConfig, ResolvedView, TransformConfig, weights_file
from mvp.errors import ConfigError
from mvp.networks.capture import Capture
from mvp.networks.catalogue import NO_WEIGHTS, create
from mvp.networks.grey import fold_grey
from mvp.networks.network import Network, no_linear_classifier
from mvp.networks.state import fit_state, read_state
from mvp.networks.text import build_text
from mvp.networks.weights import load_weights


def build(
    config: NetworkConfig, outputs: int | None, transform: TransformConfig | None = None
) -> Network:
    """Build a network on the CPU.

    Random values come from torch's global generator, which the caller seeds. Weights are loaded
    into the native classifier's shape first, so a file must fit in all but its classifier.

    Args:
        config: name, weights, and the layers that features will be taken from.
        outputs: a new linear classifier with so many logits; None keeps the native one.
        transform: of the images it is for; for grey ones the first convolution is folded to one
            channel, see `mvp.networks.grey`. None leaves three channels.

    Raises:
        ConfigError: unknown names, files that do not fit, or no linear classifier where one is
            needed.
        MissingExtraError: `timm:NAME` without timm.
    """
    path = weights_file(config)
    network = create(config.name, NO_WEIGHTS if path else config.weights)
    if network.classifier is None and (outputs is not None or "auto" in config.layers):
        raise no_linear_classifier(config.name)
    grey = transform if transform is not None and transform.color == "grey" else None
    if path is not None:
        state = read_state(path)
        if grey is not None and _of_folded(state, network):
            # The weights of a network that was trained here: it was folded before.
            network, grey = fold_grey(network, grey), None
        _load(network, config, state, path, outputs)
    if outputs is not None:
        network.replace_head(outputs)
    return network if grey is None else fold_grey(network, grey)


def build_view(view: ResolvedView, outputs: int | None) -> Network:
    """The network of a view by its settings: a CNN, or for texts the character network."""
    if view.kind == "text":
        return build_text(view.text, outputs)
    return build(view.network, outputs, view.transform)


def restore_view(view: ResolvedView, outputs: int | None, path: Path) -> Network:
    """A view's network as `save_weights` wrote it, without looking for its first weights again."""
    if view.kind != "text":
        return restore(view.network, outputs, path, view.transform)
    network = build_text(view.text, outputs)
    load_weights(network, path)
    return network


def restore(
    config: NetworkConfig,
    outputs: int | None,
    path: Path,
    transform: TransformConfig | None = None,
) -> Network:
    """Rebuild a network that `save_weights` wrote, without looking for its first weights again.

    Args:
        config: the settings that it was built with.
        outputs: its number of logits, as given to `build`.
        path: the file.
        transform: as given to `build`.
    """
    network = build(config.model_copy(update={"weights": NO_WEIGHTS}), outputs, transform)
    load_weights(network, path)
    return network


def _of_folded(state: Mapping[str, Tensor], network: Network) -> bool:
    """Whether a state's first convolution is one that `fold_grey` made of the network's own."""
    own = network.module.state_dict()
    for name, value in state.items():
        # With a channel of ones it stands one module deeper.
        here = own.get(name, own.get(name.replace(".convolution.weight", ".weight")))
        if here is None or not here.ndim == value.ndim == 4:
            continue
        if here.shape[1] == 3 and value.shape[1] in (1, 2):
            return True
    return False


def _load(
    network: Network,
    config: NetworkConfig,
    state: dict[str, Tensor],
    path: Path,
    outputs: int | None,
) -> None:
    by_position = config.weights_order == "by-position"
    state = fit_state(state, network.module, network.classifier, by_position=by_position, path=path)
    headless = network.classifier is not None and f"{network.classifier}.weight" not in state
    for layer in config.layers if headless and outputs is None else ():
        if Capture(network, layer).uses_classifier:
            raise ConfigError(
                f"layer {layer!r} depends on the classifier, which the weights file lacks",
                path=path,
                remedy='set network.layer to a layer before it, or to "auto"',
            )
    network.module.load_state_dict(state, strict=False)
