from __future__ import annotations

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from two_views import binary, two_views

from mvp.errors import ConfigError, DataError, StoreDamagedError
from mvp.features import FeatureTable, table_from_arrays
from mvp.learners import Head
from mvp.learners.linear import is_plain, load_plain
from mvp.learners.safe_skops import dump, load
from mvp.learners.sklearn import LogisticLearner, _calibrated
from mvp.learners.standardise import Standardiser
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


def away_from_zero() -> tuple[FeatureTable, Labels]:
    """Features far from zero, of which two views are missing at times; labels of all kinds."""
    rng = np.random.default_rng(3)
    blocks = {v: rng.normal(300, 2, (400, w)).astype(np.float32) for v, w in (("a", 150), ("b", 7))}
    blocks["c"] = (rng.normal(size=(400, 3)) * 1e-3).astype(np.float32)
    first, grade = blocks["a"][:, 0] > 300, np.digitize(blocks["b"][:, 0], [299, 301])
    blocks["b"][::3], blocks["c"][1::4] = np.nan, np.nan
    values = np.stack([first, grade, grade, first, first], axis=1).astype(np.float32)
    values[values[:, 2] == 1, 2] = np.nan  # a class that never occurs
    values[rng.random(400) < 0.7, 3] = np.nan
    targets = (
        Target("x"),
        Target("grade", ("low", "middle", "high")),
        Target("lacking", ("low", "middle", "high")),
        Target("partly"),
        Target("y"),
    )
    return table_from_arrays([str(i) for i in range(400)], blocks), Labels(targets, values)


def test_matrix_product_says_what_predict_proba_says(monkeypatch, tmp_path) -> None:
    table, labels = away_from_zero()
    head = Head.fit("logistic", {"C": 1.0}, table, labels, seed=0)
    # The third and the fourth label are known in rows of their own.
    assert [len(models.models) for models in head.learner._linear] == [3, 1, 1]
    fast = head.predict(table)
    head.save(tmp_path)
    assert np.array_equal(Head.load(tmp_path).predict(table), fast)
    monkeypatch.setattr(head.learner, "_linear", [])
    np.testing.assert_allclose(fast, head.predict(table), atol=1e-6)


@pytest.mark.parametrize(
    ("path", "options", "linear"),
    [
        ("linear_model.LogisticRegression", {"solver": "newton-cg"}, True),
        ("linear_model.LogisticRegression", {"solver": "liblinear"}, True),
        ("ensemble.RandomForestClassifier", {"n_estimators": 5}, False),
        ("linear_model.RidgeClassifier", {}, False),
    ],
)
def test_matrix_product_is_for_logistic_regressions_alone(path, options, linear) -> None:
    table, bits = two_views(80, 6, 0)
    head = Head.fit(f"sklearn.{path}", options, table, binary(bits, "a", "b"), seed=0)
    assert bool(head.learner._linear) == linear


def test_inputs_are_those_of_the_rows_that_are_known() -> None:
    table, labels = away_from_zero()
    rows = np.flatnonzero(labels.known[:, 3])
    head = Head.fit("logistic", {}, table, labels, seed=0)
    known = table.select(rows)
    for view, columns in table.signature.slices.items():
        present = known.block(view)[known.presence[:, table.views.index(view)]]
        mean = present.mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(head.learner._scalers[3].mean[columns], mean, rtol=1e-6)


def test_standardiser_measures_in_batches_what_it_measures_at_once(monkeypatch) -> None:
    table, _ = away_from_zero()
    whole = Standardiser.fit(table)
    for view, columns in table.signature.slices.items():
        present = table.block(view)[table.presence[:, table.views.index(view)]].astype(np.float64)
        np.testing.assert_allclose(whole.mean[columns], present.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(whole.std[columns], present.std(axis=0), rtol=1e-6)
    batches = FeatureTable.batches
    monkeypatch.setattr(FeatureTable, "batches", lambda table, size=4096: batches(table, 7))
    parts = Standardiser.fit(table)
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(parts.std, whole.std, rtol=1e-6)


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


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_is_arrays_and_is_read_without_skops(
    classes: int, tmp_path, monkeypatch
) -> None:
    table, bits = two_views(120, 4, 0)
    target = Target("a", ("x", "y", "z")) if classes == 3 else Target("a")
    labels = Labels((target,), (bits.sum(axis=1) % classes).astype(np.float32)[:, None])
    learner = LogisticLearner().fit(table, labels, validation=None, seed=3)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        learner.save(tmp_path / folder)
    one, two = (tmp_path / f / "model-0.npz" for f in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    made, read = learner._models[0], load_plain(one)
    assert {k: type(v) for k, v in vars(made).items()} == {
        k: type(v) for k, v in vars(read).items()
    }
    assert np.array_equal(made.coef_, read.coef_) and made.get_params() == read.get_params()
    two.unlink()
    dump(made, two.with_suffix(".skops"))  # as older versions wrote it
    old = LogisticLearner.load(tmp_path / "two")
    monkeypatch.setattr("mvp.learners.sklearn.load", None)
    new = LogisticLearner.load(tmp_path / "one")
    for other in (old, new):
        assert np.array_equal(other.predict(table), learner.predict(table))


def test_what_json_does_not_keep_is_left_to_skops() -> None:
    x, y = np.eye(4), np.array([0, 1, 0, 1])
    assert is_plain(LogisticRegression().fit(x, y))
    assert not is_plain(LogisticRegression(class_weight={0: 1, 1: 2}).fit(x, y))
    assert not is_plain(LogisticRegression().fit(x, y.astype(str)))
    assert not is_plain(LogisticRegression())
    assert not is_plain(LinearSVC().fit(x, y))
