"""`mvp.toml` as typed models."""

from mvp.config.complaints import nearest
from mvp.config.loading import load_config, parse_config
from mvp.config.models import Config, ResolvedView
from mvp.config.sections import (
    NAME,
    AugmentConfig,
    DataConfig,
    EvaluateConfig,
    ExtractConfig,
    HeadConfig,
    LabelConfig,
    NetworkConfig,
    Protocol,
    SplitConfig,
    TrainingConfig,
    TransformConfig,
    ViewConfig,
)

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
    "TrainingConfig",
    "TransformConfig",
    "ViewConfig",
    "load_config",
    "nearest",
    "parse_config",
]
