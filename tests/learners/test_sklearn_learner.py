from __future__ import annotations

import numpy as np
import pytest
import skops.io
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from two_views import binary, two_views

from mvp.errors import ConfigError, DataError, StoreDamagedError
from mvp.features import table_from_arrays
from mvp.learners import Head
from mvp.learners.safe_skops import dump, load
from mvp.learners.sklearn import _calibrated
from mvp.statistics import auroc
from mvp.types import Labels, Target


def test_partly_known_label_is_fitted_on_its_known_rows_alone() -> None:
    table, bits = two_views(200, 12, 0)
    values = bits.astype(np.float32)
    known = np.arange(200) % 10 < 3
    values[~known, 1] = np.nan
    together = Head.fit("logistic", {}, table, binary(values, "a", "b"), seed=0)
    alone = Head.fit("logistic", {}, table.select(known), binary(values[known, 1], "b"), seed=0)
    assert np.array_equal(together.predict(table)[:, 1], alone.predict(table)[:, 0])


def test_scaling_and_imputation_never_see_the_predicted_rows(studies) -> None:
    table, labels, _ = studies
    head = Head.fit("logistic", {}, table, labels, seed=0)
    blocks = {view: table.block(view).copy() for view in table.views}
    blocks["first"][50:] += 100
    other = table_from_arrays(list(table.studies), blocks)
    assert np.array_equal(head.predict(other)[:50], head.predict(table)[:50])


def test_presence_of_a_view_is_a_feature() -> None:
    table, bits = two_views(200, 6, 0, signal=0.0)
    blocks = {v: table.block(v).copy() for v in table.views}
    blocks["lateral"][bits[:, 0] == 1] = np.nan
    gone = table_from_arrays(list(table.studies), blocks)
    head = Head.fit("logistic", {"C": 10.0}, gone, binary(bits[:, 0], "x"), seed=0)
    assert auroc(bits[:, 0], head.predict(gone)[:, 0]) > 0.99


@pytest.mark.parametrize(
    "name",
    [
        "ensemble.GradientBoostingClassifier",
        "ensemble.HistGradientBoostingClassifier",
        "gaussian_process.GaussianProcessClassifier",
        "linear_model.RidgeClassifier",
        "naive_bayes.GaussianNB",
        "neighbors.KNeighborsClassifier",
        "neural_network.MLPClassifier",
        "svm.SVC",
    ],
)
def test_other_classifiers_can_be_stored_without_pickle(name: str, studies, tmp_path) -> None:
    table, labels, _ = studies
    head = Head.fit(f"sklearn.{name}", {}, table, labels, seed=0)
    head.save(tmp_path)
    assert np.array_equal(Head.load(tmp_path).predict(table), head.predict(table))


def test_decisions_become_calibrated_probabilities() -> None:
    table, bits = two_views(300, 12, 0, signal=1.0)
    test, test_bits = two_views(2000, 12, 1, signal=1.0)
    rare = bits[:, 0] & (np.arange(300) % 2 == 0)
    truth = test_bits[:, 0] & (np.arange(2000) % 2 == 0)
    head = Head.fit("sklearn.svm.LinearSVC", {}, table, binary(rare, "x"), seed=0)
    assert abs(head.predict(test)[:, 0].mean() - truth.mean()) < 0.04


def test_calibration_needs_two_patients_of_every_class() -> None:
    table, _ = two_views(40, 4, 0)
    groups = ["one patient"] * 10 + [f"p{i}" for i in range(30)]
    blocks = {v: table.block(v) for v in table.views}
    table = table_from_arrays(list(table.studies), blocks, groups=groups)
    labels = binary(np.arange(40) < 10, "x")
    with pytest.raises(DataError, match="'x' has a class in one patient only"):
        Head.fit("sklearn.svm.LinearSVC", {}, table, labels, seed=0)


def test_calibration_holds_out_whole_patients() -> None:
    y, groups = np.arange(60) % 2, np.repeat([f"p{i}" for i in range(15)], 4)
    splits = _calibrated(LinearSVC(), Target("x"), y, groups, 0).cv
    assert len(splits) == 5
    assert all(not set(groups[train]) & set(groups[held]) for train, held in splits)


def test_class_that_never_occurs_gets_probability_zero(studies) -> None:
    table, labels, _ = studies
    values = labels.values.copy()
    values[values[:, 1] == 1, 1] = np.nan
    head = Head.fit("logistic", {}, table, Labels(labels.targets, values), seed=0)
    result = head.predict(table)[:, 1:4]
    assert (result[:, 1] == 0).all()
    assert np.allclose(result.sum(axis=1), 1)


def test_wrong_value_of_an_option_is_one_line(studies) -> None:
    with pytest.raises(ConfigError, match=r"cannot be fitted to label 'complete'.*'C'"):
        Head.fit("logistic", {"C": -1}, studies[0], studies[1], seed=0)


@pytest.mark.parametrize("function", ["numpy.testing.runstring", "os.system", "builtins.eval"])
def test_file_that_names_a_function_is_not_loaded(function: str, tmp_path) -> None:
    import importlib

    module, _, name = function.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    path = tmp_path / "model.skops"
    path.write_bytes(skops.io.dumps(FunctionTransformer(func=found)))
    with pytest.raises(StoreDamagedError, match="not trusted"):
        load(path)


def test_garbage_is_damage(tmp_path) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(StoreDamagedError, match="cannot be read"):
        load(path)


def test_what_could_not_be_loaded_is_not_written(tmp_path) -> None:
    with pytest.raises(ConfigError, match="without pickle"):
        dump(FunctionTransformer(func=np.testing.assert_equal), tmp_path / "model.skops")
    assert not list(tmp_path.iterdir())
