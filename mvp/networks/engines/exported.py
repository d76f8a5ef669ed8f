"""The engine `onnxruntime`: the network up to its hooked layers, exported, on a CPU."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mvp.config import ExtractConfig, NetworkConfig
from mvp.errors import ConfigError, MissingExtraError, MvpError
from mvp.networks.engines.agreement import disagreement, first_line
from mvp.networks.engines.base import LIBRARIES
from mvp.networks.engines.hooked import TorchEngine, torch_engine
from mvp.networks.engines.kept import KeptExports, export_key
from mvp.networks.engines.traced import PooledFeatures
from mvp.networks.inference import evaluation
from mvp.networks.network import Network
from mvp.types import FloatArray

# A message of protocol buffers, which is what an ONNX model in memory is, holds no more.
LARGEST = 2**31 - 1
_ANOTHER = 'set extract.engine = "torch"'


class OnnxEngine:
    """Features from an onnxruntime session.

    Args:
        session: takes `batch`, gives pooled features.
    """

    name: Literal["onnxruntime"] = "onnxruntime"

    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self, batch: Tensor) -> FloatArray:
        """The features of a batch."""
        try:
            (features,) = self._session.run(None, {"batch": batch.contiguous().numpy()})
        except Exception as error:  # the runtime's errors have no common class
            raise MvpError(
                f"onnxruntime failed on a batch of shape {tuple(batch.shape)}",
                cause=first_line(error),
                remedy=f"lower extract.batch_size, or {_ANOTHER}",
            ) from error
        return np.asarray(features, np.float32)


@contextmanager
def onnx_engine(
    network: Network,
    config: NetworkConfig,
    settings: ExtractConfig,
    device: torch.device,
    example: Tensor,
    exports: KeptExports | None = None,
) -> Iterator[OnnxEngine]:
    """The engine `onnxruntime`; see `mvp.networks.engines.open_engine`."""
    _require_possible(network, device, example)
    plain = settings.model_copy(update={"engine": "torch"})
    with torch_engine(network, config, plain, device, example) as reference:
        reference(example)  # the network's own errors, before those of the export
        model = wrong = engine = None
        if exports is not None:
            key = export_key(network, config, example)
            engine = _kept(exports, key, reference, example)
        if engine is None:
            model = exported(network, config, example)
            engine = OnnxEngine(_session(model))
            wrong = disagreement(engine, reference, example)
    if wrong:
        raise _unfit(network, wrong)
    if exports is not None and model is not None:
        exports.keep(key, model)
    del model  # as large as the network, and the session has its own
    yield engine


def _kept(
    exports: KeptExports, key: str, reference: TorchEngine, example: Tensor
) -> OnnxEngine | None:
    """The engine of a kept export, held against the reference as a fresh one is."""
    if (model := exports.read(key)) is None:
        return None
    try:
        engine = OnnxEngine(_session(model))
        wrong = disagreement(engine, reference, example)
    except Exception as error:  # noqa: BLE001 - the runtime's errors have no common class
        wrong = first_line(error)
    if wrong:
        exports.drop(key, f"{wrong}; the network is exported anew")
        return None
    return engine


def exported(network: Network, config: NetworkConfig, example: Tensor) -> bytes:
    """The ONNX model that takes `batch` (N, C, H, W) and gives pooled features, for any N.

    Args:
        network: on the CPU.
        config: which layers, and how they are pooled.
        example: (n, C, H, W) float32; C, H and W are fixed by it.

    Raises:
        ConfigError: something in the network has no counterpart in ONNX, or there is too much.
    """
    # A single row would be traced as the only number of rows there is.
    rows = example if len(example) > 1 else example.repeat(2, 1, 1, 1)
    with evaluation(network), torch.no_grad():
        module = PooledFeatures(network, config).eval()
        try:
            with module.hooks(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                shapes = {"batch": {0: torch.export.Dim("rows")}}
                traced = torch.export.export(
                    module, (rows.clone().contiguous(),), dynamic_shapes=shapes, strict=False
                )
                program = torch.onnx.export(traced, dynamo=True, verbose=False)
        except Exception as error:  # exporters raise anything
            raise _unfit(network, first_line(error)) from error
    assert program is not None
    weights = [value.const_value for value in program.model.graph.initializers.values()]
    size = sum(int(weight.nbytes) for weight in weights if weight is not None)
    if size >= LARGEST:
        raise _unfit(network, f"its {size / 1e9:.1f} GB of weights are more than ONNX's 2 GB")
    return program.model_proto.SerializeToString()


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _require_possible(network: Network, device: torch.device, example: Tensor) -> None:
    if device.type != "cpu":
        raise ConfigError(
            f'extract.engine = "onnxruntime" cannot be had on the device "{device.type}"',
            cause="it runs on a CPU only",
            remedy=f'{_ANOTHER} or device = "cpu"',
        )
    if not example.is_floating_point():
        raise ConfigError(
            f'extract.engine = "onnxruntime" cannot run network {network.name!r}',
            cause="texts are read by torch only",
            remedy=f'{_ANOTHER} or "auto"',
        )
    for library in LIBRARIES:
        if importlib.util.find_spec(library) is None:
            raise MissingExtraError(library, "onnx", 'extract.engine = "onnxruntime"')


def _unfit(network: Network, cause: str) -> ConfigError:
    return ConfigError(
        f"network {network.name!r} cannot run in onnxruntime", cause=cause, remedy=_ANOTHER
    )
