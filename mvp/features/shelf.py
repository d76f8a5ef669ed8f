"""All segments of a key and what is promised of them, looked at again as others write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from mvp.errors import StorageError, StoreDamagedError
from mvp.features.claims import PLANNING, Claims
from mvp.features.ledger import LedgerEntry, Promises
from mvp.features.segment import Segment
from mvp.features.storage import WITHDRAWN, Storage, put
from mvp.files import digest_bytes, digest_json
from mvp.types import BoolArray


class Shelf:
    """The segments in one folder. Their numbers stay as long as this object.

    Args:
        storage: the store's.
        folder: of the segments.

    Attributes:
        segments: every segment met so far.
        standing: numbers of those that are published.
        live: numbers of those of them that were not merged into others.
        problems: damage that keeps rows from being found.
        unfinished: numbers of those that rows are still being merged into.
        taken: names of segments that stand, or whose rows were merged into one that stands.
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        self.storage, self.folder = storage, folder
        self.segments: list[Segment] = []
        self.standing: list[int] = []
        self.live: list[int] = []
        self.problems: list[StoreDamagedError] = []
        self.taken: set[str] = set()
        self.unfinished: set[int] = set()
        self._promises: list[Promises] = []
        self._numbers: dict[str, int] = {}
        self._broken: list[str] = []

    def refresh(self, *, gone: bool = False) -> None:
        """Load new segments, and the ledgers of those that were not whole.

        Args:
            gone: look too whether those that are known are still published.
        """
        self.problems, self._broken = [], []
        for name in list(self._numbers) if gone else ():
            if self.storage.size(f"{self.folder}/{name}/segment.json") is None:
                del self._numbers[name]
        standing = self.standing = []
        for name in self.storage.names(self.folder):
            if (number := self._load(name)) is not None:
                standing.append(number)
        merged = {
            old
            for number in standing
            if not self.open_units(number)
            for old in self.segments[number].info["replaces"]
        }
        self.live = [n for n in standing if self.segments[n].name not in merged]
        names = {self.segments[n].name for n in standing}
        self.unfinished = {
            number
            for number in self.live
            if (old := self.segments[number].info["replaces"])
            and self.open_units(number)
            and names.issuperset(old)
        }
        self.taken = merged.union(self.segments[n].name for n in standing)
        for number in self.live:
            wrong = self._promises[number].wrong
            self.problems += [self.segments[number].damaged(u, why) for u, why in wrong.items()]

    def _load(self, name: str) -> int | None:
        number = self._numbers.get(name)
        try:
            if number is None:
                segment = Segment(self.storage, f"{self.folder}/{name}")
                promises = segment.ledger.promises()
                # Only now: what could not be read must not put the numbers out of step.
                number = self._numbers[name] = len(self.segments)
                self.segments.append(segment)
                self._promises.append(promises)
            elif not self._promises[number].sealed:
                self._promises[number] = self.segments[number].ledger.promises()
        except FileNotFoundError:
            return None  # its planning was cut short, or it has just been collected
        except StoreDamagedError as error:
            self.problems.append(error)
            self._broken.append(name)
            return None
        return number

    @property
    def merged(self) -> list[int]:
        """Numbers of segments that stand no longer, or whose rows others hold."""
        return [n for n in range(len(self.segments)) if n not in set(self.live)]

    def promises(self, number: int) -> Promises:
        """What is promised of a segment's units."""
        return self._promises[number]

    def entry(self, number: int, unit: int) -> LedgerEntry:
        """What is promised of a committed unit."""
        return self._promises[number].entries[unit]

    def open_units(self, number: int) -> list[int]:
        """Units of a segment that are not committed."""
        promised = self._promises[number]
        if promised.sealed:
            return []
        units = range(self.segments[number].layout.units)
        return [u for u in units if u not in promised.entries and u not in promised.wrong]

    def committed(self, segment: Segment, entry: LedgerEntry) -> None:
        """Take note of a unit that was committed here; seal its segment when it was the last."""
        number = self._numbers.get(segment.name)
        if number is None:
            return  # its plan was lost meanwhile; planned again, it finds the unit
        promised = self._promises[number]
        entries = {**promised.entries, entry.unit: entry}
        if len(entries) == segment.units:
            # Read anew: another process may have made a unit again since it was looked at.
            entries = segment.ledger.entries()[0]
        sealed = segment.ledger.seal(entries)
        self._promises[number] = Promises(entries, promised.wrong, sealed, "")

    def readable(self, number: int) -> BoolArray:
        """(row,) which rows of a segment can be read."""
        layout = self.segments[number].layout
        mask = np.zeros(layout.rows, dtype=bool)
        for entry in self._promises[number].entries.values():
            rows = layout.unit_slice(entry.unit)
            mask[rows] = True
            mask[[rows.start + row for row in entry.rejected]] = False
        return mask

    def state(self, number: int) -> str:
        """Which rows of a segment can be read, in a word: the same word, the same rows."""
        entries = self._promises[number].entries
        rejects = {str(u): sorted(e.rejected) for u, e in entries.items() if e.rejected}
        whole = len(entries) == self.segments[number].layout.units
        return digest_json(["whole" if whole else sorted(entries), rejects])[:16]

    def rejected(self) -> dict[bytes, str]:
        """Rows that were rejected somewhere, with the reason."""
        tried = {}
        for number in self.live:
            tried.update(self.rejected_in(number))
        return tried

    def rejected_in(self, number: int) -> dict[bytes, str]:
        """Rows that a segment rejects, with the reason."""
        tried = {}
        for entry in self._promises[number].entries.values():
            if entry.rejected:
                rows = self.segments[number].unit_rows(entry.unit)
                tried.update({rows[row]: why for row, why in entry.rejected.items()})
        return tried

    def seal(self) -> None:
        """Seal the segments that have become whole without anybody saying so."""
        for number in self.standing:
            promised = self._promises[number]
            segment = self.segments[number]
            if not promised.sealed and len(promised.entries) == segment.units:
                entries = segment.ledger.entries()[0]
                if segment.ledger.seal(entries):
                    self._promises[number] = Promises(entries, {}, True, "")

    def is_done(self, claim: str) -> bool:
        """Whether a claim is one on a unit that is committed."""
        name, _, unit = claim.partition(".")
        number = self._numbers.get(name)
        return number is not None and int(unit or -1) in self._promises[number].entries

    def count_damaged(self) -> int:
        """How many units are known to be damaged, or have objects of another length."""
        count = len(self.problems)
        for number in self.live:
            segment, lengths = self.segments[number], self.segments[number].lengths()
            entries = self._promises[number].entries.values()
            count += sum(
                segment.damage(e, deep=False, lengths=lengths) is not None for e in entries
            )
        return count

    def repair(self, claims: Claims, *, deep: bool) -> int:
        """Mend what can be mended and take away what has to be computed again.

        Args:
            claims: so that two processes do not mend the same unit at a time.
            deep: look at all stored bytes and single entries too.

        Returns:
            How many units have to be computed again; a lost plan counts as one.
        """
        count = 0
        if self._broken:
            with claims.waiting(PLANNING):
                for name in self._broken:
                    count += self._unpublish(name)
        # One that was merged stands in again when a unit of the merged one is damaged.
        for number in self.standing if deep else self.live:
            segment, promised = self.segments[number], self._promises[number]
            lost = dict(promised.wrong)
            single: dict[int, LedgerEntry] = {}
            if deep:
                single, wrong = segment.ledger.entries()
                lost.update({} if promised.sealed else wrong)
                if array_damage(segment):
                    put(self.storage, f"{segment.folder}/features/zarr.json", _array(segment))
            lengths = segment.lengths()
            for unit in range(segment.layout.units):
                entry = promised.entries.get(unit)
                hurt = (
                    entry is not None
                    and segment.damage(entry, deep=deep, lengths=lengths) is not None
                )
                if hurt or unit in lost:
                    count += self._discard(claims, segment, unit)
                elif deep and entry is not None and single.get(unit) != entry:
                    segment.ledger.replace(entry)
        try:
            self.seal()  # whose writer was killed after the last unit, before it could
        except StorageError:
            if deep:  # it only makes reading faster, and reading needs no place to write
                raise
        return count

    def _unpublish(self, name: str) -> bool:
        """Give a lost plan up. The units stay: planned again for the same rows, it finds them."""
        try:
            Segment(self.storage, f"{self.folder}/{name}")
        except FileNotFoundError:
            return False
        except StoreDamagedError:
            self.storage.create(f"{self.folder}/{name}/{WITHDRAWN}", b"taken back\n")
            self.storage.delete(f"{self.folder}/{name}/segment.json")
            return True
        return False  # another process has mended it meanwhile

    def _discard(self, claims: Claims, segment: Segment, unit: int) -> bool:
        with _trying(claims, f"{segment.name}.{unit}") as alone:
            if not alone:
                return False
            try:
                entry = segment.entry(unit)
            except StoreDamagedError:
                entry = None
            if entry is None or segment.damage(entry, deep=True):
                segment.discard(unit)
            else:
                # The unit stands well, so the seal that says otherwise is older than the unit.
                segment.ledger.unseal()
            number = self._numbers[segment.name]
            self._promises[number] = segment.ledger.promises()
        return True


def array_damage(segment: Segment) -> str | None:
    """What is wrong with the array's metadata, which only plain Zarr reads, or None."""
    try:
        data = segment.storage.read(f"{segment.folder}/features/zarr.json")
    except FileNotFoundError:
        return "zarr.json is missing"
    # Another version of Zarr may write the same array in other words.
    made = digest_bytes(data) == segment.info["array"] or data == _array(segment)
    return None if made else "zarr.json is not as it was written"


def _array(segment: Segment) -> bytes:
    return segment.layout.metadata()


@contextmanager
def _trying(claims: Claims, name: str) -> Iterator[bool]:
    alone = claims.take(name)
    try:
        yield alone
    finally:
        if alone:
            claims.release(name)
