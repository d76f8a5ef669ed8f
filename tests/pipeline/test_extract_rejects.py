"""A thousand films, ten of them damaged in ten ways: 990 rows, ten reasons, nothing lost."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.conftest import (
    FILMS_TOML,
    edit,
    features_of,
    rejects_of,
    write_films,
    write_studies,
)

COUNT = 1000


def cut(path, kind):
    side = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(side).save(path, format=kind)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def empty(path):
    path.write_bytes(b"")


def cut_png(path):
    cut(path, "PNG")


def cut_jpeg(path):
    cut(path, "JPEG")


def text(path):
    path.write_text("patient,finding\n1,none\n")


def missing(path):
    path.unlink()


def folder(path):
    path.unlink()
    path.mkdir()


def one_axis(path):
    np.save(path, np.zeros(1024, np.uint8))


def not_a_number(path):
    values = np.ones((32, 32), np.float32)
    values[3, 4] = np.nan
    np.save(path, values)


def link_outside(path):
    outside = path.parents[2] / "outside.png"
    outside.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(outside)


def too_large(path):
    Image.fromarray(np.zeros((65, 64), np.uint8)).save(path)


def full_range_unknown(path):
    np.save(path, np.random.default_rng(1).random((32, 32)).astype(np.float32))


def several_pages(path):
    # Of two sizes, so they are no stack.
    pages = [Image.fromarray(np.full((32, 30 + n), n, np.uint8)) for n in (1, 2)]
    pages[0].save(path, save_all=True, append_images=pages[1:])


DAMAGE = {
    "empty.png": (empty, "0 bytes"),
    "cut.png": (cut_png, "decoded"),
    "cut.jpg": (cut_jpeg, "decoded"),
    "text.png": (text, "decoded"),
    "missing.png": (missing, "not there"),
    "folder.png": (folder, "not a file"),
    "axis.npy": (one_axis, "neither an image"),
    "nan.npy": (not_a_number, "not finite"),
    "link.png": (link_outside, "leads out of data.root"),
    "large.png": (too_large, "data.max_pixels"),
}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """The workspace, and its files by study."""
    ws = tmp_path_factory.mktemp("rejects") / "ws"
    toml = FILMS_TOML.replace('root = "data"', 'root = "data"\nmax_pixels = 4096')
    files = write_films(ws, COUNT, toml.replace("unit_rows = 16", "unit_rows = 64"))
    for i, (name, (hurt, _)) in enumerate(DAMAGE.items()):
        study = f"s{97 * i + 5:04}"
        files[study] = files[study].rename(files[study].with_name(name))
        hurt(files[study])
    write_studies(ws, [[s, f"p{s}", "PA", f.name, i % 2] for i, (s, f) in enumerate(files.items())])
    return ws, files


def test_a_thousand_films_of_which_ten_are_damaged(damaged, done, done_json):
    ws, files = damaged
    first = done_json("extract", "-w", ws, code=4)
    view = first["views"]["frontal"]
    assert view["images"] == COUNT
    assert view["rows"] == view["computed"] == view["forward_passes"] == COUNT - len(DAMAGE)
    assert view["rejected"] == first["rejected"] == len(DAMAGE) == 10
    assert view["images"] == view["rows"] + view["rejected"]

    rejects = rejects_of(ws)
    assert set(rejects) == set(DAMAGE)
    assert len(set(rejects.values())) == 10, rejects
    for name, (_, reason) in DAMAGE.items():
        assert reason in rejects[name]
    with Path(first["reject_table"]).open() as stream:
        table = list(csv.DictReader(stream))
    for row in table:
        assert files[row["study"]].name == row["path"]
        assert int(row["line"]) == 2 + list(files).index(row["study"])
        assert row["view"] == "frontal"

    again = done_json("extract", "-w", ws, code=4)
    assert again["forward_passes"] == 0
    assert again["views"]["frontal"]["cached"] == COUNT - 10
    assert again["rejected"] == 10
    assert again["reject_table"] != first["reject_table"]
    assert rejects_of(ws) == rejects

    read = features_of(ws)
    assert np.isfinite(read).all(axis=1).sum() == COUNT - 10
    assert np.isnan(read).all(axis=1).sum() == 10

    said = done("check", "-w", ws, "--quiet", code=3)
    for name in DAMAGE:
        assert name in said


def test_an_image_that_only_the_preparation_refuses_is_a_reject_as_well(command, tmp_path):
    ws = tmp_path / "ws"
    files = write_films(ws, 12)
    for study, hurt, name in (
        ("s0003", full_range_unknown, "float.npy"),
        ("s0007", several_pages, "pages.tif"),
    ):
        files[study] = files[study].rename(files[study].with_name(name))
        hurt(files[study])
    write_studies(ws, [[s, f"p{s}", "PA", f.name, 1] for s, f in files.items()])
    for _ in range(2):
        code, out, _ = command("extract", "-w", ws, "--quiet")
        assert code == 4
        assert "10 rows" in out
        rejects = rejects_of(ws)
        assert set(rejects) == {"float.npy", "pages.tif"}
        assert "floating-point" in rejects["float.npy"]
        assert "2 images, which are no stack" in rejects["pages.tif"]
    edit(ws, "size = 32", 'size = 32\nintensity = "percentile"')
    code, _, _ = command("extract", "-w", ws, "--quiet")
    assert code == 4
    assert set(rejects_of(ws)) == {"pages.tif"}
