"""From a file's own values to brightness in [0, 1]: its full range, what lies between, a window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mvp.config import TransformConfig
from mvp.data.reading.limits import Pixels
from mvp.data.reading.stack import Shown, Window
from mvp.errors import ImageError


def unit_range(pixels: Pixels, shown: Shown, config: TransformConfig) -> Pixels:
    """Brightness of one image, as `config.intensity` says.

    Args:
        pixels: (H, W) or (H, W, 3), uint8, uint16 or float32.
        shown: how its file says that they are to be seen.
        config: `intensity`, `percentiles` and `window`.

    Returns:
        The same shape, float32 in [0, 1].

    Raises:
        ImageError: floats of which nobody says how large they could be.
    """
    if config.intensity == "percentile":
        return _between_percentiles(pixels, config.percentiles)
    if config.intensity == "window":
        if config.window != "file":
            fixed = Window(*config.window, "LINEAR_EXACT")
            return _mapped(pixels, lambda values: through_window(values, fixed))
        if (table := shown.table) is not None:
            return _mapped(pixels, lambda values: _through_table(values, *table))
        if (window := shown.window) is not None:
            return _mapped(pixels, lambda values: through_window(values, window))
    low, high = _full_range(pixels, shown)
    if not low < high:
        return np.zeros(pixels.shape, np.float32)
    if pixels.dtype.kind != "f" and _exact(low) and _exact(high):
        return _between(pixels, low, high)
    return _mapped(pixels, lambda values: np.clip((values - low) / (high - low), 0, 1))


def through_window(values: Pixels, window: Window) -> Pixels:
    """Brightness that a window gives (DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Args:
        values: any shape, float64.
        window: `LINEAR` needs a width of 1 or more, the others one above 0.

    Returns:
        The same shape, float64 in [0, 1].
    """
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        with np.errstate(over="ignore"):  # far below the window it is 1 / infinity
            return 1 / (1 + np.exp(-4 * (values - center) / width))
    if window.function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _full_range(pixels: Pixels, shown: Shown) -> tuple[float, float]:
    if shown.low is not None and shown.high is not None:
        return shown.low, shown.high
    if pixels.dtype.kind == "f":
        raise ImageError(
            "the image has floating-point pixels, whose full range is unknown",
            remedy='set transform.intensity = "percentile", or a window = [center, width]',
        )
    return 0, np.iinfo(pixels.dtype).max


def _exact(bound: float) -> bool:
    """Whether float32 holds it, and what lies between it and any pixel of 16 bits."""
    return float(bound).is_integer() and abs(bound) < 1 << 22


def _between(pixels: Pixels, low: float, high: float) -> Pixels:
    # Bit for bit what float64 gives, rounded: a quotient of two exact numbers that is rounded to
    # 53 bits and then to 24 is the one rounded to 24 (Figueroa, 1995). No table is looked up.
    start, width = np.float32(low), np.float32(high - low)
    values = np.subtract(pixels, start, dtype=np.float32) if low else pixels.astype(np.float32)
    values /= width
    inside = low <= 0 and high >= np.iinfo(pixels.dtype).max
    return values if inside else np.clip(values, 0, 1, out=values)


def _between_percentiles(pixels: Pixels, percentiles: tuple[float, float]) -> Pixels:
    values: Pixels = pixels.astype(np.float64 if pixels.dtype.kind == "f" else np.float32)
    low, high = np.percentile(values, percentiles)
    if not low < high:
        return (values > low).astype(np.float32)
    # However small: maps in SI units lie within 1e-9.
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def _through_table(values: Pixels, first: float, brightness: tuple[float, ...]) -> Pixels:
    place = np.clip(np.floor(values - first + 0.5), 0, len(brightness) - 1)
    return np.asarray(brightness)[place.astype(np.intp)]


def _mapped(pixels: Pixels, function: Callable[[Pixels], Pixels]) -> Pixels:
    if pixels.dtype.kind == "f":
        return function(pixels.astype(np.float64)).astype(np.float32)
    # Computed once for each value that there can be: exact, and no film becomes float64.
    levels = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=np.float64)
    return function(levels).astype(np.float32)[pixels]
