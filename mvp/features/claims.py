"""Who works on what: claims that several processes respect and a dead one cannot hold.

A claim on NAME is an object `NAME-GENERATION-BEAT`, created exclusively. Its owner moves it on by
creating the next beat and deleting the last. Who finds a claim whose owner is dead, or that has
not moved for the length of a lease, creates the next generation: exactly one can. The highest
generation owns. Clocks are never compared between machines; a watcher measures with its own how
long a claim has stood still.

Claims only save work. What keeps rows from being mixed is that chunks and ledger entries are
created exclusively.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mvp.errors import StorageError
from mvp.features.storage import Storage

LEASE_S = 60.0
# The claim of who decides what is computed, and of who takes segments away.
PLANNING = "plan"
_TOLD_AFTER_S = 5.0
log = logging.getLogger("mvp")


@cache
def machine() -> str:
    """What process numbers mean something in: this host since its start, this process space."""
    known = [socket.gethostname()]
    for source in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        path = Path(source)
        try:
            known.append(str(path.readlink()) if path.is_symlink() else path.read_text().strip())
        except OSError:
            known.append("")
    return "|".join(known)


def _started(pid: int) -> str:
    """When a process began, as numbers are given out again; "" if it has ended or hides."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # Killed, but its parent has not asked how it ended: in a container perhaps for ever.
        return "" if state[0] in "ZX" else state[19]
    except (OSError, IndexError):
        return ""


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether an owner on this machine is gone; False for one that cannot be asked."""
    if owner.get("machine") != machine():
        return False
    pid = int(owner["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _started(pid) != owner.get("started")


@dataclass(frozen=True, order=True)
class _Mark:
    generation: int
    beat: int
    name: str


class Claims:
    """The claims in one folder of a store.

    Args:
        storage: the store's.
        folder: where the claims lie.
        lease_s: how long, in seconds, a claim that does not move is respected.
    """

    def __init__(self, storage: Storage, folder: str, lease_s: float = LEASE_S) -> None:
        self._storage, self._folder, self._lease = storage, folder, lease_s
        self._token = secrets.token_hex(8)
        self._held: dict[str, _Mark] = {}
        self._seen: dict[str, tuple[_Mark, float]] = {}
        self._lock = threading.RLock()
        self._beating: threading.Thread | None = None

    def take(self, name: str) -> bool:
        """Claim `name` (letters, digits, dots); False while another process works on it."""
        with self._lock:
            if name in self._held:
                return False
            marks = self._marks().get(name, [])
            if marks and not self._abandoned(name, marks[-1]):
                return False
            generation = marks[-1].generation + 1 if marks else 0
            mark = _Mark(generation, 0, name)
            if not self._storage.create(self._path(mark), self._identity(), durable=False):
                return False
            if self._marks().get(name, [mark])[-1] != mark:
                # Listed long ago: somebody has taken over from the one who was here then.
                self._storage.delete(self._path(mark))
                return False
            self._held[name] = mark
            self._seen.pop(name, None)
            for old in marks:
                self._storage.delete(self._path(old))
        self._beat_on()
        return True

    @property
    def held(self) -> frozenset[str]:
        """Names that are claimed here."""
        return frozenset(self._held)

    def owns(self, name: str) -> bool:
        """Whether a claim of ours still stands: a process that slept too long has lost it."""
        with self._lock:
            mark = self._held.get(name)
            marks = self._marks().get(name, [])
            return mark is not None and bool(marks) and marks[-1].generation == mark.generation

    def release(self, name: str) -> None:
        """Give a claim up, after its work is done or when it will not be done here."""
        with self._lock:
            mark = self._held.pop(name, None)
            if mark is None:
                return
            # Those that a killed process left first: they must not outlive the one above them.
            for old in self._marks().get(name, []) if mark.generation else ():
                if old.generation < mark.generation:
                    self._storage.delete(self._path(old))
            self._storage.delete(self._path(mark))

    def release_all(self) -> None:
        """Give all claims up."""
        for name in list(self._held):
            self.release(name)

    def sweep(self, done: Callable[[str], bool]) -> None:
        """Delete what is left of dead processes, and claims on work that is done.

        Args:
            done: whether the work of a name is done.
        """
        with self._lock:
            for name, marks in self._marks().items():
                if name not in self._held and (done(name) or self._owner_is_dead(marks[-1])):
                    for mark in marks:
                        self._storage.delete(self._path(mark))

    def others(self) -> set[str]:
        """Names that are claimed by others, dead or alive."""
        return set(self._marks()) - set(self._held)

    @contextmanager
    def waiting(self, name: str) -> Iterator[None]:
        """Hold a claim, once whoever has it is done or given up."""
        pause, told, since = 0.01, False, time.monotonic()
        while not self.take(name):
            time.sleep(pause)
            pause = min(2 * pause, 1.0)
            if not told and time.monotonic() - since > _TOLD_AFTER_S:
                log.info("waiting for another process that plans or tidies %s", self._folder)
                told = True
        try:
            yield
        finally:
            self.release(name)

    def _abandoned(self, name: str, mark: _Mark) -> bool:
        seen, since = self._seen.get(name, (None, 0.0))
        now = time.monotonic()
        if seen != mark:
            self._seen[name] = (mark, now)
            return self._owner_is_dead(mark)
        return now - since > self._lease or self._owner_is_dead(mark)

    def _owner_is_dead(self, mark: _Mark) -> bool:
        try:
            owner = json.loads(self._storage.read(self._path(mark)))
            return _is_dead(owner)
        except FileNotFoundError:
            return False  # it moved on
        except (ValueError, KeyError, TypeError, AttributeError):
            return False  # half a claim of a place without links: the lease decides

    def _marks(self) -> dict[str, list[_Mark]]:
        found: dict[str, list[_Mark]] = {}
        for entry in self._storage.names(self._folder):
            name, _, numbers = entry.partition("-")
            generation, _, beat = numbers.partition("-")
            if generation.isdigit() and beat.isdigit():
                found.setdefault(name, []).append(_Mark(int(generation), int(beat), name))
        return {name: sorted(marks) for name, marks in found.items()}

    def _path(self, mark: _Mark) -> str:
        return f"{self._folder}/{mark.name}-{mark.generation}-{mark.beat}"

    def _identity(self) -> bytes:
        pid = os.getpid()
        owner = {"machine": machine(), "pid": pid, "started": _started(pid), "token": self._token}
        return json.dumps(owner).encode()

    def _beat_on(self) -> None:
        with self._lock:
            if self._beating is None or not self._beating.is_alive():
                self._beating = threading.Thread(target=self._beat, name="mvp-claims", daemon=True)
                self._beating.start()

    def _beat(self) -> None:
        while True:
            time.sleep(self._lease / 4)
            with self._lock:
                if not self._held:
                    self._beating = None
                    return
                for name, mark in list(self._held.items()):
                    try:
                        self._held[name] = self._moved(mark)
                    except StorageError:
                        continue  # a passing failure; the lease is longer than one beat

    def _moved(self, mark: _Mark) -> _Mark:
        later = _Mark(mark.generation, mark.beat + 1, mark.name)
        self._storage.create(self._path(later), self._identity(), durable=False)
        self._storage.delete(self._path(mark))
        return later
