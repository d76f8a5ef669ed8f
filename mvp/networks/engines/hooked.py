"""The engine `torch`: the network itself, looked into by hooks, or compiled with its pooling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from mvp.config import ExtractConfig, NetworkConfig
from mvp.errors import ConfigError, MvpError
from mvp.networks.capture import Capture
from mvp.networks.engines.agreement import TOLERANCE, disagreement, first_line
from mvp.networks.engines.traced import PooledFeatures
from mvp.networks.inference import evaluation
from mvp.networks.network import Network
from mvp.types import FloatArray

_MANY = 1024  # networks that may be compiled at a time
# Of eight and eleven bits; kernels that are fused round in fewer places.
_COMPILED_TOLERANCE = {"float32": TOLERANCE, "bfloat16": 3e-2, "float16": 5e-3}


class TorchEngine:
    """Features from torch, on any device and in any precision.

    Args:
        features: gives float32 features of a batch on `device`.
        device: where the network lies.
        precision: `extract.precision`; what is not float32 is computed under autocast.
    """

    name: Literal["torch"] = "torch"

    def __init__(
        self, features: Callable[[Tensor], Tensor], device: torch.device, precision: str
    ) -> None:
        self._features, self._device, self._precision = features, device, precision

    def __call__(self, batch: Tensor) -> FloatArray:
        """The features of a batch, float32, whatever they are computed in."""
        batch = batch.to(self._device)
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        # Here and not for as long as the engine stands: several stand open at a time, and what
        # they set in torch would be set back in another order.
        with torch.inference_mode(), self._arithmetic():
            features = self._features(batch)
        return features.float().cpu().numpy()

    def _arithmetic(self) -> AbstractContextManager[object]:
        if self._precision == "float32":
            return full_float32()
        return torch.autocast(self._device.type, getattr(torch, self._precision))


@contextmanager
def torch_engine(
    network: Network,
    config: NetworkConfig,
    settings: ExtractConfig,
    device: torch.device,
    example: Tensor,
) -> Iterator[TorchEngine]:
    """The engine `torch`; see `mvp.networks.engines.open_engine`."""
    if settings.precision == "float16" and device.type != "cuda":
        raise ConfigError(
            f'extract.precision = "float16" cannot be had on the device "{device.type}"',
            cause="half precision is computed on CUDA only",
            remedy='set extract.precision = "float32" or "bfloat16"',
        )
    network.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with evaluation(network), Capture(network, config.layer, config.pooling) as capture:
        engine = TorchEngine(capture, device, settings.precision)
        if not settings.compile:
            yield engine
            return
        with _compiled(network, config, settings, device, example, engine) as compiled:
            yield compiled


@contextmanager
def full_float32() -> Iterator[None]:
    """Convolutions and products of float32 in full precision.

    On newer GPUs cuDNN computes them in TF32 of ten bits unless it is told otherwise, and the
    same key would then hold other numbers than a CPU's.
    """
    if not hasattr(torch.backends.cudnn, "conv"):  # torch before 2.9
        with _full_by_flags():
            yield
        return
    # Both ways of saying it must not be mixed: reading the older one after the newer one was
    # used, by us or by the caller, may raise.
    places: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn.conv]
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


@contextmanager
def _full_by_flags() -> Iterator[None]:
    cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn.flags(
            enabled=cudnn.enabled,
            benchmark=cudnn.benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=False,
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)


@contextmanager
def _compiled(
    network: Network,
    config: NetworkConfig,
    settings: ExtractConfig,
    device: torch.device,
    example: Tensor,
    reference: TorchEngine,
) -> Iterator[TorchEngine]:
    reference(example)  # the network's own errors, before those of the compiler
    module = PooledFeatures(network, config).eval()
    with module.hooks():
        # One size for all batches: kernels made for another would give other last digits.
        whole = torch.compile(module, dynamic=False, fullgraph=True)
        features = _Filled(whole, settings.batch_size)
        engine = TorchEngine(features, device, settings.precision)
        try:
            # Beyond the limit torch compiles no more, and every network here is another version
            # of one function.
            with torch._dynamo.config.patch(cache_size_limit=_MANY):
                wrong = disagreement(
                    engine, reference, example, _COMPILED_TOLERANCE[settings.precision]
                )
        except Exception as error:  # noqa: BLE001 - backends raise anything
            wrong = first_line(error)
        if wrong:
            raise ConfigError(
                f"network {network.name!r} cannot be compiled",
                cause=wrong,
                remedy="set extract.compile = false",
            )
        try:
            yield engine
        finally:
            torch.compiler.reset()  # the kernels of a network that nobody runs any more


class _Filled:
    """Runs batches of one size only: shorter ones are filled up, longer ones taken in parts."""

    def __init__(self, features: Callable[[Tensor], Tensor], size: int) -> None:
        self._features, self._size = features, size
        self._batch: Tensor | None = None

    def __call__(self, batch: Tensor) -> Tensor:
        return torch.cat([self._part(part) for part in batch.split(self._size)])

    def _part(self, part: Tensor) -> Tensor:
        # Always this one tensor: torch compiles anew for one of another order in memory, or of
        # another kind, as those are that were made outside inference mode.
        if self._batch is None or self._batch.shape[1:] != part.shape[1:]:
            order = torch.channels_last if part.ndim == 4 else torch.contiguous_format
            shape = (self._size, *part.shape[1:])
            self._batch = torch.empty(
                shape, dtype=part.dtype, device=part.device, memory_format=order
            )
        rows = len(part)
        self._batch[:rows] = part
        self._batch[rows:] = part[-1:]
        try:
            return self._features(self._batch)[:rows]
        except torch.OutOfMemoryError as error:
            raise MvpError(
                f"a compiled network ran out of memory on a batch of {self._size} images",
                cause=first_line(error),
                remedy="lower extract.batch_size",
            ) from error
