"""What a head decides, from fit-head through evaluate to the score table."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mvp
from mvp.features import table_from_arrays
from mvp.learners.ensemble import HeadRows
from mvp.pipeline import drift
from mvp.pipeline.drift import DriftWatch, drift_lines, drift_references
from mvp.pipeline.heads import load_head
from mvp.pipeline.project import Project
from mvp.types import Labels, Target
from tests.pipeline.conftest import edit

SLICE = "[split]\ncalibration = 0.1\n"
DECIDED = '[head]\ncalibration = "platt"\nconformal = 0.2\n'
LABELS = ("enlarged_heart", "tube_side", "tube_depth")


def read(path):
    with Path(path).open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def decided(trained, tmp_path_factory):
    """A workspace with a calibrated head that abstains, its evaluation and a score table."""
    ws = Path(shutil.copytree(trained, tmp_path_factory.mktemp("decided") / "ws"))
    edit(ws, "[head]\n", SLICE + DECIDED)
    fitted = mvp.fit_head(ws, progress=False)
    said = mvp.evaluate(ws, progress=False)
    scored = mvp.score(ws / "data" / "studies.csv", ws, cached_only=True, progress=False)
    return ws, fitted, said, scored


def test_decisions_stand_beside_the_head_and_know_nobody(decided):
    ws, fitted, _, _ = decided
    made = json.loads((ws / "heads" / "logistic" / "decisions.json").read_text())
    assert [label["name"] for label in made["labels"]] == list(LABELS)
    assert {label["calibration"]["kind"] for label in made["labels"]} <= {"platt", "none"}
    assert all(label["sets"]["alpha"] == 0.2 for label in made["labels"])
    assert (ws / "heads" / "logistic" / "drift.json").exists()
    saved = load_head(Project(ws, progress=False), "logistic")
    assert saved.decisions.to_json() == made
    assert saved.digest == fitted.digest != saved.ensemble.digest
    for note in saved.decisions.notes():
        assert note in fitted.notes
    assert f"{fitted.calibration_rows} for calibration" in fitted.text
    split = Project(ws, progress=False).split
    assert 0 < fitted.calibration_rows <= split.counts()["calibration"]


def test_the_score_table_has_what_the_head_decides(decided):
    ws, fitted, _, scored = decided
    rows = read(scored.out)
    decisions = load_head(Project(ws, progress=False), None).decisions
    assert list(rows[0]) == [
        "study",
        *LABELS,
        *decisions.columns,
        "has_frontal",
        "has_lateral",
        "head",
    ]
    assert {row["head"] for row in rows} == {fitted.digest} == {scored.digest}
    for label in decisions.labels:
        name = label.target.name
        said = np.array([float(row[name]) for row in rows])
        raw = np.array([float(row[f"{name}_raw" if label.corrects else name]) for row in rows])
        np.testing.assert_allclose(
            label.calibrated(raw[:, None].astype(np.float32))[:, 0], said, rtol=1e-5
        )
        assert {row[f"{name}_set"] for row in rows} <= {"", "0", "1", "0|1"}
        if label.calls:
            called = np.array([int(row[f"{name}_call"]) for row in rows])
            np.testing.assert_array_equal(called, said >= label.threshold.value)
    assert any(label.corrects for label in decisions.labels)
    assert any(label.calls for label in decisions.labels)


def test_csv_and_parquet_say_the_same(decided):
    ws, _, _, scored = decided
    out = ws / "scores" / "again.parquet"
    mvp.score(ws / "data" / "studies.csv", ws, out, cached_only=True, progress=False)
    table = pd.read_parquet(out)
    rows = read(scored.out)
    assert list(table.columns) == list(rows[0])
    calls = [column for column in table.columns if column.endswith("_call")]
    assert {str(table[column].dtype) for column in calls} == {"int8"}
    for column in table.columns:
        if table[column].dtype == np.float32:
            np.testing.assert_allclose(table[column], [float(row[column]) for row in rows])
        else:
            assert [str(value) for value in table[column]] == [row[column] for row in rows]


def test_an_evaluation_states_what_was_decided(decided):
    ws, _, said, _ = decided
    folder = Path(said.folder)
    stated = json.loads((folder / "metrics.json").read_text())
    for kind in ("patterns", "calibration", "decisions", "sets"):
        rows = read(folder / f"{kind}.csv")
        assert len(rows) == len(stated[kind]) > 0
        assert {row["label"] for row in rows} <= set(LABELS)
    assert not (folder / "confusion.csv").exists()  # there is no label of several classes
    for name in ("precision-recall.png", "calibration.png", "confusion.png"):
        assert (folder / name).stat().st_size > 1000
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png") == 5
    assert "Missed findings and false alarms" in page
    assert "Prediction sets" in page
    assert "http" not in page.replace("</html>", "")
    text = said.text
    assert "abstains" in text
    assert len(text.splitlines()) < 45
    everybody = Project(ws, progress=False).manifest
    test = [str(s) for s in everybody.studies]
    assert not any(f'"{study}"' in (folder / "metrics.json").read_text() for study in test)


def test_scoring_says_how_far_the_studies_lie_from_training(decided):
    scored = decided[-1]
    lines = [line for line in scored.text.splitlines() if line.startswith("drift: ")]
    assert [line.split()[1] for line in lines[:2]] == ["frontal:", "lateral:"]
    assert "as far from training as held-out training studies" in lines[0]
    report = scored.to_json()["drift"]["all"]
    assert report["studies"] == scored.scored
    assert [view["view"] for view in report["views"]] == ["frontal", "lateral"]


def test_without_a_slice_a_head_is_as_before_and_what_needs_one_is_refused(workspace, refused):
    mvp.fit_head(workspace, progress=False)
    saved = load_head(Project(workspace, progress=False), None)
    assert not any(label.corrects or label.sets for label in saved.decisions.labels)
    (workspace / "mvp.toml").write_text(
        (workspace / "mvp.toml").read_text().replace("[head]", DECIDED.strip())
    )
    shutil.rmtree(workspace / "stage1" / "lateral")
    for verb in ("fit-head", "run"):
        code, line = refused(verb, "-w", workspace)
        assert code == 2
        assert 'head.calibration = "platt" and head.conformal = 0.2' in line
        assert "set split.calibration = 0.1 and run `mvp split`" in line
    # `mvp run` says it before it trains anything.
    assert not (workspace / "stage1" / "lateral").exists()


def test_run_notices_other_settings_of_decisions(workspace, done_json):
    mvp.fit_head(workspace, progress=False)

    def runs():
        said = done_json("run", "-w", workspace, "--dry-run")
        return {step["name"]: step["reason"] for step in said["steps"] if step["runs"]}

    assert list(runs()) == ["evaluate"]
    edit(workspace, "[head]\n", '[head]\nthreshold = "sensitivity"\nat = 0.9\n')
    assert "what is decided by its probabilities" in runs()["fit-head logistic"]
    mvp.fit_head(workspace, progress=False)
    assert list(runs()) == ["evaluate"]
    decisions = load_head(Project(workspace, progress=False), None).decisions
    for label in decisions.labels:
        assert label.threshold.target == 0.9
        if label.threshold.value is not None:
            assert label.threshold.sensitivity >= 0.9


def test_settings_changed_after_the_fit_are_not_ignored_in_silence(decided, tmp_path, command):
    ws = Path(shutil.copytree(decided[0], tmp_path / "ws"))
    score = ("score", ws / "data" / "studies.csv", "-w", ws, "--quiet")
    verbs = (score, ("evaluate", "-w", ws, "--quiet"), ("next-view", "-w", ws, "--quiet"))
    for verb in verbs:
        code, _, err = command(*verb)
        assert (code, "other settings" in err) == (0, False)
    edit(ws, "conformal = 0.2", "conformal = 0.3")
    for verb in verbs:
        code, _, err = command(*verb)
        assert code == 0
        assert "head logistic was fitted under other settings of head.calibration" in err
        assert "`mvp fit-head`" in err


@pytest.mark.parametrize("name", ["decisions.json", "drift.json"])
def test_a_changed_or_missing_file_is_noticed(decided, tmp_path, refused, name):
    ws = Path(shutil.copytree(decided[0], tmp_path / "ws"))
    path = ws / "heads" / "logistic" / name
    text = path.read_text()
    path.write_text(text.replace("0.", "0.0", 1))
    code, line = refused("evaluate", "-w", ws)
    assert code == 5
    assert name in line
    assert "mvp fit-head" in line
    path.unlink()
    assert refused("score", ws / "data" / "studies.csv", "-w", ws)[0] == 5


def test_a_head_of_a_version_without_decisions_is_to_be_fitted_again(decided, tmp_path, refused):
    ws = Path(shutil.copytree(decided[0], tmp_path / "ws"))
    path = ws / "heads" / "logistic" / "provenance.json"
    made = json.loads(path.read_text())
    del made["decisions"]
    path.write_text(json.dumps(made))
    code, line = refused("evaluate", "-w", ws)
    assert code == 2
    assert "older version" in line


def rows_of_two_views(n, shift=0.0, seed=0):
    """Studies with two views, of which the second may lie elsewhere."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, n, 5)).astype(np.float32)
    table = table_from_arrays([f"S{i}" for i in range(n)], {"a": a, "b": b + np.float32(shift)})
    roles = {"train": np.arange(n) % 2 == 0, "inner": np.arange(n) % 2 == 1}
    return HeadRows(table, Labels((Target("x"),), np.zeros((n, 1), np.float32)), roles)


def test_the_view_that_drifts_is_named():
    watch = DriftWatch(drift_references({"all": rows_of_two_views(600)}, 0))
    new = rows_of_two_views(300, shift=4, seed=1).table
    watch.expect(len(new))
    watch.add({"all": new})
    report = watch.reports()["all"]
    a, b = report.views
    assert a.times_as_far == pytest.approx(1, abs=0.15)
    assert b.times_as_far > 3
    assert b.beyond > 0.95
    assert len(drift_lines(report)) == 2  # patterns are as they were
    alone = DriftWatch(drift_references({"all": rows_of_two_views(600)}, 0))
    alone.expect(300)
    empty = table_from_arrays(
        [f"S{i}" for i in range(300)],
        {"a": new.block("a"), "b": np.full((300, 5), np.nan, np.float32)},
    )
    alone.add({"all": empty})
    assert any("0.0% now" in line for line in drift_lines(alone.reports()["all"]))


def test_a_view_that_no_training_study_has_hinders_nothing():
    rows = rows_of_two_views(100)
    b = np.where(rows.roles["train"][:, None], np.float32(np.nan), rows.table.block("b"))
    table = table_from_arrays(list(rows.table.studies), {"a": rows.table.block("a"), "b": b})
    references = drift_references({"fold-0": HeadRows(table, rows.labels, rows.roles)}, 0)
    assert list(references["fold-0"].views) == ["a"]
    watch = DriftWatch(references)
    watch.expect(100)
    watch.add({"fold-0": table})
    assert watch.reports()["fold-0"].studies == 100


def test_of_a_long_table_every_so_manieth_study_is_measured(monkeypatch):
    monkeypatch.setattr(drift, "ROWS", 100)
    monkeypatch.setattr(drift, "PART_ROWS", 100)
    references = drift_references({f: rows_of_two_views(400) for f in ("fold-0", "fold-1")}, 0)
    assert {r.views["a"].rows for r in references.values()} == {100}
    watch = DriftWatch(references)
    table = rows_of_two_views(500, seed=1).table
    for _ in range(2):  # two parts of a table
        watch.expect(len(table))
        for rows in np.array_split(np.arange(500), 3):
            some = table.select(rows)
            watch.add({"fold-0": some, "fold-1": some})
    assert [r.studies for r in watch.reports().values()] == [200, 200]
