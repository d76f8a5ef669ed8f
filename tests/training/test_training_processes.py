"""Several processes, started by the real `torchrun`, train what one process trains."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import several_processes
import torch
from finetuning import ROWS, TRAIN
from safetensors.torch import load_file
from several_processes import jointly

HERE = Path(__file__).parent


def start(folder, number, what="trains"):
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")},
        "PYTHONPATH": str(HERE),
        "OMP_NUM_THREADS": "1",
    }
    torchrun = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(number)),
    ]
    return subprocess.run(
        [*torchrun, str(HERE / "several_processes.py"), str(folder), what],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folders of one process and of two, and what the two said."""
    place = tmp_path_factory.mktemp("processes")
    (place / "1").mkdir()
    threads = torch.get_num_threads()
    with contextlib.redirect_stdout(io.StringIO()) as alone:
        several_processes.main(place / "1", "trains")
    torch.set_num_threads(threads)
    both = start(place / "2", 2)
    assert both.returncode == 0, both.stderr
    return place / "1", place / "2", alone.getvalue(), both.stdout


@pytest.mark.parametrize("name", ["plain", "still", "volumes", "group/frontal", "group/lateral"])
def test_two_processes_end_with_the_weights_of_one(folders, name):
    one, two = (load_file(folder / name / "weights.safetensors") for folder in folders[:2])
    assert set(one) == set(two)
    for tensor in one:
        # Over the many inputs of volumes rounding goes further.
        rough = {"rtol": 1e-3, "atol": 1e-5} if name == "volumes" else {"rtol": 1e-4, "atol": 1e-6}
        torch.testing.assert_close(one[tensor], two[tensor], **rough)


def test_all_come_to_the_same_judgement_and_count_every_image_once(folders):
    alone, both = (
        [line.split() for line in said.splitlines() if line.split()[1] not in jointly.EVERY]
        for said in folders[2:]
    )
    by_name = {name: (float(loss), int(seen)) for _, name, loss, seen in alone}
    assert len(both) == 8
    for _, name, loss, seen in both:
        assert int(seen) == by_name[name][1]
        assert name in ("volumes", "group") or int(seen) == ROWS * 3
        assert float(loss) == pytest.approx(by_name[name][0], rel=1e-4)
    assert {loss for _, name, loss, _ in both if name == "still"} == {
        loss for rank, name, loss, _ in both if (rank, name) == ("0", "still")
    }


@pytest.mark.parametrize("name", jointly.EVERY)
def test_two_processes_end_with_the_joint_network_of_one(folders, name):
    places = [folder / "joint" / name for folder in folders[:2]]
    for file in ("frontal/weights", "lateral/weights", "joint/head/weights"):
        one, two = (load_file(place / f"{file}.safetensors") for place in places)
        assert set(one) == set(two)
        for tensor in one:
            torch.testing.assert_close(one[tensor], two[tensor], rtol=1e-4, atol=1e-6, msg=tensor)
    lines = [line.split() for said in folders[2:] for line in said.splitlines()]
    # Every image is counted once.
    assert len({seen for _, who, _, seen in lines if who == name}) == 1
    assert sum(who == name for _, who, _, _ in lines) == 3


def test_each_process_reads_its_own_share(folders):
    rows = [np.loadtxt(folders[1] / f"still-{rank}.rows", dtype=int) for rank in (0, 1)]
    # Head's features, two epochs, two judgements: all rows three times between them; a step with
    # fewer rows than processes would be read by both.
    assert sum(len(part) for part in rows) == 3 * ROWS
    assert abs(len(rows[0]) - len(rows[1])) < ROWS // 3
    both = np.concatenate(rows)
    assert (np.bincount(both)[TRAIN] == 3).all()


@pytest.mark.slow
def test_one_that_fails_ends_all_with_one_line(tmp_path):
    done = start(tmp_path / "out", 2, "fails")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("mvp:")]
    assert lines == ["mvp: the disk of this process is gone"]
    assert 'Traceback (most recent call last):\n  File "' + str(HERE) not in done.stderr
    assert not (tmp_path / "out" / "plain" / "weights.safetensors").exists()
