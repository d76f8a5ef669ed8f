"""What a user should know about the data, each in one line that prints anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """Something about the data that a user should know.

    An `error` costs images or studies; a `warning` is dealt with as its text says.
    """

    kind: str
    severity: Literal["error", "warning"]
    text: str
    count: int = 1

    def __post_init__(self) -> None:
        # Cells come from strangers: no line breaks and no turned text in a log.
        text = "".join(c if c.isprintable() else " " for c in self.text)
        object.__setattr__(self, "text", text)


def quoted(text: str, most: int = 80) -> str:
    """A cell for an error line: in quotes, control characters written out, long ones cut."""
    return repr(text) if len(text) <= most else f"{text[:most]!r}…"


def escaped(text: str, most: int) -> str:
    """A cell as part of a table: control characters written out, long ones cut, no quotes."""
    safe = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:most])
    return "".join(safe) + ("…" if len(text) > most else "")
