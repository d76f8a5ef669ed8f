"""The index in a file finds what the one in memory finds, and is made anew when it is not right."""

import gc
import json

import numpy as np
import pytest
from cached import files_of, fill, flip, ids, numbers_of, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.features import index, kept_index, mapped, sorted_keys
from mvp.features.compact import compact
from mvp.features.kept_index import FileIndex
from mvp.features.rows import pack
from mvp.features.sorted_keys import SortedKeys, write_sorted


@pytest.fixture
def small(monkeypatch):
    """Everything that is large is so from a few rows on."""
    monkeypatch.setattr(index, "IN_MEMORY", 10)
    monkeypatch.setattr(index, "_SMALL", 3)
    monkeypatch.setattr(mapped, "LARGE", 0)
    monkeypatch.setattr(kept_index, "_BLOCK", 7)
    monkeypatch.setattr(mapped, "_TAKEN", 3)
    monkeypatch.setattr(sorted_keys, "_FENCE", 4)
    monkeypatch.setattr(sorted_keys, "_SORTED", 6)


def base(store):
    return store._index._base


def kept(root):
    return [path for path in files_of(root) if "/index/" in path]


def written(path, keys):
    with path.open("w+b") as stream:
        places = np.arange(len(keys), dtype=np.int64)
        halves = (keys[:5], places[:5]), (keys[5:], places[5:])
        parts = list(write_sorted(stream, len(keys), lambda: iter(halves)))
    return SortedKeys(path, len(keys)), parts


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12) | st.sampled_from([2**63, 2**64 - 1]), max_size=60))
def test_sorted_keys_are_found_also_where_many_are_equal(tmp_path_factory, numbers):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_keys, "_FENCE", 4)
        patch.setattr(sorted_keys, "_SORTED", 6)
        patch.setattr(sorted_keys, "_MOST_FENCES", 2)
        patch.setattr(sorted_keys, "_GAP", 1)
        keys = np.array(numbers, np.uint64)
        path = tmp_path_factory.mktemp("keys") / "k"
        found, parts = written(path, keys)
        assert sum(len(part) for part, _ in parts) == len(keys)
        asked = np.array([*range(14), 2**63, 2**64 - 1], np.uint64)
        first = [numbers.index(int(key)) if int(key) in numbers else -1 for key in asked]
        np.testing.assert_array_equal(found.find(asked, lambda n, _: np.ones(len(n), bool)), first)
        # The last of several equal ones, when only that is the one meant.
        last = [len(numbers) - 1 - numbers[::-1].index(int(k)) if k in keys else -1 for k in asked]
        np.testing.assert_array_equal(
            found.find(asked, lambda n, places: places == np.array(last)[n]), last
        )


def test_the_file_of_keys_is_closed_when_nobody_can_look_any_more(tmp_path):
    found, _ = written(tmp_path / "k", np.arange(9, dtype=np.uint64))
    stream = found._stream
    assert not stream.closed
    del found
    gc.collect()
    assert stream.closed


def test_a_large_store_is_looked_up_in_a_file(tmp_path, small):
    rows = ids(range(40))
    store = opened(tmp_path)
    fill(store, rows, rejected=rows[5:7])
    assert isinstance(base(store), FileIndex)
    assert len(kept(tmp_path)) == 2
    assert len(store) == 38
    there = [row not in rows[5:7] for row in rows]
    np.testing.assert_array_equal(store.has([*rows, *ids([99])]), [*there, False])
    np.testing.assert_array_equal(store.read(rows[30:][::-1]), numbers_of(rows[30:][::-1]))
    assert sorted(store.rows) == sorted(np.array(rows, object)[there])


def test_a_new_process_takes_the_file_and_sorts_nothing(tmp_path, small, monkeypatch):
    rows = ids(range(40))
    fill(opened(tmp_path), rows)
    assert opened(tmp_path).has(rows).all()  # makes the index of the finished segment

    def built(*_):
        raise AssertionError("it was built again")

    monkeypatch.setattr(kept_index, "write_sorted", built)
    monkeypatch.setattr(index.RowIndex, "__init__", _only_small(index.RowIndex.__init__, 0))
    store = opened(tmp_path)
    np.testing.assert_array_equal(store.read(rows), numbers_of(rows))


def _only_small(init, most):
    def checked(self, segments):
        assert sum(len(rows) for _, rows, _ in segments) <= most, "rows are held in memory"
        init(self, segments)

    return checked


def test_a_few_new_rows_stand_in_memory_beside_the_file(tmp_path, small, monkeypatch):
    rows = ids(range(40))
    fill(opened(tmp_path), rows)
    assert opened(tmp_path).has(rows).all()
    before = files_of(tmp_path)
    monkeypatch.setattr(index, "_SMALL", 6)
    fill(opened(tmp_path), ids(range(40, 44)))
    store = opened(tmp_path)
    assert store.has(ids(range(44))).all()
    assert len(store) == 44
    assert len(base(store)) == 40
    assert {p: before[p] for p in kept(tmp_path)} == {
        p: data for p, data in files_of(tmp_path).items() if "/index/" in p
    }


def test_many_new_rows_make_a_new_file_and_the_old_one_goes(tmp_path, small):
    fill(opened(tmp_path), ids(range(40)))
    assert opened(tmp_path).has(ids(range(40))).all()
    old = kept(tmp_path)
    fill(opened(tmp_path), ids(range(40, 80)))
    store = opened(tmp_path)
    assert store.has(ids(range(80))).all()
    assert len(base(store)) == 80
    assert len(kept(tmp_path)) == 2
    assert not set(old) & set(kept(tmp_path))


def test_merged_segments_make_the_index_anew(tmp_path, small):
    for start in range(0, 40, 20):
        fill(opened(tmp_path), ids(range(start, start + 20)))
    assert opened(tmp_path).has(ids(range(40))).all()
    compact(opened(tmp_path), 8)
    store = opened(tmp_path)
    rows = ids(range(40))
    np.testing.assert_array_equal(store.read(rows), numbers_of(rows))
    says = json.loads(next(tmp_path.glob("**/index/*.json")).read_text())
    assert [name for name, _ in says["segments"]] == [store.segments[0].name]


@pytest.mark.parametrize("hurt", ["bytes", "cut", "gone", "says"])
def test_a_damaged_index_is_made_anew(tmp_path, small, hurt):
    rows = ids(range(40))
    fill(opened(tmp_path), rows)
    assert opened(tmp_path).has(rows).all()
    keys = next(tmp_path.glob("**/index/*.keys"))
    whole = keys.read_bytes()
    if hurt == "bytes":
        flip(keys, 11)
    elif hurt == "cut":
        keys.write_bytes(whole[:-16])
    elif hurt == "gone":
        keys.unlink()
    else:
        flip(keys.with_suffix(".json"), 30)
    store = opened(tmp_path)
    assert store.has(rows).all()
    np.testing.assert_array_equal(store.read(rows), numbers_of(rows))
    assert keys.read_bytes() == whole


def test_where_no_index_can_be_kept_it_is_in_memory(tmp_path, small, monkeypatch):
    rows = ids(range(40))
    fill(opened(tmp_path), rows)
    for path in tmp_path.glob("**/index/*"):
        path.unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_index, "replacing", full)
    store = opened(tmp_path)
    assert isinstance(base(store), index.RowIndex)
    np.testing.assert_array_equal(store.read(rows), numbers_of(rows))


def test_rows_that_stand_twice_count_once(tmp_path, small, monkeypatch):
    segments = []
    for number, rows in enumerate([ids(range(12)), ids(range(8, 20))]):
        mask = np.ones(12, bool)
        segments.append(
            index.IndexedRows(number, f"s{number}", pack(rows), "whole", lambda m=mask: m)
        )
    found = kept_index.IndexFolder(opened(tmp_path).storage, "v/k/index").build(segments)
    model = index.RowIndex([(s.number, s.ids, s.readable()) for s in segments])
    assert len(found) == len(model) == 20
    asked = pack(ids(range(25)))
    np.testing.assert_array_equal(found.find(asked), model.find(asked))
    np.testing.assert_array_equal(found.ids(), model.ids())


def test_a_mapped_plan_that_was_changed_is_damage(tmp_path, small):
    from mvp.features.verify import verify

    rows = ids(range(40))
    fill(opened(tmp_path), rows)
    flip(next(tmp_path.glob("**/plan.npy")))
    store = opened(tmp_path)
    assert len(store.problems) == 1
    assert "row ids are not those" in str(store.problems[0])
    assert verify(store)


def test_pages_that_are_let_go_come_back(tmp_path):
    rows = ids(range(12))
    store = opened(tmp_path)
    fill(store, rows)
    for _ in range(2):
        np.testing.assert_array_equal(store.read(rows), numbers_of(rows))
        store.let_go()


def test_many_middling_files_are_mapped_as_one_large_one_is(tmp_path, monkeypatch):
    assert not mapped.worth_mapping(mapped.MIDDLING)
    assert mapped.worth_mapping(mapped.MIDDLING + 1)
    path = tmp_path / "ids"
    path.write_bytes(bytes(range(200)))
    before = mapped._mapped
    arrays = [mapped.mapped(path, 20, (9, 20)) for _ in range(3)]
    assert mapped._mapped == before + 3
    assert mapped.take(arrays[0], np.array([1, 0])).tolist() == [[*range(40, 60)], [*range(20, 40)]]
    # A process may not open any number of files.
    monkeypatch.setattr(mapped, "open_files", lambda share, most: before + 3)
    assert not mapped.worth_mapping(mapped.MIDDLING + 1)
    assert mapped.worth_mapping(mapped.LARGE + 1)
    del arrays
    assert mapped.worth_mapping(mapped.MIDDLING + 1)
