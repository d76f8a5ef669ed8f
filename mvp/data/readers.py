"""From a file to pixels at their own depth; every failure is one error that names the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mvp.data.dicom import read_dicom
from mvp.data.limits import Limits, Pixels, check_file, check_pixels, finite, grey_if_grey
from mvp.data.nifti import read_nifti
from mvp.errors import ImageError, MvpError

__all__ = [
    "READER_VERSION",
    "SUFFIXES",
    "Limits",
    "Pixels",
    "check_file",
    "read_image",
    "read_instances",
]

# Part of every feature key: raise it when the same file may give other pixels than before.
READER_VERSION = 2

_DEFAULT_LIMITS = Limits()
_GREY_16 = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
# Pillow tries every format it knows, and hands EPS to Ghostscript, whatever the file is called.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_PHOTOMETRIC, _MIN_IS_WHITE = 262, 0
_DICOM = (".dcm", ".dicom")
_NIFTI = (".nii", ".nii.gz")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy", *_DICOM, *_NIFTI)


def read_image(file: str | Path, limits: Limits = _DEFAULT_LIMITS) -> Pixels:
    """Decode a file that holds one image.

    Args:
        file: anything that `read_instances` reads.
        limits: bytes and pixels allowed; `root`, a folder that links must not lead out of.

    Returns:
        (H, W) uint8, uint16 or float32, or (H, W, 3) uint8.

    Raises:
        ImageError: the file is missing, empty, damaged, too large or of an unknown kind, or
            holds several images.
        MissingExtraError: the library that reads such files is not installed.
    """
    stack = read_instances(file, limits)
    if len(stack) != 1:
        raise ImageError(
            f"the file holds {len(stack)} images, not one",
            path=file,
            cause="volumes are used by extraction; stage one trains on single images",
            remedy='set protocol = "frozen", or save every image as a file of its own',
        )
    return stack[0]


def read_instances(file: str | Path, limits: Limits = _DEFAULT_LIMITS) -> Pixels:
    """Decode every image of a file: slices of a volume, frames, or the one image that it is.

    Args:
        file: by its suffix

            - PNG (8 or 16 bit), JPEG, TIFF, BMP: one image; several pages are refused.
            - `.npy`: (H, W) or (slices, H, W) of uint8, uint16 or floats. A last axis of 3 means
              colour, always: (H, W, 3) is one image, (slices, H, W, 3) several, both uint8.
            - `.dcm`, `.dicom`: see `mvp.data.dicom.read_dicom`.
            - `.nii`, `.nii.gz`: see `mvp.data.nifti.read_nifti`.
        limits: bytes and pixels allowed, of one instance and of all together.

    Returns:
        (instances, H, W) uint8, uint16 or float32, or (instances, H, W, 3) uint8, C-contiguous;
        one instance for a single image.

    Raises:
        ImageError: the file is missing, empty, damaged, too large or of an unknown kind.
        MissingExtraError: the library that reads such files is not installed.
    """
    path = Path(file)
    check_file(path, limits)
    name = path.name.lower()
    read: Callable[[Path, Limits], Pixels] = _read_pillow
    if name.endswith(".npy"):
        read = _read_npy
    elif name.endswith(_DICOM):
        read = read_dicom
    elif name.endswith(_NIFTI):
        read = read_nifti
    try:
        return np.ascontiguousarray(read(path, limits))
    except MvpError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything; all of it is one reject
        # What these libraries say quotes the header, and the header names the patient.
        private = read in (read_dicom, read_nifti)
        reason = "" if private else " ".join(str(error).split())[:200].replace(str(path), path.name)
        raise ImageError(
            "the image cannot be decoded",
            path=path,
            cause=f"{type(error).__name__}: {reason}" if reason else type(error).__name__,
            remedy="replace the file, or take its row out of the table",
        ) from None


def _read_npy(path: Path, limits: Limits) -> Pixels:
    array = np.load(path, allow_pickle=False, mmap_mode="r")
    colour = array.ndim > 2 and array.shape[-1] == 3
    axes = array.ndim - colour
    if axes not in (2, 3) or 0 in array.shape:
        raise ImageError(
            f"an array of shape {array.shape} is neither an image (H, W) nor a stack of them",
            path=path,
        )
    if colour and array.dtype != np.uint8:
        raise ImageError(
            f"an array of shape {array.shape} is in colour, and of type {array.dtype}",
            path=path,
            cause="a last axis of 3 means colour, which is read as uint8",
        )
    stack = array if axes == 3 else array[None]
    check_pixels(path, stack.shape, limits)
    if stack.dtype in (np.uint8, np.uint16):
        values = np.array(stack, order="C")
        return grey_if_grey(values) if colour else values
    if stack.dtype.kind == "f":
        return finite(np.array(stack, dtype=np.float32, order="C"), path)
    raise ImageError(f"pixels of type {stack.dtype} are not read", path=path)


def _read_pillow(path: Path, limits: Limits) -> Pixels:
    from PIL import Image, ImageOps

    # Our own limit takes the place of Pillow's warning, which nobody would see.
    Image.MAX_IMAGE_PIXELS = None
    image: Any
    # A stream, not a path: Pillow maps an uncompressed TIFF that it is given by path, and takes
    # width for height when the film is to be turned (Pillow 13.0.0; the pixels come out scrambled).
    with path.open("rb") as stream, Image.open(stream, formats=_FORMATS) as image:
        check_pixels(path, (1, image.height, image.width), limits)
        # A JPEG may carry a preview of itself; the pages of a TIFF are images of their own.
        if image.format in ("TIFF", "PNG") and getattr(image, "n_frames", 1) > 1:
            raise ImageError(
                f"the file holds {image.n_frames} images, not one",
                path=path,
                remedy="save every page as a file of its own",
            )
        white = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE
        image.load()
        pixels = _pixels_of(ImageOps.exif_transpose(image), path)[None]
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
        return finite(np.asarray(image, dtype=np.float32), path)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if "A" in image.getbands() or "transparency" in image.info:
        return _on_black(image)
    return grey_if_grey(np.asarray(image.convert("RGB")))


def _on_black(image: Any) -> Pixels:
    from PIL import Image

    layered = image.convert("RGBA")
    black = Image.new("RGBA", layered.size, (0, 0, 0, 255))
    return grey_if_grey(np.asarray(Image.alpha_composite(black, layered).convert("RGB")))
