"""Which parameters of the bodies of a joint network are fitted, and how fast."""

from __future__ import annotations

from collections.abc import Mapping

from mvp.config import TrainingConfig, nearest
from mvp.config.variants import FROZEN_BODY
from mvp.errors import ConfigError
from mvp.networks import Network
from mvp.training.groups import HEAD, Frozen, frozen_part, network_groups
from mvp.training.objective import Group


def frozen_bodies(networks: Mapping[str, Network], layer: str) -> dict[str, Frozen]:
    """What of every body is not fitted; "all" is everything but its classifier.

    Args:
        networks: by view; their parameters that are frozen no longer want a gradient.
        layer: `freeze`, see `frozen_part`.

    Raises:
        ConfigError: a body has no such layer, or its classifier would be frozen with it.
    """
    if layer != FROZEN_BODY:
        return {view: frozen_part(network, layer, view) for view, network in networks.items()}
    found = {}
    for view, network in networks.items():
        own = set() if network.classifier is None else set(network.head.modules())
        modules = [m for m in network.module.modules() if m not in own]
        held = {id(p) for m in own for p in m.parameters()}
        parameters = [p for p in network.module.parameters() if id(p) not in held]
        for parameter in parameters:
            parameter.requires_grad_(False)
        found[view] = Frozen(modules, parameters)
    return found


def body_groups(
    networks: Mapping[str, Network], settings: TrainingConfig, frozen: Mapping[str, Frozen]
) -> list[Group]:
    """The bodies' parameters in groups by `rates`; what several share stands with the first.

    Args:
        networks: by view.
        settings: a rate is called as a view, or as a view and a layer of it, "frontal.layer4";
            "head" is the joint network's.
        frozen: by view, what is never fitted.

    Raises:
        ConfigError: a rate is called otherwise, or has no effect.
    """
    _require_names(networks, settings)
    found: list[Group] = []
    seen: set[int] = set()
    for view, network in networks.items():
        own = {
            rate.removeprefix(f"{view}."): factor
            for rate, factor in settings.rates.items()
            if rate.startswith(f"{view}.")
        }
        peak = settings.learning_rate * settings.rates.get(view, 1.0)
        mine = settings.model_copy(update={"rates": own, "learning_rate": peak})
        still = frozen[view].parameters if view in frozen else []
        for group in network_groups(network, mine, view, still):
            fresh = [p for p in group.parameters if id(p) not in seen]
            seen.update(map(id, fresh))
            if fresh:
                found.append(Group(f"{view} {group.name}", fresh, group.rate, group.setting))
    return found


def _require_names(networks: Mapping[str, Network], settings: TrainingConfig) -> None:
    for rate in settings.rates:
        view = next((v for v in networks if rate == v or rate.startswith(f"{v}.")), None)
        if rate == HEAD and view is not None:
            raise ConfigError(
                f"joint.training.rates: {HEAD!r} is a view and the joint network's head",
                remedy="call the view otherwise, or name layers of it",
            )
        if view is None and rate != HEAD:
            names = [*networks, HEAD]
            raise ConfigError(
                f"joint.training.rates: there is no view {rate.partition('.')[0]!r} with a network"
                + nearest(rate, names),
                remedy=f"name one of {', '.join(names)}, or a layer after a view's name",
            )
