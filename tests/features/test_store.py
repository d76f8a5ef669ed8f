"""The store: what was computed is found again, what is damaged is computed again, alone."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cached import KEY, WIDTH, files_of, fill, flip, ids, numbers_of, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.errors import DataError, StaleError, StoreDamagedError
from mvp.features import FeatureKey, FeatureStore


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_rows_are_read_in_any_order_and_as_often_as_asked(tmp_path_factory, data):
    store = opened(tmp_path_factory.mktemp("s"))
    for _ in range(data.draw(st.integers(1, 3))):  # several extractions, overlapping
        chosen = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=20))
        fill(store, ids(chosen), unit_rows=data.draw(st.integers(1, 7)))
        assert all(row in store for row in ids(chosen))
    rows = sorted(store.rows)
    wanted = data.draw(st.lists(st.sampled_from(rows), max_size=40))
    np.testing.assert_array_equal(store.read(wanted), numbers_of(wanted))


def test_nothing_is_computed_twice(tmp_path):
    store = opened(tmp_path)
    assert fill(store, ids(range(10)), unit_rows=4) == [0, 1, 2]
    assert fill(opened(tmp_path), ids(range(10))) == []
    assert fill(opened(tmp_path), ids([3, 11, 11, 4])) == [0]
    assert len(opened(tmp_path)) == 11


def test_rejected_rows_cannot_be_read_and_keep_their_reason(tmp_path):
    rows = ids(range(6))
    store = opened(tmp_path)
    fill(store, rows, rejected=[rows[2]])
    assert rows[2] not in store
    assert store.rejected == {rows[2]: "damaged"}
    assert len(store) == 5
    with pytest.raises(KeyError):
        store.read([rows[2]])


@pytest.mark.parametrize("others", [[], [1, 2]])
def test_a_rejected_row_can_be_tried_again(tmp_path, others):
    """Also when it was all that its segment held: limits and libraries change."""
    rows = ids([0, *others])
    fill(opened(tmp_path), rows, rejected=rows[:1])
    store = opened(tmp_path)
    fill(store, rows[:1], rejected=rows[:1])
    fill(store, rows[:1])
    assert rows[0] in store
    assert store.rejected == {}
    np.testing.assert_array_equal(store.read(rows), numbers_of(rows))


def test_an_interrupted_extraction_goes_on_in_its_own_segment(tmp_path):
    rows = ids(range(11))
    fill(opened(tmp_path / "whole"), rows)
    fill(opened(tmp_path / "cut"), rows, stop=1)
    cut = opened(tmp_path / "cut")
    assert len(cut) == 4
    assert fill(cut, rows) == [1, 2]
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("left", ["whole", "half", "nothing"])
def test_killed_between_the_array_and_the_ledger(tmp_path, left):
    rows = ids(range(10))
    store = opened(tmp_path)
    fill(store, rows)
    before = files_of(tmp_path)
    (segment,) = store.segments
    for unit in (1, 2):
        (segment.folder / "ledger" / f"{unit}.json").unlink()
        path = segment.stored_object(unit)
        if left == "half":
            path.write_bytes(path.read_bytes()[:20])
        if left == "nothing":
            path.unlink()
    store = opened(tmp_path)
    assert set(store.rows) == set(rows[:4])
    assert fill(store, rows) == [1, 2]
    assert files_of(tmp_path) == before


def test_killed_while_planning_leaves_nothing_that_counts(tmp_path, monkeypatch):
    store = opened(tmp_path)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mvp.features.planning.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            store.plan(ids(range(4)), WIDTH, 4, {})
    assert opened(tmp_path).segments == []
    assert fill(opened(tmp_path), ids(range(4))) == [0]


def test_damage_is_recomputed_alone(tmp_path):
    rows = ids(range(10))
    fill(opened(tmp_path), rows)
    before = files_of(tmp_path)
    store = opened(tmp_path)
    flip(store.segments[0].stored_object(1))
    assert store.discard_damaged(deep=False) == 0
    with pytest.raises(StoreDamagedError, match="unit 1"):
        store.read(rows)
    np.testing.assert_array_equal(store.read(rows[:4]), numbers_of(rows[:4]))
    assert store.discard_damaged(deep=True) == 1
    assert not any(row in store for row in rows[4:8])
    assert fill(store, rows) == [1]
    assert files_of(tmp_path) == before
    assert store.discard_damaged(deep=True) == 0


def test_missing_and_truncated_chunks_are_discarded_without_reading_all(tmp_path):
    store = opened(tmp_path)
    fill(store, ids(range(12)))
    store.segments[0].stored_object(0).unlink()
    path = store.segments[0].stored_object(2)
    path.write_bytes(path.read_bytes()[:-1])
    assert store.discard_damaged(deep=False) == 2
    assert fill(store, ids(range(12))) == [0, 2]


def test_two_stores_that_open_at_a_time_lose_no_row(tmp_path):
    def extract(number):
        store = opened(tmp_path)
        fill(store, ids(range(number, number + 12)), unit_rows=3)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(extract, [0, 0, 6, 6, 12, 0]))
    store = opened(tmp_path)
    rows = ids(range(24))
    np.testing.assert_array_equal(store.read(rows), numbers_of(rows))
    assert store.discard_damaged(deep=True) == 0


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(FeatureKey)])
def test_features_of_two_keys_never_meet(tmp_path, field):
    rows = ids(range(4))
    fill(opened(tmp_path), rows)
    value = {"version": 99, "dtype": "float16"}.get(field, "other")
    other = opened(tmp_path, dataclasses.replace(KEY, **{field: value}))
    assert len(other) == 0
    assert other.folder != opened(tmp_path).folder
    fill(other, rows, width=2)
    assert opened(tmp_path).read(rows).shape == (4, WIDTH)
    assert other.read(rows).shape == (4, 2)


def test_a_folder_that_holds_another_key_is_refused(tmp_path):
    folder = opened(tmp_path).folder
    other = opened(tmp_path, dataclasses.replace(KEY, weights="c" * 32)).folder
    (folder / "key.json").write_bytes((other / "key.json").read_bytes())
    with pytest.raises(StoreDamagedError, match="another key"):
        opened(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null"])
def test_a_damaged_key_is_one_clear_line(tmp_path, text):
    path = opened(tmp_path).folder / "key.json"
    path.write_text(text)
    for use in (
        lambda: opened(tmp_path),
        lambda: FeatureStore(tmp_path).keys("frontal"),
        lambda: FeatureStore(tmp_path).find("frontal", KEY.digest),
    ):
        with pytest.raises(StoreDamagedError) as caught:
            use()
        assert str(path) in str(caught.value)


def test_keys_are_found_by_view_and_digest(tmp_path):
    fill(opened(tmp_path), ids([1]))
    store = FeatureStore(tmp_path)
    assert store.keys("frontal") == [KEY]
    assert store.keys("lateral") == []
    assert len(store.find("frontal", KEY.digest)) == 1
    assert store.find("frontal", "0" * 32) is None


GOLDEN = np.array([[1.0, -2.0], [0.5, 0.0]], np.float32)


def test_new_surroundings_that_agree_are_remembered(tmp_path):
    store, calls = opened(tmp_path), []

    def compute(values=GOLDEN):
        calls.append(1)
        return values

    assert store.agree_with_golden({"torch": "1"}, compute, 1e-4)
    assert not store.agree_with_golden({"torch": "1"}, compute, 1e-4)
    assert store.agree_with_golden({"torch": "2"}, lambda: compute(GOLDEN + 1e-5), 1e-4)
    assert not opened(tmp_path).agree_with_golden({"torch": "2"}, compute, 1e-4)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "values",
    [GOLDEN + 1e-3, -GOLDEN, GOLDEN[:, :1], GOLDEN[:1], np.zeros((0, 2)), np.full((2, 2), np.inf)],
)
def test_new_surroundings_that_differ_are_refused_and_nothing_is_stored(tmp_path, values):
    store = opened(tmp_path)
    store.agree_with_golden({"torch": "1"}, lambda: GOLDEN, 1e-4)
    before = files_of(tmp_path)
    with pytest.raises((StaleError, DataError)):
        store.agree_with_golden({"torch": "2"}, lambda: values, 1e-4)
    assert files_of(tmp_path) == before


def test_numbers_that_are_not_finite_are_no_golden_batch(tmp_path):
    store = opened(tmp_path)
    with pytest.raises(DataError, match="NaN or inf"):
        store.agree_with_golden({}, lambda: GOLDEN * np.nan, 1e-4)
    assert store.agree_with_golden({}, lambda: GOLDEN, 1e-4)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\x93NUMPY\x01\x00"])
def test_a_damaged_golden_batch_is_one_clear_line(tmp_path, data):
    store = opened(tmp_path)
    store.agree_with_golden({"a": 1}, lambda: GOLDEN, 1e-4)
    (store.folder / "golden.npy").write_bytes(data)
    with pytest.raises(StoreDamagedError, match="golden"):
        store.agree_with_golden({"a": 2}, lambda: GOLDEN, 1e-4)
