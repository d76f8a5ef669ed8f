"""The learning-rate range test: how the loss goes while the rate climbs."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from mvp.config import TrainingConfig
from mvp.errors import ConfigError, MvpError
from mvp.training.checkpoint import copied
from mvp.training.division import Share, share_of
from mvp.training.objective import Loss, Objective
from mvp.training.optimizer import make_optimizer, set_cycle
from mvp.training.precision import make_scaler, mixed, require_precision
from mvp.training.processes import Processes
from mvp.training.schedule import MOMENTA, derived_seed, seeded
from mvp.training.step import add_gradients, change_weights, share_gradients
from mvp.types import IntArray

LOWEST, HIGHEST = 1e-7, 10.0
SMOOTHING = 0.95
# It diverges where the smoothed loss is so many times the smallest one.
DIVERGED = 4.0
FEWEST = 10
SETTLING = 0.2

Drawn = Generator[tuple[IntArray, Share, Callable[[], Loss]], None, None]


@dataclass(frozen=True)
class RangeTest:
    """What a range test found.

    Attributes:
        rates: of each step, climbing.
        losses: per known label, of each step.
        smoothed: their running mean, corrected for its start.
        steepest: the rate where the smoothed loss falls fastest; None where it never falls.
        tenth: a tenth of the rate where the smoothed loss is smallest.
        diverged: whether the loss exploded before the highest rate.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    steepest: float | None
    tenth: float
    diverged: bool

    @property
    def suggestion(self) -> float:
        """The steepest descent, but no more than a tenth of the minimum's rate."""
        return self.tenth if self.steepest is None else min(self.steepest, self.tenth)


def range_test(
    objective: Objective,
    settings: TrainingConfig,
    steps: int,
    seed: int,
    device: torch.device,
    done: Callable[[], None] = lambda: None,
) -> RangeTest:
    """Train while the learning rate climbs from 1e-7 to 10, and put the network back.

    Smith 2017 (arXiv:1506.01186) proposed the test; the exponential climb, the smoothing and the
    end at four times the smallest loss are fastai's. The momentum stays at its middle. Groups of
    `training.rates` keep their factors.

    Args:
        objective: the phase that is tested.
        settings: as in training.
        steps: at most; it goes through the rows again where an epoch has fewer.
        seed: of the rows' order and all other chance.
        device: where the network lives.
        done: called after every step.

    Raises:
        ConfigError: so few steps say nothing.
        MvpError: the loss is not finite at the smallest rates.
    """
    if steps < FEWEST:
        raise ConfigError(
            f"{steps} steps are too few to say anything of the learning rate",
            remedy=f"ask for at least {FEWEST}",
        )
    require_precision(settings.precision, device)
    before = copied(objective.state())
    try:
        return _climb(objective, settings, steps, seed, device, done)
    finally:
        objective.module.eval()
        objective.module.load_state_dict(before, strict=False)
        objective.module.zero_grad(set_to_none=True)


def _climb(
    objective: Objective,
    settings: TrainingConfig,
    steps: int,
    seed: int,
    device: torch.device,
    done: Callable[[], None],
) -> RangeTest:
    optimizer = make_optimizer(objective.groups(), settings)
    # What mvp.toml calls the rate; the first group's own may have a factor.
    whole = objective.phase == "all"
    peak = settings.learning_rate if whole else settings.head_learning_rate
    precision = settings.precision if whole else "float32"
    scaler = make_scaler(precision, device)
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    coming = _losses(objective, settings, steps)
    try:
        for step, (rows, share, draw) in enumerate(coming):
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / max(steps - 1, 1))
            set_cycle(optimizer, rate / peak, sum(MOMENTA) / 2)
            optimizer.zero_grad()
            known = objective.known(rows)

            def one(number: int, step: int = step, draw: Callable[[], Loss] = draw) -> Loss:
                layers = derived_seed(seed, "range test", step, number)
                with seeded(layers, device), mixed(precision, device):
                    return draw()

            parts = add_gradients(one, share, known, scaler)
            taken = share_gradients(optimizer, parts, share, Processes())
            loss = taken.loss / max(known, 1)
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            level = mean / (1 - SMOOTHING ** (step + 1))
            if not math.isfinite(loss) or (step > 0 and level > DIVERGED * min(smoothed)):
                return _found(rates, losses, smoothed, diverged=True)
            rates.append(rate)
            losses.append(loss)
            smoothed.append(level)
            change_weights(optimizer, settings.clip, scaler)
            done()
    finally:
        coming.close()
    return _found(rates, losses, smoothed, diverged=False)


def _losses(objective: Objective, settings: TrainingConfig, steps: int) -> Drawn:
    """Rows of each step, their parts, and what gives the loss of the next part."""
    epoch, left = 0, steps
    while left:
        rows: list[IntArray] = objective.steps(epoch)[:left]
        shares = [share_of(objective, one, Processes(), settings.accumulate) for one in rows]
        losses: Iterator[Loss] = objective.losses(epoch, [p for s in shares for p in s.parts])
        try:
            for one, share in zip(rows, shares, strict=True):
                yield one, share, partial(next, losses)
        finally:
            if close := getattr(losses, "close", None):
                close()
        left -= len(rows)
        epoch += 1


def _found(
    rates: list[float], losses: list[float], smoothed: list[float], *, diverged: bool
) -> RangeTest:
    if len(rates) < FEWEST:
        raise MvpError(
            f"the learning-rate test ended after {len(rates)} steps, too few to say anything",
            cause="the loss explodes at the smallest rates, or is not finite",
            remedy="look at weights and images with `mvp check`, or ask for more --steps",
        )
    values = np.array(smoothed)
    slopes = np.gradient(values, np.log(rates))
    # The first means are of a few losses each, and jump; after the minimum nothing descends.
    first = math.ceil(SETTLING * len(rates))
    lowest = first + int(values[first:].argmin())
    steepest = first + int(slopes[first : lowest + 1].argmin())
    return RangeTest(
        rates=rates,
        losses=losses,
        smoothed=smoothed,
        steepest=rates[steepest] if slopes[steepest] < 0 else None,
        tenth=rates[lowest] / 10,
        diverged=diverged,
    )
