"""One epoch after another of a phase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tqdm import tqdm

from mvp.training.batch_norm import shared_batch_norm
from mvp.training.checkpoint import Checkpoint, Epoch, copied
from mvp.training.division import Share, share_of
from mvp.training.monitor import Score
from mvp.training.objective import Loss, Objective
from mvp.training.optimizer import (
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_cycle,
)
from mvp.training.precision import make_scaler, mixed, restore_scaler, scaler_tensors
from mvp.training.schedule import derived_seed, one_cycle, seeded
from mvp.training.step import Taken, add_gradients, change_weights, share_gradients
from mvp.training.window import Window

if TYPE_CHECKING:
    from mvp.training.loop import Loop

BAR_SECONDS = 1.0


class Epochs:
    """The epochs of one phase; `Loop` says when they end.

    Args:
        loop: what runs them.
        objective: the phase.
        bar: that is moved on.
    """

    def __init__(self, loop: Loop, objective: Objective, bar: tqdm) -> None:
        self.loop, self.objective, self.bar = loop, objective, bar
        self.optimizer = make_optimizer(objective.groups(), loop.settings)
        # The head alone is a single product: nothing would be spared.
        self.precision = loop.settings.precision if objective.phase == "all" else "float32"
        self.scaler = make_scaler(self.precision, loop.device)
        start, self.window = loop.resumed()
        if start is not None:
            restore_optimizer(self.optimizer, start.optimizer)
            restore_scaler(self.scaler, start.scaler)
        self.steps = [len(objective.steps(number)) for number in range(objective.epochs)]
        self._told = 0.0

    def one(self) -> None:
        """One pass over the training rows, judgement, a line of the history, a checkpoint."""
        loop, progress, objective = self.loop, self.loop.progress, self.objective
        started = time.monotonic()
        try:
            self._pass()
            found, inputs = objective.judge()
        finally:
            objective.module.eval()
        found = Score(**loop.processes.told(vars(found)))
        progress.images_seen += inputs
        loop.require_finite(found.loss, objective)
        recent = self.window.recent()
        share, _ = self._cycle(self.steps[progress.done] - 1)
        loop.tell(
            Epoch(
                phase=objective.phase,
                epoch=progress.done + 1,
                learning_rate=share * objective.groups()[0].rate,
                train_loss=progress.loss_sum / max(progress.known_sum, 1),
                inner_loss=found.loss,
                inner_auroc=found.auroc,
                seconds=time.monotonic() - started,
                train_auroc=recent.auroc,
                train_accuracy=recent.accuracy,
                inner_aurocs=found.aurocs,
            )
        )
        self._finish(found)
        self.bar.set_postfix(loss=f"{found.loss:.4f}", auroc=_short(found.auroc), refresh=False)
        self.bar.update()

    def _pass(self) -> None:
        """The steps of the epoch that are left."""
        loop, progress, objective = self.loop, self.loop.progress, self.objective
        rows = objective.steps(progress.done)[progress.step :]
        shares = [
            share_of(objective, one, loop.processes, loop.settings.accumulate) for one in rows
        ]
        parts = [part for share in shares for part in share.parts]
        losses = objective.losses(progress.done, parts)
        try:
            for share in shares:
                known = objective.known(share.rows)
                taken = self._step(losses, share, known)
                progress.images_seen += taken.inputs
                progress.loss_sum += taken.loss
                progress.known_sum += known
                progress.step += 1
                self.window.add(taken, known)
                self._show()
                loop.keep(self._checkpoint, within_epoch=True)
            next(losses, None)  # to its end, which leaves training mode
        finally:
            # An exception's traceback would keep it open, and its files with it.
            if close := getattr(losses, "close", None):
                close()

    def _step(self, losses: Iterator[Loss], share: Share, known: int) -> Taken:
        loop, progress = self.loop, self.loop.progress

        def one(number: int) -> Loss:
            what = (self.objective.phase, progress.done, progress.step, number, "layers")
            with ExitStack() as stack:
                # Dropout and stochastic depth read the global generator.
                stack.enter_context(seeded(derived_seed(loop.seed, *what), loop.device))
                stack.enter_context(mixed(self.precision, loop.device))
                stack.enter_context(shared_batch_norm(loop.processes, share.copies))
                return next(losses)

        set_cycle(self.optimizer, *self._cycle(progress.step))
        self.optimizer.zero_grad()
        done = add_gradients(one, share, known, self.scaler)
        taken = share_gradients(self.optimizer, done, share, loop.processes)
        loop.require_finite(taken.loss, self.objective)
        change_weights(self.optimizer, loop.settings.clip, self.scaler)
        return taken

    def _cycle(self, step: int) -> tuple[float, float]:
        before = sum(self.steps[: self.loop.progress.done])
        return one_cycle(before + step, sum(self.steps), 1.0)

    def _finish(self, found: Score) -> None:
        loop, progress = self.loop, self.loop.progress
        progress.done += 1
        progress.stale += 1
        progress.step, progress.loss_sum, progress.known_sum = 0, 0.0, 0
        self.window = Window(loop.settings.window)
        if found.beats(progress.best_loss, progress.best_auroc, loop.settings.monitor):
            progress.best_epoch = len(progress.history)
            progress.best_loss, progress.best_auroc = found.loss, found.auroc
            progress.stale = 0
            loop.best = copied(self.objective.state())
        loop.keep(self._checkpoint, within_epoch=False)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            self.loop.progress,
            self.objective.state(),
            self.loop.best,
            optimizer_tensors(self.optimizer),
            scaler_tensors(self.scaler),
            self.window.tensors(),
        )

    def _show(self) -> None:
        now = time.monotonic()
        if self.bar.disable or now - self._told < BAR_SECONDS:
            return
        self._told = now
        recent = self.window.recent()
        step = f"{self.loop.progress.step}/{self.steps[self.loop.progress.done]}"
        shown = {"auroc": _short(recent.auroc), "accuracy": _short(recent.accuracy)}
        self.bar.set_postfix(step=step, loss=_short(recent.loss), **shown)


def _short(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
