from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.special import expit, softmax

from mvp.errors import ConfigError, DataError
from mvp.statistics.conformal import ConformalPredictor, abstentions, covered


def binary(seed: int, rows: int, rate: float = -1.5):
    """The lateral view alone sees less, and its model is surer than it should be."""
    rng = np.random.default_rng(seed)
    groups = rng.choice(["frontal+lateral", "frontal", "lateral"], rows, p=[0.5, 0.3, 0.2])
    odds = rng.normal(rate, 2, rows)
    y = (rng.random(rows) < expit(odds)).astype(float)
    seen = odds + rng.normal(0, np.where(groups == "lateral", 3, 0.5), rows)
    return expit(seen), y, groups


def several(seed: int, rows: int):
    rng = np.random.default_rng(seed)
    groups = rng.choice(["frontal+lateral", "frontal"], rows)
    odds = rng.normal([1, 0, 0], 1.5, (rows, 3))
    y = (softmax(odds, axis=1).cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    noise = rng.normal(0, np.where(groups == "frontal", 2, 0.3)[:, None], (rows, 3))
    return softmax(2 * odds + noise, axis=1), y.astype(float), groups


@pytest.mark.parametrize("made", [binary, several])
def test_nine_of_ten_are_covered_in_every_class_and_every_pattern(made) -> None:
    shares: dict = {}
    for seed in range(8):
        predictor = ConformalPredictor.fit(*made(seed, 3000), alpha=0.1)
        assert not predictor.pooled
        p, y, groups = made(seed + 100, 4000)
        right = covered(predictor.sets(p, groups), y)
        cells = [("all", np.full(len(y), True))]
        cells += [((g, "any"), groups == g) for g in np.unique(groups)]
        cells += [((c, "any"), y == c) for c in np.unique(y)]
        cells += [((g, c), (groups == g) & (y == c)) for g in np.unique(groups) for c in set(y)]
        for name, rows in cells:
            shares.setdefault(name, []).append(right[rows].mean())
    for name, values in shares.items():
        assert np.mean(values) == pytest.approx(0.9, abs=0.03), name


def test_a_pooled_quantile_would_miss_the_weak_pattern() -> None:
    p, y, groups = binary(0, 6000)
    pooled = ConformalPredictor.fit(p, y, np.full(len(y), "any"))
    weak = (groups == "lateral") & (y == 1)
    assert covered(pooled.sets(p, groups), y)[weak].mean() < 0.85
    own = ConformalPredictor.fit(p, y, groups)
    assert covered(own.sets(p, groups), y)[weak].mean() > 0.88


def test_repeated_studies_of_a_patient_count_once() -> None:
    # One patient brings two hundred studies of the worst kind; the others one good one each.
    rng = np.random.default_rng(0)
    p = np.r_[rng.uniform(0.6, 1, 100), np.full(200, 0.01)]
    y, groups = np.ones(300), np.full(300, "frontal")
    patients = np.r_[[f"p{i}" for i in range(100)], np.full(200, "q")]
    by_patient = ConformalPredictor.fit(p, y, groups, patients=patients)
    by_row = ConformalPredictor.fit(p, y, groups)
    assert by_patient.by_class[1].n == 101
    assert by_patient.by_class[1].quantile < 0.4
    assert by_row.by_class[1].quantile == pytest.approx(0.99)


def test_coverage_holds_for_a_study_of_a_new_patient_where_patients_differ() -> None:
    """A patient's studies are alike, and difficult patients have many."""

    def patients_of(seed):
        rng = np.random.default_rng(seed)
        hard = rng.random(300) < 0.2
        count = np.where(hard, 12, 1)
        own = rng.normal(np.where(hard, -1, 3), 1).repeat(count)
        return expit(own + rng.normal(0, 0.2, len(own))), np.arange(300).repeat(count)

    shares, naive = [], []
    for seed in range(20):
        p, who = patients_of(seed)
        ones, groups = np.ones(len(p)), np.full(len(p), "frontal")
        fits = [ConformalPredictor.fit(p, ones, groups, patients=w, seed=seed) for w in (who, None)]
        q, whose = patients_of(seed + 1000)
        first = np.unique(whose, return_index=True)[1]
        for fitted, into in zip(fits, (shares, naive), strict=True):
            sets = fitted.sets(q[first], groups[: len(first)])
            into.append(covered(sets, np.ones(len(first))).mean())
    assert np.mean(shares) == pytest.approx(0.9, abs=0.02)
    assert np.mean(naive) > 0.94


def test_the_drawn_study_depends_on_the_seed_and_not_on_the_order() -> None:
    p, y, groups = binary(3, 600)
    patients = np.random.default_rng(0).integers(0, 150, 600)
    first = ConformalPredictor.fit(p, y, groups, patients=patients, seed=1)
    order = np.random.default_rng(1).permutation(600)
    shuffled = ConformalPredictor.fit(
        p[order], y[order], groups[order], patients=patients[order], seed=1
    )
    assert shuffled == first
    assert ConformalPredictor.fit(p, y, groups, patients=patients, seed=2) != first


@pytest.mark.parametrize(("alpha", "least"), [(0.1, 9), (0.2, 4), (0.05, 19), (0.3, 3)])
def test_too_few_patients_of_a_pattern_take_the_pooled_quantile(alpha, least) -> None:
    for rows, pooled in ((least, ()), (least - 1, (("rare", 0),))):
        p = np.r_[np.linspace(0.1, 0.3, 50), np.linspace(0.1, 0.6, 50), np.full(rows, 0.4)]
        y = np.r_[np.zeros(50), np.ones(50), np.zeros(rows)]
        groups = np.r_[np.full(100, "common"), np.full(rows, "rare")]
        made = ConformalPredictor.fit(p, y, groups, alpha)
        # The rare pattern has no positive at all, whose quantile is pooled either way.
        assert made.pooled == (*pooled, ("rare", 1))
        assert made.undecided == ()
        sets = made.sets([0.35, 0.35], ["rare", "never seen"])
        assert (
            sets[1].tolist()
            == (
                1 - np.array([0.65, 0.35]) <= [made.by_class[0].quantile, made.by_class[1].quantile]
            ).tolist()
        )
        if pooled:
            np.testing.assert_array_equal(sets[0], sets[1])


def test_a_rank_that_is_a_whole_number_is_not_rounded_up() -> None:
    # (9 + 1) (1 - .7) is 3.0000000000000004 in floating point.
    p = np.linspace(0.9, 0.1, 9)
    made = ConformalPredictor.fit(p, np.ones(9), np.full(9, "frontal"), 0.7)
    assert made.by_class[1].quantile == pytest.approx(0.3)


def test_a_class_with_too_few_patients_is_in_every_set() -> None:
    p = np.r_[np.linspace(0, 0.4, 40), 0.9]
    made = ConformalPredictor.fit(p, np.r_[np.zeros(40), 1], np.full(41, "frontal"))
    assert made.undecided == (1,)
    assert made.sets([0.0, 0.5, 1.0], ["frontal"] * 3)[:, 1].all()
    none = ConformalPredictor.fit([], [], [])
    assert none.undecided == (0, 1)
    assert none.sets([0.2], ["frontal"]).all()


def test_empty_and_full_sets_are_abstentions() -> None:
    sets = np.array([[True, False], [False, False], [True, True]])
    np.testing.assert_array_equal(abstentions(sets), [False, True, True])
    np.testing.assert_array_equal(covered(sets, [0, 1, np.nan]), [1, 0, np.nan])


def test_nothing_is_ruled_out_where_nothing_is_said() -> None:
    made = ConformalPredictor.fit(*several(0, 500))
    sets = made.sets([[np.nan] * 3, [0.98, 0.01, 0.01]], ["frontal", "frontal+lateral"])
    assert sets[0].all()
    assert not sets[1].all()


def test_unknown_rows_and_rows_not_spoken_of_teach_nothing() -> None:
    p, y, groups = binary(0, 300)
    more = ConformalPredictor.fit(
        np.r_[p, 0.9, np.nan], np.r_[y, np.nan, 1], np.r_[groups, groups[:2]]
    )
    assert more == ConformalPredictor.fit(p, y, groups)


def test_predictors_are_written_and_read() -> None:
    p, y, groups = several(1, 60)
    made = ConformalPredictor.fit(p, y, np.r_[["rare"] * 3, groups[3:]], 0.05)
    assert made.pooled
    read = ConformalPredictor.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False)))
    assert read == made
    rare = ConformalPredictor.fit([0.2] * 30, [0] * 30, ["a"] * 30)
    assert math.isinf(ConformalPredictor.from_json(rare.to_json()).by_class[1].quantile)


@pytest.mark.parametrize(
    "change", [{"by_class": None}, {"by_group": {"a": [None]}}, {"classes": 3}, {"alpha": "x"}]
)
def test_a_damaged_predictor_is_refused(change) -> None:
    written = ConformalPredictor.fit(*binary(0, 100)).to_json()
    with pytest.raises(DataError, match="cannot be read"):
        ConformalPredictor.from_json({**written, **change})


def test_wrong_use_is_refused() -> None:
    p, y, groups = binary(0, 50)
    for alpha in (0, 1, -0.1):
        with pytest.raises(ConfigError, match="alpha"):
            ConformalPredictor.fit(p, y, groups, alpha)
    with pytest.raises(DataError, match="groups have shape"):
        ConformalPredictor.fit(p, y, groups[1:])
    with pytest.raises(DataError, match="patients have shape"):
        ConformalPredictor.fit(p, y, groups, patients=[1])
    made = ConformalPredictor.fit(p, y, groups)
    with pytest.raises(DataError, match="sets of 2 classes"):
        made.sets(np.full((4, 3), 1 / 3), ["frontal"] * 4)
    with pytest.raises(DataError, match="no probabilities"):
        made.sets([3.0], ["frontal"])
    for labels in ([0, 1], [2]):
        with pytest.raises(DataError, match="sets of shape"):
            covered(np.ones((1, 2), bool), labels)


class Given:
    """A fitted classifier whose probabilities are its input."""

    classes_ = np.arange(3)
    n_features_in_ = 3

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        return x

    def predict(self, x):
        return x.argmax(axis=1)

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.filterwarnings("ignore:.*conformalization dataset has less labels")
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.25])
def test_a_class_is_kept_where_mapie_keeps_it(alpha) -> None:
    """On the rows of one class alone, the marginal sets of another library decide about it."""
    mapie = pytest.importorskip("mapie.classification")
    p, y, _ = several(4, 700)
    q, _, others = several(5, 300)
    everyone = np.full(len(y), "any")
    ours = ConformalPredictor.fit(p, y, everyone, alpha).sets(q, others)
    for c in range(3):
        theirs = mapie.SplitConformalClassifier(
            Given(), confidence_level=1 - alpha, conformity_score="lac"
        )
        theirs.conformalize(p[y == c], y[y == c].astype(int))
        _, sets = theirs.predict_set(q)
        np.testing.assert_array_equal(ours[:, c], sets[:, c, 0])
