"""NIfTI volumes as a stack of slices that are the right way up."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from mvp.data.reading.limits import Limits, Pixels, check_pixels, finite
from mvp.data.reading.stack import UNSAID, Shown, Stack, Window
from mvp.errors import ImageError, MissingExtraError

_GZIP = b"\x1f\x8b"
_HEADERS = {348: "Nifti1Header", 540: "Nifti2Header"}
_BLOCK = 1 << 20


def read_nifti(path: Path, limits: Limits) -> Stack:
    """Decode a NIfTI-1 or NIfTI-2 volume in one file, plain or gzipped.

    Slices lie along the last stored axis, the plane that the volume was acquired in. The affine
    says which axis of the patient that is, and the slices come in its RAS+ order: feet to head,
    back to front, or left to right. Every slice is turned and mirrored to the nearest standard
    plane, without resampling, as DICOM shows it:

    - axial: rows run from anterior to posterior, columns from the patient's right to the left;
    - coronal: rows run from superior to inferior, columns from the patient's right to the left;
    - sagittal: rows run from superior to inferior, columns from anterior to posterior.

    Only the header and as many bytes as it announces are inflated.

    Args:
        path: the file.
        limits: pixels allowed; `max_bytes` also bounds what lies between header and voxels.

    Returns:
        (slices, H, W) uint8 or uint16 where the file stores these and does not scale them,
        float32 otherwise (integers beyond 2**24 are rounded); with the window of `cal_min` and
        `cal_max` where the header has one.

    Raises:
        ImageError: several volumes, colour, complex or non-finite voxels, too large, cut off.
        MissingExtraError: nibabel is not installed.
    """
    try:
        import nibabel
    except ImportError:
        raise MissingExtraError("nibabel", "nifti", "reading NIfTI") from None

    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
        header = _header(stream, path, nibabel)
        shape = _shape(header, path)
        along = nibabel.io_orientation(header.get_best_affine())
        if np.isnan(along).any():
            raise ImageError("the volume's affine does not say how it lies", path=path)
        # Stored (i, j, k); slices run along k.
        check_pixels(path, (shape[2], shape[0], shape[1]), limits)
        offset = int(header["vox_offset"])
        if not int(header["sizeof_hdr"]) <= offset <= limits.max_bytes:
            raise ImageError("the volume's header contradicts itself", path=path)
        _skip(stream, offset - int(header["sizeof_hdr"]))
        stored = _voxels(stream, header.get_data_dtype(), shape, path)
    values = _scaled(stored, header, path)
    canonical = nibabel.apply_orientation(values, along)
    plane = int(along[2, 0])
    # Both axes that remain point to right, anterior or superior, the upright one last.
    return Stack(np.moveaxis(canonical, plane, 0).transpose(0, 2, 1)[:, ::-1, ::-1], _shown(header))


def _shown(header: Any) -> tuple[Shown]:
    low, high = float(header["cal_min"]), float(header["cal_max"])
    if not np.isfinite([low, high]).all() or low >= high:
        return (UNSAID,)
    return (Shown(window=Window((low + high) / 2, high - low, "LINEAR_EXACT")),)


def _header(stream: BinaryIO, path: Path, nibabel: Any) -> Any:
    start = _read(stream, 4)
    sizes = {int.from_bytes(start, "little"), int.from_bytes(start, "big")} & _HEADERS.keys()
    if not sizes:
        raise ImageError("the file is not NIfTI", path=path)
    size = sizes.pop()
    kind = getattr(nibabel, _HEADERS[size])
    # check=False: what nibabel would mend and log is checked here, where it matters.
    header = kind(start + _read(stream, size - 4), check=False)
    if not bytes(header["magic"]).startswith(b"n+"):
        raise ImageError("the voxels of a NIfTI file must lie in the same file", path=path)
    return header


def _shape(header: Any, path: Path) -> tuple[int, int, int]:
    shape = [int(n) for n in header.get_data_shape()]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) == 2:
        shape.append(1)
    if len(shape) != 3:
        raise ImageError(
            f"the file holds an array of {len(shape)} dimensions, not one volume",
            path=path,
            remedy="save every time point or channel as a file of its own",
        )
    if min(shape) < 1:
        raise ImageError("the volume is empty", path=path)
    return shape[0], shape[1], shape[2]


def _voxels(stream: BinaryIO, dtype: np.dtype, shape: tuple[int, int, int], path: Path) -> Pixels:
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        raise ImageError(
            "voxels in colour, complex or of more than 64 bits are not read", path=path
        )
    flat = np.empty(int(np.prod(shape)), dtype)
    view = flat.view(np.uint8).data
    filled = 0
    while filled < len(view):
        block = _read(stream, min(_BLOCK, len(view) - filled))
        view[filled : filled + len(block)] = block
        filled += len(block)
    stream.read(1)  # a gzip stream's checksum is compared where it ends
    return flat.reshape(shape, order="F")


def _scaled(stored: Pixels, header: Any, path: Path) -> Pixels:
    slope, intercept = header.get_slope_inter()
    slope, intercept = (1.0 if slope is None else slope), (intercept or 0.0)
    same = slope == 1 and intercept == 0
    if same and stored.dtype.newbyteorder("=") in (np.uint8, np.uint16):
        return stored.astype(stored.dtype.newbyteorder("="), copy=False)
    with np.errstate(all="ignore"):  # what overflows is refused as an error, not warned about
        values = stored.astype(np.float32, copy=False)
        if not same:
            values *= np.float32(slope)
            values += np.float32(intercept)
    return finite(values, path)


def _skip(stream: BinaryIO, number: int) -> None:
    while number > 0:
        number -= len(_read(stream, min(_BLOCK, number)))


def _read(stream: BinaryIO, number: int) -> bytes:
    """Exactly so many bytes."""
    data = stream.read(number)
    if len(data) < number:
        raise EOFError
    return data
