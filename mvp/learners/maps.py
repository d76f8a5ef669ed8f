"""A small convolution over the maps of all views, one upon another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mvp.features.table import FeatureTable
from mvp.learners.fusion_net import PlaceNorm, hidden_layers
from mvp.learners.spatial import channel_standardiser, require_shape_of_all
from mvp.learners.standardise import Standardiser
from mvp.learners.torch_base import TorchLearner


class MapsNet(nn.Module):
    """Maps (channel, height, width) of all views -> one logit per output.

    The views' channels stand upon one another; a convolution of one pixel brings them to a common
    number of filters, one of 3 x 3 looks around each place, and then come the mean and the maximum
    over places. A view that is missing shows a learned token, the same at every place.

    Args:
        shape: (channel, height, width) of a map.
        views: number of views.
        outputs: number of logits.
        filters: of both convolutions.
        hidden, layers, dropout: as of `FusionNet`, on (row, 2 · filters).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        views: int,
        outputs: int,
        *,
        filters: int,
        hidden: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.shape = (views, *shape)
        # Zero is the mean of a standardised channel: a token starts as mean imputation.
        self.token = nn.Parameter(torch.zeros(views, shape[0], 1, 1))
        self.conv = nn.Sequential(
            nn.Conv2d(views * shape[0], filters, 1, bias=False),
            PlaceNorm(filters),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            PlaceNorm(filters),
            nn.ReLU(),
        )
        self.body, size = hidden_layers(2 * filters, hidden, layers, dropout)
        self.out = nn.Linear(size, outputs)

    def forward(self, features: Tensor, presence: Tensor) -> Tensor:
        """Logits (row, output) from flattened maps (row, Σ feature) and presence (row, view)."""
        maps = features.unflatten(1, self.shape)
        shown = torch.where(presence[:, :, None, None, None], maps, self.token)
        seen = self.conv(shown.flatten(1, 2))
        return self.out(self.body(torch.cat([seen.mean(dim=(2, 3)), seen.amax(dim=(2, 3))], dim=1)))


@dataclass(kw_only=True, eq=False)
class MapsLearner(TorchLearner):
    """Views that meet before they are pooled, at whatever layer their maps come from.

    Every view's features are a map (channel, height, width): `network.pooling = "map"`. They are
    standardised channel by channel. Options are those of `TorchLearner`, and:

    Args:
        filters: filters of the convolutions.
    """

    name: ClassVar[str] = "maps"
    at_least: ClassVar[Mapping[str, int]] = {**TorchLearner.at_least, "filters": 1}
    search_space: ClassVar[Mapping[str, Any]] = {
        **TorchLearner.search_space,
        "filters": {"low": 16, "high": 256, "log": True},
    }

    filters: int = 64

    def layout(self, table: FeatureTable) -> dict[str, Any]:
        """Shape of a map and number of views; see `TorchLearner.layout`."""
        shape = require_shape_of_all(table, self.name, 3)
        return {"shape": list(shape), "views": len(table.views)}

    def standardiser(self, table: FeatureTable) -> Standardiser:
        """One mean and spread for all places of a channel: a place means nothing by itself."""
        return channel_standardiser(table)

    def new_net(self, layout: Mapping[str, Any], outputs: int) -> MapsNet:
        """See `TorchLearner.new_net`."""
        channels, height, width = layout["shape"]
        return MapsNet(
            (channels, height, width),
            layout["views"],
            outputs,
            filters=self.filters,
            hidden=self.hidden,
            layers=self.layers,
            dropout=self.dropout,
        )
