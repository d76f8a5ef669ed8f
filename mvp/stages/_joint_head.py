"""The head of a joint network: where it starts, how it is trained, and as a head of stage two."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mvp.errors import ConfigError
from mvp.features.table import FeatureTable
from mvp.learners.auxiliary import AuxiliaryLearner
from mvp.learners.fusion_net import FusionNet, SeveralHeads, Term, loss_terms, luckier_views
from mvp.learners.mlp import MLPLearner
from mvp.learners.registry import make_learner
from mvp.learners.standardise import Standardiser
from mvp.learners.torch_base import Fitted, TorchLearner
from mvp.learners.torch_rows import DenseReader
from mvp.networks.multiview import MultiView
from mvp.training.joint_task import JointView
from mvp.types import IntArray, Labels, Target


@dataclass(frozen=True)
class TorchHeadLosses:
    """How a torch learner's network is trained; see `HeadLosses`.

    Attributes:
        view_dropout: probability of hiding a view of a study.
    """

    view_dropout: float

    def terms(self, head: nn.Module, features: Tensor, shown: Tensor) -> list[Term]:
        """What it is fitted by."""
        return loss_terms(head, features, shown)

    def logits(self, head: nn.Module, terms: Sequence[Term], shown: Tensor) -> Tensor:
        """(row, output) what the terms say together."""
        if len(terms) == 1:
            return terms[0].logits
        return cast(SeveralHeads, head).combined(terms, shown)

    def shown(self, presence: Tensor, luck: Tensor) -> Tensor:
        """(row, view) the views that are left."""
        return luckier_views(presence, luck, self.view_dropout) if self.view_dropout else presence


def joinable(learner: object, name: str) -> TorchLearner:
    """The learner, if gradients can go through it to the networks.

    Raises:
        ConfigError: it is no torch learner of one vector for each study.
    """
    if isinstance(learner, TorchLearner) and isinstance(
        learner.reader(Standardiser(np.zeros(0, np.float32), np.ones(0, np.float32))), DenseReader
    ):
        return learner
    raise ConfigError(
        f"the learner {name!r} cannot be part of a joint network",
        cause="gradients must go through it to the networks, of one vector for each study",
        remedy="take one of mlp, auxiliary, hemis, spatial and maps",
    )


def first_learner(
    name: str,
    options: Mapping[str, Any],
    table: FeatureTable,
    labels: Labels,
    rows: tuple[IntArray, IntArray],
    seed: int,
) -> TorchLearner:
    """A head fitted on features of the bodies as they are: the linear probe before all is trained.

    Args:
        name: of the learner.
        options: its options.
        table: features of all studies.
        labels: theirs.
        rows: to fit on, and to stop early on.
        seed: of all chance.
    """
    learner = joinable(make_learner(name, dict(options)), name)
    train, inner = rows
    known = [i for i, t in enumerate(labels.targets) if np.isfinite(labels.values[train, i]).any()]
    if len(known) < len(labels.targets):
        lost = [t.name for i, t in enumerate(labels.targets) if i not in known]
        raise ConfigError(
            f"a joint network cannot be begun: {', '.join(lost)} cannot be learnt",
            cause="fewer than two classes are known among the training studies",
            remedy="take the label out of [labels], or give it more known studies",
        )
    learner.fit(
        table.select(train),
        labels.select(train),
        validation=(table.select(inner), labels.select(inner)),
        seed=seed,
    )
    return learner


def copied_learner(learner: TorchLearner) -> TorchLearner:
    """The same learner with a network of its own, which may be trained."""
    fitted = learner.fitted
    new = copy.copy(learner)
    return new.with_fitted(
        Fitted(copy.deepcopy(fitted.net), fitted.scaler, fitted.layout, fitted.targets)
    )


def linear_learner() -> MLPLearner:
    """What a view's own head is as a learner: a linear layer on its features."""
    return MLPLearner(layers=0, view_dropout=0.0)


def linear_of(learner: MLPLearner) -> tuple[Tensor, Tensor]:
    """A linear head's weight (output, feature) and bias (output,) on features as they are."""
    fitted = learner.fitted
    out = fitted.net.get_submodule("out")
    assert isinstance(out, nn.Linear)
    mean, std = torch.from_numpy(fitted.scaler.mean), torch.from_numpy(fitted.scaler.std)
    with torch.no_grad():
        weight = out.weight.cpu() / std
        return weight, out.bias.cpu() - weight @ mean


def single_learners(
    module: MultiView, views: Sequence[JointView], targets: tuple[Target, ...]
) -> dict[str, MLPLearner]:
    """The views' own heads as learners of stage two, on the CPU; none of views that give maps.

    Args:
        module: the trained network.
        views: those with a body.
        targets: of the joint head.
    """
    found: dict[str, MLPLearner] = {}
    start = 0
    auxiliary = getattr(module.head, "own", None)
    bodies = {one.view.name: one for one in views}
    for place, (view, width) in enumerate(module.widths.items()):
        columns = slice(start, start := start + width)
        mean, std = module.mean[columns].cpu(), module.std[columns].cpu()
        if isinstance(auxiliary, nn.ModuleList):
            own, its = auxiliary[place], targets
            assert isinstance(own, nn.Linear)
            weight, bias = own.weight.detach().cpu(), own.bias.detach().cpu()
        else:
            head = module.views[view].own if view in module.views else None
            if not isinstance(head, nn.Linear) or head.in_features != width:
                continue
            own, its = head, bodies[view].targets
            raw = own.weight.detach().cpu()
            weight, bias = raw * std, own.bias.detach().cpu() + raw @ mean
        net = FusionNet([width], len(bias), hidden=1, layers=0, dropout=0.0)
        with torch.no_grad():
            net.out.weight.copy_(weight)
            net.out.bias.copy_(bias)
        scaler = Standardiser(mean.numpy().copy(), std.numpy().copy())
        found[view] = linear_learner().with_fitted(Fitted(net, scaler, {"widths": [width]}, its))
    return found


def has_own_heads(learner: TorchLearner) -> bool:
    """Whether the head has a head for every view itself."""
    return isinstance(learner, AuxiliaryLearner)
