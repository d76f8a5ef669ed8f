"""The table `[training]` of `mvp.toml`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from mvp.config.section import Section

# What becomes of the slices of a volume before the classifier sees them.
Slices = Literal["max", "mean"]
Precision = Literal["float32", "bfloat16", "float16"]
# Where a step's size is not said and no GPU's memory can be measured.
USUAL_BATCH_SIZE = 32
AUTO = "auto"
# They decide where things wait and what is told, never the weights.
WITHOUT_EFFECT_ON_WEIGHTS = frozenset({"memory_gb", "checkpoint_minutes", "tensorboard", "window"})


def _number_or_auto(value: Any) -> Any:
    # Told here in one line: a union's own complaints would come once for each of its types.
    if value != AUTO and (not isinstance(value, int) or value < 2):
        raise ValueError(f'should be a whole number from 2 on, or "{AUTO}"')
    return value


class TrainingConfig(Section):
    """How stage one fine-tunes a view's network."""

    rates_need_a_body: ClassVar[bool] = True

    epochs: int = Field(default=20, ge=0)
    head_epochs: int | None = Field(default=None, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    head_learning_rate: float = Field(default=1e-2, gt=0)
    rates: dict[str, Annotated[float, Field(gt=0)]] = {}
    freeze: str = Field(default="none", min_length=1)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    nesterov: bool = False
    weight_decay: float = Field(default=1e-2, ge=0)
    batch_size: Annotated[int | Literal["auto"], BeforeValidator(_number_or_auto)] = (
        USUAL_BATCH_SIZE
    )
    accumulate: int = Field(default=1, ge=1)
    precision: Precision = "float32"
    patience: int = Field(default=8, ge=1)
    monitor: Literal["loss", "auroc", "none"] = "auroc"
    max_pos_weight: float = Field(default=10.0, ge=1)
    clip: float = Field(default=1.0, gt=0)
    memory_gb: float = Field(default=2.0, ge=0)
    slices: Slices = "max"
    window: int = Field(default=50, ge=1)
    checkpoint_minutes: float = Field(default=10.0, ge=0)
    tensorboard: bool = False

    @property
    def step_size(self) -> int:
        """Inputs of a step; the usual number while "auto" has not been found out."""
        return USUAL_BATCH_SIZE if self.batch_size == "auto" else self.batch_size

    @model_validator(mode="after")
    def _settings_have_a_meaning(self) -> TrainingConfig:
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError('nesterov has no meaning without optimizer = "sgd"')
        if self.monitor == "none" and "patience" in self.model_fields_set:
            raise ValueError('patience has no meaning with monitor = "none", which keeps the last')
        if self.freeze == "all" and self.rates and self.rates_need_a_body:
            raise ValueError('rates have no meaning with freeze = "all"')
        if self.freeze == "all" and self.head_epochs == 0:
            raise ValueError(
                'head_epochs = 0 with freeze = "all" leaves nothing to train: leave head_epochs '
                "out to keep the network as it is"
            )
        if self.accumulate > 1 and self.batch_size == "auto":
            raise ValueError(
                'accumulate has no meaning with batch_size = "auto", which takes what fits'
            )
        if 2 * self.accumulate > self.step_size and self.accumulate > 1:
            raise ValueError(
                f"accumulate = {self.accumulate} would leave less than two of "
                f"batch_size = {self.step_size} inputs for a part"
            )
        return self
