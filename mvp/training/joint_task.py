"""What a joint training trains on what: views, studies, labels, and how the head is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mvp.config import ResolvedView, TrainingConfig
from mvp.networks import Network
from mvp.networks.multiview import MultiView
from mvp.training.processes import Processes
from mvp.training.source import ImageSource
from mvp.types import BoolArray, FloatArray, IntArray, Labels, Target


class Term(Protocol):
    """One of the losses that the head is fitted by: its weight, logits (row, output), and rows."""

    @property
    def weight(self) -> float:
        """What the loss counts."""
        ...

    @property
    def logits(self) -> Tensor:
        """(row, output) of all rows."""
        ...

    @property
    def rows(self) -> Tensor | None:
        """(row,) bool, those that it is the loss of; None for all."""
        ...


class HeadLosses(Protocol):
    """How a head is trained; it is no business of this room which head it is."""

    def terms(self, head: nn.Module, features: Tensor, shown: Tensor) -> Sequence[Term]:
        """What it is fitted by, from features (row, Σ feature) and the views shown (row, view)."""
        ...

    def logits(self, head: nn.Module, terms: Sequence[Any], shown: Tensor) -> Tensor:
        """(row, output) what the terms say together."""
        ...

    def shown(self, presence: Tensor, luck: Tensor) -> Tensor:
        """(row, view) the views that are left after view dropout, by luck (row, view) in [0, 1)."""
        ...


@dataclass(frozen=True, eq=False)
class JointView:
    """One view's inputs.

    Attributes:
        view: its settings.
        network: its body, the one in the module.
        images: its inputs, row by row.
        owner: (source row,) number of the study that each is of, never falling.
        targets: what the view's own head gives.
        columns: for each of these its place among the joint labels.
    """

    view: ResolvedView
    network: Network
    images: ImageSource
    owner: IntArray
    targets: tuple[Target, ...] = ()
    columns: tuple[int, ...] = ()

    def rows_of(self, studies: IntArray) -> tuple[IntArray, IntArray]:
        """The source rows of some studies, in their order, and how many each study has."""
        first = np.searchsorted(self.owner, studies, side="left")
        counts = np.searchsorted(self.owner, studies, side="right") - first
        place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(first, counts) + place, counts

    def inputs_of(self, studies: IntArray) -> IntArray:
        """(study,) how many images and slices each of some studies has."""
        rows, counts = self.rows_of(studies)
        sizes = np.ones(len(rows), np.int64) if self.images.counts is None else self.images.counts
        sizes = sizes if self.images.counts is None else sizes[rows]
        ends = np.concatenate([[0], np.cumsum(sizes)])
        stops = np.cumsum(counts)
        return np.asarray(ends[stops] - ends[stops - counts])


@dataclass(frozen=True, eq=False)
class JointTask:
    """What is trained on what; nothing in it changes but the module's weights.

    Attributes:
        module: on the device, channels last.
        views: those with a body.
        fixed: for each view without one (study, feature), all NaN where a study lacks it.
        labels: (study, target), NaN for unknown and for what cannot be learnt.
        train: studies that weights are fitted on, each with a view.
        inner: studies that choose the epoch, likewise.
        pos_weight: (target,) on the device.
        settings: how to train.
        losses: how the head is.
        auxiliary: weight of the losses of the views' own heads; that of the head itself is 1.
        together: whether a study's views get one draw of geometric augmentation.
        thaw: epochs after which what `training.freeze` names is fitted too; 0 for never.
        seed: all chance comes from it.
        device: where the module lives.
        processes: that train together.
    """

    module: MultiView
    views: Sequence[JointView]
    fixed: Mapping[str, FloatArray]
    labels: Labels
    train: IntArray
    inner: IntArray
    pos_weight: Tensor
    settings: TrainingConfig
    losses: HeadLosses
    auxiliary: float
    together: bool
    thaw: int
    seed: int
    device: torch.device
    processes: Processes = field(default_factory=Processes)

    @cached_property
    def presence(self) -> BoolArray:
        """(study, view) in the head's order."""
        studies = np.arange(len(self.labels))
        found: dict[str, BoolArray] = {}
        for one in self.views:
            found[one.view.name] = np.asarray(one.rows_of(studies)[1] > 0)
        found |= {v: np.asarray(~np.isnan(one).all(axis=1)) for v, one in self.fixed.items()}
        return np.stack([found[view] for view in self.module.widths], axis=1)

    @cached_property
    def inputs(self) -> IntArray:
        """(study, body) images and slices."""
        studies = np.arange(len(self.labels))
        counted = [one.inputs_of(studies) for one in self.views]
        return np.stack(counted, axis=1) if counted else np.zeros((len(studies), 0), np.int64)

    @cached_property
    def deepest(self) -> IntArray | None:
        """(study,) inputs of the view that has most of them; None where nobody has several."""
        most = self.inputs.max(axis=1, initial=1)
        return most if (most > 1).any() else None


def own_columns(labels: Labels, names: Sequence[str]) -> tuple[tuple[Target, ...], tuple[int, ...]]:
    """The targets of some labels, in the order of the names, and their places.

    Args:
        labels: of the joint network.
        names: of a view's labels.
    """
    places = {target.name: i for i, target in enumerate(labels.targets)}
    columns = tuple(places[name] for name in names)
    return tuple(labels.targets[i] for i in columns), columns
