"""Units: written, read back, promised; whatever differs from its promise is never numbers."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from cached import WIDTH, files_of, flip, ids, numbers_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.errors import DataError, MvpError, StoreDamagedError
from mvp.features.layout import Layout
from mvp.features.local import LocalStorage
from mvp.features.reading import SegmentGoneError, UnitReader
from mvp.features.segment import Segment
from mvp.features.shelf import array_damage

PARENT = "segments"


def segment_of(folder, n=10, unit_rows=4, dtype="float32", **more):
    layout = Layout.fitting(n, (WIDTH,), dtype, unit_rows, more.pop("compression", "none"))
    return Segment.plan(LocalStorage(folder), PARENT, "key", ids(range(n)), layout, {}, **more)


def again(segment):
    """The segment as another process meets it."""
    return Segment(segment.storage, segment.folder)


def place(segment):
    return segment.storage.local(segment.folder)


def chunk(segment, unit):
    return segment.storage.local(segment.chunk(unit))


def promise(segment, unit):
    return segment.storage.local(segment.ledger.name(unit))


def write(segment, unit, values=None, rejected=None):
    rows = segment.unit_rows(unit)
    return segment.commit(unit, numbers_of(rows) if values is None else values, rejected or {})


def written(folder, **settings_):
    segment = segment_of(folder, **settings_)
    for unit in range(segment.units):
        write(segment, unit)
    return segment


def promised(segment):
    promises = again(segment).ledger.promises()
    assert not promises.wrong
    return promises.entries


def read_unit(segment, unit):
    return UnitReader().unit(segment, promised(segment)[unit])


def unreadable(segment, unit):
    """Reading the unit, or a row of it, is a StoreDamagedError that names unit and segment."""
    entry = promised(segment)[unit]
    rows = segment.layout.unit_slice(unit)
    every = np.arange(rows.stop - rows.start)
    for wanted in (every, every[:1]):
        with pytest.raises(StoreDamagedError) as caught:
            out = np.empty((len(wanted), WIDTH), np.float32)
            UnitReader().rows(segment, entry, wanted, slice(0, len(wanted)), out)
        line = str(caught.value)
        assert f"unit {unit}" in line
        assert segment.name in line
        assert line.isprintable()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 23),
    st.integers(1, 30),
    st.sampled_from(["float32", "float16"]),
    st.sampled_from(["none", "zstd"]),
    st.data(),
)
def test_what_is_written_is_read(tmp_path_factory, n, unit_rows, dtype, compression, data):
    folder = tmp_path_factory.mktemp("s")
    segment = segment_of(folder, n, unit_rows, dtype, compression=compression)
    for unit in data.draw(st.permutations(range(segment.units))):
        write(segment, unit)
    wanted = numbers_of(ids(range(n))).astype(dtype).astype(np.float32)
    reader, entries = UnitReader(), promised(segment)
    got = np.concatenate([reader.unit(again(segment), entries[u]) for u in range(segment.units)])
    assert got.dtype == dtype
    assert got.astype(np.float32).tobytes() == wanted.tobytes()
    unit = data.draw(st.integers(0, segment.units - 1))
    size = len(segment.unit_rows(unit))
    for some in (data.draw(st.lists(st.integers(0, size - 1), max_size=9)), range(size)):
        out = np.empty((len(some), WIDTH), np.float32)
        reader.rows(segment, entries[unit], np.array(some, np.int64), slice(0, len(some)), out)
        np.testing.assert_array_equal(out, wanted[segment.layout.unit_slice(unit)][list(some)])


def test_zarr_alone_can_read_it_and_says_how_it_is_kept(tmp_path):
    segment = written(tmp_path)
    array = zarr.open_array(str(place(segment) / "features"), mode="r")
    np.testing.assert_array_equal(array[:], numbers_of(segment.rows))
    meta = json.loads((place(segment) / "features" / "zarr.json").read_text())
    assert [c["name"] for c in meta["codecs"]] == ["bytes", "crc32c"]
    assert meta["fill_value"] == "NaN"
    assert meta["zarr_format"] == 3
    assert meta["chunk_grid"]["configuration"]["chunk_shape"] == [4, WIDTH]


def test_a_unit_counts_only_when_its_promise_stands(tmp_path):
    segment = segment_of(tmp_path)
    assert promised(segment) == {}
    write(segment, 1)
    assert list(promised(segment)) == [1]


def test_a_segment_is_published_last(tmp_path):
    segment = segment_of(tmp_path)
    (place(segment) / "segment.json").unlink()
    with pytest.raises(FileNotFoundError):
        again(segment)


def test_rejected_rows_hold_nothing_and_keep_their_reason(tmp_path):
    segment = segment_of(tmp_path)
    values = numbers_of(segment.rows[:4])
    values[2] = np.nan
    write(segment, 0, values, {2: "a\nreason"})
    assert promised(segment)[0].rejected == {2: "a\nreason"}
    np.testing.assert_array_equal(read_unit(segment, 0), values)


def test_a_unit_of_nothing_but_rejected_rows_is_written_too(tmp_path):
    segment = segment_of(tmp_path)
    nothing = np.full((4, WIDTH), np.nan, np.float32)
    entry = write(segment, 0, nothing, dict.fromkeys(range(4), "x"))
    assert chunk(segment, 0).stat().st_size == entry.length
    assert np.isnan(read_unit(segment, 0)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    segment = segment_of(tmp_path)
    values = numbers_of(segment.rows[:4])
    values[1, 2] = value
    with pytest.raises(DataError, match="NaN or inf"):
        write(segment, 0, values)
    assert promised(segment) == {}


def test_overflow_of_half_precision_is_refused(tmp_path):
    segment = segment_of(tmp_path, dtype="float16")
    values = numbers_of(segment.rows[:4])
    values[1, 2] = 70_000
    with pytest.raises(DataError, match="float32"):
        write(segment, 0, values)
    assert promised(segment) == {}


def test_values_whose_sum_overflows_are_fine(tmp_path):
    """The quick look at a whole array is its sum; what it cannot tell is looked at anew."""
    segment = segment_of(tmp_path)
    values = np.full((4, WIDTH), 3e38, np.float32)
    write(segment, 0, values)
    np.testing.assert_array_equal(read_unit(segment, 0), values)


@pytest.mark.parametrize("shape", [(3, WIDTH), (1, WIDTH), (4, WIDTH + 1), (5, WIDTH)])
def test_a_unit_is_written_whole_or_not_at_all(tmp_path, shape):
    segment = segment_of(tmp_path)
    with pytest.raises(ValueError, match="shape"):
        write(segment, 0, np.zeros(shape, np.float32))
    assert promised(segment) == {}


def test_a_full_disk_is_one_clear_line_and_no_promise(tmp_path, monkeypatch):
    segment = segment_of(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mvp.files.os.write", full)
        with pytest.raises(MvpError, match="make room"):
            write(segment, 0)
    assert promised(segment) == {}
    write(segment, 0)
    assert list(promised(segment)) == [0]


@pytest.mark.parametrize("lost", [b"", b"\0" * 52])
def test_what_does_not_read_back_is_not_promised(tmp_path, monkeypatch, lost):
    """A disk that loses a write, and says that all is well."""
    segment = segment_of(tmp_path)
    create = LocalStorage.create

    def lose(self, name, *parts, **more):
        return create(self, name, *([lost] if "features" in name else parts), **more)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "create", lose)
        with pytest.raises(StoreDamagedError, match="read back"):
            write(segment, 0)
    assert promised(segment) == {}
    write(segment, 0)
    np.testing.assert_array_equal(read_unit(segment, 0), numbers_of(segment.rows[:4]))


def test_the_same_unit_again_is_no_second_promise(tmp_path):
    segment = written(tmp_path)
    before = files_of(tmp_path)
    write(again(segment), 1)
    assert files_of(tmp_path) == before


def test_the_same_unit_with_other_bytes_is_an_error_and_leaves_the_first(tmp_path):
    segment = written(tmp_path)
    before = files_of(tmp_path)
    for values, rejected in (
        (numbers_of(segment.rows[:4]) + 1, {}),
        (numbers_of(segment.rows[:4]), {1: "x"}),
    ):
        with pytest.raises(StoreDamagedError, match="other bytes"):
            write(again(segment), 0, values, rejected)
        assert files_of(tmp_path) == before


def test_who_has_lost_a_unit_to_another_promises_nothing(tmp_path):
    segment = segment_of(tmp_path)
    assert segment.commit(0, numbers_of(segment.rows[:4]), {}, lambda: False) is None
    assert promised(segment) == {}
    write(again(segment), 0)
    np.testing.assert_array_equal(read_unit(segment, 0), numbers_of(segment.rows[:4]))


def test_a_race_that_leaves_other_bytes_under_a_promise_takes_the_promise_away(tmp_path):
    """Both writers find no promise, both write; the loser's bytes stand under the winner's."""
    segment = segment_of(tmp_path)

    def meanwhile():
        if not promised(segment):
            chunk(segment, 0).unlink()
            write(again(segment), 0)  # the other one wins, ...
            flip(chunk(segment, 0))  # ... and our bytes stand there
        return True

    with pytest.raises(StoreDamagedError, match="other bytes"):
        segment.commit(0, numbers_of(segment.rows[:4]) + 1, {}, meanwhile)
    assert promised(segment) == {}


def test_who_has_lost_the_unit_changes_nothing_and_says_nothing(tmp_path):
    """Other last digits, computed by a process that slept past its lease."""
    segment = segment_of(tmp_path)
    write(segment, 0)
    chunk_before = chunk(segment, 0).read_bytes()
    late = numbers_of(segment.rows[:4]) + np.float32(1e-5)
    assert again(segment).commit(0, late, {}, lambda: False) is None
    segment.ledger.delete(0)  # as if the new owner had not promised yet
    assert again(segment).commit(0, late, {}, lambda: False) is None
    assert chunk(segment, 0).read_bytes() == chunk_before
    assert promised(segment) == {}


def test_a_lost_race_for_the_same_bytes_is_no_error(tmp_path):
    segment = segment_of(tmp_path)

    def meanwhile():
        write(again(segment), 0)
        return True

    entry = segment.commit(0, numbers_of(segment.rows[:4]), {}, meanwhile)
    assert promised(segment) == {0: entry}


def test_many_writers_of_one_unit_leave_one_promise(tmp_path):
    segment = segment_of(tmp_path, n=12)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write(again(segment), i % 3), range(24)))
    entries = promised(segment)
    assert sorted(entries) == [0, 1, 2]
    assert sorted(p.name for p in (place(segment) / "ledger").iterdir()) == [
        "0.json", "1.json", "2.json",
    ]  # fmt: skip
    for unit, entry in entries.items():
        assert segment.damage(entry, deep=True) is None
        wanted = numbers_of(segment.unit_rows(unit))
        np.testing.assert_array_equal(read_unit(segment, unit), wanted)


def test_many_planners_make_one_segment(tmp_path):
    def plan_and_write(unit):
        segment = segment_of(tmp_path, n=32)
        write(segment, unit)
        return segment.folder

    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(plan_and_write, range(8)))
    (folder,) = folders
    segment = Segment(LocalStorage(tmp_path), folder)
    assert sorted(promised(segment)) == list(range(8))
    assert all(segment.damage(e, deep=True) is None for e in promised(segment).values())
    assert [p.name for p in tmp_path.iterdir()] == [PARENT]


def test_the_name_follows_from_rows_layout_and_what_it_replaces(tmp_path):
    plain = segment_of(tmp_path)
    assert segment_of(tmp_path).name == plain.name
    others = [
        segment_of(tmp_path, n=9),
        segment_of(tmp_path, unit_rows=3),
        segment_of(tmp_path, dtype="float16"),
        segment_of(tmp_path, compression="zstd"),
        segment_of(tmp_path, attempt=1),
        segment_of(tmp_path, replaces=["a"]),
    ]
    assert len({plain.name, *(segment.name for segment in others)}) == 7


def test_a_missing_chunk_is_never_read_as_fill_values(tmp_path):
    segment = written(tmp_path)
    chunk(segment, 1).unlink()
    unreadable(segment, 1)


def test_a_missing_chunk_of_rejected_rows_is_found_too(tmp_path):
    """Fill values would look just like them: only the promised length tells."""
    segment = segment_of(tmp_path)
    nothing = np.full((4, WIDTH), np.nan, np.float32)
    write(segment, 0, nothing, dict.fromkeys(range(4), "x"))
    chunk(segment, 0).unlink()
    unreadable(segment, 0)


def test_a_segment_that_was_taken_away_is_gone_and_not_damaged(tmp_path):
    segment = written(tmp_path)
    entry = promised(segment)[0]
    segment.storage.delete_tree(segment.folder)
    with pytest.raises(SegmentGoneError):
        UnitReader().unit(segment, entry)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("length", [0, 1, 30, 51])
def test_a_truncated_chunk_is_found(tmp_path, length, compression):
    segment = written(tmp_path, compression=compression)
    path = chunk(segment, 1)
    path.write_bytes(path.read_bytes()[:length])
    unreadable(segment, 1)


def test_a_chunk_with_bytes_too_many_is_found(tmp_path):
    segment = written(tmp_path)
    path = chunk(segment, 1)
    path.write_bytes(path.read_bytes() + b"\0")
    unreadable(segment, 1)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("place_", [0, 13, 47, 48, 51])
def test_a_flipped_bit_is_found_by_readers(tmp_path, place_, compression):
    segment = written(tmp_path, compression=compression)
    flip(chunk(segment, 1), place_)
    unreadable(segment, 1)
    assert segment.damage(promised(segment)[1], deep=True)


def test_a_bit_that_flips_after_the_first_read_is_found_by_a_reader_that_forgets(tmp_path):
    segment, reader = written(tmp_path), UnitReader()
    entry = promised(segment)[1]
    reader.unit(segment, entry)
    flip(chunk(segment, 1))
    reader.forget()
    with pytest.raises(StoreDamagedError):
        reader.unit(segment, entry)


def test_a_chunk_of_another_unit_is_found_by_verifying(tmp_path):
    segment = written(tmp_path)
    chunk(segment, 1).write_bytes(chunk(segment, 0).read_bytes())
    entry = promised(segment)[1]
    assert segment.damage(entry, deep=False) is None
    assert segment.damage(entry, deep=True)


def test_a_row_that_is_nan_without_being_rejected_is_found(tmp_path):
    segment = segment_of(tmp_path)
    values = numbers_of(segment.rows[:4])
    values[2] = np.nan
    write(segment, 0, values, {2: "x"})
    other = segment_of(tmp_path, attempt=1)
    write(other, 0)
    chunk(other, 0).write_bytes(chunk(segment, 0).read_bytes())
    unreadable(other, 0)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"unit": 0}', '"x"', "\0" * 60, '{"check": 1}'],
)
def test_a_damaged_promise_is_found_and_the_others_stand(tmp_path, text):
    segment = written(tmp_path)
    promise(segment, 0).write_text(text)
    promises = again(segment).ledger.promises()
    assert list(promises.wrong) == [0]
    assert sorted(promises.entries) == [1, 2]
    with pytest.raises(StoreDamagedError) as caught:
        write(again(segment), 0)
    assert "unit 0" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"unit": 0', '"unit": 1'), ('"unit": 0', '"unit": 77'), ("{}", '{"9": "x"}'), ("{", "{ ")],
)
def test_a_promise_in_other_words_is_found(tmp_path, old, new):
    segment = written(tmp_path)
    path = promise(segment, 0)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert list(again(segment).ledger.promises().wrong) == [0]


def test_a_promise_of_another_unit_is_found(tmp_path):
    segment = written(tmp_path)
    promise(segment, 0).write_bytes(promise(segment, 1).read_bytes())
    assert list(again(segment).ledger.promises().wrong) == [0]


@pytest.mark.parametrize("name", ["plan.npy", "segment.json"])
@pytest.mark.parametrize("data", [b"", b"\0" * 40, b"{}", b"[]"])
def test_a_damaged_plan_is_found(tmp_path, name, data):
    segment = written(tmp_path)
    (place(segment) / name).write_bytes(data)
    with pytest.raises(StoreDamagedError) as caught:
        again(segment)
    assert segment.name in str(caught.value)


def test_a_flipped_bit_in_the_row_ids_is_found(tmp_path):
    segment = written(tmp_path)
    flip(place(segment) / "plan.npy")
    with pytest.raises(StoreDamagedError, match="row ids"):
        again(segment)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"unit_rows": 4', '"unit_rows": 5'), ("  3\n", "  2\n"), ("float32", "float16")],
)
def test_a_plan_in_other_words_is_found(tmp_path, old, new):
    segment = written(tmp_path)
    path = place(segment) / "segment.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(StoreDamagedError):
        again(segment)


@pytest.mark.parametrize(("old", "new"), [("float32", "int32"), ("10", "12"), ("{", "<")])
def test_array_metadata_that_are_not_as_planned_are_found(tmp_path, old, new):
    segment = written(tmp_path)
    assert array_damage(segment) is None
    path = place(segment) / "features" / "zarr.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert array_damage(again(segment))


def test_a_discarded_unit_is_written_anew_even_over_a_damaged_chunk(tmp_path):
    segment = written(tmp_path)
    before = files_of(tmp_path)
    for unit in range(segment.units):
        flip(chunk(segment, unit))
        segment.discard(unit)
        write(again(segment), unit)
    assert files_of(tmp_path) == before
    path = chunk(segment, 0)
    promise(segment, 0).unlink()
    flip(path)
    write(again(segment), 0)
    assert files_of(tmp_path) == before
