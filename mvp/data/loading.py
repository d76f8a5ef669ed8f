"""Images decoded and prepared ahead, each a tensor or the error that names its file.

Every thread has a file decoded by a process of its own, and prepares what comes back.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from mvp.data.ahead import work_ahead
from mvp.data.reading.decoding import Decoded, decode
from mvp.data.reading.decoding_pool import Errand, pool
from mvp.data.reading.limits import Limits, Pixels
from mvp.data.reading.stack import Shown
from mvp.data.transforms import Transform
from mvp.errors import ImageError, MvpError


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


def load_instances(
    requests: Iterable[Request], transform: Transform, limits: Limits, workers: int, ahead: int
) -> Generator[Tensor | ImageError, None, None]:
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
    errand = Errand()

    def one(request: Request) -> list[Tensor | ImageError]:
        try:
            with _naming(request.file):
                found = decode(
                    request.file,
                    limits,
                    instances=request.instances,
                    digest=request.digest,
                    errand=errand,
                )
        except ImageError as error:
            return [error] * len(request.instances)
        return prepare_instances(found, request.instances, transform, request.file)

    try:
        yield from work_ahead(one, requests, lambda r: len(r.instances), workers, ahead)
    finally:
        pool().end(errand)  # what is still being decoded is for nobody: a file may hang


def prepare_instances(
    found: Decoded, instances: Sequence[int], transform: Transform, file: str
) -> list[Tensor | ImageError]:
    """Some instances of a decoded file, each prepared, or the error that names the file.

    Args:
        found: what was decoded of it.
        instances: which of its images, counted from 0; one that is not there is an error.
        transform: how each is prepared.
        file: path, for errors.

    Returns:
        One for each of `instances`: (channels, size, size) float32 in [0, 1], or its error.
    """
    stack, prepared = found.stack, list[Tensor | ImageError]()
    places = {number: i for i, number in enumerate(found.numbers)}
    for number in instances:
        if number in places:
            pixels, shown = stack.pixels[places[number]], stack.shown_at(places[number])
            prepared.append(_prepared(pixels, shown, file, transform))
        else:
            prepared.append(_not_there(number, found.total, file))
    return prepared


def _prepared(pixels: Pixels, shown: Shown, file: str, transform: Transform) -> Tensor | ImageError:
    try:
        with _naming(file):
            return transform.prepare(pixels, shown)
    except ImageError as error:
        return error


def _not_there(number: int, total: int, file: str) -> ImageError:
    return ImageError(f"the file has {total} images; number {number} is none of them", path=file)


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
