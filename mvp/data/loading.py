"""Images decoded and prepared ahead by threads, each a tensor or the error that names its file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from torch import Tensor

from mvp.data.ahead import work_ahead
from mvp.data.readers import Limits, Pixels, read_image, read_instances
from mvp.data.transforms import Transform
from mvp.errors import ImageError, MvpError
from mvp.files import digest_file


@dataclass(frozen=True)
class Request:
    """Some instances of one file.

    Attributes:
        file: path.
        digest: what the digest of the file's bytes must be; None where that does not matter.
        instances: which of its images, counted from 0, ascending.
    """

    file: str
    digest: str | None
    instances: tuple[int, ...]


def load(file: str, transform: Transform, limits: Limits, digest: str | None = None) -> Tensor:
    """Read and prepare the one image of a file: (channels, size, size) float32 in [0, 1].

    Args:
        file: path.
        transform: how it is prepared.
        limits: what it may cost.
        digest: what the file's content must be, if that matters.

    Raises:
        ImageError: names the file, whatever went wrong.
        MissingExtraError: the library that reads such files is not installed.
    """
    with _naming(file):
        pixels = read_image(file, limits)
        _require(file, digest)
        return transform.prepare(pixels)


def load_ahead(
    files: Iterable[str],
    transform: Transform,
    limits: Limits,
    workers: int,
    ahead: int,
    digests: Iterable[str] | None = None,
) -> Iterator[Tensor | ImageError]:
    """The prepared images in order; a damaged one comes as its error, as does a volume.

    Args:
        files: paths, in the order wanted.
        transform: how each is prepared.
        limits: what one file may cost.
        workers: threads; the result does not depend on their number.
        ahead: how many images may be decoded before they are asked for.
        digests: for every file what its content must be.
    """

    def one(item: tuple[str, str | None]) -> list[Tensor | ImageError]:
        try:
            return [load(item[0], transform, limits, item[1])]
        except ImageError as error:
            return [error]

    expected = digests if digests is not None else repeat(None)
    return work_ahead(one, zip(files, expected, strict=False), lambda _: 1, workers, ahead)


def load_instances(
    requests: Iterable[Request], transform: Transform, limits: Limits, workers: int, ahead: int
) -> Iterator[Tensor | ImageError]:
    """Every requested instance, prepared, in order: (channels, size, size) float32 in [0, 1].

    A file is decoded once for all that a request wants of it. One that cannot be read, or is not
    what its digest says, comes as its error once for each instance; an instance that cannot be
    prepared is an error of its own.

    Args:
        requests: pulled one by one, in the caller's thread, only when there is room for the next;
            a generator may decide, when it is asked, what to do next.
        transform: how each instance is prepared.
        limits: what one file may cost.
        workers: threads; the result does not depend on their number.
        ahead: how many instances may be decoded, or waiting, before they are asked for. A request
            for more than that is begun when nothing else is under way.
    """

    def one(request: Request) -> list[Tensor | ImageError]:
        try:
            with _naming(request.file):
                stack = read_instances(request.file, limits)
                _require(request.file, request.digest)
        except ImageError as error:
            return [error] * len(request.instances)
        return [_instance(stack, i, request.file, transform) for i in request.instances]

    return work_ahead(one, requests, lambda request: len(request.instances), workers, ahead)


def _instance(stack: Pixels, index: int, file: str, transform: Transform) -> Tensor | ImageError:
    if not 0 <= index < len(stack):
        return ImageError(
            f"the file has {len(stack)} images; number {index} is none of them", path=file
        )
    try:
        with _naming(file):
            return transform.prepare(stack[index])
    except ImageError as error:
        return error


def _require(file: str, digest: str | None) -> None:
    # After decoding: a file that was replaced since it was scanned must not give its features to
    # the content that stood there before.
    if digest is not None and digest_file(Path(file)) != digest:
        raise ImageError(
            "the file changed while it was being read", path=file, remedy="run it again"
        )


@contextmanager
def _naming(file: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an ImageError that names the file."""
    try:
        yield
    except ImageError as error:
        error.path = error.path or file
        raise
    except MvpError:
        raise  # a library that is missing is no fault of this image
    except Exception as error:  # noqa: BLE001 - one bad image must never end a run
        raise ImageError(
            "the image cannot be prepared", path=file, cause=f"{type(error).__name__}: {error}"
        ) from None
