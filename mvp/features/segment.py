"""A segment: one Zarr v3 array made by one extraction, cut into units of work.

    <segment>/plan.npy         (row, 20) row ids in order, fixed when the segment is planned
    <segment>/features/        the array (row, ...), one chunk per unit, with a checksum
    <segment>/segment.json     shape, type, unit size and what made it; its creation publishes
    <segment>/ledger/N.json    unit N is written, synced and read back
    <segment>/sealed.json      all units are, and this is what was promised of each

Every object is created exclusively and never changed. A unit counts only when its ledger entry
stands. Nothing is inferred from Zarr: a missing chunk reads as fill values without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from mvp.errors import StoreDamagedError
from mvp.features import documents
from mvp.features.casting import same_bytes, storable
from mvp.features.layout import Layout
from mvp.features.ledger import Ledger, LedgerEntry, object_digest
from mvp.features.mapped import worth_mapping
from mvp.features.rows import RowIds, dump_ids, load_ids, map_ids, pack, unpack
from mvp.features.storage import WITHDRAWN, Part, Storage, put, unusable
from mvp.files import digest_bytes, digest_json
from mvp.types import FloatArray


class Segment:
    """One planned, partly or wholly written array of features.

    Args:
        storage: the store's.
        folder: the segment's, in the storage.

    Raises:
        FileNotFoundError: no segment is published there.
        StoreDamagedError: its plan is not what it was made with.
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        self.storage, self.folder = storage, folder
        self.name = folder.rpartition("/")[2]
        published = storage.read(f"{folder}/segment.json")
        try:
            self.info: dict[str, Any] = documents.load(published)
            self.ids = _ids(storage, f"{folder}/plan.npy", self.info["plan"])
            self.layout = Layout(
                len(self.ids),
                tuple(int(n) for n in self.info["shape"]),
                str(self.info["dtype"]),
                int(self.info["unit_rows"]),
                self.info["compression"],
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise StoreDamagedError(
                f"the plan of feature segment {self.name} is damaged",
                path=f"{storage.url}/{folder}",
                cause="plan.npy is missing" if isinstance(error, FileNotFoundError) else str(error),
                remedy="run `mvp extract --verify`",
            ) from None
        self.ledger = Ledger(storage, folder, self.layout)

    @classmethod
    def plan(
        cls,
        storage: Storage,
        parent: str,
        key_digest: str,
        rows: Sequence[bytes],
        layout: Layout,
        surroundings: Mapping[str, Any],
        *,
        attempt: int = 0,
        replaces: Sequence[str] = (),
    ) -> Segment:
        """Make an empty segment for these rows.

        Its name is a digest of key, rows and layout, so the same work planned twice is the same
        segment, and one whose plan was lost finds its units again.

        Args:
            storage: the store's.
            parent: folder of the key's segments.
            key_digest: the key's.
            rows: row ids in order.
            layout: how they are stored.
            surroundings: what they are made with.
            attempt: tells a later try at the same rows from those before.
            replaces: names of segments whose rows are copied here.
        """
        ids = pack(rows)
        plan = digest_bytes(ids.tobytes())
        folder = f"{parent}/{segment_name(key_digest, plan, layout, attempt, replaces)}"
        info = {
            "plan": plan,
            "rows": layout.rows,
            "shape": list(layout.shape),
            "dtype": layout.dtype,
            "unit_rows": layout.unit_rows,
            "compression": layout.compression,
            "array": digest_bytes(layout.metadata()),
            "surroundings": dict(surroundings),
            "replaces": sorted(replaces),
        }
        storage.delete(f"{folder}/{WITHDRAWN}")
        put(storage, f"{folder}/plan.npy", dump_ids(ids))
        put(storage, f"{folder}/features/zarr.json", layout.metadata())
        storage.create(f"{folder}/segment.json", documents.dump(info))
        return cls(storage, folder)

    @property
    def units(self) -> int:
        """Number of units."""
        return self.layout.units

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.layout.shape

    @cached_property
    def rows(self) -> list[bytes]:
        """Row ids in order."""
        return unpack(self.ids)

    def unit_rows(self, unit: int) -> list[bytes]:
        """Row ids of a unit."""
        return unpack(self.ids[self.layout.unit_slice(unit)])

    def chunk(self, unit: int) -> str:
        """The object that holds a unit's numbers."""
        return f"{self.folder}/features/{self.layout.chunk(unit)}"

    def commit(
        self,
        unit: int,
        values: FloatArray,
        rejected: Mapping[int, str],
        still_mine: Callable[[], bool] = lambda: True,
    ) -> LedgerEntry | None:
        """Write one unit, sync it, read it back and promise it.

        Args:
            unit: its number.
            values: (row of the unit, ...); rejected rows are NaN.
            rejected: row within the unit to reason.
            still_mine: asked before the promise; who slept too long leaves it to the new owner.

        Returns:
            What was promised, None if the unit has become another's.

        Raises:
            DataError: values are not finite, or do not fit the stored type.
            StorageError: the place cannot be written.
            StoreDamagedError: what was read back differs, or the unit was committed with
                other bytes before.
        """
        rows = self.layout.unit_slice(unit)
        if values.shape != (rows.stop - rows.start, *self.shape):
            raise ValueError(f"unit {unit} is given values of shape {values.shape}")
        stored = storable(values, rejected, self.layout.dtype)
        parts = self.layout.encode(stored)
        length = sum(memoryview(part).nbytes for part in parts)
        check = int.from_bytes(parts[-1], "little")
        entry = LedgerEntry(unit, length, object_digest(*parts), dict(rejected), check)
        before = self.entry(unit)
        if before is not None:
            if before == entry:
                return entry
            if not still_mine():
                return None
            raise self._other_bytes(unit)
        name = self.chunk(unit)
        if not self.storage.create(name, *parts) and not self._reads_back(name, parts):
            # Left by a writer that died before it promised anything: made anew, whole.
            if not still_mine():
                return None
            self.storage.delete(name)
            self.storage.create(name, *parts)
        if not self._reads_back(name, parts):
            if not still_mine():
                return None
            raise StoreDamagedError(
                f"unit {unit} of feature segment {self.name} does not read back as written",
                path=f"{self.storage.url}/{name}",
                cause="disk, network or memory",
                remedy="check the place of the store, then run `mvp extract` again",
            )
        if not still_mine():
            return None
        if not self.ledger.create(entry):
            if not still_mine():
                return None
            self._must_agree(entry)
        return entry

    def entry(self, unit: int) -> LedgerEntry | None:
        """What is promised of one unit now, read anew.

        Raises:
            StoreDamagedError: the entry cannot be read.
        """
        try:
            return self.ledger.entry(unit)
        except ValueError as error:
            raise self.damaged(unit, str(error)) from None

    def discard(self, unit: int) -> None:
        """Take a damaged unit away, its promise first, so that it is recomputed whole."""
        self.ledger.delete(unit)
        self.storage.delete(self.chunk(unit))

    def lengths(self) -> dict[str, int]:
        """Bytes of the array's objects by name, in one listing."""
        return self.storage.walk(f"{self.folder}/features")

    def damage(
        self, entry: LedgerEntry, *, deep: bool, lengths: Mapping[str, int] | None = None
    ) -> str | None:
        """How a committed unit differs from its ledger entry, or None.

        Args:
            entry: what was promised.
            deep: compare the digest of the stored bytes, not only their number.
            lengths: as `lengths` gives them; without, the object is asked.
        """
        name = self.chunk(entry.unit)
        length = self.storage.size(name) if lengths is None else lengths.get(name)
        if length is None:
            return "its stored object is missing"
        if length != entry.length:
            return f"its stored object has {length} bytes, not {entry.length}"
        if deep and object_digest(self.storage.read(name)) != entry.digest:
            return "its stored bytes have changed"
        return None

    def damaged(self, unit: int, wrong: str) -> StoreDamagedError:
        """The error for a unit that is not what was promised."""
        return StoreDamagedError(
            f"unit {unit} of feature segment {self.name} is damaged",
            path=f"{self.storage.url}/{self.chunk(unit)}",
            cause=wrong,
            remedy="run `mvp extract --verify`: it recomputes damaged units",
        )

    def _reads_back(self, name: str, parts: tuple[Part, ...]) -> bool:
        path = self.storage.local(name)
        try:
            if path is not None:
                data: RowIds = np.memmap(path, np.uint8, "r")
            else:
                data = np.frombuffer(self.storage.read(name), np.uint8)
        except (FileNotFoundError, ValueError):  # absent, or empty
            return False
        except OSError as error:
            raise unusable(self.storage, name, "read", error) from None
        at = 0
        for part in parts:
            wanted = np.frombuffer(part, np.uint8)
            if not same_bytes(data[at : at + len(wanted)], wanted):
                return False
            at += len(wanted)
        return at == len(data)

    def _must_agree(self, entry: LedgerEntry) -> None:
        """After a race for one unit: the loser's bytes may stand under the winner's entry."""
        committed = self.entry(entry.unit)
        if committed == entry:
            return
        if committed is not None and self.damage(committed, deep=True) is not None:
            self.discard(entry.unit)
        raise self._other_bytes(entry.unit)

    def _other_bytes(self, unit: int) -> StoreDamagedError:
        return StoreDamagedError(
            f"unit {unit} of feature segment {self.name} was committed before with other bytes",
            path=f"{self.storage.url}/{self.ledger.name(unit)}",
            cause="two machines computed other numbers under one feature key",
            remedy="delete the segment's folder and extract on one of them",
        )


def _ids(storage: Storage, name: str, plan: str) -> RowIds:
    path = storage.local(name)
    if path is not None and worth_mapping(storage.size(name) or 0):
        return map_ids(path, plan)
    return load_ids(storage.read(name), plan)


def segment_name(
    key_digest: str, plan: str, layout: Layout, attempt: int = 0, replaces: Sequence[str] = ()
) -> str:
    """The name that follows from what a segment is planned for; `plan` digests its row ids."""
    form = [list(layout.shape), layout.dtype, layout.unit_rows, layout.compression]
    return digest_json([key_digest, plan, form, attempt, sorted(replaces)])[:16]
