"""What every table of `mvp.toml` is built on."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# Pseudo-models that stand beside the views in a comparison, so no view may be called so.
RESERVED_VIEWS = frozenset({"mean", "fusion", "same-rows"})
RESERVED_COLUMNS = frozenset({"study", "head"})

Protocol = Literal["holdout", "crossfit", "frozen", "same-rows"]
Strings = Annotated[list[str], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)]


class Section(BaseModel):
    """A table of `mvp.toml`: unknown keys are errors, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
