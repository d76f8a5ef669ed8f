"""The table `[extract]` of `mvp.toml`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from mvp.config.section import Section


class ExtractConfig(Section):
    """How features are computed and stored."""

    batch_size: int = Field(default=32, ge=1)
    unit_rows: int = Field(default=1024, ge=1)
    instances: Literal["keep", "max", "mean"] = "keep"
    tta: int = Field(default=1, ge=1, le=64)
    dtype: Literal["float32", "float16"] = "float32"
    engine: Literal["torch", "onnxruntime", "auto"] = "torch"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
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

    @model_validator(mode="after")
    def _draws_are_rows(self) -> ExtractConfig:
        if self.tta > 1 and self.instances != "keep":
            raise ValueError(
                f'tta = {self.tta} needs instances = "keep": draws of pooled slices are not kept'
            )
        return self

    @model_validator(mode="after")
    def _engine_knows_its_settings(self) -> ExtractConfig:
        if self.engine != "torch" and self.precision != "float32":
            raise ValueError(f"precision = {self.precision!r} needs engine = 'torch'")
        if self.engine != "torch" and self.compile:
            raise ValueError("compile = true needs engine = 'torch'")
        return self
