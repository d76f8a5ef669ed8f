"""What decoders and those who ask them send each other: a header in JSON, then plain bytes."""

from __future__ import annotations

import json
from io import BufferedReader
from typing import IO, Any, cast

import numpy as np

from mvp import errors
from mvp.errors import ImageError, MissingExtraError, MvpError

_LENGTH = 4
_READY = b"mvp decoder\n"


class Hangup(Exception):  # noqa: N818 - no fault: the other side is gone
    """The other side closed, or sent what is no message."""


def say_ready(stream: IO[bytes]) -> None:
    """A decoder's first word."""
    stream.write(_READY)
    stream.flush()


def hear_ready(stream: IO[bytes]) -> None:
    """Wait for a decoder's first word.

    Raises:
        Hangup: it ended before, or says something else.
    """
    if bytes(_exactly(stream, len(_READY))) != _READY:
        raise Hangup


def send(stream: IO[bytes], header: dict[str, Any], payload: memoryview | None = None) -> None:
    """Send a header, and behind it as many bytes as the other side learns from it."""
    text = json.dumps(header).encode()
    stream.write(len(text).to_bytes(_LENGTH, "little") + text)
    if payload is not None:
        stream.write(payload)
    stream.flush()


def receive(stream: IO[bytes]) -> dict[str, Any]:
    """The next header.

    Raises:
        Hangup: the other side is gone.
    """
    size = int.from_bytes(_exactly(stream, _LENGTH), "little")
    try:
        return cast(dict[str, Any], json.loads(bytes(_exactly(stream, size))))
    except ValueError:
        raise Hangup from None


def receive_into(stream: IO[bytes], view: memoryview) -> None:
    """Fill `view` with the bytes that follow a header.

    Raises:
        Hangup: the other side is gone.
    """
    reader, filled = cast(BufferedReader, stream), 0
    while filled < len(view):
        count = reader.readinto(view[filled:])
        if not count:
            raise Hangup
        filled += count


def _exactly(stream: IO[bytes], size: int) -> memoryview:
    view = memoryview(bytearray(size))
    receive_into(stream, view)
    return view


def as_bytes(pixels: np.ndarray) -> memoryview:
    """The memory of a C-contiguous array, also of one without elements."""
    return pixels.reshape(-1).view(np.uint8).data


def error_fields(error: MvpError) -> dict[str, Any]:
    """What an error says, without the file: whoever asked knows that one."""
    kind = type(error).__name__
    return {"kind": kind, "what": error.what, "cause": error.cause, "remedy": error.remedy}


def error_from(fields: dict[str, Any], file: str) -> MvpError:
    """The error again, naming the file as it was asked for; a missing library names none."""
    kind = getattr(errors, fields["kind"], MvpError)
    error = cast(MvpError, kind.__new__(kind))
    path = None if issubclass(kind, MissingExtraError) else file
    MvpError.__init__(
        error, fields["what"], path=path, cause=fields["cause"], remedy=fields["remedy"]
    )
    return error


def died(file: str) -> ImageError:
    """The error of a file on which a decoder ended."""
    return ImageError(
        "the decoder died on this file",
        path=file,
        cause="it is damaged, or needs more memory than its header lets expect",
        remedy="replace the file, or take its row out of the table",
    )


def overworked(file: str) -> ImageError:
    """The error of a file that kept a decoder busy for longer than its size explains."""
    return ImageError(
        "decoding the file takes more time than its header lets expect",
        path=file,
        cause="it is damaged",
        remedy="replace the file, or raise data.max_seconds if it is genuine",
    )


def too_slow(file: str, seconds: float) -> ImageError:
    """The error of a file that took too long."""
    return ImageError(
        f"reading the file took more than {seconds:g} seconds",
        path=file,
        cause="it is damaged, or lies on a slow disk",
        remedy="replace the file, or raise data.max_seconds if it is genuine",
    )


def given_up(file: str) -> ImageError:
    """The error of a file that nobody waits for any more."""
    return ImageError("reading the file was given up: nobody needs it any more", path=file)
