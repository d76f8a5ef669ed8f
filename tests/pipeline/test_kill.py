"""Killed in the middle and started again: it goes on, and ends as if nothing had happened."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from mvp.features.local import LocalStorage
from mvp.features.segment import Segment
from tests.pipeline.conftest import (
    files_below,
    kill_when,
    write_workspace,
)


def stored(ws, view):
    """What lies in the store of a finished run: nothing is claimed any more."""
    found = files_below(ws / "cache" / view)
    assert not [name for name in found if "claims" in Path(name).parts]
    return found


def rows_committed(ws, view):
    """Rows of the units that stand in the ledgers of a view."""
    count = 0
    for entry in (ws / "cache" / view).glob("*/segments/*/ledger/*.json"):
        segment = Segment(LocalStorage(entry.parents[1].parent), entry.parents[1].name)
        count += len(segment.unit_rows(int(entry.stem)))
    return count


def test_extract_killed_and_resumed_is_bit_for_bit_the_same(trained, done, done_json, tmp_path):
    whole = Path(shutil.copytree(trained, tmp_path / "whole"))
    broken = Path(shutil.copytree(trained, tmp_path / "broken"))
    for ws in (whole, broken):
        for view in ("frontal", "lateral"):
            shutil.rmtree(ws / "cache" / view)
    done("extract", "-w", whole, "--quiet")

    def committed():
        return list((broken / "cache").glob("*/*/segments/*/ledger/*.json"))

    kill_when(lambda: len(committed()) >= 2, "extract", "-w", broken, "--quiet")
    left = committed()
    units = len(list((whole / "cache").glob("*/*/segments/*/ledger/*.json")))
    assert 2 <= len(left) < units, "killed too late to show anything"
    kept = {view: rows_committed(broken, view) for view in ("frontal", "lateral")}
    resumed = done_json("extract", "-w", broken)
    again = done_json("extract", "-w", broken)
    for view in ("frontal", "lateral"):
        a, b = stored(whole, view), stored(broken, view)
        assert list(a) == list(b)
        assert a == b
        assert resumed["views"][view]["rows"] == again["views"][view]["cached"]
        assert resumed["views"][view]["cached"] == kept[view]
    assert sum(kept.values()) >= 2 * 8
    assert again["forward_passes"] == 0


def test_finetune_killed_and_resumed_gives_the_same_weights(done, tmp_path):
    whole = write_workspace(tmp_path / "whole", studies=80)
    text = (whole / "mvp.toml").read_text()
    (whole / "mvp.toml").write_text(text.replace("epochs = 2", "epochs = 6"))
    broken = Path(shutil.copytree(whole, tmp_path / "broken"))
    done("finetune", "-w", whole, "--view", "lateral", "--quiet")
    folder = broken / "stage1" / "lateral" / "all"
    kill_when(
        (folder / "checkpoint.safetensors").exists,
        *("finetune", "-w", broken, "--view", "lateral", "--quiet"),
    )
    assert not (folder / "weights.safetensors").exists()
    said = done("finetune", "-w", broken, "--view", "lateral", "--quiet")
    assert "lateral: 6 epochs" in said
    made = json.loads((folder / "provenance.json").read_text())
    assert 1 <= made["result"]["resumed_from"] < 6
    weights = folder.relative_to(broken) / "weights.safetensors"
    assert (broken / weights).read_bytes() == (whole / weights).read_bytes()


@pytest.mark.parametrize("hurt", ["flip", "cut", "remove"])
def test_a_damaged_unit_is_found_and_alone_recomputed(workspace, command, hurt):
    before = stored(workspace, "frontal")
    (chunk,) = (workspace / "cache" / "frontal").glob("*/segments/*/features/c.1.0")
    segment = Segment(LocalStorage(chunk.parents[2]), chunk.parents[1].name)
    rows = len(segment.unit_rows(1))
    assert 8 < rows <= 16
    data = bytearray(chunk.read_bytes())
    if hurt == "flip":
        data[len(data) // 2] ^= 4
        chunk.write_bytes(data)
    elif hurt == "cut":
        chunk.write_bytes(data[:-7])
    else:
        chunk.unlink()
    code, out, err = command("fit-head", "-w", workspace, "--quiet")
    assert code == 5
    assert "mvp extract --verify" in err
    assert not out
    code, out, _ = command("extract", "-w", workspace, "--view", "frontal", "--verify", "--quiet")
    assert code == 0
    assert "1 damaged units recomputed" in out
    assert f" {rows} forward passes" in out
    assert stored(workspace, "frontal") == before


def test_anyone_can_open_a_segment_with_plain_zarr(trained):
    segment = next((trained / "cache" / "lateral").glob("*/segments/*"))
    array = zarr.open_array(str(segment / "features"), mode="r")
    rows = np.load(segment / "plan.npy", allow_pickle=False)
    assert array.shape[0] == len(rows)
    assert np.isfinite(array[:]).all()
    assert (segment / "sealed.json").exists()
