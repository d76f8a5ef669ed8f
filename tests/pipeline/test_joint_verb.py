"""`mvp finetune-joint` in a workspace, and everything that knows its head and its features."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import mvp
from mvp.data import loading
from mvp.errors import ConfigError, DataError, StaleError
from mvp.pipeline.heads import load_head
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import read_provenance
from mvp.pipeline.stage_two import head_rows
from tests.pipeline.conftest import FILMS_TOML, edit, rows_of, write_films
from tests.pipeline.joint_workspace import MLP, add, joined, ws

__all__ = ["joined", "ws"]


def both_heads(ws):
    """For each of the two heads what it says of the validation studies, and the truth."""
    project, found = Project(ws, progress=False), {}
    for name in ("mlp", "joint"):
        saved = load_head(project, name)
        rows, _ = head_rows(
            project,
            list(saved.ensemble.views),
            saved.provenance["protocol"],
            joint=saved.on_joint,
            ablation=False,
        )
        found[name] = saved.ensemble.ask(rows, "inner")
    return found


def test_it_starts_from_stage_two_and_says_what_it_gained(joined):
    ws, done = joined
    assert done.views == done.bodies == ["frontal", "lateral"]
    assert done.learner == "mlp"
    assert done.reason == "not trained yet"
    one = done.result
    assert one.trained.best_auroc >= one.start_auroc
    assert one.trained.epochs_run == 1
    assert one.probe_inputs == 0
    assert "validation AUROC" in done.text
    assert f"{one.start_auroc:.3f} at the start" in done.text
    asked = both_heads(ws)
    # Judged on the same studies as the two-stage system.
    assert set(asked["mlp"].studies) == set(asked["joint"].studies)
    for view in done.bodies:
        assert (ws / "stage1" / view / "joint" / "weights.safetensors").exists()
    assert not (ws / "joint" / "checkpoint.safetensors").exists()


def test_without_epochs_it_is_the_two_stage_system(joined, tmp_path):
    ws = Path(shutil.copytree(joined[0], tmp_path / "ws"))
    edit(ws, "[joint.training]\nepochs = 1", "[joint.training]\nepochs = 0")
    mvp.finetune_joint(ws, progress=False)
    asked = both_heads(ws)
    order = {s: i for i, s in enumerate(asked["joint"].studies)}
    rows = [order[s] for s in asked["mlp"].studies]
    np.testing.assert_allclose(
        asked["joint"].predicted["fusion"][rows], asked["mlp"].predicted["fusion"], atol=1e-5
    )


def test_everything_knows_its_head(ws):
    done = mvp.evaluate(ws, "joint", progress=False)
    models = {row["model"] for row in done.to_json()["rows"]}
    assert models >= {"frontal", "lateral", "mean", "fusion"}
    assert done.protocol == "joint"
    rows = rows_of(ws)
    lone = rows[:6]
    path = ws / "new.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(lone)
    scored = mvp.score(path, ws, head="joint", progress=False)
    assert (scored.forward_passes, scored.scored) == (0, scored.studies)
    assert mvp.next_view(workspace=ws, head="joint", progress=False).exit_code == 0
    found = mvp.compare(ws, ["mean"], subsets="full", progress=False)
    names = {row["learner"]: row for row in found.to_json()["rows"]}
    assert set(names) == {"mean", "head joint"}
    assert names["head joint"]["protocol"] == "joint"
    assert {gap["label"] for gap in found.to_json()["differences"]} >= {"mean over labels"}
    kept = mvp.compare(ws, ["mean"], subsets="full", heads=["mlp", "joint"], progress=False)
    assert {r["learner"] for r in kept.to_json()["rows"]} == {"mean", "head mlp", "head joint"}


def test_a_new_image_passes_its_bodies_once(ws, monkeypatch):
    from tests.pipeline.test_freshness import write_extra

    extra = write_extra(ws)
    path = ws / "new.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(extra[0]))
        writer.writeheader()
        writer.writerows(extra)
    first = mvp.score(path, ws, head="joint", progress=False)
    assert first.forward_passes == len(extra)
    assert mvp.score(path, ws, head="joint", progress=False).forward_passes == 0

    def none(*_, **__):
        raise AssertionError("an image was opened")

    monkeypatch.setattr(loading, "load_instances", none)
    assert mvp.score(path, ws, head="joint", cached_only=True, progress=False).scored > 0


def test_a_fresh_one_is_left_as_it_is(ws):
    before = read_provenance(ws / "heads" / "joint")["digest"]
    again = mvp.finetune_joint(ws, progress=False)
    assert again.result is None
    assert again.reason.startswith("fresh")
    assert again.forward_passes == 0
    assert again.digest == before
    edit(ws, "[joint]\n", "[joint]\nauxiliary = 0.0\n")
    told = mvp.finetune_joint(ws, progress=False)
    assert "the settings of the joint training" in told.reason
    # The head that it started from is part of it.
    mvp.fit_head(ws, "mlp", {**MLP, "hidden": 8}, progress=False)
    assert "where it starts" in mvp.finetune_joint(ws, progress=False).reason


def test_its_features_are_a_source_like_any_other(ws, command):
    with pytest.raises(ConfigError, match=r'joint\.rows = "stage1"'):
        mvp.fit_head(ws, "logistic", from_joint=True, progress=False)
    code, out, err = command("extract", "-w", ws, "--from-joint", "--quiet", "--json")
    assert code == 0, err
    views = json.loads(out)["views"]
    assert {v["forward_passes"] for v in views.values()} == {0}
    ablation = mvp.fit_head(
        ws, "logistic", protocol="same-rows", from_joint=True, name="abl", progress=False
    )
    assert ablation.protocol == "same-rows"
    edit(ws, '[joint]\nhead = "mlp"', '[joint]\nstart = "networks"\nrows = "stage1"')
    with pytest.raises((StaleError, DataError, ConfigError)):
        # The joint network of the other rows is still there.
        mvp.fit_head(ws, "logistic", from_joint=True, progress=False)
    mvp.finetune_joint(ws, progress=False)
    fitted = mvp.fit_head(ws, "logistic", from_joint=True, progress=False)
    assert fitted.name == "logistic-on-joint"
    said = mvp.evaluate(ws, fitted.name, progress=False).to_json()
    assert any(row["model"] == "fusion" for row in said["rows"])
    with pytest.raises(ConfigError, match="joint network"):
        mvp.fit_head(ws, "logistic", name="joint", progress=False)
    with pytest.raises(ConfigError, match="other networks"):
        mvp.extract(ws, folds=True, from_joint=True, progress=False)


def test_a_test_patient_that_it_saw_is_refused(ws):
    path = ws / "split.csv"
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    seen = next(row for row in rows if row["part"] == "stage2")
    for row in rows:
        if row["study"] == seen["study"]:
            row["part"] = "test"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises((DataError, StaleError)):
        mvp.evaluate(ws, "joint", progress=False)


@pytest.mark.slow
def test_an_interrupted_one_goes_on(ws, joined, monkeypatch):
    from mvp.training import joint

    edit(ws, "[joint.training]\nepochs = 1", '[joint.training]\nepochs = 3\nmonitor = "none"')
    other = Path(shutil.copytree(ws, ws.parent / "other"))
    whole = mvp.finetune_joint(other, progress=False)
    calls = []
    judge = joint.JointPhase.judge

    def stops(self):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return judge(self)

    monkeypatch.setattr(joint.JointPhase, "judge", stops)
    with pytest.raises(KeyboardInterrupt):
        mvp.finetune_joint(ws, progress=False)
    monkeypatch.undo()
    assert not (ws / "joint" / "provenance.json").exists()
    done = mvp.finetune_joint(ws, progress=False)
    assert done.result.trained.resumed_from == 1
    assert done.digest == whole.digest


def test_errors_name_what_to_do(ws, trained, tmp_path):
    edit(ws, 'head = "mlp"', 'head = "nothing"')
    with pytest.raises(ConfigError, match="nothing"):
        mvp.finetune_joint(ws, progress=False)
    edit(ws, 'head = "nothing"', 'head = "joint"')
    with pytest.raises(ConfigError, match="none that a joint network could start from"):
        mvp.finetune_joint(ws, progress=False)
    mvp.fit_head(ws, "logistic", progress=False)
    edit(ws, 'head = "joint"', 'head = "logistic"')
    with pytest.raises(ConfigError, match="mlp, auxiliary, hemis"):
        mvp.finetune_joint(ws, progress=False)


@pytest.mark.parametrize("learner", ["auxiliary", pytest.param("hemis", marks=pytest.mark.slow)])
def test_from_the_networks_alone_the_head_is_fitted_to_stored_features(joined, tmp_path, learner):
    ws = Path(shutil.copytree(joined[0], tmp_path / "ws"))
    options = "{epochs = 5, hidden = 8}"
    edit(
        ws,
        '[joint]\nhead = "mlp"',
        f'[joint]\nstart = "networks"\nlearner = "{learner}"\noptions = {options}',
    )
    done = mvp.finetune_joint(ws, progress=False)
    assert done.learner == learner
    assert done.result.probe_inputs == 0
    assert mvp.evaluate(ws, "joint", progress=False).exit_code == 0


def test_from_published_weights_without_any_stage(tmp_path):
    """A frozen workspace of one view twice, with clinical values beside: nothing was trained."""
    toml = FILMS_TOML.replace(
        "[labels.finding]",
        '[views.again]\nsource = "frontal"\n\n[views.age]\nkind = "table"\nnumbers = ["age"]\n\n'
        "[labels.finding]",
    )
    files = write_films(tmp_path, 60, toml)
    rows = [[s, f"p{i}", "PA", f.name, i % 2, 20 + i] for i, (s, f) in enumerate(files.items())]
    with (tmp_path / "studies.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["study", "patient", "view", "path", "finding", "age"])
        writer.writerows(rows)
    add(
        tmp_path,
        '\n[joint]\nstart = "weights"\nlearner = "mlp"\noptions = {epochs = 5, hidden = 8}\n'
        "[joint.training]\nepochs = 1\nbatch_size = 16\n",
    )
    with pytest.raises(ConfigError, match="mvp extract --view age"):
        mvp.finetune_joint(tmp_path, progress=False)
    mvp.extract(tmp_path, ["age"], progress=False)
    done = mvp.finetune_joint(tmp_path, progress=False)
    assert done.bodies == ["frontal", "again"]
    assert done.result.probe_inputs > 0
    assert set(load_head(Project(tmp_path, progress=False), "joint").ensemble.views) == {
        "frontal",
        "again",
        "age",
    }
    assert mvp.evaluate(tmp_path, "joint", progress=False).exit_code == 0


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('[joint]\nlearner = "hemis"\n', "no meaning with start"),
        ('[joint]\nstart = "networks"\nhead = "mlp"\n', "head has no meaning"),
        ('[joint]\nrows = "stage1"\n', 'set start = "networks"'),
        ("[joint]\nthaw = 2\n", "thaw has no meaning"),
        ('[joint]\nthaw = 20\n[joint.training]\nfreeze = "all"\n', "never come"),
        ("[joint.training]\nhead_epochs = 2\n", "head_epochs has no meaning"),
        ('[joint.training]\nslices = "mean"\n', "slices has no meaning"),
        ('[joint.training]\nbatch_size = "auto"\n', "set a number"),
    ],
)
def test_settings_without_a_meaning_are_refused(tmp_path, text, match):
    write_films(tmp_path, 4)
    add(tmp_path, "\n" + text)
    with pytest.raises(ConfigError, match=match):
        Project(tmp_path, progress=False)
