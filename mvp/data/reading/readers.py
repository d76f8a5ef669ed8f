"""From a file to pixels at their own depth; every failure is one error that names the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mvp.data.reading.dicom import read_dicom
from mvp.data.reading.dicom_syntax import has_preamble
from mvp.data.reading.limits import Limits, Pixels, check_file, check_pixels, finite, grey_if_grey
from mvp.data.reading.nifti import read_nifti
from mvp.data.reading.rasters import read_raster
from mvp.data.reading.stack import Stack
from mvp.errors import ImageError, MvpError

__all__ = [
    "READER_VERSION",
    "SUFFIXES",
    "Limits",
    "Pixels",
    "check_file",
    "read_image",
    "read_instances",
    "read_stack",
]

# Part of every feature key: raise it when the same file may give other pixels than before.
READER_VERSION = 3

_DEFAULT_LIMITS = Limits()
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
            cause="a single image was asked for",
            remedy="read a volume with read_instances, or save every image as a file of its own",
        )
    return stack[0]


def read_instances(file: str | Path, limits: Limits = _DEFAULT_LIMITS) -> Pixels:
    """The pixels of `read_stack`: (instances, H, W) or (instances, H, W, 3)."""
    return read_stack(file, limits).pixels


def read_stack(file: str | Path, limits: Limits = _DEFAULT_LIMITS) -> Stack:
    """Decode every image of a file: slices of a volume, frames, or the one image that it is.

    Args:
        file: by its suffix

            - PNG, JPEG, TIFF, BMP: see `mvp.data.reading.rasters.read_raster`.
            - `.npy`: (H, W) or (slices, H, W) of uint8, uint16 or floats. A last axis of 3 means
              colour, always: (H, W, 3) is one image, (slices, H, W, 3) several, both uint8.
            - `.dcm`, `.dicom`: see `mvp.data.reading.dicom.read_dicom`.
            - `.nii`, `.nii.gz`: see `mvp.data.reading.nifti.read_nifti`.
            - any other or none: DICOM, PNG, JPEG, TIFF or BMP, as its first bytes say.
        limits: bytes and pixels allowed, of one instance and of all together.

    Returns:
        (instances, H, W) uint8, uint16 or float32, or (instances, H, W, 3) uint8, C-contiguous;
        one instance for a single image. DICOM and NIfTI may say how values are to be seen.

    Raises:
        ImageError: the file is missing, empty, damaged, too large or of an unknown kind.
        MissingExtraError: the library that reads such files is not installed.
    """
    path = Path(file)
    check_file(path, limits)
    name = path.name.lower()
    read: Callable[[Path, Limits], Stack | Pixels] = read_raster
    if name.endswith(".npy"):
        read = _read_npy
    elif name.endswith(_DICOM):
        read = read_dicom
    elif name.endswith(_NIFTI):
        read = read_nifti
    elif not name.endswith(SUFFIXES) and has_preamble(path):
        read = read_dicom
    try:
        found = read(path, limits)
        stack = found if isinstance(found, Stack) else Stack(found)
        return Stack(np.ascontiguousarray(stack.pixels), stack.shown)
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
