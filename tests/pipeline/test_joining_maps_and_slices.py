"""The learners of maps and of slices, from a workspace's settings to its scores."""

import numpy as np
import pytest

import mvp
from mvp.errors import ConfigError
from mvp.pipeline.networks import open_stores
from mvp.pipeline.project import Project
from mvp.pipeline.tables import cached_table
from tests.pipeline.conftest import edit
from tests.pipeline.test_volumes import TWO_VIEWS, write_volumes

QUICK = {"epochs": 2, "hidden": 8}


def test_maps_of_both_views_are_stacked(tmp_path):
    ws = tmp_path / "ws"
    write_volumes(
        ws, toml=TWO_VIEWS.replace("[network]", '[network]\nlayer = "stages"\npooling = "rows"')
    )
    mvp.extract(ws, progress=False)
    done = mvp.fit_head(ws, learner="spatial", options={**QUICK, "filters": 4})
    assert done.learner == "spatial"
    scored = mvp.score(ws / "studies.csv", ws, progress=False)
    assert scored.scored == 40
    edit(ws, 'pooling = "rows"', 'pooling = "avg"')
    mvp.extract(ws, progress=False)
    with pytest.raises(ConfigError, match=r"frontal \(\d+,\), lateral") as caught:
        mvp.fit_head(ws, learner="spatial")
    assert 'network.pooling = "rows"' in str(caught.value)


def test_attention_sees_every_slice_of_a_study(tmp_path):
    ws = tmp_path / "ws"
    slices = write_volumes(ws, toml=TWO_VIEWS.replace('instances = "max"', ""))
    mvp.extract(ws, progress=False)
    project = Project(ws, progress=False)
    table = cached_table(project, open_stores(project, ["frontal", "lateral"]))
    for view, alias in (("frontal", "PA"), ("lateral", "LL")):
        assert table.instances(view).tolist() == [slices[f"{i}-{alias}.npy"] for i in range(40)]
    np.testing.assert_allclose(
        table.block("frontal")[3], table.select([3]).bags("frontal").values.mean(axis=0), atol=1e-6
    )
    mvp.fit_head(ws, learner="attention", options=QUICK)
    assert mvp.score(ws / "studies.csv", ws, progress=False).scored == 40
