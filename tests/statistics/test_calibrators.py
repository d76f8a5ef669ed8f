from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression

from mvp.errors import ConfigError, DataError
from mvp.statistics import auroc
from mvp.statistics.calibration import calibrator_from_json, fit_calibrator
from mvp.statistics.calibrators import Isotonic, OneVersusRest, Platt, Temperature, Uncalibrated
from mvp.statistics.scores import expected_calibration_error, log_loss

KINDS = ["temperature", "platt", "isotonic"]


def sure(seed: int, rows: int = 4000, times: float = 3.0, shift: float = 0.0):
    """Labels, and probabilities whose log odds are too large by a factor."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-0.5, 1.5, rows)
    return (rng.random(rows) < expit(odds)).astype(float), expit(times * odds + shift)


def sure_classes(seed: int, rows: int = 4000):
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 1.2, (rows, 4))
    true = (softmax(odds, axis=1).cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    return true.astype(float), softmax(3 * odds, axis=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_too_sure_probabilities_are_mended_on_rows_not_learnt_from(kind, seed) -> None:
    made = fit_calibrator(kind, *sure(seed)[::-1])
    y, p = sure(seed + 100, 12_000)
    before, after = (expected_calibration_error(y, q) for q in (p, made.apply(p)))
    assert before > 0.1
    assert after < 0.03
    assert log_loss(y, made.apply(p)) < log_loss(y, p)
    assert made.reason is None


@pytest.mark.parametrize("kind", KINDS)
def test_too_sure_classes_are_mended_on_rows_not_learnt_from(kind) -> None:
    y, p = sure_classes(0)
    made = fit_calibrator(kind, p, y)
    y, p = sure_classes(1)
    corrected = made.apply(p)
    np.testing.assert_allclose(corrected.sum(axis=1), 1)
    assert expected_calibration_error(y, p) > 0.1
    assert expected_calibration_error(y, corrected) < 0.03
    if kind == "temperature":
        np.testing.assert_array_equal(corrected.argmax(axis=1), p.argmax(axis=1))
        assert made.temperature == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("kind", ["temperature", "platt"])
@pytest.mark.parametrize("times", [0.5, 3.0])
def test_the_ranking_is_kept_exactly(kind, times) -> None:
    y, p = sure(0, times=times)
    made = fit_calibrator(kind, p, y)
    other, q = sure(1, times=times)
    assert auroc(other, made.apply(q)) == auroc(other, q)
    ordered = np.unique(np.clip(q, 1e-6, 1 - 1e-6))
    assert (np.diff(made.apply(ordered)) > 0).all()


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.integers(0, 4))
def test_isotonic_keeps_the_ranking_up_to_ties(points, seed) -> None:
    made = fit_calibrator("isotonic", *sure(seed, rows=60)[::-1])
    assert (np.diff(made.apply(np.sort(points))) >= 0).all()
    assert 1 / 62 <= made.apply(points).min() <= made.apply(points).max() <= 61 / 62


def test_temperature_is_found() -> None:
    y, p = sure(3, rows=40_000, times=2.5)
    assert fit_calibrator("temperature", p, y).temperature == pytest.approx(2.5, rel=0.05)


def test_temperature_is_the_same_for_one_column_and_for_two() -> None:
    y, p = sure(2, rows=500)
    p = np.clip(p, 1e-6, 1 - 1e-6)
    both = np.stack([1 - p, p], axis=1)
    one, two = fit_calibrator("temperature", p, y), fit_calibrator("temperature", both, y)
    assert one.temperature == pytest.approx(two.temperature, rel=1e-3)
    np.testing.assert_allclose(one.apply(p), one.apply(both)[:, 1])


class Odds(ClassifierMixin, BaseEstimator):
    """Gives its only column as decision function, for scikit-learn to calibrate."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        self.is_fitted_ = True
        return self

    def decision_function(self, x):
        return x[:, 0]

    def predict(self, x):
        return self.classes_[(x[:, 0] > 0).astype(int)]


@pytest.mark.filterwarnings("ignore:Since FrozenEstimator")
def test_platt_is_that_of_scikit_learn() -> None:
    y, p = sure(4, rows=300, shift=1.0)
    weights = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    odds = logit(np.clip(p, 2**-25, 1 - 2**-25))[:, None]
    theirs = CalibratedClassifierCV(FrozenEstimator(Odds().fit(odds, y)), method="sigmoid")
    ours = fit_calibrator("platt", p, y).apply(p)
    np.testing.assert_allclose(ours, theirs.fit(odds, y).predict_proba(odds)[:, 1], atol=2e-4)
    # Weights that add up to the rows: the targets are drawn in by as many as there are.
    weights *= len(y) / weights.sum()
    theirs.fit(odds, y, sample_weight=weights)
    ours = fit_calibrator("platt", p, y, weights).apply(p)
    np.testing.assert_allclose(ours, theirs.predict_proba(odds)[:, 1], atol=2e-4)


def test_isotonic_is_that_of_scikit_learn_but_for_its_ends() -> None:
    y, p = sure(5, rows=400)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(p, y).predict(p)
    np.testing.assert_allclose(
        fit_calibrator("isotonic", p, y).apply(p), np.clip(theirs, 1 / 402, 401 / 402), atol=1e-9
    )


@pytest.mark.parametrize("kind", KINDS)
def test_weights_stand_for_repeated_rows(kind) -> None:
    y, p = sure(6, rows=200)
    times = np.random.default_rng(0).integers(0, 4, len(y))
    weighed = fit_calibrator(kind, p, y, times)
    repeated = fit_calibrator(kind, p.repeat(times), y.repeat(times))
    apart = np.abs(weighed.apply(p) - repeated.apply(p)).max()
    # Only what depends on the number of rows (targets, ends) may differ.
    assert apart < (1e-5 if kind == "temperature" else 0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_proportions_of_weights_matter(kind) -> None:
    y, p = sure(6, rows=60)
    weights = np.random.default_rng(0).random(60)
    one, other = (fit_calibrator(kind, p, y, w).apply(p) for w in (weights, 0.01 * weights))
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_rows_and_rows_not_spoken_of_are_left_out(kind) -> None:
    y, p = sure(7, rows=300)
    made = fit_calibrator(kind, np.r_[p, 0.5, np.nan], np.r_[y, np.nan, 1])
    assert made == fit_calibrator(kind, p, y)
    applied = made.apply(np.array([0.2, np.nan]))
    np.testing.assert_array_equal(np.isnan(applied), [False, True])


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_class_is_refused_with_a_reason(kind) -> None:
    for y, p in (([1, 1, np.nan], [0.4, 0.5, 0.6]), ([0, 1, 1], [[0.2, 0.3, 0.5]] * 3)):
        made = fit_calibrator(kind, p, y)
        assert isinstance(made, Uncalibrated)
        assert "are missing" in made.reason
        np.testing.assert_array_equal(made.apply(p), p)
        assert calibrator_from_json(made.to_json()) == made
    # A class whose rows weigh nothing is missing as well.
    assert fit_calibrator(kind, [0.1, 0.9], [0, 1], [1, 0]).reason


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_probabilities_that_fall_with_the_labels_are_not_turned_round(kind) -> None:
    y, p = sure(8, rows=300)
    made = fit_calibrator(kind, 1 - p, y)
    assert "do not rise" in made.reason
    columns = np.stack([1 - p, p, p], axis=1) / (1 + p)[:, None]
    assert (
        "class number"
        in fit_calibrator(kind, columns, np.where(y == 1, 0, np.arange(300) % 2 + 1)).reason
    )


@pytest.mark.parametrize("kind", KINDS)
def test_perfectly_ranked_rows_make_no_endless_numbers_and_no_noise(kind) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = fit_calibrator(kind, [0.0, 0.1, 0.9, 1.0], [0, 0, 1, 1])
        assert np.isfinite(made.apply([0.0, 0.5, 1.0])).all()
        made.apply(np.empty(0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [False, True])
def test_calibrators_are_written_and_read(kind, classes) -> None:
    y, p = sure_classes(2, 300) if classes else sure(9, 300)
    made = fit_calibrator(kind, p, y)
    read = calibrator_from_json(json.loads(json.dumps(made.to_json())))
    assert read == made
    np.testing.assert_array_equal(read.apply(p), made.apply(p))


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"kind": "other"},
        {"kind": "temperature"},
        {"kind": "temperature", "temperature": 0},
        {"kind": "temperature", "temperature": "1"},
        {"kind": "platt", "slope": -1, "intercept": 0},
        {"kind": "platt", "slope": 1, "intercept": float("inf")},
        {"kind": "isotonic", "knots": [0, 1], "values": [1]},
        {"kind": "isotonic", "knots": [0, 1], "values": [1, 0]},
        {"kind": "isotonic", "knots": [], "values": []},
        {"kind": "one-versus-rest", "members": [{"kind": "platt"}]},
    ],
)
def test_a_damaged_calibration_is_refused(value) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        calibrator_from_json(value)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ConfigError, match="temperature, platt, isotonic"):
        fit_calibrator("beta", [0.1, 0.2], [0, 1])
    with pytest.raises(DataError, match="scores"):
        fit_calibrator("platt", [-3.0, 2.0], [0, 1])
    for weights in ([1.0], [1, -1], [1, np.nan]):
        with pytest.raises(DataError, match="weights"):
            fit_calibrator("platt", [0.1, 0.2], [0, 1], weights)
    members = (Platt(1.0, 0.0), Isotonic((0.0, 1.0), (0.1, 0.9)))
    with pytest.raises(DataError, match="expected"):
        OneVersusRest(members).apply(np.full((2, 3), 1 / 3))


def test_a_temperature_of_one_changes_nothing() -> None:
    p = np.random.default_rng(0).random(50)
    np.testing.assert_allclose(Temperature(1.0).apply(p), p)
