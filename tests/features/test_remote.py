"""A store in an object store, and on a network that fails."""

import random
import sys
import threading
import time
from collections import Counter
from itertools import count

import numpy as np
import pytest
from cached import KEY, files_of, fill, ids, numbers_of, opened
from s3 import CREDENTIALS, Proxy, object_store
from writer import Writers, job

from mvp.errors import ConfigError, MissingExtraError, StorageError, StoreDamagedError
from mvp.features import FeatureStore, Writer, remote
from mvp.features.claims import Claims
from mvp.features.storage import open_storage

s3fs = pytest.importorskip("s3fs", reason="s3fs is missing")
pytest.importorskip("moto.server", reason="moto is missing")
pytest.importorskip("flask", reason="moto's server part, moto[server], is missing")
zarr = pytest.importorskip("zarr")

_NUMBERS = count()
KILLED = -9


@pytest.fixture(scope="module")
def port():
    with pytest.MonkeyPatch.context() as patch, object_store() as number:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield number


def options(port):
    settings = {"retries": {"max_attempts": 0}, "connect_timeout": 5, "read_timeout": 20}
    return {"endpoint_url": f"http://127.0.0.1:{port}", "config_kwargs": settings}


@pytest.fixture
def fs(port):
    return s3fs.S3FileSystem(**options(port))


@pytest.fixture
def url(fs):
    bucket = f"bucket{next(_NUMBERS)}"
    fs.mkdir(bucket)
    return f"s3://{bucket}/some/folder"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setattr(remote, "_PAUSE_S", 0.001)


def require_right_numbers(store):
    assert store.problems == []
    rows = store.rows
    if rows:
        np.testing.assert_array_equal(store.read(rows), numbers_of(rows))
    return len(rows)


def objects(storage):
    return storage.read_many(name for name in storage.walk("") if "/claims/" not in name)


def the_object(store, name):
    return next(n for n in store.storage.walk("") if n.endswith(name))


# --- the same store as in a folder ---


def test_an_object_store_holds_the_very_objects_of_a_folder(port, url, tmp_path):
    rows, rejected = ids(range(30)), ids([4, 5])
    local, store = opened(tmp_path / "s"), opened(url, options=options(port))
    assert fill(store, rows, rejected=rejected, stop=3) == [0, 1, 2]
    assert require_right_numbers(opened(url, options=options(port))) == 10
    # Another process goes on.
    store = opened(url, options=options(port))
    assert fill(store, [row for row in rows if row not in rejected]) == [3, 4, 5, 6, 7]
    fill(local, rows, rejected=rejected)
    assert require_right_numbers(store) == 28
    assert store.rejected == local.rejected != {}
    assert objects(store.storage) == {
        n: data for n, data in files_of(tmp_path / "s").items() if "/claims/" not in n
    }
    assert store.storage.names(f"{store.folder}/claims") == []
    found = FeatureStore(url, options(port))
    assert found.views() == [KEY.view]
    assert found.keys(KEY.view) == [KEY]
    assert len(found.find(KEY.view, KEY.digest)) == 28


def test_rows_are_read_in_any_order_and_a_row_that_is_not_there_is_named(port, url):
    store = opened(url, options=options(port))
    rows = ids(range(20))
    fill(store, rows)
    asked = [rows[i] for i in (19, 3, 3, 0, 11)]
    np.testing.assert_array_equal(store.read(asked), numbers_of(asked))
    with pytest.raises(KeyError):
        store.read(ids([77]))


def test_damaged_objects_are_noticed_discarded_and_computed_anew(port, url, fs):
    store = opened(url, options=options(port))
    fill(store, ids(range(20)))
    before = objects(store.storage)
    chunk, gone, entry = (the_object(store, n) for n in ("/c.1.0", "/c.3.0", "/ledger/0.json"))
    root = url.removeprefix("s3://")
    data = bytearray(before[chunk])
    data[5] ^= 1
    fs.pipe_file(f"{root}/{chunk}", bytes(data))
    fs.rm_file(f"{root}/{gone}")
    fs.pipe_file(f"{root}/{entry}", b"{}")
    store = opened(url, options=options(port))
    for row in (5, 13):
        with pytest.raises(StoreDamagedError):
            store.read(ids([row]))
    assert store.discard_damaged(deep=True) == 2
    assert require_right_numbers(store) == 12
    assert sorted(fill(store, ids(range(20)))) == [1, 3]
    assert objects(store.storage) == before


def test_plain_zarr_reads_a_segment_that_is_being_written(port, url):
    store = opened(url, options=options(port))
    rows = ids(range(12))
    fill(store, rows, stop=2)
    (segment,) = store.segments
    place = f"{url}/{segment.folder}/features"
    array = zarr.open_array(place, mode="r", storage_options=options(port))
    np.testing.assert_array_equal(array[:8], numbers_of(segment.rows[:8]))
    assert np.isnan(array[8:]).all()
    fill(store, rows)
    np.testing.assert_array_equal(array[:], numbers_of(segment.rows))


def test_the_room_of_an_object_store_is_not_asked_for(port, url):
    storage = open_storage(url, options(port))
    assert storage.room() is None
    assert storage.local("x") is None
    assert storage.names("nothing") == []
    assert storage.walk("nothing") == {}
    assert storage.size("nothing") is None
    assert storage.read_many(["nothing"]) == {}
    storage.delete("nothing")
    storage.create("a/b", b"12")
    storage.create("a/c/d", b"")
    assert storage.names("a") == ["b", "c"]
    assert storage.names("") == ["a"]
    assert storage.walk("a") == {"a/b": 2, "a/c/d": 0}
    assert storage.size("a/b") == 2
    storage.delete_tree("a")
    assert storage.walk("") == {}


# --- exclusive ---


@pytest.mark.parametrize("tries", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_of_several_creators_of_one_object_exactly_one_is_told_that_he_was(tries, port, url):
    storage = open_storage(url, options(port))
    for number in range(tries):
        won, start = [], threading.Barrier(4)

        def create(who, name=str(number), won=won, start=start):
            start.wait()
            if storage.create(name, b"%d" % who):
                won.append(who)

        threads = [threading.Thread(target=create, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert storage.read(str(number)) == b"%d" % won[0]


def test_an_object_is_never_written_over(port, url):
    storage = open_storage(url, options(port))
    assert storage.create("x", b"one")
    assert not storage.create("x", b"two")
    assert storage.read("x") == b"one"


def test_a_server_that_writes_over_objects_is_refused_before_anything_is_computed(port, url):
    with Proxy(port) as proxy:
        proxy.careless = True
        store = opened(url, options=options(proxy.port))
        with pytest.raises(StorageError, match="writes over"):
            Writer(store).require_place()
        assert store.storage.walk("") == {}
        proxy.careless = False
        Writer(store).require_place()
        assert store.storage.walk("") == {}


def test_a_put_whose_success_was_not_answered_is_still_ones_own(port, url, impatient):
    with Proxy(port) as proxy:
        storage = open_storage(url, options(proxy.port))
        for number in range(6):
            proxy.harm, proxy.left = {"lost": 1.0}, 1
            assert storage.create(f"mine{number}", b"mine")
            assert storage.read(f"mine{number}") == b"mine"
        assert proxy.done["lost"] == 6
        open_storage(url, options(port)).create("theirs", b"theirs")
        proxy.left = 1
        assert not storage.create("theirs", b"mine")
        for number in range(4):
            proxy.left = 1
            claims = Claims(storage, "claims")
            assert claims.take(f"x{number}")
            assert not Claims(storage, "claims").take(f"x{number}")
            claims.release_all()


# --- failing ---


@pytest.mark.parametrize("kind", ["500", "503", "reset", "cut"])
def test_a_store_that_cannot_be_reached_never_looks_empty(kind, port, url, impatient, monkeypatch):
    monkeypatch.setattr(remote, "_TRIES", 2)
    rows = ids(range(8))
    fill(opened(url, options=options(port)), rows)
    with Proxy(port) as proxy:
        store = opened(url, options=options(proxy.port))
        storage = store.storage
        proxy.harm = {kind: 1.0}
        name = the_object(opened(url, options=options(port)), "/segment.json")
        asks = [
            lambda: opened(url, options=options(proxy.port)),
            lambda: FeatureStore(url, options(proxy.port)).views(),
            lambda: FeatureStore(url, options(proxy.port)).find(KEY.view, KEY.digest),
            lambda: store.read(rows),
            store.refresh,
            lambda: storage.read(name),
            lambda: storage.read_many([name]),
            lambda: storage.names(store.folder),
            lambda: storage.walk(""),
        ]
        if kind != "cut":
            asks += [
                lambda: storage.size(name),
                lambda: storage.create("x", b"1"),
                lambda: storage.delete(name),
                lambda: storage.delete_tree(store.folder),
                lambda: Writer(store).require_place(),
            ]
        for ask in asks:
            with pytest.raises(StorageError) as caught:
                ask()
            assert "\n" not in str(caught.value)
            assert url in str(caught.value)
        proxy.harm = {}
        store.refresh()
        assert require_right_numbers(store) == 8


def test_a_server_that_is_down_and_a_bucket_that_is_not_there_are_errors(port, impatient):
    with pytest.raises(StorageError, match="cannot be read"):
        opened("s3://bucket/folder", options=options(9))
    nowhere = open_storage("s3://no-such-bucket/folder", options(port))
    with pytest.raises(StorageError, match="cannot be written"):
        nowhere.create("x", b"1")


@pytest.mark.parametrize(
    "seed", [0, *[pytest.param(s, marks=pytest.mark.slow) for s in range(1, 8)]]
)
def test_on_a_network_that_fails_at_random_nothing_wrong_is_read_and_work_gets_done(
    seed, port, url, impatient, tmp_path
):
    rows = ids(range(24))
    fill(opened(tmp_path / "s"), rows)
    chance = random.Random(seed)
    with Proxy(port, seed) as proxy:
        errors, known = 0, 0
        for rate in (0.06, 0.01) if seed == 0 else (0.05, 0.04, 0.03, 0.02, 0.01, 0):
            proxy.harm = dict.fromkeys(("500", "503", "409", "cut", "reset", "lost"), rate)
            for _ in range(2):
                try:
                    # A claim whose release failed stands for a lease: this process lives on.
                    store = opened(url, options=options(proxy.port), lease_s=0.5)
                    # What has once been seen is seen for ever.
                    assert require_right_numbers(store) >= known
                    known = len(store)
                    store.discard_damaged(deep=chance.random() < 0.3)
                    fill(store, rows, stop=chance.randint(1, 6))
                except StorageError:
                    errors += 1
        assert known == len(rows) or errors
        assert sum(proxy.done.values()) > 5
        proxy.harm = {}
        fill(opened(url, options=options(proxy.port), lease_s=0.5), rows)
    store = opened(url, options=options(port))
    assert require_right_numbers(store) == len(rows)
    assert len(store.segments) == 1
    assert store.discard_damaged(deep=True) == 0
    assert objects(store.storage) == {
        n: data for n, data in files_of(tmp_path / "s").items() if "/claims/" not in n
    }


# --- several processes ---


@pytest.fixture(scope="module")
def writers(port):
    with Writers("s3fs") as helper:
        yield helper


@pytest.mark.parametrize("runs", [1, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("machine", ["this", "another"])
def test_writers_share_an_object_store_though_one_is_killed(
    machine, runs, writers, port, fs, tmp_path
):
    chance = random.Random(3)
    rows = ids(range(24))
    fill(opened(tmp_path / "s"), rows)
    killed = 0
    for _ in range(runs):
        bucket = f"bucket{next(_NUMBERS)}"
        fs.mkdir(bucket)
        url = f"s3://{bucket}/store"
        some = {"unit_rows": 4, "lease_s": 2, "options": options(port), "compute_s": 0.02}
        logs = [tmp_path / f"{bucket}.{i}" for i in range(3)]
        jobs = [job(url, (0, 24), log=str(log), **some) for log in logs]
        if machine == "another":
            jobs[0]["machine"] = "elsewhere"
        writers.start(*jobs)
        writers.send_go([chance.uniform(0.2, 2.0), None, None], limit=100)
        while writers.busy:
            require_right_numbers(opened(url, options=options(port)))
            time.sleep(0.1)
        (first, *_), *others = writers.answer()
        assert first in (0, KILLED)
        killed += first == KILLED
        for status, took, told in others:
            assert status == 0, told
            assert took < 60
        store = opened(url, options=options(port))
        assert require_right_numbers(store) == 24
        assert objects(store.storage) == {
            n: data for n, data in files_of(tmp_path / "s").items() if "/claims/" not in n
        } | {n: data for n, data in objects(store.storage).items() if golden(n)}
        by_living = Counter(
            line
            for log in logs[1:]
            for line in (log.read_text().splitlines() if log.exists() else [])
            if line.startswith("computed")
        )
        assert not [unit for unit, times in by_living.items() if times > 1]
    assert killed or runs == 1


def golden(name):
    return "/golden.json" in name or "/surroundings/" in name or name.endswith("/segment.json")


@pytest.mark.slow
def test_writers_share_an_object_store_on_a_network_that_fails(writers, port, fs, tmp_path):
    for seed in range(4):
        bucket = f"bucket{next(_NUMBERS)}"
        fs.mkdir(bucket)
        with Proxy(port, seed) as proxy:
            proxy.harm = dict.fromkeys(("500", "503", "409", "cut", "reset", "lost"), 0.01)
            some = {"unit_rows": 4, "lease_s": 5, "options": options(proxy.port)}
            jobs = [job(f"s3://{bucket}/store", (0, 40), **some) for _ in range(4)]
            for _ in range(5):
                ends = writers.run(*jobs, limit=100)
                for status, _, told in ends:
                    assert status == 0 or told.startswith("StorageError: "), told
                if all(status == 0 for status, _, _ in ends):
                    break
        store = opened(f"s3://{bucket}/store", options=options(port))
        assert require_right_numbers(store) == 40
        assert sum(len(segment.ids) for segment in store.segments) == 40


# --- other places ---


def test_a_store_in_the_memory_of_this_process_goes_through_the_whole_cycle(tmp_path):
    url = f"memory://store{next(_NUMBERS)}"
    store = opened(url)
    rows = ids(range(18))
    fill(store, rows, stop=2)
    store = opened(url)
    fill(store, rows)
    fill(opened(tmp_path / "s"), rows)
    assert require_right_numbers(opened(url)) == 18
    assert objects(store.storage) == {
        n: data for n, data in files_of(tmp_path / "s").items() if "/claims/" not in n
    }
    storage = store.storage
    storage.delete(the_object(store, "/c.2.0"))
    store = opened(url)
    assert store.count_damaged() == 1
    assert store.discard_damaged(deep=False) == 1
    assert fill(store, rows) == [2]
    assert require_right_numbers(store) == 18


@pytest.mark.parametrize("protocol", ["ftp", "http", "sftp", "zip", "nonsense"])
def test_a_place_without_exclusive_creation_is_refused(protocol):
    with pytest.raises(ConfigError, match=f"{protocol}://") as caught:
        opened(f"{protocol}://host/folder")
    assert "s3" in str(caught.value)


def test_a_missing_library_is_named_with_the_way_to_install_it(monkeypatch):
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtraError, match="s3fs") as caught:
        opened("s3://bucket/folder", options={"endpoint_url": "http://127.0.0.1:1"})
    assert "multiview-pipeline[remote]" in str(caught.value)


def test_an_option_that_the_library_does_not_know_is_one_clear_error(port):
    with pytest.raises(StorageError) as caught:
        opened("s3://bucket/folder", options={**options(port), "config_kwargs": {"nonsense": 1}})
    assert "\n" not in str(caught.value)


def test_a_url_of_a_folder_is_the_folder(tmp_path):
    fill(opened(f"file://{tmp_path}/s"), ids(range(8)))
    assert require_right_numbers(opened(tmp_path / "s")) == 8
