"""The tables of `mvp.toml` about what users bring: data, views, labels, images, split."""

from __future__ import annotations

from math import isfinite
from statistics import fmean
from typing import Any, Literal

from pydantic import Field, model_validator

from mvp.config.section import Section, Strings

_FILES = {"aliases", "side", "source", "images"}
_MEANING = {
    "image": {*_FILES, "labels", "network", "transform", "training", "augment"},
    "table": {"numbers", "categories"},
    "text": {*_FILES, "column", "labels", "text", "training"},
}


class DataConfig(Section):
    """Where the table and the images are, and what the columns mean."""

    table: str
    root: str = "."
    study: Strings = Field(default=["study"], min_length=1)
    patient: Strings = Field(default=["patient"], min_length=1)
    view: str = "view"
    path: str = "path"
    split: str | None = None
    laterality: str | None = None
    order: str | None = None
    duplicates: Literal["once", "error"] = "once"
    allow_outside_root: bool = False
    max_pixels: int = Field(default=100_000_000, gt=0)
    max_bytes: int = Field(default=1_000_000_000, gt=0)
    max_volume_pixels: int = Field(default=1_000_000_000, gt=0)
    max_seconds: float = Field(default=30.0, gt=0, le=86_400)
    allow_deflated: bool = False


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


class ViewConfig(Section):
    """One view: an input stream, the names it goes by, and what differs from the common tables.

    A view of `kind = "table"` is columns of the table, one of `kind = "text"` a column or one file
    per study. An `imported` view has no input here: its features come from a table, with
    `mvp import-features`.
    """

    kind: Literal["image", "table", "text"] = "image"
    imported: bool = False
    aliases: Strings = []
    side: Literal["left", "right"] | None = None
    source: str | None = None
    images: Literal["all", "first", "newest", "error"] = "all"
    numbers: Strings = []
    categories: Strings = []
    column: str | None = None
    labels: list[str] | None = None
    network: dict[str, Any] = {}
    transform: dict[str, Any] = {}
    text: dict[str, Any] = {}
    training: dict[str, Any] = {}
    augment: dict[str, Any] = {}

    @model_validator(mode="after")
    def _settings_mean_something(self) -> ViewConfig:
        # Settings that would be passed over in silence.
        known, what = {"imported"}, "a view with imported = true"
        if not self.imported:
            known = {"kind", *_MEANING[self.kind]}
            what = f'a view of kind = "{self.kind}"'
            if self.column is not None:
                known, what = known - _FILES, "a text view with its own column"
        fields, said = type(self).model_fields, set(self.model_fields_set)
        if not self.imported:
            said = {n for n in said if getattr(self, n) != fields[n].default}
        if idle := sorted(said - known):
            raise ValueError(f"`{idle[0]}` has no meaning for {what}")
        if self.kind == "table" and not (self.numbers or self.categories):
            raise ValueError('a view of kind = "table" needs `numbers`, `categories` or both')
        if self.labels is not None and len(set(self.labels)) < max(1, len(self.labels)):
            raise ValueError("`labels` names none, or one twice; leave it out for all of them")
        both = [c for c in self.columns if self.columns.count(c) > 1]
        if both:
            raise ValueError(f"column {both[0]!r} stands twice under `numbers` and `categories`")
        return self

    @property
    def columns(self) -> list[str]:
        """Columns of the table that a study's input is read from; none for views of files."""
        if self.kind == "text":
            return [] if self.column is None else [self.column]
        return [*self.numbers, *self.categories]

    @property
    def own_files(self) -> bool:
        """Whether files of the table belong to it; otherwise to another view, or none do."""
        return self.source is None and not self.imported and not self.columns


class TransformConfig(Section):
    """The deterministic way from a decoded image to the network's input."""

    size: int = Field(default=224, ge=8, le=4096)
    fit: Literal["letterbox", "stretch", "crop"] = "letterbox"
    color: Literal["grey", "rgb"] = "grey"
    crop: Literal["none", "body", "breast"] = "none"
    intensity: Literal["full", "percentile", "window"] = "full"
    percentiles: tuple[float, float] = (0.5, 99.5)
    window: Literal["file"] | tuple[float, float] = "file"
    mean: list[float] = [0.485, 0.456, 0.406]
    std: list[float] = [0.229, 0.224, 0.225]

    @property
    def grey_mean(self) -> float:
        """By which one grey channel is normalised: the mean of `mean`."""
        return fmean(self.mean)

    @property
    def grey_std(self) -> float:
        """By which one grey channel is normalised: the mean of `std`."""
        return fmean(self.std)

    @model_validator(mode="after")
    def _channels_agree(self) -> TransformConfig:
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("mean and std need three numbers each, std above zero")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError("percentiles need 0 <= low < high <= 100")
        if self.window != "file":
            if self.intensity != "window":
                raise ValueError('a fixed `window` belongs to intensity = "window"')
            if not (all(map(isfinite, self.window)) and self.window[1] > 0):
                raise ValueError('window is "file" or [center, width], with a width above zero')
        return self


class SplitConfig(Section):
    """Patient-wise shares of the studies; the rest goes to stage one."""

    seed: int = Field(default=0, ge=0)
    test: float = Field(default=0.25, gt=0, lt=1)
    stage2: float = Field(default=0.3, gt=0, lt=1)
    inner: float = Field(default=0.2, gt=0, lt=1)
    calibration: float = Field(default=0, ge=0, lt=1)
    folds: int = Field(default=0, ge=0, le=1000)
    lists: dict[
        Literal["train", "stage1", "stage1-inner", "stage2", "stage2-inner", "calibration", "test"],
        str,
    ] = {}
    near: Literal["report", "link"] = "report"

    @model_validator(mode="after")
    def _something_is_left(self) -> SplitConfig:
        if self.folds == 1:
            raise ValueError("one fold leaves nothing to train on: folds is 0, or 2 and more")
        if self.test + self.stage2 >= 1:
            raise ValueError("test and stage2 leave nothing for stage one: their sum must be < 1")
        if self.calibration >= self.stage2:
            raise ValueError(
                f"calibration = {self.calibration} is taken from stage2 = {self.stage2} and leaves "
                "nothing to fit heads on"
            )
        return self
