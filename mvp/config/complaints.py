"""From what pydantic complains of to what a user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def nearest(word: str, choices: Iterable[Any]) -> str:
    """`; did you mean 'x'?` for the nearest of the choices, or nothing."""
    close = difflib.get_close_matches(word, [str(c) for c in choices], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def complaints(error: ValidationError, model: Any, place: str = "") -> list[str]:
    """One line per wrong setting: where it stands, what is wrong, what it may have meant."""
    lines = []
    for item in error.errors():
        where = ".".join([*([place] if place else []), *(str(part) for part in item["loc"])])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = _fields_at(model, item["loc"][:-1])
            message = "unknown setting" + nearest(str(item["loc"][-1]), known)
        elif item["type"] == "missing":
            message = "is missing"
        lines.append(f"{where}: {message}" if where else message)
    return lines


def _fields_at(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    for part in loc:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(part))
            if field is None:
                return []
            model = field.annotation
        else:  # a dict of sections: the key was consumed, the section is its value type
            model = get_args(model)[-1]
    is_model = isinstance(model, type) and issubclass(model, BaseModel)
    return list(model.model_fields) if is_model else []
