"""Writers that are killed at any moment, that run side by side, and that meet failing calls."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cached import files_of, ids, numbers_of, opened
from writer import HERE, STORE_ERROR, Writers, job

ROWS = 60
NUMBERS = dict(zip(ids(range(400)), numbers_of(ids(range(400))), strict=True))
KILLED = -signal.SIGKILL

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="/proc is missing: no Linux"
)


@pytest.fixture(scope="module")
def writers():
    with Writers() as helper:
        yield helper


def content(root):
    """Files and bytes, without the claims."""
    return {n: data for n, data in files_of(root).items() if "/claims/" not in n}


def require_right_numbers(store, shuffled=0):
    """Everything that a reader finds is right; gives how many rows that are."""
    assert store.problems == []
    rows = store.rows
    random.Random(shuffled).shuffle(rows)
    if rows:
        np.testing.assert_array_equal(store.read(rows), [NUMBERS[row] for row in rows])
    return len(rows)


def require_no_leftovers(root):
    assert not [p for p in root.rglob("*") if p.name.startswith((".partial-", "tmp"))]


@pytest.fixture(scope="module")
def whole(writers, tmp_path_factory):
    """What an uninterrupted writer leaves, by the settings of its job."""
    made = {}

    def make(rows, **settings):
        key = repr((rows, sorted(settings.items())))
        if key not in made:
            root = tmp_path_factory.mktemp("whole")
            ((status, seconds, told),) = writers.run(job(root, rows, **settings))
            assert status == 0, told
            made[key] = content(root), seconds
        return made[key]

    return make


# --- killed ---


@pytest.mark.parametrize("kills", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_a_writer_killed_at_any_moment_is_resumed_to_the_very_same_store(
    kills, writers, whole, tmp_path
):
    settings = {"unit_rows": 3, "rejected": [7, 31, 32]}
    wanted, seconds = whole((0, ROWS), **settings)
    chance = random.Random(kills)
    killed, seen, number = 0, Counter(), 0
    while killed < kills:
        root = tmp_path / str(number)
        number += 1
        reader = None
        for again in range(4):
            after = chance.uniform(0, 2 * seconds / (1 + again)) if again < 3 else None
            writers.start(job(root, (0, ROWS), **settings))
            writers.send_go([after])
            while writers.busy:  # a reader that opens meanwhile, and one that looks again
                require_right_numbers(opened(root), killed)
                if reader is not None:
                    reader.refresh()
                    require_right_numbers(reader, killed)
                time.sleep(0.005)
            ((status, took, told),) = writers.answer()
            assert status in (0, KILLED), told
            assert took < 10, "the claims of the dead are not waited for"
            reader = reader or opened(root)
            seen[require_right_numbers(opened(root)) // 10] += status == KILLED
            killed += status == KILLED
            if status == 0:
                break
        assert content(root) == wanted
        require_no_leftovers(root)
        assert opened(root).count_damaged() == 0
        shutil.rmtree(root)
    assert len(+seen) >= (1 if kills < 100 else 5), f"kills came early and late: {seen}"


def test_the_claim_of_a_killed_writer_that_nobody_has_waited_for_is_taken_at_once(tmp_path):
    # Its parent sleeps, as the first process of a container may: the number is not free yet.
    root, log = tmp_path / "store", tmp_path / "log"
    task = job(root, (0, 30), unit_rows=3, log=str(log), compute_s=0.05)
    process = subprocess.Popen([sys.executable, str(HERE), "once", json.dumps(task)])
    while not log.exists() or "committed" not in log.read_text():
        time.sleep(0.01)
    process.kill()
    began = time.monotonic()
    try:
        with Writers() as writers:
            ((status, _, told),) = writers.run(job(root, (0, 30), unit_rows=3), limit=20)
        assert status == 0, told
        assert time.monotonic() - began < 10
        assert require_right_numbers(opened(root)) == 30
    finally:
        process.wait()


@pytest.mark.parametrize("runs", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_writer_of_another_machine_is_respected_for_a_lease_and_no_longer(
    runs, writers, whole, tmp_path
):
    wanted, _ = whole((0, 30), unit_rows=3)
    chance = random.Random(5)
    waited = 0.0
    for number in range(runs):
        root = tmp_path / str(number)
        elsewhere = job(root, (0, 30), unit_rows=3, machine="elsewhere", compute_s=0.01)
        writers.run(elsewhere, kills=[chance.uniform(0.02, 0.12)])
        ((status, took, told),) = writers.run(job(root, (0, 30), unit_rows=3, lease_s=0.4))
        assert status == 0, told
        assert took < 8
        waited = max(waited, took)
        assert content(root) == wanted
    assert waited > 0.4


@pytest.mark.parametrize("runs", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_writer_that_slept_longer_than_its_lease_mixes_nothing_when_it_wakes(
    runs, writers, whole, tmp_path
):
    wanted, _ = whole((0, 30), unit_rows=3)
    chance = random.Random(6)
    for number in range(runs):
        root = tmp_path / str(number)
        some = {"unit_rows": 3, "lease_s": 0.3, "compute_s": 0.06}
        jobs = [job(root, (0, 30), machine=f"m{i}", **some) for i in range(3)]
        sleeper, *_ = writers.start(*jobs)
        writers.send_go()
        time.sleep(chance.uniform(0.02, 0.15))
        os.kill(sleeper, signal.SIGSTOP)
        time.sleep(1.2)
        os.kill(sleeper, signal.SIGCONT)
        for status, _, told in writers.answer():
            assert status == 0, told
        assert content(root) == wanted
        assert require_right_numbers(opened(root)) == 30


# --- side by side ---


def committed(log, word="committed"):
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.removeprefix(word + " ") for line in lines if line.startswith(word)]


def run_together(writers, root, row_lists, kill, chance, **settings):
    """Let writers start at one moment, one of them killed; gives the logs of all, by survival."""
    logs = [root.with_name(f"{root.name}.{i}.log") for i in range(len(row_lists))]
    jobs = [
        job(root, rows, unit_rows=3, log=str(log), compute_s=0.002, **settings)
        for rows, log in zip(row_lists, logs, strict=True)
    ]
    kills = [None] * len(jobs)
    if kill is not None:
        kills[kill] = chance.uniform(0, 0.25)
    writers.start(*jobs)
    writers.send_go(kills)
    while writers.busy:
        require_right_numbers(opened(root))
        time.sleep(0.02)
    alive, dead = [], []
    for number, (status, took, told) in enumerate(writers.answer()):
        assert status == 0 or (number == kill and status == KILLED), told
        assert took < 20
        (alive if status == 0 else dead).append(logs[number])
    return alive, dead


def require_each_once(root, alive, dead, wanted):
    store = opened(root)
    assert require_right_numbers(store) == len(store) == wanted
    # No row stands twice, no unit was computed twice but the one that the dead had begun.
    assert sum(len(segment.ids) for segment in store.segments) == wanted
    assert all(store.shelf.open_units(number) == [] for number in store.shelf.live)
    assert all(store.shelf.promises(number).sealed for number in store.shelf.live)
    units = {f"{s.name} {u}" for s in store.segments for u in range(s.units)}
    by_living = Counter(unit for log in alive for unit in committed(log, "computed"))
    assert not [unit for unit, times in by_living.items() if times > 1]
    begun = Counter(unit for log in dead for unit in committed(log, "computed"))
    done = {unit for log in dead for unit in committed(log)}
    assert set(by_living) | set(begun) >= units
    assert not done & set(by_living)
    assert len(set(begun) & set(by_living)) <= len(dead)
    require_no_leftovers(root)


@pytest.mark.parametrize("processes", [2, 4, 8])
@pytest.mark.parametrize("runs", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_writers_that_start_at_one_moment_share_the_rows_though_one_is_killed(
    processes, runs, writers, whole, tmp_path
):
    wanted, _ = whole((0, ROWS), unit_rows=3)
    chance = random.Random(processes)
    killed = 0
    for number in range(runs):
        root = tmp_path / str(number)
        lists = [(0, ROWS)] * processes
        alive, dead = run_together(writers, root, lists, chance.randrange(processes), chance)
        require_each_once(root, alive, dead, ROWS)
        assert content(root) == wanted
        killed += len(dead)
        shutil.rmtree(root)
    assert killed > 0 or runs < 10


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("runs", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_no_row_is_lost_or_doubled_where_writers_want_overlapping_rows(
    processes, runs, writers, tmp_path
):
    # Whole units overlap here; a unit of which a writer wants a part is another test's matter.
    chance = random.Random(processes)
    for number in range(runs):
        root = tmp_path / str(number)
        lists = [(12 * i, 12 * i + 24) for i in range(processes)]
        chance.shuffle(lists)
        alive, _ = run_together(writers, root, lists, None, chance)
        require_each_once(root, alive, [], 12 * (processes + 1))


@pytest.mark.parametrize("runs", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_writers_of_any_row_lists_leave_every_row_readable_though_one_is_killed(
    runs, writers, tmp_path
):
    chance = random.Random(9)
    for number in range(runs):
        root = tmp_path / str(number)
        lists = [chance.sample(range(60), chance.randint(5, 50)) for _ in range(4)]
        kill = chance.randrange(4)
        _, dead = run_together(writers, root, lists, kill, chance)
        wanted = {n for i, rows in enumerate(lists) if i != kill or not dead for n in rows}
        store = opened(root)
        assert store.has(ids(sorted(wanted))).all()
        require_right_numbers(store)
        # Each wanted row can be made by its own list alone, whoever else died.
        ((status, _, told),) = writers.run(job(root, lists[kill], unit_rows=3))
        assert status == 0, told
        assert require_right_numbers(opened(root)) >= len({n for rows in lists for n in rows})


@pytest.mark.parametrize("processes", [2, 8])
@pytest.mark.parametrize("runs", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_no_row_is_lost_where_processes_extract_disjoint_shards(processes, runs, writers, tmp_path):
    chance = random.Random(processes)
    for number in range(runs):
        root = tmp_path / str(number)
        shards = [list(range(i, 72, processes)) for i in range(processes)]
        alive, _ = run_together(writers, root, shards, None, chance)
        require_each_once(root, alive, [], 72)


# --- failing calls ---

# The calls that can make a change, and those that look; `%file` and friends would be too many.
CALLS = (
    "openat,write,pwrite64,writev,fsync,fdatasync,link,linkat,rename,renameat,renameat2,"
    "unlink,unlinkat,mkdir,mkdirat,ftruncate,fallocate,getdents64,sendfile,copy_file_range"
)


@pytest.fixture(scope="module")
def strace(tmp_path_factory):
    if shutil.which("strace") is None:
        pytest.skip("strace is missing")
    probe = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("strace may not trace here")
    return tmp_path_factory.mktemp("strace") / "log"


def traced(writers, strace, what, *inject):
    """Run one writer under strace; how it ended and the calls it made."""
    (pid,) = writers.start(what)
    command = ["strace", "-f", "-y", "-s", "8", "-o", str(strace), "-e", f"trace={CALLS}"]
    for one in inject:
        command += ["-e", f"inject={one}"]
    with subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE, text=True) as tracer:
        said = tracer.stderr.readline()
        assert "attached" in said, said
        ((status, _, told),) = writers.go(limit=60)
    lines = strace.read_text().splitlines()
    return (
        status,
        told,
        [line.partition(" ")[2].strip() for line in lines if line.startswith(str(pid))],
    )


def calls_on(lines, root):
    """(call, its number among the calls of its name, line) of those that touch the store."""
    counts, found = Counter(), []
    for line in lines:
        if (match := re.match(r"(\w+)\(", line)) is not None:
            counts[match[1]] += 1
            if str(root) in line:
                found.append((match[1], counts[match[1]], line))
    return found


def stages(root):
    """The work that is disturbed: a first plan with one unit, and a unit of a store in use."""
    return {
        "plan": (None, job(root, (0, 3), unit_rows=3)),
        "unit": (job(root, (0, 6), unit_rows=3), job(root, (0, 9), unit_rows=3)),
    }


def disturb(writers, strace, tmp_path, stage, faults, pick):
    """Every chosen call fails in its turn; afterwards the store must come out the same."""
    clean = tmp_path / "clean"
    before, work = stages(clean)[stage]
    if before:
        assert writers.run(before)[0][0] == 0
    status, told, lines = traced(writers, strace, work)
    assert status == 0, told
    wanted = content(clean)
    chosen = [(c, n, fault) for c, n, line in calls_on(lines, clean) for fault in faults(c, line)]
    assert {"openat", "write", "fsync", "linkat", "mkdir"} <= {c for c, _, _ in chosen} | {"mkdir"}
    ends = Counter()
    for number, (call, nth, fault) in enumerate(pick(chosen)):
        # The same length, so that nothing else differs.
        root = tmp_path / f"{number:05d}"
        before, work = stages(root)[stage]
        if before:
            shutil.copytree(snapshot(writers, tmp_path, stage), root)
        status, told, lines = traced(writers, strace, work, f"{call}:{fault}:when={nth}")
        where = f"{call} {nth} {fault}: {told}"
        ends[status] += 1
        assert status in ((KILLED,) if "signal" in fault else (0, STORE_ERROR)), where
        if status == STORE_ERROR:
            assert told.startswith("StorageError: the feature store cannot be "), where
            assert "\n" not in told
            assert "Remedy:" in told
        elif status == 0:
            # Only what a claim's housekeeping meets may be passed over in silence.
            assert content(root) == wanted, where
        require_right_numbers(opened(root))
        ((status, took, told),) = writers.run(work)
        assert status == 0, f"{where}, then {told}"
        assert took < 10, where
        assert content(root) == wanted, where
        require_right_numbers(opened(root))
        require_no_leftovers(root)
        shutil.rmtree(root)
    return ends


def snapshot(writers, tmp_path, stage):
    """The store before the disturbed work."""
    root = tmp_path / "before"
    if not root.exists():
        before, _ = stages(root)[stage]
        assert writers.run(before)[0][0] == 0
    return root


def sample(most):
    def pick(chosen):
        return random.Random(1).sample(chosen, min(most, len(chosen)))

    return pick


AMOUNT = pytest.mark.parametrize(
    "pick",
    [pytest.param(sample(8), id="some"), pytest.param(list, id="all", marks=pytest.mark.slow)],
)


@pytest.mark.parametrize("stage", ["plan", "unit"])
@AMOUNT
def test_a_writer_killed_at_each_system_call_is_resumed_to_the_very_same_store(
    stage, pick, writers, strace, tmp_path
):
    ends = disturb(writers, strace, tmp_path, stage, lambda *_: ["signal=KILL"], pick)
    assert set(ends) == {KILLED}


@pytest.mark.parametrize("stage", ["plan", "unit"])
@AMOUNT
def test_a_system_call_that_fails_is_one_clear_error_and_nothing_is_lost(
    stage, pick, writers, strace, tmp_path
):
    def faults(call, line):
        if call in ("write", "fsync", "linkat", "mkdir") or "O_TMPFILE" in line:
            return ["error=ENOSPC", "error=EIO"]
        return ["error=EIO"]

    ends = disturb(writers, strace, tmp_path, stage, faults, pick)
    assert ends[STORE_ERROR] > 0.9 * ends.total()


def test_nothing_is_promised_before_it_would_survive_a_power_cut(writers, strace, tmp_path):
    root = tmp_path / "store"
    _, _, lines = traced(writers, strace, job(root, (0, 9), unit_rows=3))
    require_durable(lines, root)


def require_durable(lines, root):
    """Each file is synced before it is linked, and its folder before anything else is linked."""
    synced, linked, count = set(), None, 0
    for line in lines:
        if (match := re.match(r"fsync\(\d+<([^>]*)>", line)) is not None:
            synced.add(match[1])
            if linked is not None and match[1] == str(Path(linked).parent):
                linked = None
        elif (
            match := re.match(r'linkat\(\d+<([^>]*)>.*, "([^"]*)", AT_SYMLINK', line)
        ) is not None:
            if "/claims/" in match[2]:
                continue
            assert linked is None, f"{linked} is not yet safe"
            assert match[1] in synced
            linked = match[2]
            count += 1
        elif (match := re.match(r'mkdir\("([^"]*)"', line)) is not None:
            synced.discard(str(Path(match[1]).parent))
    assert linked is None
    assert count >= 10


def test_a_resumed_writer_makes_safe_what_the_killed_one_had_only_linked(writers, strace, tmp_path):
    clean = tmp_path / "clean"
    _, _, lines = traced(writers, strace, job(clean, (0, 3), unit_rows=3))
    calls = calls_on(lines, clean)
    link = next(i for i, c in enumerate(calls) if c[0] == "linkat" and "/features/c.0.0" in c[2])
    nth = next(n for call, n, _ in calls[link:] if call == "fsync")
    root = tmp_path / "other"
    status, _, _ = traced(
        writers, strace, job(root, (0, 3), unit_rows=3), f"fsync:signal=KILL:when={nth}"
    )
    assert status == KILLED
    assert list(root.rglob("c.0.0"))
    assert not list(root.rglob("0.json"))
    status, told, lines = traced(writers, strace, job(root, (0, 3), unit_rows=3))
    assert status == 0, told
    texts = [line for _, _, line in calls_on(lines, root)]
    promised = next(i for i, t in enumerate(texts) if t.startswith("linkat") and "/ledger/" in t)
    assert any(t.startswith("fsync") and "/features>" in t for t in texts[:promised])
