"""Claims: one owner at a time, the dead lose theirs at once, the silent after a lease."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from cached import files_of

from mvp.features import claims as room
from mvp.features.claims import Claims
from mvp.features.local import LocalStorage

MADE = []


@pytest.fixture(autouse=True)
def nobody_goes_on_afterwards():
    yield
    while MADE:
        MADE.pop().release_all()


def claims_of(folder, lease_s=60.0):
    MADE.append(Claims(LocalStorage(folder), "claims", lease_s))
    return MADE[-1]


def names(folder):
    return LocalStorage(folder).names("claims")


def put(folder, name, **owner):
    """A claim as somebody else has left it."""
    (folder / "claims").mkdir(exist_ok=True)
    whole = {"machine": room.machine(), "pid": os.getpid(), "started": "1", "token": "x", **owner}
    (folder / "claims" / name).write_text(json.dumps(whole))


def elsewhere(folder, name):
    put(folder, name, machine="elsewhere")


def ours(folder, **more):
    return put(folder, "x-0-0", started=room._started(os.getpid()), **more)


@contextmanager
def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    yield process.pid


def test_a_claim_is_held_until_it_is_released(tmp_path):
    mine, yours = claims_of(tmp_path), claims_of(tmp_path)
    assert mine.take("x")
    assert not mine.take("x")
    assert not yours.take("x")
    assert yours.take("y")
    assert mine.held == {"x"}
    assert mine.others() == {"y"}
    assert mine.owns("x")
    assert not yours.owns("x")
    mine.release("x")
    assert not mine.owns("x")
    assert yours.take("x")
    yours.release_all()
    assert yours.held == set()
    assert names(tmp_path) == []


def test_releasing_what_is_not_held_harms_nobody(tmp_path):
    mine, yours = claims_of(tmp_path), claims_of(tmp_path)
    mine.take("x")
    yours.release("x")
    yours.release_all()
    assert mine.owns("x")


def test_of_many_threads_one_gets_each_claim(tmp_path):
    every = [claims_of(tmp_path) for _ in range(4)]
    wanted = [(claims, f"s.{unit}") for unit in range(20) for claims in every * 2]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda pair: pair[0].take(pair[1]) and pair[1], wanted))
    assert sorted(name for name in won if name) == sorted({name for _, name in wanted})
    assert sum(len(claims.held) for claims in every) == 20
    for claims in every:
        assert all(claims.owns(name) for name in claims.held)
        claims.release_all()
    assert names(tmp_path) == []


TAKES = """
import sys
from mvp.features.claims import Claims
from mvp.features.local import LocalStorage
from pathlib import Path
import os
claims = Claims(LocalStorage(Path(sys.argv[1])), "claims")
assert claims.take("x")
os._exit(0)
"""


def test_the_claim_of_a_dead_process_is_taken_over_at_once(tmp_path):
    subprocess.run([sys.executable, "-c", TAKES, str(tmp_path)], check=True)
    assert names(tmp_path) == ["x-0-0"]
    mine = claims_of(tmp_path)
    assert mine.others() == {"x"}
    assert mine.take("x")
    assert names(tmp_path) == ["x-1-0"]
    assert mine.owns("x")
    assert not claims_of(tmp_path).take("x")
    mine.release("x")
    assert names(tmp_path) == []


def test_of_many_that_take_over_one_does(tmp_path):
    with dead_pid() as pid:
        for unit in range(10):
            put(tmp_path, f"{unit}-0-0", pid=pid)
    every = [claims_of(tmp_path) for _ in range(8)]

    def take_all(claims):
        return [unit for unit in range(10) if claims.take(str(unit))]

    with ThreadPoolExecutor(8) as pool:
        won = [unit for some in pool.map(take_all, every) for unit in some]
    assert sorted(won) == list(range(10))


def test_the_claim_of_a_living_process_is_respected(tmp_path):
    ours(tmp_path)
    assert not claims_of(tmp_path).take("x")


def test_a_process_number_that_was_given_out_again_is_another_process(tmp_path):
    put(tmp_path, "x-0-0", started="1")
    assert claims_of(tmp_path).take("x")


def test_a_claim_of_another_machine_is_respected_until_it_has_stood_still(tmp_path):
    with dead_pid() as pid:
        put(tmp_path, "x-0-0", machine="elsewhere", pid=pid)
    mine = claims_of(tmp_path, lease_s=0.6)
    start = time.monotonic()
    assert not mine.take("x")
    time.sleep(0.3)
    assert not mine.take("x")
    while not mine.take("x"):
        time.sleep(0.02)
    assert 0.6 <= time.monotonic() - start < 2
    assert names(tmp_path) == ["x-1-0"] or names(tmp_path)[0].startswith("x-1-")


def test_a_claim_that_moves_is_respected_for_longer_than_a_lease(tmp_path):
    elsewhere(tmp_path, "x-0-0")
    mine = claims_of(tmp_path, lease_s=0.4)
    for beat in range(1, 12):
        assert not mine.take("x")
        time.sleep(0.1)
        elsewhere(tmp_path, f"x-0-{beat}")
        (tmp_path / "claims" / f"x-0-{beat - 1}").unlink()
    assert not mine.take("x")


def test_a_held_claim_moves_by_itself(tmp_path, monkeypatch):
    mine = claims_of(tmp_path, lease_s=0.4)
    assert mine.take("x")
    monkeypatch.setattr(room, "_is_dead", lambda owner: False)  # as from another machine
    watcher = claims_of(tmp_path, lease_s=1.5)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        assert not watcher.take("x")
        assert mine.owns("x")
        time.sleep(0.02)
    (name,) = names(tmp_path)
    assert name.startswith("x-0-")
    assert int(name.rpartition("-")[2]) >= 5
    mine.release_all()
    assert watcher.take("x")
    watcher.release_all()


def test_nothing_moves_any_more_when_nothing_is_held(tmp_path):
    mine = claims_of(tmp_path, lease_s=0.2)
    mine.take("x")
    thread = mine._beating
    mine.release("x")
    thread.join(2)
    assert not thread.is_alive()
    assert mine.take("x")
    time.sleep(0.2)
    assert names(tmp_path) != ["x-0-0"]
    mine.release_all()


def test_who_slept_too_long_has_lost_his_claim_and_takes_nothing_with_him(tmp_path, monkeypatch):
    monkeypatch.setattr(Claims, "_beat_on", lambda self: None)  # asleep
    monkeypatch.setattr(room, "_is_dead", lambda owner: False)
    sleeper, other = claims_of(tmp_path), claims_of(tmp_path, lease_s=0.1)
    assert sleeper.take("x")
    assert not other.take("x")
    time.sleep(0.15)
    assert other.take("x")
    assert other.owns("x")
    assert not sleeper.owns("x")
    with sleeper._lock:  # it wakes, and moves what it thinks is its own
        sleeper._held["x"] = sleeper._moved(sleeper._held["x"])
    assert not sleeper.owns("x")
    assert other.owns("x")
    sleeper.release("x")
    assert other.owns("x")
    other.release("x")
    assert names(tmp_path) == []


def test_a_release_takes_what_older_owners_left_too(tmp_path, monkeypatch):
    monkeypatch.setattr(Claims, "_beat_on", lambda self: None)
    mine = claims_of(tmp_path)
    with dead_pid() as pid:
        put(tmp_path, "x-3-7", pid=pid)
        assert mine.take("x")
    elsewhere(tmp_path, "x-0-0")
    elsewhere(tmp_path, "x-3-8")
    assert mine.owns("x")
    mine.release("x")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"machine": 1}', "\0\xff", '"x"', "MINE"]
)
def test_a_claim_that_cannot_be_read_waits_for_the_lease(tmp_path, text):
    (tmp_path / "claims").mkdir()
    mine = json.dumps({"machine": room.machine(), "pid": "much"})
    (tmp_path / "claims" / "x-0-0").write_text(mine if text == "MINE" else text)
    claims = claims_of(tmp_path, lease_s=0.2)
    assert not claims.take("x")
    assert not claims.take("x")
    time.sleep(0.25)
    assert claims.take("x")
    claims.release("x")
    assert names(tmp_path) == []


def test_names_that_are_no_claims_are_left_alone(tmp_path):
    (tmp_path / "claims").mkdir()
    for name in ("README", "x", "x-", "x-1", "x-a-b", "x-0-", "x--1-0"):
        (tmp_path / "claims" / name).write_text("{}")
    before = files_of(tmp_path)
    claims = claims_of(tmp_path)
    assert claims.take("x")
    assert claims.others() == set()
    claims.release("x")
    assert files_of(tmp_path) == before


def test_waiting_lets_one_in_at_a_time(tmp_path):
    inside, most, done = [], [], []

    def work(number):
        claims = claims_of(tmp_path)
        with claims.waiting("plan"):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(number)
        done.append(number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(12)))
    assert sorted(done) == list(range(12))
    assert max(most) == 1
    assert names(tmp_path) == []


def test_waiting_lets_go_when_its_work_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), claims_of(tmp_path).waiting("plan"):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_two_threads_of_one_process_wait_for_each_other(tmp_path):
    claims, order = claims_of(tmp_path), []

    def second():
        with claims.waiting("plan"):
            order.append("second")

    with claims.waiting("plan"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
