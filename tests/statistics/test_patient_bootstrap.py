from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mvp.errors import ConfigError, DataError
from mvp.statistics import PatientBootstrap, auroc


def cohort(patients: int, studies: int, seed: int, *, strength: float = 1.0):
    """Every patient has the same label and nearly the same score in all studies."""
    rng = np.random.default_rng(seed)
    y = np.repeat(rng.integers(0, 2, patients), studies)
    p = y * strength + np.repeat(rng.normal(size=patients), studies)
    groups = np.repeat([f"p{i}" for i in range(patients)], studies)
    return groups, y, p + rng.normal(size=len(y)) * 0.01


def test_equals_resampling_the_rows_of_drawn_patients_by_hand() -> None:
    groups, y, p = cohort(12, 3, 0)
    boot = PatientBootstrap(groups, draws=50, seed=4)
    values = []
    for times in boot._times_drawn.T:
        rows = np.concatenate(
            [np.flatnonzero(boot._member == m).repeat(t) for m, t in enumerate(times)]
        )
        if 0 < y[rows].sum() < len(rows):
            values.append(roc_auc_score(y[rows], p[rows]))
    result = boot.interval(y, p)
    assert (result.low, result.high) == pytest.approx(np.quantile(values, [0.025, 0.975]))
    assert result.undefined_draws == 50 - len(values)
    assert result.estimate == auroc(y, p)
    assert (boot._times_drawn.sum(axis=0) == 12).all()


def test_repeated_studies_of_a_patient_do_not_narrow_the_interval() -> None:
    groups, y, p = cohort(60, 10, 1)
    by_patient = PatientBootstrap(groups, seed=0).interval(y, p)
    by_row = PatientBootstrap(np.arange(len(y)), seed=0).interval(y, p)
    assert by_patient.high - by_patient.low > 2 * (by_row.high - by_row.low)
    assert (by_patient.patients, by_patient.n) == (60, 600)
    assert by_patient.positives + by_patient.negatives == 600


def test_order_of_the_rows_does_not_matter() -> None:
    groups, y, p = cohort(30, 2, 2)
    order = np.random.default_rng(0).permutation(len(y))
    one = PatientBootstrap(groups, seed=0).interval(y, p)
    two = PatientBootstrap(groups[order], seed=0).interval(y[order], p[order])
    assert (one.low, one.high) == pytest.approx((two.low, two.high))


def test_coverage_is_near_its_level() -> None:
    true = 0.7602  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)
    hits = 0
    for seed in range(120):
        result = PatientBootstrap(np.arange(150), draws=300, seed=seed).interval(
            *cohort(150, 1, seed)[1:]
        )
        hits += result.low <= true <= result.high
    assert 0.88 <= hits / 120 <= 0.99


def test_paired_difference_is_narrower_than_two_intervals_apart() -> None:
    groups, y, p = cohort(200, 2, 3)
    other = p + np.random.default_rng(0).normal(size=len(p)) * 0.2
    boot = PatientBootstrap(groups, seed=0)
    difference = boot.paired_difference(y, p, other)
    assert difference.estimate == pytest.approx(auroc(y, p) - auroc(y, other))
    one = boot.interval(y, p)
    assert difference.high - difference.low < 0.5 * (one.high - one.low)
    same = boot.paired_difference(y, p, p)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)
    swapped = boot.paired_difference(y, other, p)
    assert swapped.low == pytest.approx(-difference.high)


def test_undefined_draws_are_counted_and_too_many_give_no_interval() -> None:
    y = np.zeros(40)
    y[:2] = 1
    p = np.linspace(0, 1, 40)
    few = PatientBootstrap(np.arange(40), draws=2000, seed=0).interval(y, p)
    # Chance that neither of two positives is drawn: (38 / 40) ** 40 = .128.
    assert few.undefined_draws / 2000 == pytest.approx(0.128, abs=0.03)
    assert few.low is not None
    one_patient = np.array(["p"] * 20 + ["q"] * 20)
    none = PatientBootstrap(one_patient, draws=400, seed=0).interval(one_patient == "p", p)
    assert none.estimate is not None
    assert none.undefined_draws / 400 == pytest.approx(0.5, abs=0.1)
    pooled = np.array(["p"] * 40)
    all_there = PatientBootstrap(pooled, draws=10, seed=0).interval(y, p)
    assert all_there.low == all_there.high == all_there.estimate
    rare = np.zeros(400)
    rare[0] = 1
    groups = np.arange(400)
    single = PatientBootstrap(groups, draws=500, seed=0).interval(rare, groups / 400)
    assert single.undefined_draws == pytest.approx(0.37 * 500, abs=50)


def test_more_than_half_undefined_gives_no_interval() -> None:
    # Two patients, one of each class: half of the draws hold both; a third empties it further.
    groups = np.array(["a", "b", *["c"] * 8])
    y = np.array([1, 0, *[np.nan] * 8])
    result = PatientBootstrap(groups, draws=2000, seed=0).interval(y, np.linspace(0, 1, 10))
    assert result.undefined_draws > 1000
    assert result.estimate is not None
    assert result.low is None
    assert result.high is None


def test_missing_class_is_undefined_and_says_so() -> None:
    result = PatientBootstrap(np.arange(5), draws=10, seed=0).interval(np.zeros(5), np.arange(5))
    assert (result.estimate, result.low, result.high) == (None, None, None)
    assert (result.n, result.positives, result.negatives) == (5, 0, 5)
    assert result.undefined_draws == 10


def test_unknown_rows_are_left_out() -> None:
    groups, y, p = cohort(40, 2, 5)
    y = y.astype(float)
    y[::7] = np.nan
    result = PatientBootstrap(groups, seed=0).interval(y, p, "auprc")
    assert result.n == np.isfinite(y).sum()


def test_chunks_of_draws_give_the_same(monkeypatch) -> None:
    groups, y, p = cohort(40, 2, 6)
    whole = PatientBootstrap(groups, seed=0).interval(y, p)
    monkeypatch.setattr("mvp.statistics.bootstrap._ELEMENTS_AT_ONCE", 1000)
    assert PatientBootstrap(groups, seed=0).interval(y, p) == whole


def test_fast_enough_for_dozens_of_labels_and_models() -> None:
    groups, y, p = cohort(500, 2, 7)
    boot = PatientBootstrap(groups, seed=0)
    start = time.perf_counter()
    boot.interval(y, p)
    assert time.perf_counter() - start < 1


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ConfigError):
        PatientBootstrap([1], draws=0, seed=0)
    with pytest.raises(DataError):
        PatientBootstrap([], seed=0)
    boot = PatientBootstrap([1, 2], draws=5, seed=0)
    with pytest.raises(DataError, match="3 labels for resamples of 2"):
        boot.interval([0, 1, 1], [0.1, 0.2, 0.3])
    with pytest.raises(ConfigError, match="auroc, auprc"):
        boot.interval([0, 1], [0.1, 0.2], "f1")


def test_a_mean_equals_resampling_the_rows_of_drawn_patients_by_hand() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([f"p{i}" for i in range(15)], rng.integers(1, 5, 15))
    values = rng.integers(0, 2, len(groups)).astype(float)
    values[::6] = np.nan
    boot = PatientBootstrap(groups, draws=60, seed=3)
    by_hand = [
        np.nanmean(values.repeat(times[np.unique(groups, return_inverse=True)[1]]))
        for times in boot._times_drawn.T
    ]
    result = boot.mean(values)
    assert (result.low, result.high) == pytest.approx(np.quantile(by_hand, [0.025, 0.975]))
    assert result.estimate == np.nanmean(values)
    assert result.n == (~np.isnan(values)).sum()
    assert result.positives == np.nansum(values)


def test_a_mean_of_repeated_rows_is_no_surer() -> None:
    values = np.random.default_rng(0).integers(0, 2, 80).astype(float)
    once = PatientBootstrap(np.arange(80), seed=0).mean(values)
    twice = PatientBootstrap(np.repeat(np.arange(80), 2), seed=0).mean(np.repeat(values, 2))
    assert (once.low, once.high) == pytest.approx((twice.low, twice.high))
    assert (once.n, twice.n, twice.patients) == (80, 160, 80)


def test_a_mean_of_which_nothing_is_known_has_no_value() -> None:
    result = PatientBootstrap(["a", "b"], draws=20, seed=0).mean([np.nan, np.nan])
    assert (result.estimate, result.low, result.high, result.n) == (None, None, None, 0)
    assert result.undefined_draws == 20


@pytest.mark.parametrize("values", [[1.0], [1.0, np.inf]])
def test_a_mean_of_other_rows_or_of_infinite_values_is_refused(values) -> None:
    with pytest.raises(DataError):
        PatientBootstrap(["a", "b"], seed=0).mean(values)
