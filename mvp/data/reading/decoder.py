"""A decoder: a process that reads files for another one, and dies in its stead.

It is started by `mvp.data.reading.decoding_pool` and ends when its standard input does. Whatever
a file does to the libraries that read it ends here: they may crash, hang or fill the memory. What
they print goes nowhere, because it may quote what the header says of a patient.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mvp.data.reading.decoding_memory import allowance
from mvp.data.reading.decoding_wire import Hangup, as_bytes, error_fields, receive, say_ready, send
from mvp.data.reading.dicom_tags import burned_in
from mvp.data.reading.limits import Limits, check_file
from mvp.data.reading.readers import read_stack
from mvp.data.reading.stack import UNSAID, Shown, Stack
from mvp.data.reading.texts import TEXT_SUFFIXES, read_text, text_digest
from mvp.data.splits.near import thumbnail
from mvp.errors import ImageError, MvpError
from mvp.files import DIGEST_BYTES, digest_file

# Over the time that whoever asked allows: it ends a decoder that hangs, this one the decoder
# whose parent is gone.
_GRACE_SECONDS = 5


def main() -> None:
    """Answer requests until there are no more."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(silence, standard)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked is interrupted, and closes us
    _leave_no_core()
    say_ready(answers)
    # The other side may be gone at any time: nobody is left who could be told.
    with contextlib.suppress(Hangup, OSError):
        while True:
            answer, pixels = answer_to(receive(requests))
            send(answers, answer, None if pixels is None else as_bytes(pixels))
            del pixels
    os._exit(0)  # at once: there is nothing to put in order


def answer_to(request: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray | None]:
    """What a request is answered with: a header, and the pixels that it announces.

    Args:
        request: `operation` ("stack", "examine", "examine and stack" or "burned in"), `path`,
            `limits`; for a stack `instances` (numbers, or null for all) and `digest` (what the
            file's must be, or null), for both together `most` (a stack of more is not sent).
    """
    path, limits = Path(request["path"]), Limits(**request["limits"])
    _end_at(limits.max_seconds + _GRACE_SECONDS)
    digest = ""
    try:
        with _same_file(path, limits) as size:
            if request["operation"] == "stack":
                return _stack(path, limits, request, size)
            if request["operation"] == "burned in":
                allowance.begin(size, limits.max_seconds)
                return {"said": burned_in(path, limits)}, None
            digest = digest_file(path)
            content, stack = _examined(path, limits, size)
            content["digest"] = digest
            if request["operation"] == "examine":
                return content, None
            if stack is None or len(stack) > request["most"]:
                return {"content": content}, None
            return {"content": content, **_header(stack, len(stack))}, stack.pixels
    except Exception as error:  # noqa: BLE001 - decoders raise anything; all of it is one reject
        return {"error": _fields(error), "digest": digest}, None
    finally:
        allowance.end()
        _end_at(0)


def _stack(
    path: Path, limits: Limits, request: dict[str, Any], size: int
) -> tuple[dict[str, Any], np.ndarray]:
    stack = _decoded(path, limits, size)
    # After decoding: a file that was replaced since it was scanned must not give its features to
    # the content that stood there before.
    if request["digest"] is not None and digest_file(path) != request["digest"]:
        raise _changed(path)
    total, wanted = len(stack), request["instances"]
    if wanted is not None:
        there = [i for i in wanted if 0 <= i < total]
        if there != list(range(total)):
            shown = [stack.shown_at(i) for i in there]
            stack = Stack(np.ascontiguousarray(stack.pixels[there]), shown)
    return _header(stack, total), stack.pixels


def _header(stack: Stack, total: int) -> dict[str, Any]:
    return {
        "shape": stack.pixels.shape,
        "dtype": stack.pixels.dtype.name,
        "shown": [shown.to_json() for shown in _shown(stack)],
        "total": total,
    }


def _examined(path: Path, limits: Limits, size: int) -> tuple[dict[str, Any], Stack | None]:
    """What is in a file, and its images if it holds any."""
    if path.name.lower().endswith(TEXT_SUFFIXES):
        allowance.begin(size, limits.max_seconds)
        text = read_text(path, limits)
        found = {"pixels": text_digest(text), "shape": [len(text)], "bits": 8}
        return {**found, "instances": 1, "look": ""}, None
    stack = _decoded(path, limits, size)
    content = {
        "pixels": pixel_digest(stack),
        "shape": stack.pixels.shape[1:],
        "bits": stack.pixels.dtype.itemsize * 8,
        "instances": len(stack),
        "look": thumbnail(stack.pixels[len(stack) // 2]).hex(),
    }
    return content, stack


def _decoded(path: Path, limits: Limits, size: int) -> Stack:
    allowance.begin(size, limits.max_seconds)
    return read_stack(path, limits)


def pixel_digest(stack: Stack) -> str:
    """The digest of what is seen: shape, type and values, and how the file says they are shown."""
    # One image is itself, whether or not its file could hold several.
    pixels = stack.pixels[0] if len(stack) == 1 else stack.pixels
    state = hashlib.blake2b(f"{pixels.shape}{pixels.dtype}".encode(), digest_size=DIGEST_BYTES)
    state.update(pixels.data.cast("B"))  # no copy of a volume
    shown = _shown(stack)
    if shown != [UNSAID]:
        state.update(json.dumps([s.to_json() for s in shown], sort_keys=True).encode())
    return state.hexdigest()


def _shown(stack: Stack) -> list[Shown]:
    """One where all instances agree."""
    shown = [stack.shown_at(i) for i in range(len(stack))]
    return shown[:1] if all(s == shown[0] for s in shown) else shown


@contextlib.contextmanager
def _same_file(path: Path, limits: Limits) -> Iterator[int]:
    """The size of a file that stays the one that was opened and checked, until the end."""
    check_file(path, limits)
    # Without waiting: a pipe that was put in the file's place would never open.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        raise ImageError("the file cannot be read", path=path, cause=error.strerror) from None
    try:
        opened = os.fstat(handle)
        if not stat.S_ISREG(opened.st_mode):
            raise ImageError("this is not a file", path=path, remedy="correct the table's path")
        check_file(path, limits)  # again: of what stands there now
        yield opened.st_size
        if not _is_still(path, opened):
            raise _changed(path)
    finally:
        os.close(handle)


def _is_still(path: Path, opened: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), opened)
    except OSError:
        return False


def _changed(path: Path) -> ImageError:
    return ImageError("the file changed while it was being read", path=path, remedy="run it again")


def _fields(error: Exception) -> dict[str, Any]:
    # Readers name what they caught themselves; the cause is still there.
    if isinstance(error, MemoryError) or isinstance(error.__context__, MemoryError):
        error = ImageError(
            "decoding the file needs more memory than its header lets expect",
            cause="it is damaged",
            remedy="replace the file, or take its row out of the table",
        )
    elif not isinstance(error, MvpError):
        # Its kind alone: what libraries say quotes the header, and the header names the patient.
        error = ImageError(
            "the image cannot be decoded",
            cause=type(error).__name__,
            remedy="replace the file, or take its row out of the table",
        )
    return error_fields(error)


def _end_at(seconds: float) -> None:
    # The system's own clock: it ends a library that never comes back, whoever is still there.
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _leave_no_core() -> None:
    # The memory of a decoder that crashed is a patient's film.
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
