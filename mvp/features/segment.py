"""A segment: one Zarr v3 array made by one extraction, cut into units of work.

    <segment>/plan.npy         (row, 20) row ids in order, fixed when the segment is planned
    <segment>/segment.json     shape, type, unit size and what made it; published last
    <segment>/features/        the array (row, feature), one chunk per unit, uncompressed, crc32c
    <segment>/ledger/N.json    unit N is written, synced and read back; created exclusively

A unit counts only when its ledger entry stands. Nothing is inferred from Zarr: a missing chunk
reads as fill values without an error.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from mvp.errors import DataError, MvpError, StoreDamagedError
from mvp.features.rows import pack, unpack
from mvp.files import (
    create_exclusive,
    digest_bytes,
    digest_file,
    digest_json,
    read_json,
    sync_folder,
    write_bytes,
    write_json,
)
from mvp.types import FloatArray


@dataclass(frozen=True)
class LedgerEntry:
    """What is promised of one unit.

    Attributes:
        unit: its number.
        length: bytes of the stored object.
        digest: digest of the stored object.
        rejected: row (within the unit) to reason, for rows that hold no features.
    """

    unit: int
    length: int
    digest: str
    rejected: Mapping[int, str]

    def to_json(self) -> dict[str, Any]:
        """The entry as it is stored."""
        return {
            "unit": self.unit,
            "length": self.length,
            "digest": self.digest,
            "rejected": {str(row): reason for row, reason in sorted(self.rejected.items())},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> LedgerEntry:
        """The entry that `to_json` wrote."""
        rejected = {int(row): str(reason) for row, reason in value["rejected"].items()}
        return cls(int(value["unit"]), int(value["length"]), str(value["digest"]), rejected)


class Segment:
    """One planned, partly or wholly written array of features."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.info: dict[str, Any] = read_json(folder / "segment.json")
            self.rows = unpack(np.load(folder / "plan.npy", allow_pickle=False))
        except (OSError, ValueError) as error:
            raise StoreDamagedError(
                "a segment's plan cannot be read",
                path=folder,
                cause=str(error),
                remedy="delete this folder and run `mvp extract` again",
            ) from None
        if digest_bytes(pack(self.rows).tobytes()) != self.info["plan"]:
            raise StoreDamagedError(
                "a segment's row ids are not those it was made with",
                path=folder / "plan.npy",
                remedy="delete this folder and run `mvp extract` again",
            )

    @classmethod
    def plan(
        cls,
        parent: Path,
        key_digest: str,
        rows: Sequence[bytes],
        width: int,
        dtype: str,
        unit_rows: int,
        surroundings: Mapping[str, Any],
    ) -> Segment:
        """Make an empty segment for these rows.

        Its name is a digest of key and rows, so the same work planned twice is the same segment.
        """
        ids = pack(rows)
        plan_digest = digest_bytes(ids.tobytes())
        folder = parent / digest_json([key_digest, plan_digest])[:16]
        if (folder / "segment.json").exists():
            return cls(folder)
        (folder / "ledger").mkdir(parents=True, exist_ok=True)
        unit_rows = min(unit_rows, len(rows))
        zarr.create_array(
            str(folder / "features"),
            shape=(len(rows), width),
            chunks=(unit_rows, width),
            dtype=dtype,
            fill_value=float("nan"),
            filters=None,
            # Uncompressed: reads are as fast as memory; the checksum finds every flipped bit.
            compressors=[Crc32cCodec()],
            config={"write_empty_chunks": True},
            overwrite=True,
        )
        buffer = io.BytesIO()
        np.save(buffer, ids, allow_pickle=False)
        write_bytes(folder / "plan.npy", buffer.getvalue())
        write_json(
            folder / "segment.json",
            {
                "plan": plan_digest,
                "rows": len(rows),
                "width": width,
                "dtype": dtype,
                "unit_rows": unit_rows,
                "surroundings": dict(surroundings),
            },
        )
        sync_folder(parent)
        return cls(folder)

    @property
    def unit_rows(self) -> int:
        """Rows of a unit (the last may have fewer)."""
        return int(self.info["unit_rows"])

    @property
    def units(self) -> int:
        """Number of units."""
        return math.ceil(len(self.rows) / self.unit_rows)

    @property
    def width(self) -> int:
        """Number of features."""
        return int(self.info["width"])

    def unit_slice(self, unit: int) -> slice:
        """The rows of a unit."""
        return slice(unit * self.unit_rows, min((unit + 1) * self.unit_rows, len(self.rows)))

    @cached_property
    def array(self) -> Any:
        """The Zarr array (row, feature)."""
        try:
            return zarr.open_array(str(self.folder / "features"), mode="r+")
        except Exception as error:  # noqa: BLE001 - zarr raises anything
            raise StoreDamagedError(
                "a segment's array cannot be opened",
                path=self.folder / "features",
                cause=f"{type(error).__name__}: {error}",
                remedy="delete this segment's folder and run `mvp extract` again",
            ) from None

    def ledger(self) -> dict[int, LedgerEntry]:
        """The committed units."""
        entries = {}
        for path in sorted((self.folder / "ledger").glob("*.json")):
            try:
                entry = LedgerEntry.from_json(read_json(path))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise StoreDamagedError(
                    "a ledger entry cannot be read",
                    path=path,
                    cause=str(error),
                    remedy="delete it and run `mvp extract` again; its unit is recomputed",
                ) from None
            entries[entry.unit] = entry
        return entries

    def stored_object(self, unit: int) -> Path:
        """Where Zarr keeps a unit's chunk."""
        return self.folder / "features" / "c" / str(unit) / "0"

    def write(self, unit: int, values: FloatArray, rejected: Mapping[int, str]) -> LedgerEntry:
        """Write one unit, sync it, read it back and commit it.

        Args:
            unit: its number.
            values: (row of the unit, feature); rejected rows are NaN.
            rejected: row within the unit to reason.

        Raises:
            DataError: values are not finite, or do not fit the stored type.
            StoreDamagedError: what was read back differs, or the unit was committed with
                other bytes before.
        """
        rows = self.unit_slice(unit)
        stored = self._cast(values, rejected)
        try:
            self.array[rows] = stored
            path = self.stored_object(unit)
            _sync_file(path)
            back = self.array[rows]
            length, digest = path.stat().st_size, digest_file(path)
        except OSError as error:
            raise MvpError(
                "features cannot be written",
                path=self.folder,
                cause=error.strerror or str(error),
                remedy="make room or mend the folder, then run `mvp extract` again to go on here",
            ) from None
        if back.tobytes() != stored.tobytes():
            raise StoreDamagedError(
                "what was written does not read back", path=path, cause="disk or memory"
            )
        entry = LedgerEntry(unit, length, digest, dict(rejected))
        data = (json.dumps(entry.to_json(), indent=1) + "\n").encode()
        if not create_exclusive(self.folder / "ledger" / f"{unit}.json", data):
            self._must_agree(entry)
        return entry

    def discard(self, unit: int) -> None:
        """Take a damaged unit's ledger entry away, so that it is recomputed whole."""
        (self.folder / "ledger" / f"{unit}.json").unlink(missing_ok=True)

    def damage(self, entry: LedgerEntry, *, deep: bool) -> str | None:
        """How a committed unit differs from its ledger entry, or None.

        Args:
            entry: what was promised.
            deep: compare the digest of the stored bytes, not only their number.
        """
        path = self.stored_object(entry.unit)
        try:
            length = path.stat().st_size
        except OSError:
            return "its stored object is missing"
        if length != entry.length:
            return f"its stored object has {length} bytes, not {entry.length}"
        if deep and digest_file(path) != entry.digest:
            return "its stored bytes have changed"
        return None

    def read_unit(self, entry: LedgerEntry) -> FloatArray:
        """(row of the unit, feature) float32 of a committed unit; rejected rows are NaN.

        Raises:
            StoreDamagedError: the unit is not what its ledger entry says.
        """
        wrong = self.damage(entry, deep=False)
        if wrong is None:
            try:
                values = np.asarray(self.array[self.unit_slice(entry.unit)], dtype=np.float32)
            except Exception as error:  # noqa: BLE001 - the codecs raise anything
                wrong = f"it does not decode ({type(error).__name__}: {error})"
            else:
                finite = np.asarray(np.isfinite(values).all(axis=1))
                finite[list(entry.rejected)] = True
                if finite.all():
                    return values
                wrong = "it holds values that are not finite"
        raise StoreDamagedError(
            f"unit {entry.unit} of a feature segment is damaged",
            path=self.folder,
            cause=wrong,
            remedy="run `mvp extract --verify`: it recomputes damaged units",
        )

    def _cast(self, values: FloatArray, rejected: Mapping[int, str]) -> np.ndarray:
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(values, dtype=self.info["dtype"])
        bad = np.asarray(~np.isfinite(stored).all(axis=1))
        bad[list(rejected)] = False
        if bad.any():
            overflow = bool(np.isfinite(values[bad]).all())
            raise DataError(
                f"{int(bad.sum())} rows of features are not finite"
                + (f" after the cast to {self.info['dtype']}" if overflow else ""),
                cause="values exceed the type's range"
                if overflow
                else "the network gave NaN or inf",
                remedy='set extract.dtype = "float32"' if overflow else "look at the weights",
            )
        return stored

    def _must_agree(self, entry: LedgerEntry) -> None:
        path = self.folder / "ledger" / f"{entry.unit}.json"
        if LedgerEntry.from_json(read_json(path)) != entry:
            raise StoreDamagedError(
                f"unit {entry.unit} was committed before with other bytes",
                path=path,
                cause="two machines computed other numbers under one feature key",
                remedy="delete the segment's folder and extract on one of them",
            )


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_folder(path.parent)
    sync_folder(path.parent.parent)
