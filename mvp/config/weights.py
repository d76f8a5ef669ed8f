"""Which weights are a file: asked before any network library is loaded."""

from __future__ import annotations

from pathlib import Path

from mvp.config.network import NetworkConfig
from mvp.config.variants import VIEW
from mvp.errors import ConfigError

SUFFIXES = (".safetensors", ".pt", ".pth")


def weights_file(config: NetworkConfig) -> Path | None:
    """The file that `network.weights` names; None where it names a published set, a view or "none".

    Raises:
        ConfigError: it names a file of another kind.
    """
    if config.weights.startswith(VIEW):
        return None
    path = Path(config.weights).expanduser()
    if path.suffix in SUFFIXES:
        return path
    if "/" in config.weights or "\\" in config.weights or path.is_file():
        raise ConfigError(
            "the weights file has an unknown kind",
            path=path,
            remedy=f"name a file that ends in {', '.join(SUFFIXES)}",
        )
    return None
