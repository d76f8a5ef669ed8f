"""Families of heads that speak together: means over folds, and who may be asked about whom."""

import numpy as np
import pytest

from mvp.errors import DataError, StaleError
from mvp.features import table_from_arrays
from mvp.learners.comparison import FUSION, MEAN
from mvp.learners.ensemble import SAME_ROWS, HeadRows
from mvp.stages.fit_head import fit_head
from mvp.types import Labels, Target

N = 240


def fold_of_networks(seed):
    """The features of one fold's networks: the same studies in another basis."""
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 2, N).astype(np.float32)
    signal = truth[:, None] * 1.5 + rng.standard_normal((N, 2))
    turn = np.random.default_rng(seed).standard_normal((2, 4))
    a, b = ((signal[:, [i]] @ turn[[i]]).astype(np.float32) for i in range(2))
    missing = np.random.default_rng(8).random(N)
    a[missing < 0.2] = np.nan
    b[missing > 0.8] = np.nan
    table = table_from_arrays(
        [f"S{i}" for i in range(N)], {"a": a, "b": b}, keys={"a": f"a{seed}", "b": f"b{seed}"}
    )
    return table, Labels((Target("x"),), truth[:, None])


def folded_rows():
    """Two folds; the last quarter is test, the quarter before it calibration."""
    rows = {}
    for k in range(2):
        table, labels = fold_of_networks(k)
        position = np.arange(N)
        learned = position < N // 2
        mine = learned & (position % 2 == k)
        inner = mine & (position % 10 < 2)
        roles = {
            "train": mine & ~inner,
            "inner": inner,
            "calibration": (position >= N // 2) & (position < 3 * N // 4),
            "test": position >= 3 * N // 4,
        }
        rows[f"fold-{k}"] = HeadRows(table, labels, roles)
    return rows


@pytest.fixture(scope="module")
def folded():
    rows = folded_rows()
    return rows, fit_head("logistic", {}, rows, seed=0, progress=False).ensemble


def test_what_is_said_of_test_is_the_mean_over_the_pairs(folded):
    rows, ensemble = folded
    asked = ensemble.ask(rows, "test")
    each = [ensemble.members[f].predict(one.of("test")[0]) for f, one in rows.items()]
    for model in ensemble.models:
        said = np.mean([one[model] for one in each], axis=0)
        np.testing.assert_allclose(asked.predicted[model], said, rtol=1e-6)
    np.testing.assert_array_equal(
        ensemble.fused({f: one.of("test")[0] for f, one in rows.items()}), asked.predicted[FUSION]
    )
    assert ensemble.models == ("a", "b", MEAN, FUSION)


def test_inner_rows_are_answered_by_their_own_fold_alone(folded):
    """The other fold's network was trained on them."""
    rows, ensemble = folded
    asked = ensemble.ask(rows, "inner")
    own = np.concatenate([ensemble.members[f].fused(one.of("inner")[0]) for f, one in rows.items()])
    np.testing.assert_array_equal(asked.predicted[FUSION], own)
    assert len(set(asked.studies.tolist())) == len(asked) == 24
    one = rows["fold-0"]
    labels = dict(zip(one.table.studies, one.labels.values, strict=True))
    assert all(labels[s] == v for s, v in zip(asked.studies, asked.labels.values, strict=True))


def test_features_of_one_fold_are_never_read_by_the_other_folds_head(folded):
    rows, ensemble = folded
    crossed = {
        f: rows[other].of("test")[0] for f, other in [("fold-0", "fold-1"), ("fold-1", "fold-0")]
    }
    with pytest.raises(StaleError, match="with key a0, these have key a1"):
        ensemble.predict(crossed)


def test_folds_in_another_order_are_refused(folded):
    rows, ensemble = folded
    tables = {f: one.of("test")[0] for f, one in rows.items()}
    tables["fold-1"] = tables["fold-1"].select(np.arange(len(tables["fold-1"]))[::-1])
    with pytest.raises(DataError, match="other studies, or in another order"):
        ensemble.fused(tables)
    del tables["fold-1"]
    with pytest.raises(DataError, match="no features of fold-1"):
        ensemble.fused(tables)


def test_a_study_without_any_view_is_said_nothing_of(folded):
    rows, ensemble = folded
    tables = {f: one.of("test")[0] for f, one in rows.items()}
    blank = {
        f: table_from_arrays(
            ["s"], {v: np.full((1, 4), np.nan, np.float32) for v in "ab"}, keys=dict(t.keys)
        )
        for f, t in tables.items()
    }
    assert np.isnan(ensemble.fused(blank)).all()


def test_a_fold_that_cannot_be_fitted_is_named():
    rows = folded_rows()
    one = rows["fold-1"]
    values = one.labels.values.copy()
    values[one.roles["train"]] = 1
    rows["fold-1"] = HeadRows(one.table, Labels(one.labels.targets, values), one.roles)
    with pytest.raises(DataError, match="fold-1"):
        fit_head("logistic", {}, rows, seed=0, progress=False)


def test_the_ablation_is_fitted_on_its_own_rows_and_hinders_nothing():
    table, labels = fold_of_networks(0)
    position = np.arange(N)
    roles = {
        "train": position < 80,
        "inner": (position >= 80) & (position < 100),
        SAME_ROWS: (position >= 100) & (position < 180),
        f"{SAME_ROWS}-inner": position >= 230,
        "test": (position >= 180) & (position < 230),
    }
    rows = {"all": HeadRows(table, labels, roles)}
    fitted = fit_head("logistic", {}, rows, seed=0, progress=False)
    assert fitted.ablation is not None
    honest = fitted.ensemble.first.fusion
    test = table.select(roles["test"])
    assert not np.array_equal(honest.predict(test), fitted.ablation.predict(test))
    values = labels.values.copy()
    values[roles[SAME_ROWS]] = 1
    spoilt = {"all": HeadRows(table, Labels(labels.targets, values), roles)}
    again = fit_head("logistic", {}, spoilt, seed=0, progress=False)
    assert again.ablation is None
    assert any("same-rows" in note for note in again.notes)
    np.testing.assert_array_equal(honest.predict(test), again.ensemble.first.fusion.predict(test))


def test_masks_of_another_length_are_refused():
    table, labels = fold_of_networks(0)
    with pytest.raises(DataError, match="train"):
        HeadRows(table, labels, {"train": np.ones(3, bool)})
    with pytest.raises(DataError, match="labels"):
        HeadRows(table, labels.select([0]), {})
