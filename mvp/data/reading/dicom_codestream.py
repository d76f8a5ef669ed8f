"""What a compressed frame says of itself, compared with the header before a decoder sees it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

from mvp.data.reading.dicom_syntax import RLE
from mvp.errors import ImageError

_JPEG_2000 = (".4.90", ".4.91", ".4.201", ".4.202", ".4.203")
_SOI, _SOC_SIZ, _JP2 = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "
# Start-of-frame markers of JPEG (T.81, table B.1) and of JPEG-LS (T.87, C.1.1).
_SOF = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers that no length follows


class Claim(NamedTuple):
    """Rows, columns, components and bits of each, as a codestream's own head says."""

    rows: int
    columns: int
    components: int
    bits: int


def check_frames(dataset: Any, path: Path) -> None:
    """Refuse compressed frames that claim to be another picture than the header announces.

    Args:
        dataset: with `PixelData`, the elements that describe it, and the transfer syntax.
        path: for the error.

    Raises:
        ImageError: a frame's head cannot be read, claims other rows, columns or components, or
            more bits than are allocated; or there are fewer frames than announced.
    """
    from pydicom.encaps import generate_frames

    syntax = str(dataset.file_meta.TransferSyntaxUID)
    samples, bits = int(dataset.SamplesPerPixel), int(dataset.BitsAllocated)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    announced = int(dataset.get("NumberOfFrames") or 1)
    frames = generate_frames(dataset.PixelData, number_of_frames=announced)
    for seen, frame in enumerate(frames, 1):
        if syntax == RLE:
            fits = _run_lengths_fit(frame, samples * -(-bits // 8), rows * columns)
        else:
            claim = _jpeg_2000(frame) if syntax.endswith(_JPEG_2000) else _jpeg(frame)
            fits = (
                claim is not None and claim[:3] == (rows, columns, samples) and claim.bits <= bits
            )
        if not fits:
            raise ImageError(
                "a compressed frame is not the picture that the file's header announces",
                path=path,
                remedy="replace the file, or take its row out of the table",
            )
        if seen == announced:
            return
    raise ImageError("the file holds fewer frames than its header announces", path=path)


def _run_lengths_fit(frame: bytes, segments: int, pixels: int) -> bool:
    """PS3.5 annex G: a segment for every byte of a sample, each inside the frame."""
    if len(frame) < 64:
        return False
    count, *offsets = struct.unpack("<16I", frame[:64])
    if count != segments or not 1 <= count <= 15:
        return False
    ends = [*offsets[1:count], len(frame)]
    # Two bytes for each pixel are the most that any encoder spends.
    return offsets[0] >= 64 and all(
        0 < end - start <= 2 * pixels + 64 for start, end in zip(offsets[:count], ends, strict=True)
    )


def _jpeg(frame: bytes) -> Claim | None:
    """The frame header of JPEG (T.81, B.2.2) or JPEG-LS."""
    if frame[:2] != _SOI:
        return None
    place = 2
    while place + 10 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        if marker in _SOF:
            bits, rows, columns, components = struct.unpack_from(">BHHB", frame, place + 4)
            return Claim(rows, columns, components, bits)
        place += 2 + max(2, int.from_bytes(frame[place + 2 : place + 4], "big"))
    return None


def _jpeg_2000(frame: bytes) -> Claim | None:
    """The SIZ marker segment (T.800, A.5.1), also inside the boxes of a JP2 file."""
    start = _codestream(frame) if frame.startswith(_JP2) else 0
    if start is None or frame[start : start + 4] != _SOC_SIZ or len(frame) < start + 45:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    components = int.from_bytes(frame[start + 40 : start + 42], "big")
    depths = frame[start + 42 : start + 42 + 3 * components : 3]
    bits = max((depth & 0x7F) + 1 for depth in depths)
    return Claim(bottom - top, right - left, components, bits)


def _codestream(frame: bytes) -> int | None:
    """Where the contiguous codestream box of a JP2 file has its content."""
    place = 0
    while place + 8 <= len(frame):
        length, kind = struct.unpack_from(">I4s", frame, place)
        if kind == b"jp2c":
            return place + (16 if length == 1 else 8)
        if length < 8:
            return None
        place += length
    return None
