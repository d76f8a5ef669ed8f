"""Records and pixels of one decoding: what a scan would store, and what a reader gives."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvp.data.reading import decoding_pool, inventory
from mvp.data.reading.decoding_pool import Pool
from mvp.data.reading.inventory import Inventory
from mvp.data.reading.readers import Limits, read_stack
from mvp.errors import ImageError, MissingExtraError
from tests.data import odd_library
from tests.data.reading.test_decoding import gone
from tests.data.reading.test_inventory import LIMITS, LONG_AGO, age, write
from tests.data.test_ahead import eventually


@pytest.fixture
def store(tmp_path):
    return Inventory(tmp_path / "cache" / "inventory.sqlite")


@pytest.fixture
def opened(monkeypatch):
    """The files whose content was read, in order."""
    seen = []

    def count(name):
        ask = getattr(inventory, name)

        def counting(file, *arguments, **options):
            seen.append(file)
            return ask(file, *arguments, **options)

        monkeypatch.setattr(inventory, name, counting)

    count("examine")
    count("examine_and_decode")
    return seen


def pixels_of(decoded):
    assert list(decoded.numbers) == list(range(decoded.total))
    return decoded.stack.pixels


def stream(store, files, limits=LIMITS, **changes):
    options = {"workers": 2, "ahead": 8, "prepare": pixels_of}
    return store.stream(files, limits, **{**options, **changes})


@pytest.fixture
def files(tmp_path):
    """One of every kind, readable or not."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "grey.npy", rng.integers(0, 9999, (40, 30), np.uint16))
    np.save(tmp_path / "colour.npy", rng.integers(0, 255, (4, 6, 3), np.uint8))
    np.save(tmp_path / "volume.npy", rng.random((5, 8, 9), np.float32))
    np.save(tmp_path / "long.npy", np.zeros((9, 4, 4), np.uint8))
    Image.fromarray(rng.integers(0, 255, (300, 400), np.uint8)).save(tmp_path / "film.jpg")
    (tmp_path / "report.txt").write_text("No focal opacity.")
    (tmp_path / "damaged.png").write_bytes(b"no image")
    (tmp_path / "empty.png").write_bytes(b"")
    names = ["grey.npy", "colour.npy", "none.png", "volume.npy", "long.npy", "film.jpg"]
    names += ["report.txt", "damaged.png", "empty.png"]
    for name in names:
        if name != "none.png":
            age(tmp_path / name)
    return [str(tmp_path / name) for name in names]


@pytest.mark.parametrize("workers", [1, 3])
def test_records_are_those_of_a_scan_and_pixels_those_of_the_reader(files, tmp_path, workers):
    scanned = Inventory(tmp_path / "other.sqlite").scan(files, LIMITS)
    store = Inventory(tmp_path / "inventory.sqlite")
    found = list(stream(store, files, most=8, workers=workers))
    assert [record.file for record, _ in found] == files
    assert {record.file: record for record, _ in found} == scanned
    given = {Path(r.file).name for r, pixels in found if pixels is not None}
    assert given == {"grey.npy", "colour.npy", "volume.npy", "film.jpg"}
    for record, pixels in found:
        if pixels is not None:
            np.testing.assert_array_equal(pixels, read_stack(record.file).pixels)
            assert pixels.dtype == read_stack(record.file).pixels.dtype
    # And it is remembered as a scan remembers it.
    assert store.known(files) == Inventory(tmp_path / "other.sqlite").known(files)


def test_a_file_is_read_once_and_one_that_is_remembered_not_at_all(tmp_path, store, opened):
    files = [write(tmp_path / f"{i}.npy", i) for i in range(20)]
    store.scan(files[:10], LIMITS)
    opened.clear()
    found = list(stream(store, [*files, *files[5:15]]))
    assert sorted(opened) == sorted(files[10:])
    assert [record.file for record, _ in found] == files
    assert [pixels is None for _, pixels in found] == [True] * 10 + [False] * 10
    opened.clear()
    assert dict.fromkeys(store.scan(files, LIMITS)) == dict.fromkeys(files)
    assert [pixels for _, pixels in stream(store, files)] == [None] * 20
    assert opened == []


def test_a_file_that_changes_while_it_is_read_gives_no_pixels(tmp_path, store, monkeypatch):
    file = write(tmp_path / "a.npy", 1)
    original = inventory.examine_and_decode

    def meanwhile(*arguments, **options):
        result = original(*arguments, **options)
        write(tmp_path / "a.npy", 2, LONG_AGO + 1)
        return result

    with monkeypatch.context() as patched:
        patched.setattr(inventory, "examine_and_decode", meanwhile)
        ((record, pixels),) = stream(store, [file])
    assert "changed while" in record.error
    assert pixels is None
    assert store.known([file]) == {}
    ((record, pixels),) = stream(store, [file])
    assert record.error == ""
    assert (pixels == 2).all()


def test_what_cannot_be_prepared_is_recorded_all_the_same(tmp_path, store):
    files = [write(tmp_path / f"{i}.npy", i) for i in range(4)]

    def prepare(decoded):
        if decoded.stack.pixels.max() == 2:
            raise ImageError("no")
        return decoded.total

    found = list(stream(store, files, prepare=prepare))
    assert [made for _, made in found] == [1, 1, None, 1]
    assert {r.file: r for r, _ in found} == store.known(files)
    assert not any(record.error for record, _ in found)


def test_an_error_that_is_no_images_ends_the_stream(tmp_path, store):
    files = [write(tmp_path / f"{i}.npy", i) for i in range(6)]

    def prepare(decoded):
        if decoded.stack.pixels.max() == 4:
            raise MissingExtraError("x", "dicom", "reading")
        return decoded.total

    with pytest.raises(MissingExtraError):
        list(stream(store, files, prepare=prepare, workers=1))
    assert set(store.known(files)) == set(files[:4])


def test_what_was_taken_before_the_stream_was_closed_is_remembered(tmp_path, store):
    files = [write(tmp_path / f"{i}.npy", i) for i in range(30)]
    with closing(stream(store, files)) as found:
        for _ in range(12):
            next(found)
    assert set(store.known(files)) == set(files[:12])


def test_no_more_lies_ahead_than_there_is_room_for(tmp_path, store):
    files = [str(tmp_path / f"{i}.npy") for i in range(20)]
    for file in files:
        np.save(file, np.zeros((5, 4, 4), np.uint8))
    prepared = []
    with closing(
        stream(store, files, prepare=lambda d: prepared.append(d) or 1, ahead=12, workers=1)
    ) as found:
        next(found)
        time.sleep(0.3)
        assert len(prepared) == 3  # 15 instances


def test_four_streams_share_one_inventory(tmp_path, store):
    files = [write(tmp_path / f"{i}.npy", i) for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: [r for r, _ in stream(store, files)], range(4)))
    assert all(records == found[0] for records in found)
    assert store.known(files) == {record.file: record for record in found[0]}


def test_a_stream_that_is_closed_waits_for_no_file(tmp_path, store, monkeypatch):
    """And leaves alone what others have decoded at that time."""
    monkeypatch.syspath_prepend(odd_library.install(tmp_path / "library"))
    own = Pool()
    monkeypatch.setattr(decoding_pool._process, "pool", own)
    good = write(tmp_path / "a.npy", 1)
    slow = odd_library.order(tmp_path / "a.nii", "sleep")
    others = stream(Inventory(tmp_path / "other.sqlite"), [slow], Limits(max_seconds=4))
    with ThreadPoolExecutor(1) as threads, closing(others):
        waiting = threads.submit(next, others)
        assert eventually(lambda: len(own.processes) == 1)
        theirs = own.processes
        found = stream(store, [good, slow], Limits(max_seconds=1000))
        assert next(found)[0].file == good
        assert eventually(lambda: len(own._deadlines) == 2)
        ours = {d.process.pid for d in own._deadlines} - set(theirs)
        found.close()
        assert gone(ours, 3)
        assert "4 seconds" in waiting.result(20)[0].error
    own.close()
