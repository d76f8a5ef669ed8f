"""A segment: one Zarr v3 array made by one extraction, cut into units of work.

    <segment>/plan.npy         (row, 20) row ids in order, fixed when the segment is planned
    <segment>/segment.json     shape, type, unit size and what made it; published last
    <segment>/features/        the array (row, feature), one chunk per unit, uncompressed, crc32c
    <segment>/ledger/N.json    unit N is written, synced and read back; created exclusively

A unit counts only when its ledger entry stands. Nothing is inferred from Zarr: a missing chunk
reads as fill values without an error.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from mvp.errors import MvpError, StoreDamagedError
from mvp.features.casting import storable
from mvp.features.ledger import LedgerEntry
from mvp.features.planning import make_segment
from mvp.features.rows import pack, unpack
from mvp.files import (
    create_exclusive,
    digest_bytes,
    digest_file,
    digest_json,
    read_json,
    sync_folder,
    sync_object,
)
from mvp.types import FloatArray


class Segment:
    """One planned, partly or wholly written array of features."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.info: dict[str, Any] = read_json(folder / "segment.json")
            self.rows = unpack(np.load(folder / "plan.npy", allow_pickle=False))
            made_with = self.info["plan"] == digest_bytes(pack(self.rows).tobytes())
            _ = self.units, self.width, np.dtype(self.info["dtype"])
        except Exception as error:  # noqa: BLE001 - numpy and json raise anything
            raise StoreDamagedError(
                "a segment's plan cannot be read",
                path=folder,
                cause=f"{type(error).__name__}: {error}",
                remedy="delete this folder and run `mvp extract` again",
            ) from None
        if not made_with:
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
        attempt: int = 0,
    ) -> Segment:
        """Make an empty segment for these rows.

        Its name is a digest of key and rows, so the same work planned twice is the same segment;
        `attempt` tells a later try at the same rows from those before.
        """
        ids = pack(rows)
        plan_digest = digest_bytes(ids.tobytes())
        named = [key_digest, plan_digest, attempt] if attempt else [key_digest, plan_digest]
        folder = parent / digest_json(named)[:16]
        if folder.exists():
            return cls(folder)
        parent.mkdir(parents=True, exist_ok=True)
        # Made aside and moved in whole: of two processes that plan the same work neither may
        # clear away the array that the other writes already.
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=parent.parent) as name:
            made = Path(name) / folder.name
            make_segment(made, ids, plan_digest, width, dtype, unit_rows, surroundings)
            try:
                made.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
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
            array = zarr.open_array(str(self.folder / "features"), mode="r+")
            # Not kept in the metadata: without it a unit of rejected rows leaves no object.
            array = array.with_config({"write_empty_chunks": True})
            found = (array.shape, array.chunks, array.dtype)
        except Exception as error:  # noqa: BLE001 - zarr raises anything
            wrong = f"{type(error).__name__}: {error}"
        else:
            unit = (self.unit_rows, self.width)
            planned = ((len(self.rows), self.width), unit, np.dtype(self.info["dtype"]))
            if found == planned:
                return array
            wrong = f"its shape, units and type are {found}, planned as {planned}"
        raise StoreDamagedError(
            "a segment's array cannot be opened",
            path=self.folder / "features",
            cause=wrong,
            remedy="delete this segment's folder and run `mvp extract` again",
        )

    def ledger(self) -> dict[int, LedgerEntry]:
        """The committed units."""
        paths = sorted((self.folder / "ledger").glob("*.json"))
        found = [entry for entry in map(self._entry, paths) if entry is not None]
        return {entry.unit: entry for entry in found}

    def _entry(self, path: Path) -> LedgerEntry | None:
        try:
            entry = LedgerEntry.from_json(read_json(path))
            self._must_fit(entry, path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreDamagedError(
                "a ledger entry cannot be read",
                path=path,
                cause=str(error),
                remedy="delete it and run `mvp extract` again; its unit is recomputed",
            ) from None
        return entry

    def _must_fit(self, entry: LedgerEntry, path: Path) -> None:
        if path.stem != str(entry.unit) or not 0 <= entry.unit < self.units:
            raise ValueError(f"it speaks of unit {entry.unit}")
        rows = self.unit_slice(entry.unit)
        if not set(entry.rejected) <= set(range(rows.stop - rows.start)):
            raise ValueError("it rejects rows that the unit has not")

    def _promise(self, unit: int) -> Path:
        return self.folder / "ledger" / f"{unit}.json"

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
        stored = storable(values, rejected, self.info["dtype"])
        if values.shape != (rows.stop - rows.start, self.width):
            raise ValueError(f"unit {unit} is given values of shape {values.shape}")
        committed = self._entry(self._promise(unit))
        if committed is not None:
            return self._same_as_before(committed, stored, rejected)
        path = self.stored_object(unit)
        try:
            self.array[rows] = stored
            sync_object(path)
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
        if not create_exclusive(self._promise(unit), data):
            self._must_agree(entry)
        return entry

    def discard(self, unit: int) -> None:
        """Take a damaged unit away, its ledger entry first, so that it is recomputed whole."""
        self._promise(unit).unlink(missing_ok=True)
        self.stored_object(unit).unlink(missing_ok=True)

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
        try:
            if deep and digest_file(path) != entry.digest:
                return "its stored bytes have changed"
        except OSError as error:
            return f"its stored object cannot be read ({error.strerror})"
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

    def _same_as_before(
        self, entry: LedgerEntry, stored: np.ndarray, rejected: Mapping[int, str]
    ) -> LedgerEntry:
        """A committed unit is compared with what comes anew, and never written over."""
        before = self.read_unit(entry)
        if entry.rejected != rejected or before.tobytes() != stored.astype(np.float32).tobytes():
            raise self._other_bytes(entry.unit)
        return entry

    def _must_agree(self, entry: LedgerEntry) -> None:
        """After a race for one unit: the loser's bytes may stand under the winner's entry."""
        committed = self._entry(self._promise(entry.unit))
        if committed == entry:
            return
        if committed is not None and self.damage(committed, deep=True) is not None:
            self.discard(entry.unit)
        raise self._other_bytes(entry.unit)

    def _other_bytes(self, unit: int) -> StoreDamagedError:
        return StoreDamagedError(
            f"unit {unit} was committed before with other bytes",
            path=self._promise(unit),
            cause="two machines computed other numbers under one feature key",
            remedy="delete the segment's folder and extract on one of them",
        )
