"""Where a joint network starts: its members, its head, and the views' own heads."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mvp.config import JointConfig, ResolvedView
from mvp.config.training import Slices
from mvp.features.arrays import table_from_arrays
from mvp.features.table import FeatureTable
from mvp.files import read_json, write_json
from mvp.learners.mlp import MLPLearner
from mvp.learners.registry import find_learner
from mvp.learners.torch_base import TorchLearner
from mvp.networks import Network
from mvp.networks.bodies import Body
from mvp.networks.capture import AUTO
from mvp.networks.multiview import MultiView
from mvp.networks.sharing import SharedNetworks
from mvp.stages._joint_head import (
    TorchHeadLosses,
    copied_learner,
    first_learner,
    has_own_heads,
    joinable,
    linear_learner,
    linear_of,
)
from mvp.training.joint import JointPhase
from mvp.training.joint_task import JointTask, JointView, own_columns
from mvp.training.schedule import derived_seed, seeded
from mvp.training.source import ImageSource
from mvp.types import FloatArray, IntArray, Labels

MakeTask = Callable[[MultiView, TorchHeadLosses], JointTask]
HEAD = "head"
VIEWS = "views"


@dataclass(frozen=True, eq=False)
class JointMember:
    """One view of a joint network.

    Attributes:
        view: its settings.
        network: its body with its first weights, on the CPU.
        trained: whether its classifier knows the view's labels already.
        images: its inputs.
        owner: (source row,) number of the study that each is of, never falling.
        folder: where the body goes.
    """

    view: ResolvedView
    network: Network
    trained: bool
    images: ImageSource
    owner: IntArray
    folder: Path


@dataclass(frozen=True, eq=False)
class JointData:
    """The studies of a joint training.

    Attributes:
        labels: (study, target).
        train: studies that weights are fitted on, each with a view.
        inner: studies that choose the epoch, likewise.
        views: all views in the head's order.
        fixed: for each view without a body (study, feature), NaN where a study lacks it.
    """

    labels: Labels
    train: IntArray
    inner: IntArray
    views: Sequence[str]
    fixed: Mapping[str, FloatArray]


def read_heads(folder: Path) -> tuple[TorchLearner, dict[str, TorchLearner]]:
    """The head of a joint network and its views' own heads, as learners of stage two."""
    head = _read(folder / HEAD)
    names = sorted(p.name for p in (folder / VIEWS).glob("*") if p.is_dir())
    return head, {name: _read(folder / VIEWS / name) for name in names}


class JointStart:
    """What the training starts from: the heads, made once and kept for a resumed training."""

    def __init__(
        self,
        folder: Path,
        mark: str,
        members: Sequence[JointMember],
        data: JointData,
        how: Slices,
        shared: Sequence[SharedNetworks],
        table: FeatureTable | None,
        seed: int,
        device: torch.device,
    ) -> None:
        self._folder, self._mark, self._members, self._data = folder, mark, members, data
        self._how, self._shared, self._table = how, shared, table
        self._seed, self._device = seed, device
        self.looked = 0

    def heads(
        self, settings: JointConfig, start: TorchLearner | None, task: MakeTask
    ) -> tuple[TorchLearner, dict[str, nn.Linear]]:
        """The head, and the own heads of views that need one beside the network's classifier."""
        record = self._folder / "mark.json"
        if not record.exists() or read_json(record) != self._mark:
            shutil.rmtree(self._folder, ignore_errors=True)
            learner = copied_learner(start) if start is not None else None
            singles: dict[str, MLPLearner] = {}
            if learner is None:
                joined = self._features(task)
                rows = self._data.train, self._data.inner
                learner = first_learner(
                    settings.learner, settings.options, joined, self._data.labels, rows, self._seed
                )
            wanted = settings.auxiliary and not has_own_heads(learner)
            needing = [one for one in self._members if wanted and not self._knows(one)]
            if needing:
                singles = self._probed(needing, task)
            write_heads(self._folder, learner, singles)
            write_json(record, self._mark)
        learner, kept = read_heads(self._folder)
        own = {view: self._linear(one) for view, one in kept.items()}
        if settings.auxiliary and not has_own_heads(learner):
            for one in self._members:
                if self._knows(one):
                    own[one.view.name] = one.network.head
                elif self._by_classifier(one):
                    self._put(one.network, own[one.view.name])
                    own[one.view.name] = one.network.head
        return learner, own

    def module(self, learner: TorchLearner, own: Mapping[str, nn.Module]) -> MultiView:
        """Bodies and head as one network."""
        fitted = learner.fitted
        widths = _widths(learner, self._data.views)
        bodies = {
            one.view.name: Body(
                one.network,
                one.view.network.layer,
                one.view.network.pooling,
                own.get(one.view.name),
            )
            for one in self._members
        }
        module = MultiView(
            widths,
            bodies,
            fitted.net,
            torch.from_numpy(fitted.scaler.mean),
            torch.from_numpy(fitted.scaler.std),
            how=self._how,
            shared=self._shared,
        )
        module.to(self._device)
        return module.eval()

    def _features(self, task: MakeTask) -> FeatureTable:
        """Features of all studies by the networks as they are, taken once."""
        if self._table is None:
            data = self._data
            bodies = {
                one.view.name: Body(one.network, one.view.network.layer, one.view.network.pooling)
                for one in self._members
            }
            blind = MultiView(
                dict.fromkeys(data.views, 0),
                bodies,
                nn.Identity(),
                torch.zeros(0),
                torch.ones(0),
                how=self._how,
                shared=self._shared,
            ).to(self._device)
            phase = JointPhase(task(blind, TorchHeadLosses(0.0)), 0)
            studies = np.arange(len(data.labels))
            seen = phase.features(studies)
            self.looked = phase.inputs(studies)
            blocks = {v: data.fixed[v] if v in data.fixed else seen[v] for v in data.views}
            shapes = {v: b.shape[1:] for v, b in blocks.items() if b.ndim > 2}
            self._table = table_from_arrays(
                [str(i) for i in studies],
                {v: b.reshape(len(b), -1) for v, b in blocks.items()},
                shapes=shapes,
            )
        return self._table

    def _probed(self, members: Sequence[JointMember], task: MakeTask) -> dict[str, MLPLearner]:
        """A linear head for every view, fitted on its features."""
        table, data, found = self._features(task), self._data, {}
        for one in members:
            targets, columns = own_columns(data.labels, one.view.labels)
            own = _vectors(table.only([one.view.name]), one.view.network.pooling)
            there = np.flatnonzero(own.presence[:, 0])
            labels = Labels(targets, data.labels.values[:, list(columns)])
            train, inner = (np.intersect1d(there, part) for part in (data.train, data.inner))
            learner = linear_learner()
            with_labels = own.select(inner), labels.select(inner)
            learner.fit(
                own.select(train),
                labels.select(train),
                validation=with_labels if len(inner) else None,
                seed=self._seed,
            )
            found[one.view.name] = learner
        return found

    def _linear(self, learner: TorchLearner) -> nn.Linear:
        assert isinstance(learner, MLPLearner)
        weight, bias = linear_of(learner)
        with seeded(derived_seed(self._seed, "own"), torch.device("cpu")):
            made = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            made.weight.copy_(weight)
            made.bias.copy_(bias)
        return made.to(self._device)

    def _put(self, network: Network, own: nn.Module) -> None:
        network.head.load_state_dict(own.state_dict())

    def _by_classifier(self, one: JointMember) -> bool:
        """Whether what the view's features are is what its classifier sees."""
        targets, _ = own_columns(self._data.labels, one.view.labels)
        width = sum(len(target.outputs) for target in targets)
        return one.view.network.layer == AUTO and one.network.outputs == width

    def _knows(self, one: JointMember) -> bool:
        return one.trained and self._by_classifier(one)


def _vectors(table: FeatureTable, pooling: str) -> FeatureTable:
    """A view's features as one vector a study: of maps the mean over their places."""
    (view,) = table.views
    shape = table.shape(view)
    if len(shape) == 1:
        return table
    maps = table.matrix().reshape(-1, *shape)
    tokens = len(shape) == 2 and pooling == "map"
    vectors = maps.mean(1) if tokens else maps.reshape(len(maps), shape[0], -1).mean(2)
    return table_from_arrays([str(s) for s in table.studies], {view: vectors})


def _widths(learner: TorchLearner, views: Sequence[str]) -> dict[str, int]:
    layout = learner.fitted.layout
    if "widths" in layout:
        return dict(zip(views, layout["widths"], strict=True))
    return dict.fromkeys(views, int(np.prod(layout["shape"])))


def joint_view(one: JointMember, labels: Labels) -> JointView:
    targets, columns = own_columns(labels, one.view.labels)
    return JointView(one.view, one.network, one.images, one.owner, targets, columns)


def write_heads(folder: Path, head: TorchLearner, singles: Mapping[str, TorchLearner]) -> None:
    for place in (folder / HEAD, folder / VIEWS):
        shutil.rmtree(place, ignore_errors=True)
    _write(folder / HEAD, head)
    for view, learner in singles.items():
        _write(folder / VIEWS / view, learner)


def _write(folder: Path, learner: TorchLearner) -> None:
    folder.mkdir(parents=True)
    learner.save(folder)
    write_json(folder / "learner.json", learner.name)


def _read(folder: Path) -> TorchLearner:
    name = str(read_json(folder / "learner.json"))
    return joinable(find_learner(name).load(folder), name)
