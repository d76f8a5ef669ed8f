"""Many logistic heads in common passes: each is the one that would be fitted alone."""

import numpy as np
import pytest
import torch

from mvp.errors import ConfigError, DataError
from mvp.features import table_from_arrays
from mvp.learners import Head
from mvp.learners.batched_lbfgs import minimise
from mvp.learners.ensemble import HeadRows
from mvp.learners.many_linear import LinearHead, fit_many_linear
from mvp.stages.linear_sweep import MEAN_LABEL, STRENGTHS, linear_sweep
from mvp.statistics import auroc
from mvp.types import Labels, Target
from tests.stages.tunable import poisoned, rows_of_roles, studies

SUBSETS = [("a",), ("b",), ("a", "b")]
PENALTIES = (1e-4, 1e-2, 1.0)


def far_from_zero():
    """Features of other scales and means, one constant where a label is known, views missing."""
    rng = np.random.default_rng(2)
    n = 300
    a = rng.standard_normal((n, 10)).astype(np.float32) * [[0.01, *[3.0] * 9]] + 40
    b = rng.standard_normal((n, 6)).astype(np.float32)
    y = np.stack(
        [a[:, 1] + 3 * b[:, 0] > 40, b[:, 1] + a[:, 2] > 41, rng.random(n) < 0.15], axis=1
    ).astype(np.float32)
    y[rng.random(n) < 0.4, 1] = np.nan
    b[~np.isnan(y[:, 1]), 5] = 2.0
    a[rng.random(n) < 0.3] = np.nan
    b[rng.random(n) < 0.2] = np.nan
    table = table_from_arrays([f"S{i}" for i in range(n)], {"a": a.astype(np.float32), "b": b})
    return table, Labels(tuple(Target(t) for t in "xyz"), y)


@pytest.mark.parametrize("memory_limit", [4.0, 1e-5])
def test_every_head_is_the_regression_fitted_alone(memory_limit):
    table, labels = far_from_zero()
    heads = [LinearHead(t, s, c) for s in range(3) for t in range(3) for c in PENALTIES]
    many = fit_many_linear(table, labels, heads, SUBSETS, memory_limit=memory_limit, device="cpu")
    assert many.converged.all()
    said = many.predict(table)
    assert said.shape == (len(table), len(heads))
    for column, head in enumerate(heads):
        own = table.only(SUBSETS[head.subset])
        there = own.presence.any(axis=1)
        target, truth = labels.targets[head.target], labels.values[:, [head.target]]
        rows = there & ~np.isnan(truth[:, 0])
        alone = Head.fit(
            "sklearn.linear_model.LogisticRegression",
            {"C": head.strength, "tol": 1e-8, "max_iter": 5000},
            own.select(rows),
            Labels((target,), truth[rows]),
            seed=0,
        )
        expected = alone.predict(own.select(there))[:, 0]
        np.testing.assert_allclose(said[there, column], expected, atol=1e-3)


def test_one_pass_serves_all_heads():
    table, labels = far_from_zero()
    heads = [LinearHead(t, s, c) for s in range(3) for t in range(3) for c in PENALTIES]
    together = fit_many_linear(table, labels, heads, SUBSETS, device="cpu").passes
    alone = [fit_many_linear(table, labels, [h], SUBSETS, device="cpu").passes for h in heads]
    assert max(alone) <= together < sum(alone) / 5


def test_columns_are_minimised_each_for_itself():
    """Quadratics of condition 1 to 10,000 side by side."""
    torch.manual_seed(0)
    curves = torch.logspace(0, torch.tensor([0.0, 1, 2, 4]).max(), 6)
    spread = torch.stack([curves**p for p in (0.0, 0.25, 0.5, 1.0)], dim=1)
    least = torch.randn(6, 4)

    def evaluate(point, which):
        away = point - least[:, which]
        return (spread[:, which] * away**2).sum(0) / 2, spread[:, which] * away

    found, reached, used = minimise(evaluate, torch.zeros(6, 4), 1e-4, 500)
    assert reached.all()
    torch.testing.assert_close(found, least, atol=2e-4, rtol=0)
    assert used < 100


def test_what_has_not_converged_is_said(caplog):
    table, labels = far_from_zero()
    many = fit_many_linear(
        table, labels, [LinearHead(0, 2, 10.0)], SUBSETS, max_passes=3, device="cpu"
    )
    assert not many.converged.any()
    assert many.passes == 3
    assert "not converged" in caplog.text


@pytest.fixture(scope="module")
def rows():
    return {"mean": {"all": rows_of_roles(*studies())}}


@pytest.fixture(scope="module")
def swept(rows):
    return linear_sweep(rows, progress=False)


def test_the_table_has_every_head_and_its_mean(swept):
    assert swept.heads == 2 * 3 * len(STRENGTHS)
    assert swept.labels == ["l0", "l1"]
    assert len(swept.rows) == 3 * len(STRENGTHS) * 3
    cells = {(r.views, r.C, r.label): r.auroc for r in swept.rows}
    for views in ("a", "b", "a+b"):
        mean = np.mean([cells[views, 0.1, label] for label in swept.labels])
        assert cells[views, 0.1, MEAN_LABEL] == pytest.approx(mean)
    means = [r.auroc for r in swept.rows if r.label == MEAN_LABEL]
    assert means == sorted(means, reverse=True)


def test_its_figures_are_those_of_the_learner(rows, swept):
    one = rows["mean"]["all"]
    own = HeadRows(one.table.only(["b"]), one.labels, one.roles)
    head = Head.fit("logistic", {"C": 0.1}, *own.of("train"), seed=0)
    table, labels = own.of("inner")
    cells = {(r.views, r.C, r.label): r for r in swept.rows}
    for column, label in enumerate(("l0", "l1")):
        truth = labels.values[:, column]
        cell = cells["b", 0.1, label]
        expected = auroc(truth, head.predict(table)[:, column])
        assert cell.auroc == pytest.approx(expected, abs=0.01)
        assert (cell.n, cell.positives) == ((~np.isnan(truth)).sum(), (truth == 1).sum())


def test_the_best_penalty_is_that_of_the_views_and_the_stronger_of_equals(swept):
    strength, value = swept.best(["a", "b"], "mean")
    cells = {r.C: r.auroc for r in swept.rows if (r.views, r.label) == ("a+b", MEAN_LABEL)}
    assert value == max(cells.values())
    assert strength == min(c for c, v in cells.items() if v == value)


def test_calibration_and_test_rows_never_reach_the_sweep(rows, swept):
    other = poisoned(rows["mean"]["all"], ("calibration", "test"))
    assert linear_sweep({"mean": {"all": other}}, progress=False).rows == swept.rows
    changed = poisoned(rows["mean"]["all"], ("inner",))
    assert linear_sweep({"mean": {"all": changed}}, progress=False).rows != swept.rows


def test_a_cross_fit_is_measured_by_the_mean_over_its_members():
    both = {f"fold-{k}": rows_of_roles(*studies(seed=k)) for k in range(2)}
    together = linear_sweep({"mean": both}, strengths=[0.01], progress=False)
    alone = [
        linear_sweep({"mean": {"all": one}}, strengths=[0.01], progress=False)
        for one in both.values()
    ]
    cells = [{(r.views, r.label): r for r in s.rows} for s in (together, *alone)]
    for key, row in cells[0].items():
        first, second = (c[key] for c in cells[1:])
        assert row.auroc == pytest.approx((first.auroc + second.auroc) / 2)
        assert row.n is None or row.n == first.n + second.n


def test_poolings_stand_beside_each_other():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 240)
    bags = []
    for positive in truth:
        bag = rng.standard_normal((12, 4)).astype(np.float32)
        bag[rng.integers(12), 0] += 5 * positive
        bags.append(bag)
    labels = Labels((Target("l0"),), truth[:, None].astype(np.float32))
    rows = {}
    for pooling in ("mean", "max"):
        table = table_from_arrays(
            [f"S{i}" for i in range(240)],
            {"a": bags},
            groups=[f"P{i % 80}" for i in range(240)],
            aggregate=pooling,
        )
        rows[pooling] = {"all": rows_of_roles(table, labels)}
    found = linear_sweep(rows, progress=False)
    assert found.best(["a"], "max")[1] > found.best(["a"], "mean")[1] + 0.1
    assert found.rows[0].instances == "max"


def test_what_cannot_be_measured_is_undefined_and_in_no_mean(rows):
    one = rows["mean"]["all"]
    values = np.column_stack([one.labels.values, np.zeros(len(one.table))]).astype(np.float32)
    values[one.roles["inner"] & (values[:, 1] == 1), 1] = np.nan
    labels = Labels((*one.labels.targets, Target("never")), values)
    found = linear_sweep(
        {"mean": {"all": HeadRows(one.table, labels, one.roles)}}, strengths=[0.1], progress=False
    )
    assert found.labels == ["l0"]
    assert found.left_out == ["l1", "never"]
    assert all(r.auroc is None for r in found.rows if r.label in ("l1", "never"))
    assert found.heads == 2 * 3
    only = Labels((Target("never"),), values[:, 2:])
    nothing = linear_sweep(
        {"mean": {"all": HeadRows(one.table, only, one.roles)}}, strengths=[0.1], progress=False
    )
    with pytest.raises(DataError, match="no penalty can be chosen"):
        nothing.best(["a", "b"], "mean")


def test_what_no_sweep_can_be(rows):
    one = rows["mean"]["all"]
    several = Labels((Target("l0", ("x", "y")),), one.labels.values[:, :1])
    with pytest.raises(ConfigError, match="binary"):
        linear_sweep({"mean": {"all": HeadRows(one.table, several, one.roles)}}, progress=False)
    with pytest.raises(ConfigError, match="above 0"):
        linear_sweep(rows, strengths=[0.0], progress=False)
    none = {**one.roles, "inner": np.zeros(len(one.table), bool)}
    with pytest.raises(DataError, match="no validation study"):
        linear_sweep({"mean": {"all": HeadRows(one.table, one.labels, none)}}, progress=False)
