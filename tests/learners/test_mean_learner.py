from __future__ import annotations

import numpy as np
import pytest
from two_views import binary, two_views

from mvp.errors import ConfigError, DataError
from mvp.features import FeatureTable, table_from_arrays
from mvp.learners import Head, make_learner
from mvp.learners.comparison import FUSION, MEAN, HeadFamily
from mvp.types import Labels


def with_gaps(rows: int, seed: int) -> tuple[FeatureTable, np.ndarray]:
    """Two views, each missing in some studies, both in every 30th."""
    table, bits = two_views(rows, 6, seed)
    blocks = {view: table.block(view).copy() for view in table.views}
    blocks["frontal"][::5], blocks["lateral"][::6] = np.nan, np.nan
    return table_from_arrays(list(table.studies), blocks), bits


def family(learner: str, options: dict, table: FeatureTable, labels: Labels) -> HeadFamily:
    singles = {}
    for view in table.views:
        rows = np.flatnonzero(table.only([view]).presence[:, 0])
        own = table.only([view]).select(rows)
        singles[view] = Head.fit(learner, options, own, labels.select(rows), seed=0)
    return HeadFamily(Head.fit(learner, options, table, labels, seed=0), singles)


def test_it_is_the_mean_that_stands_beside_every_fusion() -> None:
    table, bits = with_gaps(200, 0)
    labels = binary(bits, "a", "b")
    test, _ = with_gaps(90, 1)
    head = Head.fit("mean", {"options": {"C": 0.1}}, table, labels, seed=0)
    beside = family("logistic", {"C": 0.1}, table, labels).predict(test)[MEAN]
    seen = test.presence.any(axis=1)
    assert 0 < seen.sum() < len(test)
    np.testing.assert_array_equal(head.predict(test)[seen], beside[seen])
    # As the fusion of a family of its own, it ties with that family's mean.
    own = family("mean", {"options": {"C": 0.1}}, table, labels)
    said = own.predict(test)
    assert own.models == ("frontal", "lateral", MEAN, FUSION)
    np.testing.assert_array_equal(said[FUSION][seen], said[MEAN][seen])


def test_a_study_without_views_gets_the_prevalence(studies) -> None:
    table, labels, _ = studies
    head = Head.fit("mean", {}, table, labels, seed=0)
    blind = table.select(~table.presence.any(axis=1))
    known = labels.values[labels.known[:, 1], 1]
    shares = [(known == c).mean() for c in range(3)]
    expected = [labels.values[:, 0].mean(), *shares, np.nanmean(labels.values[:, 2])]
    np.testing.assert_allclose(head.predict(blind), np.tile(expected, (len(blind), 1)), rtol=1e-5)


def test_a_label_that_a_view_cannot_teach_is_left_to_the_others(tmp_path) -> None:
    table, bits = two_views(120, 6, 0)
    blocks = {view: table.block(view).copy() for view in table.views}
    blocks["lateral"][bits[:, 0] == 1] = np.nan
    table = table_from_arrays(list(table.studies), blocks)
    labels = binary(bits, "a", "b")
    head = Head.fit("mean", {}, table, labels, seed=0)
    assert {v: h.outputs for v, h in head.learner._heads.items()} == {
        "frontal": ("a", "b"),
        "lateral": ("b",),
    }
    alone = Head.fit("logistic", {}, table.only(["frontal"]), labels, seed=0)
    said = head.predict(table)
    np.testing.assert_array_equal(said[:, 0], alone.predict(table)[:, 0])
    head.save(tmp_path)
    np.testing.assert_array_equal(Head.load(tmp_path).predict(table), said)
    lateral_alone = head.predict(
        table_from_arrays(
            list(table.studies), {**blocks, "frontal": np.full_like(blocks["frontal"], np.nan)}
        )
    )
    np.testing.assert_allclose(lateral_alone[:, 0], bits[:, 0].mean(), rtol=1e-6)


def test_label_that_no_view_can_teach_is_refused() -> None:
    table, bits = two_views(60, 6, 0)
    blocks = {view: table.block(view).copy() for view in table.views}
    blocks["frontal"][bits[:, 0] == 0], blocks["lateral"][bits[:, 0] == 1] = np.nan, np.nan
    table = table_from_arrays(list(table.studies), blocks)
    with pytest.raises(DataError, match="no view alone has studies of two classes of label 'a'"):
        Head.fit("mean", {}, table, binary(bits, "a", "b"), seed=0)


def test_views_stop_early_on_the_validation_studies_that_have_them() -> None:
    table, bits = with_gaps(200, 0)
    held, held_bits = with_gaps(60, 1)
    options = {"of": "xgboost", "options": {"n_jobs": 1, "early_stopping_rounds": 3}}
    validation = held, binary(held_bits[:, 0], "a")
    head = Head.fit("mean", options, table, binary(bits[:, 0], "a"), validation=validation, seed=0)
    rounds = [h.learner._boosters[0].num_boosted_rounds() for h in head.learner._heads.values()]
    assert len(rounds) == 2
    assert max(rounds) < 400


def test_of_draws_it_is_the_mean_over_views_and_draws() -> None:
    rng = np.random.default_rng(0)
    bits = np.arange(80) % 2
    film = (rng.normal(size=(80, 3, 5)) + bits[:, None, None]).astype(np.float32)
    values = (rng.normal(size=(80, 4)) + bits[:, None]).astype(np.float32)
    values[::5] = np.nan
    table = table_from_arrays([str(i) for i in range(80)], {"film": film, "values": values})
    labels = binary(bits, "a")
    said = Head.fit("mean", {}, table, labels, seed=0, tta="augment").predict(table)
    singles = np.full((80, 2), np.nan, np.float32)
    for column, view in enumerate(table.views):
        own = table.only([view])
        rows = np.flatnonzero(own.presence[:, 0])
        head = Head.fit(
            "logistic", {}, own.select(rows), labels.select(rows), seed=0,
            tta="augment" if view == "film" else "mean",
        )  # fmt: skip
        singles[rows, column] = head.predict(own.select(rows))[:, 0]
    assert said.shape == (80, 1)
    np.testing.assert_allclose(said[:, 0], np.nanmean(singles, axis=1), atol=2e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": "mean"}, "of is 'mean', expected"),
        ({"of": 3}, "of is 3, expected"),
        ({"of": "logistik"}, "did you mean 'logistic'"),
        ({"options": "C"}, "options is 'C', expected"),
        ({"options": {"c": 1}}, "no option 'c'"),
        ({"options": {"C": -1}}, "cannot be fitted to label"),
    ],
)
def test_wrong_values_of_its_options_are_named(studies, options: dict, message: str) -> None:
    learner = make_learner("mean", options)
    with pytest.raises(ConfigError, match=message):
        learner.fit(studies[0], studies[1], validation=None, seed=0)
