"""Files read by processes of their own: a file that crashes, hangs or fills one costs one error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from mvp.data.reading.decoding_pool import Errand, pool
from mvp.data.reading.decoding_wire import error_from
from mvp.data.reading.dicom_tags import BurnedIn
from mvp.data.reading.limits import Limits, Pixels
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
    errand: Errand | None = None,
) -> Decoded:
    """Decode some or all instances of a file, in another process.

    Args:
        file: path.
        limits: what it may cost, time included.
        instances: which, counted from 0; those that are not there are left out. None: all.
        digest: what the digest of the file's bytes must be, if that matters.
        errand: what this is asked for; when that ends, so does this.

    Raises:
        ImageError: names the file, whatever went wrong.
        MissingExtraError: the library that reads such files is not installed.
        MvpError: no process can be started.
    """
    request = _request("stack", file, limits)
    request |= {"instances": None if instances is None else list(instances), "digest": digest}
    answer, pixels = pool().ask(request, file, limits.max_seconds, errand)
    if pixels is None:
        raise error_from(answer["error"], file)
    total = int(answer["total"])
    numbers = range(total) if instances is None else [i for i in instances if 0 <= i < total]
    return Decoded(_stack(answer, pixels), numbers, total)


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
    answer, _, refused = _asked(_request("examine", file, limits), file, limits)
    return _content(answer, refused)


def examine_and_decode(
    file: str, limits: Limits, *, most: int, errand: Errand | None = None
) -> tuple[Content, Decoded | None]:
    """`examine` and `decode`, of one and the same decoded image.

    Args:
        file: path, of an image or of a text (`.txt`).
        limits: what it may cost, time included.
        most: of a file of more instances, none is given.
        errand: what this is asked for; when that ends, so does this.

    Returns:
        Its content, and all its instances; None of a text, of one that cannot be used, and of one
        of more than `most` instances.

    Raises:
        MissingExtraError: the library that reads such files is not installed.
        MvpError: no process can be started.
    """
    request = _request("examine and stack", file, limits) | {"most": most}
    answer, pixels, refused = _asked(request, file, limits, errand)
    content = _content(answer.get("content", answer), refused)
    if pixels is None:
        return content, None
    total = int(answer["total"])
    return content, Decoded(_stack(answer, pixels), range(total), total)


def says_burned_in(file: str, limits: Limits) -> BurnedIn:
    """`mvp.data.reading.dicom_tags.burned_in`, asked in another process.

    Args:
        file: path; of one that cannot be read nothing is said.
        limits: what it may cost, time included.

    Raises:
        MissingExtraError: the file is DICOM, and pydicom is not installed.
        MvpError: no process can be started.
    """
    answer, _, refused = _asked(_request("burned in", file, limits), file, limits)
    return cast(BurnedIn, answer["said"]) if refused is None else "unsaid"


def _asked(
    request: dict[str, Any], file: str, limits: Limits, errand: Errand | None = None
) -> tuple[dict[str, Any], Pixels | None, ImageError | None]:
    """A decoder's answer, the pixels that come with it, and why the file cannot be used."""
    try:
        answer, pixels = pool().ask(request, file, limits.max_seconds, errand)
    except ImageError as error:
        return {}, None, error
    if "error" not in answer:
        return answer, pixels, None
    refused = error_from(answer["error"], file)
    if not isinstance(refused, ImageError):
        raise refused
    return answer, None, refused


def _content(answer: dict[str, Any], refused: ImageError | None) -> Content:
    if refused is not None:
        return Content(answer.get("digest", ""), error=refused)
    return Content(**{**answer, "shape": tuple(answer["shape"])})


def _stack(answer: dict[str, Any], pixels: Pixels) -> Stack:
    return Stack(pixels, [Shown.from_json(value) for value in answer["shown"]])


def _request(operation: str, file: str, limits: Limits) -> dict[str, Any]:
    # The decoder may have been started in another working directory.
    said = asdict(limits)
    if limits.root is not None:
        said["root"] = _anchored(limits.root)
    return {"operation": operation, "path": _anchored(file), "limits": said}


def _anchored(path: str) -> str:
    # Not resolved: what `..` means behind a link is for the system to say.
    return path if Path(path).is_absolute() else str(Path.cwd() / path)
