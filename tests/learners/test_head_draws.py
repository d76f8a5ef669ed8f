"""A head fitted on the draws of studies: labels, patients and weights stay those of studies."""

from __future__ import annotations

import numpy as np
import pytest

from mvp.errors import ConfigError, DataError
from mvp.features import FeatureTable, table_from_arrays
from mvp.learners import Head
from mvp.learners.ensemble import HeadRows
from mvp.stages.fit_head import fit_head
from mvp.types import Labels, Target

DRAWS = 4


def drawn_studies(
    rows: int = 80, seed: int = 0, spread: float = 1.0, draws: int = DRAWS
) -> tuple[FeatureTable, Labels]:
    """Two views of one bit, the second without draws and missing in every fifth study."""
    rng = np.random.default_rng(seed)
    bits = np.arange(rows) % 2
    first = rng.normal(size=(rows, 1, 5)) + 1.5 * bits[:, None, None]
    first = first + spread * rng.normal(size=(rows, draws, 5))
    second = rng.normal(size=(rows, 3)) + bits[:, None]
    second[::5] = np.nan
    blocks = {"film": first.astype(np.float32), "values": second.astype(np.float32)}
    table = table_from_arrays(
        [f"{seed}-{i}" for i in range(rows)],
        blocks,
        groups=[f"{seed}-{i // 2}" for i in range(rows)],
    )
    labels = Labels((Target("bit"),), bits[:, None].astype(np.float32))
    return table, labels


class Seen:
    """A learner that keeps what it was given."""

    last: Seen

    def fit(self, table, labels, *, validation, seed):
        self.table, self.labels, self.validation = table, labels, validation
        Seen.last = self

    def predict(self, table):
        self.asked = table
        # A curve, so that the mean of probabilities is not the probability of the mean.
        return (1 / (1 + np.exp(-3 * table.block("film")[:, :1]))).astype(np.float32)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> type[Seen]:
    monkeypatch.setattr("mvp.learners.head.make_learner", lambda *_: Seen())
    return Seen


def test_a_study_is_fitted_on_as_many_rows_as_it_has_draws(seen) -> None:
    table, labels = drawn_studies()
    other = drawn_studies(10, seed=1)
    Head.fit("seen", {}, table, labels, validation=other, seed=0, tta="augment")
    got = seen.last
    assert len(got.table) == len(got.labels) == 80 * DRAWS
    assert got.labels.values[:, 0].tolist() == np.repeat(labels.values[:, 0], DRAWS).tolist()
    assert len(got.validation[0]) == len(got.validation[1]) == 10 * DRAWS
    assert not set(got.table.groups) & set(got.validation[0].groups)
    Head.fit("seen", {}, table, labels, validation=other, seed=0)
    assert len(seen.last.table) == 80
    assert len(seen.last.validation[0]) == 10


def test_a_prediction_is_the_mean_of_the_probabilities_of_the_draws(seen) -> None:
    table, labels = drawn_studies()
    head = Head.fit("seen", {}, table, labels, seed=0, tta="augment")
    predicted = head.predict(table)
    draws = 1 / (1 + np.exp(-3 * table.by_draw().block("film")[:, 0].reshape(80, DRAWS)))
    np.testing.assert_allclose(predicted[:, 0], draws.mean(axis=1), rtol=1e-5)
    mean = Head.fit("seen", {}, table, labels, seed=0).predict(table)
    assert mean.shape == predicted.shape == (80, 1)
    assert np.abs(mean - predicted).max() > 0.01
    np.testing.assert_array_equal(head.predict(table.select([5, 3])), predicted[[5, 3]])
    assert head.predict(table.select([])).shape == (0, 1)


def test_what_is_missing_is_counted_in_studies() -> None:
    table, labels = drawn_studies(10)
    one_class = Labels(labels.targets, np.zeros_like(labels.values))
    with pytest.raises(DataError) as caught:
        Head.fit("logistic", {}, table, one_class, seed=0, tta="augment")
    assert "10 of class 0" in str(caught.value.cause)


@pytest.mark.parametrize(
    ("learner", "options"),
    [
        ("logistic", {"C": 0.01}),
        ("logistic", {"C": 0.01, "class_weight": "balanced"}),
        ("sklearn.linear_model.RidgeClassifier", {}),
        ("sklearn.naive_bayes.GaussianNB", {}),
        ("xgboost", {"n_estimators": 20, "n_jobs": 1, "subsample": 1.0, "colsample_bytree": 1.0}),
    ],
)
def test_draws_that_are_all_alike_give_the_head_of_one_row(learner, options) -> None:
    table, labels = drawn_studies(60, spread=0.0)
    mean = Head.fit(learner, options, table, labels, seed=3).predict(table)
    drawn = Head.fit(learner, options, table, labels, seed=3, tta="augment").predict(table)
    np.testing.assert_allclose(drawn, mean, atol=0.02 if "Ridge" in learner else 2e-3)


@pytest.mark.parametrize("learner", ["mlp", "logistic", "xgboost"])
def test_a_saved_head_keeps_what_it_is_of_draws(learner, tmp_path) -> None:
    table, labels = drawn_studies(60)
    options = {"epochs": 3} if learner == "mlp" else {}
    validation = drawn_studies(20, seed=1)
    head = Head.fit(learner, options, table, labels, validation=validation, seed=1, tta="augment")
    head.save(tmp_path)
    loaded = Head.load(tmp_path)
    assert loaded.tta == "augment"
    np.testing.assert_array_equal(loaded.predict(table), head.predict(table))
    plain = Head.fit(learner, options, table, labels, validation=validation, seed=1)
    plain.save(tmp_path / "plain")
    assert Head.load(tmp_path / "plain").tta == "mean"


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"early_stopping": True}),
        ("sklearn.neural_network.MLPClassifier", {"early_stopping": True}),
        ("sklearn.ensemble.GradientBoostingClassifier", {"n_iter_no_change": 3}),
        ("sklearn.linear_model.LogisticRegressionCV", {}),
    ],
)
def test_a_classifier_that_splits_rows_by_itself_is_refused_on_draws_alone(path, options) -> None:
    table, labels = drawn_studies(40)
    with pytest.raises(ConfigError, match="splits its training rows"):
        Head.fit(path, options, table, labels, seed=0, tta="augment")
    if "CV" not in path:
        off = {name: type(value)(0) if value is True else None for name, value in options.items()}
        small = {"max_iter": 5} if "Gradient" not in path or "Hist" in path else {"n_estimators": 3}
        Head.fit(path, {**off, **small}, table, labels, seed=0, tta="augment")


def test_gradient_boosting_that_would_stop_early_on_many_rows_is_refused(monkeypatch) -> None:
    monkeypatch.setattr("mvp.learners.sklearn._AUTO_STOPPING_ROWS", 100)
    path, options = "sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 2}
    with pytest.raises(ConfigError, match="splits its training rows"):
        Head.fit(path, options, *drawn_studies(40), seed=0, tta="augment")
    Head.fit(path, options, *drawn_studies(20), seed=0, tta="augment")


def test_the_stage_counts_studies_and_fits_views_without_draws_too() -> None:
    table, labels = drawn_studies(80)
    train = np.arange(80) < 60
    rows = {"all": HeadRows(table, labels, {"train": train, "inner": ~train})}
    result = fit_head("logistic", {}, rows, seed=0, tta="augment", progress=False)
    assert (result.rows, result.inner_rows) == (60, 20)
    family = result.ensemble.first
    assert {head.tta for head in (family.fusion, *family.singles.values())} == {"augment"}
    predicted = family.predict(table)
    assert {values.shape for values in predicted.values()} == {(80, 1)}
    assert np.isnan(predicted["values"][::5]).all()
