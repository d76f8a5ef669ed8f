"""`mvp cache`: what it lists, finds, tidies and hands on, through the real command line."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import zarr

from mvp import pipeline
from mvp.pipeline.networks import open_stores
from mvp.pipeline.project import Project
from tests.pipeline.conftest import edit, features_of, files_below, rows_of, write_rows


@pytest.fixture
def workspace(workspace):
    """A copy that was never anywhere else."""
    shutil.rmtree(workspace / "cache" / ".workspaces")
    pipeline.extract(workspace, progress=False)
    return workspace


@pytest.fixture
def facts(command):
    def run(*arguments, code=0):
        found, out, err = command("cache", *arguments, "--json")
        assert found == code, err
        return json.loads(out)

    return run


def key_of(ws, view):
    return open_stores(Project(ws, progress=False), [view])[view].key.digest


def test_ls_says_what_is_stored_by_what_and_for_whom(workspace, facts, command):
    command("fit-head", "-w", workspace, "--quiet")
    keys = facts("ls", "-w", workspace)["keys"]
    assert [k["view"] for k in keys] == ["frontal", "lateral"]
    for entry in keys:
        assert entry["key"] == key_of(workspace, entry["view"])
        folder = workspace / "cache" / entry["view"] / entry["key"]
        assert entry["bytes"] == sum(len(data) for data in files_below(folder).values())
        assert entry["rows"] == len(open_stores(Project(workspace), [entry["view"]])[entry["view"]])
        assert entry["open_units"] == 0
        assert "torch" in entry["made_by"]
        assert entry["used_by"] == ["head logistic", f"view {entry['view']}"]
    code, out, _ = command("cache", "ls", "-w", workspace)
    assert code == 0
    assert keys[0]["key"][:10] in out


def test_verify_finds_nothing_in_a_whole_store_and_computes_a_sample(workspace, facts):
    found = facts("verify", "-w", workspace, "--sample", 5, "--quiet")
    assert found["damaged"] == []
    assert [s["rows"] for s in found["samples"]] == [5, 5]
    assert all(s["largest_relative_difference"] < 1e-4 for s in found["samples"])


@pytest.mark.parametrize(
    "hurt",
    ["features/c.1.0", "ledger/1.json", "plan.npy", "segment.json", "sealed.json", "zarr.json"],
)
def test_verify_names_what_is_damaged_and_extract_mends_it(workspace, command, facts, hurt):
    before = files_below(workspace / "cache" / "lateral")
    (name,) = [n for n in before if n.endswith(hurt)]
    path = workspace / "cache" / "lateral" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)
    found = facts("verify", "-w", workspace, "--sample", 0, "--quiet", code=5)
    assert {f["view"] for f in found["damaged"]} == {"lateral"}
    (segment,) = {f["segment"] for f in found["damaged"]}
    assert segment in name
    assert {f["unit"] for f in found["damaged"]} == {1 if "1" in hurt else None}
    code, out, err = command("extract", "-w", workspace, "--verify", "--quiet", "--json")
    assert code == 0, err
    passes = json.loads(out)["views"]["lateral"]["forward_passes"]
    assert passes == (16 if hurt.startswith("features") else 0)
    assert facts("verify", "-w", workspace, "--sample", 2, "--quiet")["damaged"] == []
    assert files_below(workspace / "cache" / "lateral") == before


def test_verify_finds_numbers_that_the_network_no_longer_gives(workspace, facts):
    """Everything is as it was written, and wrong: a sample through the network shows it."""
    from mvp.features import Writer

    store = open_stores(Project(workspace, progress=False), ["frontal"])["frontal"]
    rows = store.rows
    values = store.read(rows)
    shutil.rmtree(workspace / "cache" / "frontal" / store.key.digest / "segments")
    store.refresh()
    with Writer(store) as writer:
        for task in writer.claimed(writer.plan(rows, values.shape[1], 16, {})):
            ours = [rows.index(row) for row in task.rows]
            writer.commit(task, values[ours] + 1, {})
    found = facts("verify", "-w", workspace, "--view", "frontal", "--quiet", code=5)
    assert found["damaged"] == []
    assert [s["agrees"] for s in found["samples"]] == [False]


def test_gc_takes_what_nobody_uses_and_only_when_told(workspace, command, facts):
    old = key_of(workspace, "lateral")
    edit(workspace, '[network]\nname = "small"', '[network]\nname = "small"\nlayer = "stages"')
    code, _, err = command("extract", "-w", workspace, "--view", "lateral", "--quiet")
    assert code == 0, err
    new = key_of(workspace, "lateral")
    assert new != old
    found = facts("gc", "-w", workspace)
    assert [i["folder"] for i in found["items"]] == [f"lateral/{old}"]
    assert (workspace / "cache" / "lateral" / old).exists()
    assert facts("gc", "-w", workspace, "--delete")["bytes"] == found["bytes"] > 0
    assert not (workspace / "cache" / "lateral" / old).exists()
    assert (workspace / "cache" / "lateral" / new).exists()
    assert facts("gc", "-w", workspace)["items"] == []


def test_a_fitted_head_and_another_workspace_keep_their_features(workspace, tmp_path, facts):
    edit(workspace, "[extract]", f'[extract]\ncache = "{tmp_path / "shared"}"')
    shutil.copytree(workspace / "cache", tmp_path / "shared")
    other = tmp_path / "other"
    shutil.copytree(workspace, other)
    pipeline.extract(workspace, progress=False)
    pipeline.extract(other, progress=False)
    pipeline.fit_head(other, progress=False)
    old = key_of(workspace, "lateral")
    for ws in (workspace, other):
        edit(ws, '[network]\nname = "small"', '[network]\nname = "small"\nlayer = "stages"')
        pipeline.extract(ws, ["lateral"], progress=False)
    assert facts("gc", "-w", workspace)["items"] == []  # the other's head was fitted on them
    shutil.rmtree(other)
    kept = facts("gc", "-w", workspace)
    assert kept["items"] == []
    assert kept["missing_workspaces"] == [str(other)]
    gone = facts("gc", "-w", workspace, "--forget-missing", "--delete")
    assert [i["folder"] for i in gone["items"]] == [f"lateral/{old}"]


def test_compact_merges_what_single_studies_left(workspace, command, facts):
    rows = rows_of(workspace)
    shutil.rmtree(workspace / "cache" / "frontal")
    for count in (20, 40, 60, len(rows)):
        write_rows(workspace, rows[:count])
        pipeline.extract(workspace, ["frontal"], progress=False)
    before = features_of(workspace)
    done = facts("compact", "-w", workspace, "--all")
    assert [d["view"] for d in done["merged"]] == ["frontal"]
    assert done["merged"][0]["segments"] == 4
    np.testing.assert_array_equal(features_of(workspace), before)
    facts("gc", "-w", workspace, "--delete")
    np.testing.assert_array_equal(features_of(workspace), before)
    (entry,) = [k for k in facts("ls", "-w", workspace)["keys"] if k["view"] == "frontal"]
    assert entry["segments"] == 1
    assert json.loads(command("extract", "-w", workspace, "--json", "-q")[1])["forward_passes"] == 0
    assert facts("verify", "-w", workspace, "--quiet")["damaged"] == []


def test_diff_names_fields_and_numbers(workspace, facts, refused):
    old = key_of(workspace, "lateral")
    edit(workspace, "size = 32", "size = 32\nfit = 'stretch'")
    edit(workspace, 'protocol = "holdout"', 'protocol = "frozen"')
    pipeline.extract(workspace, ["lateral"], progress=False)
    new = key_of(workspace, "lateral")
    found = facts("diff", old[:12], new[:12], "-w", workspace)
    assert {d.partition(" (")[0] for d in found["differences"]} == {
        "the network's weights",
        "the preparation of the images",
    }
    assert found["rows_in_both"] == found["rows"][0] == found["rows"][1]
    assert found["largest_difference"] > 0
    assert facts("diff", old, old, "-w", workspace)["largest_difference"] == 0
    code, line = refused("extract", "-w", workspace, "--shard", "4/3")
    assert code == 2
    assert "--shard 3/16" in line


def test_an_unknown_key_is_one_clear_line(workspace, command):
    code, _, err = command("cache", "diff", "zzz", "0", "-w", workspace)
    assert code == 2
    assert "mvp cache ls" in err


@pytest.mark.parametrize("suffix", ["npz", "parquet", "zarr"])
def test_export_gives_features_and_studies(workspace, tmp_path, facts, suffix):
    out = tmp_path / f"frontal.{suffix}"
    said = facts("export", "-w", workspace, "--view", "frontal", "--out", out, "--quiet")
    table = features_of(workspace)
    manifest = Project(workspace, progress=False).quiet_manifest()
    present = ~np.isnan(table).all(axis=1)
    if suffix == "parquet":
        data = pd.read_parquet(out)
        studies, features = data["study"].to_numpy(), data.drop(columns="study").to_numpy()
    else:
        opened = np.load(out) if suffix == "npz" else zarr.open_group(str(out), mode="r")
        studies, features = opened["studies"][:], opened["features"][:]
    assert said["rows"] == present.sum()
    assert list(studies) == manifest.studies[present].tolist()
    np.testing.assert_array_equal(features, table[present])


def test_an_export_of_every_instance_has_a_row_an_image(workspace, tmp_path, facts):
    out = tmp_path / "x.npz"
    facts(
        *("export", "-w", workspace, "--view", "frontal", "--out", out),
        *("--every-instance", "--quiet"),
    )
    data = np.load(out)
    store = open_stores(Project(workspace, progress=False), ["frontal"])["frontal"]
    assert len(data["features"]) == len(data["studies"]) == len(data["instances"]) == len(store)


def test_an_export_of_a_damaged_store_is_exit_code_5(workspace, tmp_path, command):
    chunk = sorted((workspace / "cache" / "frontal").glob("*/segments/*/features/c.*"))[1]
    data = bytearray(chunk.read_bytes())
    data[50] ^= 1
    chunk.write_bytes(data)
    out = tmp_path / "x.npz"
    code, _, err = command(
        "cache", "export", "-w", workspace, "--view", "frontal", "--out", out, "-q"
    )
    assert code == 5
    assert "mvp extract --verify" in err
    assert not out.exists()


def test_anyone_can_open_a_live_segment_with_plain_zarr(workspace):
    for view in ("frontal", "lateral"):
        segment = next((workspace / "cache" / view).glob("*/segments/*"))
        array = zarr.open_array(str(segment / "features"), mode="r")
        ids = np.load(segment / "plan.npy", allow_pickle=False)
        assert array.shape[0] == len(ids)
        store = open_stores(Project(workspace, progress=False), [view])[view]
        rows = [bytes(row) for row in ids]
        np.testing.assert_array_equal(array[:], store.read(rows))


def test_a_damaged_key_that_nothing_needs_now_stops_nothing(workspace, command, facts):
    old = key_of(workspace, "lateral")
    edit(workspace, '[network]\nname = "small"', '[network]\nname = "small"\nlayer = "stages"')
    path = workspace / "cache" / "lateral" / old / "key.json"
    path.write_bytes(path.read_bytes()[:-20])
    assert command("extract", "-w", workspace, "--quiet")[0] == 0
    listed = facts("ls", "-w", workspace, code=5)
    assert len(listed["keys"]) == 3
    assert str(path) in listed["damaged"][0]
    facts("compact", "-w", workspace)
    assert old in str(facts("verify", "-w", workspace, "--quiet", code=5)["damaged"])


def test_the_key_of_a_head_is_mended(workspace, command, facts):
    pipeline.fit_head(workspace, progress=False)
    old = key_of(workspace, "lateral")
    edit(workspace, '[network]\nname = "small"', '[network]\nname = "small"\nlayer = "stages"')
    path = workspace / "cache" / "lateral" / old / "key.json"
    before = path.read_bytes()
    path.write_bytes(before[:-20])
    assert command("extract", "-w", workspace, "--verify", "--quiet")[0] == 0
    assert path.read_bytes() == before


def test_verify_says_all_it_found_where_a_key_is_damaged_too(workspace, facts):
    next((workspace / "cache" / "frontal").glob("*/segments/*/features/c.0.0")).unlink()
    path = workspace / "cache" / "lateral" / key_of(workspace, "lateral") / "key.json"
    path.write_bytes(b"{}")
    found = facts("verify", "-w", workspace, "--quiet", code=5)
    assert {f["view"] for f in found["damaged"]} == {"frontal", "lateral"}


def test_a_view_that_nobody_knows_is_no_whole_store(workspace, command):
    for verb in ("verify", "compact"):
        code, _, err = command("cache", verb, "-w", workspace, "--view", "nosuch")
        assert code == 2
        assert "nosuch" in err


def test_a_moved_workspace_keeps_what_it_uses(workspace, tmp_path, facts):
    moved = tmp_path / "moved"
    workspace.rename(moved)
    assert facts("gc", "-w", moved, "--delete", "--forget-missing")["items"] == []
    assert pipeline.extract(moved, progress=False).forward_passes == 0


def test_heads_of_another_version_of_the_store_are_told_apart(workspace, command):
    pipeline.fit_head(workspace, progress=False)
    path = workspace / "heads" / "logistic" / "provenance.json"
    made = json.loads(path.read_text())
    for keys in made["keys"].values():
        for key in keys.values():
            del key["instances"]
    path.write_text(json.dumps(made))
    assert command("cache", "ls", "-w", workspace)[0] == 0
    assert command("extract", "-w", workspace, "-q", "--verify")[0] == 0
    code, _, err = command("score", workspace / "data" / "studies.csv", "-w", workspace, "-q")
    assert code == 2
    assert "fit-head" in err


def test_a_lost_plan_that_is_planned_otherwise_is_not_damage_for_ever(workspace, command, facts):
    path = next((workspace / "cache" / "lateral").glob("*/segments/*/segment.json"))
    path.write_bytes(b"{}")
    edit(workspace, "unit_rows = 16", "unit_rows = 20")
    assert command("extract", "-w", workspace, "--verify", "--quiet")[0] == 0
    assert facts("verify", "-w", workspace, "--quiet", "--sample", 0)["damaged"] == []
