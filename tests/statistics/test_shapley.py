from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvp.errors import ConfigError, DataError
from mvp.statistics import PatientBootstrap, auroc
from mvp.statistics.shapley import shapley_intervals, shapley_values, subsets

VIEWS = ["frontal", "lateral", "history"]


def by_orders(values, views):
    """What Shapley wrote: the gain of each view, averaged over all orders of coming."""
    gains = dict.fromkeys(views, 0.0)
    orders = list(permutations(views))
    for order in orders:
        for i, view in enumerate(order):
            gains[view] += values[frozenset(order[: i + 1])] - values[frozenset(order[:i])]
    return [gains[view] / len(orders) for view in views]


@given(st.integers(1, 4), st.integers(0, 99))
def test_values_are_means_over_all_orders_and_sum_to_the_whole(count, seed) -> None:
    views = [f"v{i}" for i in range(count)]
    rng = np.random.default_rng(seed)
    values = {s: rng.random() for s in subsets(views)}
    found = shapley_values(values, views)
    np.testing.assert_allclose(found, by_orders(values, views))
    assert found.sum() == pytest.approx(values[frozenset(views)] - values[frozenset()], abs=1e-12)


def test_a_view_that_adds_nothing_is_worth_nothing_and_twins_are_worth_the_same() -> None:
    values = {s: 0.5 + 0.3 * bool(s & {"frontal", "lateral"}) for s in subsets(VIEWS)}
    np.testing.assert_allclose(shapley_values(values, VIEWS), [0.15, 0.15, 0], atol=1e-12)


def test_draws_are_each_computed_alone_and_an_undefined_subset_makes_its_draw_undefined() -> None:
    rng = np.random.default_rng(0)
    values = {s: rng.random(5) for s in subsets(VIEWS)}
    values[frozenset()] = 0.5
    values[frozenset({"lateral"})][3] = np.nan
    found = shapley_values(values, VIEWS)
    assert found.shape == (3, 5)
    np.testing.assert_array_equal(np.isnan(found).all(axis=0), [0, 0, 0, 1, 0])
    one = {s: np.broadcast_to(v, 5)[2] for s, v in values.items()}
    np.testing.assert_allclose(found[:, 2], by_orders(one, VIEWS))


def cohort(seed: int = 0, patients: int = 120):
    rng = np.random.default_rng(seed)
    groups = np.arange(patients).repeat(2)
    y = rng.integers(0, 2, patients).repeat(2).astype(float)
    seen = {"frontal": y + rng.normal(0, 1, len(y)), "lateral": 0.5 * y + rng.normal(0, 1, len(y))}
    seen["history"] = rng.normal(0, 1, len(y))
    scores = {s: np.sum([seen[v] for v in s], axis=0) for s in subsets(VIEWS) if s}
    return groups, y, scores


def test_intervals_come_from_the_same_resamples_and_keep_the_sum() -> None:
    groups, y, scores = cohort()
    scores[frozenset({"lateral"})][:20] = np.nan
    y[30:40] = np.nan
    boot = PatientBootstrap(groups, draws=300, seed=0)
    found = shapley_intervals(boot, y, scores, VIEWS)
    rows = ~np.isnan(y) & ~np.isnan(scores[frozenset({"lateral"})])
    whole = auroc(y[rows], scores[frozenset(VIEWS)][rows])
    assert sum(f.estimate for f in found.values()) == pytest.approx(whole - 0.5)
    for interval in found.values():
        assert interval.low < interval.estimate < interval.high
        assert interval.n == rows.sum()
    assert found["frontal"].estimate > found["lateral"].estimate > found["history"].estimate
    assert found["frontal"].low > 0
    # Of one view alone it is the gain over chance, with the interval of its metric.
    alone = {frozenset({"frontal"}): scores[frozenset({"frontal"})]}
    one = shapley_intervals(boot, y, alone, ["frontal"])["frontal"]
    direct = boot.interval(y, alone[frozenset({"frontal"})])
    assert (one.low, one.high) == pytest.approx((direct.low - 0.5, direct.high - 0.5))


def test_one_class_is_undefined() -> None:
    groups, y, scores = cohort()
    found = shapley_intervals(
        PatientBootstrap(groups, draws=50, seed=0), np.ones(len(y)), scores, VIEWS
    )
    assert all((f.estimate, f.low, f.high) == (None, None, None) for f in found.values())


def test_wrong_use_is_refused() -> None:
    with pytest.raises(DataError, match="7 subsets of views have no value, the first is frontal"):
        shapley_values({frozenset(): 0.5}, VIEWS)
    with pytest.raises(ConfigError, match="different ones"):
        subsets(["frontal", "frontal"])
    with pytest.raises(ConfigError, match="at most 16"):
        subsets([str(i) for i in range(17)])
    groups, y, scores = cohort()
    del scores[frozenset(VIEWS)]
    with pytest.raises(DataError, match="1 subsets of views have no scores"):
        shapley_intervals(PatientBootstrap(groups, draws=5, seed=0), y, scores, VIEWS)
    groups, y, scores = cohort()
    with pytest.raises(DataError, match="do not all have the shape"):
        shapley_intervals(PatientBootstrap(groups, draws=5, seed=0), y[:-1], scores, VIEWS)
