"""Volumes through the pipeline: two views of slices, frozen and trained."""

import csv
import json

import numpy as np
import pytest

import mvp
from tests.pipeline.conftest import (
    FILMS_TOML,
    edit,
    features_of,
    rejects_of,
    write_films,
    write_studies,
)

TWO_VIEWS = FILMS_TOML.replace("[labels", '[views.lateral]\naliases = ["LL"]\n\n[labels').replace(
    'learner = "logistic"', 'learner = "logistic"\ninstances = "max"'
)


def write_volumes(ws, studies=40, toml=TWO_VIEWS):
    """3 to 6 slices a study and view; the slices of the positive ones are brighter."""
    (ws / "data").mkdir(parents=True)
    (ws / "mvp.toml").write_text(toml)
    rng = np.random.default_rng(0)
    rows, slices = [], {}
    for i in range(studies):
        for view in ("PA", "LL"):
            name = f"{i}-{view}.npy"
            slices[name] = int(rng.integers(3, 7))
            stack = rng.integers(0, 120 + 100 * (i % 2), (slices[name], 32, 36), dtype=np.uint8)
            np.save(ws / "data" / name, stack)
            rows.append([f"s{i}", f"p{i}", view, name, i % 2])
    write_studies(ws, rows)
    return slices


def read_studies(ws):
    with (ws / "studies.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_from_volumes_in_two_views_to_scores(tmp_path):
    ws = tmp_path / "ws"
    slices = write_volumes(ws)
    done = mvp.extract(ws, progress=False)
    for view, alias in (("frontal", "PA"), ("lateral", "LL")):
        count = sum(n for name, n in slices.items() if alias in name)
        assert done.views[view].images == 40
        assert done.views[view].rows == done.views[view].forward_passes == count
    assert mvp.extract(ws, progress=False).forward_passes == 0
    of_slices = features_of(ws)

    ran = mvp.run(ws, progress=False)
    assert ran.evaluation is not None
    assert not any(s.runs for s in mvp.run(ws, progress=False).steps)
    scored = mvp.score(ws / "studies.csv", ws, progress=False)
    assert (scored.scored, scored.forward_passes) == (40, 0)
    assert scored.cached == sum(slices.values())

    # A row per volume, pooled at once, is the same as the maximum over the rows of its slices.
    edit(ws, "unit_rows = 16", 'unit_rows = 16\ninstances = "max"')
    pooled = mvp.extract(ws, progress=False)
    assert pooled.views["frontal"].rows == 40
    assert pooled.forward_passes == sum(slices.values())
    np.testing.assert_allclose(features_of(ws), of_slices, atol=1e-5)


def test_an_undecodable_volume_is_one_reject(command, tmp_path):
    ws = tmp_path / "ws"
    slices = write_volumes(ws, 6)
    bad = ws / "data" / "3-PA.npy"
    bad.write_bytes(bad.read_bytes()[:500])
    for _ in range(2):
        code, out, _ = command("extract", "-w", ws, "--view", "frontal", "--json", "--quiet")
        assert code == 4
        view = json.loads(out)["views"]["frontal"]
        assert (view["images"], view["rejected"]) == (6, 1)
        others = [n for name, n in slices.items() if "PA" in name and name != bad.name]
        assert view["rows"] == sum(others)
        assert list(rejects_of(ws)) == [bad.name]


TRAINED = "\n[training]\nepochs = 1\nbatch_size = 16\n"


def test_stage_one_trains_on_volumes_and_films_of_one_view(tmp_path):
    ws = tmp_path / "ws"
    files = write_films(ws, 60, FILMS_TOML.replace('"frozen"', '"holdout"') + TRAINED)
    named = {}
    for i, (study, file) in enumerate(files.items()):
        named[study] = file.name
        if i % 3 == 0:
            named[study] = f"{study}.npy"
            np.save(file.with_suffix(".npy"), np.full((4, 32, 32), i, np.uint8))
    write_studies(ws, [[s, f"p{s}", "PA", n, i % 2] for i, (s, n) in enumerate(named.items())])
    done = mvp.finetune(ws, progress=False)
    assert done.exit_code == 0
    assert done.views["frontal"].epochs_run == 1
    with (ws / "split.csv").open() as stream:
        mine = [r["study"] for r in csv.DictReader(stream) if r["part"].startswith("stage1")]
    slices = sum(4 if named[study].endswith(".npy") else 1 for study in mine)
    assert done.views["frontal"].images_seen == slices > len(mine)
    assert mvp.extract(ws, progress=False).views["frontal"].rows == 40 + 20 * 4
    assert "fresh" in mvp.finetune(ws, progress=False).reasons["frontal"]


def test_how_slices_are_reduced_makes_a_network_of_volumes_stale_and_no_other(tmp_path):
    ws = tmp_path / "ws"
    write_volumes(ws, 30, TWO_VIEWS.replace('"frozen"', '"holdout"') + TRAINED)
    rows = read_studies(ws)
    for row in rows:
        if row["view"] == "LL":
            file = ws / "data" / row["path"]
            np.save(file, np.load(file)[0])
    mvp.finetune(ws, progress=False)
    edit(ws, "batch_size = 16", 'batch_size = 16\nslices = "mean"')
    reasons = mvp.finetune(ws, progress=False).reasons
    assert "the training settings" in reasons["frontal"]
    assert "fresh" in reasons["lateral"]


def test_a_volume_that_changes_while_stage_one_trains_is_an_error(refused, tmp_path, monkeypatch):
    from mvp.pipeline import _finetune

    ws = tmp_path / "ws"
    write_volumes(ws, 30, TWO_VIEWS.replace('"frozen"', '"holdout"') + TRAINED)

    def change(project, *rest):
        for file in (ws / "data").glob("*-PA.npy"):
            np.save(file, np.load(file)[:2])

    monkeypatch.setattr(_finetune, "require_trainable", change)
    code, line = refused("finetune", "-w", ws, "--view", "frontal")
    assert code == 3
    assert "changed" in line


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('layer = "layer9"', "no layer 'layer9'"),
        ('layer = "auto"\npooling = "max"', 'layer = "auto"'),
        ('layer = "stages.2"\npooling = "none"', "a map is no vector"),
        ('layer = ["stages.2", "fc"]\npooling = "avgmax"', "no places left"),
    ],
)
def test_features_that_cannot_be_had_are_told_before_training(
    refused, tmp_path, monkeypatch, settings, said
):
    monkeypatch.setattr("mvp.pipeline._finetune.finetune", None)
    ws = tmp_path / "ws"
    write_films(ws, 30, FILMS_TOML.replace('"frozen"', '"holdout"'))
    edit(ws, 'name = "small"', f'name = "small"\n{settings}')
    code, line = refused("finetune", "-w", ws)
    assert code == 2
    assert said in line
    assert "frontal" in line
    assert not list(ws.glob("stage1/*/*/*"))


def test_cached_scores_read_the_rows_that_the_head_was_fitted_on(tmp_path, monkeypatch):
    """Not those that today's settings would make: slice 0 is not the whole volume's maximum."""
    from mvp.pipeline import tables

    asked = []
    rows_of = tables.rows_of

    def seen(record, instances):
        asked.append(instances)
        return rows_of(record, instances)

    monkeypatch.setattr(tables, "rows_of", seen)
    ws = tmp_path / "ws"
    write_volumes(ws)
    mvp.extract(ws, progress=False)
    mvp.fit_head(ws, progress=False)
    before = mvp.score(ws / "studies.csv", ws, tmp_path / "a.csv", cached_only=True, progress=False)
    edit(ws, "[extract]", '[extract]\ninstances = "max"')
    asked.clear()
    after = mvp.score(ws / "studies.csv", ws, tmp_path / "b.csv", cached_only=True, progress=False)
    assert set(asked) == {"keep"}
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert before.scored == after.scored > 0
