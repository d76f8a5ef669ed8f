"""What runs a network for its features: torch, or onnxruntime on a CPU."""

from mvp.networks.engines.base import ENGINES, Engine, EngineName, engine_versions
from mvp.networks.engines.choice import choose_engine
from mvp.networks.engines.kept import KeptExports
from mvp.networks.engines.opening import open_engine

__all__ = [
    "ENGINES",
    "Engine",
    "EngineName",
    "KeptExports",
    "choose_engine",
    "engine_versions",
    "open_engine",
]
