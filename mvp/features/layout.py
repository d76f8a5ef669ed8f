"""How a segment's numbers lie in its array: one Zarr v3 chunk per unit.

Uncompressed chunks are little-endian numbers and four bytes of CRC-32C, so they can be mapped into
memory and read by row; `zstd` is for cold storage. Plain Zarr reads both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from mvp.features.storage import Part

Compression = Literal["none", "zstd"]
# Kept below what object stores take in one conditional put, and what a unit may cost to redo.
MAX_UNIT_BYTES = 64 << 20
CRC_BYTES = 4
_AXES = ("row", "feature"), ("row", "channel", "height"), ("row", "channel", "height", "width")
_ZSTD_LEVEL = 3


@dataclass(frozen=True)
class Layout:
    """Shape, type and units of a segment.

    Attributes:
        rows: number of rows.
        shape: of one row: (feature,), (channel, height) or (channel, height, width).
        dtype: type that is stored, `float32` or `float16`.
        unit_rows: rows of a unit; the last one has fewer.
        compression: of the chunks.
    """

    rows: int
    shape: tuple[int, ...]
    dtype: str
    unit_rows: int
    compression: Compression = "none"

    @classmethod
    def fitting(
        cls,
        rows: int,
        shape: tuple[int, ...],
        dtype: str,
        unit_rows: int,
        compression: Compression = "none",
    ) -> Layout:
        """Units of at most `unit_rows` rows and 64 MiB, all of about the same size."""
        row_bytes = max(1, math.prod(shape)) * np.dtype(dtype).itemsize
        most = max(1, min(unit_rows, MAX_UNIT_BYTES // row_bytes))
        return cls(rows, shape, dtype, math.ceil(rows / math.ceil(rows / most)), compression)

    @property
    def units(self) -> int:
        """Number of units."""
        return math.ceil(self.rows / self.unit_rows)

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return math.prod(self.shape)

    @cached_property
    def stored(self) -> np.dtype[Any]:
        """The type as it lies in the chunks."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def unit_bytes(self) -> int:
        """Bytes of a unit's numbers, before compression."""
        return self.unit_rows * self.width * self.stored.itemsize

    def unit_slice(self, unit: int) -> slice:
        """The rows of a unit."""
        return slice(unit * self.unit_rows, min((unit + 1) * self.unit_rows, self.rows))

    def chunk(self, unit: int) -> str:
        """The name that Zarr gives a unit's object."""
        return ".".join(["c", str(unit), *["0"] * len(self.shape)])

    def metadata(self) -> bytes:
        """The array's `zarr.json`, as Zarr itself writes it."""
        return _metadata(self)

    def encode(self, values: NDArray[Any]) -> tuple[Part, ...]:
        """The parts of a unit's stored object from its rows (row, ...) of the stored type."""
        if len(values) < self.unit_rows:
            # Zarr's chunks are all of one size; what lies past the last row is fill value.
            whole = np.full((self.unit_rows, *self.shape), np.nan, self.stored)
            whole[: len(values)] = values
            values = whole
        data = np.ascontiguousarray(values, self.stored).reshape(-1).view(np.uint8)
        if self.compression == "zstd":
            data = np.frombuffer(_zstd().encode(data), np.uint8)
        return data.data, google_crc32c.value(data).to_bytes(CRC_BYTES, "little")

    def decode(self, data: bytes | NDArray[np.uint8], check: int | None = None) -> NDArray[Any]:
        """(unit_rows, ...) of the stored type, without a copy where nothing is compressed.

        Args:
            data: the stored object.
            check: the CRC-32C that it must have, where that is known.

        Raises:
            ValueError: the bytes are not what `encode` gave, or have another checksum.
        """
        raw = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        if len(raw) < CRC_BYTES:
            raise ValueError(f"it has {len(raw)} bytes")
        body, stored = raw[:-CRC_BYTES], int.from_bytes(raw[-CRC_BYTES:].tobytes(), "little")
        if check not in (None, stored):
            raise ValueError("it has the checksum of other numbers")
        if google_crc32c.value(body) != stored:
            raise ValueError("its checksum does not agree")
        if self.compression == "zstd":
            body = np.frombuffer(_zstd().decode(body), np.uint8)
        if len(body) != self.unit_bytes:
            raise ValueError(f"it holds {len(body)} bytes, not {self.unit_bytes}")
        return body.view(self.stored).reshape(self.unit_rows, *self.shape)


@cache
def _zstd() -> Any:
    from numcodecs.zstd import Zstd

    return Zstd(level=_ZSTD_LEVEL)


@cache
def _metadata(layout: Layout) -> bytes:
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec
    from zarr.storage import MemoryStore

    objects: dict[str, Any] = {}
    compressed = [ZstdCodec(level=_ZSTD_LEVEL)] if layout.compression == "zstd" else []
    zarr.create_array(
        MemoryStore(objects),
        shape=(layout.rows, *layout.shape),
        chunks=(layout.unit_rows, *layout.shape),
        dtype=layout.stored,
        fill_value=float("nan"),
        filters=None,
        compressors=[*compressed, Crc32cCodec()],
        # Flat names: all chunks in one folder, whose sync makes a new one last.
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=_AXES[len(layout.shape) - 1],
    )
    return bytes(objects["zarr.json"].to_bytes())
