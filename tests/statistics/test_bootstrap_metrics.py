"""Every metric that can be resampled equals itself on the rows of drawn patients."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mvp.errors import ConfigError, DataError
from mvp.statistics import PatientBootstrap
from mvp.statistics.bootstrap import AT_THRESHOLD, METRICS
from mvp.statistics.curves import binary_confusion
from mvp.statistics.ranking import Ranking, weighted_auprc, weighted_auroc
from mvp.statistics.scores import (
    brier,
    equal_count_bins,
    expected_calibration_error,
    log_loss,
    log_losses,
)

LEVEL = 0.4


def cohort(seed: int = 0, rate: float = 0.3):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 40, 120)
    y = (rng.random(120) < rate).astype(float)
    p = np.round(0.6 * rng.random(120) + 0.3 * y, 2)
    y[::11] = np.nan
    return groups, y, p


def plain(metric, y, p):
    """The metric of some rows, computed with what is tested elsewhere; NaN where undefined."""
    if metric == "auroc":
        return roc_auc_score(y, p) if 0 < y.sum() < len(y) else np.nan
    if metric == "auprc":
        return average_precision_score(y, p) if 0 < y.sum() < len(y) else np.nan
    if metric in AT_THRESHOLD:
        share = getattr(binary_confusion(y, p, LEVEL), metric)
        return np.nan if share is None else share
    return {"brier": brier, "log_loss": log_loss, "ece": expected_calibration_error}[metric](y, p)


def threshold_of(metric):
    return LEVEL if metric in AT_THRESHOLD else None


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rate", [0.05, 0.8])
def test_a_metric_equals_resampling_the_rows_by_hand(metric, rate) -> None:
    groups, y, p = cohort(1, rate)
    boot = PatientBootstrap(groups, draws=40, seed=2)
    estimate, values = boot.values(y, p, metric, threshold=threshold_of(metric))
    known = ~np.isnan(y)
    assert estimate == pytest.approx(plain(metric, y[known], p[known]))
    rows = np.flatnonzero(known)
    which = np.unique(groups.astype(str), return_inverse=True)[1][known]
    bins, count = equal_count_bins(p[known], 15)
    for draw, times in enumerate(boot._times_drawn.T):
        taken = rows.repeat(times[which])
        if metric == "ece":
            gaps = np.bincount(bins.repeat(times[which]), (y - p)[taken], count)
            assert values[draw] == pytest.approx(np.abs(gaps).sum() / len(taken))
        else:
            expected = plain(metric, y[taken], p[taken])
            assert values[draw] == pytest.approx(expected, nan_ok=True, abs=1e-12)
    interval = boot.interval(y, p, metric, threshold=threshold_of(metric))
    defined = values[~np.isnan(values)]
    assert (interval.low, interval.high) == pytest.approx(np.quantile(defined, [0.025, 0.975]))
    assert interval.undefined_draws == 40 - len(defined)
    assert (interval.n, interval.positives) == (known.sum(), np.nansum(y))


@pytest.mark.parametrize("metric", METRICS)
def test_a_difference_is_that_of_the_draws(metric) -> None:
    groups, y, p = cohort(2)
    q = np.random.default_rng(1).random(len(p))
    boot = PatientBootstrap(groups, draws=60, seed=0)
    said = {"metric": metric, "threshold": threshold_of(metric)}
    (one, first), (two, second) = boot.values(y, p, **said), boot.values(y, q, **said)
    difference = boot.paired_difference(y, p, q, **said)
    assert difference.estimate == pytest.approx(one - two)
    assert (difference.low, difference.high) == pytest.approx(
        np.nanquantile(first - second, [0.025, 0.975])
    )


@pytest.mark.parametrize("metric", ["brier", "log_loss", "ece"])
def test_one_class_leaves_scores_of_probabilities_defined(metric) -> None:
    groups, _, p = cohort()
    result = PatientBootstrap(groups, draws=30, seed=0).interval(np.zeros(len(p)), p, metric)
    assert result.low < result.estimate < result.high or metric == "ece"
    assert result.undefined_draws == 0


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_known_is_undefined(metric) -> None:
    groups, _, p = cohort()
    boot = PatientBootstrap(groups, draws=20, seed=0)
    result = boot.interval(np.full(len(p), np.nan), p, metric, threshold=threshold_of(metric))
    assert (result.estimate, result.low, result.high, result.n) == (None, None, None, 0)
    assert result.undefined_draws == 20


def test_sensitivity_without_positives_is_undefined_and_specificity_is_not() -> None:
    groups, _, p = cohort()
    boot, y = PatientBootstrap(groups, draws=20, seed=0), np.zeros(len(p))
    assert boot.interval(y, p, "sensitivity", threshold=0.5).estimate is None
    assert boot.interval(y, p, "specificity", threshold=0.5).estimate is not None


def test_losses_of_several_classes_are_resampled_as_means() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, 60).astype(float), rng.dirichlet(np.ones(3), 60)
    result = PatientBootstrap(np.arange(60) // 2, draws=50, seed=0).mean(log_losses(y, p))
    assert result.estimate == pytest.approx(log_loss(y, p))
    assert result.low < result.estimate < result.high


def test_blocks_of_draws_change_nothing(monkeypatch) -> None:
    groups, y, p = cohort(3)
    boot = PatientBootstrap(groups, draws=30, seed=0)
    whole = {m: boot.values(y, p, m, threshold=threshold_of(m))[1] for m in METRICS}
    monkeypatch.setattr("mvp.statistics.bootstrap._ELEMENTS_AT_ONCE", 300)
    for metric, values in whole.items():
        again = boot.values(y, p, metric, threshold=threshold_of(metric))[1]
        np.testing.assert_allclose(again, values, rtol=1e-14)


def test_sums_that_leave_narrow_whole_numbers_are_right() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.random(50) < 0.5, rng.integers(0, 9, 50) / 9
    small = rng.integers(1, 5, (50, 3)).astype(np.int32)
    large = small * np.int32(300_000_000)
    ranking = Ranking(y, p)
    for area in (weighted_auroc, weighted_auprc):
        np.testing.assert_allclose(area(ranking, large), area(ranking, small))
        np.testing.assert_allclose(area(ranking, small / 7), area(ranking, small))


def test_rows_of_one_owner_share_a_weight() -> None:
    rng = np.random.default_rng(1)
    y, p, owner = rng.random(40) < 0.3, rng.random(40), rng.integers(0, 12, 40)
    weights = rng.poisson(1, (12, 6))
    for area in (weighted_auroc, weighted_auprc):
        np.testing.assert_array_equal(
            area(Ranking(y, p, owner), weights), area(Ranking(y, p), weights[owner])
        )


@pytest.mark.parametrize(
    ("metric", "threshold"), [("auroc", 0.5), ("brier", 0.5), ("sensitivity", None), ("f1", None)]
)
def test_a_threshold_without_meaning_is_refused(metric, threshold) -> None:
    groups, y, p = cohort()
    boot = PatientBootstrap(groups, draws=5, seed=0)
    with pytest.raises(ConfigError, match=r"threshold|there is no metric"):
        boot.interval(y, p, metric, threshold=threshold)
    with pytest.raises(ConfigError):
        boot.paired_difference(y, p, p, metric, threshold=threshold)


def test_a_summary_of_other_rows_or_draws_is_refused() -> None:
    boot = PatientBootstrap(["a", "b"], draws=5, seed=0)
    for values, y in ((np.zeros(4), [0, 1]), (np.zeros(5), [0, 1, 1])):
        with pytest.raises(DataError, match="resamples of 2 rows"):
            boot.summary(0.5, values, y)


def test_scores_that_are_no_probabilities_have_no_brier_score() -> None:
    with pytest.raises(DataError, match="not probabilities"):
        PatientBootstrap(["a", "b"], draws=5, seed=0).interval([0, 1], [-2.0, 3.0], "brier")
