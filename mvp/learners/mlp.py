"""A multi-layer perceptron on the joined features of all views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mvp.learners.fusion_net import FusionNet
from mvp.learners.torch_base import TorchLearner


@dataclass(kw_only=True, eq=False)
class MLPLearner(TorchLearner):
    """One perceptron for all labels, in which views can speak to each other.

    A missing or dropped view is replaced by a learned token. Options are those of `TorchLearner`.
    """

    name: ClassVar[str] = "mlp"

    def new_net(self, layout: Mapping[str, Any], outputs: int) -> FusionNet:
        """See `TorchLearner.new_net`."""
        return FusionNet(
            layout["widths"],
            outputs,
            hidden=self.hidden,
            layers=self.layers,
            dropout=self.dropout,
        )
