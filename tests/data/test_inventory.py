"""What the files are: read once, read again when they changed, and never trusted too long."""

import os
from pathlib import Path

import numpy as np
import pytest

from mvp.data import inventory
from mvp.data.inventory import Inventory
from mvp.data.readers import Limits
from mvp.errors import DataError

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
    digest = inventory.digest_file

    def counting(path):
        seen.append(str(path))
        return digest(path)

    monkeypatch.setattr(inventory, "digest_file", counting)
    return seen


@pytest.fixture
def store(tmp_path):
    return Inventory(tmp_path / "cache" / "inventory.sqlite")


def test_unchanged_files_are_not_read_again(tmp_path, store, opened):
    files = [write(tmp_path / f"{i}.npy", i) for i in range(40)]
    first = store.scan(files, LIMITS, decode=True)
    assert sorted(opened) == sorted(files)
    assert Inventory(store.path).scan(files, LIMITS, decode=True) == first
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
    before = store.scan([file], LIMITS, decode=True)[file]
    write(tmp_path / "a.npy", 2, when)
    after = store.scan([file], LIMITS, decode=True)[file]
    assert after.digest != before.digest
    assert after.pixels != before.pixels


def test_a_file_changed_just_before_the_scan_is_read_again(tmp_path, store, opened):
    """Within the resolution of a time stamp a second change would leave it as it is."""
    file = write(tmp_path / "a.npy")
    os.utime(file)
    store.scan([file], LIMITS)
    store.scan([file], LIMITS)
    assert opened == [file, file]


def test_decoding_later_upgrades_a_record(tmp_path, store, opened):
    file = write(tmp_path / "a.npy")
    assert store.scan([file], LIMITS)[file].pixels is None
    decoded = store.scan([file], LIMITS, decode=True)[file]
    assert decoded.pixels
    assert store.scan([file], LIMITS)[file] == decoded
    assert len(opened) == 2


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
    records = store.scan(files, LIMITS, decode=True)
    pixels = [records[f].pixels for f in files]
    assert len(set(pixels[:4])) == 1
    assert len(set(pixels)) == 4
    assert len({records[f].digest for f in files}) == 7


def test_missing_and_empty_files_have_a_reason_and_no_digest(tmp_path, store):
    (tmp_path / "empty.png").write_bytes(b"")
    files = [str(tmp_path / "none.npy"), str(tmp_path / "empty.png"), str(tmp_path), "a\0b"]
    records = store.scan(files, LIMITS, decode=True)
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
    record = store.scan([str(path)], LIMITS, decode=True)[str(path)]
    assert record.digest
    assert "decoded" in record.error
    assert str(path) not in record.error


def test_a_file_that_was_too_large_is_tried_again_when_the_limit_is_raised(tmp_path, store):
    file = write(tmp_path / "a.npy")
    assert "max_pixels" in store.scan([file], Limits(max_pixels=15), decode=True)[file].error
    assert store.scan([file], Limits(max_pixels=16), decode=True)[file].error == ""


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
    assert str(inventory.READER_VERSION) in inventory._TABLE
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
        found = list(pool.map(lambda _: store.scan(files, LIMITS, decode=True), range(4)))
    assert all(records == found[0] for records in found)
