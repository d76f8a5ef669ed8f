"""The table `[joint]` of `mvp.toml`: the joint network."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from mvp.config.section import NAME, Section
from mvp.config.training import TrainingConfig


class JointTrainingConfig(TrainingConfig):
    """How the joint network is trained: as in stage one, but more gently, from what is there."""

    # Whatever of the bodies is frozen, the head is not.
    rates_need_a_body: ClassVar[bool] = False

    epochs: int = Field(default=10, ge=0)
    learning_rate: float = Field(default=1e-4, gt=0)
    head_learning_rate: float = Field(default=1e-3, gt=0)
    patience: int = Field(default=4, ge=1)
    max_pos_weight: float = Field(default=5.0, ge=1)

    @model_validator(mode="after")
    def _settings_of_one_view(self) -> JointTrainingConfig:
        if self.head_epochs is not None:
            raise ValueError(
                "head_epochs has no meaning here: the head comes from stage two, or is fitted on "
                "features that are taken once"
            )
        if self.slices != "max":
            raise ValueError(
                "slices has no meaning here: several images or slices of a study are reduced as "
                "heads see them, by extract.instances and head.instances"
            )
        if self.batch_size == "auto":
            raise ValueError('batch_size = "auto" is of stage one: set a number')
        return self


class JointConfig(Section):
    """What the joint network starts from, and how it is trained."""

    start: Literal["stages", "networks", "weights"] = "stages"
    head: str | None = Field(default=None, pattern=NAME.pattern)
    learner: str = "mlp"
    options: dict[str, Any] = {}
    rows: Literal["train", "stage1"] = "train"
    auxiliary: float = Field(default=0.3, ge=0)
    same_geometry: bool = True
    thaw: int = Field(default=0, ge=0)
    training: JointTrainingConfig = JointTrainingConfig()

    @model_validator(mode="after")
    def _settings_have_a_meaning(self) -> JointConfig:
        if self.start == "stages" and (self.learner != "mlp" or self.options):
            raise ValueError(
                'learner and options have no meaning with start = "stages", which takes a fitted '
                "head: name it with `head`"
            )
        if self.start != "stages" and self.head is not None:
            raise ValueError('head has no meaning without start = "stages"')
        if self.start == "stages" and self.rows == "stage1":
            raise ValueError(
                'rows = "stage1" keeps stage two\'s studies for other heads, and the head that '
                'start = "stages" takes has seen them: set start = "networks"'
            )
        if self.thaw and self.training.freeze == "none":
            raise ValueError("thaw has no meaning without training.freeze")
        if self.thaw and self.thaw >= self.training.epochs:
            raise ValueError(
                f"thaw = {self.thaw} would never come within training.epochs = "
                f"{self.training.epochs}"
            )
        return self
