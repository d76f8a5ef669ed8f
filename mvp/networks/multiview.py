"""One network of several views: a body for each, and a head on the features of those there are.

The head is any module that takes standardised features (row, Σ feature) and presence (row, view)
and gives logits, as a head of stage two does. So the views meet wherever their features are
captured (after global pooling, in a named block's maps, in stacked rows), and a study that lacks a
view is what the head makes of it. With its bodies detached it is the two-stage system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mvp.config.network import Pooling
from mvp.config.training import Slices
from mvp.errors import ConfigError, DataError
from mvp.networks.bags import BagReduction
from mvp.networks.bodies import (
    Body,
    Joined,
    ViewFeatures,
    ViewInputs,
    last_dropouts,
    still_norms,
)
from mvp.networks.capture import AUTO, Capture
from mvp.networks.network import Network
from mvp.networks.sharing import ALL, SharedNetworks


class MultiView(nn.Module):
    """Bodies, and a head on what they see.

    Each body runs once, on the rows that have its view; of a view that no row has nothing runs, so
    its parameters get no gradient (None, not zero), and no optimizer moves them. A view without
    a body has fixed features, such as clinical values: the caller gives them.

    Args:
        widths: for every view, in the head's order, how many features it has (a map's, flattened).
        bodies: by view; views without one are given as features.
        head: gives logits (row, output) of features and presence.
        mean, std: (Σ feature,) features are standardised by.
        how: what becomes of several inputs of a row: "max" (as MRNet does it, Bien et al. 2018,
            doi:10.1371/journal.pmed.1002699) or "mean".
        shared: networks with layers in common, whose views go through these together.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        widths: Mapping[str, int],
        bodies: Mapping[str, Body],
        head: nn.Module,
        mean: Tensor,
        std: Tensor,
        *,
        how: Slices = "max",
        shared: Sequence[SharedNetworks] = (),
    ) -> None:
        super().__init__()
        _require_one_capture(bodies, shared)
        self.widths, self.how = dict(widths), how
        self.views = dict(bodies)
        self._shared = list(shared)
        together = {view for one in shared for view in one.networks}
        # A view may be called as something that every module has, such as "type".
        self.bodies = nn.ModuleDict(
            {f"{v}:": b.network.module for v, b in bodies.items() if v not in together}
        )
        self.together = nn.ModuleList(one.module for one in shared)
        self.own = nn.ModuleDict(
            {
                f"{v}:": b.own
                for v, b in bodies.items()
                if b.own is not None and b.own is not _head(b.network)
            }
        )
        self.head = head
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self._still = [one for body in bodies.values() for one in last_dropouts(body.network)]

    def train(self, mode: bool = True) -> MultiView:
        """As of every module; a dropout right before a classifier stays out.

        What the classifier sees is what the head sees, and stage two knows it without dropout; of
        volumes the maximum over slices would hardly ever see it.
        """
        super().train(mode)
        for module in self._still:
            module.eval()
        return self

    def forward(
        self,
        batch: Mapping[str, ViewInputs],
        rows: int,
        fixed: Mapping[str, ViewFeatures] | None = None,
    ) -> Tensor:
        """Logits (row, output) of a batch of studies, each with its own views.

        Args:
            batch: for each view that some row has its inputs.
            rows: how many studies the batch is of.
            fixed: features of views without a body.
        """
        seen = self.look(batch, rows, fixed)
        return self.head(seen.features, seen.presence)

    def look(
        self,
        batch: Mapping[str, ViewInputs],
        rows: int,
        fixed: Mapping[str, ViewFeatures] | None = None,
    ) -> Joined:
        """What the head is given of a batch; arguments as of a call.

        Raises:
            ConfigError: a network cannot take the inputs, or gives other features than it should.
            DataError: a view is unknown.
        """
        found = {**self.features(batch), **(fixed or {})}
        unknown = [view for view in found if view not in self.widths]
        if unknown:
            raise DataError(f"there is no view {unknown[0]!r} in this network")
        device = self.mean.device
        presence = torch.zeros(rows, len(self.widths), dtype=torch.bool, device=device)
        blocks, own = [], {}
        start = 0
        for place, (view, width) in enumerate(self.widths.items()):
            columns = slice(start, start := start + width)
            seen = found.get(view)
            if seen is None or not len(seen.rows):
                blocks.append(self.mean.new_zeros(rows, width))
                continue
            values = seen.values.flatten(1)
            if values.shape[1] != width:
                raise ConfigError(
                    f"a view gives {values.shape[1]} features, the head was made for {width}",
                    view=view,
                    remedy="make the head anew, or restore network.layer and transform.size",
                )
            values = (values - self.mean[columns]) / self.std[columns]
            blank = values.new_zeros(rows, width)
            blocks.append(blank.index_copy(0, seen.rows, values))
            presence[seen.rows, place] = True
            body = self.views.get(view)
            if body is not None and body.own is not None:
                own[view] = seen.rows, body.own(_vectors(seen.values, body.pooling))
        return Joined(torch.cat(blocks, dim=1), presence, own)

    def features(self, batch: Mapping[str, ViewInputs]) -> dict[str, ViewFeatures]:
        """What each body sees, unstandardised, as extraction would store it; with gradients."""
        here = {view: given for view, given in batch.items() if len(given.rows)}
        unknown = [view for view in here if view not in self.views]
        if unknown:
            raise DataError("this network has no body for the view", view=unknown[0])
        found: dict[str, Tensor] = {}
        for shared in self._shared:
            group = {view: here[view].inputs for view in shared.networks if view in here}
            if group:
                found |= self._together(shared, group)
        for view, given in here.items():
            if view not in found:
                found[view] = self._alone(view, given.inputs)
        return {
            view: ViewFeatures(given.rows, self._reduced(found[view], given.counts))
            for view, given in here.items()
        }

    def _alone(self, view: str, inputs: Tensor) -> Tensor:
        body = self.views[view]
        network = body.network
        with (
            still_norms(network.module, len(inputs)),
            Capture(network, body.layer, body.pooling, gradients=True) as capture,
        ):
            return capture(inputs)

    def _together(self, shared: SharedNetworks, group: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features of views whose networks have layers in common; these run once on all of them."""
        first = self.views[next(iter(group))]
        if shared.layer == ALL:
            with (
                still_norms(shared.module, sum(map(len, group.values()))),
                Capture(first.network, first.layer, first.pooling, gradients=True) as capture,
            ):
                seen = capture(torch.cat(list(group.values())))
            return dict(zip(group, seen.split([len(one) for one in group.values()]), strict=True))
        found: dict[str, Tensor] = {}
        hooks = []
        for view in group:
            body = self.views[view]

            def keep(
                _: nn.Module, inputs: tuple[Tensor, ...], __: Tensor, view: str = view
            ) -> None:
                found[view] = inputs[0].float()

            hooks.append(body.network.head.register_forward_hook(keep))
        try:
            with still_norms(shared.module, min(map(len, group.values()))):
                shared.forward(group)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _reduced(self, values: Tensor, counts: Sequence[int] | None) -> Tensor:
        if counts is None or all(count == 1 for count in counts):
            return values
        bags = BagReduction(counts, self.how)
        bags.add(values)
        return bags.features()


def _require_one_capture(bodies: Mapping[str, Body], shared: Sequence[SharedNetworks]) -> None:
    """Raise a ConfigError where views that share layers give features that cannot be told apart."""
    for one in shared:
        first, *others = one.networks
        for view in (first, *others):
            mine, its = bodies[view], bodies[first]
            if one.layer != ALL and mine.layer != AUTO:
                raise ConfigError(
                    f"network.layer = {mine.layer!r} cannot be had of views that share layers "
                    "while they are trained jointly",
                    view=view,
                    remedy='set network.layer = "auto", or network.share = "none"',
                )
            if (mine.layer, mine.pooling) != (its.layer, its.pooling):
                raise ConfigError(
                    f"views {first} and {view} are one network, but differ in network.layer or "
                    "network.pooling",
                    view=view,
                    remedy="give both the same while they are trained jointly",
                )


def _head(network: Network) -> nn.Module | None:
    return None if network.classifier is None else network.head


def _vectors(values: Tensor, pooling: Pooling) -> Tensor:
    """(n, width): the mean over the places of maps, or over all tokens."""
    if values.ndim == 2:
        return values
    return values.mean(1) if values.ndim == 3 and pooling == "map" else values.flatten(2).mean(2)
