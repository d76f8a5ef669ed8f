from __future__ import annotations

import json

import numpy as np
import pytest

from mvp.errors import ConfigError, DataError, StaleError, StoreDamagedError
from mvp.features import table_from_arrays
from mvp.learners import Head, require_two_classes
from mvp.types import Labels, Target


@pytest.fixture
def head(studies) -> Head:
    table, labels, _ = studies
    return Head.fit("logistic", {"C": 0.1}, table, labels, seed=1)


def rekeyed(table, **keys: str):
    blocks = {view: table.block(view) for view in table.views}
    return table_from_arrays(list(table.studies), blocks, keys={**table.keys, **keys})


def test_saved_head_predicts_the_same(head, studies, tmp_path) -> None:
    table = studies[0]
    head.save(tmp_path / "head")
    loaded = Head.load(tmp_path / "head")
    assert np.array_equal(loaded.predict(table), head.predict(table))
    assert loaded.digest == head.digest
    assert (loaded.targets, loaded.signature) == (head.targets, head.signature)
    assert loaded.outputs == ("complete", "grade=low", "grade=middle", "grade=high", "partly")


def test_record_names_no_study_or_patient(head, studies, tmp_path) -> None:
    head.save(tmp_path)
    text = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert not any(f'"{study}"'.encode() in text for study in studies[0].studies)


def test_views_in_another_order_or_with_more_views_give_the_same(head, studies) -> None:
    table = studies[0]
    expected = head.predict(table)
    assert np.array_equal(head.predict(table.only(["second", "first"])), expected)
    more = table_from_arrays(
        list(table.studies),
        {
            "other": np.ones((len(table), 3), np.float32),
            "second": table.block("second"),
            "first": table.block("first"),
        },
    )
    assert np.array_equal(head.predict(more), expected)


def test_missing_view_is_refused(head, studies) -> None:
    with pytest.raises(ConfigError, match=r"needs the view\(s\) second"):
        head.predict(studies[0].only(["first"]))


def test_features_of_another_network_are_refused(head, studies) -> None:
    with pytest.raises(StaleError, match=r"key second.*key retrained.*view second.*mvp fit-head"):
        head.predict(rekeyed(studies[0], second="retrained"))


def test_other_width_is_refused(head, studies) -> None:
    table = studies[0]
    blocks = {"first": table.block("first")[:, :5], "second": table.block("second")}
    with pytest.raises(ConfigError, match="fitted on 6 features, these are 5"):
        head.predict(table_from_arrays(list(table.studies), blocks))


class Returns:
    def __init__(self, values) -> None:
        self.values = values

    def predict(self, table):
        if isinstance(self.values, Exception):
            raise self.values
        return self.values


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda v: np.roll(v, 1, axis=1), "sum to 1"),
        (lambda v: v[:-1], "shape"),
        (lambda v: v[:, :3], "shape"),
        (lambda v: np.where(v == v[0, 0], np.nan, v), "not finite"),
        (lambda v: v * 3, "outside"),
    ],
)
def test_results_of_a_learner_are_checked(head, studies, damage, message: str) -> None:
    head.learner = Returns(damage(head.predict(studies[0])))
    with pytest.raises(ConfigError, match=message):
        head.predict(studies[0])


def test_failure_inside_a_learner_is_one_line(head, studies) -> None:
    head.learner = Returns(KeyError("weights"))
    with pytest.raises(ConfigError, match=r"failed while predicting.*KeyError"):
        head.predict(studies[0])


def test_changed_learner_file_is_damage(head, tmp_path) -> None:
    head.save(tmp_path)
    file = tmp_path / "learner" / "scaler-0.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreDamagedError, match=r"scaler-0\.npy"):
        Head.load(tmp_path)


def test_foreign_or_lacking_file_is_damage(head, tmp_path) -> None:
    head.save(tmp_path)
    extra = tmp_path / "learner" / "extra.bin"
    extra.write_bytes(b"x")
    with pytest.raises(StoreDamagedError, match="extra"):
        Head.load(tmp_path)
    extra.unlink()
    (tmp_path / "learner" / "model-1.npz").unlink()
    with pytest.raises(StoreDamagedError, match="model-1"):
        Head.load(tmp_path)


def test_edited_record_is_damage(head, tmp_path) -> None:
    head.save(tmp_path)
    record = tmp_path / "head.json"
    content = json.loads(record.read_text())
    content["targets"].reverse()
    record.write_text(json.dumps(content))
    with pytest.raises(StoreDamagedError, match="record was changed"):
        Head.load(tmp_path)


def test_head_without_record_is_unfinished(head, tmp_path) -> None:
    head.save(tmp_path)
    (tmp_path / "head.json").unlink()
    with pytest.raises(ConfigError, match="no finished head"):
        Head.load(tmp_path)


def test_interrupted_save_leaves_no_record(head, tmp_path) -> None:
    head.save(tmp_path)

    class Fails:
        def save(self, folder) -> None:
            raise OSError("disk full")

    head.learner = Fails()
    with pytest.raises(OSError, match="disk full"):
        head.save(tmp_path)
    with pytest.raises(ConfigError, match="no finished head"):
        Head.load(tmp_path)


def test_digest_needs_a_saved_head(head) -> None:
    with pytest.raises(ConfigError, match="before it is saved"):
        _ = head.digest


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("learner", ["logistic", "xgboost"])
def test_label_with_one_class_is_refused_with_its_counts(studies, value, learner) -> None:
    table, labels, _ = studies
    values = labels.values.copy()
    values[~np.isnan(values[:, 2]), 2] = value
    with pytest.raises(DataError, match=r"'partly' has fewer than two.*36 of class.*54 unknown"):
        Head.fit(learner, {}, table, Labels(labels.targets, values), seed=0)


def test_multiclass_needs_two_of_its_classes() -> None:
    grade = Target("grade", ("a", "b", "c"))
    require_two_classes(Labels((grade,), np.array([[0], [2], [np.nan]], np.float32)))
    with pytest.raises(DataError, match="2 of class c"):
        require_two_classes(Labels((grade,), np.array([[2], [2], [np.nan]], np.float32)))


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, np.inf])
def test_value_that_is_no_class_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="none of its classes"):
        require_two_classes(Labels((Target("x"),), np.array([[0], [1], [value]], np.float32)))


def test_training_and_validation_must_belong_together(studies) -> None:
    table, labels, (other, other_labels) = studies
    cases = [
        ((table, labels.select(range(10)), None), "labels of 10"),
        ((table, labels, (other, other_labels.select([0]))), "validation has"),
        ((table, labels, (other.only(["second", "first"]), other_labels)), "views or keys"),
        ((table, labels, (rekeyed(other, first="new"), other_labels)), "views or keys"),
        (
            (table, labels, (other, Labels(labels.targets[::-1], other_labels.values[:, ::-1]))),
            "another order",
        ),
        ((table, labels, (table.select([1, 2]), labels.select([1, 2]))), r"2 patient\(s\)"),
    ]
    for (features, values, validation), message in cases:
        with pytest.raises(DataError, match=message):
            Head.fit("logistic", {}, features, values, validation=validation, seed=0)


def test_options_must_be_storable(studies) -> None:
    with pytest.raises(ConfigError, match="JSON"):
        Head.fit("logistic", {"C": {1, 2}}, studies[0], studies[1], seed=0)
