"""Several views' networks and one head, trained together on studies that may lack some views."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mvp.networks import summed_loss
from mvp.training.checkpoint import Tensors
from mvp.training.groups import HEAD
from mvp.training.joint_groups import body_groups, frozen_bodies
from mvp.training.joint_inputs import JointInputs
from mvp.training.joint_task import JointTask, JointView, Term
from mvp.training.monitor import Score, score
from mvp.training.objective import Group, Loss, Phase
from mvp.training.schedule import derived_seed
from mvp.training.source import steps_of
from mvp.types import FloatArray, IntArray


class JointPhase:
    """Bodies and head at once; see `Objective`. A row is a study.

    The loss of a step is that of the head, and `auxiliary` times those of the views' own heads,
    each summed over the known labels of the studies with that view; as in the AuxLoss model of
    Hashir, Bertrand and Cohen 2020 (arXiv:2002.02582). What no study of a step has is not
    computed, and its parameters keep still, momentum and weight decay notwithstanding.

    Args:
        task: what is trained on what.
        epochs: at most.
    """

    phase: Phase = "all"

    def __init__(self, task: JointTask, epochs: int) -> None:
        self.task, self.epochs = task, epochs
        self.patience_from = task.thaw
        self._shown = JointInputs(task)
        self._epoch = 0
        self._lucks: tuple[int, Tensor] | None = None
        networks = {one.view.name: one.network for one in task.views}
        self._frozen = frozen_bodies(networks, task.settings.freeze)
        if task.thaw:
            self._want_gradients(True)

    @property
    def module(self) -> nn.Module:
        """Bodies, head and the views' own heads."""
        return self.task.module

    def groups(self) -> list[Group]:
        """Each body's parameters by its name and `rates`, then those of the heads."""
        settings = self.task.settings
        networks = {one.view.name: one.network for one in self.task.views}
        frozen = {} if self.task.thaw else self._frozen
        found = body_groups(networks, settings, frozen)
        module = self.task.module
        heads = [*module.head.parameters(), *module.own.parameters()]
        rate = settings.head_learning_rate * settings.rates.get(HEAD, 1.0)
        heads = [p for p in heads if p.requires_grad]
        return [*found, Group(HEAD, heads, rate, "joint.training.head_learning_rate")]

    def state(self) -> Tensors:
        """Everything."""
        return dict(self.module.state_dict())

    def steps(self, epoch: int) -> list[IntArray]:
        """Shuffled studies, so many that no view has more than `batch_size` inputs in a step."""
        # What parts a step can be divided into depends on the views that are shown in this epoch,
        # and the loop asks for the steps of an epoch before it divides them.
        self._epoch = epoch
        chance = torch.Generator().manual_seed(derived_seed(self.task.seed, "joint", epoch, "rows"))
        order = self.task.train[torch.randperm(len(self.task.train), generator=chance).numpy()]
        return steps_of(order, self.task.deepest, self.task.settings.step_size)

    def parts(self, rows: IntArray, number: int) -> list[IntArray]:
        """See `Objective`; every part has its share of every combination of views.

        Where batch norm is fitted, no part has one input of a view; and of several processes, which
        wait for each other there, all have a view or none.
        """
        if number == 1:
            return [rows]
        patterns = np.unique(self.task.presence[rows], axis=0, return_inverse=True)[1].ravel()
        depth = self.task.inputs[rows].sum(axis=1)
        order = rows[np.lexsort((-depth, patterns))]
        while number > 1:
            found = [part for i in range(number) if len(part := order[i::number])]
            if len(found) == number and self._divides(found):
                return found
            number -= 1
        return [rows]

    def inputs(self, rows: IntArray) -> int:
        """See `Objective`."""
        return int(self.task.inputs[rows].sum())

    def least_inputs(self, rows: IntArray) -> int:
        """See `Objective`; a head with batch norm is a network of its own, of studies."""
        inputs = self.task.inputs[rows].sum(axis=0)
        normed = [n for n, one in zip(inputs, self.task.views, strict=True) if n and _normed(one)]
        return min([*normed, *self._studies_of_heads(rows), *([] if normed else [len(rows) + 1])])

    def known(self, rows: IntArray) -> int:
        """See `Objective`."""
        return int(np.isfinite(self.task.labels.values[rows]).sum())

    def losses(self, epoch: int, parts: Sequence[IntArray]) -> Generator[Loss, None, None]:
        """See `Objective`."""
        task = self.task
        self._want_gradients(bool(task.thaw) and epoch >= task.thaw)
        self._start_training(epoch)
        try:
            for rows, batch in zip(parts, self._shown.batches(parts, epoch), strict=True):
                seen = task.module.look(batch, len(rows), self._shown.fixed(rows))
                shown = task.losses.shown(seen.presence, self._luck(rows, epoch))
                terms = task.losses.terms(task.module.head, seen.features, shown)
                values = torch.from_numpy(task.labels.values[rows]).to(task.device)
                total = self._of_head(terms, values) + self._of_views(seen.own, values)
                said = task.losses.logits(task.module.head, terms, shown).detach()
                yield Loss(total, self.inputs(rows), said, task.labels.select(rows))
        finally:
            self.module.eval()

    def forget(self) -> None:
        """Nothing is kept."""

    def judge(self) -> tuple[Score, int]:
        """See `Objective`."""
        task = self.task
        said = self.said(task.inner)
        return score(said, task.labels.select(task.inner), task.pos_weight), self.inputs(task.inner)

    def said(self, studies: IntArray) -> Tensor:
        """(study, output) logits of some studies, without chance and without changing anything."""
        task = self.task
        depth = np.ones(len(task.labels)) if task.deepest is None else task.deepest
        share = np.cumsum(depth[studies]) * task.processes.number
        owner = np.minimum((share - 1) // depth[studies].sum(), task.processes.number - 1)
        mine = studies[owner == task.processes.rank]
        parts = steps_of(mine, task.deepest, task.settings.step_size) if len(mine) else []
        before = task.module.training
        task.module.eval()
        found = []
        try:
            with torch.inference_mode():
                for rows, batch in zip(parts, self._shown.batches(parts, None), strict=True):
                    found.append(task.module(batch, len(rows), self._shown.fixed(rows)))
        finally:
            task.module.train(before)
        width = len(task.labels.outputs)
        # Joined outside: tensors made in inference mode cannot take part in training.
        logits = torch.cat(found) if found else torch.zeros(0, width, device=task.device)
        return task.processes.rows(logits, int((owner < task.processes.rank).sum()), len(studies))

    def features(self, studies: IntArray) -> dict[str, FloatArray]:
        """For each body (study, ...) what it sees of some studies, NaN where they lack the view."""
        task, module = self.task, self.task.module
        parts = steps_of(studies, task.deepest, task.settings.step_size)
        found: dict[str, list[tuple[IntArray, FloatArray]]] = {v.view.name: [] for v in task.views}
        before, start = module.training, 0
        module.eval()
        try:
            with torch.inference_mode():
                for rows, batch in zip(parts, self._shown.batches(parts, None), strict=True):
                    for view, seen in module.features(batch).items():
                        values = seen.values.float().cpu().numpy()
                        found[view].append((seen.rows.cpu().numpy() + start, values))
                    start += len(rows)
        finally:
            module.train(before)
        # In the order of the steps, which is that of the studies.
        result = {}
        for view, pieces in found.items():
            shape = pieces[0][1].shape[1:] if pieces else (0,)
            result[view] = np.full((len(studies), *shape), np.nan, np.float32)
            for rows, values in pieces:
                result[view][rows] = values
        return result

    def _of_head(self, terms: Sequence[Term], values: Tensor) -> Tensor:
        task, total = self.task, values.new_zeros(())
        for term in terms:
            logits, own = term.logits, values
            if term.rows is not None:
                logits, own = logits[term.rows], values[term.rows]
            total = total + term.weight * summed_loss(
                logits, own, task.labels.targets, task.pos_weight
            )
        return total

    def _of_views(self, own: Mapping[str, tuple[Tensor, Tensor]], values: Tensor) -> Tensor:
        task, total = self.task, values.new_zeros(())
        for one in task.views if task.auxiliary else ():
            if one.view.name not in own:
                continue
            rows, logits = own[one.view.name]
            columns = list(one.columns)
            total = total + task.auxiliary * summed_loss(
                logits, values[rows][:, columns], one.targets, task.pos_weight[columns]
            )
        return total

    def _luck(self, rows: IntArray, epoch: int) -> Tensor:
        """(row, view) in [0, 1), drawn for each study by itself."""
        if self._lucks is None or self._lucks[0] != epoch:
            task = self.task
            every = torch.zeros(len(task.labels), len(task.module.widths))
            for row in task.train:
                chance = torch.Generator().manual_seed(
                    derived_seed(task.seed, "views", epoch, int(row))
                )
                every[row] = torch.rand(every.shape[1], generator=chance)
            self._lucks = epoch, every
        return self._lucks[1][torch.from_numpy(rows)].to(self.task.device)

    def _whole(self, rows: IntArray) -> int:
        """How many of some studies show all their views to the head in this epoch, and have all."""
        presence = torch.from_numpy(self.task.presence[rows]).to(self.task.device)
        shown = self.task.losses.shown(presence, self._luck(rows, self._epoch))
        return int(shown.all(dim=1).sum())

    def _want_gradients(self, thawed: bool) -> None:
        for frozen in self._frozen.values():
            for parameter in frozen.parameters:
                parameter.requires_grad_(thawed)

    def _start_training(self, epoch: int) -> None:
        """Training mode for what is fitted; batch norm that is frozen keeps its statistics."""
        self.module.train()
        if not (self.task.thaw and epoch >= self.task.thaw):
            for frozen in self._frozen.values():
                frozen.keep_still()

    def _divides(self, parts: Sequence[IntArray]) -> bool:
        if any(self.least_inputs(part) < 2 for part in parts):
            return False
        if self.task.processes.number == 1:
            return True
        views = {self.task.presence[part].any(axis=0).tobytes() for part in parts}
        whole = {bool(self._whole(part)) for part in parts}
        return len(views) == len(whole) == 1

    def _studies_of_heads(self, rows: IntArray) -> list[int]:
        """For a head with batch norm how many studies go through it: all, and those with all views.

        Which of the two counts is the head's business, so both do.
        """
        if not any(isinstance(m, _BatchNorm) for m in self.task.module.head.modules()):
            return []
        whole = self._whole(rows)
        return [len(rows), *([whole] if whole else [])]


def _normed(one: JointView) -> bool:
    return any(isinstance(m, _BatchNorm) for m in one.network.module.modules())
