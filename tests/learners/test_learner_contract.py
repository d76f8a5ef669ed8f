from __future__ import annotations

import inspect
import textwrap

import broken_learners as broken
import numpy as np
import pytest
from two_views import binary, two_views

from mvp.learners import Head, Learner, check_learner
from mvp.learners.mlp import MLPLearner
from mvp.learners.sklearn import LogisticLearner
from mvp.learners.xgb import XGBoostLearner
from mvp.statistics import auroc


@pytest.mark.parametrize(
    ("factory", "options"),
    [
        ("mlp", {"epochs": 20, "hidden": 16}),
        (MLPLearner, {"epochs": 20, "hidden": 16, "view_dropout": 0.5, "batch_size": 89}),
        ("xgboost", {"n_estimators": 20, "n_jobs": 1}),
        (XGBoostLearner, {"n_estimators": 20, "n_jobs": 1, "early_stopping_rounds": 3}),
        ("logistic", {}),
        (LogisticLearner, {"class_weight": "balanced"}),
        ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 20}),
        ("sklearn.svm.LinearSVC", {"C": 0.1}),
        (broken.NumpyLearner, {"sharpness": 0.3}),
    ],
)
def test_learners_hold_the_contract(factory, options) -> None:
    check_learner(factory, **options)


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        (broken.BusyConstructor, "only store its options"),
        (broken.Unseeded, "same seed"),
        (broken.GlobalSeed, "global random state of numpy"),
        (broken.UnknownIsNegative, "unknown labels"),
        (broken.LetsNaNThrough, "not finite"),
        (broken.LooksAtItsNeighbours, "depend on the other studies"),
        (broken.WrongShape, "shape"),
        (broken.Logits, "outside"),
        (broken.ClassesApart, "sum to 1"),
        (broken.Pickles, "pickle"),
        (broken.ForgetsOptions, "save and load"),
        (broken.EditsLabels, "changed the labels"),
    ],
)
def test_broken_learners_are_caught(learner, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_learner(learner, sharpness=0.3)


def test_learner_that_needs_validation_is_caught() -> None:
    with pytest.raises((AssertionError, TypeError)):
        check_learner(broken.NeedsValidation)


def test_example_of_the_docstring_works(module, tmp_path) -> None:
    code = inspect.getdoc(Learner).partition("    class MeansLearner:")
    body = textwrap.dedent("    class MeansLearner:" + code[2].partition("\nName it")[0])
    module("means", f"import json\nimport numpy as np\n\n{body}")
    table, bits = two_views(100, 6, 0)
    head = Head.fit("means.MeansLearner", {}, table, binary(bits, "a", "b"), seed=0)
    head.save(tmp_path / "head")
    loaded = Head.load(tmp_path / "head").predict(table)
    assert np.array_equal(loaded, head.predict(table))
    assert auroc(bits[:, 1], loaded[:, 1]) > 0.9
