"""Epochs of a phase: steps along the cycle, then judgement, with checkpoints on the way."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import torch
from tqdm import tqdm

from mvp.config import TrainingConfig
from mvp.errors import MvpError
from mvp.training.checkpoint import Checkpoint, Epoch, Progress, Tensors, copied
from mvp.training.epochs import Epochs
from mvp.training.monitor import Score
from mvp.training.objective import Objective
from mvp.training.precision import require_precision
from mvp.training.processes import Processes
from mvp.training.window import Window


class Loop:
    """Runs phases one after another, and can go on from a checkpoint.

    Args:
        name: of the view, for bars and errors.
        settings: how to train.
        seed: all chance comes from it.
        device: where the networks live.
        checkpoint: where to go on from; None starts.
        save: called with a checkpoint after every epoch, and every `training.checkpoint_minutes`
            within one; by the first process alone.
        progress_bar: whether to show one.
        processes: that train together.
        on_epoch: called with every line of the history when its epoch is done, by the first
            process alone.

    Raises:
        ConfigError: the precision cannot be had on this device.
    """

    def __init__(
        self,
        name: str,
        settings: TrainingConfig,
        seed: int,
        device: torch.device,
        checkpoint: Checkpoint | None,
        save: Callable[[Checkpoint], None],
        progress_bar: bool,
        *,
        processes: Processes | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> None:
        require_precision(settings.precision, device)
        self.name, self.settings, self.seed, self.device = name, settings, seed, device
        self.processes = processes or Processes()
        self.progress = checkpoint.progress if checkpoint else Progress()
        self.best: Tensors = checkpoint.best if checkpoint else {}
        self._save, self._on_epoch = save, on_epoch
        self._progress_bar = progress_bar and self.processes.first
        self._start = checkpoint
        self._clock = self._saved = time.monotonic()
        self._window = Window(settings.window)

    def run(self, head: Objective | None, network: Objective, *, keep_start: bool = False) -> bool:
        """Run what is left of both phases and put the best weights into the network.

        Args:
            head: of the head alone; None where it needs none.
            network: of everything.
            keep_start: judge the start of the last phase too, and keep it where nothing beats it.

        Returns:
            Whether the last phase ended before its last epoch.
        """
        progress = self.progress
        if self._start is not None:
            network.module.load_state_dict(self._start.model, strict=False)
        if head is None:
            progress.phase = "all"
        elif progress.phase == "head":
            self._phase(head)
            early = progress.done < head.epochs
            head.module.load_state_dict(self.best, strict=False)
            head.forget()
            progress.phase, progress.done, progress.stale = "all", 0, 0
            self._start = None
            if progress.best_epoch:
                self.best = copied(network.state())
            if not network.epochs:
                return early
        if keep_start and progress.best_loss is None:
            self._judge_start(network)
        self._phase(network)
        network.module.load_state_dict(self.best, strict=False)
        return progress.done < network.epochs

    def _judge_start(self, objective: Objective) -> None:
        found, inputs = objective.judge()
        found = Score(**self.processes.told(vars(found)))
        self.require_finite(found.loss, objective)
        self.progress.images_seen += inputs
        self.progress.best_loss, self.progress.best_auroc = found.loss, found.auroc
        self.progress.start_loss, self.progress.start_auroc = found.loss, found.auroc
        self.best = copied(objective.state())

    def _unfinished(self, objective: Objective) -> bool:
        progress = self.progress
        stale = min(progress.stale, progress.done - objective.patience_from)
        return progress.done < objective.epochs and stale < self.settings.patience

    def _phase(self, objective: Objective) -> None:
        if not self._unfinished(objective):
            return
        bar = tqdm(
            total=objective.epochs,
            initial=self.progress.done,
            desc=f"{self.name} {objective.phase}",
            unit="epoch",
            file=sys.stderr,
            disable=not self._progress_bar,
        )
        with bar:
            run = Epochs(self, objective, bar)
            while self._unfinished(objective):
                run.one()

    def require_finite(self, loss: float, objective: Objective) -> None:
        """Raise an MvpError where a loss is no number, which names the setting to lower."""
        if not math.isfinite(loss):
            setting = max(objective.groups(), key=lambda group: group.rate).setting
            raise MvpError(
                f"the loss became {loss} in epoch {self.progress.done + 1} of phase "
                f"{objective.phase!r}",
                view=self.name,
                cause="the learning rate is too high for this network, or its weights or images "
                "are not finite",
                remedy=f"lower {setting}, for instance tenfold",
            )

    def keep(self, checkpoint: Callable[[], Checkpoint], *, within_epoch: bool) -> None:
        """Save a checkpoint; within an epoch only when the last one is old enough."""
        now = time.monotonic()
        if within_epoch and now - self._saved < 60 * self.settings.checkpoint_minutes:
            return
        self.progress.seconds += now - self._clock
        self._clock = self._saved = now
        if self.processes.first:
            self._save(checkpoint())

    def tell(self, epoch: Epoch) -> None:
        """Put an epoch into the history."""
        self.progress.history.append(epoch)
        if self._on_epoch is not None and self.processes.first:
            self._on_epoch(epoch)

    def resumed(self) -> tuple[Checkpoint | None, Window]:
        """The checkpoint that the running phase goes on from, and the window of its epoch."""
        start, self._start = self._start, None
        if start is not None:
            self._window.restore(start.window)
        return start, self._window
