"""The tables of `mvp.toml` about what is computed: networks, training, features, heads."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mvp.config.section import Section

Pooling = Literal["avg", "max", "avgmax", "rows", "map", "none"]
# What becomes of the slices of a volume before the classifier sees them.
Slices = Literal["max", "mean"]
# Of these an image's features are no vector, so they cannot be joined to another layer's.
KEEPS_PLACES: tuple[Pooling, ...] = ("rows", "map")
# How many numbers a character may have: the preparation gives them, the network embeds them.
ALPHABET = 1024
# The network of every text view.
CHAR_CNN = "char-cnn"


def _one_or_several(value: Any) -> Any:
    """A list of one layer becomes its bare name, so that both mean one feature key."""
    # Told here in one line: a union's own complaints would come once for each of its types.
    names = [value] if isinstance(value, str) else value
    if (
        not isinstance(names, list | tuple)
        or not names
        or not all(isinstance(n, str) for n in names)
    ):
        raise ValueError("should be the name of a layer, or a list of one or more names")
    if len(set(names)) < len(names):
        raise ValueError(f"names {next(n for n in names if names.count(n) > 1)!r} twice")
    return names[0] if len(names) == 1 else list(names)


class NetworkConfig(Section):
    """A CNN and where its features are taken from."""

    name: str = "resnet18"
    weights: str = "none"
    weights_order: Literal["by-name", "by-position"] = "by-name"
    layer: Annotated[str | list[str], BeforeValidator(_one_or_several)] = "auto"
    pooling: Pooling = "avg"

    @property
    def layers(self) -> list[str]:
        """The layers in the order that they were named, also where it is one."""
        return [self.layer] if isinstance(self.layer, str) else list(self.layer)

    @model_validator(mode="after")
    def _layers_can_be_joined(self) -> NetworkConfig:
        if self.pooling in KEEPS_PLACES and len(self.layers) > 1:
            raise ValueError(f"pooling = {self.pooling!r} takes one layer, not several")
        return self


class TextConfig(Section):
    """The character network of a text view, and how much of a text it reads."""

    length: int = Field(default=256, ge=1, le=100_000)
    lower: bool = False
    embedding: int = Field(default=32, ge=1, le=1024)
    channels: int = Field(default=96, ge=1, le=4096)
    kernels: list[Annotated[int, Field(ge=1, le=64)]] = Field(default=[2, 3, 4, 5], min_length=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)


class AugmentConfig(Section):
    """Random changes of training images; flips are off because laterality carries meaning."""

    rotate: float = Field(default=5.0, ge=0, le=180)
    shift: float = Field(default=0.05, ge=0, le=0.5)
    scale: float = Field(default=0.05, ge=0, le=0.5)
    brightness: float = Field(default=0.1, ge=0, le=1)
    contrast: float = Field(default=0.1, ge=0, le=1)
    flip: bool = False


class TrainingConfig(Section):
    """How stage one fine-tunes a view's network."""

    epochs: int = Field(default=20, ge=0)
    head_epochs: int | None = Field(default=None, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    head_learning_rate: float = Field(default=1e-2, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    batch_size: int = Field(default=32, ge=2)
    patience: int = Field(default=8, ge=1)
    monitor: Literal["loss", "auroc"] = "auroc"
    max_pos_weight: float = Field(default=10.0, ge=1)
    clip: float = Field(default=1.0, gt=0)
    memory_gb: float = Field(default=2.0, ge=0)
    slices: Slices = "max"


class ExtractConfig(Section):
    """How features are computed and stored."""

    batch_size: int = Field(default=32, ge=1)
    unit_rows: int = Field(default=1024, ge=1)
    instances: Literal["keep", "max", "mean"] = "keep"
    dtype: Literal["float32", "float16"] = "float32"
    compression: Literal["none", "zstd"] = "none"
    cache: str = "cache"
    cache_options: dict[str, Any] = {}
    lease: float = Field(default=60.0, ge=1)

    @model_validator(mode="after")
    def _cache_is_a_place(self) -> ExtractConfig:
        place = self.cache
        if not place.strip(". /") or not place.isprintable() or place.startswith("~"):
            raise ValueError(f"cache = {place!r} names no place: write a folder in full, or a URL")
        if place.startswith("file://") and not place.startswith("file:///"):
            raise ValueError(f"cache = {place!r}: after file:// comes a full path")
        return self

    tolerance: float = Field(default=1e-4, gt=0)


class HeadConfig(Section):
    """Stage two: the learner and what it sees."""

    learner: str = "mlp"
    options: dict[str, Any] = {}
    views: Annotated[list[str], Field(min_length=1)] | None = None
    instances: Literal["mean", "max"] = "mean"
    seed: int = 0


class EvaluateConfig(Section):
    """How results are stated."""

    draws: int = Field(default=1000, ge=100)
    level: float = Field(default=0.95, gt=0, lt=1)
