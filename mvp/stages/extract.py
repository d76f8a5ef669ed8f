"""Extract: every image of a view through its network once, into the feature store."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from mvp.config import ExtractConfig, NetworkConfig
from mvp.data.inputs import ImageInputs, Inputs, TextInputs
from mvp.data.reading.inventory import FileRecord
from mvp.data.text_preparation import TextPreparation
from mvp.data.transforms import Transform
from mvp.features import FeatureKey, KeyStore, Writer, image_digest, row_id
from mvp.networks import Capture, Network, inference, weights_digest
from mvp.stages._extraction import ExtractResult, ExtractRun
from mvp.types import FloatArray

__all__ = ["ExtractResult", "extract", "feature_key", "fresh_rows", "rows_of", "surroundings"]


def feature_key(
    view: str,
    network: Network,
    config: NetworkConfig,
    preparation: Transform | TextPreparation,
    settings: ExtractConfig,
) -> FeatureKey:
    """The key of the features that this network, layer and preparation give."""
    capture = Capture(network, config.layer, config.pooling)
    return FeatureKey(
        view=view,
        weights=weights_digest(network, without_classifier=not capture.uses_classifier),
        architecture=config.name,
        layer=capture.layer_name,
        pooling=config.pooling,
        transform=preparation.digest,
        instances=settings.instances,
        dtype=settings.dtype,
    )


def rows_of(record: FileRecord, instances: str) -> list[bytes]:
    """The row ids of a readable file: one for each of its slices, or one for all of them."""
    count = record.instances if instances == "keep" else 1
    return [row_id(str(record.pixels), i) for i in range(count)]


def fresh_rows(
    network: Network,
    config: NetworkConfig,
    inputs: Inputs,
    images: Iterable[FileRecord],
    rows: Sequence[bytes],
    *,
    settings: ExtractConfig,
    device: torch.device,
    workers: int = 2,
) -> tuple[FloatArray, dict[int, str]]:
    """Features (row, ...) of some rows from their images, to be held against stored ones.

    Args:
        network: as for `extract`, as are the others.
        config: which layers, and how they are pooled.
        inputs: what the network is shown.
        images: the files or texts of the rows, and maybe others.
        rows: row ids.
        settings: batch size, and what becomes of slices.
        device: where the network runs.
        workers: decoding threads.

    Returns:
        The features, NaN where there are none, and for those rows the reason.
    """
    files = {str(record.pixels): record for record in images}
    network.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with Capture(network, config.layer, config.pooling) as capture, inference(network):
        run = ExtractRun(capture, inputs, files, device, workers, settings, ExtractResult("", ""))
        return run.fresh(rows)


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
    inputs: Inputs,
    images: Iterable[FileRecord],
    store: KeyStore,
    *,
    settings: ExtractConfig,
    device: torch.device,
    workers: int = 2,
    verify: bool = False,
    progress: bool = True,
) -> ExtractResult:
    """Make sure that every image has its features in the store.

    Several processes may do this on one store at a time: they share the units.

    Args:
        network: with its final weights; left as it was found.
        config: which layers, and how they are pooled.
        inputs: what the network is shown, by a deterministic preparation; no other is taken.
        images: readable files or texts. The same pixels are one image, wherever they lie.
        store: the features of this network's key.
        settings: batch size, unit size, tolerance, compression, what becomes of slices.
        device: where the network runs.
        workers: decoding threads; the features do not depend on it.
        verify: compare the digests of all stored bytes first; damaged units are recomputed.
        progress: show a bar.

    Raises:
        TypeError: the preparation is not deterministic.
        StaleError: this machine gives other numbers than those in the store.
        StorageError: the store cannot be written; found out before the network runs.
    """
    if not isinstance(inputs, ImageInputs | TextInputs) or not isinstance(
        inputs.preparation, Transform | TextPreparation
    ):
        raise TypeError("extraction takes a Transform: nothing random may touch the images")
    started = time.perf_counter()
    result = ExtractResult(store.key.view, store.key.digest)
    result.recomputed_units = store.discard_damaged(deep=verify)
    files = {str(record.pixels): record for record in images}
    wanted = [row for record in files.values() for row in rows_of(record, settings.instances)]
    waiting = [row for row, there in zip(wanted, store.has(wanted), strict=True) if not there]
    if waiting or verify:
        with Writer(store) as writer:
            writer.require_place()
            network.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            with Capture(network, config.layer, config.pooling) as capture, inference(network):
                run = ExtractRun(capture, inputs, files, device, workers, settings, result)
                here = surroundings(device)
                store.agree_with_golden(here, run.golden, settings.tolerance)
                waiting = run.set_aside_known_rejects(waiting, store.rejected)
                if waiting:
                    tasks = writer.plan(
                        waiting,
                        store.shape or run.shape,
                        settings.unit_rows,
                        here,
                        available=set(wanted),
                        compression=settings.compression,
                    )
                    run.compute(tasks, writer, progress)
        store.refresh(gone=True)
    result.rows = int(store.has(wanted).sum())
    ours = set(wanted)
    for row, reason in store.rejected.items():
        if row in ours:
            result.rejected.setdefault(image_digest(row), reason)
    result.seconds["total"] = time.perf_counter() - started
    return result
