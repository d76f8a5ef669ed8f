"""The next view: estimated flips are those that the view makes, and say what they rest on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.features import table_from_arrays
from mvp.features.hiding import hide
from mvp.learners.ensemble import HeadRows
from mvp.stages._hidden import Reference, reference_of
from mvp.stages.fit_head import fit_head
from mvp.stages.next_view import calls_of, flip_shares, next_views, wilson
from mvp.types import Labels, Target

TARGETS = (Target("both"), Target("left"))


def world(n, seed=0):
    """`both` takes both views, `left` shows in a alone; nothing is missing."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, n, 3)).astype(np.float32)
    both = a[:, 0] + b[:, 0] + 0.3 * rng.standard_normal(n) > 0
    left = a[:, 1] + 0.3 * rng.standard_normal(n) > 0
    labels = Labels(TARGETS, np.stack([both, left], axis=1).astype(np.float32))
    return {"a": a, "b": b}, labels


def rows_of(views, labels, roles):
    ids = [f"S{i}" for i in range(len(labels))]
    return {"all": HeadRows(table_from_arrays(ids, views), labels, roles)}


@pytest.fixture(scope="module")
def made():
    views, labels = world(6000)
    at = np.arange(6000)
    for view in views.values():  # every third training study lacks one
        view[(at < 900) & (at % 3 == 0) & (at % 2 == (view is views["b"]))] = np.nan
    roles = {"train": at < 900, "inner": (at >= 900) & (at < 3000), "test": at >= 3000}
    rows = rows_of(views, labels, roles)
    ensemble = fit_head("logistic", {}, rows, seed=0, progress=False).ensemble
    return rows, ensemble, reference_of(ensemble, rows, lambda p: p)


@pytest.fixture(scope="module")
def without_b(made):
    """The test studies with b hidden: what is estimated, and what b then really does."""
    rows, ensemble, reference = made
    test = rows["all"].of("test")[0]
    hidden = hide(test, ["b"])
    said = ensemble.fused({"all": hidden})
    found = next_views(reference, hidden.presence, said, TARGETS, [0.5, 0.5])
    full, _ = calls_of(ensemble.fused({"all": test}), TARGETS, [0.5, 0.5])
    return found, full != found.calls


def test_estimated_flips_are_calibrated_on_studies_that_were_held_out(without_b):
    found, flipped = without_b
    said, truly = found.flips[:, 0, 1], flipped[:, 0]
    assert said.mean() == pytest.approx(truly.mean(), abs=0.02)
    edges = np.quantile(said, [0.2, 0.4, 0.6, 0.8])
    which = np.searchsorted(edges, said)
    shares = [(said[which == i].mean(), truly[which == i].mean()) for i in range(5)]
    assert max(abs(p - q) for p, q in shares) < 0.05
    # It is no constant: unsure studies flip often, sure ones seldom.
    assert shares[-1][1] > shares[0][1] + 0.15


def test_the_view_that_tells_changes_the_decision_and_the_other_does_not(without_b):
    found, flipped = without_b
    assert found.flips[:, 0, 1].mean() > 0.15
    assert found.flips[:, 1, 1].mean() < 0.03
    assert flipped[:, 1].mean() < 0.03
    assert (found.best()[:, 0] == 1).all()
    assert np.isnan(found.flips[:, :, 0]).all()


def test_estimates_rest_on_held_out_studies_where_there_are_enough(made, without_b):
    found, _ = without_b
    assert (found.rests_on[:, :, 1] > 100).all()
    assert found.held_out.all()
    rows, ensemble, _ = made
    one = rows["all"]
    few = {**one.roles, "inner": np.arange(6000) == 900}
    reference = reference_of(ensemble, {"all": HeadRows(one.table, one.labels, few)}, lambda p: p)
    test = hide(one.of("test")[0], ["b"])
    less = next_views(reference, test.presence, ensemble.fused({"all": test}), TARGETS, [0.5, 0.5])
    assert not less.held_out[:, :, 1].any()
    assert (less.rests_on[:, :, 1] >= 30).all()


def test_reference_studies_show_what_was_asked_for_and_nothing_else(made):
    rows, ensemble, reference = made
    one = rows["all"]
    inner = np.flatnonzero(one.roles["inner"])
    views = {v: one.table.block(v)[inner] for v in ("a", "b")}
    views["b"][:] = np.nan
    alone = table_from_arrays([f"S{i}" for i in inner], views)
    said = ensemble.fused({"all": alone})
    np.testing.assert_array_equal(reference.ask((0,))[: len(inner)], said)
    lacking = ~reference.presence[:, 1]
    assert lacking.any()
    assert np.isnan(reference.ask((0, 1))[lacking]).all()
    assert np.isnan(reference.ask((1,))[lacking]).all()


def test_of_folds_each_answers_for_the_studies_that_it_was_not_fitted_on():
    views, labels = world(800)
    at = np.arange(800)
    ids, folds = [f"S{i}" for i in at], {}
    for number in range(2):
        mine = at % 2 == number
        roles = {
            "train": mine & (at < 300),
            "inner": mine & (at >= 300) & (at < 500),
            "calibration": (at >= 500) & (at < 600),
            "test": at >= 600,
        }
        own = {view: values + number for view, values in views.items()}
        folds[f"fold-{number}"] = HeadRows(table_from_arrays(ids, own), labels, roles)
    ensemble = fit_head("logistic", {}, folds, seed=0, progress=False).ensemble
    reference = reference_of(ensemble, folds, lambda p: p)
    assert len(reference.presence) == 200 + 100 + 300
    assert reference.held_out.sum() == 300
    said, start = reference.ask((0,)), 0
    for fold, rows in folds.items():
        inner = hide(rows.of("inner")[0], ["b"])
        own = ensemble.members[fold].fused(inner)
        np.testing.assert_array_equal(said[start : start + 100], own)
        start += 100
    kept = {fold: hide(rows.of("calibration")[0], ["b"]) for fold, rows in folds.items()}
    np.testing.assert_array_equal(said[200:300], ensemble.fused(kept))


def test_probabilities_are_corrected_before_anything_is_decided(made):
    rows, ensemble, plain = made
    other = reference_of(ensemble, rows, lambda p: p / 2)
    np.testing.assert_array_equal(other.ask((0,)), plain.ask((0,)) / 2)


def stub(before, after, held_out=None):
    """Studies with both of two views, of which a is shown first."""
    n = len(before)
    asked = {(0,): before, (0, 1): after}
    held = np.ones(n, bool) if held_out is None else held_out
    return Reference(np.ones((n, 2), bool), held, lambda shown: asked[shown][:, None])


def one_label(reference, p, threshold=0.5, neighbours=50):
    return next_views(
        reference,
        np.array([[True, False]]),
        np.array([[p]], np.float32),
        (Target("x"),),
        [threshold],
        neighbours=neighbours,
    )


def test_only_studies_of_the_same_decision_count():
    before = np.concatenate([np.full(30, 0.49), np.full(30, 0.51)])
    after = np.concatenate([np.full(30, 0.9), np.full(30, 0.8)])
    reference = stub(before, after)
    assert one_label(reference, 0.49).flips[0, 0, 1] == 1
    assert one_label(reference, 0.51).flips[0, 0, 1] == 0
    # At another threshold nobody is called positive before.
    low = one_label(reference, 0.51, threshold=0.85)
    assert low.calls[0, 0] == 0
    assert low.flips[0, 0, 1] == pytest.approx(0.5, abs=0.2)


def test_training_studies_count_only_where_held_out_ones_are_few():
    """Of those that the head was fitted on every decision flips, of the others none."""
    for held, flips in ((40, 0), (20, 20 / 40)):
        held_out = np.arange(held + 20) < held
        reference = stub(np.full(held + 20, 0.6), np.where(held_out, 0.7, 0.4), held_out)
        found = one_label(reference, 0.6, neighbours=held + 20 if held == 20 else 30)
        assert found.flips[0, 0, 1] == pytest.approx(flips)
        assert found.held_out[0, 0, 1] == (held == 40)


def test_of_few_similar_studies_nothing_is_told():
    for count, told in ((9, False), (10, True)):
        reference = stub(np.full(count, 0.6), np.full(count, 0.4))
        found = one_label(reference, 0.7)
        assert np.isfinite(found.flips[0, 0, 1]) == told
        assert found.best()[0, 0] == (1 if told else -1)
        assert found.rests_on[0, 0, 1] == (count if told else 0)


def test_a_study_without_any_view_has_no_next_one():
    found = next_views(
        stub(np.full(20, 0.6), np.full(20, 0.4)),
        np.zeros((1, 2), bool),
        np.full((1, 1), np.nan, np.float32),
        (Target("x"),),
        [0.5],
    )
    assert found.calls[0, 0] == -1
    assert np.isnan(found.flips).all()
    assert found.best()[0, 0] == -1


def test_of_several_classes_the_most_probable_one_is_decided():
    targets = (Target("side", ("l", "r", "n")), Target("x"))
    p = np.array([[0.2, 0.5, 0.3, 0.4], [np.nan] * 3 + [0.5]], np.float32)
    calls, odds = calls_of(p, targets, [0.5, 0.5])
    assert calls.tolist() == [[1, 0], [-1, 1]]
    assert odds[0, 0] == pytest.approx(0)
    assert np.isnan(odds[1, 0])
    assert odds[0, 1] == pytest.approx(np.log(0.4 / 0.6))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-40, 40), st.booleans()), min_size=1, max_size=40),
    st.integers(-50, 50),
    st.integers(1, 45),
)
def test_the_neighbours_are_the_nearest_ones(reference, asked, neighbours):
    odds = np.array([x for x, _ in reference], float)
    flipped = np.array([f for _, f in reference])
    share, count = flip_shares(odds, flipped, np.array([float(asked)]), neighbours)
    assert count == min(neighbours, len(odds))
    distance = np.sort(np.abs(odds - asked))
    last = distance[count - 1]
    # Ties at the edge may fall either way; what is nearer than the edge counts in full.
    inside = flipped[np.abs(odds - asked) < last].sum()
    edge = np.abs(odds - asked) == last
    left = count - (np.abs(odds - asked) < last).sum()
    most = inside + min(left, flipped[edge].sum())
    least = inside + max(0, left - (~flipped[edge]).sum())
    assert least <= round(share[0] * count) <= most


def test_wilson_interval():
    low, high = wilson(np.array([0.0, 0.5, 1.0]), 50)
    assert low == pytest.approx([0, 0.36645, 0.92865], abs=1e-5)
    assert high == pytest.approx([0.07135, 0.63355, 1], abs=1e-5)
