"""What a file may cost, and the few types of pixels that every reader gives."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvp.data.reading.decoding_memory import allowance
from mvp.errors import ImageError

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Limits:
    """What one file may cost, so that a decompression bomb is a rejected row.

    Attributes:
        max_pixels: of one instance (an image, a slice, a frame).
        max_bytes: of the file as it lies there.
        root: a folder that links must not lead out of; None allows it.
        max_volume_pixels: of all instances of the file together.
        max_seconds: of reading and decoding it.
        allow_deflated: inflate deflated DICOM files, as far as `max_bytes`.
    """

    max_pixels: int = 100_000_000
    max_bytes: int = 1_000_000_000
    root: str | None = None
    max_volume_pixels: int = 1_000_000_000
    max_seconds: float = 30.0
    allow_deflated: bool = False


def check_file(path: Path, limits: Limits) -> os.stat_result:
    """The file's status; an ImageError when it is missing, empty, too large or outside."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.ELOOP):
            raise ImageError(
                "the file cannot be reached",
                path=path,
                cause=error.strerror,
                remedy="let whoever runs this read its folders; mend links that lead in a circle",
            ) from None
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


def check_pixels(path: Path, shape: Sequence[int], limits: Limits) -> None:
    """Refuse a stack that is too large, from its header and before it is decoded.

    What is not refused is announced: decoding it may take memory in proportion.

    Args:
        path: for the error.
        shape: (instances, H, W); what follows, such as colours, is not counted.
        limits: what is allowed.

    Raises:
        ImageError: one instance, or all of them together, have too many pixels.
    """
    instances, pixels = int(shape[0]), int(shape[1]) * int(shape[2])
    if pixels > limits.max_pixels:
        raise ImageError(
            f"the image has {pixels} pixels, more than data.max_pixels",
            path=path,
            remedy="raise data.max_pixels if the image is genuine",
        )
    if instances * pixels > limits.max_volume_pixels:
        raise ImageError(
            f"the file's {instances} images have {instances * pixels} pixels, more than "
            "data.max_volume_pixels",
            path=path,
            remedy="raise data.max_volume_pixels if the file is genuine",
        )
    allowance.announce(instances * pixels)


def finite(values: Pixels, path: Path) -> Pixels:
    """The same (instances, H, W) array; an ImageError when it holds NaN or infinity."""
    # One instance at a time: a mask of a whole volume would be a second volume.
    if not all(np.isfinite(instance).all() for instance in values):
        raise ImageError("the image has values that are not finite", path=path)
    return values


def grey_if_grey(rgb: Pixels) -> Pixels:
    """(..., 3) as (...) when its three colours are one; a grey film saved in colour is grey."""
    if (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all():
        return np.ascontiguousarray(rgb[..., 0])
    return rgb
