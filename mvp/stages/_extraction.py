"""One pass of extraction: decode ahead, forward in batches, write whole units."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mvp.config import ExtractConfig
from mvp.data.inputs import Inputs
from mvp.data.loading import Request
from mvp.data.reading.inventory import FileRecord, plain
from mvp.errors import ImageError
from mvp.features import UnitTask, Writer, image_digest, instance_of
from mvp.networks import Capture
from mvp.types import FloatArray

log = logging.getLogger("mvp")


@dataclass
class ExtractResult:
    """What one view's extraction did.

    Attributes:
        view: its name.
        key: digest of the feature key.
        rows: rows of the wanted images that can be read now.
        computed: rows that were computed here.
        forward_passes: images and slices that went through the network here.
        rejected: digest of an image's pixels to the reason why it, or one of its slices, has no
            features.
        recomputed_units: damaged units that were found and computed again.
        seconds: wall time by activity: `decode` (waiting for images), `network`, `write`, `wait`
            (for other processes), `total`.
    """

    view: str
    key: str
    rows: int = 0
    computed: int = 0
    forward_passes: int = 0
    rejected: dict[str, str] = field(default_factory=dict)
    recomputed_units: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("decode", "network", "write", "wait", "total"), 0.0)
    )


class ExtractRun:
    """One pass over the waiting images: decode ahead, forward in batches, write whole units."""

    def __init__(
        self,
        capture: Capture,
        inputs: Inputs,
        files: Mapping[str, FileRecord],
        device: torch.device,
        workers: int,
        settings: ExtractConfig,
        result: ExtractResult,
    ) -> None:
        self.capture, self.inputs, self.files = capture, inputs, files
        self.device, self.workers = device, workers
        self.settings, self.result = settings, result
        self._golden: FloatArray | None = None
        self._claimed: deque[UnitTask] = deque()
        self._submitted: list[tuple[Future[bool], int]] = []

    def golden(self) -> FloatArray:
        """Features (n, ...) of synthetic inputs that no patient ever had."""
        if self._golden is None:
            self._golden = self._features(torch.stack(self.inputs.synthetic()))
        return self._golden

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image's features."""
        return tuple(int(n) for n in self.golden().shape[1:])

    def set_aside_known_rejects(
        self, rows: list[bytes], rejected: Mapping[bytes, str]
    ) -> list[bytes]:
        """The rows to plan: those that failed before are tried, and planned if they decode now.

        Without this every run would plan the same damaged images into a new segment.
        """
        before = [row for row in rows if row in rejected]
        if not before:
            return rows
        # All at once, so that a volume whose slices failed is decoded once.
        images = self._decoded(self._requests(before))
        failed = set()
        for row, count in zip(before, self._counts(before), strict=True):
            # All of them are taken, also after a failure: the next row's images follow.
            if sum(isinstance(next(images), ImageError) for _ in range(count)):
                failed.add(row)
        return [row for row in rows if row not in failed]

    def compute(self, tasks: list[UnitTask], writer: Writer, progress: bool) -> None:
        """Compute and commit every unit that no other process does; wait for the others."""
        total = sum(len(request.instances) for t in tasks for request in self._requests(t.rows))
        label, told = f"extract {writer.store.key.view}", False
        with tqdm(total=total, desc=label, unit="img", disable=not progress or not total) as bar:
            while tasks:
                # One stream over all units, so that decoding never waits for a write.
                decoded = self._decoded(self._claiming(tasks, writer))
                for first in decoded:
                    self._unit(self._claimed.popleft(), chain([first], decoded), writer, bar)
                before = time.perf_counter()
                writer.drain()
                self.result.seconds["write"] += time.perf_counter() - before
                tasks = writer.still_open(tasks)
                if tasks:
                    if not told:
                        log.info("%s: %d units are other processes' work", label, len(tasks))
                        told = True
                    before = time.perf_counter()
                    writer.pause()
                    self.result.seconds["wait"] += time.perf_counter() - before
        self.result.computed += sum(rows for future, rows in self._submitted if future.result())

    def _claiming(self, tasks: Sequence[UnitTask], writer: Writer) -> Iterator[Request]:
        """What is to be decoded for the units that nobody else has, each claimed in its turn."""
        for task in writer.claimed(tasks):
            self._claimed.append(task)
            yield from self._requests(task.rows)

    def _counts(self, rows: Sequence[bytes]) -> list[int]:
        """How many images each row is made of."""
        pooled = self.settings.instances != "keep"
        return [self.files[image_digest(r)].instances if pooled else 1 for r in rows]

    def _requests(self, rows: Sequence[bytes]) -> Iterator[Request]:
        """Neighbouring slices of one file are asked for together, so that it is decoded once."""
        pooled = self.settings.instances != "keep"
        digest, some = "", list[int]()
        for row in rows:
            if image_digest(row) != digest:
                yield from self._request(digest, some)
                digest, some = image_digest(row), []
            instances = range(self.files[digest].instances) if pooled else [instance_of(row)]
            some.extend(instances)
        yield from self._request(digest, some)

    def _request(self, digest: str, instances: list[int]) -> Iterator[Request]:
        if instances:
            record = self.files[digest]
            yield Request(record.file, record.digest, tuple(instances))

    def fresh(self, rows: Sequence[bytes]) -> tuple[FloatArray, dict[int, str]]:
        """Features (row, ...) computed now, and why some have none; nothing is stored."""
        with tqdm(disable=True) as bar:
            made = self._compute(rows, self.shape, self._decoded(self._requests(rows)), bar)
        return made.values(), made.rejected

    def _unit(
        self, task: UnitTask, decoded: Iterator[Tensor | ImageError], writer: Writer, bar: Any
    ) -> None:
        rows = self._compute(task.rows, task.segment.shape, decoded, bar)
        before = time.perf_counter()
        # In the background: the next unit goes through the network meanwhile.
        future = writer.submit(task, rows.values(), rows.rejected)
        self._submitted.append((future, len(task.rows) - len(rows.rejected)))
        self.result.seconds["write"] += time.perf_counter() - before

    def _compute(
        self,
        ids: Sequence[bytes],
        shape: tuple[int, ...],
        decoded: Iterator[Tensor | ImageError],
        bar: Any,
    ) -> UnitRows:
        counts = self._counts(ids)
        places = np.repeat(np.arange(len(counts)), counts)
        rows = UnitRows(counts, shape, self.settings.instances)
        batch: list[Tensor] = []
        here: list[int] = []
        for number, place in enumerate(places):
            before = time.perf_counter()
            image = next(decoded)
            self.result.seconds["decode"] += time.perf_counter() - before
            if isinstance(image, ImageError):
                rows.rejected.setdefault(int(place), plain(image))
            else:
                batch.append(image)
                here.append(int(place))
            last = number == len(places) - 1
            if batch and (last or len(batch) == self.settings.batch_size):
                rows.add(here, self._features(torch.stack(batch)))
                self.result.forward_passes += len(batch)
                batch, here = [], []
            bar.update(1)
        return rows

    def _features(self, batch: Tensor) -> FloatArray:
        before = time.perf_counter()
        ready = self.inputs.preparation.finish(batch.to(self.device))
        if ready.ndim == 4:
            ready = ready.contiguous(memory_format=torch.channels_last)
        features = self.capture(ready)
        values = features.float().cpu().numpy()
        self.result.seconds["network"] += time.perf_counter() - before
        return values

    def _decoded(self, requests: Iterable[Request]) -> Iterator[Tensor | ImageError]:
        return self.inputs.load(requests, self.workers, 4 * self.settings.batch_size)


class UnitRows:
    """The rows of one unit as their images come in; slices of one row are pooled."""

    def __init__(self, counts: list[int], shape: tuple[int, ...], instances: str) -> None:
        self._counts, self._instances = counts, instances
        start = -np.inf if instances == "max" else 0.0
        self._sum = np.full((len(counts), *shape), start, np.float32)
        self.rejected: dict[int, str] = {}

    def add(self, places: list[int], features: FloatArray) -> None:
        """Features (n, ...) of images that belong to these rows."""
        if self._instances == "keep":
            self._sum[places] = features
        elif self._instances == "max":
            np.maximum.at(self._sum, places, features)
        else:
            # In the order of the slices, whatever the batches: one row's sum is always the same.
            np.add.at(self._sum, places, features)

    def values(self) -> FloatArray:
        """(row, ...), NaN where rejected."""
        values = self._sum
        if self._instances == "mean":
            values /= np.reshape(np.array(self._counts, np.float32), (-1, *[1] * (values.ndim - 1)))
        values[list(self.rejected)] = np.nan
        return values
