"""Which parameters of a network are fitted, and how fast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from mvp.config import TrainingConfig, nearest
from mvp.errors import ConfigError
from mvp.networks import Network
from mvp.training.objective import Group

HEAD = "head"
NONE = "none"


@dataclass(frozen=True, eq=False)
class Frozen:
    """What is not fitted.

    Attributes:
        modules: stay in evaluation mode, so that their batch-norm statistics stand still.
        parameters: get no gradient.
    """

    modules: list[nn.Module]
    parameters: list[nn.Parameter]

    def keep_still(self) -> None:
        """Put the modules back into evaluation mode, after all were put into training mode."""
        for module in self.modules:
            # Not module.eval(), which would reach the children that are fitted.
            module.training = False


def frozen_part(network: Network, layer: str, view: str) -> Frozen:
    """Everything up to and with a layer, in the order in which the modules are registered.

    That is the order of `print(module)` and, in the networks of torchvision and timm, the order
    of execution. Parameters that a containing module holds itself, such as a transformer's class
    token, come before those of its children.

    Args:
        network: the whole network; its parameters that are frozen no longer want a gradient.
        layer: `training.freeze`, a dotted name; "none" freezes nothing.
        view: for errors.

    Raises:
        ConfigError: there is no such layer, or the classifier would be frozen with it.
    """
    if layer == NONE:
        return Frozen([], [])
    modules = dict(network.module.named_modules())
    if layer not in modules:
        raise ConfigError(
            f"training.freeze: network {network.name!r} has no layer {layer!r}"
            + nearest(layer, list(modules)),
            view=view,
            cause=f"its stages are {', '.join(stages(network))}",
            remedy='name one of them, or a layer inside, or "all" for everything but the head',
        )
    names = list(modules)
    last = max(i for i, name in enumerate(names) if _within(name, layer))
    reached, rest = names[: last + 1], names[last + 1 :]
    if network.classifier is None or network.classifier not in rest:
        raise ConfigError(
            f"training.freeze = {layer!r} would freeze the classifier of {network.name!r}",
            view=view,
            remedy='name an earlier layer, or "all" for everything but the head',
        )
    whole = [name for name in reached if not any(_within(other, name) for other in rest)]
    parameters = [p for name in reached for p in modules[name].parameters(recurse=False)]
    for parameter in parameters:
        parameter.requires_grad_(False)
    return Frozen([modules[name] for name in whole], parameters)


def network_groups(
    network: Network, settings: TrainingConfig, view: str, frozen: Sequence[nn.Parameter] = ()
) -> list[Group]:
    """What is fitted of a whole network, in groups by `training.rates`; the longest name wins.

    Args:
        network: the whole one.
        settings: the rates are factors of `learning_rate`; what they do not name has factor 1.
        view: for errors.
        frozen: parameters that are not fitted.

    Returns:
        First those that no rate names, if there are any.

    Raises:
        ConfigError: a rate names no fitted parameter.
    """
    prefixes = {name: _prefix(network, name) for name in settings.rates}
    members: dict[str | None, list[nn.Parameter]] = {None: [], **{n: [] for n in prefixes}}
    reached, still = set(), {id(p) for p in frozen}
    for name, parameter in network.module.named_parameters():
        fits = [n for n, prefix in prefixes.items() if _within(name, prefix)]
        reached.update(fits)
        if parameter.requires_grad and id(parameter) not in still:
            members[max(fits, key=lambda n: len(prefixes[n]), default=None)].append(parameter)
    for name in settings.rates:
        if name not in reached:
            raise ConfigError(
                f"training.rates: network {network.name!r} has no stage {name!r} with weights"
                + nearest(name, stages(network)),
                view=view,
                cause=f"its stages are {', '.join(stages(network))}",
                remedy="name some of them, or a layer inside",
            )
        if not members[name]:
            raise ConfigError(
                f"training.rates: {name!r} has no effect",
                view=view,
                cause="its weights are frozen (training.freeze), or longer names have them all",
                remedy=f"take {name!r} out of training.rates",
            )
    peak = settings.learning_rate
    found = [Group("network", members[None], peak, "training.learning_rate")]
    for name, factor in settings.rates.items():
        found.append(Group(name, members[name], peak * factor, f"training.rates.{name}"))
    return [group for group in found if group.parameters]


def stages(network: Network) -> list[str]:
    """The top-level modules that have weights, in order, the classifier as "head"."""
    found = [name for name, child in network.module.named_children() if _any(child.parameters())]
    return [*(name for name in found if name != network.classifier), HEAD]


def _prefix(network: Network, name: str) -> str:
    return network.classifier if name == HEAD and network.classifier else name


def _within(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}.") or not layer


def _any(parameters: Iterable[nn.Parameter]) -> bool:
    return next(iter(parameters), None) is not None
