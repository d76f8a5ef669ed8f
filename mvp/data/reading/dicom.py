"""DICOM files as a stack of frames; no header value leaves these modules, not even in an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mvp.data.reading.dicom_codestream import check_frames
from mvp.data.reading.dicom_shown import byte_order
from mvp.data.reading.dicom_syntax import JPEG_12, decoder_of, opened, read_elements
from mvp.data.reading.dicom_values import grey_stack
from mvp.data.reading.limits import Limits, Pixels, check_pixels, grey_if_grey
from mvp.data.reading.stack import Stack
from mvp.errors import ImageError

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_PALETTE = "PALETTE COLOR"
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# No other element is so much as read: the patient's name never gets into memory.
_SHAPE = [
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
]  # fmt: skip
_MEANING = [
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "PixelPaddingValue", "PixelPaddingRangeLimit",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    *(
        f"{segmented}{colour}PaletteColorLookupTable{part}"
        for segmented in ("", "Segmented")
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
        if (segmented, part) != ("Segmented", "Descriptor")
    ),
]  # fmt: skip
_OFFSETS = ["ExtendedOffsetTable", "ExtendedOffsetTableLengths"]


def read_dicom(path: Path, limits: Limits) -> Stack:
    """Decode all frames of a DICOM file.

    Stored values become those of the modality (rescale slope and intercept, or its table);
    MONOCHROME1 is inverted within the range that BitsStored and PixelRepresentation allow, not
    within the values that occur, so that one film's grey values do not depend on its content.
    Padding becomes the darkest value beside it. Windows and tables of what is to be seen (VOI) are
    handed on in the values returned, not applied; overlays are passed over. Colours become RGB.

    Args:
        path: the file.
        limits: pixels allowed, compared with the header before anything is decoded, and whether
            a deflated file is inflated.

    Returns:
        (frames, H, W) uint8 or uint16 as stored; float32 where values are signed or rescaled;
        or (frames, H, W, 3) uint8. With the range that the bits allow, and each frame's view.

    Raises:
        ImageError: no image, one of an unknown or deflated kind, too large or damaged.
        MissingExtraError: pydicom, or the library for this compression, is not installed.
    """
    with opened(path, limits) as (stream, syntax):
        header = read_elements(stream, [*_SHAPE, *_MEANING], syntax)
        shape = _shape(header, path, limits)
        plugin = decoder_of(str(header.file_meta.TransferSyntaxUID), path)
        kind = _kind(header, path)
        _refuse_jpeg_12(header, path)
        # Not before the limits are kept: this takes the compressed frames into memory.
        names = [*_SHAPE, *_OFFSETS, *_PIXELS]
        picture = read_elements(stream, names, syntax, pixels=True)
    values = _decoded(picture, plugin, path)
    if kind in _COLOUR:
        return Stack(_colour(values.reshape(*shape, 3), path))
    if kind == _PALETTE:
        return Stack(_from_palette(values.reshape(shape), header, path))
    return grey_stack(values.reshape(shape), header, path, turned=kind == "MONOCHROME1")


def _shape(header: Any, path: Path, limits: Limits) -> tuple[int, int, int]:
    frames = int(header.get("NumberOfFrames") or 1)
    shape = frames, int(header.get("Rows") or 0), int(header.get("Columns") or 0)
    if min(shape) < 1:
        raise ImageError("the file holds no image", path=path)
    check_pixels(path, shape, limits)
    return shape


def _refuse_jpeg_12(header: Any, path: Path) -> None:
    if header.file_meta.TransferSyntaxUID == JPEG_12 and int(header.BitsStored) > 8:
        raise ImageError(
            "lossy JPEG of 12 bits is not read",
            path=path,
            cause="no library with a permissive licence decodes it",
            remedy="save it under another transfer syntax, such as JPEG 2000",
        )


def _kind(header: Any, path: Path) -> str:
    kind, samples = str(header.get("PhotometricInterpretation", "")), header.get("SamplesPerPixel")
    if samples != (3 if kind in _COLOUR else 1) or kind not in (*_GREY, *_COLOUR, _PALETTE):
        raise ImageError("the file's kind of colour is not read", path=path)
    return kind


def _decoded(picture: Any, plugin: str, path: Path) -> Pixels:
    from pydicom.pixels import pixel_array

    if not any(name in picture for name in _PIXELS):
        raise ImageError("the file holds no image", path=path, cause="it has no pixel data")
    if "PixelData" in picture and int(picture.BitsAllocated) > 16:
        raise ImageError("pixels of more than 16 bits are not read", path=path)
    if plugin:
        check_frames(picture, path)
    else:
        _check_length(picture, path)
    # Frames beyond those announced are not decoded: nobody counted them.
    values = pixel_array(picture, decoding_plugin=plugin, allow_excess_frames=False)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _check_length(picture: Any, path: Path) -> None:
    from pydicom.pixels.utils import get_expected_length

    name = next(name for name in _PIXELS if name in picture)
    if len(picture[name].value or b"") < get_expected_length(picture):
        raise ImageError(
            "the file's pixel data are shorter than its header says",
            path=path,
            remedy="copy it again",
        )


def _colour(values: Pixels, path: Path) -> Pixels:
    if values.dtype != np.uint8:
        raise ImageError("colour of more than 8 bits is not read", path=path)
    return grey_if_grey(values)


def _from_palette(values: Pixels, header: Any, path: Path) -> Pixels:
    from pydicom.pixels import apply_color_lut

    if values.dtype not in (np.uint8, np.uint16):
        raise ImageError("the palette does not fit the pixels", path=path)
    if byte_order(header) == ">":
        _turn_palette(header)
    rgb = apply_color_lut(values, header)
    # Tables of 16 bits hold what 8 bits show in their upper half.
    return _colour((rgb >> 8).astype(np.uint8) if rgb.dtype == np.uint16 else rgb, path)


def _turn_palette(header: Any) -> None:
    # pydicom 3.0.2 reads plain tables of 16 bits in the machine's byte order, whatever the file's.
    for colour in ("Red", "Green", "Blue"):
        name = f"{colour}PaletteColorLookupTable"
        data, entries = header.get(f"{name}Data"), header[f"{name}Descriptor"].value[0] or 1 << 16
        if isinstance(data, bytes) and len(data) == 2 * entries:
            header[f"{name}Data"].value = np.frombuffer(data, ">u2").astype("<u2").tobytes()
