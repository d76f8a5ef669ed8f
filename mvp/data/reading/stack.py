"""What a reader gives: pixels at their own depth, and how the file says they are to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mvp.data.reading.limits import Pixels

WindowFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]


@dataclass(frozen=True)
class Window:
    """A range of values that is shown (DICOM PS3.3 C.11.2), in the values of the pixels given."""

    center: float
    width: float
    function: WindowFunction = "LINEAR"


@dataclass(frozen=True)
class Shown:
    """How one instance's values are to be seen, as far as its file says.

    Attributes:
        low: the least value that it could hold, shown black; None where the type's range holds.
        high: the largest; None likewise.
        window: what the file shows of that range; None where it does not say.
        table: instead of a window: its first input value, and brightness in [0, 1] for it and the
            values that follow.
    """

    low: float | None = None
    high: float | None = None
    window: Window | None = None
    table: tuple[float, tuple[float, ...]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, without what is not said."""
        return {k: v for k, v in asdict(self).items() if v is not None}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Shown:
        """What `to_json` gave, also after a way through JSON."""
        window, table = value.get("window"), value.get("table")
        return cls(
            value.get("low"),
            value.get("high"),
            None if window is None else Window(**window),
            None if table is None else (float(table[0]), tuple(map(float, table[1]))),
        )


UNSAID = Shown()


@dataclass(frozen=True, eq=False)
class Stack:
    """All instances of a file.

    Attributes:
        pixels: (instances, H, W) uint8, uint16 or float32, or (instances, H, W, 3) uint8.
        shown: one for each instance, or one for all of them.
    """

    pixels: Pixels
    shown: Sequence[Shown] = (UNSAID,)

    def __len__(self) -> int:
        return len(self.pixels)

    def shown_at(self, index: int) -> Shown:
        """How instance `index` is to be seen."""
        return self.shown[index if len(self.shown) > 1 else 0]
