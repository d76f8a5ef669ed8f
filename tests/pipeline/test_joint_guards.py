"""What a joint training and its head must not do in silence."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

import mvp
from mvp.errors import ConfigError, DataError, StaleError
from mvp.pipeline.heads import load_head
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import read_provenance
from tests.pipeline.conftest import FILMS_TOML, edit, write_films
from tests.pipeline.joint_workspace import MLP, add, joined, move, studies_of, ws

__all__ = ["joined", "ws"]
WEIGHTS = """
[joint]
start = "weights"
learner = "mlp"
options = {epochs = 3, hidden = 8, layers = 0}
[joint.training]
epochs = 0
"""


def reset(ws, text):
    """The settings of the joint network anew."""
    path = ws / "mvp.toml"
    path.write_text(path.read_text().split("\n[joint]")[0] + text)


def test_whoever_a_copied_network_saw_is_in_its_provenance(ws):
    reset(ws, WEIGHTS)
    edit(ws, "[views.lateral]\n", '[views.lateral]\nnetwork = {weights = "view:frontal"}\n')
    mvp.finetune_joint(ws, progress=False)
    made = read_provenance(ws / "stage1" / "lateral" / "joint")
    frontal = read_provenance(ws / "stage1" / "frontal" / "all")
    assert set(frontal["patients"]) <= set(made["patients"])
    move(ws, studies_of(ws, "stage1")[:3], "test")
    with pytest.raises((StaleError, DataError), match=r"frontal|have been seen"):
        mvp.finetune_joint(ws, progress=False)


def test_a_head_that_saw_the_test_or_the_ranking_is_not_compared(ws):
    move(ws, studies_of(ws, "stage2")[:4], "stage2-inner")
    for name in ("mlp", "joint"):
        with pytest.raises(StaleError, match="other studies than those of today"):
            mvp.compare(ws, ["mean"], heads=[name], subsets="full", progress=False)
    found = mvp.compare(ws, ["mean"], subsets="full", progress=False)
    assert any("head joint is left out" in line for line in found.warnings)
    move(ws, studies_of(ws, "stage2")[:4], "test")
    with pytest.raises(DataError, match="test patients"):
        mvp.compare(ws, ["mean"], heads=["mlp"], subsets="full", progress=False)


def test_what_decides_the_weights_makes_it_stale(ws):
    reset(ws, WEIGHTS)
    mvp.finetune_joint(ws, progress=False)
    assert mvp.finetune_joint(ws, progress=False).result is None
    edit(ws, "[views.lateral]\n", '[views.lateral]\nlabels = ["tube_depth"]\n')
    assert "its views" in mvp.finetune_joint(ws, progress=False).reason
    edit(ws, "[head]\n", '[head]\ninstances = "max"\n')
    told = mvp.finetune_joint(ws, progress=False)
    assert "what becomes of several images" in told.reason


def test_other_values_beside_the_images_make_it_stale(tmp_path):
    toml = FILMS_TOML.replace(
        "[labels.finding]", '[views.age]\nkind = "table"\nnumbers = ["age"]\n\n[labels.finding]'
    )
    files = write_films(tmp_path, 40, toml)

    def write(ages):
        with (tmp_path / "studies.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["study", "patient", "view", "path", "finding", "age"])
            for i, (study, file) in enumerate(files.items()):
                writer.writerow([study, f"p{i}", "PA", file.name, i % 2, ages[i]])

    write(range(40))
    add(tmp_path, WEIGHTS)
    mvp.extract(tmp_path, ["age"], progress=False)
    mvp.finetune_joint(tmp_path, progress=False)
    write(range(100, 140))
    mvp.extract(tmp_path, ["age"], progress=False)
    assert "its other features" in mvp.finetune_joint(tmp_path, progress=False).reason


def test_a_head_of_draws_stays_one(tmp_path, trained):
    ws = Path(shutil.copytree(trained, tmp_path / "draws"))
    edit(ws, "[extract]\n", "[extract]\ntta = 2\n")
    edit(ws, "[head]\n", '[head]\ntta = "augment"\n')
    mvp.extract(ws, progress=False)
    mvp.fit_head(ws, "mlp", MLP, progress=False)
    add(ws, '\n[joint]\nhead = "mlp"\n[joint.training]\nepochs = 0\n')
    mvp.finetune_joint(ws, progress=False)
    project = Project(ws, progress=False)
    heads = [load_head(project, name).ensemble.first.fusion for name in ("mlp", "joint")]
    assert [head.tta for head in heads] == ["augment", "augment"]
    for name in ("mlp", "joint"):
        mvp.score(ws / "data" / "studies.csv", ws, ws / f"{name}.csv", head=name, progress=False)
    with (ws / "mlp.csv").open() as a, (ws / "joint.csv").open() as b:
        for one, other in zip(csv.DictReader(a), csv.DictReader(b), strict=True):
            assert float(one["enlarged_heart"]) == pytest.approx(
                float(other["enlarged_heart"]), abs=1e-5
            )


def test_one_that_left_stage_two_alone_is_ranked_where_stage_two_is(ws):
    reset(
        ws,
        WEIGHTS.replace("epochs = 3", "epochs = 2").replace("[joint]", '[joint]\nrows = "stage1"'),
    )
    mvp.finetune_joint(ws, progress=False)
    found = mvp.compare(ws, ["mean"], subsets="full", progress=False).to_json()
    ranked = {row["learner"]: row for row in found["rows"] if row["label"] == "mean over labels"}
    assert ranked["head joint"]["validation_n"] == ranked["mean"]["validation_n"]
    edit(ws, 'rows = "stage1"', 'rows = "train"')
    with pytest.raises(StaleError, match=r"joint\.rows"):
        mvp.evaluate(ws, "joint", progress=False)


def test_frozen_networks_have_a_joint_one_with_heads_of_its_own(tmp_path):
    write_films(tmp_path, 60)
    add(tmp_path, WEIGHTS.replace("[joint]", '[joint]\nrows = "stage1"'))
    mvp.finetune_joint(tmp_path, progress=False)
    fitted = mvp.fit_head(tmp_path, "logistic", from_joint=True, progress=False)
    assert (fitted.protocol, fitted.name) == ("holdout", "logistic-on-joint")
    assert mvp.evaluate(tmp_path, fitted.name, progress=False).exit_code == 0
    with pytest.raises(ConfigError, match="means nothing"):
        mvp.fit_head(tmp_path, "logistic", from_joint=True, protocol="frozen", progress=False)


def test_what_cannot_be_started_is_said_before_training(ws, monkeypatch):
    from mvp.pipeline import _finetune_joint as verb

    def never(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(verb, "finetune_joint", never)
    before = {p: p.read_bytes() for p in ws.rglob("*") if "joint" in str(p) and p.is_file()}
    for wrong, match in (
        ('freeze = "nowhere"\n', "nowhere"),
        ("rates = {fronta = 0.1}\n", "did you mean 'frontal'"),
        ('rates = {"frontal.nowhere" = 0.1}\n', "nowhere"),
    ):
        edit(ws, "[joint.training]\n", "[joint.training]\n" + wrong)
        with pytest.raises(ConfigError, match=match):
            mvp.finetune_joint(ws, progress=False)
        edit(ws, "[joint.training]\n" + wrong, "[joint.training]\n")
    move(ws, studies_of(ws, "stage2")[:3], "test")
    with pytest.raises(DataError, match="mvp fit-head"):
        mvp.finetune_joint(ws, progress=False)
    assert before == {p: p.read_bytes() for p in before}


def test_bodies_of_another_joint_network_do_not_stay(ws):
    edit(ws, "[head]\n", '[head]\nviews = ["frontal"]\n')
    mvp.fit_head(ws, "mlp", MLP, progress=False)
    mvp.finetune_joint(ws, progress=False)
    assert not (ws / "stage1" / "lateral" / "joint").exists()
    with pytest.raises(ConfigError, match="no body in the joint network"):
        mvp.extract(ws, ["lateral"], from_joint=True, progress=False)


def test_the_only_head_is_meant_with_the_joint_one_beside_it(ws):
    edit(ws, '[joint]\nhead = "mlp"\n', "[joint]\n")
    assert mvp.finetune_joint(ws, progress=False).result is None
    assert mvp.evaluate(ws, progress=False).head == "mlp"


def test_patience_counts_from_the_thaw(ws):
    edit(
        ws,
        "[joint.training]\nepochs = 1\n",
        '[joint.training]\nepochs = 4\npatience = 1\nfreeze = "all"\nlearning_rate = 1e-9\n'
        "head_learning_rate = 1e-9\nrates = {head = 0.5}\n",
    )
    edit(ws, "[joint]\n", "[joint]\nthaw = 3\n")
    done = mvp.finetune_joint(ws, progress=False)
    assert done.result.trained.epochs_run >= 4 or done.result.trained.best_epoch > 2
    assert np.isfinite(done.result.trained.best_loss)
