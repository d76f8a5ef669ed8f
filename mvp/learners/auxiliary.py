"""A joint head for studies with all views, and a head of its own for every view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mvp.learners.fusion_net import FusionNet, Term
from mvp.learners.options import require_number
from mvp.learners.torch_base import TorchLearner


class AuxiliaryNet(nn.Module):
    """Studies with all views go through the joint head, others through those of their views.

    After the AuxLoss model of Hashir, Bertrand and Cohen, "Quantifying the value of lateral views
    in deep learning for chest X-rays", MIDL 2020, arXiv:2002.02582: one head on the concatenation,
    and a linear one on each view, whose losses are added with a small weight. There every study has
    all views; here one that lacks some gets the mean of what the heads of its views say, and
    teaches these heads alone.

    Args:
        widths: number of features of each view.
        outputs: number of logits.
        weight: of the views' losses, that of the joint head being 1.
        hidden, layers, dropout: of the joint head, as of `FusionNet`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        outputs: int,
        *,
        weight: float,
        hidden: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.widths, self.outputs, self.weight = list(widths), outputs, weight
        self.joint = FusionNet(widths, outputs, hidden=hidden, layers=layers, dropout=dropout)
        self.own = nn.ModuleList(nn.Linear(width, outputs) for width in widths)

    def forward(self, features: Tensor, presence: Tensor) -> Tensor:
        """Logits (row, output) from features (row, Σ feature) and presence (row, view) bool."""
        if bool(presence.all()):
            return self.joint(features, presence)
        return self.combined(list(self.terms(features, presence)), presence)

    def combined(self, terms: Sequence[Term], presence: Tensor) -> Tensor:
        """What the joint head says of rows with all views, and the mean of the others' heads."""
        joint, *own = terms
        said = torch.stack([term.logits for term in own]).sum(dim=0)
        mean = said / presence.sum(dim=1, keepdim=True).clamp_min(1)
        return torch.where(presence.all(dim=1, keepdim=True), joint.logits, mean)

    def terms(self, features: Tensor, presence: Tensor) -> Iterator[Term]:
        """What every head is fitted by; nothing is computed for rows that a head has no use for."""
        whole = presence.all(dim=1)
        yield Term(1.0, self._on(features, whole, self.joint, presence), whole)
        views = features.split(self.widths, dim=1)
        for head, values, there in zip(self.own, views, presence.unbind(dim=1), strict=True):
            yield Term(self.weight, self._on(values, there, head), there)

    def _on(self, values: Tensor, rows: Tensor, head: nn.Module, *more: Tensor) -> Tensor:
        """(row, output) what a head says of some rows, zeros elsewhere."""
        blank = values.new_zeros(len(values), self.outputs)
        chosen = rows.nonzero()[:, 0]
        if not len(chosen):
            return blank
        said = head(values[chosen], *(one[chosen] for one in more))
        return blank.to(said.dtype).index_copy(0, chosen, said)


@dataclass(kw_only=True, eq=False)
class AuxiliaryLearner(TorchLearner):
    """A perceptron on all views for studies that have them all, and a linear head on each view.

    Options are those of `TorchLearner`, and:

    Args:
        weight: of the loss of each view's head; that of the joint head counts 1.
    """

    name: ClassVar[str] = "auxiliary"
    search_space: ClassVar[Mapping[str, Any]] = {
        **TorchLearner.search_space,
        "weight": {"low": 0.05, "high": 1.0, "log": True},
    }

    weight: float = 0.3

    def new_net(self, layout: Mapping[str, Any], outputs: int) -> AuxiliaryNet:
        """See `TorchLearner.new_net`."""
        return AuxiliaryNet(
            layout["widths"],
            outputs,
            weight=self.weight,
            hidden=self.hidden,
            layers=self.layers,
            dropout=self.dropout,
        )

    def _check_options(self) -> None:
        super()._check_options()
        require_number("weight", self.weight, 0.0)
