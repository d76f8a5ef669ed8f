"""What an engine is, and which versions of it decide the last digits."""

from __future__ import annotations

import importlib
import importlib.metadata
from contextlib import suppress
from typing import Literal, Protocol, get_args

from torch import Tensor

from mvp.types import FloatArray

EngineName = Literal["torch", "onnxruntime"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
# What the extra `onnx` installs, the one that runs the network first.
LIBRARIES = ("onnxruntime", "onnx", "onnxscript")


class Engine(Protocol):
    """Gives the features of batches; one network, its layers and their pooling are fixed in it."""

    @property
    def name(self) -> EngineName:
        """As in `extract.engine` and in the feature key."""

    def __call__(self, batch: Tensor) -> FloatArray:
        """The features of a batch.

        Args:
            batch: ready for the network: images (N, 1 or 3, H, W) float32, normalised, or texts
                (N, L) int64; on any device.

        Returns:
            float32 (N, D); (N, C, H) with pooling "rows"; (N, C, H, W) or (N, T, C) with "map".
        """


def engine_versions(name: str, *, compiled: bool = False) -> dict[str, str]:
    """What of an engine may change the numbers in their last digits, for the surroundings.

    Args:
        name: the engine.
        compiled: whether torch compiles the network (`extract.compile`).
    """
    if name == "torch":
        return {"compile": "inductor"} if compiled else {}
    return {library: _version(library) for library in LIBRARIES}


def _version(library: str) -> str:
    if library == "onnxscript":
        # As it asks itself. Importing it takes a second, and a kept export needs nothing of it.
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(library)
        return "unknown"
    # Asked of the modules: other distributions (onnxruntime-gpu) bring them too.
    return str(importlib.import_module(library).__version__)
