"""What features are called: their key, their rows, and what they were made with."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import numpy as np
import torch

from mvp.config import ExtractConfig, NetworkConfig
from mvp.data.draws import Draws
from mvp.data.reading.inventory import FileRecord
from mvp.data.text_preparation import TextPreparation
from mvp.data.transforms import Transform
from mvp.features import FeatureKey, row_id
from mvp.files import digest_json
from mvp.networks import Capture, Network, weights_digest
from mvp.networks.engines import engine_versions


def feature_key(
    view: str,
    network: Network,
    config: NetworkConfig,
    preparation: Transform | TextPreparation,
    settings: ExtractConfig,
    draws: Draws | None = None,
) -> FeatureKey:
    """The key of the features that this network, layer, preparation and draws give."""
    capture = Capture(network, config.layer, config.pooling)
    return FeatureKey(
        view=view,
        weights=weights_digest(network, without_classifier=not capture.uses_classifier),
        architecture=config.name,
        layer=capture.layer_name,
        pooling=config.pooling,
        transform=digest_json([preparation.digest, draws.digest]) if draws else preparation.digest,
        instances=settings.instances,
        precision=settings.precision,
        dtype=settings.dtype,
        engine=settings.engine,
    )


def rows_of(record: FileRecord, instances: str) -> list[bytes]:
    """The row ids of a readable file: one for each of its slices, or one for all of them."""
    count = record.instances if instances == "keep" else 1
    return [row_id(str(record.pixels), i) for i in range(count)]


def surroundings(device: torch.device, settings: ExtractConfig) -> dict[str, Any]:
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
        **engine_versions(settings.engine, compiled=settings.compile),
    }


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
