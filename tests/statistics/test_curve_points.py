from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import calibration as sk_calibration
from sklearn import metrics as sk

from mvp.errors import DataError
from mvp.statistics.curves import (
    binary_confusion,
    calibration_curve,
    confusion_matrix,
    precision_recall_curve,
    roc_curve,
)

ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=40)


def made(seed: int, rows: int = 200):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows).astype(float)
    return y, np.round(rng.random(rows) * 0.6 + 0.3 * y, 2)


@given(ROWS)
def test_curves_are_those_of_scikit_learn(rows) -> None:
    y, p = np.array(rows).T
    roc, recall = roc_curve(y, p / 6), precision_recall_curve(y, p / 6)
    if len(set(y)) < 2:
        assert roc is None
        assert recall is None
        return
    fpr, tpr, threshold = sk.roc_curve(y, p / 6, drop_intermediate=False)
    np.testing.assert_allclose(roc.false_positive_rate, fpr)
    np.testing.assert_allclose(roc.sensitivity, tpr)
    np.testing.assert_allclose(roc.threshold, threshold)
    precisions, recalls, _ = sk.precision_recall_curve(y, p / 6)
    np.testing.assert_allclose(recall.precision, precisions[::-1])
    np.testing.assert_allclose(recall.recall, recalls[::-1])
    assert recall.prevalence == pytest.approx(y.mean())


def test_rows_unknown_or_not_spoken_of_are_left_out() -> None:
    y, p = np.array([0, 1, np.nan, 1, 0]), np.array([0.1, 0.8, 0.9, np.nan, 0.4])
    curve = roc_curve(y, p)
    assert (curve.positives, curve.negatives) == (1, 2)
    assert binary_confusion(y, p, 0.5).n == 3
    assert calibration_curve(y, p).count.sum() == 3


def test_a_row_at_the_threshold_is_positive() -> None:
    counted = binary_confusion([0, 1, 1, 0], [0.5, 0.5, 0.4, 0.1], 0.5)
    np.testing.assert_array_equal(counted.matrix(), [[1, 1], [1, 1]])


@pytest.mark.parametrize("seed", range(3))
def test_shares_of_a_confusion_are_those_of_scikit_learn(seed) -> None:
    y, p = made(seed)
    counted, called = binary_confusion(y, p, 0.5), p >= 0.5
    np.testing.assert_array_equal(counted.matrix(), sk.confusion_matrix(y, called))
    assert counted.sensitivity == pytest.approx(sk.recall_score(y, called))
    assert counted.specificity == pytest.approx(sk.recall_score(1 - y, ~called))
    assert counted.ppv == pytest.approx(sk.precision_score(y, called))
    assert counted.npv == pytest.approx(sk.precision_score(1 - y, ~called))
    assert counted.accuracy == pytest.approx(sk.accuracy_score(y, called))
    assert counted.f1 == pytest.approx(sk.f1_score(y, called))
    written = json.loads(json.dumps(counted.to_json()))
    assert (written["n"], written["f1"]) == (200, counted.f1)


def test_shares_of_nothing_are_undefined() -> None:
    counted = binary_confusion([0, 0], [0.1, 0.2], 0.5)
    assert (counted.sensitivity, counted.ppv, counted.f1) == (None, None, None)
    assert (counted.specificity, counted.npv, counted.accuracy) == (1, 1, 1)
    assert binary_confusion([np.nan], [0.1], 0.5).accuracy is None


def test_confusion_of_several_classes_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, 90).astype(float), rng.dirichlet(np.ones(4), 90)
    y[::9] = np.nan
    p[4] = np.nan
    kept = ~np.isnan(y) & ~np.isnan(p[:, 0])
    np.testing.assert_array_equal(
        confusion_matrix(y, p),
        sk.confusion_matrix(y[kept], p[kept].argmax(axis=1), labels=range(4)),
    )


@pytest.mark.parametrize("bins", [1, 5, 10])
def test_calibration_curve_is_that_of_scikit_learn(bins) -> None:
    y, p = made(1)
    curve = calibration_curve(y, p, bins=bins)
    observed, said = sk_calibration.calibration_curve(y, p, n_bins=bins, strategy="quantile")
    np.testing.assert_allclose(curve.observed, observed)
    np.testing.assert_allclose(curve.predicted, said)
    assert curve.count.sum() == len(y)


def test_rows_of_equal_probability_share_a_bin() -> None:
    curve = calibration_curve(np.tile([0, 0, 1], 30), np.full(90, 0.25), bins=10)
    np.testing.assert_array_equal(curve.count, [90])
    assert curve.observed[0] == pytest.approx(1 / 3)


def test_calibration_of_several_classes_is_that_of_the_most_probable() -> None:
    p = np.array([[0.6, 0.4, 0.0], [0.6, 0.2, 0.2], [0.1, 0.1, 0.8]])
    curve = calibration_curve([0, 1, 2], p, bins=2)
    np.testing.assert_allclose(curve.predicted, [0.6, 0.8])
    np.testing.assert_allclose(curve.observed, [0.5, 1])


def test_nothing_known_has_no_curve() -> None:
    assert calibration_curve([np.nan], [0.2]) is None
    assert roc_curve([], []) is None


@pytest.mark.parametrize(
    ("y", "p"),
    [([0, 2], [0.1, 0.2]), ([0, 1], [0.1]), ([0, 1], [0.1, np.inf]), ([[0]], [[0.1]])],
)
def test_wrong_rows_are_refused(y, p) -> None:
    for curve in (roc_curve, precision_recall_curve, calibration_curve):
        with pytest.raises(DataError):
            curve(y, p)
    with pytest.raises(DataError):
        binary_confusion(y, p, 0.5)


def test_a_confusion_of_classes_needs_columns() -> None:
    with pytest.raises(DataError, match="expected"):
        confusion_matrix([0, 1], [0.1, 0.2])
