"""Accuracy of labels with several classes: what it is measured on, and what it is compared with."""

import numpy as np
import pytest

from mvp.config import EvaluateConfig
from mvp.features import table_from_arrays
from mvp.learners.ensemble import HeadRows
from mvp.stages.evaluate import evaluate
from mvp.stages.fit_head import fit_head
from mvp.types import Labels, Target

KIND = Target("kind", ("a", "b", "c", "d"))


def studies(n=480, seed=0):
    """Four kinds: one view tells the first pair from the second, the other which of the pair."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 4, n).astype(np.float32)
    left, right = rng.standard_normal((2, n, 4)).astype(np.float32)
    left[:, 0] += 3 * (kind // 2) - 1.5
    right[:, 0] += 3 * (kind % 2) - 1.5
    # A weak hint lets the second view alone be the better one.
    right[:, 1] += 0.7 * (kind // 2)
    left[rng.random(n) < 0.1] = np.nan
    kind[rng.random(n) < 0.1] = np.nan
    flag = (right[:, 2] > 0).astype(np.float32)
    groups = [f"P{i // 2}" for i in range(n)]
    table = table_from_arrays([f"S{i}" for i in range(n)], {"l": left, "r": right}, groups=groups)
    labels = Labels((Target("flag"), KIND), np.stack([flag, kind], axis=1))
    return table, labels, np.arange(n) // 2 % 4


def head_rows(table, labels, part):
    roles = {"train": part < 2, "inner": part == 2, "test": part == 3}
    return {"all": HeadRows(table, labels, roles)}


@pytest.fixture(scope="module")
def fitted():
    table, labels, part = studies()
    rows = head_rows(table, labels, part)
    return table, labels, part, fit_head("logistic", {}, rows, seed=0, progress=False).ensemble


def measure(fitted, values=None):
    table, labels, part, heads = fitted
    if values is not None:
        labels = Labels(labels.targets, values)
    rows = head_rows(table, labels, part)
    return evaluate(heads, rows, settings=EvaluateConfig(draws=200), seed=0)


def row(result, model):
    return next(r for r in result.accuracies if r.model == model)


def test_every_model_is_measured_on_the_known_rows_that_it_can_score(fitted):
    table, labels, part, heads = fitted
    result = measure(fitted)
    assert {r.label for r in result.accuracies} == {"kind"}
    assert [r.model for r in result.accuracies] == list(heads.models)
    test = np.flatnonzero(part == 3)
    truth = labels.values[test, 1]
    for model, values in result.curves.items():
        chances = values[:, 1:]
        known = ~np.isnan(truth) & ~np.isnan(chances[:, 0])
        right = chances[known].argmax(axis=1) == truth[known]
        found = row(result, model)
        assert (found.n, found.correct) == (known.sum(), right.sum())
        assert found.accuracy == pytest.approx(right.mean())
        assert found.low < found.accuracy < found.high
        assert found.majority == np.bincount(truth[known].astype(int)).max() / known.sum()
        assert found.patients == len(set(table.groups[test][known]))
    assert row(result, "l").n < row(result, "fusion").n


def test_the_fusion_is_compared_paired_with_the_best_view_and_with_the_mean(fitted):
    result = measure(fitted)
    best, mean = result.accuracy_differences
    assert (best.other, best.chosen_on) == ("r", "validation")
    assert (mean.other, mean.chosen_on) == ("mean", "no choice")
    fusion = row(result, "fusion")
    assert best.difference == pytest.approx(fusion.accuracy - row(result, "r").accuracy)
    assert best.low > 0.1
    width = row(result, "mean").high - row(result, "mean").low
    assert mean.high - mean.low < width


def test_the_best_view_is_chosen_on_validation_not_on_the_test(fitted):
    _, labels, part, _ = fitted
    values = labels.values.copy()
    # On the test rows alone, the first view's half of the answer is all there is to know.
    values[part == 3, 1] = values[part == 3, 1] // 2 * 2
    assert measure(fitted, values).accuracy_differences[0].other == "r"


def test_one_class_in_the_test_is_undefined_and_says_its_n(fitted):
    _, labels, part, _ = fitted
    values = labels.values.copy()
    values[part == 3, 1] = 2
    result = measure(fitted, values)
    for found in result.accuracies:
        assert (found.accuracy, found.low, found.high, found.majority) == (None,) * 4
        assert found.n > 0
    assert all(d.difference is None for d in result.accuracy_differences)


def test_without_validation_the_view_of_most_studies_stands_in_and_it_is_said(fitted):
    _, labels, part, _ = fitted
    values = labels.values.copy()
    values[part == 2, 1] = np.nan
    best = measure(fitted, values).accuracy_differences[0]
    assert best.other == "r"
    assert best.chosen_on == "most studies (validation is undefined)"


def test_binary_labels_alone_have_no_accuracy(fitted):
    table, labels, part, _ = fitted
    one = Labels(labels.targets[:1], labels.values[:, :1])
    rows = head_rows(table, one, part)
    heads = fit_head("logistic", {}, rows, seed=0, progress=False).ensemble
    result = measure((table, one, part, heads))
    assert result.accuracies == result.accuracy_differences == []
