"""`mvp.toml` as typed models."""

from mvp.config.complaints import nearest
from mvp.config.inputs import DataConfig, LabelConfig, SplitConfig, TransformConfig, ViewConfig
from mvp.config.loading import load_config, parse_config
from mvp.config.models import Config, ResolvedView
from mvp.config.section import NAME, Protocol
from mvp.config.sections import (
    AugmentConfig,
    EvaluateConfig,
    ExtractConfig,
    HeadConfig,
    NetworkConfig,
    TextConfig,
    TrainingConfig,
)
from mvp.config.weights import weights_file

__all__ = [
    "NAME",
    "AugmentConfig",
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "ExtractConfig",
    "HeadConfig",
    "LabelConfig",
    "NetworkConfig",
    "Protocol",
    "ResolvedView",
    "SplitConfig",
    "TextConfig",
    "TrainingConfig",
    "TransformConfig",
    "ViewConfig",
    "load_config",
    "nearest",
    "parse_config",
    "weights_file",
]
