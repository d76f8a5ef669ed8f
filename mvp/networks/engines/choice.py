"""Which engine `extract.engine = "auto"` is, by measuring both."""

from __future__ import annotations

import logging
import statistics
import time

import torch
from torch import Tensor

from mvp.config import ExtractConfig, NetworkConfig
from mvp.errors import MvpError
from mvp.networks.engines.base import Engine, EngineName
from mvp.networks.engines.exported import onnx_engine
from mvp.networks.engines.hooked import torch_engine
from mvp.networks.engines.kept import KeptExports, export_key
from mvp.networks.network import Network

log = logging.getLogger("mvp")
# Exports take 4 to 17 s, and what they save is a third of the time at best.
WORTH_TRYING_S = 20.0
_TURNS = 3


def choose_engine(
    network: Network,
    config: NetworkConfig,
    settings: ExtractConfig,
    device: torch.device,
    example: Tensor,
    images: int,
    exports: KeptExports | None = None,
) -> EngineName:
    """The engine that has so many images done first, the time of its export included.

    Torch, where it needs less than `WORTH_TRYING_S` for them and no export is kept, on a GPU, for
    texts, and where onnxruntime is not installed, fails or does not give torch's numbers, which is
    logged. Elsewhere both run the same batches by turns, and onnxruntime is taken when the time
    that it saves on all images is more than it took to make it ready.

    Args:
        network: as for `open_engine`, as are the others.
        config: which layers, and how they are pooled.
        settings: `batch_size`; `engine` does not matter.
        device: where the network runs.
        example: a golden batch.
        images: how many images and slices wait.
        exports: where exports are read and kept, as for `open_engine`.
    """
    if device.type != "cpu" or not example.is_floating_point():
        return "torch"
    plain = settings.model_copy(update={"engine": "torch"})
    rows = min(settings.batch_size, max(images, 1))
    batch = example.repeat(-(-rows // len(example)), 1, 1, 1)[:rows]
    with torch_engine(network, config, plain, device, example) as ours:
        ours(batch)
        kept = exports is not None and exports.has(export_key(network, config, example))
        if not kept and _seconds(ours, batch) / rows * images < WORTH_TRYING_S:
            return "torch"
    before = time.perf_counter()
    try:
        with onnx_engine(network, config, settings, device, example, exports) as other:
            ready = time.perf_counter() - before
            other(batch)
            with torch_engine(network, config, plain, device, example) as ours:
                pairs = [(_seconds(ours, batch), _seconds(other, batch)) for _ in range(_TURNS)]
    except MvpError as error:
        log.info('extract.engine = "auto" is torch: %s', error)
        return "torch"
    torch_s, onnx_s = (statistics.median(times) / rows for times in zip(*pairs, strict=True))
    chosen: EngineName = "onnxruntime" if (torch_s - onnx_s) * images > ready else "torch"
    log.info(
        'extract.engine = "auto" is %s: %.1f images/s with torch, %.1f with onnxruntime after an '
        "export of %.1f s",
        chosen,
        1 / torch_s,
        1 / onnx_s,
        ready,
    )
    return chosen


def _seconds(engine: Engine, batch: Tensor) -> float:
    before = time.perf_counter()
    engine(batch)
    return time.perf_counter() - before
