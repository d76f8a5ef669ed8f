"""The table `[augment]` of `mvp.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from mvp.config.section import Section

Preset = Literal["cxr", "mammo", "mri", "photo", "none"]
# Where each number comes from stands in docs/augmentation.md.
PRESETS: Mapping[str, Mapping[str, float | bool]] = {
    "cxr": {"rotate": 5.0, "shift": 0.05, "scale": 0.05, "brightness": 0.1, "contrast": 0.1},
    "mammo": {
        "rotate": 10.0,
        "shift": 0.05,
        "scale": 0.1,
        "brightness": 0.1,
        "contrast": 0.1,
        "gamma": 0.2,
    },
    "mri": {
        "rotate": 15.0,
        "shift": 0.1,
        "scale": 0.1,
        "brightness": 0.1,
        "contrast": 0.25,
        "gamma": 0.3,
        "noise": 0.05,
        "blur": 1.0,
    },
    "photo": {
        "crop": 0.92,
        "flip": True,
        "brightness": 0.2,
        "contrast": 0.4,
        "saturation": 0.4,
    },
    "none": {},
}
_COLOUR = ("saturation", "hue")


class AugmentConfig(Section):
    """Random changes of training images, and of the draws of `extract.tta`.

    `preset` gives every setting that is not said; flips of medical images are off in all of
    them, because laterality carries meaning.
    """

    preset: Preset = "cxr"
    rotate: float = Field(default=0.0, ge=0, le=180)
    shift: float = Field(default=0.0, ge=0, le=0.5)
    scale: float = Field(default=0.0, ge=0, le=0.5)
    crop: float = Field(default=0.0, ge=0, lt=1)
    flip: bool = False
    vertical_flip: bool = False
    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, le=1)
    gamma: float = Field(default=0.0, ge=0, le=4)
    saturation: float = Field(default=0.0, ge=0, le=1)
    hue: float = Field(default=0.0, ge=0, le=0.5)
    blur: float = Field(default=0.0, ge=0, le=10)
    noise: float = Field(default=0.0, ge=0, le=1)
    erase: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="wrap")
    @classmethod
    def _fill_from_preset(
        cls, data: Any, handler: ModelWrapValidatorHandler[AugmentConfig]
    ) -> AugmentConfig:
        if not isinstance(data, dict):
            return handler(data)
        preset = data.get("preset", cls.model_fields["preset"].default)
        own = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
        filled = handler({**own, **data})
        # What a view lays over the common table are the settings said, not the preset's.
        object.__setattr__(filled, "__pydantic_fields_set__", set(data))
        return filled

    @property
    def changes(self) -> dict[str, float | bool]:
        """The settings that change anything, with their numbers, wherever they were said."""
        return {name: value for name, value in self if name != "preset" and value}

    def idle(self, color: str) -> str | None:
        """A setting said that has no meaning for images of this `transform.color`, or None."""
        if color != "grey":
            return None
        return next((n for n in _COLOUR if n in self.model_fields_set and getattr(self, n)), None)
