"""The tables of `mvp.toml` about stage two: `[head]` and `[evaluate]`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mvp.config.section import Section


class HeadConfig(Section):
    """Stage two: the learner, what it sees, and what is decided by its probabilities."""

    learner: str = "mlp"
    options: dict[str, Any] = {}
    views: Annotated[list[str], Field(min_length=1)] | None = None
    instances: Literal["mean", "max"] = "mean"
    tta: Literal["mean", "augment"] = "mean"
    seed: int = 0
    ablation: bool = True
    trials: int = Field(default=0, ge=0)
    timeout: float | None = Field(default=None, gt=0)
    sweep: bool = False
    calibration: Literal["auto", "none", "temperature", "platt", "isotonic"] = "auto"
    threshold: Literal["youden", "sensitivity", "specificity"] = "youden"
    at: float | None = Field(default=None, gt=0, le=1)
    conformal: float = Field(default=0, ge=0, lt=1)

    @model_validator(mode="after")
    def _a_share_for_a_fixed_rule(self) -> HeadConfig:
        if self.threshold == "youden" and self.at is not None:
            raise ValueError('`at` has no meaning for threshold = "youden"')
        if self.threshold != "youden" and self.at is None:
            raise ValueError(f'threshold = "{self.threshold}" needs `at`, the least of it, as 0.9')
        return self

    @model_validator(mode="after")
    def _every_instance_is_seen(self) -> HeadConfig:
        if self.learner == "attention" and "instances" in self.model_fields_set:
            raise ValueError(
                "`instances` has no meaning for the learner attention, which sees them all: "
                'leave it out, or set options = {over = "max"}'
            )
        return self

    @model_validator(mode="after")
    def _one_search(self) -> HeadConfig:
        if self.trials == 1:
            raise ValueError("trials = 1 tries the learner's defaults alone: set 0, or 2 and more")
        if self.timeout is not None and not self.trials:
            raise ValueError("`timeout` has no meaning without `trials`")
        if self.sweep and self.learner != "logistic":
            raise ValueError('`sweep` is of learner = "logistic"')
        if self.sweep and self.trials:
            raise ValueError("`sweep` and `trials` are two ways to choose options: set one")
        return self

    @property
    def on_calibration_rows(self) -> list[str]:
        """Settings, as they are written, that have no meaning without a calibration part."""
        asked = []
        if self.calibration not in ("auto", "none"):
            asked.append(f'head.calibration = "{self.calibration}"')
        if self.conformal:
            asked.append(f"head.conformal = {self.conformal}")
        return asked


class EvaluateConfig(Section):
    """How results are stated."""

    draws: int = Field(default=1000, ge=100)
    level: float = Field(default=0.95, gt=0, lt=1)
