"""Row ids: the digest of an image's pixels and the number of the instance in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mvp.features.mapped import is_whole, mapped
from mvp.files import DIGEST_BYTES, digest_bytes
from mvp.types import IntArray

ROW_ID_BYTES = DIGEST_BYTES + 4
RowIds = NDArray[np.uint8]
_HEADER_BYTES = 128  # of plan.npy


def row_id(digest: str, instance: int = 0) -> bytes:
    """The 20 bytes that name one row: an image's digest (hex) and an instance number."""
    return bytes.fromhex(digest) + instance.to_bytes(4, "big")


def image_digest(row: bytes) -> str:
    """The image digest (hex) in a row id."""
    return row[:DIGEST_BYTES].hex()


def instance_of(row: bytes) -> int:
    """The instance number in a row id."""
    return int.from_bytes(row[DIGEST_BYTES:], "big")


def pack(rows: Iterable[bytes]) -> RowIds:
    """(row, 20) uint8 from row ids."""
    data = b"".join(rows)
    return np.frombuffer(data, np.uint8).reshape(-1, ROW_ID_BYTES)


def unpack(array: RowIds) -> list[bytes]:
    """Row ids from (row, 20) uint8."""
    data = np.ascontiguousarray(array).tobytes()
    return [data[i : i + ROW_ID_BYTES] for i in range(0, len(data), ROW_ID_BYTES)]


@dataclass(frozen=True, eq=False)
class StudyRows:
    """Which rows every study has, one after the other.

    Attributes:
        ids: (row, 20) row ids, those of a study together.
        counts: (study,) how many of them each study has.
    """

    ids: RowIds
    counts: IntArray

    @classmethod
    def of(cls, rows: Sequence[Sequence[bytes]]) -> StudyRows:
        """From a list of row ids for each study."""
        counts = np.fromiter((len(ids) for ids in rows), np.int64, len(rows))
        return cls(pack(row for ids in rows for row in ids), counts)


def dump_ids(ids: RowIds) -> bytes:
    """What `np.save` gives, in one way only, so that every change of it shows."""
    return _header(len(ids)) + ids.tobytes()


def _header(rows: int) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({rows}, {ROW_ID_BYTES}), }}"
    header = f"{text:{_HEADER_BYTES - 11}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def load_ids(data: bytes, plan: str) -> RowIds:
    """(row, 20) from what `dump_ids` gave; ValueError when it is not of that digest."""
    body = data[_HEADER_BYTES:]
    if len(body) % ROW_ID_BYTES or digest_bytes(body) != plan:
        raise ValueError("the row ids are not those it was made with")
    ids = np.frombuffer(body, np.uint8).reshape(-1, ROW_ID_BYTES)
    if dump_ids(ids) != data:
        raise ValueError("plan.npy is not as it was written")
    return ids


def map_ids(path: Path, plan: str) -> RowIds:
    """As `load_ids`, of a file that is mapped; it is read once by every process."""
    rows, rest = divmod(path.stat().st_size - _HEADER_BYTES, ROW_ID_BYTES)
    with path.open("rb") as stream:
        if rest or stream.read(_HEADER_BYTES) != _header(rows):
            raise ValueError("plan.npy is not as it was written")
    if not is_whole(path, plan, _HEADER_BYTES):
        raise ValueError("the row ids are not those it was made with")
    return mapped(path, _HEADER_BYTES, (rows, ROW_ID_BYTES))
