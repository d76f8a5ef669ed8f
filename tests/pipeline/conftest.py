"""A small made workspace, trained and extracted once, copied for every test that changes it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mvp
from mvp import cli
from mvp.data.splits import leaks
from mvp.data.splits.near import near_pairs
from mvp.pipeline.networks import open_stores
from mvp.pipeline.project import Project
from mvp.pipeline.tables import cached_table

STUDIES = 120
SMALL_TOML = """
protocol = "holdout"

[data]
table = "data/studies.csv"
root = "data"

[views.frontal]
aliases = ["PA"]

[views.lateral]
aliases = ["LL"]

[labels.enlarged_heart]
[labels.tube_side]
[labels.tube_depth]

[network]
name = "small"

[transform]
size = 32

[training]
epochs = 2
learning_rate = 3e-3

[extract]
unit_rows = 16
batch_size = 8

[head]
learner = "logistic"

[evaluate]
draws = 200
"""


def write_workspace(folder, toml=SMALL_TOML, studies=STUDIES):
    """Made data and an mvp.toml; nothing trained."""
    mvp.demo(folder, data_only=True, studies=studies, progress=False)
    (folder / "mvp.toml").write_text(toml)
    return folder


def edit(ws, old, new):
    """Change a setting of a workspace."""
    path = ws / "mvp.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def rows_of(ws):
    """The rows of a workspace's table."""
    with (ws / "data" / "studies.csv").open() as stream:
        return list(csv.DictReader(stream))


def write_rows(ws, rows):
    """Write the table of a workspace anew."""
    with (ws / "data" / "studies.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


FILMS_TOML = """
protocol = "frozen"

[data]
table = "studies.csv"
root = "data"

[views.frontal]
aliases = ["PA"]

[labels.finding]

[network]
name = "small"

[transform]
size = 32

[extract]
unit_rows = 16
batch_size = 8

[head]
learner = "logistic"

[evaluate]
draws = 100
"""


def write_films(folder, count, toml=FILMS_TOML, side=32):
    """A workspace with one small film a study and patient, frozen; gives the files by study."""
    (folder / "data").mkdir(parents=True)
    (folder / "mvp.toml").write_text(toml)
    rng = np.random.default_rng(count)
    rows, files = [], {}
    for i in range(count):
        study = f"s{i:04}"
        files[study] = folder / "data" / f"{study}.png"
        pixels = rng.integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(files[study], compress_level=1)
        rows.append([study, f"p{i}", "PA", files[study].name, i % 2])
    write_studies(folder, rows)
    return files


def write_studies(folder, rows):
    """The table of such a workspace: study, patient, view, path, finding."""
    with (folder / "studies.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["study", "patient", "view", "path", "finding"])
        writer.writerows(rows)


def features_of(ws, view="frontal"):
    """(study, feature) the table that learners read of one view."""
    project = Project(ws, progress=False)
    return cached_table(project, open_stores(project, [view])).block(view)


def rejects_of(ws, verb="extract"):
    """Path to reason, from the last reject table of a verb."""
    table = sorted(ws.glob(f"runs/*-{verb}/rejected.csv"))[-1]
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["path"] for row in rows}) == len(rows)
    return {row["path"]: row["reason"] for row in rows}


def claims_of(ws):
    """Claims that stand in a workspace's store; a finished run leaves none."""
    return [p for p in (ws / "cache").glob("*/*/claims/*") if not p.name.startswith(".partial-")]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A workspace with trained networks and cached features: read only."""
    folder = write_workspace(tmp_path_factory.mktemp("trained") / "ws")
    mvp.finetune(folder, progress=False)
    mvp.extract(folder, progress=False)
    return folder


@pytest.fixture
def workspace(trained, tmp_path):
    """A copy of the trained workspace."""
    return Path(shutil.copytree(trained, tmp_path / "ws"))


@pytest.fixture(scope="session", autouse=True)
def near_pairs_once():
    """The search for films saved twice, of the same looks once: many tests share their films.

    It takes seconds among made films, and gives the same for the same (test_near.py).
    """
    known = {}

    def search(looks):
        asked = tuple(looks.items())
        if asked not in known:
            known[asked] = near_pairs(looks)
        return known[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaks, "near_pairs", search)
        yield


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line in this process: gives exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mvp", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capsys.readouterr()
        return int(stop.value.code or 0), out.out, out.err

    return run


@pytest.fixture
def done(command):
    """Run a command in this process, as `finish`: gives its stdout."""

    def run(*arguments, code=0):
        ended, out, err = command(*arguments)
        assert "Traceback" not in err, err
        assert ended == code, err
        return out

    return run


@pytest.fixture
def done_json(done):
    """As `finish_json`, in this process."""

    def run(*arguments, code=0):
        return json.loads(done(*arguments, "--json", "--quiet", code=code))

    return run


@pytest.fixture
def refused(command):
    """Run a command that must fail: gives the exit code and the one line of its error."""

    def run(*arguments):
        code, out, err = command(*arguments, "--quiet")
        assert "Traceback" not in err
        assert not out
        lines = [line for line in err.splitlines() if line.startswith("mvp: ")]
        assert len(lines) == 1, err
        return code, lines[0]

    return run


def start(*arguments, cwd=None):
    """The real command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "mvp", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def finish(*arguments, code=0, cwd=None):
    """Run the real command line to its end: gives stdout."""
    process = start(*arguments, cwd=cwd)
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err, err
    assert process.returncode == code, err
    return out


def finish_all(processes, code=0):
    """Wait for several commands, each with --json: gives what each printed."""
    said = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert "Traceback" not in err, err
        assert process.returncode == code, err
        said.append(json.loads(out))
    return said


def finish_json(*arguments, code=0, cwd=None):
    """The one JSON object that a command prints."""
    return json.loads(finish(*arguments, "--json", "--quiet", code=code, cwd=cwd))


def kill_when(condition, *arguments):
    """Start a command, kill it with SIGKILL as soon as the condition holds."""
    process = start(*arguments)
    deadline = time.time() + 240
    try:
        while not condition():
            assert process.poll() is None, process.communicate()
            assert time.time() < deadline, "the condition never held"
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return process.returncode


def files_below(folder):
    """Relative path to content of every file, without temporary ones."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file() and not p.name.startswith(".partial-")
    }
