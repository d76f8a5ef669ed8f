"""The tables of `mvp.toml` about networks: `[network]` and `[text]`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mvp.config.section import Section

Pooling = Literal["avg", "max", "avgmax", "rows", "map", "none"]
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
    share: str = Field(default="none", min_length=1)

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
