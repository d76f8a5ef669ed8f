"""Parts of the images for the jobs of an array."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mvp.data.reading.inventory import FileRecord
from mvp.errors import ConfigError
from mvp.files import digest_bytes


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of the images, by their content: no image belongs to two of them."""

    number: int
    count: int

    def has(self, record: FileRecord | None, file: str) -> bool:
        """Whether an image belongs to this part; an unreadable one goes by its path."""
        content = record.pixels if record is not None and record.pixels else None
        return int((content or digest_bytes(file.encode()))[:8], 16) % self.count == self.number - 1


WHOLE = Shard(1, 1)


def parse_shard(text: str | None) -> Shard:
    """`3/16` as a Shard, everything when there is none.

    Raises:
        ConfigError: it is not a number, a slash and a number that is no smaller.
    """
    if text is None:
        return WHOLE
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(
            f"{text!r} names no part of the images", remedy="write --shard 3/16 for the third of 16"
        )
    return Shard(int(found[1]), int(found[2]))
