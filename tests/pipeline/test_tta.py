"""Seeded draws of every image, from the cache to the scores."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

import mvp
from mvp.pipeline import cache_export
from mvp.pipeline.networks import open_stores
from mvp.pipeline.project import Project
from mvp.pipeline.tables import cached_table
from mvp.pipeline.training_rows import training_inputs, training_rows
from tests.pipeline.conftest import edit, features_of, rows_of, write_rows, write_workspace

DRAWS = 3
TOML = """
protocol = "frozen"

[data]
table = "data/studies.csv"
root = "data"

[views.frontal]
aliases = ["PA"]

[views.lateral]
aliases = ["LL"]

[views.values]
kind = "table"
numbers = ["weight"]

[labels.enlarged_heart]

[network]
name = "small"

[transform]
size = 32

[extract]
unit_rows = 16
batch_size = 8
tta = 3

[head]
learner = "logistic"
tta = "mean"

[evaluate]
draws = 200
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace of drawn features: read only. Every seventh study lacks the lateral view."""
    folder = write_workspace(tmp_path_factory.mktemp("drawn") / "ws", TOML, studies=60)
    rows = [r for i, r in enumerate(rows_of(folder)) if r["view"] != "LL" or i % 7]
    for row in rows:
        row["weight"] = 60 + hash_of(row["study"]) % 30
    write_rows(folder, rows)
    assert mvp.extract(folder, progress=False).exit_code == 0
    return folder


@pytest.fixture
def drawn(made, tmp_path):
    return shutil.copytree(made, tmp_path / "ws")


def hash_of(text):
    return sum(map(ord, text))


def table_of(ws):
    project = Project(ws, progress=False)
    views = list(project.config.views)
    return cached_table(project, open_stores(project, views))


def scores_of(path):
    with Path(path).open() as stream:
        return {r["study"]: float(r["enlarged_heart"]) for r in csv.DictReader(stream)}


def test_the_first_draw_is_the_image_and_a_row_is_the_mean_of_the_draws(drawn):
    table = table_of(drawn)
    assert table.draws == DRAWS
    rows = table.by_draw()
    for view in ("frontal", "lateral"):
        each = rows.block(view).reshape(len(table), DRAWS, -1)
        np.testing.assert_allclose(table.block(view), each.mean(axis=1), rtol=1e-5, atol=1e-6)
        assert np.nanmax(np.abs(each[:, 1] - each[:, 0])) > 1e-3
        assert np.nanmax(np.abs(each[:, 2] - each[:, 1])) > 1e-3
    values = rows.block("values").reshape(len(table), DRAWS, -1)
    assert (values == values[:, :1]).all()
    edit(drawn, "tta = 3", "tta = 1")
    mvp.extract(drawn, progress=False)
    alone = features_of(drawn)
    first = rows.block("frontal").reshape(len(table), DRAWS, -1)[:, 0]
    np.testing.assert_allclose(first, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", [".npz", ".zarr", ".parquet"])
def test_an_export_is_what_heads_see_or_every_draw(drawn, tmp_path, suffix):
    table, out = table_of(drawn), tmp_path / f"frontal{suffix}"
    mean = table.block("frontal")[table.presence[:, table.views.index("frontal")]]
    cache_export(drawn, "frontal", out, progress=False)
    assert np.array_equal(exported(out), mean)
    if suffix == ".zarr":
        out = tmp_path / "every.zarr"
    cache_export(drawn, "frontal", out, every_instance=True, progress=False)
    each = exported(out).reshape(len(mean), DRAWS, -1)
    np.testing.assert_allclose(each.mean(axis=1), mean, rtol=1e-5, atol=1e-6)


def exported(path):
    if path.suffix == ".npz":
        return np.load(path)["features"]
    if path.suffix == ".zarr":
        return zarr.open_group(path, mode="r")["features"][...]
    return pd.read_parquet(path).filter(regex=r"^f\d+$").to_numpy()


def test_no_draws_have_the_key_that_they_always_had(drawn):
    with_draws = Project(drawn, progress=False)
    keys = {name: open_stores(with_draws, [name])[name].key for name in ("frontal", "values")}
    edit(drawn, "tta = 3", "tta = 1")
    one = open_stores(Project(drawn, progress=False), ["frontal", "values"])
    edit(drawn, "tta = 1\n", "")
    none = open_stores(Project(drawn, progress=False), ["frontal", "values"])
    assert one["frontal"].key == none["frontal"].key != keys["frontal"]
    assert one["values"].key == keys["values"]


@pytest.mark.parametrize(
    ("old", "new"),
    [("tta = 3", "tta = 4"), ("[head]", "[augment]\nnoise = 0.1\n[head]")],
)
def test_other_draws_are_other_features(drawn, old, new):
    before = open_stores(Project(drawn, progress=False), ["frontal"])["frontal"].key.digest
    edit(drawn, old, new)
    after = open_stores(Project(drawn, progress=False), ["frontal"])["frontal"].key.digest
    assert before != after
    assert mvp.extract(drawn, ["frontal"], progress=False).views["frontal"].computed > 0


def test_the_same_pixels_have_the_same_draws_in_other_batches(drawn, tmp_path):
    other = write_workspace(
        tmp_path / "other", TOML.replace("batch_size = 8", "batch_size = 5"), 60
    )
    write_rows(other, list(reversed(rows_of(drawn))))
    mvp.extract(other, progress=False)
    table = table_of(other)
    order = [table.studies.tolist().index(s) for s in table_of(drawn).studies]
    np.testing.assert_allclose(
        table.select(order).by_draw().only(["frontal", "lateral"]).matrix(),
        table_of(drawn).by_draw().only(["frontal", "lateral"]).matrix(),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("tta", ["mean", "augment"])
def test_heads_are_fitted_measured_and_scored_on_studies(drawn, tta):
    edit(drawn, 'tta = "mean"', f'tta = "{tta}"')
    fitted = mvp.fit_head(drawn, progress=False)
    assert fitted.rows + fitted.inner_rows < 60
    done = mvp.evaluate(drawn, progress=False)
    assert done.evaluation.studies + fitted.rows + fitted.inner_rows == 60
    # A row of the report is a study, however many draws it has.
    fused = next(row for row in done.evaluation.metrics if row.model == "fusion")
    assert fused.patients <= fused.n <= done.evaluation.studies
    out = mvp.score(drawn / "data" / "studies.csv", drawn, progress=False)
    assert (out.scored, out.forward_passes) == (60, 0)
    cached = mvp.score(
        drawn / "data" / "studies.csv", drawn, drawn / "again.csv", cached_only=True, progress=False
    )
    assert scores_of(cached.out) == scores_of(out.out)
    assert len(scores_of(out.out)) == 60


def test_heads_on_means_and_on_draws_differ_and_do_not_pass_for_each_other(drawn, refused):
    mvp.fit_head(drawn, progress=False)
    first = scores_of(mvp.score(drawn / "data" / "studies.csv", drawn, progress=False).out)
    edit(drawn, 'tta = "mean"', 'tta = "augment"')
    code, line = refused("evaluate", "--workspace", drawn)
    assert code == 2
    assert "head.tta (mean → augment) changed" in line
    mvp.fit_head(drawn, progress=False)
    second = scores_of(mvp.score(drawn / "data" / "studies.csv", drawn, progress=False).out)
    assert max(abs(first[s] - second[s]) for s in first) > 1e-4


def test_cached_scores_are_never_read_by_another_number_of_draws(drawn, refused):
    mvp.fit_head(drawn, progress=False)
    table = drawn / "data" / "studies.csv"
    edit(drawn, "tta = 3", "tta = 1")
    code, line = refused("score", table, "--workspace", drawn, "--cached-only")
    assert code == 2
    assert "extract.tta (3 → none)" in line


def test_settings_without_meaning_stop_before_any_work(drawn, refused):
    edit(drawn, "[extract]", '[augment]\npreset = "none"\n[extract]')
    code, line = refused("extract", "--workspace", drawn)
    assert code == 2
    assert "nothing to draw for views.frontal" in line


def test_a_flip_of_sides_is_said_when_draws_are_made(drawn, command):
    edit(drawn, '["LL"]', '["LL", "left lateral"]')
    edit(drawn, "[extract]", "[augment]\nflip = true\n[extract]")
    code, _, err = command("extract", "--workspace", drawn, "--view", "lateral")
    assert code == 0
    assert "augment.flip mirrors images" in err


def test_a_flip_of_sides_is_said_when_a_network_is_trained(drawn, caplog):
    edit(drawn, '["LL"]', '["LL", "left lateral"]')
    edit(drawn, "[extract]", "[augment]\nflip = true\n[extract]")
    edit(drawn, '"frozen"', '"holdout"')
    project = Project(drawn, progress=False)
    for view, told in (("frontal", False), ("lateral", True)):
        caplog.clear()
        settings = project.view(view)
        training_inputs(project, settings, training_rows(project, settings))
        assert ("augment.flip mirrors images" in caplog.text) == told
