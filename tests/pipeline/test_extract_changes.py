"""Extraction after a change: the same pixels elsewhere, a shorter table, other settings."""

import logging
import shutil

import numpy as np
import pytest
from PIL import Image

import mvp
from mvp.errors import MvpError, StorageError
from mvp.features.local import LocalStorage
from mvp.features.writing import Writer
from tests.pipeline.conftest import (
    claims_of,
    edit,
    features_of,
    files_below,
    write_films,
    write_studies,
)


def rows_for(files):
    return [[s, f"p{s}", "PA", f.name, i % 2] for i, (s, f) in enumerate(files.items())]


def test_the_same_pixels_in_other_bytes_are_one_image(tmp_path, command):
    ws = tmp_path / "ws"
    files = write_films(ws, 12)
    pixels = Image.open(files["s0000"])
    pixels.save(ws / "data" / "other.tif")
    pixels.save(ws / "data" / "other.png", compress_level=9)
    assert (ws / "data" / "other.png").read_bytes() != files["s0000"].read_bytes()
    files["s0100"], files["s0101"] = ws / "data" / "other.tif", ws / "data" / "other.png"
    write_studies(ws, rows_for(files))
    done = mvp.extract(ws, progress=False)
    view = done.views["frontal"]
    assert (view.images, view.rows, view.forward_passes) == (14, 14, 12)
    read = features_of(ws)
    np.testing.assert_array_equal(read[12], read[0])
    np.testing.assert_array_equal(read[13], read[0])
    assert len(np.unique(read, axis=0)) == 12
    assert mvp.extract(ws, progress=False).forward_passes == 0
    # Renamed or written anew with the same pixels, it is still the same image.
    files["s0005"] = files["s0005"].rename(ws / "data" / "renamed.png")
    Image.open(files["s0006"]).save(files["s0006"], compress_level=9)
    write_studies(ws, rows_for(files))
    assert mvp.extract(ws, progress=False).forward_passes == 0

    code, out, _ = command("check", "-w", ws, "--quiet")
    assert code == 0
    problems = mvp.check(ws, progress=False).problems
    assert [p.count for p in problems if p.kind == "same-image-two-patients"] == [1]
    for word in ("s0000.png", "other.tif", "s0100", "ps0000"):
        assert word in out


class Broken(Exception):
    pass


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """A workspace whose extraction broke off after three of six units, and its files."""
    ws = tmp_path / "ws"
    files = write_films(ws, 60)
    edit(ws, "unit_rows = 16", "unit_rows = 10")
    mvp.check(ws, progress=False)  # known files are planned all at once
    commit = Writer.commit

    def some(writer, task, *arguments):
        if task.unit >= 3:
            raise Broken
        return commit(writer, task, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "commit", some)
        with pytest.raises(Broken):
            mvp.extract(ws, progress=False)
    assert not claims_of(ws)
    return ws, files


def test_an_interruption_is_taken_up_where_it_was(interrupted):
    ws, _ = interrupted
    done = mvp.extract(ws, progress=False).views["frontal"]
    assert (done.rows, done.forward_passes, done.cached) == (60, 30, 30)


@pytest.mark.parametrize("removed", [True, False])
def test_resumed_with_a_shorter_table_nothing_is_rejected_or_lost(interrupted, removed):
    ws, files = interrupted
    # One from a finished unit, two from different open ones, and all of the last.
    gone = {
        s: files.pop(s) for s in ("s0004", "s0031", "s0042", *(f"s{i:04}" for i in range(50, 60)))
    }
    write_studies(ws, rows_for(files))
    if removed:
        for file in gone.values():
            file.rename(ws / file.name)
    for passes in (47 - 29, 0):
        done = mvp.extract(ws, progress=False)
        view = done.views["frontal"]
        assert (view.images, view.rows, view.rejected) == (47, 47, 0)
        assert done.forward_passes == passes
        assert done.exit_code == 0
    assert np.isfinite(features_of(ws)).all()
    if removed:
        for file in gone.values():
            (ws / file.name).rename(file)
    write_studies(ws, rows_for({**files, **gone}))
    for _ in range(2):
        whole = mvp.extract(ws, progress=False)
        assert whole.views["frontal"].rows == 60
        assert whole.exit_code == 0
    assert whole.forward_passes == 0
    assert np.isfinite(features_of(ws)).all()


CHANGES = [
    ('name = "small"', 'name = "small"\nlayer = "stages.2"', "the layer", "stages.2:output"),
    ('name = "small"', 'name = "small"\nlayer = "stages.2"\npooling = "max"', "the pooling", "max"),
    ("size = 32", "size = 24", "the preparation of the images", ""),
    ("unit_rows = 16", 'unit_rows = 16\ninstances = "max"', "several slices", "keep → max"),
    ('protocol = "frozen"', 'protocol = "frozen"\nseed = 7', "the network's weights", ""),
    ("unit_rows = 16", 'unit_rows = 16\ndtype = "float16"', "type that is stored", "float16"),
]


@pytest.mark.parametrize(("old", "new", "what", "how"), CHANGES, ids=[c[2] for c in CHANGES])
def test_a_changed_setting_says_what_it_costs_and_keeps_the_old_features(
    tmp_path, caplog, old, new, what, how
):
    ws = tmp_path / "ws"
    files = write_films(ws, 12)
    files["s0012"] = shutil.copy(files["s0000"], ws / "data" / "copy.png")
    write_studies(ws, [[s, s, "PA", str(f).rpartition("/")[2], 1] for s, f in files.items()])
    with caplog.at_level(logging.INFO, "mvp"):
        mvp.extract(ws, progress=False)
        assert "other features than" not in caplog.text
        before = files_below(ws / "cache" / "frontal")
        edit(ws, old, new)
        done = mvp.extract(ws, progress=False)
    (line,) = [r.getMessage() for r in caplog.records if "other features" in r.getMessage()]
    assert what in line
    assert how in line
    assert "12 images are extracted anew" in line
    assert "the old features stay" in line
    assert done.forward_passes == 12
    after = files_below(ws / "cache" / "frontal")
    assert {name: after[name] for name in before} == before
    edit(ws, new, old)
    assert mvp.extract(ws, progress=False).forward_passes == 0


def test_without_room_nothing_is_decoded_or_computed(tmp_path, refused, monkeypatch):
    ws = tmp_path / "ws"
    write_films(ws, 12)
    monkeypatch.setattr(LocalStorage, "room", lambda self: 20_000)
    with monkeypatch.context() as patch:
        patch.setattr("mvp.data.inputs.load_instances", None)
        code, line = refused("extract", "-w", ws)
    assert code == 1
    assert "12 rows of features need" in line
    assert "make room" in line
    assert not claims_of(ws)
    monkeypatch.undo()
    assert mvp.extract(ws, progress=False).views["frontal"].rows == 12


def test_a_place_that_cannot_be_written_is_told_before_the_network_runs(
    tmp_path, refused, monkeypatch
):
    ws = tmp_path / "ws"
    write_films(ws, 12)

    def create(self, name, *parts, durable=True):
        raise StorageError("the feature store cannot be written", path=name, remedy="mend it")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "create", create)
        patch.setattr("mvp.networks.Network.forward", None)
        patch.setattr("mvp.data.inputs.load_instances", None)
        code, line = refused("extract", "-w", ws)
    assert code == 1
    assert "cannot be written" in line
    assert mvp.extract(ws, progress=False).forward_passes == 12
    # What is stored is read all the same.
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "create", create)
        assert mvp.extract(ws, progress=False).views["frontal"].cached == 12


def test_the_cache_as_a_file_is_no_place(tmp_path):
    ws = tmp_path / "ws"
    write_films(ws, 4)
    (ws / "store").write_text("")
    edit(ws, "unit_rows = 16", 'unit_rows = 16\ncache = "store"')
    with pytest.raises(MvpError, match="feature store cannot be"):
        mvp.extract(ws, progress=False)
