"""DICOM files as a stack of frames; no header value leaves this module, not even in an error."""

from __future__ import annotations

import logging
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mvp.data.limits import Limits, Pixels, check_pixels, finite, grey_if_grey
from mvp.errors import ImageError, MissingExtraError

_UID = "1.2.840.10008.1.2"
# Transfer syntax to the one library that decodes it: were another taken where that one is not
# installed, a lossy film would have other pixels on another machine.
_DECODERS = {
    _UID: "",
    f"{_UID}.1": "",
    f"{_UID}.2": "",
    f"{_UID}.5": "pydicom",  # RLE
    f"{_UID}.4.50": "pillow",  # JPEG, 8 bit
    f"{_UID}.4.51": "gdcm",  # JPEG, 12 bit
    f"{_UID}.4.57": "gdcm",  # JPEG, lossless
    f"{_UID}.4.70": "gdcm",
    f"{_UID}.4.80": "pyjpegls",  # JPEG-LS
    f"{_UID}.4.81": "pyjpegls",
    f"{_UID}.4.90": "pylibjpeg",  # JPEG 2000
    f"{_UID}.4.91": "pylibjpeg",
    f"{_UID}.4.201": "pylibjpeg",  # JPEG 2000, high throughput
    f"{_UID}.4.202": "pylibjpeg",
    f"{_UID}.4.203": "pylibjpeg",
}
_LIBRARIES = {"gdcm": "python-gdcm", "pylibjpeg": "pylibjpeg-openjpeg"}
# Deflated as a whole, with JPIP, by frame: how much comes out is known when it is out.
_DEFLATED = (f"{_UID}.1.99", f"{_UID}.4.95", f"{_UID}.4.205", f"{_UID}.8.1")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_PALETTE = "PALETTE COLOR"
# No other element is so much as read: the patient's name never gets into memory.
_ELEMENTS = [
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
    "ModalityLUTSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    *(
        f"{segmented}{colour}PaletteColorLookupTable{part}"
        for segmented in ("", "Segmented")
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
        if (segmented, part) != ("Segmented", "Descriptor")
    ),
]  # fmt: skip


def read_dicom(path: Path, limits: Limits) -> Pixels:
    """Decode all frames of a DICOM file.

    Stored values become those of the modality (rescale slope and intercept, or its table);
    MONOCHROME1 is inverted within the range that BitsStored and PixelRepresentation allow, not
    within the values that occur, so that one film's grey values do not depend on its content.
    Windows (VOI) and overlays are not applied. Colours become RGB.

    Args:
        path: the file.
        limits: pixels allowed, compared with the header before anything is decoded.

    Returns:
        (frames, H, W) uint8 or uint16 as stored; float32 where values are signed or rescaled;
        or (frames, H, W, 3) uint8.

    Raises:
        ImageError: no image, one of an unknown or deflated kind, too large or damaged.
        MissingExtraError: pydicom, or the library for this compression, is not installed.
    """
    try:
        import pydicom
        from pydicom.pixels import get_decoder, pixel_array
    except ImportError:
        raise MissingExtraError("pydicom", "dicom", "reading DICOM") from None
    _silence()
    syntax = str(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", ""))
    if syntax in _DEFLATED:
        raise ImageError(
            "a deflated DICOM file is not read",
            path=path,
            cause="nobody knows how much comes out of it before it is out",
            remedy="save it under another transfer syntax",
        )
    if syntax not in _DECODERS:
        raise ImageError(
            "the file's transfer syntax is not read",
            path=path,
            remedy="save it as Explicit VR Little Endian",
        )
    plugin = _DECODERS[syntax]
    if plugin and plugin not in get_decoder(syntax).available_plugins:
        library = _LIBRARIES.get(plugin, plugin)
        raise MissingExtraError(library, "dicom", "reading a compressed DICOM file")
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_ELEMENTS))
    frames = int(header.get("NumberOfFrames") or 1)
    shape = frames, int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    if min(shape) < 1:
        raise ImageError("the file holds no image", path=path)
    check_pixels(path, shape, limits)
    kind, samples = str(header.get("PhotometricInterpretation", "")), header.get("SamplesPerPixel")
    if samples != (3 if kind in _COLOUR else 1) or kind not in (*_GREY, *_COLOUR, _PALETTE):
        raise ImageError("the file's kind of colour is not read", path=path)
    # Frames beyond those announced are not decoded: nobody counted them.
    values = pixel_array(path, decoding_plugin=plugin, allow_excess_frames=False)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if kind in _COLOUR:
        return _colour(values.reshape(*shape, 3), path)
    if kind == _PALETTE:
        return _from_palette(values.reshape(shape), header, path)
    return _grey(values.reshape(shape), header, path, inverted=kind == "MONOCHROME1")


@cache
def _silence() -> None:
    # pydicom quotes header values in both, and neither may reach a log. Once: every change of the
    # filters makes warnings come again that were given before.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")


def _colour(values: Pixels, path: Path) -> Pixels:
    if values.dtype != np.uint8:
        raise ImageError("colour of more than 8 bits is not read", path=path)
    return grey_if_grey(values)


def _from_palette(values: Pixels, header: Any, path: Path) -> Pixels:
    from pydicom.pixels import apply_color_lut

    if values.dtype not in (np.uint8, np.uint16):
        raise ImageError("the palette does not fit the pixels", path=path)
    rgb = apply_color_lut(values, header)
    # Tables of 16 bits hold what 8 bits show in their upper half.
    return _colour((rgb >> 8).astype(np.uint8) if rgb.dtype == np.uint16 else rgb, path)


def _grey(values: Pixels, header: Any, path: Path, *, inverted: bool) -> Pixels:
    if values.dtype.kind == "f":
        if inverted:
            raise ImageError("floating-point pixels have no range to invert within", path=path)
        return finite(values.astype(np.float32, copy=False), path)
    if values.dtype.itemsize > 2:
        raise ImageError("pixels of more than 16 bits are not read", path=path)
    bits = int(header.BitsStored)
    if tables := header.get("ModalityLUTSequence"):
        values = _looked_up(
            values, tables[0], "><"[header.file_meta.TransferSyntaxUID.is_little_endian]
        )
        return _invert(values, int(tables[0].LUTDescriptor[2])) if inverted else values
    if inverted:
        values = _invert(values, bits)
    if int(header.BitsAllocated) == 1:
        return values * np.uint8(255)  # black and white, as other formats give one bit
    lines = _rescale(header, len(values))
    if values.dtype.kind == "u" and all(line == (1, 0) for line in lines):
        return values
    rescaled = values.astype(np.float32)
    with np.errstate(all="ignore"):  # what overflows is refused as an error, not warned about
        for index, (slope, intercept) in enumerate(lines):
            rescaled[index] *= np.float32(slope)
            rescaled[index] += np.float32(intercept)
    return finite(rescaled, path)


def _looked_up(values: Pixels, item: Any, order: str) -> Pixels:
    # pydicom's own knows tables of 8 and of 16 bits only; those of 12 are common.
    entries, first, bits = (int(n) for n in item.LUTDescriptor)
    entries = entries or 1 << 16
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "u1" if len(data) == entries else f"{order}u2")
    table = np.asarray(data)[:entries].astype(np.uint8 if bits <= 8 else np.uint16)
    return table[np.clip(values.astype(np.int32) - first, 0, entries - 1)]


def _invert(values: Pixels, bits: int) -> Pixels:
    if values.dtype.kind == "i":
        return np.invert(values)  # -1 - v, which maps the range of any width to itself
    top = values.dtype.type((1 << bits) - 1)
    return top - np.minimum(values, top)


def _rescale(header: Any, frames: int) -> list[tuple[float, float]]:
    """Slope and intercept of every frame; enhanced files say them for each, or for all."""
    common = _line(header, (1.0, 0.0))
    common = _line(_transformation(header.get("SharedFunctionalGroupsSequence"), 0), common)
    each = header.get("PerFrameFunctionalGroupsSequence")
    return [_line(_transformation(each, i), common) for i in range(frames)]


def _transformation(groups: Any, index: int) -> Any:
    """The item of a functional group that holds slope and intercept; None where none does."""
    if not groups or index >= len(groups):
        return None
    found = groups[index].get("PixelValueTransformationSequence")
    return found[0] if found else None


def _line(item: Any, otherwise: tuple[float, float]) -> tuple[float, float]:
    if item is None or ("RescaleSlope" not in item and "RescaleIntercept" not in item):
        return otherwise
    slope, intercept = item.get("RescaleSlope"), item.get("RescaleIntercept")
    return (
        1.0 if slope in (None, "") else float(slope),
        0.0 if intercept in (None, "") else float(intercept),
    )
