"""Several `mvp extract` at once on one workspace: two started anew, and more of them forked."""

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import mvp
from mvp.pipeline.sharding import parse_shard
from tests.pipeline.conftest import (
    FILMS_TOML,
    claims_of,
    features_of,
    files_below,
    finish_all,
    start,
    write_films,
)
from tests.pipeline.forked import Forked

IMAGES = 128
# At its first batch each process waits until as many as the file `meet` says are at theirs, so
# that all of them have work in hand; the golden batch has two images.
SLOW = """
import os, time
from pathlib import Path
from mvp.networks.small import small_cnn

HERE = Path(__file__).parent

def meet(module, inputs):
    if (HERE / "meet").exists() and len(inputs[0]) > 2:
        (HERE / f"here-{os.getpid()}").touch()
        end = time.time() + 60
        while len(list(HERE.glob("here-*"))) < int((HERE / "meet").read_text()):
            time.sleep(0.01)
            assert time.time() < end, "the others never came"

def net(num_classes=3):
    made = small_cnn(num_classes)
    made.register_forward_pre_hook(meet)
    return made
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A workspace without features, whose files have been looked at: read only."""
    ws = tmp_path_factory.mktemp("together") / "ws"
    toml = FILMS_TOML.replace('"small"', '"slow_films:net"').replace(
        "unit_rows = 16", "unit_rows = 8"
    )
    write_films(ws, IMAGES, toml)
    (ws / "slow_films.py").write_text(SLOW)
    mvp.check(ws, progress=False)
    return ws


@pytest.fixture(scope="module")
def alone(fresh, tmp_path_factory):
    """The same, extracted by one process."""
    ws = Path(shutil.copytree(fresh, tmp_path_factory.mktemp("alone") / "ws"))
    done = mvp.extract(ws, progress=False)
    assert done.forward_passes == done.views["frontal"].rows == IMAGES
    return ws


@pytest.fixture
def ws(fresh, tmp_path):
    return Path(shutil.copytree(fresh, tmp_path / "ws"))


def together(how, *commands):
    return finish_all([how(*arguments, "--json", "--quiet") for arguments in commands])


def stored(ws):
    """Numbers and promises of all units, by name."""
    found = files_below(ws / "cache" / "frontal")
    return {n: d for n, d in found.items() if "/features/" in n or "/ledger/" in n}


def require_like(ws, alone):
    assert not claims_of(ws)
    again = mvp.extract(ws, progress=False).views["frontal"]
    assert again.forward_passes == 0
    assert again.cached == again.rows == IMAGES
    np.testing.assert_array_equal(features_of(ws), features_of(alone))


# Forked ones share the work in the same way, and start at once.
@pytest.mark.parametrize(
    ("count", "how"), [pytest.param(2, start, marks=pytest.mark.slow), (3, Forked)]
)
def test_processes_share_the_work_and_none_is_done_twice(ws, alone, count, how):
    (ws / "meet").write_text(str(count))
    said = together(how, *[("extract", "-w", ws)] * count)
    passes = [one["forward_passes"] for one in said]
    assert sum(passes) == IMAGES, passes
    assert all(p >= 8 for p in passes), passes
    for one in said:
        view = one["views"]["frontal"]
        assert (view["rows"], view["rejected"]) == (IMAGES, 0)
        assert view["computed"] == one["forward_passes"]
        assert view["computed"] + view["cached"] == view["rows"]
    (ws / "meet").unlink()
    assert stored(ws) == stored(alone)
    require_like(ws, alone)


def test_one_that_is_killed_leaves_its_work_to_the_others(ws, alone):
    (ws / "meet").write_text("3")
    doomed, *others = [Forked("extract", "-w", ws, "--json", "--quiet") for _ in range(3)]
    end = time.time() + 120
    while not (ws / f"here-{doomed.pid}").exists():
        assert time.time() < end
        assert doomed.poll() is None, doomed.communicate()
        time.sleep(0.002)
    assert doomed.pid in {owner(claim) for claim in claims_of(ws)}
    doomed.send_signal(signal.SIGKILL)
    doomed.communicate()
    passes = 0
    for process in others:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert json.loads(out)["views"]["frontal"]["rows"] == IMAGES
        passes += json.loads(out)["forward_passes"]
    assert passes >= 8
    (ws / "meet").unlink()
    assert stored(ws) == stored(alone)
    require_like(ws, alone)


def owner(claim):
    try:
        return json.loads(claim.read_text())["pid"]
    except (OSError, ValueError):
        return None


def test_shards_are_disjoint_and_together_everything(ws, alone):
    (ws / "meet").write_text("3")
    said = together(Forked, *[("extract", "-w", ws, "--shard", f"{i}/3") for i in (1, 2, 3)])
    views = [one["views"]["frontal"] for one in said]
    assert sum(v["images"] for v in views) == sum(v["rows"] for v in views) == IMAGES
    assert all(v["forward_passes"] == v["images"] == v["rows"] > 0 for v in views)
    (ws / "meet").unlink()
    require_like(ws, alone)


def test_a_shard_again_costs_nothing_and_another_only_its_own(ws):
    first = mvp.extract(ws, shard="2/3", progress=False)
    images = first.views["frontal"].images
    assert 0 < first.forward_passes == images < IMAGES
    assert mvp.extract(ws, shard="2/3", progress=False).forward_passes == 0
    assert mvp.extract(ws, progress=False).forward_passes == IMAGES - images


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "3", "1/0", "a/b", "-1/3", "1/3/5", "", "1.5/3", "1 /3"]
)
def test_a_shard_that_is_none(refused, ws, text):
    code, line = refused("extract", "-w", ws, f"--shard={text}")
    assert code == 2
    assert "--shard 3/16" in line


def test_one_shard_of_one_is_everything():
    whole = parse_shard("1/1")
    assert whole == parse_shard(None)
    assert whole.has(None, "any")
