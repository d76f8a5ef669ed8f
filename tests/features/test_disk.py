"""Places with too little room, that fill up, or that cannot be written."""

import os
import random
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest
from cached import files_of, fill, ids, numbers_of, opened
from writer import Writers, job

from mvp.errors import StorageError
from mvp.features import Writer

KIB = 1024
ROWS, WIDTH, UNIT_ROWS = 96, 512, 8  # 12 units of 16 KiB


@contextmanager
def mounted(folder, *options):
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(["mode=0777", *options]), "tmpfs"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mount is not allowed: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a reader may still hold files of it in its memory.
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(autouse=True)
def _root():
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mount needs root")


def remount(folder, option):
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def content(root):
    return {n: data for n, data in files_of(root).items() if "/claims/" not in n}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    fill(opened(root), ids(range(ROWS)), UNIT_ROWS, width=WIDTH)
    return content(root)


def require_right_numbers(store):
    assert store.problems == []
    rows = store.rows
    if rows:
        np.testing.assert_array_equal(store.read(rows), numbers_of(rows, WIDTH))
    return len(rows)


def extract(root, before=lambda done: None):
    """Extract, with something done before each unit is computed; gives the units computed."""
    store, done = opened(root), []
    store.discard_damaged(deep=False)
    with Writer(store) as writer:
        writer.require_place()
        tasks = writer.plan(ids(range(ROWS)), WIDTH, UNIT_ROWS, {})
        for task in writer.claimed(tasks):
            before(done)
            done.append(task.unit)
            assert writer.commit(task, numbers_of(task.rows, WIDTH), {})
    return done


@pytest.mark.parametrize("kib", np.linspace(48, 360, 20).astype(int).tolist())
def test_a_disk_that_is_too_small_says_so_before_anything_is_computed(kib, tmp_path, whole):
    with mounted(tmp_path / "disk", f"size={kib}k") as disk:
        root, computed = disk / "store", []
        try:
            extract(root, computed.append)
            done = True
        except StorageError as error:
            assert computed == [], "room was found out too late"
            assert "GB are free" in str(error)
            assert "nothing was computed" in str(error)
            done = False
        store = opened(root)
        assert require_right_numbers(store) == (ROWS if done else 0)
        if not done:
            remount(disk, "size=8m")
            extract(root)
        assert require_right_numbers(opened(root)) == ROWS
        assert content(root) == whole


@pytest.mark.parametrize("seed", range(20))
def test_a_disk_that_fills_up_on_the_way_is_one_clear_error_and_work_goes_on_later(
    seed, tmp_path, whole
):
    chance = random.Random(seed)
    after, left = chance.randrange(12), chance.randrange(0, 48 * KIB, 4 * KIB)
    with mounted(tmp_path / "disk", "size=2m") as disk:
        root, eater = disk / "store", disk / "eater"

        def eat(done):
            if len(done) == after:
                free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
                eater.write_bytes(bytes(max(0, free - left)))

        try:
            extract(root, eat)
        except StorageError as error:
            assert "cannot be written" in str(error)
            assert "No space left" in str(error)
            assert "make room" in str(error)
        else:
            assert after == 11, "a unit of 16 KiB went where was no room"
        stored = require_right_numbers(opened(root))
        assert UNIT_ROWS * after <= stored
        assert not list(root.rglob(".partial-*"))
        eater.unlink()
        assert len(extract(root)) == ROWS // UNIT_ROWS - stored // UNIT_ROWS
        assert require_right_numbers(opened(root)) == ROWS
        assert content(root) == whole


def test_writers_in_processes_end_with_one_line_on_a_full_disk(tmp_path):
    rows = (0, 90)
    with Writers() as writers, mounted(tmp_path / "disk", "size=8m") as disk:
        root = disk / "store"
        some = {"unit_rows": 3, "width": 2048, "compute_s": 0.01}  # 30 units of 24 KiB
        writers.start(*[job(root, rows, **some)] * 3)
        writers.send_go()
        while not list(root.rglob("ledger/*.json")):
            pass
        eater = disk / "eater"
        with eater.open("wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(4 * KIB))
            except OSError:
                pass
        ends = writers.answer()
        assert any(status == 3 for status, _, _ in ends)
        for status, _, told in ends:
            assert status in (0, 3), told
            assert status == 0 or told.startswith("StorageError: "), told
            assert "\n" not in told
        store = opened(root)
        np.testing.assert_array_equal(store.read(store.rows), numbers_of(store.rows, 2048))
        eater.unlink()
        for status, _, told in writers.run(*[job(root, rows, **some)] * 3):
            assert status == 0, told
        store = opened(root)
        assert len(store) == 90
        np.testing.assert_array_equal(store.read(store.rows), numbers_of(store.rows, 2048))


def test_a_place_that_cannot_be_written_says_so_before_computing_and_is_read_as_ever(tmp_path):
    with mounted(tmp_path / "disk", "size=2m") as disk:
        root = disk / "store"
        fill(opened(root), ids(range(32)), UNIT_ROWS, width=WIDTH)
        remount(disk, "ro")
        computed = []
        with pytest.raises(StorageError, match="Read-only file system") as caught:
            extract(root, computed.append)
        assert computed == []
        assert "\n" not in str(caught.value)
        store = opened(root)
        assert require_right_numbers(store) == 32
        assert store.discard_damaged(deep=False) == 0
        assert store.count_damaged() == 0
        remount(disk, "rw")
        extract(root)
        assert require_right_numbers(opened(root)) == ROWS


def test_a_store_that_lacks_only_its_seal_is_read_where_nothing_can_be_written(tmp_path):
    with mounted(tmp_path / "disk", "size=2m") as disk:
        root = disk / "store"
        fill(opened(root), ids(range(32)), UNIT_ROWS, width=WIDTH)
        next(root.rglob("sealed.json")).unlink()
        remount(disk, "ro")
        store = opened(root)
        assert store.discard_damaged(deep=False) == 0
        assert require_right_numbers(store) == 32


def test_a_new_store_in_a_place_that_cannot_be_written_is_an_error_before_computing(tmp_path):
    with mounted(tmp_path / "disk", "size=2m") as disk:
        remount(disk, "ro")
        computed = []
        with pytest.raises(StorageError, match="Read-only file system"):
            extract(disk / "store", computed.append)
        assert computed == []


def test_a_folder_that_may_not_be_changed_is_an_error_before_computing(tmp_path):
    root = tmp_path / "store"
    fill(opened(root), ids(range(32)), UNIT_ROWS, width=WIDTH)
    folders = [str(p) for p in [root, *root.rglob("*")] if p.is_dir()]
    try:
        done = subprocess.run(["chattr", "+i", *folders], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("chattr is missing")
    try:
        if done.returncode:
            pytest.skip("chattr +i is not possible here")
        computed = []
        with pytest.raises(StorageError, match="cannot be written"):
            extract(root, computed.append)
        assert computed == []
        assert require_right_numbers(opened(root)) == 32
    finally:
        subprocess.run(["chattr", "-i", *folders], check=False)
    extract(root)
    assert require_right_numbers(opened(root)) == ROWS
