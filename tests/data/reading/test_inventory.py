"""What the files are: read once, read again when they changed, and never trusted too long."""

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from mvp.data.reading import inventory
from mvp.data.reading.inventory import Inventory
from mvp.data.reading.readers import Limits
from mvp.errors import DataError, MissingExtraError

LIMITS = Limits()
LONG_AGO = 1_000_000_000_000_000_000


def write(path, value=0, when=LONG_AGO):
    """A small image that was changed long ago, so that its time stamp can be trusted."""
    np.save(path, np.full((4, 4), value, np.uint8))
    age(path, when)
    return str(path)


def age(path, when=LONG_AGO):
    os.utime(path, ns=(when, when))


@pytest.fixture
def opened(monkeypatch):
    """The files whose content was read, in order."""
    seen = []
    examine = inventory.examine

    def counting(file, limits):
        seen.append(file)
        return examine(file, limits)

    monkeypatch.setattr(inventory, "examine", counting)
    return seen


@pytest.fixture
def store(tmp_path):
    return Inventory(tmp_path / "cache" / "inventory.sqlite")


def test_unchanged_files_are_not_read_again(tmp_path, store, opened):
    files = [write(tmp_path / f"{i}.npy", i) for i in range(40)]
    first = store.scan(files, LIMITS)
    assert sorted(opened) == sorted(files)
    assert Inventory(store.path).scan(files, LIMITS) == first
    assert Inventory(store.path).scan(files, LIMITS) == first
    assert len(opened) == 40


def test_a_file_listed_twice_is_read_once(tmp_path, store, opened):
    file = write(tmp_path / "a.npy")
    assert list(store.scan([file, file], LIMITS)) == [file]
    assert opened == [file]


@pytest.mark.parametrize("when", [LONG_AGO + 1, LONG_AGO - 5, LONG_AGO])
def test_a_changed_file_of_the_same_size_is_seen(tmp_path, store, when):
    """Also when its time stamp was set back, as copies that keep time stamps do."""
    file = write(tmp_path / "a.npy", 1)
    before = store.scan([file], LIMITS)[file]
    write(tmp_path / "a.npy", 2, when)
    after = store.scan([file], LIMITS)[file]
    assert after.digest != before.digest
    assert after.pixels != before.pixels


def test_a_file_changed_just_before_the_scan_is_read_again(tmp_path, store, opened):
    """Within the resolution of a time stamp a second change would leave it as it is."""
    file = write(tmp_path / "a.npy")
    os.utime(file)
    store.scan([file], LIMITS)
    store.scan([file], LIMITS)
    assert opened == [file, file]


def test_a_damaged_file_is_tried_again_every_time(tmp_path, store, opened):
    path = tmp_path / "a.npy"
    path.write_bytes(b"no array")
    age(path)
    for _ in range(2):
        record = store.scan([str(path)], LIMITS)[str(path)]
        assert record.error
        assert record.pixels is None
    assert len(opened) == 2
    assert store.known([str(path)]) == {str(path): record}


def test_a_record_says_what_is_in_the_file(tmp_path, store):
    arrays = {
        "grey": (np.zeros((4, 6), np.uint16), (4, 6), 16, 1),
        "colour": (np.arange(72, dtype=np.uint8).reshape(4, 6, 3), (4, 6, 3), 8, 1),
        "volume": (np.zeros((5, 4, 6), np.uint8), (4, 6), 8, 5),
        "float": (np.zeros((2, 4, 6), np.float64), (4, 6), 32, 2),
    }
    for name, (values, *_) in arrays.items():
        np.save(tmp_path / f"{name}.npy", values)
        age(tmp_path / f"{name}.npy")
    files = {name: str(tmp_path / f"{name}.npy") for name in arrays}
    for _ in range(2):  # decoded, and remembered
        records = store.scan(files.values(), LIMITS)
        for name, (_, shape, bits, instances) in arrays.items():
            record = records[files[name]]
            assert (record.shape, record.bits, record.instances) == (shape, bits, instances)
            assert record.size == Path(files[name]).stat().st_size
            assert record.mtime_ns == LONG_AGO


def test_a_stack_of_one_has_the_pixels_of_its_image(tmp_path, store):
    values = np.arange(24, dtype=np.uint8).reshape(4, 6)
    names = {"image": values, "one": values[None], "two": np.stack([values, values])}
    for name, array in names.items():
        np.save(tmp_path / f"{name}.npy", array)
    image, one, two = store.scan([str(tmp_path / f"{n}.npy") for n in names], LIMITS).values()
    assert image.pixels == one.pixels != two.pixels


def test_a_file_that_changes_while_it_is_read_is_an_error_and_not_remembered(
    tmp_path, store, monkeypatch
):
    """Or the pixels of one content would stand under the digest of another."""
    file = write(tmp_path / "a.npy", 1)
    original = inventory.examine

    def meanwhile(*arguments):
        result = original(*arguments)
        write(tmp_path / "a.npy", 2, LONG_AGO + 1)
        return result

    with monkeypatch.context() as patched:
        patched.setattr(inventory, "examine", meanwhile)
        record = store.scan([file], LIMITS)[file]
    assert "changed while" in record.error
    assert (record.digest, record.pixels) == ("", None)
    assert store.known([file]) == {}
    assert store.scan([file], LIMITS)[file].error == ""


def test_the_same_pixels_in_other_files_have_one_pixel_digest(tmp_path, store):
    from PIL import Image

    values = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "f.npy", np.asfortranarray(values))
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).convert("RGB").save(tmp_path / "c.png")
    np.save(tmp_path / "t.npy", np.ascontiguousarray(values.T))
    np.save(tmp_path / "w.npy", values.reshape(2, 8))
    np.save(tmp_path / "16.npy", values.astype(np.uint16))
    names = ["a.npy", "f.npy", "a.png", "c.png", "t.npy", "w.npy", "16.npy"]
    files = [str(tmp_path / n) for n in names]
    records = store.scan(files, LIMITS)
    pixels = [records[f].pixels for f in files]
    assert len(set(pixels[:4])) == 1
    assert len(set(pixels)) == 4
    assert len({records[f].digest for f in files}) == 7


def test_missing_and_empty_files_have_a_reason_and_no_digest(tmp_path, store):
    (tmp_path / "empty.png").write_bytes(b"")
    files = [str(tmp_path / "none.npy"), str(tmp_path / "empty.png"), str(tmp_path), "a\0b"]
    records = store.scan(files, LIMITS)
    assert list(records) == files
    for record, says in zip(
        records.values(), ["there", "0 bytes", "not a file", "there"], strict=True
    ):
        assert says in record.error
        assert record.digest == ""
    write(tmp_path / "none.npy")
    assert store.scan(files[:1], LIMITS)[files[0]].digest


def test_a_damaged_file_has_a_reason_and_a_digest(tmp_path, store):
    path = tmp_path / "a.png"
    path.write_bytes(b"no image")
    age(path)
    record = store.scan([str(path)], LIMITS)[str(path)]
    assert record.digest
    assert "decoded" in record.error
    assert str(path) not in record.error


def test_a_file_that_was_too_large_is_tried_again_when_the_limit_is_raised(tmp_path, store):
    file = write(tmp_path / "a.npy")
    assert "max_pixels" in store.scan([file], Limits(max_pixels=15))[file].error
    assert store.scan([file], Limits(max_pixels=16))[file].error == ""


def test_a_link_that_leads_out_is_refused_even_when_it_is_remembered(tmp_path, store):
    file = write(tmp_path / "a.npy")
    assert store.scan([file], LIMITS)[file].error == ""
    root = tmp_path / "root"
    root.mkdir()
    assert "leads out" in store.scan([file], Limits(root=str(root)))[file].error


def test_known_opens_no_file(tmp_path, store, opened):
    files = [write(tmp_path / f"{i}.npy", i) for i in range(3)]
    records = store.scan(files, LIMITS)
    opened.clear()
    write(tmp_path / "1.npy", 9, LONG_AGO + 7)
    Path(files[2]).unlink()
    assert store.known([*files, "never.png"]) == {f: records[f] for f in (files[0], files[2])}
    assert opened == []


def test_what_another_reader_decoded_is_not_remembered(tmp_path, store):
    """The table of records is named after the version of the reader."""
    for version in (inventory.READER_VERSION, inventory.TEXT_VERSION, inventory.LOOK_VERSION):
        assert f"_{version}" in inventory._TABLE
    assert inventory._TABLE in inventory._SCHEMA


def test_an_inventory_that_is_none_is_one_clear_line(tmp_path):
    path = tmp_path / "inventory.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(DataError) as caught:
        Inventory(path).scan([write(tmp_path / "a.npy")], LIMITS)
    assert "delete it" in str(caught.value)
    assert str(path) in str(caught.value)
    path.unlink()
    store = Inventory(path)
    file = write(tmp_path / "a.npy")
    store.scan([file], LIMITS)
    import sqlite3

    with sqlite3.connect(path) as connection:
        connection.execute(f"alter table {inventory._TABLE} drop column digest")
    with pytest.raises(DataError, match="delete it"):
        store.scan([file], LIMITS)


def test_two_scans_at_a_time(tmp_path, store):
    from concurrent.futures import ThreadPoolExecutor

    files = [write(tmp_path / f"{i}.npy", i) for i in range(30)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: store.scan(files, LIMITS), range(4)))
    assert all(records == found[0] for records in found)


def _scan_in_a_process(path, files, barrier, answers):
    try:
        inventory._BATCH_FILES = 3
        barrier.wait(60)
        answers.put(Inventory(path).scan(files, LIMITS))
    except BaseException as error:  # noqa: BLE001 - the parent tells
        answers.put(error)


def test_four_processes_share_one_inventory(tmp_path):
    """They begin together on a file that is not there yet, and write in small batches."""
    files = [write(tmp_path / f"{i}.npy", i) for i in range(60)]
    path = tmp_path / "cache" / "inventory.sqlite"
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(4), context.Queue()
    processes = [
        context.Process(target=_scan_in_a_process, args=(path, files[i:], barrier, answers))
        for i in range(4)
    ]
    for process in processes:
        process.start()
    found = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert not [error for error in found if isinstance(error, BaseException)]
    whole = max(found, key=len)
    assert all(whole[f] == r for records in found for f, r in records.items())
    assert Inventory(path).known(files) == whole


def _scan_and_be_killed(path, files):
    inventory._BATCH_FILES = 5
    read = inventory.examine

    def deadly(file, limits):
        if file == files[40]:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(file, limits)

    inventory.examine = deadly
    Inventory(path).scan(files, LIMITS, workers=1)


def test_a_kill_costs_no_more_than_a_batch_and_what_is_ahead(tmp_path, opened):
    files = [write(tmp_path / f"{i}.npy", i) for i in range(60)]
    store = Inventory(tmp_path / "inventory.sqlite")
    process = multiprocessing.get_context("spawn").Process(
        target=_scan_and_be_killed, args=(store.path, files)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert len(store.known(files)) >= 20
    assert len(store.scan(files, LIMITS)) == 60
    assert len(opened) <= 40


@pytest.mark.parametrize("error", [KeyboardInterrupt, MissingExtraError("x", "dicom", "reading")])
def test_what_was_decoded_before_the_scan_was_broken_off_is_remembered(
    tmp_path, store, monkeypatch, error
):
    files = [write(tmp_path / f"{i}.npy", i) for i in range(30)]
    read = inventory.examine

    def breaks(file, limits):
        if file == files[20]:
            raise error
        return read(file, limits)

    monkeypatch.setattr(inventory, "examine", breaks)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        store.scan(files, LIMITS, workers=1)
    assert set(store.known(files)) == set(files[:20])
