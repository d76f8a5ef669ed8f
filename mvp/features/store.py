"""FeatureStore: for every feature key its segments, found by the content of the images.

<root>/<view>/<key digest>/key.json        the fields of the key
<root>/<view>/<key digest>/golden.npy      features of a synthetic batch, for later comparison
<root>/<view>/<key digest>/surroundings/   library versions under which the golden batch agreed
<root>/<view>/<key digest>/segments/…      see `mvp.features.segment`
"""

from __future__ import annotations

import io
from collections.abc import Callable, KeysView, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvp.errors import DataError, StaleError, StoreDamagedError
from mvp.features.key import FeatureKey
from mvp.features.ledger import LedgerEntry
from mvp.features.segment import Segment
from mvp.files import create_exclusive, digest_json, read_json, write_json
from mvp.types import FloatArray


@dataclass(frozen=True)
class UnitTask:
    """A unit to compute: its segment, its number and its row ids in order."""

    segment: Segment
    unit: int
    rows: tuple[bytes, ...]


class KeyStore:
    """The features of one key. Rows are addressed by row id (image digest and instance)."""

    def __init__(self, folder: Path, key: FeatureKey) -> None:
        self.folder, self.key = folder, key
        self.segments: list[Segment] = []
        self._place: dict[bytes, tuple[int, int]] = {}
        self._rejected: dict[bytes, str] = {}
        self._entries: list[dict[int, LedgerEntry]] = []
        self.refresh()

    def refresh(self) -> None:
        """Read the ledgers again."""
        folders = sorted((self.folder / "segments").glob("*/segment.json"))
        self.segments = [Segment(path.parent) for path in folders]
        self._entries = [segment.ledger() for segment in self.segments]
        self._place.clear()
        self._rejected.clear()
        for number, (segment, entries) in enumerate(zip(self.segments, self._entries, strict=True)):
            for entry in entries.values():
                self._index(number, segment, entry)

    def _index(self, number: int, segment: Segment, entry: LedgerEntry) -> None:
        rows = segment.unit_slice(entry.unit)
        for offset, row in enumerate(segment.rows[rows]):
            if offset in entry.rejected:
                self._rejected[row] = entry.rejected[offset]
            else:
                self._place[row] = (number, rows.start + offset)

    def __contains__(self, row: bytes) -> bool:
        return row in self._place

    def __len__(self) -> int:
        """Number of rows that can be read."""
        return len(self._place)

    @property
    def rows(self) -> KeysView[bytes]:
        """The row ids that can be read."""
        return self._place.keys()

    @property
    def width(self) -> int | None:
        """Number of features, None while there are none."""
        return self.segments[0].width if self.segments else None

    @property
    def rejected(self) -> Mapping[bytes, str]:
        """Rows that were tried and could not be read, with the reason."""
        return {row: reason for row, reason in self._rejected.items() if row not in self._place}

    def discard_damaged(self, *, deep: bool) -> int:
        """Forget committed units that are not what their ledger says; they are recomputed whole.

        Args:
            deep: compare digests of all stored bytes, not only lengths.

        Returns:
            How many units were damaged.
        """
        count = 0
        for segment, entries in zip(self.segments, self._entries, strict=True):
            for unit, entry in entries.items():
                if segment.damage(entry, deep=deep) is not None:
                    segment.discard(unit)
                    count += 1
        if count:
            self.refresh()
        return count

    def plan(
        self,
        rows: Sequence[bytes],
        width: int,
        unit_rows: int,
        surroundings: Mapping[str, Any],
    ) -> list[UnitTask]:
        """The units to compute so that all of `rows` are stored.

        Units that an interrupted extraction left open come first, in their own segments; what
        is in no plan becomes one new segment.
        """
        wanted = [r for r in dict.fromkeys(rows) if r not in self._place]
        left = dict.fromkeys(wanted)
        tasks = []
        for segment, entries in zip(self.segments, self._entries, strict=True):
            for unit in range(segment.units):
                if unit in entries:
                    continue
                ids = segment.rows[segment.unit_slice(unit)]
                if any(row in left for row in ids):
                    tasks.append(UnitTask(segment, unit, tuple(ids)))
                    for row in ids:
                        left.pop(row, None)
        if left:
            # A finished segment of just these rows rejected them all: they are tried again apart.
            attempt = sum(segment.rows == list(left) for segment in self.segments)
            new = Segment.plan(
                self.folder / "segments",
                self.key.digest,
                list(left),
                width,
                self.key.dtype,
                unit_rows,
                surroundings,
                attempt,
            )
            done = new.ledger()
            tasks += [
                UnitTask(new, unit, tuple(new.rows[new.unit_slice(unit)]))
                for unit in range(new.units)
                if unit not in done
            ]
        return tasks

    def commit(self, task: UnitTask, values: FloatArray, rejected: Mapping[int, str]) -> None:
        """Store one unit: (row of the unit, feature), NaN where rejected."""
        task.segment.write(task.unit, values, rejected)

    def read(self, rows: Sequence[bytes]) -> FloatArray:
        """(len(rows), feature) float32; every chunk is read once.

        Raises:
            StoreDamagedError: a unit differs from its ledger entry.
            KeyError: a row is not stored.
        """
        places = np.array([self._place[row] for row in rows], dtype=np.int64).reshape(-1, 2)
        out = np.empty((len(rows), self.width or 0), np.float32)
        for number in np.unique(places[:, 0]):
            segment, entries = self.segments[number], self._entries[number]
            here = np.flatnonzero(places[:, 0] == number)
            units = places[here, 1] // segment.unit_rows
            for unit in np.unique(units):
                some = here[units == unit]
                values = segment.read_unit(entries[int(unit)])
                out[some] = values[places[some, 1] - int(unit) * segment.unit_rows]
        return out

    def agree_with_golden(
        self,
        surroundings: Mapping[str, Any],
        compute: Callable[[], FloatArray],
        tolerance: float,
    ) -> bool:
        """Make sure that this machine gives the numbers that the key stands for.

        Args:
            surroundings: library versions and device.
            compute: runs the network on the synthetic golden batch: (n, feature) float32.
            tolerance: largest difference, relative to the largest golden value.

        Returns:
            Whether the golden batch was computed (False: these surroundings are known).

        Raises:
            StaleError: the numbers differ; nothing was stored.
        """
        known = self.folder / "surroundings" / f"{digest_json(dict(surroundings))}.json"
        path = self.folder / "golden.npy"
        if known.exists() and path.exists():
            return False
        values = np.asarray(compute(), np.float32)
        if not np.isfinite(values).all():
            raise DataError(
                "the network gives NaN or inf on a synthetic image",
                view=self.key.view,
                remedy="look at the weights",
            )
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not create_exclusive(path, buffer.getvalue()):
            golden = _load_golden(path)
            scale = max(float(np.abs(golden).max(initial=0)), 1e-12)
            same_shape = golden.shape == values.shape
            gap = float(np.abs(golden - values).max(initial=0)) / scale if same_shape else np.inf
            if not gap <= tolerance:
                raise StaleError(
                    f"other surroundings give other features (relative difference {gap:.2e}, "
                    f"tolerance {tolerance:.0e})",
                    view=self.key.view,
                    cause="library versions or device changed since the cache was filled",
                    remedy="use the old surroundings, or raise extract.tolerance knowingly, "
                    f"or delete {self.folder} to extract anew",
                )
        write_json(known, dict(surroundings))
        return True


def _load_golden(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    except Exception as error:  # noqa: BLE001 - numpy raises anything
        raise StoreDamagedError(
            "the golden batch cannot be read", path=path, cause=str(error), remedy="delete it"
        ) from None


class FeatureStore:
    """All features of a workspace, by view and key."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, key: FeatureKey) -> KeyStore:
        """The features of one key; made when they are not there yet."""
        folder = self.root / key.view / key.digest
        path = folder / "key.json"
        if not path.exists():
            write_json(path, key.to_json())
        if _read_key(path) != key:
            raise StoreDamagedError(
                "a feature key's folder holds another key", path=path, remedy="delete the folder"
            )
        return KeyStore(folder, key)

    def find(self, view: str, digest: str) -> KeyStore | None:
        """The features under a key's digest, None when there are none."""
        path = self.root / view / digest / "key.json"
        return self.open(_read_key(path)) if path.exists() else None

    def keys(self, view: str) -> list[FeatureKey]:
        """The keys that features of a view are stored under."""
        paths = sorted((self.root / view).glob("*/key.json"))
        return [_read_key(path) for path in paths]


def _read_key(path: Path) -> FeatureKey:
    try:
        return FeatureKey.from_json(read_json(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreDamagedError(
            "a feature key cannot be read",
            path=path,
            cause=f"{type(error).__name__}: {error}",
            remedy="delete this file and run `mvp extract` again; the features stay",
        ) from None
