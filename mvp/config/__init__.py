"""`mvp.toml` as typed models."""

from mvp.config.augment import AugmentConfig
from mvp.config.complaints import nearest
from mvp.config.draws import flipped_sides
from mvp.config.extraction import ExtractConfig
from mvp.config.inputs import DataConfig, LabelConfig, SplitConfig, TransformConfig, ViewConfig
from mvp.config.joint import JointConfig
from mvp.config.loading import load_config, parse_config
from mvp.config.models import Config, ResolvedView
from mvp.config.network import NetworkConfig, TextConfig
from mvp.config.section import NAME, Protocol
from mvp.config.stage_two import EvaluateConfig, HeadConfig
from mvp.config.training import TrainingConfig
from mvp.config.weights import weights_file

__all__ = [
    "NAME",
    "AugmentConfig",
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "ExtractConfig",
    "HeadConfig",
    "JointConfig",
    "LabelConfig",
    "NetworkConfig",
    "Protocol",
    "ResolvedView",
    "SplitConfig",
    "TextConfig",
    "TrainingConfig",
    "TransformConfig",
    "ViewConfig",
    "flipped_sides",
    "load_config",
    "nearest",
    "parse_config",
    "weights_file",
]
