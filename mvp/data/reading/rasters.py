"""PNG, JPEG, TIFF and BMP files as a stack of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mvp.data.reading.limits import Limits, Pixels, check_pixels, finite, grey_if_grey
from mvp.data.reading.stack import UNSAID, Shown, Stack
from mvp.errors import ImageError

_GREY_16 = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_GREY = frozenset({"1", "L", "I", "F", *_GREY_16})
# Pillow tries every format it knows, and hands EPS to Ghostscript, whatever the file is called.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_PHOTOMETRIC, _MIN_IS_WHITE = 262, 0


def read_raster(path: Path, limits: Limits) -> Stack:
    """Decode a PNG, JPEG, TIFF or BMP file, as its first bytes say.

    Cameras' notes of how the picture was held are followed, transparency lies on black, films
    stored with white as zero are turned, colours that are all one are grey.

    Args:
        path: the file.
        limits: pixels allowed, compared with the header before anything is decoded.

    Returns:
        (1, H, W) uint8, uint16 or float32, or (1, H, W, 3) uint8; several instances for a TIFF of
        grey pages of one size and depth.

    Raises:
        ImageError: several pages that are no stack, colour of 16 bits, too large or damaged.
    """
    from PIL import Image

    # Our own limit takes the place of Pillow's warning, which nobody would see.
    Image.MAX_IMAGE_PIXELS = None
    image: Any
    # A stream, not a path: Pillow maps an uncompressed TIFF that it is given by path, and takes
    # width for height when the film is to be turned (Pillow 13.0.0; the pixels come out scrambled).
    with path.open("rb") as stream, Image.open(stream, formats=_FORMATS) as image:
        # A JPEG may carry a preview of itself; the pages of a TIFF are images of their own.
        pages = getattr(image, "n_frames", 1) if image.format in ("TIFF", "PNG") else 1
        check_pixels(path, (pages, image.height, image.width), limits)
        if pages == 1:
            shown = _shown(image)  # before it is decoded: then nothing tells any more
            return Stack(_page(image, path)[None], (shown,))
        return _pages(image, pages, path)


def _pages(image: Any, number: int, path: Path) -> Stack:
    like, found = (image.mode, image.size), []
    shown = _shown(image)
    for index in range(number):
        image.seek(index)
        if image.format != "TIFF" or image.mode not in _GREY or (image.mode, image.size) != like:
            raise ImageError(
                f"the file holds {number} images, which are no stack",
                path=path,
                cause="pages of a stack are those of a TIFF, grey, and of one size and depth",
                remedy="save every page as a file of its own",
            )
        found.append(_page(image, path))
    return Stack(np.stack(found), (shown,))


def _shown(image: Any) -> Shown:
    return Shown(0, (1 << 12) - 1) if ";12" in _packing(image) else UNSAID


def _packing(image: Any) -> str:
    """How Pillow calls the bits of the file, such as `RGB;16B`."""
    return str([tile[3] for tile in image.tile])


def _page(image: Any, path: Path) -> Pixels:
    from PIL import ImageOps

    # Pillow reads such colours as 8 bits, without a word.
    if image.mode not in _GREY and ";16" in _packing(image):
        raise ImageError(
            "colour, or grey with transparency, of 16 bits is not read",
            path=path,
            remedy="save it as grey of 16 bits or colour of 8",
        )
    white = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    pixels = _pixels_of(image, path)
    # Pillow inverts such films at 8 bits and leaves them as they are at 16.
    return 65535 - pixels if white and pixels.dtype == np.uint16 else pixels


def _pixels_of(image: Any, path: Path) -> Pixels:
    if image.mode in _GREY_16:
        return np.asarray(image).astype(np.uint16, copy=False)
    if image.mode == "I":
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > np.iinfo(np.uint16).max:
            raise ImageError("pixels below zero or of more than 16 bits are not read", path=path)
        return wide.astype(np.uint16)
    if image.mode == "F":
        return finite(np.asarray(image, dtype=np.float32)[None], path)[0]
    if image.mode in ("1", "L"):
        return np.asarray(image if image.mode == "L" else image.convert("L"))
    if "A" in image.getbands() or "transparency" in image.info:
        return _on_black(image)
    return grey_if_grey(np.asarray(image.convert("RGB")))


def _on_black(image: Any) -> Pixels:
    from PIL import Image

    layered = image.convert("RGBA")
    black = Image.new("RGBA", layered.size, (0, 0, 0, 255))
    return grey_if_grey(np.asarray(Image.alpha_composite(black, layered).convert("RGB")))
