"""What a DICOM file shows of its values: windows and tables (VOI, PS3.3 C.11.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mvp.data.reading.limits import Pixels
from mvp.data.reading.stack import Shown, Window, WindowFunction

_Table = tuple[float, tuple[float, ...]]
_FUNCTIONS: dict[str, WindowFunction] = {
    "": "LINEAR",
    "LINEAR": "LINEAR",
    "LINEAR_EXACT": "LINEAR_EXACT",
    "SIGMOID": "SIGMOID",
}


def shown_by(
    header: Any, ranges: Sequence[tuple[float, float] | None], sums: Sequence[float | None]
) -> tuple[Shown, ...]:
    """How each frame is to be seen.

    A table goes before a window, the first of several before the others, and what is said of one
    frame before what is said of all. A window of no width, or of a function that the standard
    does not know, says nothing.

    Args:
        header: the elements read; its values are those of the modality, as the file means them.
        ranges: for every frame the least and the largest value it could hold; None if unknown.
        sums: for every frame None, or, where the reader turned black into white, what a value of
            the file and the turned value add up to.

    Returns:
        One for each frame, or a single one where all are alike.
    """
    # A table that all frames share is one object: of 16 bits it takes two megabytes.
    tables: dict[tuple[int, float | None], _Table] = {}
    found = [
        _shown(_sources(header, index), span, total, tables)
        for index, (span, total) in enumerate(zip(ranges, sums, strict=True))
    ]
    return (found[0],) if all(one == found[0] for one in found) else tuple(found)


def table_of(item: Any, order: str) -> tuple[int, int, Pixels]:
    """First input value, bits of the entries, and the entries of a look-up table's item.

    Args:
        item: LUTDescriptor and LUTData.
        order: byte order of the file, `<` or `>`.

    Raises:
        ValueError: the table has no entries.
    """
    # pydicom's own knows tables of 8 and of 16 bits only; those of 12 are common.
    entries, first, bits = (int(n) for n in item.LUTDescriptor)
    entries = entries or 1 << 16
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "u1" if len(data) == entries else f"{order}u2")
    table = np.atleast_1d(np.asarray(data))[:entries].astype(np.uint8 if bits <= 8 else np.uint16)
    if not len(table) or not 1 <= bits <= 16:
        raise ValueError("no table")
    return first, bits, table


def byte_order(header: Any) -> str:
    """`<` or `>`, as its transfer syntax says."""
    return "><"[header.file_meta.TransferSyntaxUID.is_little_endian]


def group_item(groups: Any, index: int, name: str) -> Any:
    """The one item of a sequence inside functional group `index`; None where there is none."""
    if not groups or index >= len(groups):
        return None
    found = groups[index].get(name)
    return found[0] if found else None


def _sources(header: Any, index: int) -> Iterator[tuple[Any, str]]:
    """Where a frame's view may be written, what is most its own first; and the byte order."""
    order = byte_order(header)
    for sequence, place in (
        ("PerFrameFunctionalGroupsSequence", index),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        item = group_item(header.get(sequence), place, "FrameVOILUTSequence")
        if item is not None:
            yield item, order
    yield header, order


def _shown(
    sources: Iterator[tuple[Any, str]],
    span: tuple[float, float] | None,
    total: float | None,
    made: dict[tuple[int, float | None], _Table],
) -> Shown:
    low, high = span if span is not None else (None, None)
    for item, order in sources:
        if tables := item.get("VOILUTSequence"):
            known = id(item), total
            if known not in made:
                made[known] = _table(tables[0], order, total)
            return Shown(low, high, table=made[known])
        if (window := _window(item, total)) is not None:
            return Shown(low, high, window=window)
    return Shown(low, high)


def _table(item: Any, order: str, total: float | None) -> _Table:
    first, bits, table = table_of(item, order)
    # Brightness belongs to the bits announced, not to the values that occur.
    bright = np.minimum(table / ((1 << bits) - 1), 1.0)
    if total is None:
        return float(first), tuple(bright.tolist())
    return total - (first + len(bright) - 1), tuple((1 - bright[::-1]).tolist())


def _window(item: Any, total: float | None) -> Window | None:
    center, width = _first(item.get("WindowCenter")), _first(item.get("WindowWidth"))
    function = _FUNCTIONS.get(str(item.get("VOILUTFunction") or "").strip().upper())
    if center is None or width is None or function is None:
        return None
    if width <= 0 or (function == "LINEAR" and width < 1):
        return None
    if total is None:
        return Window(center, width, function)
    # LINEAR lies half a value below its center (C.11.2.1.2.1): mirrored, half a value above.
    mirrored = total - center + (function == "LINEAR")
    if function == "LINEAR" and width == 1:
        # A step, whose edge belongs to the dark side: mirrored, to the bright one.
        mirrored = math.nextafter(mirrored, -math.inf)
    return Window(mirrored, width, function)


def _first(value: Any) -> float | None:
    """A number, the first of several; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, str | int | float):
        number = float(value)
    else:
        number = float(value[0]) if len(value) else math.nan
    return number if math.isfinite(number) else None
