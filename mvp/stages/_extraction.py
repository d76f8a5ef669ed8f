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

from mvp.config import ExtractConfig
from mvp.data.draws import Draws
from mvp.data.inputs import Inputs, ReadyInputs
from mvp.data.loading import Request
from mvp.data.reading.inventory import FileRecord, plain
from mvp.errors import ImageError
from mvp.features import UnitTask, Writer, image_digest, instance_of
from mvp.networks import Network
from mvp.networks.engines import Engine
from mvp.networks.inference import evaluation
from mvp.stages._unit_rows import UnitRows
from mvp.types import FloatArray

log = logging.getLogger("mvp")
ACTIVITIES = ("decode", "network", "write", "wait", "start", "total")
# What may wait in memory for the network of a machine whose processors do both in turn.
_BURST_BYTES = 256 << 20


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
            (for other processes), `start` (the engine made ready), `total`.
    """

    view: str
    key: str
    rows: int = 0
    computed: int = 0
    forward_passes: int = 0
    rejected: dict[str, str] = field(default_factory=dict)
    recomputed_units: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ACTIVITIES, 0.0))


class ExtractRun:
    """Passes over waiting images: decode ahead, forward in batches, write whole units."""

    def __init__(
        self,
        network: Network,
        inputs: Inputs,
        device: torch.device,
        workers: int,
        settings: ExtractConfig,
        result: ExtractResult,
        engine: Engine,
        bar: Any,
        draws: Draws | None = None,
    ) -> None:
        self.network, self.inputs, self.files = network, inputs, dict[str, FileRecord]()
        self.device, self.workers, self.draws = device, workers, draws
        self.settings, self.result, self.engine, self.bar = settings, result, engine, bar
        self._ready: Mapping[str, Sequence[Tensor | ImageError]] = {}
        self._golden: FloatArray | None = None
        self._claimed: deque[UnitTask] = deque()
        self._submitted: list[tuple[Future[bool], int]] = []

    def take(
        self,
        files: Mapping[str, FileRecord],
        ready: Mapping[str, Sequence[Tensor | ImageError]] | None = None,
    ) -> None:
        """Say which images the next pass is over.

        Args:
            files: digest of pixels to the file.
            ready: digest of a file's bytes to its prepared instances, of those that are decoded.
        """
        self.files, self._ready = dict(files), ready or {}

    def golden(self) -> FloatArray:
        """Features (n, ...) of synthetic inputs that no patient ever had."""
        if self._golden is None:
            images = torch.stack(self.inputs.synthetic())
            # Asked here too: a network that moves its buffers must not commit a single unit.
            with evaluation(self.network):
                self._golden = self._features(images, range(len(images)))
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

    def compute(self, tasks: list[UnitTask], writer: Writer, *, wait: bool) -> None:
        """Compute and commit every unit that no other process does.

        Args:
            tasks: the units.
            writer: of their key.
            wait: for the others' units, and take over from the dead.
        """
        told = False
        self.bar.total += sum(len(request.instances) for request in self._requests(_rows(tasks)))
        self.bar.refresh()
        while tasks:
            # One stream over all units, so that decoding never waits for a write.
            decoded = self._decoded(self._claiming(tasks, writer))
            for first in decoded:
                self._unit(self._claimed.popleft(), chain([first], decoded), writer)
            before = time.perf_counter()
            writer.drain()
            self.result.seconds["write"] += time.perf_counter() - before
            tasks = writer.still_open(tasks)
            if not wait:
                break
            if tasks:
                if not told:
                    view = writer.store.key.view
                    log.info("extract %s: %d units are other processes' work", view, len(tasks))
                    told = True
                before = time.perf_counter()
                writer.pause()
                self.result.seconds["wait"] += time.perf_counter() - before
        self.result.computed += sum(rows for future, rows in self._submitted if future.result())
        self._submitted = []

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
        made = self._compute(rows, self.shape, self._decoded(self._requests(rows)))
        return made.values(), made.rejected

    def _unit(self, task: UnitTask, decoded: Iterator[Tensor | ImageError], writer: Writer) -> None:
        rows = self._compute(task.rows, task.segment.shape, decoded)
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
    ) -> UnitRows:
        counts = self._counts(ids)
        places = np.repeat(np.arange(len(counts)), counts)
        rows = UnitRows(counts, shape, self.settings.instances)
        held: list[tuple[int, Tensor]] = []
        for number, place in enumerate(places):
            before = time.perf_counter()
            image = next(decoded)
            self.result.seconds["decode"] += time.perf_counter() - before
            if isinstance(image, ImageError):
                rows.rejected.setdefault(int(place), plain(image))
                self.bar.update(1)
            else:
                held.append((int(place), image))
            last = number == len(places) - 1
            if held and (last or len(held) == self._burst(held[0][1])):
                self._forward(held, ids, rows)
                held = []
        return rows

    def _burst(self, image: Tensor) -> int:
        """How many images are decoded before the network takes them, in whole batches.

        Where the network has a device of its own, a batch: the processors decode meanwhile. Where
        it shares the processors with the decoders, many: threads that wait for each other lose
        more than the change of work costs.
        """
        size = self.settings.batch_size
        if self.device.type != "cpu":
            return size
        return size * max(1, _BURST_BYTES // max(1, image.nbytes * size))

    def _forward(
        self, held: Sequence[tuple[int, Tensor]], ids: Sequence[bytes], rows: UnitRows
    ) -> None:
        for start in range(0, len(held), self.settings.batch_size):
            some = held[start : start + self.settings.batch_size]
            here = [place for place, _ in some]
            batch = torch.stack([image for _, image in some])
            rows.add(here, self._features(batch, [seed_of(ids[place]) for place in here]))
            self.result.forward_passes += len(batch) * (self.draws.number if self.draws else 1)
            self.bar.update(len(batch))

    def _features(self, batch: Tensor, seeds: Sequence[int]) -> FloatArray:
        before = time.perf_counter()
        if self.draws is None:
            values = self._through_network(batch)
        else:
            some = [self._through_network(part) for part in self._drawn(batch, seeds)]
            values = np.concatenate(some)
            values = values.reshape(len(batch), self.draws.number, *values.shape[1:])
        self.result.seconds["network"] += time.perf_counter() - before
        return values

    def _drawn(self, batch: Tensor, seeds: Sequence[int]) -> Iterator[Tensor]:
        """All draws of some images, as many at a time as without draws: no more memory is taken."""
        assert self.draws is not None
        size = self.settings.batch_size
        images = max(1, size // self.draws.number)
        for start in range(0, len(batch), images):
            here = slice(start, start + images)
            yield from self.draws(batch[here], seeds[here]).split(size)

    def _through_network(self, batch: Tensor) -> FloatArray:
        return self.engine(ready_for_network(self.network, self.inputs, batch, self.device))

    def _decoded(self, requests: Iterable[Request]) -> Iterator[Tensor | ImageError]:
        # As few as keep the decoders busy where they share the processors with the network.
        shared = self.device.type == "cpu"
        ahead = 2 * self.workers if shared else 4 * self.settings.batch_size
        inputs = ReadyInputs(self.inputs, self._ready) if self._ready else self.inputs
        return inputs.load(requests, self.workers, ahead)


def ready_for_network(
    network: Network, inputs: Inputs, batch: Tensor, device: torch.device
) -> Tensor:
    """Prepared inputs (n, ...) as the network takes them, images with their channels last."""
    ready = inputs.preparation.finish(batch.to(device), network.channels)
    return ready.contiguous(memory_format=torch.channels_last) if ready.ndim == 4 else ready


def seed_of(row: bytes) -> int:
    """What an image's draws are made from: its pixels, so that all slices of a volume agree."""
    return int(image_digest(row)[:15], 16)


def _rows(tasks: Sequence[UnitTask]) -> list[bytes]:
    return [row for task in tasks for row in task.rows]
