"""How a DICOM file is packed: opened, inflated within bounds, and its decoder named."""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from mvp.data.reading.limits import Limits
from mvp.errors import ImageError, MissingExtraError

_UID = "1.2.840.10008.1.2"
IMPLICIT, EXPLICIT, BIG_ENDIAN = _UID, f"{_UID}.1", f"{_UID}.2"
RLE = f"{_UID}.5"
JPEG_12 = f"{_UID}.4.51"  # extended: of 8 bits or of 12
# Transfer syntax to the one library that decodes it: were another taken where that one is not
# installed, a lossy film would have other pixels on another machine.
_DECODERS = {
    IMPLICIT: "",
    EXPLICIT: "",
    BIG_ENDIAN: "",
    RLE: "pydicom",
    f"{_UID}.4.50": "pillow",  # JPEG, 8 bit
    JPEG_12: "gdcm",
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
_DEFLATED = f"{_UID}.1.99"
# JPIP, and deflated frame by frame: how much comes out is known when it is out.
_UNBOUNDED = (f"{_UID}.4.94", f"{_UID}.4.95", f"{_UID}.4.204", f"{_UID}.4.205", f"{_UID}.8.1")
_PREAMBLE = 128
_BLOCK = 1 << 20
# Value representations of the first elements of groups 0002 and 0008.
_FIRST = (b"UL", b"OB", b"UI", b"SH", b"CS", b"DA", b"TM", b"LO", b"DT", b"SQ")


def has_preamble(path: Path) -> bool:
    """Whether a file begins as DICOM files do: 128 bytes and `DICM` (PS3.10, 7.1)."""
    with path.open("rb") as stream:
        return stream.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def decoder_of(syntax: str, path: Path) -> str:
    """Name of the one plug-in of pydicom that decodes a transfer syntax; "" for none needed.

    Raises:
        ImageError: this syntax is not read.
        MissingExtraError: its library is not installed.
    """
    from pydicom.pixels import get_decoder

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
    return plugin


def read_elements(
    stream: BinaryIO, names: Sequence[str], syntax: str, *, pixels: bool = False
) -> Any:
    """The named elements of an opened file, as a pydicom dataset; nothing else gets into memory.

    Args:
        stream: as `opened` gives it.
        names: keywords.
        syntax: as `opened` gives it; "" where the file does not say it.
        pixels: read on to the pixel data, which `names` must then hold.

    Returns:
        A dataset whose `file_meta.TransferSyntaxUID` is set.
    """
    import pydicom

    stream.seek(0)
    found = pydicom.dcmread(
        stream, stop_before_pixels=not pixels, specific_tags=list(names), force=True
    )
    if not syntax:
        implicit, little = found.original_encoding
        syntax = IMPLICIT if implicit else EXPLICIT if little else BIG_ENDIAN
    found.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    return found


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[tuple[BinaryIO, str]]:
    """A DICOM file that pydicom may parse, and its transfer syntax ("" where it does not say).

    A file without preamble is taken for DICOM when its first element is one that such files begin
    with. A deflated one, where that is allowed, is inflated as far as `limits.max_bytes`.

    Raises:
        ImageError: no DICOM, or deflated and refused, or too large when inflated.
        MissingExtraError: pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise MissingExtraError("pydicom", "dicom", "reading DICOM") from None
    _silence()
    begin = _PREAMBLE + 4 if has_preamble(path) else 0
    with path.open("rb") as stream:
        stream.seek(begin)
        if not _plausible(stream.read(8), path.stat().st_size):
            raise ImageError(
                "the file is not DICOM",
                path=path,
                cause="it begins with no element of such files",
                remedy="replace the file, or take its row out of the table",
            )
        stream.seek(begin)
        meta = pydicom.filereader.read_dataset(
            stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 2
        )
        syntax = str(meta.get("TransferSyntaxUID") or "")
        if syntax in _UNBOUNDED:
            raise _deflated(path, "save it under another transfer syntax")
        if syntax != _DEFLATED:
            yield stream, syntax
            return
        if not limits.allow_deflated:
            raise _deflated(path, "set data.allow_deflated = true, if the file is genuine")
        yield _inflated(stream, path, limits.max_bytes), EXPLICIT


@cache
def _silence() -> None:
    # pydicom quotes header values in both, and neither may reach a log. Once: every change of the
    # filters makes warnings come again that were given before.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")


def _deflated(path: Path, remedy: str) -> ImageError:
    return ImageError(
        "a deflated DICOM file is not read",
        path=path,
        cause="nobody knows how much comes out of it before it is out",
        remedy=remedy,
    )


def _plausible(start: bytes, size: int) -> bool:
    """Whether eight bytes are the head of an element of group 0002 or 0008, in any encoding."""
    if len(start) < 8:
        return False
    explicit = start[4:6] in _FIRST
    if start[:2] == b"\2\0":
        return explicit
    if start[:2] == b"\0\x08":
        return explicit
    return start[:2] == b"\x08\0" and (explicit or struct.unpack("<I", start[4:])[0] < size)


def _inflated(stream: BinaryIO, path: Path, most: int) -> BinaryIO:
    """The rest of a stream, inflated, as a file of its own in Explicit VR Little Endian."""
    uid = EXPLICIT.encode() + b"\0" * (len(EXPLICIT) % 2)
    out = io.BytesIO()
    out.write(bytes(_PREAMBLE) + b"DICM")
    out.write(struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid)
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflating.eof:
        block = inflating.unconsumed_tail or stream.read(_BLOCK)
        part = inflating.decompress(block, _BLOCK)
        if not (block or part):
            raise ImageError("the deflated file is cut off", path=path, remedy="copy it again")
        out.write(part)
        if out.tell() > most:
            raise ImageError(
                "the inflated file has more bytes than data.max_bytes",
                path=path,
                remedy="raise data.max_bytes if the file is genuine",
            )
    out.seek(0)
    return out
