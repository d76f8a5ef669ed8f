from __future__ import annotations

import inspect
import textwrap
from importlib.metadata import entry_points

import broken_learners as broken
import numpy as np
import pytest
from two_views import binary, two_views

from mvp.errors import ConfigError
from mvp.learners import Head, Learner, check_learner, find_learner
from mvp.learners.contract import check_labels_apart
from mvp.learners.mean import MeanLearner
from mvp.learners.mlp import MLPLearner
from mvp.learners.registry import GROUP
from mvp.learners.sklearn import LogisticLearner
from mvp.learners.xgb import XGBoostLearner
from mvp.statistics import auroc

SMALL = {"epochs": 10, "hidden": 16, "n_estimators": 20, "n_jobs": 1, "patience": 5}
OURS = sorted(p.name for p in entry_points(group=GROUP) if p.value.startswith("mvp."))
FOREST = ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 20})
BOOSTING = ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 20})


def small(name: str) -> dict[str, int]:
    """Options of one of our learners with which a fit is quick."""
    taken = inspect.signature(find_learner(name)).parameters
    return {option: value for option, value in SMALL.items() if option in taken}


@pytest.mark.parametrize("name", OURS)
def test_our_learners_hold_the_contract(name: str) -> None:
    shapes = {"spatial": True, "maps": (2, 1, 3)}
    check_learner(name, maps=shapes.get(name, False), **small(name))


@pytest.mark.parametrize(
    ("factory", "options"),
    [
        (MLPLearner, {"epochs": 20, "hidden": 16, "view_dropout": 0.5, "batch_size": 89}),
        (XGBoostLearner, {"n_estimators": 20, "n_jobs": 1, "early_stopping_rounds": 3}),
        ("xgboost", {"n_estimators": 20, "n_jobs": 1, "memory_limit": 0}),
        (LogisticLearner, {"class_weight": "balanced"}),
        (MeanLearner, {"of": "xgboost", "options": {"n_estimators": 20, "n_jobs": 1}}),
        FOREST,
        BOOSTING,
        ("sklearn.svm.LinearSVC", {"C": 0.1}),
        (broken.NumpyLearner, {"sharpness": 0.3}),
    ],
)
def test_learners_hold_the_contract(factory, options) -> None:
    check_learner(factory, **options)


@pytest.mark.parametrize(
    ("factory", "options"),
    [("logistic", {}), ("xgboost", small("xgboost")), ("mean", {}), FOREST, BOOSTING],
)
def test_label_with_unknown_rows_is_fitted_as_if_alone(factory, options) -> None:
    check_labels_apart(factory, **options)


@pytest.mark.parametrize("learner", [broken.UnknownIsNegative, broken.SharesALevel])
def test_label_that_is_not_fitted_as_if_alone_is_caught(learner) -> None:
    with pytest.raises(AssertionError, match="known in 40% of the rows is fitted otherwise"):
        check_labels_apart(learner)


def test_views_in_another_order_are_caught(monkeypatch) -> None:
    monkeypatch.setattr(Head, "_fitting", lambda self, table: table)
    with pytest.raises((AssertionError, ConfigError), match=r"another order|failed while predict"):
        check_learner(broken.NumpyLearner, sharpness=0.3)


def test_features_of_other_views_are_caught(monkeypatch) -> None:
    monkeypatch.setattr(Head, "_fitting", lambda self, table: table.only(self.signature.views))
    with pytest.raises(AssertionError, match="other views are not refused"):
        check_learner(broken.NumpyLearner, sharpness=0.3)


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        (broken.BusyConstructor, "only store its options"),
        (broken.Unseeded, "same seed"),
        (broken.GlobalSeed, "global random state of numpy"),
        (broken.UnknownIsNegative, "unknown labels"),
        (broken.UnknownIsFirstClass, "classes of a label .* unknown labels"),
        (broken.NeedsEveryViewSomewhere, "'first' missing in every study.*not finite"),
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
