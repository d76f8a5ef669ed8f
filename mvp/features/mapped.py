"""Large files mapped into memory, of which no more stays in it than is being looked at."""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvp.files import digest_file
from mvp.types import IntArray

# More than this is always mapped; down to the other while files may be open for it: many middling
# files are as large as one.
LARGE, MIDDLING = 8 << 20, 1 << 20
# Of the files that a process may open, those that middling mappings may keep open: one in so many.
_SHARE, _MOST = 8, 4096
_mapped = 0
# Rows that are taken before the pages around them are let go.
_TAKEN = 8192
# Files that were found whole by this process, and what they were then.
_whole: dict[tuple[Path, str], tuple[int, int, int]] = {}


def let_go(array: NDArray[Any]) -> None:
    """Take the pages of a mapped array out of this process; a page that is asked for comes back.

    Pages of a file that were touched count as memory of the process until they are let go. An array
    that is no file's is left as it is.
    """
    owner: Any = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    if owner is not None:
        drop(owner)


def drop(pages: mmap.mmap) -> None:
    """As `let_go`, for the mapping itself; a no-op where the system knows no such advice."""
    if hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def worth_mapping(size: int) -> bool:
    """Whether a file of so many bytes is mapped rather than read."""
    return size > LARGE or (size > MIDDLING and _mapped < open_files(_SHARE, _MOST))


def mapped(path: Path, offset: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A file's bytes from `offset` on, mapped to be read."""
    global _mapped  # noqa: PLW0603
    array = np.memmap(path, np.uint8, "r", offset, shape)
    _mapped += 1
    weakref.finalize(array, _unmapped)
    return array


def _unmapped() -> None:
    global _mapped  # noqa: PLW0603
    _mapped -= 1


@cache
def open_files(share: int, most: int) -> int:
    """How many files may be kept open: one in `share` of those that a process may open."""
    try:
        import resource
    except ImportError:  # not a Unix
        return 512 // share
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return most if allowed < 0 else min(most, max(16, allowed // share))


def take(array: NDArray[Any], rows: IntArray) -> NDArray[Any]:
    """`array[rows]`; of a mapped file in steps, so that all of it is never in memory."""
    if not isinstance(array, np.memmap):
        return np.asarray(array[rows])
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for start in range(0, len(rows), _TAKEN):
        out[start : start + _TAKEN] = array[rows[start : start + _TAKEN]]
        let_go(array)
    return out


def blocks(array: NDArray[Any], rows: int) -> Iterator[NDArray[Any]]:
    """An array in parts of so many rows, each let go before the next."""
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
        let_go(array)


def is_whole(path: Path, digest: str, offset: int = 0) -> bool:
    """Whether a file from `offset` on has this digest; a file that stays as it is is read once."""
    status = path.stat()
    stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
    if _whole.get((path, digest)) == stamp:
        return True
    if digest_file(path, offset) != digest:
        return False
    _whole[path, digest] = stamp
    return True
