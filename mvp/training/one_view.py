"""The two phases of one view's training: the head on features taken once, then the network."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mvp.networks import summed_loss
from mvp.networks.bags import forward_bags
from mvp.training.checkpoint import Tensors
from mvp.training.groups import Frozen, frozen_part, network_groups
from mvp.training.monitor import Score, score
from mvp.training.objective import Group, Loss, Phase
from mvp.training.schedule import derived_seed
from mvp.training.source import divided, in_parts, steps_of
from mvp.training.task import Task, look
from mvp.types import IntArray


class HeadPhase:
    """A new head on the frozen network, whose features are computed once."""

    phase: Phase = "head"
    patience_from = 0

    def __init__(self, task: Task, epochs: int) -> None:
        self.task, self.epochs = task, epochs
        self._seen: tuple[Tensor, Tensor] | None = None
        self._looked = 0

    @property
    def module(self) -> nn.Module:
        """The whole network; only its head changes."""
        return self.task.network.module

    def groups(self) -> list[Group]:
        """The head."""
        rate = self.task.view.training.head_learning_rate
        head = list(self.task.network.head.parameters())
        return [Group("head", head, rate, "training.head_learning_rate")]

    def state(self) -> Tensors:
        """The head alone: the same seed or file builds the body again."""
        classifier = f"{self.task.network.classifier}."
        everything = self.module.state_dict()
        return {n: v for n, v in everything.items() if n.startswith(classifier)}

    def steps(self, epoch: int) -> list[IntArray]:
        """Shuffled rows, `batch_size` at a time; a volume is one row of features here."""
        order = shuffled(self.task, "head", epoch)
        return steps_of(order, None, self.task.view.training.step_size)

    def parts(self, rows: IntArray, number: int) -> list[IntArray]:
        """See `Objective`."""
        return divided(rows, None, number)

    def known(self, rows: IntArray) -> int:
        """See `Objective`."""
        return known_labels(self.task, rows)

    def inputs(self, rows: IntArray) -> int:
        """Rows of features."""
        return len(rows)

    def least_inputs(self, rows: IntArray) -> int:
        """See `Objective`."""
        return self.inputs(rows)

    def losses(self, epoch: int, parts: Sequence[IntArray]) -> Generator[Loss, None, None]:
        """See `Objective`; nothing goes through the network."""
        task = self.task
        seen, _ = self._features()
        place = np.full(len(task.labels), -1)
        place[task.train] = np.arange(len(task.train))
        for rows in parts:
            logits = task.network.head(seen[torch.from_numpy(place[rows]).to(seen.device)])
            inputs, self._looked = self._looked, 0
            yield _loss(task, logits, rows, inputs)

    def forget(self) -> None:
        """The features of all rows, which would lie in a GPU's memory until the end."""
        self._seen = None

    def judge(self) -> tuple[Score, int]:
        """See `Objective`."""
        with torch.no_grad():
            logits = self.task.network.head(self._features()[1])
        return inner_score(self.task, logits), 0

    def _features(self) -> tuple[Tensor, Tensor]:
        if self._seen is None:
            task = self.task
            self._seen = look(task, task.train)[0], look(task, task.inner)[0]
            # Counted once, by the process that had a share of all of them.
            if task.processes.first:
                self._looked = task.inputs(task.train) + task.inputs(task.inner)
        return self._seen


class NetworkPhase:
    """The whole network."""

    phase: Phase = "all"
    patience_from = 0

    def __init__(self, task: Task, epochs: int) -> None:
        self.task, self.epochs = task, epochs
        self._frozen: Frozen | None = None

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.task.network.module

    @property
    def frozen(self) -> Frozen:
        """What of it is not fitted (`training.freeze`)."""
        if self._frozen is None:
            view = self.task.view
            self._frozen = frozen_part(self.task.network, view.training.freeze, view.name)
        return self._frozen

    def groups(self) -> list[Group]:
        """What is fitted, by `training.rates`."""
        view, frozen = self.task.view, self.frozen.parameters
        return network_groups(self.task.network, view.training, view.name, frozen)

    def start_training(self) -> None:
        """Put what is fitted into training mode; batch norm that is frozen stays as it is."""
        self.module.train()
        self.frozen.keep_still()

    def state(self) -> Tensors:
        """Everything."""
        return dict(self.module.state_dict())

    def steps(self, epoch: int) -> list[IntArray]:
        """Shuffled rows, `batch_size` inputs at a time."""
        order = shuffled(self.task, "all", epoch)
        return steps_of(order, self.task.images.counts, self.task.view.training.step_size)

    def parts(self, rows: IntArray, number: int) -> list[IntArray]:
        """See `Objective`; a volume is never divided."""
        return divided(rows, self.task.images.counts, number)

    def known(self, rows: IntArray) -> int:
        """See `Objective`."""
        return known_labels(self.task, rows)

    def inputs(self, rows: IntArray) -> int:
        """See `Objective`."""
        return self.task.inputs(rows)

    def least_inputs(self, rows: IntArray) -> int:
        """See `Objective`."""
        return self.inputs(rows)

    def losses(self, epoch: int, parts: Sequence[IntArray]) -> Generator[Loss, None, None]:
        """See `Objective`."""
        task, network = self.task, self.task.network
        size = task.view.training.step_size
        self.start_training()
        try:
            batches = in_parts(task.images, parts, size)
            for rows, batch in zip(parts, batches, strict=True):
                counts = task.counts(rows)
                seeds = [derived_seed(task.seed, "augment", epoch, int(row)) for row in rows]
                changed = task.images.augment(task.to_device(batch), seeds, counts)
                logits = self._logits(task.to_network(changed), counts)
                network.require_logits(logits, len(rows))
                yield _loss(task, logits, rows, len(batch))
        finally:
            network.module.eval()

    def forget(self) -> None:
        """Nothing is kept."""

    def judge(self) -> tuple[Score, int]:
        """See `Objective`."""
        task = self.task
        return inner_score(task, look(task, task.inner)[1]), task.inputs(task.inner)

    def _logits(self, inputs: Tensor, counts: IntArray | None) -> Tensor:
        network = self.task.network
        if counts is None:
            return network.forward(inputs)
        return forward_bags(network, inputs, counts, self.task.view.training.slices)


def shuffled(task: Task, phase: Phase, epoch: int) -> IntArray:
    """The training rows in an epoch's order."""
    chance = torch.Generator().manual_seed(derived_seed(task.seed, phase, epoch, "rows"))
    return task.train[torch.randperm(len(task.train), generator=chance).numpy()]


def known_labels(task: Task, rows: IntArray) -> int:
    """How many labels of some rows are known."""
    return int(np.isfinite(task.labels.values[rows]).sum())


def inner_score(task: Task, logits: Tensor) -> Score:
    """The score of logits (N, output) of the inner rows."""
    return score(logits, task.labels.select(task.inner), task.pos_weight)


def _loss(task: Task, logits: Tensor, rows: IntArray, inputs: int) -> Loss:
    total = summed_loss(logits, task.values(rows), task.labels.targets, task.pos_weight)
    return Loss(total, inputs, logits.detach(), task.labels.select(rows))
