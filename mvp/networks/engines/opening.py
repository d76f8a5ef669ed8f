"""One door to all engines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mvp.config import ExtractConfig, NetworkConfig
from mvp.networks.engines.base import Engine
from mvp.networks.engines.exported import onnx_engine
from mvp.networks.engines.hooked import torch_engine
from mvp.networks.engines.kept import KeptExports
from mvp.networks.network import Network


@contextmanager
def open_engine(
    network: Network,
    config: NetworkConfig,
    settings: ExtractConfig,
    device: torch.device,
    example: Tensor,
    exports: KeptExports | None = None,
) -> Iterator[Engine]:
    """The engine that `settings.engine` names, ready to give features inside the `with` block.

    "auto" is no engine: `mvp.networks.engines.choose_engine` decides which it is, once, since the
    feature key names it.

    Args:
        network: with its final weights; moved to `device`, and otherwise left as it was found.
        config: which layers, and how they are pooled.
        settings: `engine`, `precision`, `compile` and `batch_size`.
        device: where the network runs.
        example: (n, 1 or 3, H, W) float32, a golden batch ready for the network; an engine that
            is not torch is held against torch on it.
        exports: where onnxruntime's export is read and kept; None to export every time. A kept one
            is held against torch like a fresh one, and replaced where it does not agree.

    Raises:
        ConfigError: the engine cannot run this network here, or gives other numbers than torch.
        MissingExtraError: the engine's library is not installed.
        ValueError: `settings.engine` is "auto".
    """
    if settings.engine == "auto":
        raise ValueError('choose_engine says which engine "auto" is')
    if settings.engine == "onnxruntime":
        with onnx_engine(network, config, settings, device, example, exports) as exported:
            yield exported
    else:
        with torch_engine(network, config, settings, device, example) as hooked:
            yield hooked
