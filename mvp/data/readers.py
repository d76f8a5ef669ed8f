"""From a file to pixels at their own depth; every failure is one error that names the file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvp.errors import ImageError

# Part of every feature key: raise it when the same file may give other pixels than before.
READER_VERSION = 1

Pixels = NDArray[Any]
_GREY_16 = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
# Pillow tries every format it knows, and hands EPS to Ghostscript, whatever the file is called.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_PHOTOMETRIC, _MIN_IS_WHITE = 262, 0
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy")


@dataclass(frozen=True)
class Limits:
    """What one file may cost, so that a decompression bomb is a rejected row."""

    max_pixels: int = 100_000_000
    max_bytes: int = 1_000_000_000
    root: str | None = None


def read_image(file: str | Path, limits: Limits = Limits()) -> Pixels:
    """Decode an image.

    Args:
        file: PNG (8 or 16 bit), JPEG, TIFF, BMP, or `.npy` with a 2-D array.
        limits: bytes and pixels allowed; `root`, a folder that links must not lead out of.

    Returns:
        (H, W) uint8, uint16 or float32, or (H, W, 3) uint8.

    Raises:
        ImageError: the file is missing, empty, damaged, too large or of an unknown kind.
    """
    path = Path(file)
    check_file(path, limits)
    try:
        if path.suffix.lower() == ".npy":
            return _read_npy(path, limits)
        return _read_pillow(path, limits)
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything; all of it is one reject
        reason = " ".join(str(error).split())[:200].replace(str(path), path.name)
        raise ImageError(
            "the image cannot be decoded",
            path=path,
            cause=f"{type(error).__name__}: {reason}" if reason else type(error).__name__,
            remedy="replace the file, or take its row out of the table",
        ) from None


def check_file(path: Path, limits: Limits) -> os.stat_result:
    """The file's status; an ImageError when it is missing, empty, too large or outside."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        raise ImageError(
            "the file is not there", path=path, remedy="correct data.root or the table's path"
        ) from None
    if not path.is_file():
        raise ImageError("this is not a file", path=path, remedy="correct the table's path")
    if limits.root is not None:
        root = os.path.realpath(limits.root)
        real = os.path.realpath(path)
        if os.path.commonpath([root, real]) != root:
            raise ImageError(
                "a link leads out of data.root",
                path=path,
                remedy="move the file, or set data.allow_outside_root = true",
            )
    if status.st_size == 0:
        raise ImageError("the file is empty (0 bytes)", path=path, remedy="copy it again")
    if status.st_size > limits.max_bytes:
        raise ImageError(
            f"the file has {status.st_size} bytes, more than data.max_bytes",
            path=path,
            remedy="raise data.max_bytes if the file is genuine",
        )
    return status


def _check_pixels(path: Path, pixels: int, limits: Limits) -> None:
    if pixels > limits.max_pixels:
        raise ImageError(
            f"the image has {pixels} pixels, more than data.max_pixels",
            path=path,
            remedy="raise data.max_pixels if the image is genuine",
        )


def _read_npy(path: Path, limits: Limits) -> Pixels:
    array = np.load(path, allow_pickle=False, mmap_mode="r")
    if array.ndim != 2 or 0 in array.shape:
        raise ImageError(f"an array of shape {array.shape} is not one image (H, W)", path=path)
    _check_pixels(path, array.size, limits)
    if array.dtype in (np.uint8, np.uint16):
        return np.array(array)
    if array.dtype.kind == "f":
        values = np.array(array, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ImageError("the image has values that are not finite", path=path)
        return values
    raise ImageError(f"pixels of type {array.dtype} are not read", path=path)


def _read_pillow(path: Path, limits: Limits) -> Pixels:
    from PIL import Image, ImageOps

    # Our own limit takes the place of Pillow's warning, which nobody would see.
    Image.MAX_IMAGE_PIXELS = None
    image: Any
    # A stream, not a path: Pillow maps an uncompressed TIFF that it is given by path, and takes
    # width for height when the film is to be turned (Pillow 13.0.0; the pixels come out scrambled).
    with path.open("rb") as stream, Image.open(stream, formats=_FORMATS) as image:
        _check_pixels(path, image.width * image.height, limits)
        # A JPEG may carry a preview of itself; the pages of a TIFF are images of their own.
        if image.format in ("TIFF", "PNG") and getattr(image, "n_frames", 1) > 1:
            raise ImageError(
                f"the file holds {image.n_frames} images, not one",
                path=path,
                remedy="save every page as a file of its own",
            )
        white = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE
        image.load()
        pixels = _pixels_of(ImageOps.exif_transpose(image), path)
        # Pillow inverts such films at 8 bits and leaves them as they are at 16.
        return 65535 - pixels if white and pixels.dtype == np.uint16 else pixels


def _pixels_of(image: Any, path: Path) -> Pixels:
    if image.mode in _GREY_16:
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I":
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > np.iinfo(np.uint16).max:
            raise ImageError("pixels of more than 16 bits are not read", path=path)
        return wide.astype(np.uint16)
    if image.mode == "F":
        values = np.asarray(image, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ImageError("the image has values that are not finite", path=path)
        return values
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if "A" in image.getbands() or "transparency" in image.info:
        return _on_black(image)
    return _grey_if_grey(np.asarray(image.convert("RGB")))


def _on_black(image: Any) -> Pixels:
    from PIL import Image

    layered = image.convert("RGBA")
    black = Image.new("RGBA", layered.size, (0, 0, 0, 255))
    return _grey_if_grey(np.asarray(Image.alpha_composite(black, layered).convert("RGB")))


def _grey_if_grey(rgb: Pixels) -> Pixels:
    # A grey film saved in colour is the same film.
    if (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all():
        return np.ascontiguousarray(rgb[..., 0])
    return rgb
