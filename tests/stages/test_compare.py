"""Comparison: ranked on validation alone, tested once, views valued so that they add up."""

from dataclasses import replace

import numpy as np
import pytest

from mvp.config import EvaluateConfig
from mvp.errors import DataError
from mvp.features import table_from_arrays
from mvp.learners.ensemble import HeadRows
from mvp.stages._candidates import Candidate, Fitting, subsets_of
from mvp.stages._ranking import MEAN_LABEL
from mvp.stages.compare import compare
from mvp.statistics import auroc
from mvp.types import Labels, Target

VIEWS = ("a", "b", "c")


def world(n=900, seed=0):
    """`left` shows in a alone, `both` takes a and b; c is noise; every view is missing at times."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.standard_normal((3, n, 3)).astype(np.float32)
    both, left = (a[:, 0] + b[:, 0] > 0), a[:, 1] + 0.3 * rng.standard_normal(n) > 0
    values = np.stack([both, left], axis=1).astype(np.float32)
    for view in (a, b, c):
        view[rng.random(n) < 0.15] = np.nan
    values[rng.random(values.shape) < 0.05] = np.nan
    table = table_from_arrays(
        [f"S{i}" for i in range(n)],
        dict(zip(VIEWS, (a, b, c), strict=True)),
        groups=[f"P{i // 2}" for i in range(n)],
    )
    part = np.arange(n) // 2 % 3
    roles = {"train": part == 0, "inner": part == 1, "test": part == 2}
    return HeadRows(table, Labels((Target("both"), Target("left")), values), roles)


def some(learners=("logistic",), subsets=None, protocols=("holdout",)):
    subsets = subsets or subsets_of(VIEWS, lambda size: True)
    return [Candidate(n, s, p) for p in protocols for n in learners for s in subsets]


def compared(rows, candidates=None, *, values=False, draws=100):
    rows = rows if isinstance(rows, dict) else {"holdout": {"all": rows}}
    fitting = Fitting({}, rows, seed=0)
    return compare(
        candidates or some(),
        fitting,
        settings=EvaluateConfig(draws=draws),
        seed=0,
        values=values,
        progress=False,
    )


def relabelled(rows, change):
    values = rows.labels.values.copy()
    change(values)
    return replace(rows, labels=Labels(rows.labels.targets, values))


@pytest.fixture(scope="module")
def made():
    return world()


@pytest.fixture(scope="module")
def found(made):
    return compared(made, values=True)


def row(found, views, label=MEAN_LABEL, learner="logistic"):
    wanted = ("+".join(views), label, learner)
    return next(r for r in found.rows if (r.views, r.label, r.learner) == wanted)


def test_every_subset_is_measured_on_the_studies_that_have_any_of_it(made, found):
    assert found.candidates == found.ranked == 7
    for views in subsets_of(VIEWS, lambda size: True):
        columns = [VIEWS.index(v) for v in views]
        here = made.roles["test"] & made.table.presence[:, columns].any(axis=1)
        assert row(found, views).n == here.sum()
        assert row(found, views, "both").n == (here & made.labels.known[:, 0]).sum()


def test_the_views_that_tell_win(found):
    assert set(found.winner.views) >= {"a", "b"}
    assert row(found, ("a", "b")).rank <= 2
    assert row(found, ("c",)).rank == 7
    ranks = [(r.rank, r.validation) for r in found.rows if r.label == MEAN_LABEL]
    assert ranks == sorted(ranks, key=lambda pair: -pair[1])
    single = [g for g in found.gaps if g.why == "best single view of logistic"]
    mean = next(g for g in single if g.label == MEAN_LABEL)
    assert mean.other == "logistic on a, holdout"
    assert mean.low > 0


def test_the_test_studies_rank_nobody(made, found):
    def flip(values):
        values[made.roles["test"]] = 1 - values[made.roles["test"]]

    turned = compared(relabelled(made, flip))
    order = [(r.views, r.rank, r.validation) for r in found.rows if r.label == MEAN_LABEL]
    assert [(r.views, r.rank, r.validation) for r in turned.rows if r.label == MEAN_LABEL] == order
    assert row(turned, ("a",)).test == pytest.approx(1 - row(found, ("a",)).test)


def test_a_difference_is_paired_on_the_studies_that_both_can_score(made, found):
    fitting = Fitting({}, {"holdout": {"all": made}}, seed=0)
    test = made.roles["test"]

    def said(views):
        ensemble, rows = fitting.fit(Candidate("logistic", views, "holdout"))
        return ensemble.fused({"all": rows["all"].table.select(test)})[:, 1]

    winner, single = said(found.winner.views), said(("a",))
    rows = ~np.isnan(winner) & ~np.isnan(single) & made.labels.known[test][:, 1]
    y = made.labels.values[test][rows, 1]
    gap = next(g for g in found.gaps if g.label == "left" and g.why.startswith("best single"))
    assert gap.n == rows.sum()
    assert gap.difference == pytest.approx(auroc(y, winner[rows]) - auroc(y, single[rows]))


def test_a_label_undefined_for_one_is_left_out_for_all(made, found):
    def one_class(values):
        # Of those that have c, validation knows positives only.
        values[made.roles["inner"] & made.table.presence[:, 2], 1] = 1

    less = compared(relabelled(made, one_class))
    assert less.labels == ["both"]
    assert row(less, ("c",), "left").validation is None
    for views in (("a",), ("a", "b")):
        assert row(less, views).validation == pytest.approx(row(less, views, "both").validation)
        assert row(less, views).test == pytest.approx(row(less, views, "both").test)
    assert found.labels == ["both", "left"]


def test_a_label_undefined_on_test_is_left_out_of_the_mean_and_said(made):
    def one_class(values):
        values[made.roles["test"], 1] = 0

    less = compared(relabelled(made, one_class), values=True)
    assert less.labels == ["both", "left"]
    assert less.reported == ["both"]
    assert row(less, ("a",), "left").test is None
    assert row(less, ("a",)).test == row(less, ("a",), "both").test
    assert [v.value for v in less.values if v.label == "left"] == [None] * 3


def test_a_ranking_by_few_is_named(made, found):
    def rare(values):
        inner = np.flatnonzero(made.roles["inner"])
        values[inner, 1] = 0
        values[inner[:9], 1] = 1

    assert found.few == []
    assert compared(relabelled(made, rare), some(subsets=[VIEWS])).few == ["left"]


def test_nothing_to_rank_by_is_an_error(made):
    with pytest.raises(DataError, match="nothing can be ranked"):
        compared(relabelled(made, lambda v: v.__setitem__(made.roles["inner"], 1)))


def test_values_add_up_to_what_all_views_reach_above_chance(made, found):
    fitting = Fitting({}, {"holdout": {"all": made}}, seed=0)
    ensemble, rows = fitting.fit(found.valued)
    test = made.roles["test"]
    said = ensemble.fused({"all": rows["all"].table.select(test)})
    for i, label in enumerate(("both", "left")):
        y = made.labels.values[test, i]
        p = np.where(np.isnan(said[:, i]), np.nanmean(made.labels.values[made.roles["train"], i]),
                     said[:, i])  # fmt: skip
        known = ~np.isnan(y)
        own = {v.view: v for v in found.values if v.label == label}
        gain = next(g for g in found.gains if g.label == label)
        assert gain.auroc == pytest.approx(auroc(y[known], p[known]))
        assert sum(v.value for v in own.values()) == pytest.approx(gain.auroc - 0.5, abs=1e-12)
        assert {v.n for v in own.values()} == {gain.n} == {known.sum()}


def test_a_view_is_credited_with_what_it_alone_shows(found):
    values = {(v.label, v.view): v for v in found.values}
    assert values["left", "a"].low > 0.25
    assert abs(values["left", "b"].value) < 0.05
    assert abs(values["left", "c"].value) < 0.05
    assert values["both", "a"].value == pytest.approx(values["both", "b"].value, abs=0.07)
    assert values["both", "a"].low > values["both", "c"].high


def test_values_are_made_of_heads_that_were_not_compared(made, found):
    few = compared(made, some(subsets=[("a",), VIEWS]), values=True)
    assert few.candidates == 2
    assert {r.views for r in few.rows} == {"a", "a+b+c"}
    assert few.values == found.values


def test_who_cannot_be_fitted_is_noted_and_hinders_nobody(made):
    presence = made.table.presence.copy()
    presence[made.roles["train"], 2] = False
    arrays = {v: np.where(presence[:, [i]], made.table.block(v), np.nan).astype(np.float32)
              for i, v in enumerate(VIEWS)}  # fmt: skip
    table = table_from_arrays(list(made.table.studies), arrays, groups=list(made.table.groups))
    less = compared(replace(made, table=table), values=True)
    assert less.candidates == 6
    assert any("logistic on c, holdout could not be fitted" in note for note in less.notes)
    assert less.values == []
    assert any("the views cannot be valued" in note for note in less.notes)
    with pytest.raises(DataError, match="two classes among the training"):
        compared(replace(made, table=table), some(subsets=[("c",)]))


def test_a_label_that_a_view_cannot_learn_is_noted(made):
    def one_class(values):
        values[made.roles["train"] & made.table.presence[:, 2], 1] = 1

    less = compared(relabelled(made, one_class))
    assert any("logistic on c, holdout says nothing of left" in note for note in less.notes)
    assert row(less, ("c",), "left").n == 0
    assert less.labels == ["both"]


def test_the_ablation_is_measured_and_never_ranked(made):
    full = [Candidate("logistic", VIEWS, p) for p in ("same-rows", "holdout")]
    beside = compared({"same-rows": {"all": made}, "holdout": {"all": made}}, full)
    assert beside.winner.protocol == "holdout"
    assert (beside.candidates, beside.ranked) == (2, 1)
    flagged = [r for r in beside.rows if r.ablation]
    assert flagged
    assert all(r.rank is None and r.validation is None and r.test for r in flagged)
    assert beside.rows[-1].ablation


def test_protocols_are_ranked_on_the_studies_that_all_of_them_may_choose_on(made):
    half = np.arange(len(made.table)) // 2 % 2 == 0
    folds = {}
    for fold, mine in (("fold-0", half), ("fold-1", ~half)):
        everybody = made.roles["train"] | made.roles["inner"]
        roles = {"train": made.roles["train"] & mine, "inner": everybody & ~made.roles["train"]
                 & mine, "test": made.roles["test"]}  # fmt: skip
        folds[fold] = HeadRows(made.table, made.labels, roles)
    fewer = {**made.roles, "inner": made.roles["inner"] & (np.arange(len(half)) < 600)}
    both = {"crossfit": folds, "holdout": {"all": replace(made, roles=fewer)}}
    candidates = [Candidate("logistic", s, p) for p in both for s in (("a",), VIEWS)]
    mixed = compared(both, candidates)
    assert mixed.validation_studies == fewer["inner"].sum()
    sizes = {r.validation_n for r in mixed.rows if r.label == MEAN_LABEL and r.views == "a"}
    assert sizes == {(fewer["inner"] & made.table.presence[:, 0]).sum()}
    # On validation a fold's own head answers, on test all of them do.
    fitting = Fitting({}, both, seed=0)
    ensemble, rows = fitting.fit(Candidate("logistic", ("a",), "crossfit"))
    test = made.roles["test"]
    one = {f: r.table.select(test) for f, r in rows.items()}
    y, p = made.labels.values[test, 1], ensemble.fused(one)[:, 1]
    known = ~np.isnan(y) & ~np.isnan(p)
    crossfit = next(
        r for r in mixed.rows if (r.protocol, r.views, r.label) == ("crossfit", "a", "left")
    )
    assert crossfit.test == pytest.approx(auroc(y[known], p[known]))
