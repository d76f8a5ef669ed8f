"""The joint network: all views' networks and one head trained at once, from what there is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mvp.config import JointConfig
from mvp.config.training import WITHOUT_EFFECT_ON_WEIGHTS, Slices
from mvp.errors import DataError
from mvp.features.table import FeatureTable
from mvp.files import digest_bytes, digest_json
from mvp.learners.torch_base import TorchLearner
from mvp.networks import positive_weights, weights_digest
from mvp.networks.multiview import MultiView
from mvp.networks.sharing import SharedNetworks
from mvp.stages._joint_head import TorchHeadLosses, single_learners
from mvp.stages._joint_start import (
    JointData,
    JointMember,
    JointStart,
    joint_view,
    read_heads,
    write_heads,
)
from mvp.training.joint import JointPhase
from mvp.training.joint_task import JointTask
from mvp.training.monitor import learnable
from mvp.training.processes import Processes
from mvp.training.result import FinetuneResult, result_of
from mvp.training.session import Session

__all__ = ["JointData", "JointMember", "JointResult", "finetune_joint", "read_heads"]

_START = "start"


@dataclass(frozen=True)
class JointResult:
    """How a joint training went.

    Attributes:
        trained: as of one view; `best_epoch` 0 says that the start was kept.
        start_auroc: mean over outputs on the inner studies before any training.
        start_loss: on the inner studies, likewise.
        studies: that it was trained on.
        most_inputs: images and slices of the largest study.
        probe_inputs: images and slices that went through the networks for the head's start.
    """

    trained: FinetuneResult
    start_auroc: float | None
    start_loss: float | None
    studies: int
    most_inputs: int
    probe_inputs: int


def finetune_joint(
    members: Sequence[JointMember],
    data: JointData,
    *,
    settings: JointConfig,
    how: Slices,
    start: TorchLearner | None,
    table: FeatureTable | None,
    folder: Path,
    seed: int,
    device: torch.device,
    shared: Sequence[SharedNetworks] = (),
    progress: bool = True,
    processes: Processes | None = None,
) -> JointResult:
    """Train the views' networks and one head together, and keep the best epoch, or the start.

    The head is one of stage two, or is fitted on features that are taken once; so training starts
    where the two stages end. Each member's folder gets an ordinary network. The joint folder gets
    `head/`, the head as a learner of stage two, and `views/`, the views' own heads, likewise.

    Args:
        members: the views with a body.
        data: labels and parts.
        settings: `[joint]`.
        how: what becomes of several inputs of a study.
        start: a fitted head of stage two on all views; None fits one of `settings.learner`.
        table: features of all studies by the members' networks as they are, where they are at
            hand; else they are taken once, where they are needed.
        folder: of the joint network.
        seed: all chance comes from it.
        device: where to train.
        shared: members' networks with layers in common.
        progress: show bars on stderr.
        processes: that make the same call together; the first one writes.

    Raises:
        ConfigError: the head cannot be trained jointly, or does not fit the networks.
        DataError: no label can be learnt, or no epoch be chosen.
        MvpError: the loss is no longer finite.
    """
    processes = processes or Processes()
    _require_rows(data)
    labels = learnable(data.labels, data.train, data.inner, "joint")
    known = replace(data, labels=labels)
    first = [weights_digest(one.network, without_classifier=False) for one in members]
    for part in [one.module for one in shared] + [one.network.module for one in members]:
        part.to(device)
        part.to(memory_format=torch.channels_last)
        part.eval()
    mark = _mark(members, known, settings, how, start, seed, first)
    weights = positive_weights(labels.select(data.train), settings.training.max_pos_weight)
    views = [joint_view(one, data.labels) for one in members]

    def task(module: MultiView, losses: TorchHeadLosses) -> JointTask:
        return JointTask(
            module=module,
            views=views,
            fixed=data.fixed,
            labels=labels,
            train=data.train,
            inner=data.inner,
            pos_weight=torch.from_numpy(weights).to(device),
            settings=settings.training,
            losses=losses,
            auxiliary=settings.auxiliary,
            together=settings.same_geometry,
            thaw=settings.thaw,
            seed=seed,
            device=device,
            processes=processes,
        )

    begin = JointStart(folder / _START, mark, members, known, how, shared, table, seed, device)
    with processes.first_before_others():
        learner, own = begin.heads(settings, start, task)
    module = begin.module(learner, own)
    whole = JointPhase(
        task(module, TorchHeadLosses(learner.view_dropout)), settings.training.epochs
    )
    session = Session([folder, *(one.folder for one in members)], mark, processes)
    state, early = session.run(
        "joint", settings.training, seed, device, (None, whole), progress, keep_start=True
    )
    trained = learner.with_fitted(replace(learner.fitted, net=module.head))

    def also() -> None:
        write_heads(folder, trained, single_learners(module, views, labels.targets))
        shutil.rmtree(folder / _START, ignore_errors=True)

    session.publish({one.folder: one.network for one in members}, "joint", state, also)
    return JointResult(
        trained=result_of(state, module, session.resumed, early),
        start_auroc=state.start_auroc,
        start_loss=state.start_loss,
        studies=len(data.train),
        most_inputs=int(whole.task.inputs.sum(axis=1).max(initial=0)),
        probe_inputs=begin.looked,
    )


def _require_rows(data: JointData) -> None:
    for name, rows in (("training", data.train), ("inner", data.inner)):
        if not len(rows):
            raise DataError(
                f"there are no {name} studies with a view for the joint network",
                remedy="look with `mvp check`, or give the parts more studies ([split])",
            )


def _mark(
    members: Sequence[JointMember],
    data: JointData,
    settings: JointConfig,
    how: str,
    start: TorchLearner | None,
    seed: int,
    first: Sequence[str],
) -> str:
    """What a checkpoint of the joint network belongs to."""

    def digest(array: np.ndarray) -> str:
        return digest_bytes(np.ascontiguousarray(array).tobytes())

    said = settings.model_dump(mode="json", exclude={"training": set(WITHOUT_EFFECT_ON_WEIGHTS)})
    views = [
        {
            "view": one.view.model_dump(
                mode="json", exclude={"training": True, "network": {"weights"}}
            ),
            "owner": digest(one.owner),
            "counts": None if one.images.counts is None else digest(one.images.counts),
            "trained": one.trained,
        }
        for one in members
    ]
    return digest_json(
        {
            "version": 1,
            "settings": said,
            "views": views,
            "order": list(data.views),
            "how": how,
            "targets": [[t.name, list(t.classes)] for t in data.labels.targets],
            "labels": digest(data.labels.values.astype(np.float32)),
            "train": digest(data.train),
            "inner": digest(data.inner),
            "fixed": {view: digest(values) for view, values in data.fixed.items()},
            "seed": seed,
            "first_weights": list(first),
            "head": None if start is None else _head_digest(start),
        }
    )


def _head_digest(learner: TorchLearner) -> str:
    state: dict[str, Tensor] = learner.fitted.net.state_dict()
    return digest_json(
        [
            [name, digest_bytes(value.detach().cpu().numpy().tobytes())]
            for name, value in state.items()
        ]
        + [digest_bytes(learner.fitted.scaler.mean.tobytes())]
        + [digest_bytes(learner.fitted.scaler.std.tobytes())]
    )
