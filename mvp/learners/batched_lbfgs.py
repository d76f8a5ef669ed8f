"""L-BFGS for many independent convex problems at once, which share their evaluations."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
_MEMORY = 10
_ARMIJO = 1e-4
# Of the loss: what float32 cannot tell apart.
_NOISE = 2e-7
_MOST_HALVINGS = 25
# Problems that are done stay in the arrays until they are so large a part of them.
_IDLE = 0.25


def minimise(
    evaluate: Evaluate, start: Tensor, tolerance: float, max_evaluations: int
) -> tuple[Tensor, Tensor, int]:
    """Minimise smooth convex functions, each of a column of its own.

    Liu and Nocedal (1989), Mathematical Programming 45, 503-528, with a step for every column
    that shrinks until its loss falls enough (Armijo). A column that has to shrink its step waits
    for nobody: all columns that still run are evaluated together, each at its own point.

    Args:
        evaluate: values (column,) and gradients (row, column) at some columns' points (row,
            column), which are named by number (column,).
        start: (row, column) float32.
        tolerance: a column is done when no component of its gradient is larger.
        max_evaluations: at most.

    Returns:
        (row, column) where they are least, (column,) which reached the tolerance, and the number
        of evaluations.
    """
    result, reached = start.clone(), torch.zeros(start.shape[1], dtype=torch.bool)
    which = torch.arange(start.shape[1], device=start.device)
    if not len(which):
        return result, reached, 0
    state = _State(which, start, *evaluate(start, which))
    used = 1
    while True:
        small = state.gradient.abs().amax(dim=0) <= tolerance
        done = small | state.stuck
        if used >= max_evaluations:
            done = torch.ones_like(done)
        if done.all() or done.float().mean() > _IDLE:
            finished = state.which[done]
            result[:, finished] = state.point[:, done]
            reached[finished.cpu()] = small[done].cpu()
            if done.all():
                return result, reached, used
            state.keep(torch.nonzero(~done).squeeze(1))
        trial = state.trial()
        state.step(trial, *evaluate(trial, state.which))
        used += 1


class _State:
    """Points, gradients and histories of the columns that still run."""

    def __init__(self, which: Tensor, point: Tensor, value: Tensor, gradient: Tensor) -> None:
        self.which, self.point = which, point.clone()
        self.value, self.gradient = value, gradient
        self.pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=_MEMORY)
        columns = len(which)
        self.scale = 1 / gradient.norm(dim=0).clamp_min(1)
        self.length = torch.ones(columns, device=point.device)
        self.halvings = torch.zeros(columns, device=point.device)
        self.stuck = torch.zeros(columns, dtype=torch.bool, device=point.device)
        self.direction = -gradient * self.scale

    def keep(self, columns: Tensor) -> None:
        """Go on with some of the columns."""
        self.which = self.which[columns]
        self.point, self.gradient, self.direction = (
            a[:, columns] for a in (self.point, self.gradient, self.direction)
        )
        self.value, self.scale, self.length, self.halvings, self.stuck = (
            a[columns] for a in (self.value, self.scale, self.length, self.halvings, self.stuck)
        )
        pairs = [(s[:, columns], y[:, columns], r[columns]) for s, y, r in self.pairs]
        self.pairs = deque(pairs, maxlen=_MEMORY)

    def trial(self) -> Tensor:
        """Where every column looks next."""
        return self.point + self.direction * self.length

    def step(self, trial: Tensor, value: Tensor, gradient: Tensor) -> None:
        """Take the steps that are good enough, shrink the others."""
        slope = (self.gradient * self.direction).sum(dim=0) * self.length
        enough = self.value + _ARMIJO * slope + _NOISE * self.value.abs().clamp_min(1e-3)
        taken = (value <= enough) & torch.isfinite(value)
        moved = torch.where(taken, trial - self.point, 0)
        change = torch.where(taken, gradient - self.gradient, 0)
        curvature = (moved * change).sum(dim=0)
        useful = taken & (curvature > 1e-10 * moved.square().sum(dim=0).clamp_min(1e-30))
        # A column that learned nothing has a pair that changes nothing.
        inverse = torch.where(useful, 1 / torch.where(useful, curvature, 1), 0)
        self.pairs.append((moved, change, inverse))
        squares = change.square().sum(dim=0)
        self.scale = torch.where(useful, curvature / squares.clamp_min(1e-30), self.scale)
        # The parabola through value, slope and the failed value says how much to shrink.
        bend = 2 * (value - self.value - slope)
        wanted = torch.where(bend > 0, -slope / bend, 0.5).nan_to_num(0.1).clamp(0.1, 0.5)
        self.halvings = torch.where(taken, 0, self.halvings + 1)
        self.stuck = self.halvings >= _MOST_HALVINGS
        self.point = torch.where(taken, trial, self.point)
        self.value = torch.where(taken, value, self.value)
        self.gradient = torch.where(taken, gradient, self.gradient)
        fresh = self._new_direction()
        self.direction = torch.where(taken, fresh, self.direction)
        self.length = torch.where(taken, 1.0, self.length * wanted)

    def _new_direction(self) -> Tensor:
        """The two loops over the pairs of each column."""
        way, along = self.gradient.clone(), []
        for moved, change, inverse in reversed(self.pairs):
            share = inverse * (moved * way).sum(dim=0)
            way -= share * change
            along.append(share)
        way *= self.scale
        for (moved, change, inverse), share in zip(self.pairs, reversed(along), strict=True):
            way += (share - inverse * (change * way).sum(dim=0)) * moved
        return -way
