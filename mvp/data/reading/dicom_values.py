"""From stored values to those of the modality, dark to bright, and what they could be at most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mvp.data.reading.dicom_shown import byte_order, group_item, shown_by, table_of
from mvp.data.reading.limits import Pixels, finite
from mvp.data.reading.stack import Stack
from mvp.errors import ImageError

_Span = tuple[float, float]


def grey_stack(values: Pixels, header: Any, path: Path, *, turned: bool) -> Stack:
    """Grey frames as they are meant.

    Args:
        values: (frames, H, W), stored values; may be changed.
        header: the elements that describe them.
        path: for errors.
        turned: MONOCHROME1, whose largest value is the darkest: values are turned within the
            range that the bits allow.

    Returns:
        (frames, H, W) uint8 or uint16 as stored, or float32 where values are signed or rescaled.
        Padding has the darkest value that occurs beside it.

    Raises:
        ImageError: values of more than 16 bits, without a range to turn them in, or not finite.
    """
    frames = len(values)
    if values.dtype.kind == "f":
        if turned:
            raise ImageError("floating-point pixels have no range to invert within", path=path)
        pixels = finite(values.astype(np.float32, copy=False), path)
        return Stack(pixels, shown_by(header, [None] * frames, [None] * frames))
    if values.dtype.itemsize > 2:
        raise ImageError("pixels of more than 16 bits are not read", path=path)
    if int(header.BitsAllocated) == 1:  # black and white, as other formats give one bit
        return Stack((1 - values if turned else values) * np.uint8(255))
    bits, signed = int(header.BitsStored), values.dtype.kind == "i"
    padded = _padding(values, header)
    lines = [(1.0, 0.0)] * frames
    if tables := header.get("ModalityLUTSequence"):
        first, bits, table = table_of(tables[0], byte_order(header))
        values = table[np.clip(values.astype(np.int32) - first, 0, len(table) - 1)]
        signed = False
    else:
        lines = _rescale(header, frames)
    if turned:
        values = _turn(values, bits)
    span = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if signed or any(line != (1, 0) for line in lines):
        values = _rescaled(values, lines, path)
    _darken(values, padded)
    # A stored value and the turned one add up to the range's ends, both ways through the line.
    sums = [slope * sum(span) + 2 * intercept if turned else None for slope, intercept in lines]
    # What a type's range says already is not said again: such a film is what its PNG would be.
    plain = values.dtype.kind == "u" and span[1] == np.iinfo(values.dtype).max
    ranges = [None if plain else _through(span, line) for line in lines]
    return Stack(values, shown_by(header, ranges, sums))


def _padding(values: Pixels, header: Any) -> Pixels | None:
    """Where the picture was filled up to a rectangle (PS3.3 C.7.5.1.1.2); None for nowhere."""
    value, limit = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
    if value in (None, ""):
        return None
    # Written with the wrong sign, it is the same bits.
    ends = [int(v) for v in (value, value if limit in (None, "") else limit)]
    low, high = sorted(int(np.array(v & 0xFFFFFFFF, np.uint32).astype(values.dtype)) for v in ends)
    found = (values >= low) & (values <= high)
    return found if found.any() else None


def _darken(values: Pixels, padded: Pixels | None) -> None:
    for frame, mask in zip(values, padded if padded is not None else (), strict=False):
        if not mask.all():
            frame[mask] = frame[~mask].min()


def _turn(values: Pixels, bits: int) -> Pixels:
    if values.dtype.kind == "i":
        return np.invert(values)  # -1 - v, which maps the range of any width to itself
    top = values.dtype.type((1 << bits) - 1)
    return top - np.minimum(values, top)


def _rescaled(values: Pixels, lines: Sequence[tuple[float, float]], path: Path) -> Pixels:
    rescaled = values.astype(np.float32)
    with np.errstate(all="ignore"):  # what overflows is refused as an error, not warned about
        for index, (slope, intercept) in enumerate(lines):
            rescaled[index] *= np.float32(slope)
            rescaled[index] += np.float32(intercept)
    return finite(rescaled, path)


def _through(span: _Span, line: tuple[float, float]) -> _Span:
    slope, intercept = line
    ends = [slope * end + intercept for end in span]
    return min(ends), max(ends)


def _rescale(header: Any, frames: int) -> list[tuple[float, float]]:
    """Slope and intercept of every frame; enhanced files say them for each, or for all."""
    name = "PixelValueTransformationSequence"
    common = _line(header, (1.0, 0.0))
    common = _line(group_item(header.get("SharedFunctionalGroupsSequence"), 0, name), common)
    each = header.get("PerFrameFunctionalGroupsSequence")
    return [_line(group_item(each, i, name), common) for i in range(frames)]


def _line(item: Any, otherwise: tuple[float, float]) -> tuple[float, float]:
    if item is None or ("RescaleSlope" not in item and "RescaleIntercept" not in item):
        return otherwise
    slope, intercept = item.get("RescaleSlope"), item.get("RescaleIntercept")
    return (
        1.0 if slope in (None, "") else float(slope),
        0.0 if intercept in (None, "") else float(intercept),
    )
