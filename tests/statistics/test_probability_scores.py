from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sk_log_loss

from mvp.errors import DataError
from mvp.statistics.scores import (
    brier,
    expected_calibration_error,
    log_loss,
    log_losses,
    squared_errors,
)

ROWS = st.lists(st.tuples(st.integers(0, 1), st.floats(0.001, 0.999)), min_size=1, max_size=60)


@given(ROWS)
def test_binary_scores_are_those_of_scikit_learn(rows) -> None:
    y, p = np.array(rows).T
    assert brier(y, p) == pytest.approx(brier_score_loss(y, p, labels=[0, 1]))
    assert log_loss(y, p) == pytest.approx(sk_log_loss(y, p, labels=[0, 1]))
    error = expected_calibration_error(y, p)
    assert 0 <= error <= 1
    assert abs(p.mean() - y.mean()) <= error + 1e-12


def test_scores_of_several_classes_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 4, 80), rng.dirichlet(np.ones(4), 80)
    classes = [0, 1, 2, 3]
    expected = brier_score_loss(y, p, labels=classes, scale_by_half=False)
    assert brier(y, p) == pytest.approx(expected)
    assert log_loss(y, p) == pytest.approx(sk_log_loss(y, p, labels=classes))


def test_two_classes_as_columns_have_twice_the_brier_score_and_the_same_loss() -> None:
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, 2, 50), rng.random(50)
    both = np.stack([1 - p, p], axis=1)
    assert brier(y, both) == pytest.approx(2 * brier(y, p))
    assert log_loss(y, both) == pytest.approx(log_loss(y, p))


def test_calibration_error_of_known_rates() -> None:
    # Half of the rows say .2 and half .9; three of ten and six of ten come true.
    p = np.repeat([0.2, 0.9], 10)
    y = np.r_[np.repeat([1, 0], [3, 7]), np.repeat([1, 0], [6, 4])]
    assert expected_calibration_error(y, p) == pytest.approx((0.1 + 0.3) / 2)
    assert expected_calibration_error(y, p, bins=1) == pytest.approx(0.55 - 0.45)


def test_calibration_error_vanishes_for_probabilities_that_are_true() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(40_000)
    assert expected_calibration_error(rng.random(40_000) < p, p) < 0.012
    classes = rng.dirichlet(np.ones(3), 40_000)
    y = (classes.cumsum(axis=1) < rng.random((40_000, 1))).sum(axis=1)
    assert expected_calibration_error(y, classes) < 0.012
    assert expected_calibration_error(y, classes[:, [1, 2, 0]]) > 0.1


def test_unknown_rows_are_left_out_and_marked() -> None:
    y, p = np.array([1, np.nan, 0, 1]), np.array([0.5, 0.9, np.nan, 0.25])
    np.testing.assert_allclose(squared_errors(y, p), [0.25, np.nan, np.nan, 0.5625])
    np.testing.assert_allclose(log_losses(y, p), [np.log(2), np.nan, np.nan, np.log(4)])
    assert brier(y, p) == pytest.approx(0.40625)
    many = np.array([[0.5, 0.5], [np.nan, np.nan], [0.9, 0.1]])
    np.testing.assert_allclose(squared_errors([1, 0, np.nan], many), [0.5, np.nan, np.nan])


def test_nothing_known_is_undefined_and_one_class_is_not() -> None:
    for score in (brier, log_loss, expected_calibration_error):
        assert score([np.nan, 1], [0.5, np.nan]) is None
        assert score([1, 1], [0.8, 0.8]) is not None


def test_a_sure_and_wrong_row_costs_no_infinity() -> None:
    assert log_loss([1], [0.0]) == pytest.approx(25 * np.log(2))


@pytest.mark.parametrize(
    ("y", "p", "said"),
    [
        ([0, 1], [0.1, 3.0], "scores, not probabilities"),
        ([0, 1], [-0.5, 0.3], "scores, not probabilities"),
        ([0, 2], [0.1, 0.2], "2 classes"),
        ([0, 3], [[0.1, 0.4, 0.5]] * 2, "3 classes"),
        ([0], [0.1, 0.2], "shapes"),
        ([0.5, 1], [0.1, 0.2], "2 classes"),
    ],
)
def test_what_is_no_probability_is_refused(y, p, said) -> None:
    for score in (brier, log_loss, expected_calibration_error):
        with pytest.raises(DataError, match=said):
            score(y, p)


def test_bins_are_one_at_least() -> None:
    with pytest.raises(DataError, match="0 bins"):
        expected_calibration_error([0, 1], [0.1, 0.2], bins=0)
