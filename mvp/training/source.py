"""The inputs of a network by row, and rows in steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mvp.errors import MvpError
from mvp.types import IntArray


class ImageSource(Protocol):
    """The inputs of one view's network, by row: an image, a text, or the slices of a volume."""

    @property
    def counts(self) -> IntArray | None:
        """(row,) inputs that each row is made of; None where every row is one."""
        ...

    def batches(self, order: IntArray, size: int) -> Iterator[Tensor]:
        """(n, ...) the inputs of the rows, one row after another; n is `size`, the last fewer.

        Images are (n, C, H, W) float32 in [0, 1], C of 1 or 3.
        """
        ...

    def augment(
        self,
        batch: Tensor,
        seeds: Sequence[int],
        counts: IntArray | None,
        places: Sequence[int] | None = None,
    ) -> Tensor:
        """Random changes for training, on the batch's own device.

        Args:
            batch: (n, ...) inputs of some rows.
            seeds: one for each row; all chance of a row comes from its own.
            counts: how many inputs each row has; None where every row is one.
            places: for each row a seed of the changes of geometry alone, which other views of the
                study have too; None draws them from `seeds`.
        """
        ...

    def finish(self, batch: Tensor, channels: int) -> Tensor:
        """What the network takes, of images (n, channels, H, W) normalised, after `augment`."""
        ...


def in_parts(images: ImageSource, parts: Sequence[IntArray], size: int) -> Iterator[Tensor]:
    """The inputs of each part in turn, whole, read ahead `size` at a time.

    Raises:
        MvpError: the source gives more or fewer inputs than its rows have.
    """
    if not len(parts):
        return
    counts = images.counts
    wanted = [len(rows) if counts is None else int(counts[rows].sum()) for rows in parts]
    coming = images.batches(np.concatenate(parts), size)
    here: list[Tensor] = []
    held = 0
    for number in wanted:
        while held < number:
            batch = next(coming, None)
            if batch is None:
                raise MvpError(
                    f"the image source gave {held} of the last {number} inputs of its rows"
                )
            here.append(batch)
            held += len(batch)
        joined = here[0] if len(here) == 1 else torch.cat(here)
        yield joined[:number]
        here, held = ([joined[number:]], held - number) if held > number else ([], 0)
    if held or next(coming, None) is not None:
        raise MvpError("the image source gave more inputs than it says its rows have")


def steps_of(order: IntArray, counts: IntArray | None, size: int) -> list[IntArray]:
    """Rows in steps of `size` inputs; a single last input joins the step before it.

    Batch norm cannot be trained on one input, and no row is dropped. A volume is never divided:
    a step is as many whole rows as have `size` inputs together, and one at least.
    """
    if counts is not None:
        numbers = rows_per_batch(counts[order], size)
        return np.split(order, np.cumsum(numbers)[:-1])
    if len(order) > size and len(order) % size == 1:
        return [*_split(order[: -(size + 1)], size), order[-(size + 1) :]]
    return _split(order, size)


def _split(order: IntArray, size: int) -> list[IntArray]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def rows_per_batch(counts: IntArray, size: int) -> list[int]:
    """How many of the next rows each batch takes.

    Args:
        counts: (row,) inputs of each, in the order of training.
        size: inputs of a batch; only a batch of one row, or one that a single slice has joined,
            has more.
    """
    batches: list[list[int]] = []
    for count in counts.tolist():
        # No batch of one slice, whichever of the two came first.
        if batches and (sum(batches[-1]) + count <= size or batches[-1] == [1]):
            batches[-1].append(count)
        else:
            batches.append([count])
    if len(batches) > 1 and batches[-1] == [1]:
        batches[-2:] = [[*batches[-2], 1]]
    return [len(rows) for rows in batches]


def divided(rows: IntArray, counts: IntArray | None, number: int) -> list[IntArray]:
    """Rows in up to `number` parts of about the same number of inputs, in order."""
    weights = np.ones(len(rows)) if counts is None else counts[rows].astype(float)
    middles = np.cumsum(weights) - weights / 2
    owner = np.minimum((middles * number / weights.sum()).astype(np.int64), number - 1)
    return [part for i in range(number) if len(part := rows[owner == i])]
