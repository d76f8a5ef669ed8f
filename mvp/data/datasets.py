"""Training images of one view as batches, kept in memory when they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mvp.data.loading import load_ahead
from mvp.data.readers import Limits
from mvp.data.transforms import Transform
from mvp.errors import ImageError
from mvp.types import IntArray


@dataclass(eq=False)
class ImageSet:
    """The training images of one view; every one of them must be readable.

    Attributes:
        files: paths; row i of everything else belongs to files[i].
        transform: the deterministic preparation.
        limits: what one file may cost.
        workers: decoding threads.
        memory_bytes: prepared images are kept when all of them fit into this.
    """

    files: Sequence[str]
    transform: Transform
    limits: Limits = field(default_factory=Limits)
    workers: int = 2
    memory_bytes: int = 2 << 30
    _kept: Tensor | None = field(default=None, init=False, repr=False)
    _filled: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = (len(self.files), self.transform.channels, *[self.transform.config.size] * 2)
        if int(np.prod(shape)) * 4 <= self.memory_bytes:
            self._kept = torch.empty(shape)
        self._filled = np.zeros(len(self.files), bool)

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, order: IntArray, size: int) -> Iterator[Tensor]:
        """(n, channels, H, W) float32 in [0, 1], rows in the given order, the last batch smaller.

        Raises:
            ImageError: an image that was readable when the data were checked no longer is.
        """
        order = np.asarray(order, dtype=np.int64)
        missing = [int(i) for i in order if not self._filled[i]]
        if self._kept is not None:
            missing = list(dict.fromkeys(missing))  # the second time it comes from memory
        # Decided here once: another iterator may fill the memory while this one is under way.
        coming = set(missing)
        decoded = load_ahead(
            (self.files[i] for i in missing), self.transform, self.limits, self.workers, 2 * size
        )
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield torch.stack([self._image(int(i), decoded, coming) for i in rows])

    def _image(
        self, index: int, decoded: Iterator[Tensor | ImageError], coming: set[int]
    ) -> Tensor:
        if self._kept is not None and index not in coming:
            return self._kept[index]
        image = next(decoded)
        if isinstance(image, ImageError):
            raise image
        if self._kept is not None:
            self._kept[index] = image
            self._filled[index] = True
            coming.discard(index)
        return image

    def finish(self, batch: Tensor) -> Tensor:
        """Normalise a batch to the network's (N, 3, H, W)."""
        return self.transform.finish(batch)
