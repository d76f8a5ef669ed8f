"""The two phases of several views that are trained together: shared layers, one loss.

A row of a group is a row of one of its views. The views' rows stand one after another in one
index: those of the first view keep their numbers, those of the next follow.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing

import numpy as np
import torch
from torch import Tensor, nn

from mvp.networks import summed_loss
from mvp.networks.bags import forward_bags, reducing_bags
from mvp.networks.sharing import ALL, SharedNetworks
from mvp.training.checkpoint import Tensors
from mvp.training.monitor import Score
from mvp.training.objective import Group, Loss, Phase
from mvp.training.one_view import HeadPhase, NetworkPhase, known_labels, shuffled
from mvp.training.schedule import derived_seed
from mvp.training.source import divided, in_parts
from mvp.training.task import Task
from mvp.types import IntArray


class _Several:
    """What both phases have in common.

    Args:
        tasks: one a view, in order; views with layers in common have them in their networks.
        phases: the same phase of each view by itself.
    """

    patience_from = 0

    def __init__(
        self, tasks: Sequence[Task], phases: Sequence[HeadPhase] | Sequence[NetworkPhase]
    ) -> None:
        self.tasks = list(tasks)
        self._phases: list[HeadPhase | NetworkPhase] = list(phases)
        self._starts = np.cumsum([0, *(len(task.labels) for task in tasks)])
        # A view's name alone may be the name of a method.
        self._names = [f"{task.view.name}:" for task in tasks]
        members = dict(zip(self._names, (task.network.module for task in tasks), strict=True))
        self.module: nn.Module = nn.ModuleDict(members)
        self.epochs = phases[0].epochs

    def groups(self) -> list[Group]:
        """The views' parameters; those that are shared stand once, with the first view."""
        found: list[Group] = []
        seen: set[int] = set()
        for task, phase in zip(self.tasks, self._phases, strict=True):
            for group in phase.groups():
                own = [p for p in group.parameters if id(p) not in seen]
                seen.update(id(p) for p in own)
                if own:
                    name = f"{task.view.name} {group.name}"
                    found.append(Group(name, own, group.rate, group.setting))
        return found

    def state(self) -> Tensors:
        """The tensors that the views' phases change; those that are shared once."""
        found: Tensors = {}
        places: set[int] = set()
        for name, phase in zip(self._names, self._phases, strict=True):
            for key, value in phase.state().items():
                if value.data_ptr() not in places or not value.numel():
                    found[f"{name}.{key}"] = value
                    places.add(value.data_ptr())
        return found

    def parts(self, rows: IntArray, number: int) -> list[IntArray]:
        """See `Objective`; every part has its share of every view that the step has."""
        views = self._by_view(rows)
        while True:
            pieces = {v: divided(own, self._counts(v), number) for v, own in views.items()}
            fewest = min(len(parts) for parts in pieces.values())
            if fewest == number:
                break
            number = fewest
        shifted = ([p + self._starts[v] for p in parts] for v, parts in pieces.items())
        return [np.concatenate(part) for part in zip(*shifted, strict=True)]

    def least_inputs(self, rows: IntArray) -> int:
        """See `Objective`; a view's tail is a network of its own."""
        return min(self._inputs(view, own) for view, own in self._by_view(rows).items())

    def inputs(self, rows: IntArray) -> int:
        """See `Objective`."""
        return sum(self._inputs(view, own) for view, own in self._by_view(rows).items())

    def forget(self) -> None:
        """See `Objective`."""
        for phase in self._phases:
            phase.forget()

    def known(self, rows: IntArray) -> int:
        """See `Objective`."""
        return sum(known_labels(self.tasks[v], own) for v, own in self._by_view(rows).items())

    def judge(self) -> tuple[Score, int]:
        """The mean of the views' scores: losses per known label, AUROCs where they are defined."""
        found = [phase.judge() for phase in self._phases]
        known = [known_labels(task, task.inner) for task in self.tasks]
        loss = sum(score.loss * n for (score, _), n in zip(found, known, strict=True))
        areas = [score.auroc for score, _ in found if score.auroc is not None]
        mean = float(np.mean(areas)) if areas else None
        named = {
            f"{task.view.name} {output}": area
            for task, (score, _) in zip(self.tasks, found, strict=True)
            for output, area in score.aurocs.items()
        }
        total = Score(loss / max(sum(known), 1), mean, named)
        return total, sum(inputs for _, inputs in found)

    def steps(self, epoch: int) -> list[IntArray]:
        """Rows of all views in proportion, about `batch_size` inputs in every step.

        A view with few rows is left out of some steps rather than be there with one input alone,
        on which batch norm cannot be trained.
        """
        inputs = [self._inputs(view, task.train) for view, task in enumerate(self.tasks)]
        number = max(1, round(sum(inputs) / self.tasks[0].view.training.step_size))
        places: list[list[IntArray]] = [[] for _ in range(number)]
        for view, task in enumerate(self.tasks):
            order = shuffled(task, self._phases[view].phase, epoch)
            parts = min(number, max(1, inputs[view] // 2), len(order))
            pieces = self._without_single(view, divided(order, self._counts(view), parts))
            for i, part in enumerate(pieces):
                places[i * number // len(pieces)].append(part + self._starts[view])
        return [np.concatenate(place) for place in places if place]

    def _without_single(self, view: int, parts: list[IntArray]) -> list[IntArray]:
        """A part of one input joins its neighbour."""
        joined: list[IntArray] = []
        for part in parts:
            if joined and 1 in (self._inputs(view, joined[-1]), self._inputs(view, part)):
                joined[-1] = np.concatenate([joined[-1], part])
            else:
                joined.append(part)
        return joined

    def _by_view(self, rows: IntArray) -> dict[int, IntArray]:
        """View to its own rows' numbers, in order; only views that have some."""
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        return {int(v): rows[owner == v] - self._starts[v] for v in np.unique(owner)}

    def _counts(self, view: int) -> IntArray | None:
        """What a row of a view weighs in this phase."""
        return self.tasks[view].images.counts

    def _inputs(self, view: int, rows: IntArray) -> int:
        counts = self._counts(view)
        return len(rows) if counts is None else int(counts[rows].sum())


class SeveralHeads(_Several):
    """Each view's new head on its own features, or one head on the features of all.

    Args:
        tasks: one a view.
        epochs: at most.
    """

    phase: Phase = "head"

    def __init__(self, tasks: Sequence[Task], epochs: int) -> None:
        super().__init__(tasks, [HeadPhase(task, epochs) for task in tasks])

    def losses(self, epoch: int, parts: Sequence[IntArray]) -> Generator[Loss, None, None]:
        """See `Objective`; nothing goes through the networks."""
        rows = [self._by_view(part) for part in parts]
        with ExitStack() as stack:
            coming = {}
            for view, phase in enumerate(self._phases):
                own = [by_view[view] for by_view in rows if view in by_view]
                if own:
                    coming[view] = stack.enter_context(closing(phase.losses(epoch, own)))
            for by_view in rows:
                found = [next(coming[view]) for view in by_view]
                total = torch.stack([one.total for one in found]).sum()
                yield Loss(total, sum(one.inputs for one in found))

    def _counts(self, view: int) -> IntArray | None:
        # A volume is one row of features here.
        return None


class SeveralNetworks(_Several):
    """The whole networks, what is shared once.

    Args:
        tasks: one a view.
        epochs: at most.
        shared: the tasks' networks.
    """

    phase: Phase = "all"

    def __init__(self, tasks: Sequence[Task], epochs: int, shared: SharedNetworks) -> None:
        self._networks = [NetworkPhase(task, epochs) for task in tasks]
        super().__init__(tasks, self._networks)
        self._shared = shared

    def losses(self, epoch: int, parts: Sequence[IntArray]) -> Generator[Loss, None, None]:
        """See `Objective`."""
        rows = [self._by_view(part) for part in parts]
        size = self.tasks[0].view.training.step_size
        coming = {}
        for view, task in enumerate(self.tasks):
            own = [by_view[view] for by_view in rows if view in by_view]
            coming[view] = in_parts(task.images, own, size)
        for phase in self._networks:
            phase.start_training()
        try:
            for by_view in rows:
                inputs = {
                    view: self._changed(view, own, next(coming[view]), epoch)
                    for view, own in by_view.items()
                }
                logits = self._logits(inputs, by_view)
                total = torch.stack(
                    [self._loss(view, logits[view], own) for view, own in by_view.items()]
                ).sum()
                yield Loss(total, sum(len(batch) for batch in inputs.values()))
        finally:
            self.module.eval()

    def _changed(self, view: int, rows: IntArray, batch: Tensor, epoch: int) -> Tensor:
        task = self.tasks[view]
        seeds = [derived_seed(task.seed, "augment", epoch, int(row)) for row in rows]
        changed = task.images.augment(task.to_device(batch), seeds, task.counts(rows))
        return task.to_network(changed)

    def _logits(
        self, inputs: Mapping[int, Tensor], rows: Mapping[int, IntArray]
    ) -> dict[int, Tensor]:
        """View to logits (row, output)."""
        names = {view: self.tasks[view].view.name for view in inputs}
        counts = {view: self.tasks[view].counts(rows[view]) for view in inputs}
        bags = any(one is not None for one in counts.values())
        if bags and self._shared.layer == ALL:
            return self._one_for_bags(inputs, rows, counts)
        with ExitStack() as stack:
            for view, one in counts.items():
                if one is not None:
                    task = self.tasks[view]
                    how = task.view.training.slices
                    stack.enter_context(reducing_bags(task.network, one, how))
            logits = self._shared.forward({names[v]: batch for v, batch in inputs.items()})
        found = {view: logits[name] for view, name in names.items()}
        for view, own in found.items():
            self.tasks[view].network.require_logits(own, len(rows[view]))
        return found

    def _one_for_bags(
        self,
        inputs: Mapping[int, Tensor],
        rows: Mapping[int, IntArray],
        counts: Mapping[int, IntArray | None],
    ) -> dict[int, Tensor]:
        """All views' images and volumes as bags of one network; an image is a bag of one."""
        task = self.tasks[0]
        sizes = [
            np.ones(len(rows[view]), np.int64) if one is None else one
            for view, one in counts.items()
        ]
        everything = torch.cat(list(inputs.values()))
        logits = forward_bags(
            task.network, everything, np.concatenate(sizes).tolist(), task.view.training.slices
        )
        task.network.require_logits(logits, sum(len(own) for own in rows.values()))
        parts = logits.split([len(own) for own in rows.values()])
        return dict(zip(rows, parts, strict=True))

    def _loss(self, view: int, logits: Tensor, rows: IntArray) -> Tensor:
        task = self.tasks[view]
        return summed_loss(logits, task.values(rows), task.labels.targets, task.pos_weight)
