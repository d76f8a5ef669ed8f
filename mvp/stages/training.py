"""The two phases of fine-tuning: the head on cached features, then the whole network."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from mvp.errors import MvpError
from mvp.networks import masked_loss
from mvp.networks.bags import forward_bags
from mvp.stages._checkpoint import Checkpoint, Epoch, Progress, Tensors
from mvp.stages._monitor import Score, score
from mvp.stages._optimizer import adamw, optimizer_tensors, restore_optimizer, take_step
from mvp.stages._schedule import derived_seed, one_cycle, seeded
from mvp.stages._task import Task, batches, look, rows_per_batch, steps_per_epoch
from mvp.types import IntArray

Phase = Literal["head", "all"]


class Training:
    """Runs the phases, and can go on from a checkpoint.

    Args:
        task: what is trained on what.
        checkpoint: where to go on from; None starts.
        save: called with a checkpoint after every epoch.
    """

    def __init__(
        self, task: Task, checkpoint: Checkpoint | None, save: Callable[[Checkpoint], None]
    ) -> None:
        self.task = task
        self.progress = checkpoint.progress if checkpoint else Progress()
        self.best: Tensors = checkpoint.best if checkpoint else {}
        self._optimizer_state = checkpoint.optimizer if checkpoint else {}
        self._save = save
        self._clock = time.monotonic()
        if checkpoint:
            task.network.module.load_state_dict(checkpoint.model, strict=False)

    def run(self, head_epochs: int) -> bool:
        """Run what is left of both phases and put the best weights into the network.

        Returns:
            Whether the last phase ended before its last epoch.
        """
        training, progress = self.task.view.training, self.progress
        if progress.phase == "head" and self._unfinished(head_epochs):
            self._train_head(head_epochs)
        if progress.phase == "head":
            early = progress.done < head_epochs
            self._take_best()
            progress.phase, progress.done, progress.stale = "all", 0, 0
            self._optimizer_state = {}
            if progress.best_epoch:
                self.best = _copy(self.task.network.module.state_dict())
            if not training.epochs:
                return early
        if self._unfinished(training.epochs):
            self._train_all(training.epochs)
        self._take_best()
        return progress.done < training.epochs

    def _unfinished(self, epochs: int) -> bool:
        return (
            self.progress.done < epochs and self.progress.stale < self.task.view.training.patience
        )

    def _take_best(self) -> None:
        self.task.network.module.load_state_dict(self.best, strict=False)

    def _train_head(self, epochs: int) -> None:
        task, head = self.task, self.task.network.head
        seen, _ = look(task, task.train)
        seen_inner, _ = look(task, task.inner)
        self.progress.images_seen += task.inputs(task.train) + task.inputs(task.inner)
        known = task.values(task.train)
        size = task.view.training.batch_size

        def epoch(number: int) -> Iterator[tuple[IntArray, Tensor]]:
            shuffle = _generator(task.seed, "head", number)
            for rows in torch.randperm(len(seen), generator=shuffle).split(size):
                part = rows.to(seen.device)
                loss = masked_loss(
                    head(seen[part]), known[part], task.labels.targets, task.pos_weight
                )
                yield task.train[rows.numpy()], loss

        def judge() -> Score:
            with torch.no_grad():
                return self._score(head(seen_inner))

        rate = task.view.training.head_learning_rate
        steps = [math.ceil(len(seen) / size)] * epochs
        self._loop("head", epochs, head, rate, steps, epoch, judge)

    def _train_all(self, epochs: int) -> None:
        task, network = self.task, self.task.network
        size = task.view.training.batch_size

        def epoch(number: int) -> Iterator[tuple[IntArray, Tensor]]:
            order, chance = self._shuffled(number)
            network.module.train()
            for rows, batch in batches(task.images, order, size):
                counts = task.counts(rows)
                changed = task.images.augment(batch.to(task.device), chance, counts)
                logits = self._logits(task.to_network(changed), counts)
                network.require_logits(logits, len(rows))
                self.progress.images_seen += len(batch)
                yield (
                    rows,
                    masked_loss(logits, task.values(rows), task.labels.targets, task.pos_weight),
                )

        def judge() -> Score:
            self.progress.images_seen += task.inputs(task.inner)
            return self._score(look(task, task.inner)[1])

        rate = task.view.training.learning_rate
        try:
            self._loop("all", epochs, network.module, rate, self._steps(epochs), epoch, judge)
        finally:
            network.module.eval()

    def _shuffled(self, epoch: int) -> tuple[IntArray, torch.Generator]:
        """The training rows in an epoch's order, and the generator of its other chances."""
        chance = _generator(self.task.seed, "all", epoch)
        rows = self.task.train
        return rows[torch.randperm(len(rows), generator=chance).numpy()], chance

    def _steps(self, epochs: int) -> list[int]:
        """Batches of every epoch: of volumes they depend on which of them meet."""
        task, size = self.task, self.task.view.training.batch_size
        if task.images.counts is None:
            return [steps_per_epoch(len(task.train), size)] * epochs
        counts = [task.counts(self._shuffled(number)[0]) for number in range(epochs)]
        return [len(rows_per_batch(c, size)) for c in counts if c is not None]

    def _logits(self, inputs: Tensor, counts: IntArray | None) -> Tensor:
        network = self.task.network
        if counts is None:
            return network.forward(inputs)
        return forward_bags(network, inputs, counts, self.task.view.training.slices)

    def _score(self, logits: Tensor) -> Score:
        return score(logits, self.task.labels.select(self.task.inner), self.task.pos_weight)

    def _loop(
        self,
        phase: Phase,
        epochs: int,
        trained: nn.Module,
        peak: float,
        steps: Sequence[int],
        epoch: Callable[[int], Iterator[tuple[IntArray, Tensor]]],
        judge: Callable[[], Score],
    ) -> None:
        """Epochs of one phase: steps along the cycle, then judgement, then a checkpoint.

        Args:
            phase: its name.
            epochs: how many at most.
            trained: the part of the network whose parameters are fitted.
            peak: learning rate.
            steps: of each epoch.
            epoch: gives the rows and the loss of each batch of an epoch.
            judge: the inner rows' score.
        """
        task, progress, config = self.task, self.progress, self.task.view.training
        optimizer = adamw(trained, config.weight_decay)
        restore_optimizer(optimizer, self._optimizer_state)
        bar = tqdm(
            total=epochs,
            initial=progress.done,
            desc=f"{task.view.name} {phase}",
            unit="epoch",
            file=sys.stderr,
            disable=not task.progress_bar,
        )
        with bar:
            while self._unfinished(epochs):
                started, number = time.monotonic(), progress.done
                total, known, rate = 0.0, 0, 0.0
                # Dropout and stochastic depth read the global generator.
                with seeded(derived_seed(task.seed, phase, number, "layers"), task.device):
                    for step, (rows, loss) in enumerate(epoch(number), start=sum(steps[:number])):
                        rate, beta = one_cycle(step, sum(steps), peak)
                        value = float(loss.detach())
                        self._require_finite(value, phase, number)
                        take_step(optimizer, trained, loss, rate, beta, config.clip)
                        labels = int(np.isfinite(task.labels.values[rows]).sum())
                        total, known = total + value * labels, known + labels
                found = judge()
                self._require_finite(found.loss, phase, number)
                seconds = time.monotonic() - started
                progress.history.append(
                    Epoch(phase, number + 1, rate, total / known, found.loss, found.auroc, seconds)
                )
                self._finish_epoch(phase, found, optimizer)
                bar.set_postfix(loss=f"{found.loss:.4f}", auroc=_short(found.auroc), refresh=False)
                bar.update()

    def _finish_epoch(self, phase: Phase, found: Score, optimizer: Optimizer) -> None:
        progress, network = self.progress, self.task.network
        progress.done += 1
        progress.stale += 1
        model = dict(network.module.state_dict())
        if phase == "head":
            # The body has not changed; the same seed or file builds it again.
            model = {n: v for n, v in model.items() if n.startswith(f"{network.classifier}.")}
        monitor = self.task.view.training.monitor
        if found.beats(progress.best_loss, progress.best_auroc, monitor):
            progress.best_epoch = len(progress.history)
            progress.best_loss, progress.best_auroc = found.loss, found.auroc
            progress.stale = 0
            self.best = _copy(model)
        now = time.monotonic()
        progress.seconds += now - self._clock
        self._clock = now
        self._save(Checkpoint(progress, model, self.best, optimizer_tensors(optimizer)))

    def _require_finite(self, loss: float, phase: Phase, number: int) -> None:
        if not math.isfinite(loss):
            setting = "head_learning_rate" if phase == "head" else "learning_rate"
            raise MvpError(
                f"the loss became {loss} in epoch {number + 1} of phase {phase!r}",
                view=self.task.view.name,
                cause="the learning rate is too high for this network, or its weights or images "
                "are not finite",
                remedy=f"lower training.{setting}, for instance tenfold",
            )


def _generator(seed: int, phase: Phase, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed(seed, phase, epoch, "rows"))


def _copy(tensors: Tensors) -> Tensors:
    return {name: value.detach().clone() for name, value in tensors.items()}


def _short(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
