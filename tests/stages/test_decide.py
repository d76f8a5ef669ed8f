"""What is decided by fitted heads: on whose rows, how well it holds, and where nothing can be."""

import json

import numpy as np
import pandas as pd
import pytest

from mvp.config import EvaluateConfig, HeadConfig
from mvp.errors import ConfigError, DataError
from mvp.features import table_from_arrays
from mvp.learners.ensemble import Ensemble, HeadRows
from mvp.stages._decisions import Decisions, LabelDecision, joined
from mvp.stages.decide import decide
from mvp.stages.evaluate import evaluate
from mvp.stages.fit_head import fit_head
from mvp.stages.score import Scores, table_writer
from mvp.statistics.thresholds import choose_threshold
from mvp.types import EVERY_PATTERN, Labels, Target
from tests.stages.made_decisions import SURE, TARGETS, fitted, made_rows, with_labels


def names(every, holds, by="+"):
    """Those that hold, joined."""
    return by.join(name for name, one in zip(every, holds, strict=True) if one)


def errors(ensemble, rows, decisions):
    """ECE on test by label and kind of calibration."""
    result = evaluate(
        ensemble, rows, settings=EvaluateConfig(draws=100), seed=0, decisions=decisions
    )
    return {
        (row.label, row.calibration): row.ece.estimate
        for row in result.judged.calibration
        if row.pattern == EVERY_PATTERN
    }


@pytest.mark.parametrize(
    ("setting", "binary", "several"),
    [
        ("auto", "platt", "temperature"),
        ("platt", "platt", "platt"),
        ("isotonic", "isotonic", "isotonic"),
        ("temperature", "temperature", "temperature"),
    ],
)
def test_calibrated_probabilities_are_nearer_to_the_truth_on_test(setting, binary, several):
    rows = made_rows(3000)
    ensemble, decisions = fitted(rows, calibration=setting)
    found = errors(ensemble, rows, decisions)
    assert found["finding", binary] < 0.5 * found["finding", "none"]
    assert found["kind", several] < 0.5 * found["kind", "none"]


def test_sets_hold_the_true_class_as_often_as_promised_for_every_class():
    shares = {}
    for seed in range(3):
        rows = made_rows(8000, seed)
        ensemble, decisions = fitted(rows, conformal=0.1)
        settings = EvaluateConfig(draws=100)
        result = evaluate(ensemble, rows, settings=settings, seed=0, decisions=decisions)
        for row in result.judged.sets:
            shares.setdefault((row.label, row.pattern, row.true_class), []).append(
                row.coverage.estimate
            )
    assert {pattern for _, pattern, _ in shares} == {EVERY_PATTERN, "frontal", "frontal+lateral"}
    for name, values in shares.items():
        assert np.mean(values) == pytest.approx(0.9, abs=0.03), name


def test_without_a_slice_probabilities_stay_as_they_are_and_thresholds_are_chosen():
    rows = made_rows(600)
    one = rows["all"]
    roles = {role: mask for role, mask in one.roles.items() if role != "calibration"}
    ensemble, decisions = fitted({"all": HeadRows(one.table, one.labels, roles)})
    assert not any(label.corrects for label in decisions.labels)
    assert decisions.notes() == []
    raw = ensemble.ask(rows, "test").predicted["fusion"]
    np.testing.assert_array_equal(decisions.calibrated(raw), raw)
    assert decisions.columns == ("finding_call", "kind_call")


@pytest.mark.parametrize("setting", [{"calibration": "platt"}, {"conformal": 0.1}])
def test_what_needs_a_slice_is_refused_without_one(setting):
    rows = made_rows(600)
    one = rows["all"]
    none = {**one.roles, "calibration": np.zeros(len(one.table), bool)}
    ensemble, _ = fitted(rows)
    bare = {"all": HeadRows(one.table, one.labels, none)}
    with pytest.raises(ConfigError, match=r"split.calibration = 0.1"):
        decide(ensemble, bare, HeadConfig(**setting))


def test_calibration_and_sets_learn_from_their_slice_and_thresholds_from_validation():
    rows = made_rows(900)
    ensemble, before = fitted(rows, conformal=0.1)
    one = rows["all"]

    def changed(role):
        values = one.labels.values.copy()
        values[one.roles[role], 0] = 1 - values[one.roles[role], 0]
        return decide(ensemble, with_labels(rows, values), HeadConfig(conformal=0.1)).labels[0]

    first = before.labels[0]
    for idle in ("train", "test"):
        assert changed(idle) == first
    inner, kept = changed("inner"), changed("calibration")
    assert (inner.calibrator, inner.sets) == (first.calibrator, first.sets)
    assert inner.threshold != first.threshold
    assert kept.sets != first.sets
    assert kept.calibrator.reason == (
        "the probabilities do not rise with the labels on the calibration rows"
    )


@pytest.mark.parametrize(
    ("rule", "at"), [("youden", None), ("sensitivity", 0.9), ("specificity", 0.9)]
)
def test_the_threshold_keeps_its_promise_on_validation_by_calibrated_probabilities(rule, at):
    rows = made_rows(900)
    ensemble, decisions = fitted(rows, threshold=rule, at=at)
    inner = ensemble.ask(rows, "inner")
    said = decisions.calibrated(inner.predicted["fusion"])[:, 0]
    truth = inner.labels.values[:, 0]
    threshold = decisions.labels[0].threshold
    called = said >= np.float32(threshold.value)
    assert threshold.sensitivity == pytest.approx(called[truth == 1].mean())
    assert threshold.specificity == pytest.approx((~called)[truth == 0].mean())
    if at is not None:
        assert getattr(threshold, rule) >= at


def test_a_label_with_one_class_is_decided_as_far_as_it_can_be_and_says_so():
    rows = made_rows(900)
    one = rows["all"]
    ensemble, _ = fitted(rows)
    values = one.labels.values.copy()
    values[one.roles["calibration"] | one.roles["inner"], 0] = 0
    decisions = decide(ensemble, with_labels(rows, values), HeadConfig(conformal=0.1))
    finding, kind = decisions.labels
    assert not finding.corrects
    assert finding.threshold.value is None
    assert kind.corrects
    assert [note.split(":")[0] for note in decisions.notes()] == [
        "finding is not calibrated",
        "finding has no threshold",
        "finding",
    ]
    assert "finding_call" not in decisions.columns
    raw = ensemble.ask(rows, "test").predicted["fusion"]
    cells = decisions.cells(raw, decisions.calibrated(raw), ensemble.ask(rows, "test").presence)
    assert tuple(cells) == decisions.columns
    # Of the class that nobody of the slice has, nothing can be ruled out.
    assert set(cells["finding_set"]) <= {"1", "0|1"}


def test_cells_say_what_the_parts_say():
    rows = made_rows(900)
    ensemble, decisions = fitted(rows, conformal=0.2)
    tested = ensemble.ask(rows, "test")
    raw = tested.predicted["fusion"]
    calibrated = decisions.calibrated(raw)
    cells = decisions.cells(raw, calibrated, tested.presence)
    assert tuple(cells) == decisions.columns
    assert decisions.texts == {"finding_set", "kind_call", "kind_set"}
    np.testing.assert_array_equal(cells["finding_raw"], raw[:, 0])
    np.testing.assert_array_equal(cells["kind=b_raw"], raw[:, 2])
    finding, kind = decisions.labels
    patterns = [names(tested.views, row) for row in tested.presence]
    sets = finding.sets.sets(raw[:, 0], patterns)
    of_kind = kind.sets.sets(raw[:, 1:], patterns)
    for i in range(len(tested)):
        assert cells["finding_call"][i] == (calibrated[i, 0] >= finding.threshold.value)
        assert cells["kind_call"][i] == "abc"[calibrated[i, 1:].argmax()]
        assert cells["finding_set"][i] == names("01", sets[i], "|")
        assert cells["kind_set"][i] == names("abc", of_kind[i], "|")
    np.testing.assert_allclose(calibrated[:, 1:].sum(axis=1), 1, rtol=1e-5)


def test_a_call_is_the_one_that_was_counted_when_the_threshold_was_chosen():
    below = np.float32(0.5)
    scores = np.array([0.1, below, np.nextafter(below, np.float32(1)), 0.9], np.float32)[:, None]
    threshold = choose_threshold([0, 0, 1, 1], scores[:, 0])
    decisions = Decisions(("a",), (LabelDecision(Target("x"), threshold=threshold),))
    cells = decisions.cells(scores, scores, np.ones((4, 1), bool))
    assert cells["x_call"].tolist() == threshold.apply(scores[:, 0]).tolist() == [0, 0, 1, 1]


def test_nothing_is_decided_of_a_study_of_which_nothing_is_said():
    _, decisions = fitted(made_rows(600))
    raw = np.full((1, 4), np.nan, np.float32)
    with pytest.raises(DataError, match="nothing can be decided"):
        decisions.cells(raw, decisions.calibrated(raw), np.zeros((1, 2), bool))


def test_decisions_are_the_same_after_they_were_written_down():
    _, decisions = fitted(made_rows(600), calibration="isotonic", conformal=0.1)
    again = Decisions.from_json(json.loads(json.dumps(decisions.to_json())))
    assert again == decisions
    assert again.digest == decisions.digest
    with pytest.raises(DataError, match="cannot be read"):
        Decisions.from_json({"labels": []})


def test_of_a_cross_fitted_head_each_fold_answers_for_its_own_validation_studies():
    rows = made_rows(1200, targets=TARGETS[:1])
    one = rows["all"]
    half = np.arange(len(one.table)) // 2 % 2 == 0
    learnt = {"train", "inner"}
    folds = {
        name: HeadRows(
            one.table,
            one.labels,
            {role: mask & own if role in learnt else mask for role, mask in one.roles.items()},
        )
        for name, own in (("fold-0", half), ("fold-1", ~half))
    }
    ensemble, decisions = fitted(folds)
    alone = Ensemble({"all": ensemble.members["fold-0"]})
    inner, kept = (ensemble.ask(folds, role) for role in ("inner", "calibration"))
    # Only calibration studies are asked of all, as those are whom the threshold is for.
    assert decisions.labels[0].threshold.positives == kept.labels.values[:, 0].sum()
    nobody = {"calibration": np.zeros(len(one.table), bool)}
    without = {f: HeadRows(o.table, o.labels, {**o.roles, **nobody}) for f, o in folds.items()}
    decided = decide(ensemble, without, HeadConfig())
    assert decided.labels[0].threshold.positives == inner.labels.values[:, 0].sum()
    mine = folds["fold-0"].mask("inner").sum()
    np.testing.assert_array_equal(
        inner.predicted["fusion"][:mine],
        alone.ask({"all": folds["fold-0"]}, "inner").predicted["fusion"],
    )


def test_the_threshold_of_a_cross_fitted_head_keeps_its_promise_on_the_mean_of_its_members():
    """Small folds make sure members, whose mean is much less sure than each of them."""
    rng = np.random.default_rng(0)
    at, fitted_on, kept_until = np.arange(4600), 600, 1600
    finding = rng.random(len(at)) < 0.3
    views = rng.standard_normal((len(at), 20))
    views[:, :3] += 0.8 * finding[:, None]
    labels = Labels(TARGETS[:1], finding.astype(np.float32)[:, None])
    table = table_from_arrays([f"S{i}" for i in at], {"a": views.astype(np.float32)})
    rest = {"calibration": (at >= fitted_on) & (at < kept_until), "test": at >= kept_until}
    rows = {}
    for fold in range(5):
        mine = (at < fitted_on) & (at % 5 == fold)
        roles = {"train": mine & (at % 2 == 0), "inner": mine & (at % 2 == 1), **rest}
        rows[f"fold-{fold}"] = HeadRows(table, labels, roles)
    ensemble = fit_head("logistic", {"C": 1.0}, rows, seed=0, progress=False).ensemble
    tested = ensemble.ask(rows, "test")
    for rule, known in (("sensitivity", 1), ("specificity", 0)):
        label = decide(ensemble, rows, HeadConfig(threshold=rule, at=0.9)).labels[0]
        called = label.threshold.apply(label.calibrated(tested.predicted["fusion"])[:, 0])
        own = tested.labels.values[:, 0] == known
        assert (called[own] == known).mean() == pytest.approx(0.9, abs=0.04)


def test_joined_names_count_every_row():
    rng = np.random.default_rng(0)
    for width in (1, 3, 20):
        mask = rng.random((500, width)) < 0.3
        every = [f"v{i}" for i in range(width)]
        texts, which = joined(mask, every, "+")
        assert len(set(texts)) == len(texts)
        assert [texts[i] for i in which] == [names(every, row) for row in mask]
    assert joined(np.zeros((0, 2), bool), ["a", "b"], "+")[0] == []


def test_the_learner_of_these_tests_is_too_sure():
    rows = made_rows(1200)
    ensemble, decisions = fitted(rows, SURE, calibration="none")
    assert all(error > 0.08 for error in errors(ensemble, rows, decisions).values())


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_names_of_classes_are_written_as_texts_that_no_spreadsheet_runs(tmp_path, suffix):
    odd = Target("kind", ("=1+1", "b", "c"))
    rows = made_rows(600, targets=TARGETS[1:])
    one = rows["all"]
    rows = {"all": HeadRows(one.table, Labels((odd,), one.labels.values), one.roles)}
    ensemble, decisions = fitted(rows, conformal=0.1)
    tested = ensemble.ask(rows, "test")
    raw = tested.predicted["fusion"]
    said = decisions.calibrated(raw)
    cells = decisions.cells(raw, said, tested.presence)
    path = tmp_path / f"s{suffix}"
    with table_writer(path, decisions) as writer:
        writer.write(Scores(tested.studies, said, tested.presence, "h", cells))
    if suffix == ".csv":
        table = pd.read_csv(path, keep_default_na=False)
        assert set(table["kind_call"]) == {"'=1+1", "b", "c"}
        assert set(table.columns) >= {"kind==1+1", "kind==1+1_raw", "kind_call", "kind_set"}
    else:
        table = pd.read_parquet(path)
        assert set(table["kind_call"]) == {"=1+1", "b", "c"}
    assert len(table) == len(tested)
    assert table["kind=b_raw"].to_numpy(np.float32) == pytest.approx(raw[:, 1])
