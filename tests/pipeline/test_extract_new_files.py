"""Files that nobody has looked at: decoded once, for the inventory and for every view of them."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import mvp
from mvp.data.reading import decoding
from mvp.errors import MvpError
from mvp.features import KeyStore, Writer
from mvp.features.golden import _dump, _load
from mvp.features.local import LocalStorage
from tests.pipeline.conftest import (
    FILMS_TOML,
    claims_of,
    edit,
    features_of,
    write_films,
    write_studies,
)
from tests.stages.extracting import write_volume

COUNT = 40
TWO_BODIES = FILMS_TOML.replace(
    "[labels.finding]",
    """[views.other]
source = "frontal"
network.name = "lenet"

[views.larger]
source = "frontal"
transform.size = 48

[labels.finding]""",
)


def aged(files):
    """As if written an hour ago: what may still change unseen is looked at again."""
    for file in files.values():
        before = file.stat().st_mtime - 3600
        os.utime(file, (before, before))
    return files


@pytest.fixture
def decoded(monkeypatch):
    """The files that decoders were asked for, and for what."""
    asked = []
    request = decoding._request

    def spy(operation, file, limits):
        asked.append((Path(file).name, operation))
        return request(operation, file, limits)

    monkeypatch.setattr(decoding, "_request", spy)
    return asked


def test_a_new_file_is_decoded_once_for_all_views_of_its_source(tmp_path, decoded):
    ws = tmp_path / "ws"
    files = aged(write_films(ws, COUNT, TWO_BODIES))
    done = mvp.extract(ws, progress=False)
    assert {v: (n.rows, n.forward_passes) for v, n in done.views.items()} == dict.fromkeys(
        ("frontal", "other", "larger"), (COUNT, COUNT)
    )
    assert sorted(name for name, _ in decoded) == sorted(f.name for f in files.values())
    del decoded[:]
    assert mvp.extract(ws, progress=False).forward_passes == 0
    assert not decoded


@pytest.mark.parametrize("view", ["frontal", "other", "larger"])
def test_new_and_known_files_have_the_same_features(tmp_path, view):
    new, known = tmp_path / "new", tmp_path / "known"
    write_films(new, COUNT, TWO_BODIES)
    shutil.copytree(new, known)
    mvp.check(known, progress=False)
    for ws in (new, known):
        mvp.extract(ws, progress=False)
    assert np.array_equal(features_of(new, view), features_of(known, view))


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_the_number_of_workers_changes_no_bit(tmp_path, known):
    first = None
    for workers in (1, 2, 4):
        ws = tmp_path / str(workers)
        write_films(ws, COUNT, f"workers = {workers}\n" + FILMS_TOML)
        if known:
            mvp.check(ws, progress=False)
        mvp.extract(ws, progress=False)
        features = features_of(ws)
        first = features if first is None else first
        assert np.array_equal(first, features)


def test_large_images_are_left_to_the_ordinary_way(tmp_path, decoded, monkeypatch):
    from mvp.pipeline import new_files

    monkeypatch.setattr(new_files, "_BUDGET_BYTES", 15 * 4 * 32 * 32)
    ws = tmp_path / "ws"
    aged(write_films(ws, COUNT))
    assert mvp.extract(ws, progress=False).forward_passes == COUNT
    assert len(decoded) == 2 * COUNT


def test_volumes_of_large_slices_do_not_lie_in_memory_by_the_dozen(tmp_path, decoded, monkeypatch):
    from mvp.pipeline import new_files

    # Room for as many slices as there are files, and each file has more.
    monkeypatch.setattr(new_files, "_BUDGET_BYTES", 3 * 4 * 32 * 32)
    ws = tmp_path / "ws"
    write_films(ws, 3)
    volumes = {s: write_volume(ws / "data" / f"{s}.npy", 5, seed) for seed, s in enumerate("abc")}
    write_studies(
        ws, [[s, s, "PA", f.name, i % 2] for i, (s, f) in enumerate(aged(volumes).items())]
    )
    assert mvp.extract(ws, progress=False).views["frontal"].rows == 3 * 5
    assert [operation for _, operation in decoded].count("stack") == 3


def test_few_segments_hold_the_units_of_new_files(tmp_path):
    ws = tmp_path / "ws"
    write_films(ws, COUNT)
    edit(ws, "unit_rows = 16", "unit_rows = 4")
    mvp.extract(ws, progress=False)
    assert len(list((ws / "cache").glob("frontal/*/segments/*"))) == 1
    assert len(list((ws / "cache").glob("frontal/*/segments/*/ledger/*"))) == COUNT // 4


def test_broken_off_among_new_files_it_goes_on(tmp_path, monkeypatch):
    ws = tmp_path / "ws"
    write_films(ws, COUNT)
    edit(ws, "unit_rows = 16", "unit_rows = 10")
    commit = Writer.commit

    def some(writer, task, *arguments):
        if task.unit >= 2:
            raise KeyboardInterrupt
        return commit(writer, task, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "commit", some)
        with pytest.raises(KeyboardInterrupt):
            mvp.extract(ws, progress=False)
    assert not claims_of(ws)
    done = mvp.extract(ws, progress=False).views["frontal"]
    assert (done.rows, done.forward_passes, done.cached) == (COUNT, 20, 20)


def test_units_of_which_some_files_are_known_are_left_to_the_ordinary_way(tmp_path, monkeypatch):
    ws = tmp_path / "ws"
    aged(write_films(ws, COUNT))
    edit(ws, "unit_rows = 16", "unit_rows = 10")
    commit = Writer.commit

    def first(writer, task, *arguments):
        if task.unit:
            raise KeyboardInterrupt
        return commit(writer, task, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "commit", first)
        with pytest.raises(KeyboardInterrupt):
            mvp.extract(ws, progress=False)
    # A killed process, or one that is still at work, has noted some of its files.
    with closing(sqlite3.connect(ws / "cache" / "inventory.sqlite")) as inventory, inventory:
        ((table,),) = inventory.execute("select name from sqlite_master where type = 'table'")
        gone = inventory.execute(f"delete from {table} where path like '%s001_.png'").rowcount
        gone += inventory.execute(f"delete from {table} where path like '%s0025.png'").rowcount
    assert gone == 11
    done = mvp.extract(ws, progress=False).views["frontal"]
    assert (done.rows, done.forward_passes, done.cached) == (COUNT, 30, 10)
    assert len(list((ws / "cache").glob("frontal/*/segments/*"))) == 1


def test_damaged_new_files_are_rejected_and_named(tmp_path, decoded):
    ws = tmp_path / "ws"
    files = aged(write_films(ws, COUNT))
    files["s0003"].write_bytes(files["s0003"].read_bytes()[:200])
    shutil.copyfile(files["s0004"], files["s0005"])
    done = mvp.extract(ws, progress=False)
    view = done.views["frontal"]
    assert (view.images, view.rows, view.rejected) == (COUNT, COUNT - 1, 1)
    # The same pixels in two files go through the network once.
    assert done.forward_passes == COUNT - 2
    assert [reject.path for reject in done.rejects] == ["s0003.png"]
    assert done.exit_code == 4
    # One that hangs would cost all of its time again.
    assert [name for name, _ in decoded].count("s0003.png") == 1


def test_a_copied_network_takes_the_rows_of_its_twin(tmp_path):
    ws = tmp_path / "ws"
    toml = FILMS_TOML.replace(
        "[labels.finding]", '[views.copy]\nsource = "frontal"\n\n[labels.finding]'
    )
    files = write_films(ws, COUNT, toml)
    done = mvp.extract(ws, progress=False)
    assert done.views["frontal"].forward_passes == COUNT
    assert (done.views["copy"].rows, done.views["copy"].forward_passes) == (COUNT, 0)
    assert np.array_equal(features_of(ws), features_of(ws, "copy"))
    # Also what was stored long ago, and only that.
    more = write_films(tmp_path / "more", COUNT + 4)
    for study in list(more)[COUNT:]:
        shutil.copyfile(more[study], ws / "data" / more[study].name)
        files[study] = ws / "data" / more[study].name
    write_studies(ws, [[s, s, "PA", f.name, i % 2] for i, (s, f) in enumerate(files.items())])
    assert mvp.extract(ws, ["frontal"], progress=False).forward_passes == 4
    again = mvp.extract(ws, ["copy"], progress=False)
    assert (again.views["copy"].rows, again.forward_passes) == (COUNT + 4, 0)


def test_a_twin_that_was_made_where_numbers_differ_gives_nothing(tmp_path):
    ws = tmp_path / "ws"
    copy = '[views.copy]\nsource = "frontal"\n\n[labels.finding]'
    write_films(ws, COUNT, FILMS_TOML.replace("[labels.finding]", copy))
    mvp.extract(ws, ["frontal"], progress=False)
    (key,) = (ws / "cache").glob("frontal/*")
    golden, _ = _load(LocalStorage(key), "golden.json")
    (key / "golden.json").unlink()
    (key / "golden.json").write_bytes(_dump(golden + 1))
    shutil.rmtree(key / "surroundings")
    assert mvp.extract(ws, ["copy"], progress=False).forward_passes == COUNT


def test_rows_that_a_twin_loses_meanwhile_go_through_the_network(tmp_path, monkeypatch):
    ws = tmp_path / "ws"
    toml = FILMS_TOML.replace(
        "[labels.finding]", '[views.copy]\nsource = "frontal"\n\n[labels.finding]'
    )
    write_films(ws, COUNT, toml)
    mvp.extract(ws, ["frontal"], progress=False)

    def gone(self, rows):
        raise KeyError("collected")

    with monkeypatch.context() as patch:
        patch.setattr(KeyStore, "read", gone)
        done = mvp.extract(ws, ["copy"], progress=False)
    assert (done.views["copy"].rows, done.forward_passes) == (COUNT, COUNT)
    assert np.array_equal(features_of(ws), features_of(ws, "copy"))
    assert not claims_of(ws)


def test_a_network_that_moves_its_buffers_commits_no_unit(tmp_path):
    ws = tmp_path / "ws"
    write_films(ws, COUNT)
    (ws / "moving.py").write_text(
        "from mvp.networks.small import small_cnn\n"
        "def net(num_classes=3):\n"
        "    made = small_cnn(num_classes)\n"
        "    norm = made.stem[1]\n"
        "    made.register_forward_hook(lambda *_: (norm.running_mean.add_(0.01), None)[1])\n"
        "    return made\n"
    )
    edit(ws, 'name = "small"', 'name = "moving:net"')
    with pytest.raises(MvpError, match="buffers of the network changed"):
        mvp.extract(ws, progress=False)
    assert not list((ws / "cache").glob("*/*/segments/*/ledger/*"))


def test_the_last_line_says_where_the_time_went(tmp_path):
    ws = tmp_path / "ws"
    write_films(ws, COUNT)
    text = mvp.extract(ws, progress=False).text
    for part in ("forward passes", "images/s", "reading and decoding", "network", "writing"):
        assert part in text
    assert f"{COUNT} avoided by the cache" in mvp.extract(ws, progress=False).text
