"""Views whose networks have to do with each other: shared layers, copies, and their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mvp.config.section import Protocol

if TYPE_CHECKING:
    from mvp.config.models import ResolvedView

NO_SHARE = "none"
SHARE_ALL = "all"
VIEW = "view:"
FROZEN_BODY = "all"
# What each view of a group may have for itself.
_OWN_NETWORK = {"layer", "pooling"}
_OWN_TRAINING = {"memory_gb"}
# What the first layer's weights depend on.
_CHANNELS = ("color", "mean", "std")

Views = Mapping[str, "ResolvedView"]


def has_cnn(view: ResolvedView) -> bool:
    """Whether a view has a network of `[network]`; texts have their own, tables none."""
    return view.kind == "image" and not view.imported


def source_network(view: ResolvedView) -> str | None:
    """The view whose trained network a view's starts from, as `weights = "view:NAME"` says."""
    if not has_cnn(view) or not view.network.weights.startswith(VIEW):
        return None
    return view.network.weights.removeprefix(VIEW)


def stays_untrained(view: ResolvedView) -> bool:
    """Whether nothing of a view's network is trained, its classifier neither."""
    return view.training.freeze == FROZEN_BODY and view.training.head_epochs is None


def trained_together(views: Views, name: str) -> tuple[str, ...]:
    """The views of one `network.share`, in the order of [views]; a view alone is itself."""
    share = views[name].network.share
    if not has_cnn(views[name]) or share == NO_SHARE:
        return (name,)
    return tuple(n for n, v in views.items() if has_cnn(v) and v.network.share == share)


def training_order(views: Views, wanted: Iterable[str]) -> list[tuple[str, ...]]:
    """The wanted views in groups that are trained together, those that others start from first.

    A group is whole also where one view of it is wanted; views that none of the wanted is in a
    group with are not added.

    Args:
        views: all of them.
        wanted: names.

    Raises:
        ValueError: views start from each other's networks in a circle.
    """
    groups = dict.fromkeys(trained_together(views, name) for name in wanted)
    of = {name: group for group in groups for name in group}
    order: list[tuple[str, ...]] = []
    open_: list[tuple[str, ...]] = []

    def place(group: tuple[str, ...]) -> None:
        if group in order:
            return
        if group in open_:
            names = " and ".join(name for one in open_[open_.index(group) :] for name in one)
            raise ValueError(f"the networks of {names} start from each other (network.weights)")
        open_.append(group)
        for name in group:
            start = source_network(views[name])
            if start in of:
                place(of[start])
        open_.pop()
        order.append(group)

    for group in groups:
        place(group)
    return order


def with_sources(views: Views, names: Iterable[str]) -> list[str]:
    """Some views with all whose networks theirs need: of their groups, and those to start from."""
    wanted: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        for name in trained_together(views, waiting.pop(0)):
            if name in wanted:
                continue
            wanted[name] = None
            start = source_network(views[name])
            waiting += [start] if start is not None else []
    return list(wanted)


def require_variants(views: Views, protocol: Protocol) -> None:
    """Refuse networks that cannot be shared, copied or put in order.

    Raises:
        ValueError: the views and the setting are named.
    """
    for name, view in views.items():
        if not has_cnn(view):
            continue
        if view.network.share != NO_SHARE:
            _require_group(views, name, protocol)
        if (start := source_network(view)) is not None:
            _require_source(views, view, start, protocol)
    training_order(views, views)


def _require_group(views: Views, name: str, protocol: Protocol) -> None:
    view = views[name]
    share = view.network.share
    setting = f"views.{name}.network.share = {share!r}"
    if protocol == "frozen":
        raise ValueError(f'{setting} has no meaning with protocol = "frozen": nothing is trained')
    if view.training.freeze == FROZEN_BODY:
        raise ValueError(f'{setting} has no meaning with training.freeze = "all"')
    group = trained_together(views, name)
    if len(group) == 1:
        raise ValueError(f"{setting}: no other view has the same share")
    first = views[group[0]]
    for what, mine, its in _must_agree(view, first):
        if mine != its:
            raise ValueError(
                f"views {first.name} and {name} share layers ({share!r}) but differ in {what}"
            )
    twin = next((n for n in group if n != name and views[n].source == view.source), None)
    if share == SHARE_ALL and twin is not None:
        raise ValueError(
            f"views {twin} and {name} would be one network on the same images: their features "
            'would be equal; share = "all" is for views of other images'
        )


def _must_agree(view: ResolvedView, first: ResolvedView) -> Iterable[tuple[str, Any, Any]]:
    def network(one: ResolvedView) -> dict[str, Any]:
        return one.network.model_dump(exclude=_OWN_NETWORK)

    def training(one: ResolvedView) -> dict[str, Any]:
        return one.training.model_dump(exclude=_OWN_TRAINING)

    for setting, value in network(view).items():
        yield f"network.{setting}", value, network(first)[setting]
    for setting in ("size", *_CHANNELS):
        yield (
            f"transform.{setting}",
            getattr(view.transform, setting),
            getattr(first.transform, setting),
        )
    for setting, value in training(view).items():
        yield f"training.{setting}", value, training(first)[setting]
    if view.network.share == SHARE_ALL:
        yield "labels", view.labels, first.labels


def _require_source(views: Views, view: ResolvedView, start: str, protocol: Protocol) -> None:
    setting = f"views.{view.name}.network.weights = {view.network.weights!r}"
    if protocol == "frozen":
        raise ValueError(
            f'{setting} has no meaning with protocol = "frozen": no view\'s network is trained'
        )
    if start == view.name:
        raise ValueError(
            f"{setting} names the view itself; set it for the views that start from another"
        )
    other = views.get(start)
    if other is None or not has_cnn(other):
        have = ", ".join(n for n, v in views.items() if has_cnn(v) and n != view.name)
        raise ValueError(f"{setting} names no view with a network; there are: {have or 'none'}")
    if view.network.weights_order != "by-name":
        raise ValueError(f'{setting} has no meaning with weights_order = "by-position"')
    pairs = [("network.name", view.network.name, other.network.name)]
    for channel in _CHANNELS:
        both = getattr(view.transform, channel), getattr(other.transform, channel)
        pairs.append((f"transform.{channel}", *both))
    for what, mine, its in pairs:
        if mine != its:
            raise ValueError(f"{setting}, but the two differ in {what} ({its!r} and {mine!r})")
