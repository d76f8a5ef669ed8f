"""Row ids: the content digest of an image and the number of the instance in it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mvp.files import DIGEST_BYTES

ROW_ID_BYTES = DIGEST_BYTES + 4


def row_id(digest: str, instance: int = 0) -> bytes:
    """The 20 bytes that name one row: an image's digest (hex) and an instance number."""
    return bytes.fromhex(digest) + instance.to_bytes(4, "big")


def image_digest(row: bytes) -> str:
    """The image digest (hex) in a row id."""
    return row[:DIGEST_BYTES].hex()


def pack(rows: Iterable[bytes]) -> NDArray[np.uint8]:
    """(row, 20) uint8 from row ids."""
    data = b"".join(rows)
    return np.frombuffer(data, np.uint8).reshape(-1, ROW_ID_BYTES)


def unpack(array: NDArray[np.uint8]) -> list[bytes]:
    """Row ids from (row, 20) uint8."""
    data = np.ascontiguousarray(array).tobytes()
    return [data[i : i + ROW_ID_BYTES] for i in range(0, len(data), ROW_ID_BYTES)]
