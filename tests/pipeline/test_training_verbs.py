"""`mvp lr-find`, and `mvp finetune` by several processes."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from mvp.files import digest_file
from tests.pipeline.conftest import edit, write_workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    ws = write_workspace(tmp_path_factory.mktemp("verbs") / "ws", studies=60)
    edit(ws, "epochs = 2\n", 'epochs = 1\noptimizer = "sgd"\n')
    return ws


@pytest.fixture
def ws(made, tmp_path):
    return shutil.copytree(made, tmp_path / "ws")


def files(ws):
    """Digests of everything but the runs and the memory of what the files are."""
    kept = (p for p in ws.rglob("*") if p.is_file() and "runs" not in p.relative_to(ws).parts)
    return {p.relative_to(ws): digest_file(p) for p in kept if "inventory" not in p.name}


def test_lr_find_suggests_a_setting_and_changes_nothing(command, ws):
    code, _, err = command("split", "-w", ws, "--quiet")
    assert code == 0, err
    before = files(ws)
    code, out, err = command("lr-find", "-w", ws, "--view", "frontal", "--steps", "24", "-q")
    assert code == 0, err
    assert "below [training]: learning_rate = " in out
    assert files(ws) == before
    (run,) = (ws / "runs").glob("*-lr-find")
    assert (run / "lr_find.png").read_bytes().startswith(b"\x89PNG")
    with (run / "lr_find.csv").open() as stream:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(stream)]
    assert rates == sorted(rates)
    code, out, err = command(
        "lr-find", "-w", ws, "--view", "frontal", "--phase", "head", "--json", "-q"
    )
    found = json.loads(out)
    assert found["setting"] == "training.head_learning_rate"
    assert 1e-7 <= found["suggestion"] <= 10


def test_lr_find_needs_a_network_that_is_trained(command, ws):
    edit(ws, 'protocol = "holdout"', 'protocol = "frozen"')
    code, _, err = command("lr-find", "-w", ws, "--view", "frontal")
    assert code == 2
    assert "no network of this view is trained" in err
    edit(ws, 'protocol = "frozen"', 'protocol = "holdout"')
    edit(ws, "[training]", '[training]\nfreeze = "all"\nhead_epochs = 2')
    code, _, err = command("lr-find", "-w", ws, "--view", "frontal")
    assert code == 2
    assert "learning_rate has no effect" in err
    assert "--phase head" in err
    code, _, err = command("lr-find", "-w", ws, "--view", "frontel")
    assert code == 2
    assert "no view 'frontel'" in err


def test_a_misspelt_setting_costs_no_trained_network(command, ws):
    code, _, err = command("finetune", "-w", ws, "-q")
    assert code == 0, err
    before, text = files(ws), (ws / "mvp.toml").read_text()
    for line, said in [
        ('[training]\nfreeze = "stages.9"', "no layer 'stages.9'"),
        ("[training]\nrates = {stagse = 0.1}", "no stage 'stagse'"),
        ('[training]\nprecision = "float16"', "cannot train on the device"),
        ('[network]\nweights = "DEFALT"', "no published weights called 'DEFALT'"),
        ('[network]\nshare = "stage"', "no layer 'stage'"),
    ]:
        table = line.partition("\n")[0]
        (ws / "mvp.toml").write_text(text.replace(table, line, 1))
        assert line in (ws / "mvp.toml").read_text()
        code, _, err = command("finetune", "-w", ws, "-q", "--view", "frontal")
        assert code == 2
        assert said in err
        (ws / "mvp.toml").write_text(text)
        assert files(ws) == before, line
    assert "fresh" in command("finetune", "-w", ws, "-q")[1]


def torchrun(ws, *arguments, number=2):
    started = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(number), "-m", "mvp", "finetune", "-w", str(ws), *arguments),
        ],
        env={**started, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_several_processes_train_the_networks_that_one_trains(command, ws, tmp_path):
    other = shutil.copytree(ws, tmp_path / "other")
    assert command("finetune", "-w", ws, "--quiet")[0] == 0
    done = torchrun(other, "--quiet")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    for view in ("frontal", "lateral"):
        one, two = (folder / "stage1" / view / "all" for folder in (ws, other))
        assert {p.name for p in one.iterdir()} == {p.name for p in two.iterdir()}
        first, second = (load_file(f / "weights.safetensors") for f in (one, two))
        for name in first:
            torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-4)
        made = [json.loads((f / "provenance.json").read_text()) for f in (one, two)]
        assert made[0]["inputs"] == made[1]["inputs"]
        assert made[0]["result"]["images_seen"] == made[1]["result"]["images_seen"]
    assert (ws / "split.csv").read_bytes() == (other / "split.csv").read_bytes()
    again = torchrun(other, "--quiet")
    assert again.returncode == 0
    assert [line.split(": ")[1] for line in again.stdout.splitlines()] == ["fresh", "fresh"]


@pytest.mark.slow
def test_an_error_of_all_processes_is_one_line(ws):
    edit(ws, "[training]\n", '[training]\nfreeze = "nowhere"\n')
    done = torchrun(ws, "--view", "frontal")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("mvp:")]
    assert len(lines) == 1
    assert "no layer 'nowhere'" in lines[0]
    assert not (ws / "stage1" / "frontal" / "all" / "weights.safetensors").exists()
    assert len(list((ws / "runs").glob("*-finetune"))) <= 1
