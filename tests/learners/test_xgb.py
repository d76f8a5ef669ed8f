from __future__ import annotations

import numpy as np
import pytest
from two_views import binary, two_views

from mvp.errors import ConfigError
from mvp.features import table_from_arrays
from mvp.learners import Head
from mvp.statistics import auroc
from mvp.types import Labels

QUICK = {"n_estimators": 25, "n_jobs": 1}


def test_partly_known_label_is_fitted_on_its_known_rows_alone() -> None:
    table, bits = two_views(200, 12, 0)
    values = bits.astype(np.float32)
    known = np.arange(200) % 10 < 3
    values[~known, 1] = np.nan
    together = Head.fit("xgboost", QUICK, table, binary(values, "a", "b"), seed=0)
    alone = Head.fit("xgboost", QUICK, table.select(known), binary(values[known, 1], "b"), seed=0)
    assert np.array_equal(together.predict(table)[:, 1], alone.predict(table)[:, 0])


def test_complete_labels_share_one_booster_of_the_same_quality(tmp_path) -> None:
    table, bits = two_views(400, 24, 0, signal=1.5)
    test, test_bits = two_views(600, 24, 1, signal=1.5)
    rare = (bits[:, 0] & bits[:, 1] & (np.arange(400) % 3 == 0)).astype(int)
    labels = binary(np.column_stack([bits, rare]), "a", "b", "rare")
    shared = Head.fit("xgboost", QUICK, table, labels, seed=0)
    shared.save(tmp_path)
    assert len(list((tmp_path / "learner").glob("*.ubj"))) == 1
    together = shared.predict(test)
    # Also the level of a rare label: each output has an intercept of its own.
    assert abs(together[:, 2].mean() - rare.mean()) < 0.05
    for column in range(2):
        one = binary(labels.values[:, column], "x")
        alone = Head.fit("xgboost", QUICK, table, one, seed=0).predict(test)[:, 0]
        truth = test_bits[:, column]
        assert abs(auroc(truth, together[:, column]) - auroc(truth, alone)) < 0.02


def test_missing_view_is_missing_and_not_zero() -> None:
    table, bits = two_views(200, 6, 0)
    blocks = {v: table.block(v) + 50 for v in table.views}
    blocks["lateral"][bits[:, 1] == 1] = np.nan
    gone = table_from_arrays(list(table.studies), blocks)
    head = Head.fit("xgboost", QUICK, gone, binary(bits[:, 1], "x"), seed=0)
    assert auroc(bits[:, 1], head.predict(gone)[:, 0]) == 1


def test_early_stopping_keeps_the_best_round(tmp_path) -> None:
    table, bits = two_views(80, 12, 0, signal=1.5)
    held, held_bits = two_views(80, 12, 1, signal=1.5)
    labels, validation = binary(bits[:, 0], "x"), (held, binary(held_bits[:, 0], "x"))

    def fitted(rounds: int, validation) -> Head:
        options = {"n_estimators": rounds, "n_jobs": 1, "early_stopping_rounds": 5}
        return Head.fit("xgboost", options, table, labels, validation=validation, seed=0)

    def loss(head: Head) -> float:
        p = head.predict(held)[:, 0]
        return float(-np.log(np.where(held_bits[:, 0], p, 1 - p)).mean())

    stopped = fitted(300, validation)
    kept = stopped.learner._boosters[0].num_boosted_rounds()
    assert 5 < kept < 250
    assert all(loss(stopped) <= loss(fitted(kept + more, None)) for more in (-5, -1, 1, 5))
    stopped.save(tmp_path)
    assert np.array_equal(Head.load(tmp_path).predict(table), stopped.predict(table))


def test_label_unknown_in_validation_gets_all_its_trees(studies) -> None:
    table, labels, (held, held_labels) = studies
    values = held_labels.values.copy()
    values[:, 2] = np.nan
    validation = held, Labels(labels.targets, values)
    head = Head.fit("xgboost", QUICK, table, labels, validation=validation, seed=0)
    assert head.learner._boosters[-1].num_boosted_rounds() == QUICK["n_estimators"]


@pytest.mark.parametrize(
    "option", [{"n_estimators": 0}, {"max_depth": "deep"}, {"subsample": 7}, {"learning_rate": "x"}]
)
def test_wrong_options_are_named(studies, option: dict) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(option))}|refuses its options"):
        Head.fit("xgboost", option, studies[0], studies[1], seed=0)
