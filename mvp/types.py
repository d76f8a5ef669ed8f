"""What flows between the rooms: targets and labels, with their shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
TextArray = NDArray[Any]

# The name that stands where a fold's could, of what no fold is held out from.
UNFOLDED = "all"
# What stands for all of them where rows go by pattern of views, or by class.
EVERY_PATTERN, EVERY_CLASS = "all patterns", "all classes"


@dataclass(frozen=True)
class Target:
    """One label to predict.

    A binary target has no `classes` and one output, the probability that it is true. A
    multi-class target has one output per class.
    """

    name: str
    classes: tuple[str, ...] = ()

    @property
    def multiclass(self) -> bool:
        """Whether exactly one of several classes holds."""
        return bool(self.classes)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the probability columns: `name`, or `name=class` for each class."""
        return tuple(f"{self.name}={c}" for c in self.classes) if self.classes else (self.name,)


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of some studies.

    Attributes:
        targets: what the columns mean, in order.
        values: (study, target) float32; 0 or 1, a class index, or NaN for unknown.
    """

    targets: tuple[Target, ...]
    values: FloatArray

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.targets):
            raise ValueError(
                f"labels have shape {self.values.shape}, expected (study, {len(self.targets)})"
            )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of all probability columns, in order."""
        return tuple(name for target in self.targets for name in target.outputs)

    @property
    def known(self) -> BoolArray:
        """(study, target): True where the label is known."""
        return ~np.isnan(self.values)

    def select(self, rows: ArrayLike) -> Labels:
        """The labels of some rows, in that order."""
        return Labels(self.targets, self.values[np.asarray(rows)])

    def only(self, columns: Sequence[int]) -> Labels:
        """The same studies with some of the targets, by number, in that order."""
        kept = list(columns)
        return Labels(tuple(self.targets[i] for i in kept), self.values[:, kept])


def output_slices(targets: Sequence[Target]) -> list[slice]:
    """For each target, where its outputs stand among all output columns."""
    slices, start = [], 0
    for target in targets:
        slices.append(slice(start, start + len(target.outputs)))
        start += len(target.outputs)
    return slices


def one_hot(labels: Labels) -> FloatArray:
    """(study, output) float32: every output as its own 0/1 column, NaN for unknown.

    A binary target is its own column; a multi-class target becomes one-versus-rest columns.
    """
    columns = []
    for index, target in enumerate(labels.targets):
        value = labels.values[:, index]
        if not target.multiclass:
            columns.append(value)
            continue
        for position in range(len(target.classes)):
            hit = (value == position).astype(np.float32)
            columns.append(np.where(np.isnan(value), np.float32(np.nan), hit))
    if not columns:
        return np.empty((len(labels), 0), np.float32)
    return np.stack(columns, axis=1).astype(np.float32)
