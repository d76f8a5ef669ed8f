"""HeMIS: mean and variance over the views that are there (Havaei et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mvp.learners.fusion_net import hidden_layers
from mvp.learners.torch_base import TorchLearner


class HemisNet(nn.Module):
    """Every view's features in a common space, and their mean and variance over the views.

    After Havaei, Guizard, Chapados and Bengio, "HeMIS: Hetero-Modal Image Segmentation", MICCAI
    2016, arXiv:1607.05194: a view that is missing takes part in neither, so that any combination
    of views gives numbers of the same meaning. The variance divides by views less one, and is 0
    of a single view.

    Args:
        widths: number of features of each view.
        outputs: number of logits.
        embed: width of the common space.
        hidden, layers, dropout: as of `FusionNet`, on (row, 2 · embed).
    """

    def __init__(
        self,
        widths: Sequence[int],
        outputs: int,
        *,
        embed: int,
        hidden: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.widths = list(widths)
        self.embed = nn.ModuleList(
            nn.Sequential(nn.Linear(width, embed), nn.ReLU()) for width in widths
        )
        self.body, size = hidden_layers(2 * embed, hidden, layers, dropout)
        self.out = nn.Linear(size, outputs)

    def forward(self, features: Tensor, presence: Tensor) -> Tensor:
        """Logits (row, output) from features (row, Σ feature) and presence (row, view) bool."""
        views = features.split(self.widths, dim=1)
        embedded = torch.stack([e(x) for e, x in zip(self.embed, views, strict=True)], dim=1)
        return self.out(self.body(mean_and_variance(embedded, presence)))


def mean_and_variance(embedded: Tensor, presence: Tensor) -> Tensor:
    """(row, 2 · width): mean and variance over the views present; zeros where there is none.

    Args:
        embedded: (row, view, width).
        presence: (row, view) bool.
    """
    there = presence.unsqueeze(2).to(embedded.dtype)
    number = there.sum(dim=1)
    mean = (embedded * there).sum(dim=1) / number.clamp_min(1)
    away = (embedded - mean.unsqueeze(1)) * there
    variance = away.square().sum(dim=1) / (number - 1).clamp_min(1)
    return torch.cat([mean, variance], dim=1)


@dataclass(kw_only=True, eq=False)
class HemisLearner(TorchLearner):
    """Views meet in their mean and variance, so that any of them may be missing.

    Options are those of `TorchLearner`, and:

    Args:
        embed: width of the space in which views are averaged.
    """

    name: ClassVar[str] = "hemis"
    at_least: ClassVar[Mapping[str, int]] = {**TorchLearner.at_least, "embed": 1}
    search_space: ClassVar[Mapping[str, Any]] = {
        **TorchLearner.search_space,
        "embed": {"low": 16, "high": 256, "log": True},
    }

    embed: int = 64

    def new_net(self, layout: Mapping[str, Any], outputs: int) -> HemisNet:
        """See `TorchLearner.new_net`."""
        return HemisNet(
            layout["widths"],
            outputs,
            embed=self.embed,
            hidden=self.hidden,
            layers=self.layers,
            dropout=self.dropout,
        )
