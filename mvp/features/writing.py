"""Writing: who computes which unit, shared between processes without a server."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any

from mvp.errors import StorageError
from mvp.features import documents
from mvp.features.claims import PLANNING
from mvp.features.keystore import KeyStore
from mvp.features.layout import Compression, Layout
from mvp.features.rows import ROW_ID_BYTES, pack
from mvp.features.segment import Segment, segment_name
from mvp.files import digest_bytes
from mvp.types import FloatArray

# What a unit costs besides its numbers: ledger entry, seal, claim, and blocks half filled.
_UNIT_OVERHEAD = 16 << 10
_LONGEST_PAUSE_S = 5.0
# Commits under way at a time: most of one is waiting for the disk.
_COMMITS = 6


@dataclass(frozen=True, eq=False)
class UnitTask:
    """One unit that is to be computed."""

    segment: Segment
    unit: int

    @cached_property
    def rows(self) -> tuple[bytes, ...]:
        """Row ids of the unit, in order."""
        return tuple(self.segment.unit_rows(self.unit))

    @property
    def claim(self) -> str:
        """The name that is claimed by who computes it."""
        return f"{self.segment.name}.{self.unit}"


class Writer:
    """Plans, claims and commits the units of one key.

    Several processes may write one key at a time: they plan one after the other, every unit is
    claimed by one of them, and whoever finds nothing left to claim waits for the others or takes
    over from the dead.

    Args:
        store: the features of the key.
    """

    def __init__(self, store: KeyStore) -> None:
        self.store = store
        self._storage, self._claims, self._shelf = store.storage, store.claims, store.shelf
        self._pause = 0.02
        self._pool: ThreadPoolExecutor | None = None
        self._running: deque[Future[bool]] = deque()
        self._lock = threading.Lock()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._claims.release_all()

    def require_place(self) -> None:
        """Raise a StorageError now if nothing can be written, not after hours of work."""
        probe = f"probe{secrets.token_hex(8)}"
        self._claims.take(probe)
        self._claims.release(probe)
        name = f"{self.store.folder}/claims/{probe}"
        if self._storage.local(name) is None:  # a server, or its library, may know no conditions
            self._storage.create(name, b"1")
            mixes = self._storage.create(name, b"2")
            self._storage.delete(name)
            if mixes:
                raise StorageError(
                    "the place of the feature store writes over what stands there",
                    path=self._storage.url,
                    cause="it ignores `If-None-Match: *`, or s3fs is older than 2024.12",
                    remedy="update library or server, or set extract.cache to another place",
                )

    def plan(
        self,
        rows: Iterable[bytes],
        shape: int | tuple[int, ...],
        unit_rows: int,
        surroundings: Mapping[str, Any],
        *,
        available: Container[bytes] | None = None,
        again: bool = True,
        compression: Compression = "none",
    ) -> list[UnitTask]:
        """The units to compute so that all of `rows` are stored.

        Units that another extraction left open come first, in their own segments, when all of
        their rows can be computed here; what is in none becomes one new segment. Processes plan
        one after the other, so what all of them can compute is planned once.

        Args:
            rows: row ids.
            shape: of one row, or its width.
            unit_rows: most rows of a unit.
            surroundings: what the new rows are made with.
            available: rows that can be computed here; default: `rows`.
            again: plan rows anew whose open unit has others that cannot be computed here;
                otherwise they are left to that unit.
            compression: of a new segment.

        Raises:
            StorageError: the place cannot be written, or has too little room.
        """
        wanted = list(dict.fromkeys(rows))
        shape = (shape,) if isinstance(shape, int) else shape
        within = set(wanted) if available is None else available
        with self._claims.waiting(PLANNING):
            self.store.refresh()
            stored = self.store.has(wanted)
            left = dict.fromkeys(r for r, there in zip(wanted, stored, strict=True) if not there)
            tasks = []
            for task in self._open_units():
                ids = task.rows
                here = all(row in within for row in ids)
                if here and any(row in left for row in ids):
                    tasks.append(task)
                if here or not again:
                    for row in ids:
                        left.pop(row, None)
            if left:
                new = self._plan_new(list(left), shape, unit_rows, surroundings, compression)
                self.store.refresh()
                tasks += [t for t in self._open_units() if t.segment.name == new.name]
        return tasks

    def claimed(self, tasks: Sequence[UnitTask]) -> Iterator[UnitTask]:
        """Those tasks that nobody else works on, each claimed when it is asked for."""
        for task in tasks:
            if self._claims.take(task.claim):
                if self._storage.size(task.segment.ledger.name(task.unit)) is None:
                    yield task
                else:
                    self._claims.release(task.claim)

    @contextmanager
    def released_on_error(self, task: UnitTask) -> Iterator[None]:
        """Give a claimed unit back if its numbers cannot be had, for whoever comes next."""
        try:
            yield
        except BaseException:
            self._claims.release(task.claim)
            raise

    def commit(self, task: UnitTask, values: FloatArray, rejected: Mapping[int, str]) -> bool:
        """Store one unit: (row of the unit, ...), NaN where rejected.

        Returns:
            False if it was claimed here and has become another's meanwhile; nothing is stored.
        """
        held = task.claim in self._claims.held
        entry = task.segment.commit(
            task.unit,
            values,
            rejected,
            lambda: not held or self._claims.owns(task.claim),
        )
        if entry is not None:
            with self._lock:
                self._shelf.committed(task.segment, entry)
        self._claims.release(task.claim)
        return entry is not None

    def submit(
        self, task: UnitTask, values: FloatArray, rejected: Mapping[int, str]
    ) -> Future[bool]:
        """Commit in the background, a few units at a time, while the caller goes on.

        What goes wrong is raised by a later `submit` or by `drain`, which must be called last.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_COMMITS, thread_name_prefix="mvp-commit")
        while len(self._running) >= _COMMITS:
            self._running.popleft().result()
        future = self._pool.submit(self.commit, task, values, rejected)
        self._running.append(future)
        return future

    def drain(self) -> None:
        """Wait until everything that was submitted is committed."""
        while self._running:
            self._running.popleft().result()

    def still_open(self, tasks: Sequence[UnitTask]) -> list[UnitTask]:
        """Those tasks that nobody has committed yet; seals what has become whole."""
        self.store.refresh()
        self._shelf.seal()
        self._claims.sweep(self._shelf.is_done)
        still = {(t.segment.name, t.unit) for t in self._open_units()}
        return [t for t in tasks if (t.segment.name, t.unit) in still]

    def pause(self) -> None:
        """Wait a little for the others, longer each time."""
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)

    def _plan_new(
        self,
        rows: list[bytes],
        shape: tuple[int, ...],
        unit_rows: int,
        surroundings: Mapping[str, Any],
        compression: Compression,
    ) -> Segment:
        key = self.store.key
        layout = Layout.fitting(len(rows), shape, key.dtype, unit_rows, compression)
        self._require_room(layout)
        self._storage.create(f"{self.store.folder}/key.json", documents.dump(key.to_json()))
        # A finished segment of just these rows rejected them all: they are tried again apart.
        plan, attempt = digest_bytes(pack(rows).tobytes()), 0
        while segment_name(key.digest, plan, layout, attempt) in self._shelf.taken:
            attempt += 1
        return Segment.plan(
            self._storage,
            f"{self.store.folder}/segments",
            key.digest,
            rows,
            layout,
            surroundings,
            attempt=attempt,
        )

    def _require_room(self, layout: Layout) -> None:
        room = self._storage.room()
        needed = layout.units * (layout.unit_bytes + _UNIT_OVERHEAD) + layout.rows * ROW_ID_BYTES
        if room is not None and layout.compression == "none" and needed > room:
            raise StorageError(
                f"{layout.rows} rows of features need {needed / 1e9:.3g} GB, and "
                f"{room / 1e9:.3g} GB are free",
                view=self.store.key.view,
                path=self._storage.url,
                remedy="make room, or set extract.cache to a larger place; nothing was computed",
            )

    def _open_units(self) -> Iterator[UnitTask]:
        for number in self._shelf.live:
            if number not in self._shelf.unfinished:  # a merge copies rows, no network is needed
                for unit in self._shelf.open_units(number):
                    yield UnitTask(self._shelf.segments[number], unit)
