"""The tables of `mvp.toml` about stage two: `[head]` and `[evaluate]`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mvp.config.section import Section


class HeadConfig(Section):
    """Stage two: the learner and what it sees."""

    learner: str = "mlp"
    options: dict[str, Any] = {}
    views: Annotated[list[str], Field(min_length=1)] | None = None
    instances: Literal["mean", "max"] = "mean"
    tta: Literal["mean", "augment"] = "mean"
    seed: int = 0


class EvaluateConfig(Section):
    """How results are stated."""

    draws: int = Field(default=1000, ge=100)
    level: float = Field(default=0.95, gt=0, lt=1)
