"""Images of one view as batches: decoded ahead by threads, kept in memory when they fit."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mvp.data.readers import Limits, read_image
from mvp.data.transforms import Transform
from mvp.errors import ImageError
from mvp.files import digest_file
from mvp.types import IntArray


def load(file: str, transform: Transform, limits: Limits, digest: str | None = None) -> Tensor:
    """Read and prepare one image: (channels, size, size) float32 in [0, 1].

    Args:
        file: path.
        transform: how it is prepared.
        limits: what it may cost.
        digest: what the file's content must be, if that matters.

    Raises:
        ImageError: names the file, whatever went wrong.
    """
    try:
        image = transform.prepare(read_image(file, limits))
        # After decoding: a file that was replaced since it was scanned must not give its
        # features to the content that stood there before.
        if digest is not None and digest_file(Path(file)) != digest:
            raise ImageError(
                "the file changed while it was being read", path=file, remedy="run it again"
            )
        return image
    except ImageError as error:
        error.path = error.path or file
        raise
    except Exception as error:  # noqa: BLE001 - one bad image must never end a run
        raise ImageError(
            "the image cannot be prepared", path=file, cause=f"{type(error).__name__}: {error}"
        ) from None


def load_ahead(
    files: Iterable[str],
    transform: Transform,
    limits: Limits,
    workers: int,
    ahead: int,
    digests: Iterable[str] | None = None,
) -> Iterator[Tensor | ImageError]:
    """The prepared images in order; a damaged one comes as its error.

    Threads, not processes: decoding and resizing release the interpreter's lock, and the result
    cannot depend on the number of workers.

    Args:
        files: paths, in the order wanted.
        transform: how each is prepared.
        limits: what one file may cost.
        workers: threads.
        ahead: how many images may be decoded before they are asked for.
        digests: for every file what its content must be.
    """

    def one(file: str, digest: str | None) -> Tensor | ImageError:
        try:
            return load(file, transform, limits, digest)
        except ImageError as error:
            return error

    pool = ThreadPoolExecutor(max_workers=max(1, workers))
    waiting: deque[Future[Tensor | ImageError]] = deque()
    try:
        expected = digests if digests is not None else repeat(None)
        for file, digest in zip(files, expected, strict=False):
            waiting.append(pool.submit(one, file, digest))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Not waited for: an iterator that was dropped may be collected in one of these very
        # threads, which cannot join itself.
        pool.shutdown(wait=False, cancel_futures=True)


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
