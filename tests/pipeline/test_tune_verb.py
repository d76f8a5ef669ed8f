"""`mvp fit-head --trials` and `--sweep`: the way into a head, and what is written of it."""

import csv
import json

import pytest

import mvp
from mvp.pipeline.heads import load_head
from mvp.pipeline.project import Project
from tests.pipeline.conftest import edit, write_films, write_studies


def head_step(ws):
    return next(s for s in mvp.run(ws, dry_run=True, progress=False).steps if "fit-head" in s.name)


def records(ws, said):
    with (ws / said["search"]["table"]).open() as stream:
        return list(csv.DictReader(stream))


def test_a_searched_head_says_what_was_tried_and_is_no_head_of_fixed_options(workspace, done_json):
    ws = workspace
    said = done_json("fit-head", "--workspace", ws, "--trials", 4)
    search = json.loads((ws / "heads" / "logistic" / "provenance.json").read_text())["search"]
    assert search == said["search"]
    assert search["trials"] == 4
    assert search["asked"] == {"trials": 4, "timeout": None}
    assert search["space"] == {"C": {"low": 1e-5, "high": 10.0, "log": True}}
    table = records(ws, said)
    assert [row["trial"] for row in table] == ["0", "1", "2", "3"]
    assert table[0]["C"] == "default"
    assert search["best"] == max(float(row["mean_auroc"]) for row in table)
    assert (
        load_head(Project(ws, progress=False), None).ensemble.first.fusion.options
        == (said["options"])
    )
    # Asked for on the command line, it is not what mvp.toml says; written there, it is fresh.
    step = head_step(ws)
    assert step.runs
    assert "the search of its options" in step.reason
    edit(ws, '[head]\nlearner = "logistic"', '[head]\nlearner = "logistic"\ntrials = 4')
    assert not head_step(ws).runs
    # And a head of fixed options is none of a search.
    assert done_json("fit-head", "--workspace", ws, "--trials", 0)["search"] is None
    assert "the search of its options" in head_step(ws).reason


def test_a_sweep_chooses_c_and_lists_every_subset(workspace, done_json, done):
    ws = workspace
    said = done_json("fit-head", "--workspace", ws, "--sweep")
    table = records(ws, said)
    assert {row["views"] for row in table} == {"frontal", "lateral", "frontal+lateral"}
    assert {row["instances"] for row in table} == {"mean"}
    means = {
        row["C"]: float(row["auroc"])
        for row in table
        if (row["views"], row["label"]) == ("frontal+lateral", "mean")
    }
    assert said["options"] == said["search"]["chosen"]
    assert means[str(said["options"]["C"])] == max(means.values())
    assert "the search of its options" in head_step(ws).reason
    edit(ws, '[head]\nlearner = "logistic"', '[head]\nlearner = "logistic"\nsweep = true')
    assert not head_step(ws).runs
    text = done("fit-head", "--workspace", ws, "--quiet")
    assert f"taken: C = {said['options']['C']:g}" in text
    # Another learner than mvp.toml's is not swept.
    other = ["--learner", "sklearn.naive_bayes.GaussianNB", "--name", "other"]
    assert done_json("fit-head", "--workspace", ws, *other)["search"] is None


def test_where_studies_have_several_images_both_poolings_are_swept(tmp_path, done_json):
    ws = tmp_path / "ws"
    files = [path.name for path in write_films(ws, 80).values()]
    pairs = zip(files[::2], files[1::2], strict=True)
    write_studies(
        ws,
        [[f"s{i}", f"p{i}", "PA", name, i % 2] for i, pair in enumerate(pairs) for name in pair],
    )
    mvp.extract(ws, progress=False)
    said = done_json("fit-head", "--workspace", ws, "--sweep")
    table = records(ws, said)
    assert {row["instances"] for row in table} == {"mean", "max"}
    own = {
        row["C"]: float(row["auroc"])
        for row in table
        if (row["instances"], row["label"]) == ("mean", "finding")
    }
    # The head reads the mean, whatever the maximum reaches.
    assert own[str(said["options"]["C"])] == max(own.values()) == said["search"]["best"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--timeout", 5], "without trials"),
        (["--trials", 1], "first trial is the learner's defaults"),
        (["--trials", -2], "--trials -2"),
        (["--trials", 3, "--timeout", 0], "no time"),
        (["--trials", 3, "--sweep"], "two ways"),
        (["--trials", 3, "--set", "C=1"], "nothing is left to search"),
        (["--sweep", "--learner", "xgboost"], "not of 'xgboost'"),
        (["--sweep", "--set", "C=1"], "C is fixed"),
        (["--sweep", "--set", "class_weight=balanced"], "class_weight is fixed"),
        (["--trials", 3, "--learner", "sklearn.naive_bayes.GaussianNB"], "no search space"),
    ],
)
def test_what_has_no_meaning_is_refused(trained, refused, arguments, words):
    code, line = refused("fit-head", "--workspace", trained, "--name", "none", *arguments)
    assert code == 2
    assert words in line
    assert "Remedy" in line
    assert not (trained / "heads" / "none").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("trials = 1", "trials = 1"),
        ("timeout = 5", "without `trials`"),
        ("trials = 5\nsweep = true", "two ways"),
        ('learner = "mlp"\nsweep = true', 'learner = "logistic"'),
    ],
)
def test_settings_without_meaning_are_refused(workspace, refused, setting, words):
    learner = "" if "learner" in setting else 'learner = "logistic"\n'
    edit(workspace, '[head]\nlearner = "logistic"', f"[head]\n{learner}{setting}")
    code, line = refused("fit-head", "--workspace", workspace)
    assert code == 2
    assert words in line
