"""Evaluation by pattern of present views: what is measured, on whom, and what is undefined."""

import numpy as np
import pytest

from mvp.config import EvaluateConfig
from mvp.features import table_from_arrays
from mvp.learners.ensemble import HeadRows
from mvp.stages.evaluate import evaluate
from mvp.statistics import PatientBootstrap, auroc
from mvp.statistics.scores import brier, expected_calibration_error, log_loss
from mvp.types import EVERY_CLASS, EVERY_PATTERN, Labels
from tests.stages.made_decisions import TARGETS, fitted, made_rows, with_labels

SETTINGS = EvaluateConfig(draws=200)


def measure(ensemble, rows, decisions):
    return evaluate(ensemble, rows, settings=SETTINGS, seed=0, decisions=decisions)


@pytest.fixture(scope="module")
def measured():
    rows = made_rows(1500)
    values = rows["all"].labels.values.copy()
    values[::11, 0] = np.nan
    rows = with_labels(rows, values)
    ensemble, decisions = fitted(rows, conformal=0.1)
    return rows, ensemble, decisions, measure(ensemble, rows, decisions)


def truth_of(measured):
    """(study,) pattern, binary label, what is said of it raw and calibrated, patient; on test."""
    rows, ensemble, decisions, _ = measured
    tested = ensemble.ask(rows, "test")
    pattern = np.where(tested.presence.all(axis=1), "frontal+lateral", "frontal")
    raw = tested.predicted["fusion"]
    return (
        pattern,
        tested.labels.values[:, 0],
        raw[:, 0],
        decisions.calibrated(raw)[:, 0],
        tested.groups,
    )


def masks(pattern):
    return {
        EVERY_PATTERN: np.ones(len(pattern), bool),
        **{p: pattern == p for p in ("frontal", "frontal+lateral")},
    }


def test_the_ranking_of_a_pattern_is_that_of_its_studies(measured):
    pattern, y, p, _, groups = truth_of(measured)
    rows = measured[-1].judged.patterns
    assert {(r.label, r.model) for r in rows} == {
        (label, model)
        for label in ("finding", "kind=a", "kind=b", "kind=c")
        for model in ("mean", "fusion")
    }
    known = ~np.isnan(y)
    for name, mask in masks(pattern).items():
        row = next(r for r in rows if (r.label, r.pattern, r.model) == ("finding", name, "fusion"))
        here = mask & known
        assert row.auroc.estimate == auroc(y[here], p[here])
        assert (row.n, row.positives) == (here.sum(), y[here].sum())
        assert row.patients == len(set(groups[here]))
        assert row.auroc.low < row.auroc.estimate < row.auroc.high
    # The most frequent pattern stands first, after all of them together.
    assert list(dict.fromkeys(r.pattern for r in rows)) == [
        EVERY_PATTERN,
        "frontal+lateral",
        "frontal",
    ]


def test_calibration_is_stated_before_and_after_and_by_pattern(measured):
    pattern, y, raw, calibrated, groups = truth_of(measured)
    rows = [r for r in measured[-1].judged.calibration if r.label == "finding"]
    for kind, said in (("none", raw), ("platt", calibrated)):
        for name, mask in masks(pattern).items():
            row = next(r for r in rows if (r.calibration, r.pattern) == (kind, name))
            here = mask & ~np.isnan(y)
            assert row.brier.estimate == pytest.approx(brier(y[mask], said[mask]))
            assert row.log_loss.estimate == pytest.approx(log_loss(y[mask], said[mask]))
            error = expected_calibration_error(y[mask], said[mask])
            assert row.ece.estimate == pytest.approx(error)
            assert row.n == here.sum()
    one = next(r for r in rows if (r.calibration, r.pattern) == ("platt", EVERY_PATTERN))
    boot = PatientBootstrap(groups, draws=200, seed=0)
    by_hand = boot.interval(y, calibrated, "brier")
    assert (one.brier.low, one.brier.high) == pytest.approx((by_hand.low, by_hand.high))


def test_calls_are_counted_by_pattern_with_intervals(measured):
    pattern, y, _, p, groups = truth_of(measured)
    threshold = measured[2].labels[0].threshold.value
    assert {r.label for r in measured[-1].judged.decisions} == {"finding"}
    boot = PatientBootstrap(groups, draws=200, seed=0)
    for name, mask in masks(pattern).items():
        row = next(r for r in measured[-1].judged.decisions if r.pattern == name)
        called = p >= np.float32(threshold)
        hits = (mask & called & (y == 1)).sum()
        assert row.true_positives == hits
        assert row.false_positives == (mask & called & (y == 0)).sum()
        assert row.false_negatives == (mask & ~called & (y == 1)).sum()
        assert row.true_negatives == (mask & ~called & (y == 0)).sum()
        assert row.n == (mask & ~np.isnan(y)).sum()
        assert row.sensitivity.estimate == pytest.approx(hits / (mask & (y == 1)).sum())
        assert row.ppv.estimate == pytest.approx(hits / (hits + row.false_positives))
        negatives = row.true_negatives + row.false_negatives
        assert row.npv.estimate == pytest.approx(row.true_negatives / negatives)
        assert row.specificity.low < row.specificity.estimate < row.specificity.high
    row = measured[-1].judged.decisions[0]
    by_hand = boot.interval(y, p, "sensitivity", threshold=threshold)
    assert (row.sensitivity.low, row.sensitivity.high) == pytest.approx((by_hand.low, by_hand.high))


def test_sets_are_counted_by_class_and_pattern(measured):
    pattern, y, raw, _, _ = truth_of(measured)
    sets = measured[2].labels[0].sets.sets(raw, pattern)
    rows = [r for r in measured[-1].judged.sets if r.label == "finding"]
    for name, mask in masks(pattern).items():
        for text, own in ((EVERY_CLASS, ~np.isnan(y)), ("0", y == 0), ("1", y == 1)):
            row = next(r for r in rows if (r.pattern, r.true_class) == (name, text))
            here = np.flatnonzero(mask & own)
            held = [sets[i, int(y[i])] for i in here]
            assert row.coverage.estimate == pytest.approx(np.mean(held))
            alone = sets[here].sum(axis=1) == 1
            assert row.abstained.estimate == pytest.approx(1 - alone.mean())
            assert row.empty == (sets[here].sum(axis=1) == 0).sum()
            assert (row.n, row.promised) == (len(here), pytest.approx(0.9))


def test_several_classes_have_their_confusion(measured):
    rows, ensemble, decisions, result = measured
    tested = ensemble.ask(rows, "test")
    said = decisions.calibrated(tested.predicted["fusion"])[:, 1:].argmax(axis=1)
    truth = tested.labels.values[:, 1]
    assert len(result.judged.confusion) == 9
    for row in result.judged.confusion:
        at = (truth == "abc".index(row.true_class)) & (said == "abc".index(row.called))
        assert row.n == at.sum()


def test_no_lateral_on_any_test_study_lowers_nothing_to_an_error():
    rows = made_rows(1500, without_lateral=["test"])
    ensemble, decisions = fitted(rows, conformal=0.1)
    result = measure(ensemble, rows, decisions)
    lateral = [r for r in result.metrics if r.model == "lateral"]
    assert all(r.auroc is None and r.n == 0 for r in lateral)
    assert all(r.auroc > 0.6 for r in result.metrics if r.model in ("frontal", "mean", "fusion"))
    assert {r.pattern for r in result.judged.patterns} == {EVERY_PATTERN, "frontal"}
    best = [d for d in result.differences if d.other == "lateral"]
    assert best
    assert all(d.difference is None and d.n == 0 for d in best)
    for row in result.judged.decisions:
        assert row.sensitivity.estimate > 0.3
    for row in result.judged.sets:
        assert row.coverage.estimate > 0.8


def test_a_pattern_that_calibration_has_not_seen_takes_all_patterns_together():
    rows = made_rows(1500, without_lateral=["calibration", "inner"])
    ensemble, decisions = fitted(rows, conformal=0.1)
    result = measure(ensemble, rows, decisions)
    assert any(r.pattern == "frontal+lateral" and r.n for r in result.judged.sets)


def test_one_class_in_the_test_is_undefined_everywhere_and_nothing_else():
    rows = made_rows(900)
    ensemble, decisions = fitted(rows, conformal=0.1)
    values = rows["all"].labels.values.copy()
    values[rows["all"].roles["test"], 0] = 0
    result = measure(ensemble, with_labels(rows, values), decisions)
    for row in result.judged.decisions:
        assert row.sensitivity.estimate is None
        assert row.sensitivity.low is None
        assert row.specificity.estimate is not None
    ranked = [r for r in result.judged.patterns if r.label == "finding"]
    assert all(r.auroc.estimate is None and r.n > 0 for r in ranked)
    none = [r for r in result.judged.sets if (r.label, r.true_class) == ("finding", "1")]
    assert all(r.coverage.estimate is None and r.n == 0 for r in none)
    values[rows["all"].roles["test"]] = np.nan
    nothing = measure(ensemble, with_labels(rows, values), decisions)
    for rows_of_kind in nothing.judged.records().values():
        assert all(r["n"] == 0 for r in rows_of_kind)


def test_what_nobody_decided_is_no_row():
    rows = made_rows(600)
    ensemble, _ = fitted(rows)
    result = measure(ensemble, rows, None)
    assert result.judged.decisions == result.judged.sets == []
    assert {r.calibration for r in result.judged.calibration} == {"none"}


def test_every_study_twice_under_one_patient_tells_no_more_than_once():
    rows = made_rows(900, targets=TARGETS[:1])
    one = rows["all"]
    twice = np.flatnonzero(one.roles["test"]).repeat(2)
    table = table_from_arrays(
        [f"{i}" for i in range(len(twice))],
        {view: one.table.block(view)[twice] for view in one.table.views},
        groups=[str(g) for g in one.table.groups[twice]],
        keys=dict(one.table.keys),
    )
    doubled = HeadRows(
        table,
        Labels(TARGETS[:1], one.labels.values[twice]),
        {"test": np.ones(len(twice), bool)},
    )
    ensemble, decisions = fitted(rows)
    single = measure(ensemble, rows, decisions).judged.decisions[0]
    double = measure(ensemble, {"all": doubled}, decisions).judged.decisions[0]
    assert double.n == 2 * single.n
    assert double.patients == single.patients
    for share in ("sensitivity", "specificity", "ppv", "npv"):
        a, b = getattr(single, share), getattr(double, share)
        assert (a.estimate, a.low, a.high) == pytest.approx((b.estimate, b.low, b.high))
