"""Files are published whole or not at all."""

import csv
import errno
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mvp import files
from mvp.files import (
    canonical_json,
    create_exclusive,
    digest_bytes,
    digest_file,
    digest_json,
    quoted_cells,
    read_json,
    replacing,
    tidy,
    write_bytes,
    write_json,
)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def without_links(monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(files, "_UNNAMED", 0)
    monkeypatch.setattr(files.os, "link", no_links)


def test_digests_are_of_the_content(tmp_path):
    data = np.random.default_rng(0).bytes(3_000_001)
    (tmp_path / "a").write_bytes(data)
    assert digest_file(tmp_path / "a") == digest_bytes(data) == digest_bytes(memoryview(data))
    assert len(digest_bytes(b"")) == 32
    assert digest_bytes(data[:-1]) != digest_bytes(data)


def test_one_value_has_one_digest():
    assert digest_json({"b": [1, 2], "a": "ü"}) == digest_json({"a": "ü", "b": (1, 2)})
    assert digest_json({"a": 1}) != digest_json({"a": "1"})
    assert digest_json(["a", "b"]) != digest_json(["b", "a"])
    assert canonical_json({"b": 1, "a": None}) == '{"a":null,"b":1}'


def test_a_file_is_replaced_whole(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    write_bytes(target, b"old")
    write_bytes(target, b"new")
    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("stood", [True, False])
def test_an_exception_leaves_neither_a_partial_nor_a_target(tmp_path, error, stood):
    target = tmp_path / "a.txt"
    if stood:
        target.write_bytes(b"old")
    with pytest.raises(error), replacing(target) as partial:
        assert partial.suffix == target.suffix
        partial.write_bytes(b"half")
        raise error
    assert names(tmp_path) == (["a.txt"] if stood else [])
    assert not stood or target.read_bytes() == b"old"


def test_readers_see_old_or_new_and_nothing_between(tmp_path):
    target = tmp_path / "a"
    versions = [bytes([v]) * 200_000 for v in range(2)]
    write_bytes(target, versions[0])
    stop = threading.Event()

    def write():
        for i in range(60):
            write_bytes(target, versions[i % 2])
        stop.set()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(write)
        while not stop.is_set():
            assert target.read_bytes() in versions
            if done.done():
                break
        done.result()


def test_json_comes_back(tmp_path):
    value = {"a": [1, 2.5, None, True], "ü": "x\ny"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("links", [True, False])
def test_of_many_that_create_a_file_exactly_one_does(tmp_path, links, monkeypatch):
    if not links:  # as on file systems that know no hard links
        without_links(monkeypatch)
    for round_ in range(5):
        path = tmp_path / f"{round_}.json"
        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(lambda i, p=path: create_exclusive(p, b"%d" % i), range(16)))
        assert won.count(True) == 1
        assert path.read_bytes() == b"%d" % won.index(True)
    assert names(tmp_path) == [f"{i}.json" for i in range(5)]


def test_a_full_disk_leaves_no_half_file_that_passes_for_a_whole_one(tmp_path, monkeypatch):
    without_links(monkeypatch)
    sync, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "full")
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        create_exclusive(tmp_path / "a.json", b"{}")
    assert names(tmp_path) == []


@pytest.mark.parametrize("named", [False, True])
def test_a_file_is_created_from_its_parts_and_nothing_else_is_left(tmp_path, named, monkeypatch):
    if named:  # as on file systems without files that have no name

        def unknown(path, flags, *more):
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "unknown")
            return real(path, flags, *more)

        real = os.open
        monkeypatch.setattr(files.os, "open", unknown)
    numbers = np.arange(5, dtype="<f4")
    assert create_exclusive(tmp_path / "a", b"x", numbers.data, memoryview(b""), b"y")
    assert (tmp_path / "a").read_bytes() == b"x" + numbers.tobytes() + b"y"
    assert not create_exclusive(tmp_path / "a", b"z")
    assert create_exclusive(tmp_path / "b")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        create_exclusive(tmp_path / "c", b"half")
    assert names(tmp_path) == ["a", "b"]


def test_what_need_not_last_is_not_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files.os, "fsync", synced.append)
    assert create_exclusive(tmp_path / "a", b"x", durable=False)
    assert synced == []
    assert create_exclusive(tmp_path / "b", b"x")
    assert len(synced) == 2  # the file and its name


def test_what_is_published_follows_the_umask(tmp_path):
    """A cache is shared: its ledger is as readable as its key."""
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    create_exclusive(tmp_path / "exclusive", b"")
    write_bytes(tmp_path / "replaced", b"")
    assert {p.stat().st_mode for p in tmp_path.iterdir()} == {plain.stat().st_mode}


def test_publishing_never_changes_the_umask(tmp_path, monkeypatch):
    def touched(_):
        raise AssertionError("the umask belongs to all threads")

    monkeypatch.setattr(files.os, "umask", touched)
    write_bytes(tmp_path / "a", b"x")
    assert create_exclusive(tmp_path / "b", b"x")


def test_tidy_removes_what_is_named_and_no_more(tmp_path):
    for name in ("a.tmp", "b.tmp", "c"):
        (tmp_path / name).touch()
    tidy(tmp_path, lambda p: p.suffix == ".tmp")
    assert names(tmp_path) == ["c"]
    tidy(tmp_path / "none", lambda p: True)


def test_cells_are_quoted_as_the_csv_module_does():
    cells = ["a", "a,b", 'say "no"', "two\nlines", "\r", " a", "'=1", "é", "a;b", "a\tb", '"']
    stream = io.StringIO(newline="")
    csv.writer(stream).writerow(cells)
    assert ",".join(quoted_cells(cells)) + "\r\n" == stream.getvalue()
    assert quoted_cells(["a", "b"]) == ["a", "b"]
