"""Extract: every image of a view through its network once, into the feature store."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mvp.config import ExtractConfig, NetworkConfig
from mvp.data.datasets import load_ahead
from mvp.data.inventory import plain
from mvp.data.readers import Limits
from mvp.data.transforms import Transform
from mvp.errors import ImageError
from mvp.features import FeatureKey, KeyStore, UnitTask, image_digest, row_id
from mvp.networks import Capture, Network, inference, weights_digest
from mvp.types import FloatArray

GOLDEN_IMAGES = 2


@dataclass
class ExtractResult:
    """What one view's extraction did.

    Attributes:
        view: its name.
        key: digest of the feature key.
        rows: rows of the wanted images that can be read now.
        forward_passes: images that went through the network.
        cached: wanted images that were stored before.
        rejected: digest of an image's content to the reason why it has no features.
        recomputed_units: damaged units that were found and computed again.
        seconds: wall time by activity: `decode` (waiting for images), `network`, `write`, `total`.
    """

    view: str
    key: str
    rows: int = 0
    forward_passes: int = 0
    cached: int = 0
    rejected: dict[str, str] = field(default_factory=dict)
    recomputed_units: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: {"decode": 0.0, "network": 0.0, "write": 0.0, "total": 0.0}
    )


def feature_key(
    view: str, network: Network, config: NetworkConfig, transform: Transform, dtype: str
) -> FeatureKey:
    """The key of the features that this network, layer and preparation give."""
    capture = Capture(network, config.layer, config.pooling)
    return FeatureKey(
        view=view,
        weights=weights_digest(network, without_classifier=not capture.uses_classifier),
        architecture=config.name,
        layer=capture.layer_name,
        pooling=config.pooling,
        transform=transform.digest,
        dtype=dtype,
    )


def surroundings(device: torch.device) -> dict[str, Any]:
    """What may change the numbers in their last digits without being part of the key."""
    import PIL
    import torchvision

    return {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "timm": _version("timm"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "machine": platform.machine(),
        "threads": torch.get_num_threads() if device.type == "cpu" else 0,
    }


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def extract(
    network: Network,
    config: NetworkConfig,
    transform: Transform,
    images: Mapping[str, str],
    store: KeyStore,
    *,
    settings: ExtractConfig,
    limits: Limits,
    device: torch.device,
    workers: int = 2,
    verify: bool = False,
    progress: bool = True,
) -> ExtractResult:
    """Make sure that every image has its features in the store.

    Args:
        network: with its final weights; left as it was found.
        config: which layer, and how it is pooled.
        transform: the deterministic preparation; no other type is taken.
        images: content digest to file. One content is one image, wherever it lies.
        store: the features of this network's key.
        settings: batch size, unit size and tolerance.
        limits: what one file may cost.
        device: where the network runs.
        workers: decoding threads; the features do not depend on it.
        verify: compare the digests of all stored bytes first; damaged units are recomputed.
        progress: show a bar.

    Raises:
        TypeError: the transform is not deterministic.
        StaleError: this machine gives other numbers than those in the store.
    """
    if not isinstance(transform, Transform):
        raise TypeError("extraction takes a Transform: nothing random may touch the images")
    started = time.perf_counter()
    result = ExtractResult(store.key.view, store.key.digest)
    result.recomputed_units = store.discard_damaged(deep=verify)
    wanted = {row_id(digest): file for digest, file in images.items()}
    result.cached = sum(row in store for row in wanted)
    waiting = [row for row in wanted if row not in store]
    if waiting:
        network.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        with Capture(network, config.layer, config.pooling) as capture, inference(network):
            run = _Run(capture, transform, wanted, limits, device, workers, settings, result)
            here = surroundings(device)
            store.agree_with_golden(here, run.golden, settings.tolerance)
            waiting = run.set_aside_known_rejects(waiting, store.rejected)
            width = store.width or run.width
            tasks = store.plan(waiting, width, settings.unit_rows, here) if waiting else []
            run.compute(tasks, store, progress)
        store.refresh()
    result.rows = sum(row in store for row in wanted)
    for row, reason in store.rejected.items():
        if row in wanted:
            result.rejected.setdefault(image_digest(row), reason)
    result.seconds["total"] = time.perf_counter() - started
    return result


class _Run:
    """One pass over the waiting images: decode ahead, forward in batches, write whole units."""

    def __init__(
        self,
        capture: Capture,
        transform: Transform,
        files: Mapping[bytes, str],
        limits: Limits,
        device: torch.device,
        workers: int,
        settings: ExtractConfig,
        result: ExtractResult,
    ) -> None:
        self.capture, self.transform, self.files = capture, transform, files
        self.limits, self.device, self.workers = limits, device, workers
        self.settings, self.result = settings, result
        self._golden: FloatArray | None = None

    def golden(self) -> FloatArray:
        """Features (n, feature) of synthetic images that no patient ever had."""
        if self._golden is None:
            images = [self.transform.prepare(pixels) for pixels in _synthetic_images()]
            self._golden = self._features(torch.stack(images))
        return self._golden

    @property
    def width(self) -> int:
        """Number of features of the captured layer."""
        return int(self.golden().shape[1])

    def set_aside_known_rejects(
        self, rows: list[bytes], rejected: Mapping[bytes, str]
    ) -> list[bytes]:
        """The rows to plan: those that failed before are tried, and planned if they decode now.

        Without this every run would plan the same damaged images into a new segment.
        """
        again = [row for row in rows if row in rejected]
        failed = set()
        for row, image in zip(again, self._decoded(again), strict=True):
            if isinstance(image, ImageError):
                failed.add(row)
        return [row for row in rows if row not in failed]

    def compute(self, tasks: list[UnitTask], store: KeyStore, progress: bool) -> None:
        """Compute and commit every unit, in order."""
        # One stream over all units, so that decoding never waits for a write.
        decoded = self._decoded([row for task in tasks for row in task.rows])
        total = sum(len(task.rows) for task in tasks)
        label = f"extract {store.key.view}"
        with tqdm(total=total, desc=label, unit="img", disable=not progress or not total) as bar:
            for task in tasks:
                values, rejected = self._unit(task, decoded, bar)
                before = time.perf_counter()
                store.commit(task, values, rejected)
                self.result.seconds["write"] += time.perf_counter() - before

    def _unit(
        self, task: UnitTask, decoded: Iterator[Tensor | ImageError], bar: Any
    ) -> tuple[FloatArray, dict[int, str]]:
        values = np.full((len(task.rows), task.segment.width), np.nan, np.float32)
        rejected: dict[int, str] = {}
        batch: list[Tensor] = []
        places: list[int] = []
        for place in range(len(task.rows)):
            before = time.perf_counter()
            image = next(decoded)
            self.result.seconds["decode"] += time.perf_counter() - before
            if isinstance(image, ImageError):
                rejected[place] = plain(image)
            else:
                batch.append(image)
                places.append(place)
            if len(batch) == self.settings.batch_size or (batch and place == len(task.rows) - 1):
                values[places] = self._features(torch.stack(batch))
                self.result.forward_passes += len(batch)
                bar.update(len(batch))
                batch, places = [], []
        bar.update(len(rejected))
        return values, rejected

    def _features(self, batch: Tensor) -> FloatArray:
        before = time.perf_counter()
        ready = self.transform.finish(batch.to(self.device))
        features = self.capture(ready.contiguous(memory_format=torch.channels_last))
        values = features.float().cpu().numpy()
        self.result.seconds["network"] += time.perf_counter() - before
        return values

    def _decoded(self, rows: list[bytes]) -> Iterator[Tensor | ImageError]:
        gone = ImageError("the image is no longer in the table")
        missing = {row for row in rows if row not in self.files}
        here = [row for row in rows if row not in missing]
        present = load_ahead(
            [self.files[row] for row in here],
            self.transform,
            self.limits,
            self.workers,
            4 * self.settings.batch_size,
            digests=[image_digest(row) for row in here],
        )
        for row in rows:
            yield gone if row in missing else next(present)


def _synthetic_images() -> list[np.ndarray]:
    """(97, 131) uint8 images of waves, another size than any network's, so resizing shows too."""
    y, x = np.mgrid[0:97, 0:131].astype(np.float64)
    waves = [
        np.sin(x / (7 + i)) * np.cos(y / (11 + i)) + 0.3 * np.sin((x + y) / 3)
        for i in range(GOLDEN_IMAGES)
    ]
    return [np.clip(127 + 90 * w, 0, 255).astype(np.uint8) for w in waves]
