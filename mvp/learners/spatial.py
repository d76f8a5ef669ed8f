"""A small convolution over the rows of all views' maps, stacked side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mvp.errors import ConfigError
from mvp.features.table import FeatureTable
from mvp.learners.fusion_net import PlaceNorm, hidden_layers
from mvp.learners.standardise import Standardiser, table_moments
from mvp.learners.torch_base import TorchLearner


class SpatialNet(nn.Module):
    """Maps (channel, position) of all views -> one logit per output.

    The maps stand side by side, (channel, position, view), and one convolution sees all views at
    a position and its neighbours; then comes the mean and the maximum over positions. A view
    that is missing shows a learned token, the same at every position.

    Args:
        channels: channels of a map.
        positions: positions of a map.
        views: number of views.
        outputs: number of logits.
        filters: number of filters of the convolution.
        kernel: how many positions it sees at a time, an odd number.
        hidden, layers, dropout: as of `FusionNet`, on (row, 2 · filters).
    """

    def __init__(
        self,
        channels: int,
        positions: int,
        views: int,
        outputs: int,
        *,
        filters: int,
        kernel: int,
        hidden: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.shape = (views, channels, positions)
        # Zero is the mean of a standardised channel: a token starts as mean imputation.
        self.token = nn.Parameter(torch.zeros(views, channels, 1))
        self.conv = nn.Conv2d(
            channels, filters, (kernel, views), padding=(kernel // 2, 0), bias=False
        )
        self.norm = PlaceNorm(filters)
        self.body, size = hidden_layers(2 * filters, hidden, layers, dropout)
        self.out = nn.Linear(size, outputs)

    def forward(self, features: Tensor, presence: Tensor) -> Tensor:
        """Logits (row, output) from flattened maps (row, Σ feature) and presence (row, view)."""
        maps = features.unflatten(1, self.shape)
        shown = torch.where(presence[:, :, None, None], maps, self.token)
        seen = functional.relu(self.norm(self.conv(shown.permute(0, 2, 3, 1)))).squeeze(3)
        return self.out(self.body(torch.cat([seen.mean(dim=2), seen.amax(dim=2)], dim=1)))


@dataclass(kw_only=True, eq=False)
class SpatialLearner(TorchLearner):
    """Views whose positions correspond, such as the heights of two projections of one chest.

    Every view's features are a map (channel, position): `network.pooling = "rows"`. They are
    standardised channel by channel. Options are those of `TorchLearner`, and:

    Args:
        filters: filters of the convolution.
        kernel: positions that it sees at a time; odd.
    """

    name: ClassVar[str] = "spatial"
    at_least: ClassVar[Mapping[str, int]] = {**TorchLearner.at_least, "filters": 1, "kernel": 1}
    search_space: ClassVar[Mapping[str, Any]] = {
        **TorchLearner.search_space,
        "filters": {"low": 8, "high": 128, "log": True},
        "kernel": {"choices": [1, 3, 5, 7]},
    }

    filters: int = 32
    kernel: int = 3

    def layout(self, table: FeatureTable) -> dict[str, Any]:
        """Channels, positions and number of views; see `TorchLearner.layout`."""
        if isinstance(self.kernel, int) and self.kernel % 2 == 0:
            raise ConfigError(f"kernel is {self.kernel}, expected an odd number of positions")
        shape = require_shape_of_all(table, self.name, 2)
        return {"shape": list(shape), "views": len(table.views)}

    def standardiser(self, table: FeatureTable) -> Standardiser:
        """One mean and spread for all positions of a channel: a place means nothing by itself."""
        return channel_standardiser(table)

    def new_net(self, layout: Mapping[str, Any], outputs: int) -> SpatialNet:
        """See `TorchLearner.new_net`."""
        channels, positions = layout["shape"]
        return SpatialNet(
            channels,
            positions,
            layout["views"],
            outputs,
            filters=self.filters,
            kernel=self.kernel,
            hidden=self.hidden,
            layers=self.layers,
            dropout=self.dropout,
        )


# By number of axes: what a map is called, and the pooling that stores it.
_MAPS = {2: ("(channel, position)", "rows"), 3: ("(channel, height, width)", "map")}


def require_shape_of_all(table: FeatureTable, learner: str, axes: int) -> tuple[int, ...]:
    """The shape of every view's maps.

    Args:
        table: the features.
        learner: for the error.
        axes: how many a map has.

    Raises:
        ConfigError: a view has no maps of so many axes, or the views' maps differ in shape.
    """
    shapes = {view: table.shape(view) for view in table.views}
    first = next(iter(shapes.values()))
    if len(first) != axes or len(set(shapes.values())) > 1:
        what, pooling = _MAPS[axes]
        found = ", ".join(f"{view} {shape}" for view, shape in shapes.items())
        raise ConfigError(
            f"the learner {learner!r} needs maps {what} of one shape: {found}",
            cause="features without positions, or of views whose networks or image sizes differ",
            remedy=f'set network.pooling = "{pooling}" and network.layer to one that gives a map, '
            "with one network and image size for these views, and run `mvp extract`; or leave "
            "views out by head.views",
        )
    return first


def channel_standardiser(table: FeatureTable) -> Standardiser:
    """One mean and spread for all places of every channel of every view's maps."""
    mean, std = table_moments(table)
    places = int(np.prod(table.shape(table.views[0])[1:]))
    means, within = (part.reshape(-1, places) for part in (mean, std))
    spread = np.sqrt(np.square(within).mean(axis=1) + means.var(axis=1))
    return Standardiser.of(means.mean(axis=1).repeat(places), spread.repeat(places))
