"""Where on a picture the patient is: a box that leaves out air, frames and labels."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from mvp.data.reading.limits import Pixels

# The box is found on a copy of this many pixels along the longer side.
_SIDE = 256
_MARGIN = 0.02
# Less than this share of the picture is a label or noise, and nobody's body.
_LEAST = 0.02
_LEVELS = 256
# A film's frame is bright along a whole line, and no wider than this share of the picture.
_ALONG, _FRAME = 0.95, 0.12
# Labels hang on the breast by less than this many pixels of the copy.
_OPENING = 2


class Box(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right`, the last ones excluded."""

    top: int
    bottom: int
    left: int
    right: int


def find_box(pixels: Pixels, what: Literal["body", "breast"]) -> Box:
    """The box that holds what is not background.

    On a small copy a threshold (Otsu 1979), taken once more among what is dark, divides the patient
    from air; the box of the largest connected part has a margin of 2% of the picture's sides. Air
    has to be dark, as the readers give it.

    Args:
        pixels: (H, W) or (H, W, 3), any type.
        what: `body`, of which the box must hold the picture's middle; or `breast`, which leaves out
            the bright frame of a scanned film, and labels even where they touch the breast.

    Returns:
        The box; the whole picture where the part is small or nothing is told apart.
    """
    height, width = pixels.shape[:2]
    whole = Box(0, height, 0, width)
    small = _small(pixels)
    found = _found(small, what)
    if found is None:
        return whole
    down, across = height / small.shape[0], width / small.shape[1]
    rows, columns = _MARGIN * height, _MARGIN * width
    return Box(
        max(0, int(found.top * down - rows)),
        min(height, int(np.ceil(found.bottom * down + rows))),
        max(0, int(found.left * across - columns)),
        min(width, int(np.ceil(found.right * across + columns))),
    )


def otsu(values: Pixels) -> float | None:
    """The threshold that best divides values in two (Otsu 1979); None when all are one."""
    low, high = float(values.min()), float(values.max())
    if not low < high:
        return None
    counts, edges = np.histogram(values, _LEVELS, (low, high))
    centers = (edges[:-1] + edges[1:]) / 2
    below, mass = np.cumsum(counts)[:-1], np.cumsum(counts * centers)
    above = counts.sum() - below
    mean_below = mass[:-1] / np.maximum(below, 1)
    mean_above = (mass[-1] - mass[:-1]) / np.maximum(above, 1)
    return float(edges[1 + np.argmax(below * above * (mean_above - mean_below) ** 2.0)])


def _small(pixels: Pixels) -> Pixels:
    grey = pixels.max(axis=2) if pixels.ndim == 3 else pixels
    height, width = grey.shape
    step = max(1.0, max(height, width) / _SIDE)
    size = max(1, round(height / step)), max(1, round(width / step))
    image = torch.from_numpy(grey.astype(np.float32))[None, None]
    small = functional.interpolate(image, size=size, mode="area")[0, 0].numpy()
    # One bright speck must not move the threshold.
    low, high = np.percentile(small, (0.5, 99.5))
    return np.clip((small - low) / max(float(high - low), 1e-30), 0, 1)


def _found(small: Pixels, what: str) -> Box | None:
    bright = otsu(small)
    if bright is None:
        return None
    # Once more among the dark: fat and lungs are darker than the middle, and no background.
    dim = otsu(small[small <= bright]) or bright
    if what == "body":
        box = _largest(small > dim)
        middle = box is not None and _holds_the_middle(box, *small.shape)
        return box if middle else None
    boxes = [_largest(_opened(_unframed(small > threshold))) for threshold in (dim, bright)]
    # Where light leaked in beside the chest wall, the dim lines there are taken for a frame: what
    # is bright in them is the breast.
    found = [box for box in boxes if box is not None]
    if len(found) < 2 or not _overlap(*found):
        return boxes[0]
    tops, bottoms, lefts, rights = zip(*found, strict=True)
    return Box(min(tops), max(bottoms), min(lefts), max(rights))


def _largest(mask: Pixels) -> Box | None:
    parts, number = ndimage.label(mask)
    if not number:
        return None
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    chosen = int(sizes.argmax())
    if sizes[chosen] < _LEAST * mask.size:
        return None
    rows, columns = ndimage.find_objects(parts, number)[chosen - 1]
    return Box(rows.start, rows.stop, columns.start, columns.stop)


def _overlap(one: Box, other: Box) -> bool:
    return max(one.top, other.top) < min(one.bottom, other.bottom) and max(
        one.left, other.left
    ) < min(one.right, other.right)


def _holds_the_middle(box: Box, height: int, width: int) -> bool:
    return box.top <= height / 2 <= box.bottom and box.left <= width / 2 <= box.right


def _opened(mask: Pixels) -> Pixels:
    # Beyond its border the picture goes on as it ends: the breast runs out of it.
    padded = np.pad(mask, 2 * _OPENING, mode="edge")
    opened = ndimage.binary_opening(padded, np.ones((2 * _OPENING + 1,) * 2))
    return opened[2 * _OPENING : -2 * _OPENING, 2 * _OPENING : -2 * _OPENING]


def _unframed(mask: Pixels) -> Pixels:
    """The mask without lines near its border that are bright from end to end."""
    rows, columns = mask.mean(axis=1) > _ALONG, mask.mean(axis=0) > _ALONG
    inner = np.zeros_like(mask)
    inside = tuple(
        slice(_past(lines), len(lines) - _past(lines[::-1])) for lines in (rows, columns)
    )
    inner[inside] = mask[inside]
    return inner


def _past(bright: Pixels) -> int:
    """Lines from the border to where a frame ends; 0 where there is none."""
    reach = int(_FRAME * len(bright))
    lines = np.flatnonzero(bright[:reach])
    # What is bright farther in than a frame reaches is the breast.
    return int(lines[-1]) + 1 if len(lines) and lines[-1] < reach - 1 else 0
