"""Evaluation: side by side, honestly compared, and "undefined" where it is."""

import numpy as np
import pytest

from mvp.config import EvaluateConfig
from mvp.errors import DataError
from mvp.features import table_from_arrays
from mvp.learners.comparison import nan_mean
from mvp.learners.ensemble import HeadRows
from mvp.stages.evaluate import evaluate
from mvp.stages.fit_head import fit_head
from mvp.types import Labels, Target


def studies(n=400, seed=0):
    """Two views that each hold half of what decides `both`; `left` shows on the first only."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, n, 6)).astype(np.float32)
    both = (a[:, 0] + b[:, 0] > 0).astype(np.float32)
    left = (a[:, 1] > 0).astype(np.float32)
    a[rng.random(n) < 0.1] = np.nan
    b[(rng.random(n) < 0.1) & ~np.isnan(a[:, 0])] = np.nan
    both[rng.random(n) < 0.1] = np.nan
    ids = [f"S{i}" for i in range(n)]
    table = table_from_arrays(ids, {"a": a, "b": b}, groups=[f"P{i // 2}" for i in range(n)])
    labels = Labels((Target("both"), Target("left")), np.stack([both, left], axis=1))
    part = np.arange(n) // 2 % 4
    return table, labels, part


@pytest.fixture(scope="module")
def measured():
    table, labels, part = studies()
    train, inner, test = part < 2, part == 2, part == 3
    rows = {"all": HeadRows(table, labels, {"train": train, "inner": inner, "test": test})}
    heads = fit_head("logistic", {}, rows, seed=0, progress=False).ensemble
    result = evaluate(heads, rows, settings=EvaluateConfig(draws=200), seed=0)
    return table, labels, test, heads, result


def measure(heads, table, labels, *, test, inner, draws=100):
    rows = {"all": HeadRows(table, labels, {"inner": inner, "test": test})}
    return evaluate(heads, rows, settings=EvaluateConfig(draws=draws), seed=0)


def row(result, model, label):
    return next(r for r in result.metrics if r.model == model and r.label == label)


def test_every_model_is_measured_on_the_studies_it_can_score(measured):
    table, labels, test, _, result = measured
    known = labels.known[:, 0]
    for column, view in enumerate(table.views):
        here = test & known & table.presence[:, column]
        assert row(result, view, "both").n == here.sum()
        assert row(result, view, "both").positives == labels.values[here, 0].sum()
    for model in ("mean", "fusion"):
        assert row(result, model, "both").n == (test & known).sum()


def test_fusion_beats_single_views_where_both_count(measured):
    *_, result = measured
    for view in ("a", "b"):
        assert row(result, "fusion", "both").auroc > row(result, view, "both").auroc + 0.05
    gain = next(d for d in result.differences if d.label == "both" and d.other != "mean")
    assert gain.chosen_on == "validation"
    assert gain.low > 0
    best = next(d for d in result.differences if d.label == "left" and d.other != "mean")
    assert best.other == "a"


def test_the_mean_of_opinions_is_over_the_views_that_are_there(measured):
    table, _, test, _, result = measured
    mean, a, b = (result.curves[m] for m in ("mean", "a", "b"))
    presence = table.presence[test]
    only_a = presence[:, 0] & ~presence[:, 1]
    assert only_a.any()
    np.testing.assert_array_equal(mean[only_a], a[only_a])
    both = presence.all(axis=1)
    np.testing.assert_allclose(mean[both], (a[both] + b[both]) / 2, rtol=1e-6)
    assert np.isnan(b[only_a]).all()


def test_a_label_with_one_class_in_the_test_is_undefined_not_half(measured):
    table, labels, test, heads, _ = measured
    values = labels.values.copy()
    values[test, 1] = 1
    changed = Labels(labels.targets, values)
    result = measure(heads, table, changed, test=test, inner=~test)
    for model in heads.models:
        r = row(result, model, "left")
        assert r.auroc is None
        assert r.auprc is None
        assert r.negatives == 0
        assert r.positives == r.n > 0


def test_resamples_are_of_patients(measured):
    """Every study twice under one patient tells no more than once."""
    table, labels, test, heads, _ = measured
    rows = np.flatnonzero(test)
    ones = table.select(rows)
    twice = np.concatenate([rows, rows])
    double = table_from_arrays(
        [f"{i}-{k}" for k, i in enumerate(twice)],
        {v: table.block(v)[twice] for v in table.views},
        groups=[str(table.groups[i]) for i in twice],
        keys=dict(table.keys),
    )
    every = np.ones(len(rows), bool)
    a = measure(heads, ones, labels.select(rows), test=every, inner=every, draws=400)
    both = np.ones(len(twice), bool)
    b = measure(heads, double, labels.select(twice), test=both, inner=both, draws=400)
    one, two = row(a, "fusion", "both"), row(b, "fusion", "both")
    assert one.auroc == pytest.approx(two.auroc)
    assert one.high - one.low == pytest.approx(two.high - two.low, abs=0.01)


def test_no_test_study_is_an_error_with_a_remedy(measured):
    table, labels, test, heads, _ = measured
    with pytest.raises(DataError, match="no test study"):
        measure(heads, table, labels, test=~test & test, inner=test)


def test_nan_mean():
    a = np.array([[1, np.nan], [np.nan, np.nan]], np.float32)
    b = np.array([[0, 0.5], [np.nan, 1]], np.float32)
    np.testing.assert_array_equal(nan_mean([a, b]), np.array([[0.5, 0.5], [np.nan, 1]], np.float32))
