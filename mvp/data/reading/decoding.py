"""Files read by processes of their own: a file that crashes, hangs or fills one costs one error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from mvp.data.reading.decoding_pool import pool
from mvp.data.reading.decoding_wire import error_from
from mvp.data.reading.dicom_tags import BurnedIn
from mvp.data.reading.limits import Limits
from mvp.data.reading.stack import Shown, Stack
from mvp.errors import ImageError


@dataclass(frozen=True)
class Decoded:
    """Some instances of a file.

    Attributes:
        stack: those that were asked for and are there, in that order.
        numbers: which they are, counted from 0.
        total: how many the file holds.
    """

    stack: Stack
    numbers: Sequence[int]
    total: int


@dataclass(frozen=True)
class Content:
    """What is in a file; see `mvp.data.reading.inventory.FileRecord`."""

    digest: str
    pixels: str | None = None
    shape: tuple[int, ...] = ()
    bits: int = 0
    instances: int = 0
    look: str = ""
    error: ImageError | None = None


def decode(
    file: str,
    limits: Limits,
    *,
    instances: Sequence[int] | None = None,
    digest: str | None = None,
) -> Decoded:
    """Decode some or all instances of a file, in another process.

    Args:
        file: path.
        limits: what it may cost, time included.
        instances: which, counted from 0; those that are not there are left out. None: all.
        digest: what the digest of the file's bytes must be, if that matters.

    Raises:
        ImageError: names the file, whatever went wrong.
        MissingExtraError: the library that reads such files is not installed.
        MvpError: no process can be started.
    """
    request = _request("stack", file, limits)
    request |= {"instances": None if instances is None else list(instances), "digest": digest}
    answer, pixels = pool().ask(request, file, limits.max_seconds)
    if pixels is None:
        raise error_from(answer["error"], file)
    shown = [Shown.from_json(value) for value in answer["shown"]]
    total = int(answer["total"])
    numbers = range(total) if instances is None else [i for i in instances if 0 <= i < total]
    return Decoded(Stack(pixels, shown), numbers, total)


def examine(file: str, limits: Limits) -> Content:
    """What is in a file, found out in another process.

    Args:
        file: path, of an image or of a text (`.txt`).
        limits: what it may cost, time included.

    Returns:
        Its content; of one that cannot be used the error, and the digest if it could be read.

    Raises:
        MissingExtraError: the library that reads such files is not installed.
        MvpError: no process can be started.
    """
    answer, refused = _asked("examine", file, limits)
    if refused is not None:
        return Content(answer.get("digest", ""), error=refused)
    return Content(**{**answer, "shape": tuple(answer["shape"])})


def says_burned_in(file: str, limits: Limits) -> BurnedIn:
    """`mvp.data.reading.dicom_tags.burned_in`, asked in another process.

    Args:
        file: path; of one that cannot be read nothing is said.
        limits: what it may cost, time included.

    Raises:
        MissingExtraError: the file is DICOM, and pydicom is not installed.
        MvpError: no process can be started.
    """
    answer, refused = _asked("burned in", file, limits)
    return cast(BurnedIn, answer["said"]) if refused is None else "unsaid"


def _asked(operation: str, file: str, limits: Limits) -> tuple[dict[str, Any], ImageError | None]:
    """A decoder's answer, and why the file cannot be used."""
    try:
        answer, _ = pool().ask(_request(operation, file, limits), file, limits.max_seconds)
    except ImageError as error:
        return {}, error
    if "error" not in answer:
        return answer, None
    refused = error_from(answer["error"], file)
    if not isinstance(refused, ImageError):
        raise refused
    return answer, refused


def _request(operation: str, file: str, limits: Limits) -> dict[str, Any]:
    # The decoder may have been started in another working directory.
    said = asdict(limits)
    if limits.root is not None:
        said["root"] = _anchored(limits.root)
    return {"operation": operation, "path": _anchored(file), "limits": said}


def _anchored(path: str) -> str:
    # Not resolved: what `..` means behind a link is for the system to say.
    return path if Path(path).is_absolute() else str(Path.cwd() / path)
