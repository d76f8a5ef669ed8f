"""What one phase of training minimises, as the loop sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

from mvp.training.checkpoint import Tensors
from mvp.training.monitor import Score
from mvp.types import IntArray, Labels

Phase = Literal["head", "all"]


@dataclass(frozen=True, eq=False)
class Group:
    """Parameters that share a learning rate.

    Attributes:
        name: for the history and for errors, as "head".
        parameters: those that are fitted.
        rate: their learning rate at the peak of the cycle.
        setting: the name of the setting that gives the rate, for errors.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    rate: float
    setting: str


@dataclass(frozen=True, eq=False)
class Loss:
    """The loss of some rows.

    Attributes:
        total: summed over their known labels, not yet divided by how many these are.
        inputs: images and slices that went through the whole network for it.
        logits: (N, output) of the part's rows, for the metrics of training; None gives none.
        labels: (N, target) of the same rows.
    """

    total: Tensor
    inputs: int
    logits: Tensor | None = None
    labels: Labels | None = None


class Objective(Protocol):
    """One phase: which rows make a step, what they cost, and how good the network is.

    A step is what one change of the weights is made from. The loop may divide its rows into parts
    (to spare memory, or among processes); the sum of the parts' losses is the step's. So nothing
    random may depend on which rows stand in a part together: chance is drawn for each row by
    itself, from the seed, the epoch and the row. (Dropout is the network's own, and drawn for a
    part.) Every part goes through the same modules, because batch norm waits for all processes.
    """

    @property
    def phase(self) -> Phase:
        """Its name."""
        ...

    @property
    def epochs(self) -> int:
        """How many at most."""
        ...

    @property
    def module(self) -> nn.Module:
        """What holds all parameters and buffers that the phase changes."""
        ...

    @property
    def patience_from(self) -> int:
        """The epoch from which on patience counts: before it, not all has been fitted yet."""
        ...

    def groups(self) -> list[Group]:
        """The parameters that are fitted; the first group's rate is the history's."""
        ...

    def state(self) -> Tensors:
        """The tensors that the phase changes, by their names in `module`; not copied."""
        ...

    def steps(self, epoch: int) -> list[IntArray]:
        """The rows of every step of an epoch, in order; the same whenever it is asked."""
        ...

    def parts(self, rows: IntArray, number: int) -> list[IntArray]:
        """A step's rows in up to `number` parts of about the same number of inputs, in order."""
        ...

    def inputs(self, rows: IntArray) -> int:
        """How many inputs some rows are."""
        ...

    def least_inputs(self, rows: IntArray) -> int:
        """The fewest inputs that any of the phase's networks is given of some rows."""
        ...

    def known(self, rows: IntArray) -> int:
        """How many labels of some rows are known."""
        ...

    def losses(self, epoch: int, parts: Sequence[IntArray]) -> Iterator[Loss]:
        """The loss of each part in turn, with gradients; the next part is read ahead.

        What stands in no part is not read: after an interruption within an epoch only the parts
        that are left are asked for.

        Modules that are fitted are in training mode while it runs, and in evaluation mode
        afterwards, also after an exception.
        """
        ...

    def forget(self) -> None:
        """Let go of what was kept from step to step; called when the phase has ended."""
        ...

    def judge(self) -> tuple[Score, int]:
        """What the inner rows say, and how many inputs went through the network to tell."""
        ...
