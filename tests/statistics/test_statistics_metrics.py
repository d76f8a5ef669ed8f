from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

from mvp.errors import DataError
from mvp.statistics import accuracy, auprc, auroc, hits
from mvp.statistics.ranking import Ranking, weighted_auprc, weighted_auroc


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_agree_with_scikit_learn_with_ties(levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 80)
    p = np.round(rng.random(80) + 0.2 * y, 3)
    p = np.floor(p * levels) / levels
    assert auroc(y, p) == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    assert auprc(y, p) == pytest.approx(average_precision_score(y, p), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_weights_agree_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, 2, 60), rng.integers(0, 7, 60) / 7
    weights = rng.poisson(1, (60, 4))
    ranking = Ranking(y == 1, p)
    for draw in range(4):
        w = weights[:, draw]
        assert weighted_auroc(ranking, weights)[draw] == pytest.approx(
            roc_auc_score(y, p, sample_weight=w), abs=1e-12
        )
        assert weighted_auprc(ranking, weights)[draw] == pytest.approx(
            average_precision_score(y, p, sample_weight=w), abs=1e-12
        )


def test_hand_examples() -> None:
    assert auroc([0, 1], [0.1, 0.2]) == 1
    assert auroc([0, 1], [0.2, 0.1]) == 0
    assert auroc([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]) == 0.5
    assert auprc([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]) == 0.5


@pytest.mark.parametrize("y", [[0, 0, 0], [1, 1, 1], [np.nan, np.nan, 1], [np.nan] * 3, []])
def test_missing_class_is_undefined(y) -> None:
    p = np.linspace(0, 1, len(y))
    assert auroc(y, p) is None
    assert auprc(y, p) is None


def test_unknown_rows_are_left_out() -> None:
    y, p = [0, np.nan, 1, 0, np.nan], [0.1, 0.9, 0.4, 0.6, np.nan]
    assert auroc(y, p) == auroc([0, 1, 0], [0.1, 0.4, 0.6]) == 0.5


@pytest.mark.parametrize(
    ("y", "p"),
    [([0, 1], [0.1, np.nan]), ([0, 2], [0.1, 0.2]), ([0, 1], [0.1]), ([[0, 1]], [[0.1, 0.2]])],
)
def test_wrong_input_is_refused(y, p) -> None:
    with pytest.raises(DataError):
        auroc(y, p)


def test_accuracy_agrees_with_scikit_learn_on_the_known_rows() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 4, 90).astype(float), rng.dirichlet(np.ones(4), 90)
    y[::7] = np.nan
    known = ~np.isnan(y)
    assert accuracy(y, p) == accuracy_score(y[known], p[known].argmax(axis=1))
    np.testing.assert_array_equal(np.isnan(hits(y, p)), ~known)


def test_of_equal_probabilities_the_first_class_counts() -> None:
    np.testing.assert_array_equal(hits([0, 1, np.nan], np.full((3, 2), 0.5)), [1, 0, np.nan])


@pytest.mark.parametrize("y", [[2.0, 2.0, np.nan], [np.nan] * 3])
def test_accuracy_among_one_class_is_undefined(y) -> None:
    assert accuracy(y, np.full((3, 3), 1 / 3)) is None


def test_a_model_that_says_nothing_of_unknown_rows_has_an_accuracy() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [np.nan, np.nan]])
    assert accuracy([0, 1, np.nan], p) == 1


@pytest.mark.parametrize(
    ("y", "p"),
    [
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]]),
        ([0, 0.5], [[0.5, 0.5], [0.5, 0.5]]),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]]),
        ([0, 1], [[0.5, 0.5]]),
        ([0, 1], [0.5, 0.5]),
    ],
)
def test_wrong_classes_are_refused(y, p) -> None:
    with pytest.raises(DataError):
        hits(y, p)
