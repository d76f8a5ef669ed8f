"""Exports that are kept as files, so that the next process need not make them again."""

from __future__ import annotations

import importlib.metadata
import logging
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mvp.config import NetworkConfig
from mvp.files import create_exclusive, digest_bytes, digest_json, tidy
from mvp.networks.capture import Capture
from mvp.networks.inference import buffers_digest
from mvp.networks.network import Network
from mvp.networks.weights import weights_digest

log = logging.getLogger("mvp")
# Counted up when mvp itself exports otherwise.
_FORMAT = 1
# What traces, rewrites or defines the networks. None of it is imported: a kept export needs none.
_MADE_BY = ("torch", "torchvision", "timm", "onnx", "onnxscript")


@dataclass(frozen=True)
class KeptExports:
    """The exports of one workspace's networks: plain ONNX files, which anyone may delete.

    A file is called `<owner>.<key>.<digest of its bytes>.onnx`. Of one owner there is one file;
    an owner whose export another one made already, as two views of one network, has none.

    Args:
        folder: where they lie; made when the first one is kept.
        owner: who asks, a name without points beyond those it always has: `<view>.<fold>`.
    """

    folder: Path
    owner: str

    def has(self, key: str) -> bool:
        """Whether a file of this key stands; its bytes may still turn out damaged."""
        return bool(self._files(key))

    def read(self, key: str) -> bytes | None:
        """The model of `export_key`, None where none is kept; damaged files are removed."""
        for path in self._files(key):
            try:
                model = path.read_bytes()
            except FileNotFoundError:
                continue  # its owner has another network by now
            except OSError as error:
                log.warning("the kept export %s cannot be read: %s", path.name, error.strerror)
                continue
            if digest_bytes(model) == path.name.split(".")[-2]:
                return model
            log.warning("the kept export %s is damaged; the network is exported anew", path.name)
            self._remove(path)
        return None

    def keep(self, key: str, model: bytes) -> None:
        """Publish a model, whole or not at all; the owner's earlier one goes."""
        path = self.folder / f"{self.owner}.{key}.{digest_bytes(model)}.onnx"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Not synced: the digest in its name tells what a power cut has left of it.
            create_exclusive(path, model, durable=False)
            own = f"{self.owner}."
            tidy(
                self.folder,
                lambda p: p.suffix == ".onnx" and p.name.startswith(own) and p != path,
            )
        except OSError as error:
            log.warning("the export is not kept: %s", error.strerror)

    def drop(self, key: str, why: str) -> None:
        """Remove what is kept of a key, and say why."""
        for path in self._files(key):
            log.warning("the kept export %s is not used: %s", path.name, why)
            self._remove(path)

    def _files(self, key: str) -> list[Path]:
        return sorted(self.folder.glob(f"*.{key}.*.onnx"))

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("it cannot be removed: %s", error.strerror)


def export_key(network: Network, config: NetworkConfig, example: Tensor) -> str:
    """The digest of everything that decides an export.

    Args:
        network: with its final weights.
        config: which layers, and how they are pooled.
        example: (n, C, H, W); C, H and W count.
    """
    capture = Capture(network, config.layer, config.pooling)
    return digest_json(
        {
            "format": _FORMAT,
            "made by": {library: _version(library) for library in _MADE_BY},
            "network": config.name,
            "weights": weights_digest(network, without_classifier=not capture.uses_classifier),
            # Also those that no file of weights holds.
            "buffers": buffers_digest(network.module),
            "layer": capture.layer_name,
            "pooling": config.pooling,
            "input": list(example.shape[1:]),
        }
    )


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
