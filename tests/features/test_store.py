"""The store: what was computed is found again, what is damaged is computed again, alone."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cached import KEY, WIDTH, files_of, fill, flip, ids, numbers_of, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.errors import DataError, StaleError, StorageError, StoreDamagedError
from mvp.features import FeatureKey, FeatureStore, Writer
from mvp.features.collect import collect, garbage
from mvp.features.compact import compact
from mvp.features.segment import Segment


def folder_of(root, key=KEY):
    return root / key.view / key.digest


def chunk(store, unit, segment=0):
    one = store.segments[segment]
    return one.storage.local(one.chunk(unit))


def part(store, name, segment=0):
    """A file of a segment."""
    one = store.segments[segment]
    return one.storage.local(f"{one.folder}/{name}")


def planned(store, rows, unit_rows=4):
    with Writer(store) as writer:
        return writer.plan(rows, WIDTH, unit_rows, {})


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


def test_a_row_of_several_axes_is_read_flat(tmp_path):
    store, rows = opened(tmp_path), ids(range(5))
    values = numbers_of(rows, 12).reshape(5, 3, 2, 2)
    with Writer(store) as writer:
        (task,) = writer.plan(rows, (3, 2, 2), 8, {})
        writer.commit(task, values, {})
    store = opened(tmp_path)
    assert (store.shape, store.width) == ((3, 2, 2), 12)
    np.testing.assert_array_equal(store.read(rows[::-1]), values.reshape(5, 12)[::-1])


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


@pytest.mark.parametrize("collected", [False, True])
def test_a_rejected_row_can_be_tried_again_after_its_segment_was_merged(tmp_path, collected):
    """The name that its new segment would have is that of one whose rows stand elsewhere."""
    rows = ids(range(3))
    fill(opened(tmp_path), rows[:1], rejected=rows[:1])
    fill(opened(tmp_path), rows[1:])
    assert compact(opened(tmp_path), 4, every=True).segments == 2
    if collected:
        root = FeatureStore(tmp_path)
        collect(root, garbage(root, {(KEY.view, KEY.digest)}), lambda: {(KEY.view, KEY.digest)})
    store = opened(tmp_path)
    assert (len(store), list(store.rejected)) == (2, rows[:1])
    assert fill(store, rows[:1]) == [0]
    np.testing.assert_array_equal(opened(tmp_path).read(rows), numbers_of(rows))
    assert opened(tmp_path).rejected == {}


@pytest.mark.parametrize("backwards", [False, True])
def test_what_was_merged_twice_may_be_collected_in_any_order(tmp_path, backwards):
    for some in ([0, 1], [2, 3], [4, 5]):
        fill(opened(tmp_path), ids(some))
        compact(opened(tmp_path), 4, every=True)
    (live,) = opened(tmp_path).segments
    root = FeatureStore(tmp_path)
    found = garbage(root, {(KEY.view, KEY.digest)})
    assert len(found) == 4
    for item in found[:: -1 if backwards else 1]:
        collect(root, [item], lambda: {(KEY.view, KEY.digest)})
        assert [segment.name for segment in opened(tmp_path).segments] == [live.name]
    assert len(list((folder_of(tmp_path) / "segments").iterdir())) == 1
    np.testing.assert_array_equal(opened(tmp_path).read(ids(range(6))), numbers_of(ids(range(6))))


def test_a_merge_that_was_broken_off_hides_nothing_and_goes_on(tmp_path, monkeypatch):
    rows = ids(range(8))
    for some in (rows[:4], rows[4:]):
        fill(opened(tmp_path), some)
    commit, done = Segment.commit, []

    def killed(segment, unit, *args):
        if done:
            raise KeyboardInterrupt
        done.append(unit)
        return commit(segment, unit, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Segment, "commit", killed)
        compact(opened(tmp_path), 4)
    store = opened(tmp_path)
    assert len(store) == 8
    np.testing.assert_array_equal(store.read(rows), numbers_of(rows))
    assert fill(store, rows) == []
    compact(store, 4)
    (merged,) = opened(tmp_path).segments
    assert sorted(merged.rows) == sorted(rows)
    np.testing.assert_array_equal(opened(tmp_path).read(rows), numbers_of(rows))


def test_a_merge_that_was_broken_off_is_kept_while_it_holds_the_only_copy(tmp_path):
    rows = ids(range(8))
    for some in (rows[:4], rows[4:]):
        fill(opened(tmp_path), some)
    old = {segment.rows[0]: segment for segment in opened(tmp_path).segments}
    assert compact(opened(tmp_path), 4).rows == 8
    new = opened(tmp_path).segments[0]
    hurt = old[new.unit_rows(1)[0]]
    for segment, unit in ((new, 0), (hurt, 0)):  # the same rows stand in the new one's unit 1
        flip(segment.storage.local(segment.chunk(unit)))
    assert opened(tmp_path).discard_damaged(deep=True) == 2
    root, used = FeatureStore(tmp_path), {(KEY.view, KEY.digest)}
    collect(root, garbage(root, used), lambda: used)
    np.testing.assert_array_equal(opened(tmp_path).read(rows), numbers_of(rows))


def test_a_reader_sees_a_row_that_was_rejected_before_its_unit_was_made_anew(tmp_path):
    rows = ids(range(8))
    fill(opened(tmp_path), rows, rejected=rows[:1], stop=1)
    reader = opened(tmp_path)
    np.testing.assert_array_equal(reader.read(rows[1:3]), numbers_of(rows[1:3]))
    other = opened(tmp_path)
    chunk(other, 0).unlink()
    assert other.discard_damaged(deep=False) == 1
    fill(other, rows)
    reader.refresh()
    assert rows[0] in reader
    np.testing.assert_array_equal(reader.read(rows[:3]), numbers_of(rows[:3]))


def test_an_interrupted_extraction_goes_on_in_its_own_segment(tmp_path):
    rows = ids(range(11))
    fill(opened(tmp_path / "whole"), rows)
    fill(opened(tmp_path / "cut"), rows, stop=1)
    cut = opened(tmp_path / "cut")
    assert len(cut) == 4
    assert fill(cut, rows) == [1, 2]
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_units_that_others_left_open_are_not_ours_when_we_lack_their_rows(tmp_path):
    fill(opened(tmp_path), ids(range(8)), stop=1)
    store = opened(tmp_path)
    fill(store, ids(range(4, 7)))
    assert len(store) == 7
    assert [len(segment.rows) for segment in store.segments] in ([8, 3], [3, 8])
    np.testing.assert_array_equal(store.read(ids(range(7))), numbers_of(ids(range(7))))


def test_an_interrupted_extraction_goes_on_with_the_same_rows_in_another_order(tmp_path):
    rows = ids(range(11))
    fill(opened(tmp_path), rows, stop=1)
    store = opened(tmp_path)
    assert sorted(fill(store, rows[::-1])) == [1, 2]
    assert len(store.segments) == 1


@pytest.mark.parametrize("left", ["whole", "half", "nothing"])
def test_killed_between_the_array_and_the_ledger(tmp_path, left):
    rows = ids(range(10))
    store = opened(tmp_path)
    fill(store, rows)
    before = files_of(tmp_path)
    part(store, "sealed.json").unlink()
    for unit in (1, 2):
        part(store, f"ledger/{unit}.json").unlink()
        path = chunk(store, unit)
        if left == "half":
            path.write_bytes(path.read_bytes()[:20])
        if left == "nothing":
            path.unlink()
    store = opened(tmp_path)
    assert set(store.rows) == set(rows[:4])
    assert fill(store, rows) == [1, 2]
    assert files_of(tmp_path) == before


def test_killed_between_the_last_promise_and_the_seal(tmp_path):
    rows = ids(range(10))
    fill(opened(tmp_path), rows)
    before = files_of(tmp_path)
    part(opened(tmp_path), "sealed.json").unlink()
    store = opened(tmp_path)
    np.testing.assert_array_equal(store.read(rows), numbers_of(rows))
    with Writer(store) as writer:
        assert writer.still_open([]) == []
    assert files_of(tmp_path) == before


def test_killed_while_planning_leaves_nothing_that_counts(tmp_path, monkeypatch):
    create, made = Segment.plan.__func__, []

    def killed(cls, *args, **more):
        segment = create(cls, *args, **more)
        made.append(segment.storage.local(f"{segment.folder}/segment.json"))
        made[0].unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "plan", classmethod(killed))
        with pytest.raises(KeyboardInterrupt):
            planned(opened(tmp_path), ids(range(4)))
    assert made
    assert opened(tmp_path).segments == []
    assert fill(opened(tmp_path), ids(range(4))) == [0]
    assert len(opened(tmp_path).segments) == 1


def test_damage_is_recomputed_alone(tmp_path):
    rows = ids(range(10))
    fill(opened(tmp_path), rows)
    before = files_of(tmp_path)
    store = opened(tmp_path)
    flip(chunk(store, 1))
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
    chunk(store, 0).unlink()
    path = chunk(store, 2)
    path.write_bytes(path.read_bytes()[:-1])
    assert store.count_damaged() == 2
    assert store.discard_damaged(deep=False) == 2
    assert fill(store, ids(range(12))) == [0, 2]


@pytest.mark.parametrize("what", ["plan.npy", "segment.json", "ledger/0.json"])
def test_damage_in_one_segment_keeps_no_other_from_being_read(tmp_path, what):
    """And a row that is not found is not taken for one that was never extracted."""
    one, two = ids(range(6)), ids(range(6, 12))
    fill(opened(tmp_path), one)
    fill(opened(tmp_path), two)
    before = files_of(tmp_path)
    store = opened(tmp_path)
    number = next(i for i, s in enumerate(store.segments) if s.rows[0] == one[0])
    if "ledger" in what:
        part(store, "sealed.json", number).unlink()
    flip(part(store, what, number))
    store = opened(tmp_path)
    assert len(store.problems) == 1
    assert store.count_damaged() == 1
    np.testing.assert_array_equal(store.read(two), numbers_of(two))
    lost = one[:3] if "ledger" in what else one
    assert not store.has(lost).any()
    for row in lost:
        with pytest.raises(StoreDamagedError):
            store.read([row])
    with pytest.raises(StoreDamagedError):
        store.read(ids([77]))
    assert store.discard_damaged(deep=False) == 1
    assert store.problems == []
    recomputed = fill(store, [*one, *two])
    assert recomputed == ([0] if "ledger" in what else [])
    assert files_of(tmp_path) == before


def test_two_stores_that_open_at_a_time_lose_no_row(tmp_path):
    def extract(number):
        store = opened(tmp_path)
        return fill(store, ids(range(number, number + 12)), unit_rows=3)

    with ThreadPoolExecutor(6) as pool:
        computed = list(pool.map(extract, [0, 0, 6, 6, 12, 0]))
    store = opened(tmp_path)
    rows = ids(range(24))
    np.testing.assert_array_equal(store.read(rows), numbers_of(rows))
    assert store.discard_damaged(deep=True) == 0
    stored = sum(len(segment.rows) for segment in store.segments)
    assert sum(map(len, computed)) == sum(segment.units for segment in store.segments)
    assert stored == len(store) == 24


def test_a_place_without_room_is_said_before_anything_is_computed(tmp_path, monkeypatch):
    store = opened(tmp_path)
    monkeypatch.setattr(type(store.storage), "room", lambda self: 1000)
    with pytest.raises(StorageError, match="make room"):
        planned(store, ids(range(100)))
    assert not any("segments" in name for name in files_of(tmp_path))


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


def test_a_folder_that_holds_another_key_is_refused_and_can_be_mended(tmp_path):
    other = dataclasses.replace(KEY, weights="c" * 32)
    for key in (KEY, other):
        fill(opened(tmp_path, key), ids([1]))
    before = files_of(tmp_path)
    (folder_of(tmp_path) / "key.json").write_bytes(
        (folder_of(tmp_path, other) / "key.json").read_bytes()
    )
    with pytest.raises(StoreDamagedError, match="another key"):
        opened(tmp_path)
    FeatureStore(tmp_path).open(KEY, mend=True)
    assert files_of(tmp_path) == before
    (folder_of(tmp_path) / "key.json").unlink()
    FeatureStore(tmp_path).open(KEY, mend=True)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "\0", '{"check": 0}'])
def test_a_damaged_key_is_one_clear_line(tmp_path, text):
    fill(opened(tmp_path), ids([1]))
    path = folder_of(tmp_path) / "key.json"
    path.write_text(text)
    for use in (
        lambda: opened(tmp_path),
        lambda: FeatureStore(tmp_path).keys("frontal"),
        lambda: FeatureStore(tmp_path).find("frontal", KEY.digest),
    ):
        with pytest.raises(StoreDamagedError) as caught:
            use()
        assert str(path) in str(caught.value)


def test_looking_writes_nothing(tmp_path):
    store = opened(tmp_path)
    assert (len(store), store.shape, store.width, store.rows) == (0, None, None, [])
    assert store.read([]).shape == (0, 0)
    assert store.discard_damaged(deep=True) == store.count_damaged() == 0
    assert files_of(tmp_path) == {}


def test_keys_are_found_by_view_and_digest(tmp_path):
    fill(opened(tmp_path), ids([1]))
    store = FeatureStore(tmp_path)
    assert store.views() == ["frontal"]
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


DAMAGED = [b"", b"nonsense", b"{}", b'{"check": 0}', None]


@pytest.mark.parametrize("data", DAMAGED)
def test_who_never_agreed_with_a_damaged_golden_batch_does_not_define_it(tmp_path, data):
    store = opened(tmp_path)
    store.agree_with_golden({"a": 1}, lambda: GOLDEN, 1e-4)
    fill(store, ids([1]))
    before = files_of(tmp_path)
    golden = folder_of(tmp_path) / "golden.json"
    golden.unlink() if data is None else golden.write_bytes(data)
    with pytest.raises(StoreDamagedError, match="golden"):
        store.agree_with_golden({"a": 2}, lambda: GOLDEN, 1e-4)
    # Who did restores it.
    assert store.agree_with_golden({"a": 1}, lambda: GOLDEN, 1e-4)
    assert files_of(tmp_path) == before
    assert store.agree_with_golden({"a": 2}, lambda: GOLDEN, 1e-4)


def test_a_whole_unit_in_the_place_of_another_is_found_by_reading(tmp_path):
    """Its own checksum agrees; only the ledger knows that these are other rows' numbers."""
    rows = ids(range(12))
    fill(opened(tmp_path), rows)
    (segment,) = opened(tmp_path).segments
    first, second = (tmp_path / segment.chunk(unit) for unit in (0, 1))
    first.write_bytes(second.read_bytes())
    with pytest.raises(StoreDamagedError, match="unit 0"):
        opened(tmp_path).read(rows)
    np.testing.assert_array_equal(opened(tmp_path).read(rows[4:]), numbers_of(rows[4:]))


def test_a_seal_that_is_older_than_its_unit_is_made_anew(tmp_path):
    """Another device made the unit again, with other last digits, after a seal was written."""
    rows = ids(range(8))
    fill(opened(tmp_path), rows)
    store = opened(tmp_path)
    (segment,) = store.segments
    seal = (tmp_path / segment.ledger.seal_name).read_bytes()
    segment.discard(0)
    segment.commit(0, numbers_of(rows[:4]) + np.float32(1e-5), {})
    (tmp_path / segment.ledger.seal_name).write_bytes(seal)
    with pytest.raises(StoreDamagedError):
        opened(tmp_path).read(rows)
    opened(tmp_path).discard_damaged(deep=True)
    assert fill(opened(tmp_path), rows) == []  # the unit is good: nothing is computed again
    np.testing.assert_allclose(opened(tmp_path).read(rows), numbers_of(rows), atol=1e-4)
    assert opened(tmp_path).discard_damaged(deep=True) == 0


def test_a_ledger_that_could_not_be_read_once_is_read_the_next_time(tmp_path, monkeypatch):
    from mvp.errors import StorageError
    from mvp.features.ledger import Ledger

    for number in range(3):
        fill(opened(tmp_path), ids([number]))
    store = opened(tmp_path)
    fill(opened(tmp_path), ids([7]))
    promises = Ledger.promises

    def fails(self):
        raise StorageError("the network is down")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "promises", fails)
        with pytest.raises(StorageError):
            store.refresh()
    assert Ledger.promises is promises
    store.refresh()
    rows = ids([0, 1, 2, 7])
    np.testing.assert_array_equal(store.read(rows), numbers_of(rows))


@pytest.mark.parametrize(
    "url", ["memory://", "s3://", "memory:///", "memory://run[1]", "s3://a/b*"]
)
def test_a_url_that_names_no_place_or_a_pattern_is_refused(url):
    from mvp.errors import ConfigError

    with pytest.raises(ConfigError, match="bucket"):
        FeatureStore(url)
