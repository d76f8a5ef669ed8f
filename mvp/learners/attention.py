"""Gated attention over the instances of a view (Ilse et al. 2018)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mvp.features.table import FeatureTable
from mvp.learners.fusion_net import FusionNet
from mvp.learners.standardise import Standardiser, moments
from mvp.learners.torch_base import TorchLearner
from mvp.learners.torch_rows import BagReader, parts

log = logging.getLogger("mvp")


class GatedAttention(nn.Module):
    """A weight for every instance: softmax over its bag of w · (tanh(V h) ⊙ sigmoid(U h)).

    Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018,
    arXiv:1802.04712, equation 9.

    Args:
        width: number of features of an instance.
        units: rows of V and U.
    """

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.content = nn.Linear(width, units)
        self.gate = nn.Linear(width, units)
        self.score = nn.Linear(units, 1, bias=False)

    def forward(self, values: Tensor, counts: Tensor) -> Tensor:
        """(instance,) weights, of each bag summing to 1.

        Args:
            values: (instance, feature), those of a bag together.
            counts: (row,) instances of each bag; 0 is an empty one.
        """
        scores = self.score(torch.tanh(self.content(values)) * torch.sigmoid(self.gate(values)))
        scores = scores.squeeze(1)
        top = torch.segment_reduce(scores.detach(), "max", lengths=counts)
        raised = (scores - top.repeat_interleave(counts)).exp()
        total = torch.segment_reduce(raised, "sum", lengths=counts)
        return raised / total.repeat_interleave(counts)


class BagNet(nn.Module):
    """Bags of every view -> one vector each -> the network of the perceptron.

    Args:
        widths: number of features of each view.
        outputs: number of logits.
        over: how a bag becomes a vector.
        units: of the attention.
        hidden, layers, dropout: as of `FusionNet`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        outputs: int,
        *,
        over: str,
        units: int,
        hidden: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.over = over
        self.joined = FusionNet(widths, outputs, hidden=hidden, layers=layers, dropout=dropout)
        gates = [GatedAttention(width, units) for width in widths] if over == "attention" else []
        self.attention = nn.ModuleList(gates)

    def forward(self, bags: list[tuple[Tensor, Tensor]], presence: Tensor) -> Tensor:
        """Logits (row, output).

        Args:
            bags: for each view (instance, feature) of all rows and (row,) instances of each.
            presence: (row, view) bool; a view that is not shown is replaced by its token.
        """
        pooled = [self._pooled(view, *bag) for view, bag in enumerate(bags)]
        logits: Tensor = self.joined(torch.cat(pooled, dim=1), presence)
        return logits

    def _pooled(self, view: int, values: Tensor, counts: Tensor) -> Tensor:
        if not len(values):
            return values.new_zeros(len(counts), values.shape[1])
        if self.over == "attention":
            values = values * self.attention[view](values, counts).unsqueeze(1)
        how = "sum" if self.over == "attention" else self.over
        return torch.segment_reduce(values, how, lengths=counts, axis=0)


@dataclass(kw_only=True, eq=False)
class AttentionLearner(TorchLearner):
    """One telling slice among many: a bag of instances is weighed before views are joined.

    It sees every stored instance of a view, whatever `head.instances` says. A view with one
    instance is a bag of one. Options are those of `TorchLearner`, and:

    Args:
        over: how the instances of a view become one vector: `attention`, `max` or `mean`.
        units: units of the attention.
    """

    name: ClassVar[str] = "attention"
    at_least: ClassVar[Mapping[str, int]] = {**TorchLearner.at_least, "units": 1}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"over": ("attention", "max", "mean")}
    search_space: ClassVar[Mapping[str, Any]] = {
        **TorchLearner.search_space,
        "over": {"choices": ["attention", "max", "mean"]},
        "units": {"low": 16, "high": 256, "log": True},
    }

    over: str = "attention"
    units: int = 64

    def standardiser(self, table: FeatureTable) -> Standardiser:
        """Mean and spread over all instances of a view."""
        if all((table.instances(view) <= 1).all() for view in table.views):
            log.warning(
                "attention: no study has more than one instance of %s, so there is nothing to "
                'weigh; extract.instances = "keep" stores a row for every slice',
                " or ".join(table.views),
            )
        measured = []
        for view, width in zip(table.views, table.signature.widths, strict=True):
            rows = parts(4 * width * table.instances(view))
            batches = (table.bags(view, np.arange(r.start, r.stop)).values for r in rows)
            measured.append(moments(batches, width))
        return Standardiser.of(*(np.concatenate(part) for part in zip(*measured, strict=True)))

    def reader(self, scaler: Standardiser) -> BagReader:
        """See `TorchLearner.reader`."""
        return BagReader(scaler)

    def new_net(self, layout: Mapping[str, Any], outputs: int) -> BagNet:
        """See `TorchLearner.new_net`."""
        return BagNet(
            layout["widths"],
            outputs,
            over=self.over,
            units=self.units,
            hidden=self.hidden,
            layers=self.layers,
            dropout=self.dropout,
        )
