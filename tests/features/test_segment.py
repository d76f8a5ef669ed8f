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
from mvp.features.segment import Segment


def segment_of(folder, n=10, unit_rows=4, dtype="float32"):
    return Segment.plan(folder / "segments", "key", ids(range(n)), WIDTH, dtype, unit_rows, {})


def write(segment, unit, values=None, rejected=None):
    rows = segment.rows[segment.unit_slice(unit)]
    return segment.write(unit, numbers_of(rows) if values is None else values, rejected or {})


def written(folder, **settings_):
    segment = segment_of(folder, **settings_)
    for unit in range(segment.units):
        write(segment, unit)
    return segment


def unreadable(segment, unit):
    """Reading the unit is a StoreDamagedError that names unit and segment."""
    with pytest.raises(StoreDamagedError) as caught:
        segment.read_unit(segment.ledger()[unit])
    line = str(caught.value)
    assert f"unit {unit}" in line
    assert segment.folder.name in line
    assert line.isprintable()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 23), st.integers(1, 30), st.sampled_from(["float32", "float16"]), st.data())
def test_what_is_written_is_read(tmp_path_factory, n, unit_rows, dtype, data):
    folder = tmp_path_factory.mktemp("s")
    segment = segment_of(folder, n, unit_rows, dtype)
    for unit in data.draw(st.permutations(range(segment.units))):
        write(segment, unit)
    again = Segment(segment.folder)
    wanted = numbers_of(ids(range(n))).astype(dtype).astype(np.float32)
    entries = again.ledger()
    got = np.concatenate([again.read_unit(entries[u]) for u in range(again.units)])
    assert got.tobytes() == wanted.tobytes()


def test_zarr_alone_can_read_it_and_says_how_it_is_kept(tmp_path):
    segment = written(tmp_path)
    array = zarr.open_array(str(segment.folder / "features"), mode="r")
    np.testing.assert_array_equal(array[:], numbers_of(segment.rows))
    meta = json.loads((segment.folder / "features" / "zarr.json").read_text())
    assert [c["name"] for c in meta["codecs"]] == ["bytes", "crc32c"]
    assert meta["fill_value"] == "NaN"
    assert meta["zarr_format"] == 3
    assert meta["chunk_grid"]["configuration"]["chunk_shape"] == [4, WIDTH]


def test_a_unit_counts_only_when_its_promise_stands(tmp_path):
    segment = segment_of(tmp_path)
    assert segment.ledger() == {}
    write(segment, 1)
    assert list(Segment(segment.folder).ledger()) == [1]


def test_rejected_rows_hold_nothing_and_keep_their_reason(tmp_path):
    segment = segment_of(tmp_path)
    values = numbers_of(segment.rows[:4])
    values[2] = np.nan
    write(segment, 0, values, {2: "a\nreason"})
    entry = Segment(segment.folder).ledger()[0]
    assert entry.rejected == {2: "a\nreason"}
    np.testing.assert_array_equal(segment.read_unit(entry), values)


def test_a_unit_of_nothing_but_rejected_rows_is_written_too(tmp_path):
    segment = Segment(segment_of(tmp_path).folder)
    nothing = np.full((4, WIDTH), np.nan, np.float32)
    entry = write(segment, 0, nothing, dict.fromkeys(range(4), "x"))
    assert segment.stored_object(0).stat().st_size == entry.length
    assert np.isnan(segment.read_unit(entry)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    segment = segment_of(tmp_path)
    values = numbers_of(segment.rows[:4])
    values[1, 2] = value
    with pytest.raises(DataError, match="NaN or inf"):
        write(segment, 0, values)
    assert segment.ledger() == {}


def test_overflow_of_half_precision_is_refused(tmp_path):
    segment = segment_of(tmp_path, dtype="float16")
    values = numbers_of(segment.rows[:4])
    values[1, 2] = 70_000
    with pytest.raises(DataError, match="float32"):
        write(segment, 0, values)
    assert segment.ledger() == {}


@pytest.mark.parametrize("shape", [(3, WIDTH), (1, WIDTH), (4, WIDTH + 1), (5, WIDTH)])
def test_a_unit_is_written_whole_or_not_at_all(tmp_path, shape):
    segment = segment_of(tmp_path)
    with pytest.raises(ValueError, match="shape"):
        write(segment, 0, np.zeros(shape, np.float32))
    assert segment.ledger() == {}


def test_a_full_disk_is_one_clear_line_and_no_promise(tmp_path, monkeypatch):
    segment = segment_of(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mvp.features.segment.sync_object", full)
    with pytest.raises(MvpError, match="make room"):
        write(segment, 0)
    assert segment.ledger() == {}


def test_what_does_not_read_back_is_not_promised(tmp_path, monkeypatch):
    """A disk that loses a write: the chunk is not there, and Zarr reads fill values for it."""
    segment = segment_of(tmp_path)
    flipped = []

    def lose(path):
        other = segment_of(tmp_path / "other")
        write(other, 0, np.ones((4, WIDTH), np.float32))
        path.write_bytes(other.stored_object(0).read_bytes())
        flipped.append(path)

    sync = "mvp.features.segment.sync_object"
    with monkeypatch.context() as patch:
        patch.setattr(sync, lambda path: None if "other" in str(path) else lose(path))
        with pytest.raises(StoreDamagedError, match="read back"):
            write(segment, 0)
    assert flipped
    assert segment.ledger() == {}


def test_the_same_unit_again_is_no_second_promise(tmp_path):
    segment = written(tmp_path)
    before = files_of(segment.folder)
    write(Segment(segment.folder), 1)
    assert files_of(segment.folder) == before


def test_the_same_unit_with_other_bytes_is_an_error_and_leaves_the_first(tmp_path):
    segment = written(tmp_path)
    before = files_of(segment.folder)
    for values, rejected in (
        (numbers_of(segment.rows[:4]) + 1, {}),
        (numbers_of(segment.rows[:4]), {1: "x"}),
    ):
        with pytest.raises(StoreDamagedError, match="other bytes"):
            write(Segment(segment.folder), 0, values, rejected)
        assert files_of(segment.folder) == before


def test_a_race_that_leaves_other_bytes_under_a_promise_takes_the_promise_away(
    tmp_path, monkeypatch
):
    """Both writers find no promise, both write; the loser's bytes stand under the winner's."""
    segment = segment_of(tmp_path)
    from mvp.features import segment as room

    create = room.create_exclusive

    def late(path, data):
        monkeypatch.setattr(room, "create_exclusive", create)
        write(Segment(segment.folder), 0)  # the other one wins, ...
        flip(segment.stored_object(0))  # ... and our bytes stand there
        return create(path, data)

    monkeypatch.setattr(room, "create_exclusive", late)
    with pytest.raises(StoreDamagedError, match="other bytes"):
        write(segment, 0, numbers_of(segment.rows[:4]) + 1)
    assert segment.ledger() == {}


def test_many_writers_of_one_unit_leave_one_promise(tmp_path):
    folder = segment_of(tmp_path, n=12).folder
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write(Segment(folder), i % 3), range(24)))
    segment = Segment(folder)
    entries = segment.ledger()
    assert sorted(entries) == [0, 1, 2]
    assert sorted(p.name for p in (folder / "ledger").iterdir()) == ["0.json", "1.json", "2.json"]
    for unit, entry in entries.items():
        assert segment.damage(entry, deep=True) is None
        wanted = numbers_of(segment.rows[segment.unit_slice(unit)])
        np.testing.assert_array_equal(segment.read_unit(entry), wanted)


def test_many_planners_make_one_segment(tmp_path):
    def plan_and_write(unit):
        segment = segment_of(tmp_path, n=32)
        write(segment, unit)
        return segment.folder

    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(plan_and_write, range(8)))
    (folder,) = folders
    segment = Segment(folder)
    assert sorted(segment.ledger()) == list(range(8))
    assert all(segment.damage(e, deep=True) is None for e in segment.ledger().values())
    assert [p.name for p in tmp_path.iterdir()] == ["segments"]


def test_a_missing_chunk_is_never_read_as_fill_values(tmp_path):
    segment = written(tmp_path)
    segment.stored_object(1).unlink()
    unreadable(segment, 1)


def test_a_missing_chunk_of_rejected_rows_is_found_too(tmp_path):
    """Fill values would look just like them: only the promised length tells."""
    segment = segment_of(tmp_path)
    nothing = np.full((4, WIDTH), np.nan, np.float32)
    write(segment, 0, nothing, dict.fromkeys(range(4), "x"))
    segment.stored_object(0).unlink()
    unreadable(segment, 0)


@pytest.mark.parametrize("length", [0, 1, 30, 51])
def test_a_truncated_chunk_is_found(tmp_path, length):
    segment = written(tmp_path)
    path = segment.stored_object(1)
    path.write_bytes(path.read_bytes()[:length])
    unreadable(segment, 1)


@pytest.mark.parametrize("place", [0, 13, 47, 48, 51])
def test_a_flipped_bit_is_found_by_readers(tmp_path, place):
    segment = written(tmp_path)
    flip(segment.stored_object(1), place)
    unreadable(segment, 1)
    assert segment.damage(segment.ledger()[1], deep=True)


def test_a_chunk_of_another_unit_is_found_by_verifying(tmp_path):
    segment = written(tmp_path)
    segment.stored_object(1).write_bytes(segment.stored_object(0).read_bytes())
    assert segment.damage(segment.ledger()[1], deep=False) is None
    assert segment.damage(segment.ledger()[1], deep=True)


def test_a_chunk_whose_row_is_nan_without_being_rejected_is_found(tmp_path):
    segment = segment_of(tmp_path)
    values = numbers_of(segment.rows[:4])
    values[2] = np.nan
    write(segment, 0, values, {2: "x"})
    path = segment.folder / "ledger" / "0.json"
    path.write_text(path.read_text().replace('"2"', '"1"'))
    unreadable(segment, 0)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"unit": 0}', '"x"'],
)
def test_a_damaged_promise_is_found(tmp_path, text):
    segment = written(tmp_path)
    path = segment.folder / "ledger" / "0.json"
    path.write_text(text)
    with pytest.raises(StoreDamagedError) as caught:
        segment.ledger()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"), [('"unit": 0', '"unit": 1'), ('"unit": 0', '"unit": 77'), ("{}", '{"9": "x"}')]
)
def test_a_promise_that_does_not_fit_its_unit_is_found(tmp_path, old, new):
    segment = written(tmp_path)
    path = segment.folder / "ledger" / "0.json"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(StoreDamagedError, match="ledger entry"):
        segment.ledger()


@pytest.mark.parametrize("name", ["plan.npy", "segment.json"])
@pytest.mark.parametrize("data", [b"", b"\0" * 40, b"{}", b"[]"])
def test_a_damaged_plan_is_found(tmp_path, name, data):
    segment = written(tmp_path)
    (segment.folder / name).write_bytes(data)
    with pytest.raises(StoreDamagedError) as caught:
        Segment(segment.folder)
    assert segment.folder.name in str(caught.value)


def test_a_flipped_bit_in_the_row_ids_is_found(tmp_path):
    segment = written(tmp_path)
    flip(segment.folder / "plan.npy")
    with pytest.raises(StoreDamagedError, match="row ids"):
        Segment(segment.folder)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("segment.json", '"unit_rows": 4', '"unit_rows": 5'),
        ("segment.json", '"width": 3', '"width": 2'),
        ("segment.json", "float32", "float16"),
        ("features/zarr.json", "float32", "int32"),
        ("features/zarr.json", "10", "12"),
        ("features/zarr.json", "{", "<"),
    ],
)
def test_an_array_that_is_not_as_planned_is_found(tmp_path, file, old, new):
    path = written(tmp_path).folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    segment = Segment(path.parents[file.count("/")])
    with pytest.raises(StoreDamagedError):
        segment.read_unit(segment.ledger()[1])


def test_a_discarded_unit_is_written_anew_even_over_a_damaged_chunk(tmp_path):
    segment = written(tmp_path)
    before = files_of(segment.folder)
    for unit in range(segment.units):
        flip(segment.stored_object(unit))
        segment.discard(unit)
        write(Segment(segment.folder), unit)
    assert files_of(segment.folder) == before
