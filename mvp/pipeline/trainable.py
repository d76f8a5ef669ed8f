"""What can be refused of a training before anything of an earlier one is touched."""

from __future__ import annotations

from collections.abc import Sequence

from mvp.config import ResolvedView
from mvp.config.variants import stays_untrained
from mvp.errors import MvpError
from mvp.networks import Capture, Network, inference
from mvp.networks.sharing import share_stem
from mvp.pipeline.networks import (
    initial_network,
    outputs_of,
    require_fitted_layer,
    view_inputs,
    view_targets,
)
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
        require_fitted_layer(view, network)
        layer, pooling = view.network.layer, view.network.pooling
        with Capture(network, layer, pooling) as capture, inference(network):
            capture(batch)
        if not stays_untrained(view):
            require_precision(settings.precision, project.device)
        if network_epochs(view):
            frozen = frozen_part(network, settings.freeze, view.name)
            network_groups(network, settings, view.name, frozen.parameters)
    except MvpError as error:
        error.view = error.view or view.name
        raise
    return network
