"""The tables of `mvp.toml`: what a user may set, with its defaults and its limits."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# Pseudo-models that stand beside the views in a comparison, so no view may be called so.
RESERVED_VIEWS = frozenset({"mean", "fusion"})
RESERVED_COLUMNS = frozenset({"study", "head"})

Protocol = Literal["holdout", "frozen", "same-rows"]
Pooling = Literal["avg", "max", "avgmax", "rows", "map", "none"]
# Of these an image's features are no vector, so they cannot be joined to another layer's.
KEEPS_PLACES: tuple[Pooling, ...] = ("rows", "map")
Strings = Annotated[list[str], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)]


class Section(BaseModel):
    """A table of `mvp.toml`: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    """Where the table and the images are, and what the columns mean."""

    table: str
    root: str = "."
    study: Strings = Field(default=["study"], min_length=1)
    patient: Strings = Field(default=["patient"], min_length=1)
    view: str = "view"
    path: str = "path"
    split: str | None = None
    allow_outside_root: bool = False
    max_pixels: int = Field(default=100_000_000, gt=0)
    max_bytes: int = Field(default=1_000_000_000, gt=0)
    max_volume_pixels: int = Field(default=1_000_000_000, gt=0)


class LabelConfig(Section):
    """One label: the column it is read from and what its values mean.

    With `separator`, a cell holds several findings and is positive when any of them is.
    """

    column: str | None = None
    kind: Literal["binary", "multiclass"] = "binary"
    positive: Strings = ["1", "1.0", "true", "yes"]
    negative: Strings = ["0", "0.0", "false", "no"]
    classes: list[str] = []
    separator: str | None = None
    blank: Literal["unknown", "negative", "positive"] = "unknown"
    uncertain: Literal["unknown", "negative", "positive"] = "unknown"
    other: Literal["error", "unknown", "negative"] = "error"

    def outputs(self, name: str) -> list[str]:
        """Names of the probability columns of a label of this name."""
        return [f"{name}={c}" for c in self.classes] or [name]

    @model_validator(mode="after")
    def _classes_fit_kind(self) -> LabelConfig:
        if self.kind == "multiclass" and len(self.classes) < 2:
            raise ValueError("a multiclass label needs `classes`, a list of two or more names")
        if self.kind == "binary" and self.classes:
            raise ValueError('`classes` belongs to kind = "multiclass"')
        if len({c.strip().casefold() for c in self.classes}) < len(self.classes):
            raise ValueError("`classes` names one class twice (case does not count)")
        if self.kind == "multiclass":
            # Settings that would be passed over in silence.
            idle = {"positive", "negative", "separator", "blank", "uncertain"}
            if unused := sorted(idle & self.model_fields_set):
                raise ValueError(f'`{unused[0]}` belongs to kind = "binary"')
            if self.other == "negative":
                raise ValueError('a multiclass label has no `other = "negative"`')
        if {"positive", "negative"} <= self.model_fields_set:
            both = {p.casefold() for p in self.positive} & {n.casefold() for n in self.negative}
            if both:
                raise ValueError(f"{sorted(both)[0]!r} stands under `positive` and `negative`")
        return self


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


class TransformConfig(Section):
    """The deterministic way from a decoded image to the network's input."""

    size: int = Field(default=224, ge=8, le=4096)
    fit: Literal["letterbox", "stretch", "crop"] = "letterbox"
    color: Literal["grey", "rgb"] = "grey"
    intensity: Literal["full", "percentile"] = "full"
    percentiles: tuple[float, float] = (0.5, 99.5)
    mean: list[float] = [0.485, 0.456, 0.406]
    std: list[float] = [0.229, 0.224, 0.225]

    @model_validator(mode="after")
    def _channels_agree(self) -> TransformConfig:
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("mean and std need three numbers each, std above zero")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError("percentiles need 0 <= low < high <= 100")
        return self


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


class ViewConfig(Section):
    """One view: an input stream, the names it goes by, and what differs from the common tables.

    An `imported` view has no images: its features come from a table, with `mvp import-features`.
    """

    imported: bool = False
    aliases: Strings = []
    source: str | None = None
    images: Literal["all", "first", "error"] = "all"
    labels: list[str] | None = None
    network: dict[str, Any] = {}
    transform: dict[str, Any] = {}
    training: dict[str, Any] = {}
    augment: dict[str, Any] = {}

    @model_validator(mode="after")
    def _imported_views_have_no_images(self) -> ViewConfig:
        # Settings that would be passed over in silence.
        idle = self.model_fields_set - {"imported"} if self.imported else set()
        if idle:
            raise ValueError(f"`{sorted(idle)[0]}` has no meaning for a view with imported = true")
        return self

    @property
    def own_images(self) -> bool:
        """Whether images of the table belong to it; otherwise to another view, or none do."""
        return self.source is None and not self.imported


class SplitConfig(Section):
    """Patient-wise shares of the studies; the rest goes to stage one."""

    seed: int = 0
    test: float = Field(default=0.25, gt=0, lt=1)
    stage2: float = Field(default=0.3, gt=0, lt=1)
    inner: float = Field(default=0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _something_is_left(self) -> SplitConfig:
        if self.test + self.stage2 >= 1:
            raise ValueError("test and stage2 leave nothing for stage one: their sum must be < 1")
        return self


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
    views: list[str] | None = None
    instances: Literal["mean", "max"] = "mean"
    seed: int = 0


class EvaluateConfig(Section):
    """How results are stated."""

    draws: int = Field(default=1000, ge=100)
    level: float = Field(default=0.95, gt=0, lt=1)
