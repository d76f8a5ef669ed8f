from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import xgboost
from two_views import binary, two_views

from mvp.errors import ConfigError, DataError
from mvp.features import FeatureTable, table_from_arrays
from mvp.learners import Head, make_learner, xgb_data
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
    "option",
    [
        {"n_estimators": 0},
        {"max_depth": "deep"},
        {"max_depth": 2.5},
        {"subsample": 7},
        {"subsample": 0},
        {"learning_rate": "x"},
        {"colsample_bytree": float("nan")},
        {"early_stopping_rounds": True},
        {"reg_lambda": -1},
        {"min_child_weight": None},
        {"n_jobs": -2},
        {"memory_limit": -1},
    ],
)
def test_wrong_options_are_named(studies, option: dict) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(option))} is .*, expected a"):
        make_learner("xgboost", option).fit(studies[0], studies[1], validation=None, seed=0)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go; batches are of 50 rows."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(xgb_data, "_BATCH_BYTES", 50 * 24 * 4)
    return tmp_path


def test_trees_are_the_same_wherever_the_bins_are_kept(temporary, monkeypatch, tmp_path) -> None:
    table, bits = two_views(230, 12, 0)
    held, held_bits = two_views(90, 12, 1)
    blocks = {view: table.block(view).copy() for view in table.views}
    blocks["lateral"][::4] = np.nan
    table = table_from_arrays(list(table.studies), blocks)
    values = np.column_stack([bits, bits[:, 0]]).astype(np.float32)
    values[::3, 2] = np.nan
    labels = binary(values, "a", "b", "partly")
    stop = held, binary(np.column_stack([held_bits, held_bits[:, 0]]), "a", "b", "partly")
    files, train = [], xgboost.train

    def watched(*arguments, **keywords):
        files.append(sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()))
        return train(*arguments, **keywords)

    monkeypatch.setattr(xgboost, "train", watched)
    # Nothing asks for all features at once.
    monkeypatch.setattr(FeatureTable, "matrix", None)

    def predicted(**options) -> np.ndarray:
        options = {**QUICK, **options}
        head = Head.fit("xgboost", options, table, labels, validation=stop, seed=0)
        return head.predict(held)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        streamed, outside = predicted(), predicted(memory_limit=0)
    assert files[:2] == [0, 0]
    assert min(files[2:]) > 230 * 24 / 2
    assert not list(temporary.iterdir())
    monkeypatch.setattr(xgb_data, "_BATCH_BYTES", 1 << 30)
    whole = predicted()
    np.testing.assert_array_equal(streamed, whole)
    np.testing.assert_allclose(outside, whole, atol=1e-6)


class Failing:
    """A view that fails when it is read for the n-th time."""

    def __init__(self, block, reads: int, failure: BaseException) -> None:
        self.block, self.reads, self.failure = block, reads, failure
        self.width, self.finite, self.draws = block.width, block.finite, block.draws
        self.let_goes = 0

    def let_go(self) -> None:
        self.let_goes += 1

    def read(self, rows, draws=None):
        self.reads -= 1
        if self.reads < 0:
            raise self.failure
        return self.block.read(rows, draws)


@pytest.mark.parametrize("reads", [0, 2, 9])
@pytest.mark.parametrize("memory_limit", [0, 1])
@pytest.mark.parametrize("failure", [DataError("damage"), KeyboardInterrupt()])
def test_failure_or_interrupt_while_reading_is_not_the_end_of_the_rows(
    temporary, reads: int, memory_limit: int, failure: BaseException
) -> None:
    table, bits = two_views(230, 12, 0)
    table.blocks["lateral"] = Failing(table.blocks["lateral"], reads, failure)
    options = {**QUICK, "memory_limit": memory_limit}
    with pytest.raises(type(failure)) as caught:
        Head.fit("xgboost", options, table, binary(bits, "a", "b"), seed=0)
    assert caught.value is failure
    assert not list(temporary.iterdir())


def test_files_are_gone_after_a_failed_fit(temporary, monkeypatch) -> None:
    table, bits = two_views(230, 12, 0)

    def train(parameters, rows, *_, **__):
        assert any(p.is_file() for p in temporary.rglob("*"))
        raise xgboost.core.XGBoostError("trace\nno space left")

    monkeypatch.setattr(xgboost, "train", train)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigError, match="no space left"):
            options = {**QUICK, "memory_limit": 0}
            Head.fit("xgboost", options, table, binary(bits, "a", "b"), seed=0)
    assert not list(temporary.iterdir())


def test_too_little_room_is_said_before_anything_is_written(temporary, monkeypatch) -> None:
    table, bits = two_views(230, 12, 0)
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(xgb_data.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ConfigError, match=r"0\.0 GB are free.*TMPDIR.*memory_limit"):
        Head.fit("xgboost", {"memory_limit": 0}, table, binary(bits, "a", "b"), seed=0)
    assert not list(temporary.iterdir())


def test_stored_features_do_not_stay_in_memory_once_read(temporary) -> None:
    table, bits = two_views(230, 12, 0)
    block = table.blocks["lateral"] = Failing(table.blocks["lateral"], 1 << 30, DataError("never"))
    Head.fit("xgboost", QUICK, table, binary(bits, "a", "b"), seed=0)
    reads = (1 << 30) - block.reads
    assert reads >= 2 * 5
    assert block.let_goes >= reads


def test_small_tables_are_read_once() -> None:
    table, bits = two_views(230, 12, 0)
    table.blocks["lateral"] = Failing(table.blocks["lateral"], 1, DataError("read twice"))
    Head.fit("xgboost", QUICK, table, binary(bits, "a", "b"), seed=0)
