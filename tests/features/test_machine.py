"""Any order of writing, killing, losing, merging and collecting, held against a dict.

A kill is an exception that no program catches, out of the k-th operation on the storage, which is
done or not; nothing that its process does afterwards arrives. Processes that are not killed go on
with what they have seen.
"""

import itertools
import json
import time
from contextlib import suppress

import numpy as np
import pytest
from cached import KEY, WIDTH, ids, numbers_of
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mvp.errors import StoreDamagedError
from mvp.features import FeatureStore, Writer, claims
from mvp.features.collect import collect, garbage
from mvp.features.compact import compact
from mvp.features.verify import verify

ROWS = ids(range(14))
TRUTH = dict(zip(ROWS, numbers_of(ROWS), strict=True))
GOLDEN = np.array([[1.0, -2.0]], np.float32)
LEASE_S = 0.01
NUMBERS = itertools.count()

some_rows = st.lists(st.sampled_from(ROWS), min_size=1, max_size=9, unique=True)
some_rejects = st.just([]) | st.lists(st.sampled_from(ROWS), max_size=3)
slots = st.integers(0, 1)
unit_sizes = st.integers(1, 4)
kills = st.none() | st.none() | st.tuples(st.integers(0, 40), st.booleans())


def tidied(root):
    used = {(KEY.view, KEY.digest)}
    collect(root, garbage(root, used), lambda: used)


class KilledError(BaseException):
    """The process is gone."""


class Mortal:
    """A storage that its process may die in."""

    def __init__(self, inner):
        self.inner, self.left, self.done, self.dead = inner, None, False, False
        self.tokens = set()  # of the claims that were made here

    def __getattr__(self, name):
        operation = getattr(self.inner, name)
        if not callable(operation) or name in ("local", "room"):
            return operation
        return lambda *args, **more: self._one(operation, *args, **more)

    def _one(self, operation, *args, **more):
        if self.dead:
            raise KilledError
        if operation.__name__ == "create" and "/claims/" in args[0] and "probe" not in args[0]:
            self.tokens.add(json.loads(args[1])["token"])
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.dead = True
                if self.done:
                    operation(*args, **more)
                raise KilledError
        return operation(*args, **more)

    def delete_tree(self, folder):
        for name in self.inner.walk(folder):
            self.delete(name)
        self._one(self.inner.delete_tree, folder)


class Process:
    """A feature store, and the key's features as this process sees them."""

    def __init__(self, root):
        self.root = FeatureStore(root, lease_s=LEASE_S)
        self.root.storage = self.storage = Mortal(self.root.storage)
        self.store = self.root.open(KEY, mend=True)
        self.task = self.writer = None


class StoreMachine(RuleBasedStateMachine):
    """Two processes at a time on one key."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.dead = set()
        self.patch.setattr(claims, "_is_dead", lambda owner: owner["token"] in self.dead)
        self.patch.setattr(claims.Claims, "_beat_on", lambda claims: None)
        self.processes = [None, None]
        self.asked, self.durable, self.damaged = set(), set(), False

    def make_root(self):
        raise NotImplementedError

    def overwrite(self, name, data):
        raise NotImplementedError

    def teardown(self):
        self.patch.undo()

    @initialize()
    def begin(self):
        self.root = self.make_root()
        self.storage = FeatureStore(self.root).storage
        self.agree(self.process(0).store)

    # Processes.

    def process(self, slot):
        if self.processes[slot] is None:
            self.processes[slot] = Process(self.root)
        return self.processes[slot]

    def run(self, slot, kill, action):
        """Do something in a process that may be killed while it does; None if it did not end."""
        process = self.process(slot)
        process.storage.left, process.storage.done = kill or (None, False)
        try:
            return action(process)
        except KilledError:
            self.ended(slot)
        except StoreDamagedError:
            assert self.damaged
        finally:
            process.storage.left = None
        return None

    def ended(self, slot):
        """The process is no more, whatever it held."""
        if self.processes[slot] is not None:
            self.dead |= self.processes[slot].storage.tokens
        self.processes[slot] = None

    @staticmethod
    def agree(store):
        store.agree_with_golden({"torch": "1"}, lambda: GOLDEN, 1e-4)

    def commit(self, writer, task, rejected):
        values = numbers_of(task.rows)
        wrong = {i: "broken" for i, row in enumerate(task.rows) if row in rejected}
        values[list(wrong)] = np.nan
        self.asked.update(task.rows)
        if writer.commit(task, values, wrong):
            self.durable.update(row for row in task.rows if row not in rejected)
            return 1
        return 0

    def extract(self, process, rows, unit_rows, rejected=(), stop=None, wait=False):
        """One pass over what is open; `wait`: until nothing is."""
        count = 0
        with Writer(process.store) as writer:
            tasks = writer.plan(rows, WIDTH, unit_rows, {}, available=set(ROWS))[:stop]
            while tasks:
                for task in writer.claimed(tasks):
                    count += self.commit(writer, task, rejected)
                tasks = writer.still_open(tasks) if wait else []
                time.sleep(LEASE_S if tasks else 0)
        return count

    # What happens.

    @rule(slot=slots, rows=some_rows, unit_rows=unit_sizes, rejected=some_rejects, kill=kills)
    def writes(self, slot, rows, unit_rows, rejected, kill):
        self.run(slot, kill, lambda p: self.extract(p, rows, unit_rows, rejected))

    @rule(slot=slots, rows=some_rows, unit_rows=unit_sizes, stop=st.integers(0, 2))
    def writes_a_part(self, slot, rows, unit_rows, stop):
        self.run(slot, None, lambda p: self.extract(p, rows, unit_rows, stop=stop))

    @rule(slot=slots, rows=some_rows, unit_rows=unit_sizes, kill=kills)
    def starts_a_unit(self, slot, rows, unit_rows, kill):
        def action(process):
            process.writer = Writer(process.store)
            tasks = process.writer.plan(rows, WIDTH, unit_rows, {})
            process.task = next(process.writer.claimed(tasks), None)

        self.run(slot, kill, action)

    @precondition(lambda self: any(p is not None and p.task is not None for p in self.processes))
    @rule(slot=slots, rejected=some_rejects, kill=kills)
    def ends_its_unit(self, slot, rejected, kill):
        process = self.processes[slot]
        if process is None or process.task is None:
            return
        task, process.task = process.task, None
        # Another may have computed it meanwhile, and found the same images broken or not.
        entry = task.segment.ledger.entries()[0].get(task.unit)
        if entry is not None:
            rejected = [task.rows[i] for i in entry.rejected]
        self.run(slot, kill, lambda p: self.commit(p.writer, task, rejected))

    @rule(slot=slots, unit_rows=unit_sizes, every=st.booleans(), kill=kills)
    def merges(self, slot, unit_rows, every, kill):
        self.run(slot, kill, lambda p: compact(p.store, unit_rows, every=every))

    @rule(slot=slots, kill=kills)
    def collects(self, slot, kill):
        self.run(slot, kill, lambda p: tidied(p.root))

    @rule(slot=slots, deep=st.booleans(), kill=kills)
    def mends(self, slot, deep, kill):
        self.run(slot, kill, lambda p: p.store.discard_damaged(deep=deep))

    @rule(slot=slots)
    def looks_anew(self, slot):
        self.run(slot, None, lambda p: p.store.refresh())

    @rule(slot=slots)
    def opens_anew(self, slot):
        self.ended(slot)

    def names(self):
        """What may be hurt: who loses golden batch and surroundings both must begin anew."""
        return [name for name in self.storage.walk("") if "surroundings" not in name]

    @precondition(names)
    @rule(file=st.integers(0, 10**6))
    def loses_a_file(self, file):
        names = self.names()
        self.damaged = True
        self.storage.delete(names[file % len(names)])

    @precondition(names)
    @rule(file=st.integers(0, 10**6), place=st.integers(0, 10**6), bit=st.integers(0, 7))
    def flips_a_bit(self, file, place, bit):
        names = self.names()
        name = names[file % len(names)]
        data = bytearray(self.storage.read(name))
        data[place % len(data)] ^= 1 << bit
        self.damaged = True
        self.overwrite(name, bytes(data))

    @rule(slot=slots, unit_rows=unit_sizes, kill=kills)
    def resumes(self, slot, unit_rows, kill):
        """What was asked for is there in the end, once, and nothing else; and it stays so."""
        if kill:
            self.run(slot, kill, lambda p: self._resume(p, unit_rows))
            return
        self.ended(0)
        self.ended(1)
        process = self.process(slot)
        # A plan that is found again may show that more of its segment is damaged.
        for _ in range(3):
            self._resume(process, unit_rows)
            tidied(process.root)
            if not verify(process.store):
                break
        self.damaged, self.durable = False, set(self.asked)
        process = Process(self.root)
        assert set(process.store.rows) == self.asked
        assert len(process.store) == len(self.asked)
        assert process.store.rejected == {}
        findings = [finding.text for finding in verify(process.store)]
        assert findings == [], findings
        before = self.storage.walk("")
        assert self._resume(process, unit_rows) == 0
        assert self.storage.walk("") == before

    def _resume(self, process, unit_rows):
        process.root.open(KEY, mend=True)
        store = process.store
        self.agree(store)
        store.discard_damaged(deep=True)
        if store.claims.others():  # of the dead, but for those that cannot be read any more
            time.sleep(2 * LEASE_S)
            store.discard_damaged(deep=True)
        count = 0
        # Rows whose plan was lost may turn out to have been rejected: they are tried once more.
        for _ in range(3):
            wanted = [row for row in ROWS if row in self.asked and row not in store]
            if not wanted:
                break
            count += self.extract(process, wanted, unit_rows, wait=True)
            store.refresh()
        return count

    # What holds at any time.

    @invariant()
    def what_can_be_read_is_right(self):
        views = [p.store for p in self.processes if p is not None]
        try:
            fresh = FeatureStore(self.root, lease_s=LEASE_S).open(KEY)
        except StoreDamagedError:
            assert self.damaged
        else:
            views.append(fresh)
            if not self.damaged:
                assert fresh.problems == []
                assert self.durable <= set(fresh.rows)
                # What a kill leaves behind is no damage, but for work that was not finished.
                unfinished = {"its seal is missing", "segment.json is missing"}
                found = {finding.what for finding in verify(fresh)}
                assert found <= unfinished, found
        for store in views:
            assert set(store.rows) <= self.asked
            self.reads_right(store)

    def reads_right(self, store):
        rows = store.rows
        if self.damaged:
            for row in rows:
                with suppress(StoreDamagedError, KeyError):
                    np.testing.assert_array_equal(store.read([row])[0], TRUTH[row])
        else:
            wanted = np.array([TRUTH[row] for row in rows], np.float32).reshape(-1, WIDTH)
            got = store.read(rows)
            assert got.shape[0] == len(rows)
            np.testing.assert_array_equal(got.reshape(-1, WIDTH), wanted)


@pytest.fixture(autouse=True)
def folder(tmp_path):
    FolderMachine.parent = tmp_path


class FolderMachine(StoreMachine):
    parent = None

    def make_root(self):
        return self.parent / str(next(NUMBERS))

    def overwrite(self, name, data):
        # A new file: what was mapped before keeps its bytes, as a disk's rot is seen when read.
        other = self.root / "other"
        other.write_bytes(data)
        other.replace(self.root / name)


class MemoryMachine(StoreMachine):
    def make_root(self):
        return f"memory://machine{next(NUMBERS)}"

    def overwrite(self, name, data):
        self.storage.fs.pipe_file(f"{self.storage.root}/{name}", data)

    def teardown(self):
        super().teardown()
        if hasattr(self, "storage"):
            self.storage.fs.store.clear()


def sized(machine, examples, steps):
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        # To make fifty steps fewer takes longer than to read them.
        phases=[phase for phase in Phase if steps < 50 or phase is not Phase.shrink],
    )
    return case


class TestFolder(sized(type("Fast", (FolderMachine,), {}), 15, 20)):
    pass


class TestMemory(sized(type("FastMemory", (MemoryMachine,), {}), 15, 20)):
    pass


@pytest.mark.slow
class TestFolderLong(sized(type("Long", (FolderMachine,), {}), 300, 50)):
    pass


@pytest.mark.slow
class TestMemoryLong(sized(type("LongMemory", (MemoryMachine,), {}), 300, 50)):
    pass
