"""What the inventory says of one file, and for how long that holds."""

from __future__ import annotations

from dataclasses import dataclass
from os import stat_result
from pathlib import Path

from mvp.errors import ImageError

# A file changed within this time of its scan may change again without a new time stamp.
_RACE_NS = 2_000_000_000


@dataclass(frozen=True)
class FileRecord:
    """One file.

    Attributes:
        file: where it lies.
        digest: digest of its bytes; "" when it cannot be read at all.
        pixels: digest of its decoded pixels and of how the file says they are shown, or of its
            text, for every readable file; None for the others. A stack of one has the digest of
            its one image.
        error: why it cannot be used, or "".
        shape: of one instance, (H, W) or (H, W, 3), of a text (characters,); () where it could
            not be decoded.
        bits: of one sample as decoded, 8, 16 or 32; 0 where it could not be decoded.
        instances: images in it, 1 unless it is a volume; 0 where it could not be decoded.
        size: bytes.
        mtime_ns: when it was changed, nanoseconds since 1970.
        look: `mvp.data.splits.near.thumbnail` of its middle instance in hexadecimal; "" of a text,
            and where it could not be decoded.
    """

    file: str
    digest: str
    pixels: str | None
    error: str
    shape: tuple[int, ...] = ()
    bits: int = 0
    instances: int = 0
    size: int = 0
    mtime_ns: int = 0
    look: str = ""


# Size, time of change and time of change of status: the last one moves when a copy that keeps
# time stamps is laid over a file.
Stamp = tuple[int, int, int]


def stamp_of(status: stat_result) -> Stamp:
    """What changes with a file's content."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def stands(file: str, stamp: Stamp) -> bool:
    """Whether the file that had this stamp is still there, unchanged."""
    try:
        return stamp_of(Path(file).stat()) == stamp
    except OSError:
        return False


@dataclass(frozen=True)
class Remembered:
    """A record with what tells whether it still holds.

    Attributes:
        stamp: the file's before it was read.
        scanned_ns: when that was, nanoseconds since 1970.
        record: what was found.
    """

    stamp: Stamp
    scanned_ns: int
    record: FileRecord

    def holds(self, stamp: Stamp) -> bool:
        """Whether a file of this stamp need not be read again."""
        # A file that did not decode may do so now, with other limits or libraries.
        settled = self.stamp == stamp and self.scanned_ns - stamp[1] > _RACE_NS
        return settled and not self.record.error


def plain(error: ImageError) -> str:
    """What happened and why, without the place: the row that holds it says where."""
    return error.what + (f": {error.cause}" if error.cause else "")
