"""Training inputs of one view as batches, kept in memory when they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mvp.data.augment import Augmentation
from mvp.data.inputs import Inputs
from mvp.data.loading import Request
from mvp.errors import ImageError
from mvp.types import IntArray


@dataclass(eq=False)
class InputSet:
    """What one view's network is trained on; every bit of it must be readable.

    Attributes:
        requests: a file or text for every row; several instances of a file make the row a bag.
        inputs: how they are read and prepared.
        augmentation: random changes while training; None makes none.
        workers: decoding threads.
        memory_bytes: prepared inputs are kept when all of them fit into this.
        counts: (row,) inputs that each row is made of; None where every row is one.
    """

    requests: Sequence[Request]
    inputs: Inputs
    augmentation: Augmentation | None = None
    workers: int = 2
    memory_bytes: int = 2 << 30
    counts: IntArray | None = field(default=None, init=False, repr=False)
    _kept: Tensor | None = field(default=None, init=False, repr=False)
    _filled: np.ndarray = field(init=False, repr=False)
    _starts: IntArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sizes = np.array([len(request.instances) for request in self.requests], np.int64)
        self.counts = None if (sizes == 1).all() else sizes
        self._starts = np.cumsum([0, *sizes])
        one = self.inputs.synthetic()[0]
        if int(self._starts[-1]) * one.nbytes <= self.memory_bytes:
            self._kept = torch.empty((int(self._starts[-1]), *one.shape), dtype=one.dtype)
        self._filled = np.zeros(len(sizes), bool)

    def __len__(self) -> int:
        return len(self.requests)

    def batches(self, order: IntArray, size: int) -> Iterator[Tensor]:
        """The inputs of some rows, a row's slices in order, `size` at a time, the last fewer.

        Gives (n, ...) as `inputs` prepares them: images (n, channels, H, W) float32 in [0, 1].

        Raises:
            ImageError: an input that was readable when the data were checked no longer is.
        """
        order = np.asarray(order, dtype=np.int64)
        missing = [int(i) for i in order if not self._filled[i]]
        if self._kept is not None:
            missing = list(dict.fromkeys(missing))  # the second time it comes from memory
        # Decided here once: another iterator may fill the memory while this one is under way.
        coming = set(missing)
        decoded = self.inputs.load((self.requests[i] for i in missing), self.workers, 2 * size)
        batch: list[Tensor] = []
        for row in order:
            for one in self._row(int(row), decoded, coming):
                batch.append(one)
                if len(batch) == size:
                    yield torch.stack(batch)
                    batch = []
        if batch:
            yield torch.stack(batch)

    def _row(
        self, row: int, decoded: Iterator[Tensor | ImageError], coming: set[int]
    ) -> Iterator[Tensor]:
        start, stop = self._starts[row], self._starts[row + 1]
        if self._kept is not None and row not in coming:
            yield from self._kept[start:stop]
            return
        for place in range(start, stop):
            one = next(decoded)
            if isinstance(one, ImageError):
                raise one
            if self._kept is not None:
                self._kept[place] = one
            yield one
        if self._kept is not None:
            self._filled[row] = True
            coming.discard(row)

    def augment(
        self,
        batch: Tensor,
        seeds: Sequence[int],
        counts: IntArray | None,
        places: Sequence[int] | None = None,
    ) -> Tensor:
        """Change a batch at random, all slices of one bag alike; see `Augmentation`."""
        if self.augmentation is None:
            return batch
        return self.augmentation(batch, seeds, counts, places)

    def finish(self, batch: Tensor, channels: int) -> Tensor:
        """A batch as the network takes it: of images (N, channels, H, W), normalised."""
        return self.inputs.preparation.finish(batch, channels)
