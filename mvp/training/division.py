"""Which rows of a step go through the network together, and in which process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mvp.training.objective import Objective
from mvp.training.processes import Processes
from mvp.types import IntArray


@dataclass(frozen=True, eq=False)
class Share:
    """What one process does of one step.

    Attributes:
        rows: all of the step's.
        parts: its own, as they go through the network one after another.
        first: number of its first part among those of all processes.
        start: where its rows begin among the step's.
        copies: how many processes do these very rows.
    """

    rows: IntArray
    parts: list[IntArray]
    first: int
    start: int
    copies: int


def share_of(objective: Objective, rows: IntArray, processes: Processes, accumulate: int) -> Share:
    """A process's share of a step.

    All processes have the same number of parts, since batch norm waits for all of them in each.
    A step with too few rows for that is done whole by every process, and its gradient shared out.

    Args:
        objective: whose step it is.
        rows: of the step.
        processes: that do it together.
        accumulate: into how many parts each process divides its rows at most; fewer where a part
            would have a single input, which batch norm cannot be trained on.
    """
    owners = objective.parts(rows, processes.number)
    copies = 1
    if len(owners) < processes.number:
        owners, copies = [rows] * processes.number, processes.number
    parts = _divided(objective, owners, accumulate, alone=processes.number == 1)
    rank = processes.rank
    return Share(
        rows=rows,
        parts=parts[rank],
        first=0 if copies > 1 else rank * len(parts[rank]),
        start=0 if copies > 1 else sum(len(own) for own in owners[:rank]),
        copies=copies,
    )


def _divided(
    objective: Objective, owners: Sequence[IntArray], most: int, alone: bool
) -> list[list[IntArray]]:
    for number in range(most, 1, -1):
        found = [objective.parts(rows, number) for rows in owners]
        if any(len(parts) < number for parts in found):
            continue
        if not alone or all(objective.least_inputs(part) > 1 for part in found[0]):
            return found
    return [[np.asarray(rows)] for rows in owners]
