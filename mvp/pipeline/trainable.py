"""What can be refused of a training before anything of an earlier one is touched."""

from __future__ import annotations

from collections.abc import Sequence

from mvp.config import ResolvedView
from mvp.config.variants import stays_untrained
from mvp.errors import ConfigError, MvpError
from mvp.networks import Capture, Network, inference
from mvp.networks.sharing import share_stem
from mvp.pipeline.networks import initial_network, outputs_of, view_inputs, view_targets
from mvp.pipeline.project import Project
from mvp.pipeline.sharing import with_first_weights
from mvp.pipeline.workspace import FOLD
from mvp.training.groups import frozen_part, network_groups
from mvp.training.precision import require_precision
from mvp.training.result import network_epochs


def require_trainable(project: Project, names: Sequence[str], fold: str = FOLD) -> None:
    """Refuse settings that do not fit the networks of views that are trained together.

    A word misspelt in mvp.toml must cost neither hours of training nor the network that was
    trained before.

    Args:
        project: the workspace.
        names: of the views.
        fold: whose networks.

    Raises:
        ConfigError: a network or its weights cannot be had, a layer that is named is not in it,
            or the device cannot take the precision.
    """
    networks = {name: _usable(project, project.view(name), fold) for name in names}
    if len(networks) > 1:
        share_stem(networks, project.view(names[0]).network.share)


def _usable(project: Project, view: ResolvedView, fold: str) -> Network:
    """A view's network before any training, looked at as extraction and training will."""
    import torch

    settings = view.training
    try:
        outputs = outputs_of(view_targets(project, view))
        network = initial_network(project, with_first_weights(project, view, fold), outputs)
        inputs = view_inputs(project, project.manifest, view)
        batch = inputs.preparation.finish(torch.stack(inputs.synthetic()[:1]), network.channels)
        layer = view.network.layer
        with Capture(network, layer, view.network.pooling) as capture, inference(network):
            capture(batch)
        if stays_untrained(view) and capture.uses_classifier:
            raise ConfigError(
                f"layer {layer!r} depends on the classifier, which nothing trains",
                cause='training.freeze = "all" leaves the network as it is, its new classifier '
                "with random values",
                remedy='set network.layer to a layer before it, or to "auto"',
            )
        if not stays_untrained(view):
            require_precision(settings.precision, project.device)
        if network_epochs(view):
            frozen = frozen_part(network, settings.freeze, view.name)
            network_groups(network, settings, view.name, frozen.parameters)
    except MvpError as error:
        error.view = error.view or view.name
        raise
    return network
