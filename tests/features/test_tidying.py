"""Merging and collecting: fewer objects, the same numbers, nothing that somebody uses."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cached import KEY, WIDTH, files_of, fill, flip, ids, numbers_of, opened

from mvp.errors import StoreDamagedError
from mvp.features import FeatureStore, StudyRows, table_from_stores
from mvp.features.collect import collect, garbage
from mvp.features.compact import compact
from mvp.features.rows import pack
from mvp.features.uses import Use, forget_uses, read_uses, write_use
from mvp.features.verify import verify

USED = {("frontal", KEY.digest)}


def single_studies(root, count=12):
    opened(root).agree_with_golden({"torch": "1"}, lambda: np.ones((2, 3), np.float32), 1e-4)
    for number in range(count):
        fill(opened(root), ids([number]))
    return ids(range(count))


def tidied(root):
    collect(FeatureStore(root), garbage(FeatureStore(root), USED), lambda: USED)


def test_small_segments_become_one_with_the_same_numbers(tmp_path):
    rows = single_studies(tmp_path)
    store = opened(tmp_path)
    assert len(store.segments) == 12
    done = compact(store, 4)
    assert (done.segments, done.rows) == (12, 12)
    for again in (store, opened(tmp_path)):
        assert len(again.segments) == 1
        assert len(again) == 12
        np.testing.assert_array_equal(again.read(rows), numbers_of(rows))
    assert verify(opened(tmp_path)) == []
    assert compact(opened(tmp_path), 4).segments == 0


def test_readers_go_on_while_segments_are_merged_and_collected(tmp_path):
    rows = single_studies(tmp_path)
    reader = opened(tmp_path)
    names = np.array([str(i) for i in range(len(rows))], dtype=object)
    stored = StudyRows(pack(rows), np.ones(len(rows), np.int64))
    table = table_from_stores(names, names, {"frontal": reader}, {"frontal": stored})
    first = table.select([0, 1]).matrix()
    compact(opened(tmp_path), 4)
    np.testing.assert_array_equal(reader.read(rows[:6]), numbers_of(rows[:6]))
    tidied(tmp_path)
    # Two were mapped before; the others are looked for where they are now.
    np.testing.assert_array_equal(reader.read(rows), numbers_of(rows))
    np.testing.assert_array_equal(table.matrix(), numbers_of(rows))
    np.testing.assert_array_equal(first, numbers_of(rows[:2]))


def test_a_table_finds_rows_that_were_merged_and_collected_before_it_read_any(tmp_path):
    rows = single_studies(tmp_path)
    names = np.array([str(i) for i in range(len(rows))], dtype=object)
    stored = StudyRows(pack(rows), np.ones(len(rows), np.int64))
    table = table_from_stores(names, names, {"frontal": opened(tmp_path)}, {"frontal": stored})
    compact(opened(tmp_path), 4)
    tidied(tmp_path)
    np.testing.assert_array_equal(table.matrix(), numbers_of(rows))


def test_rejected_rows_keep_their_reason_through_a_merge(tmp_path):
    rows = ids(range(6))
    fill(opened(tmp_path), rows[:3], rejected=[rows[1]])
    fill(opened(tmp_path), rows[3:])
    compact(opened(tmp_path), 4)
    tidied(tmp_path)
    store = opened(tmp_path)
    assert store.rejected == {rows[1]: "damaged"}
    assert len(store) == 5


def test_a_merge_that_was_broken_off_goes_on(tmp_path, monkeypatch):
    from mvp.features.segment import Segment

    rows = single_studies(tmp_path)
    whole = tmp_path / "whole"
    single_studies(whole)
    compact(opened(whole), 4)
    commit, left = Segment.commit, [2]

    def killed(*args, **kwargs):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return commit(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            compact(opened(tmp_path), 4)
    store = opened(tmp_path)
    np.testing.assert_array_equal(store.read(rows), numbers_of(rows))
    assert compact(store, 4).segments == 12
    tidied(tmp_path)
    tidied(whole)
    here, there = files_of(tmp_path / "frontal"), files_of(whole / "frontal")
    assert here == there


def test_damage_is_not_merged_away(tmp_path):
    rows = single_studies(tmp_path, 3)
    store = opened(tmp_path)
    (hurt,) = [segment for segment in store.segments if segment.rows == rows[1:2]]
    flip(tmp_path / hurt.chunk(0))
    with pytest.raises(StoreDamagedError, match="unit 0"):
        compact(store, 4)
    np.testing.assert_array_equal(opened(tmp_path).read(ids([0, 2])), numbers_of(ids([0, 2])))
    # The merge stays open and is taken for no one's work; the unit alone is computed again.
    assert opened(tmp_path).discard_damaged(deep=True) == 1
    assert fill(opened(tmp_path), rows) == [0]
    (found,) = garbage(FeatureStore(tmp_path), USED)
    assert "broken off" in found.what
    collect(FeatureStore(tmp_path), [found], lambda: USED)
    np.testing.assert_array_equal(opened(tmp_path).read(rows), numbers_of(rows))


def test_a_large_segment_is_left_alone_unless_all_are_asked_for(tmp_path):
    fill(opened(tmp_path), ids(range(100)), unit_rows=50)
    for number in (100, 101):
        fill(opened(tmp_path), ids([number]))
    assert compact(opened(tmp_path), 50).rows == 2
    assert compact(opened(tmp_path), 50, every=True).rows == 102
    assert len(opened(tmp_path).segments) == 1


def test_keys_that_nobody_uses_are_garbage_and_others_are_not(tmp_path):
    other = dataclasses.replace(KEY, weights="c" * 32)
    for key in (KEY, other):
        fill(opened(tmp_path, key), ids(range(5)))
    store = FeatureStore(tmp_path)
    (tmp_path / "frontal" / "notes").mkdir()
    (tmp_path / "notes.txt").write_text("somebody's")
    assert garbage(store, USED | {("frontal", other.digest)}) == []
    (found,) = garbage(store, USED)
    assert found.folder == f"frontal/{other.digest}"
    assert found.size == sum(len(d) for d in files_of(tmp_path / found.folder).values())
    collect(store, [found], lambda: USED)
    assert store.keys("frontal") == [KEY]
    assert len(opened(tmp_path)) == 5
    assert not (tmp_path / found.folder).exists()
    assert (tmp_path / "notes.txt").exists()
    assert (tmp_path / "frontal" / "notes").exists()


def test_a_plan_that_was_never_published_is_garbage(tmp_path):
    single_studies(tmp_path)
    left = tmp_path / "frontal" / KEY.digest / "segments" / "0123456789abcdef"
    left.mkdir()
    (left / "plan.npy").write_bytes(b"half")
    store = FeatureStore(tmp_path)
    assert verify(opened(tmp_path)) == []
    (found,) = garbage(store, USED)
    collect(store, [found], lambda: USED)
    assert not left.exists()
    assert garbage(store, USED) == []


def test_an_open_segment_is_no_garbage(tmp_path):
    fill(opened(tmp_path), ids(range(10)), stop=1)
    assert garbage(FeatureStore(tmp_path), USED) == []
    fill(opened(tmp_path), ids(range(10)))
    assert len(opened(tmp_path)) == 10


def test_collecting_that_was_broken_off_goes_on(tmp_path, monkeypatch):
    from mvp.features.local import LocalStorage

    fill(opened(tmp_path), ids(range(10)))
    store = FeatureStore(tmp_path, {}, 1.0)  # what is broken off keeps its claim for a lease
    found = garbage(store, set())
    delete, left = LocalStorage.delete, [1]

    def killed(self, name):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        delete(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "delete", killed)
        patch.setattr(LocalStorage, "delete_tree", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(store, found, lambda: USED if found[0].folder.count("/") > 1 else set())
    assert len(opened(tmp_path)) == 0  # unpublished first: never half a segment
    collect(store, garbage(store, set()), set)
    assert files_of(tmp_path) == {}


def test_uses_are_kept_by_workspace_and_purpose(tmp_path):
    storage = FeatureStore(tmp_path).storage
    one = Use("a", "/a", "view frontal", (("frontal", "1" * 32),))
    two = Use("b", "/b", "head mlp", (("frontal", "2" * 32), ("lateral", "3" * 32)))
    three = Use("a", "/a", "view lateral", (("lateral", "5" * 32),))
    for use in (one, two, three):
        write_use(storage, use)
    assert set(read_uses(storage)) == {one, two, three}
    later = Use("a", "/a", "view frontal", (("frontal", "4" * 32),))
    write_use(storage, later)
    assert set(read_uses(storage)) == {later, two, three}
    assert FeatureStore(tmp_path).views() == []
    forget_uses(storage, "b")
    assert set(read_uses(storage)) == {later, three}
    forget_uses(storage, "a", "view lateral")
    assert read_uses(storage) == [later]


def test_processes_that_say_different_things_do_not_undo_each_other(tmp_path):
    storage = FeatureStore(tmp_path).storage

    def say(number):
        for _ in range(20):
            write_use(storage, Use("a", "/a", f"view v{number}", ((f"v{number}", "1" * 32),)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(say, range(4)))
    assert {use.purpose for use in read_uses(storage)} == {f"view v{n}" for n in range(4)}


def test_between_the_new_record_and_the_old_both_count(tmp_path):
    storage = FeatureStore(tmp_path).storage
    write_use(storage, Use("a", "/a", "view x", (("x", "1" * 32),)))
    (old,) = files_of(tmp_path).items()
    write_use(storage, Use("a", "/a", "view x", (("x", "2" * 32),)))
    (tmp_path / old[0]).write_bytes(old[1])
    used = {key for use in read_uses(storage) for key in use.keys}
    assert used == {("x", "1" * 32), ("x", "2" * 32)}


def test_a_damaged_record_of_uses_stops_everything(tmp_path):
    storage = FeatureStore(tmp_path).storage
    write_use(storage, Use("a", "/a", "view x", (("x", "1" * 32),)))
    flip(next((tmp_path / ".workspaces").iterdir()), 20)
    with pytest.raises(StoreDamagedError, match="uses"):
        read_uses(storage)


def test_a_key_that_came_into_use_meanwhile_is_not_collected(tmp_path):
    fill(opened(tmp_path), ids(range(5)))
    store = FeatureStore(tmp_path)
    collect(store, garbage(store, set()), lambda: USED)
    assert len(opened(tmp_path)) == 5


def test_a_row_that_stands_twice_keeps_the_numbers_that_are_read(tmp_path):
    """Computed on two machines, in two segments: merging must not choose the other one."""
    rows = ids(range(6))
    fill(opened(tmp_path), rows)
    store = opened(tmp_path)
    from mvp.features.layout import Layout
    from mvp.features.segment import Segment

    layout = Layout.fitting(3, (WIDTH,), "float32", 4)
    other = Segment.plan(
        store.storage, f"{store.folder}/segments", KEY.digest, rows[:3], layout, {"torch": "2"}
    )
    other.commit(0, numbers_of(rows[:3]) + np.float32(1e-5), {})
    other.ledger.seal(other.ledger.entries()[0])
    before = opened(tmp_path).read(rows)
    compact(opened(tmp_path), 4, every=True)
    np.testing.assert_array_equal(opened(tmp_path).read(rows), before)


def test_width_is_kept(tmp_path):
    single_studies(tmp_path, 3)
    compact(opened(tmp_path), 4)
    assert opened(tmp_path).width == WIDTH


def test_what_was_merged_is_not_collected_while_the_merge_is_damaged(tmp_path):
    rows = single_studies(tmp_path)
    compact(opened(tmp_path), 4)
    (merged,) = opened(tmp_path).segments
    flip(tmp_path / merged.chunk(1))
    store = FeatureStore(tmp_path)
    with pytest.raises(StoreDamagedError, match="unit 1"):
        collect(store, garbage(store, USED), lambda: USED)
    assert opened(tmp_path).discard_damaged(deep=True) == 1
    np.testing.assert_array_equal(opened(tmp_path).read(rows), numbers_of(rows))


def test_a_segment_that_is_being_collected_is_not_damaged(tmp_path, monkeypatch):
    from mvp.features.local import LocalStorage

    single_studies(tmp_path)
    compact(opened(tmp_path), 4)
    store = FeatureStore(tmp_path)
    found = garbage(store, USED)

    def killed(self, folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "delete_tree", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(store, found, lambda: USED if found[0].folder.count("/") > 1 else set())
    assert verify(opened(tmp_path)) == []
    collect(store, garbage(store, USED), lambda: USED)
    assert garbage(store, USED) == []
