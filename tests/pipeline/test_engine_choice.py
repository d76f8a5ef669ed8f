"""`extract.engine`: what is decided once is known to everyone who reads."""

import json
import shutil
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest

import mvp
from mvp import pipeline
from mvp.errors import ConfigError
from mvp.networks.engines import exported
from mvp.pipeline import engines
from mvp.pipeline.networks import feature_network, view_inputs, view_key
from mvp.pipeline.project import Project
from tests.pipeline.conftest import FILMS_TOML, edit, features_of, write_films

AUTO = FILMS_TOML.replace("unit_rows = 16", 'unit_rows = 16\nengine = "auto"')


@pytest.fixture
def films(tmp_path):
    write_films(tmp_path, 20, AUTO)
    return tmp_path


def says(monkeypatch, engine):
    """What measuring would have come to, and for how many images it was asked."""
    asked = []

    def choose(network, config, settings, device, example, images, exports):
        asked.append((images, tuple(example.shape)))
        return engine

    monkeypatch.setattr(engines, "choose_engine", choose)
    return asked


def key(ws):
    return view_key(Project(ws, progress=False), "frontal")


def notes(ws):
    return [json.loads(p.read_text()) for p in (ws / "engines").glob("*.json")]


def test_a_named_engine_is_in_the_key(films):
    edit(films, '"auto"', '"onnxruntime"')
    assert key(films).engine == "onnxruntime"
    edit(films, '"onnxruntime"', '"torch"\nprecision = "bfloat16"')
    assert (key(films).engine, key(films).precision) == ("torch", "bfloat16")


def test_before_extraction_nothing_is_decided_and_nothing_written(films):
    assert key(films).engine == "auto"
    assert not (films / "engines").exists()


def test_extraction_decides_once_and_readers_follow(films, monkeypatch):
    asked = says(monkeypatch, "onnxruntime")
    outcome = mvp.extract(films, progress=False)
    assert outcome.views["frontal"].computed == 20
    assert [images for images, _ in asked] == [20]
    assert key(films).engine == "onnxruntime"
    assert notes(films) == [{"view": "frontal", "engine": "onnxruntime"}]
    (surroundings,) = (films / "cache").glob("*/*/surroundings/*.json")
    assert f'"onnxruntime":"{version("onnxruntime")}"' in surroundings.read_text().replace(" ", "")
    monkeypatch.setattr(engines, "choose_engine", None)
    assert mvp.extract(films, progress=False).forward_passes == 0
    exported = features_of(films)
    edit(films, '"auto"', '"torch"')
    assert mvp.extract(films, progress=False).forward_passes == 20
    hooked = features_of(films)
    assert 0 < np.abs(exported - hooked).max() <= 1e-4 * np.abs(hooked).max()


def test_the_export_is_kept_for_every_view_and_process(films, monkeypatch):
    made, export = [], exported.exported
    monkeypatch.setattr(exported, "exported", lambda *a: (made.append(a), export(*a))[1])
    edit(films, '"auto"', '"onnxruntime"')
    edit(films, "[views.frontal]", '[views.again]\nsource = "frontal"\n[views.frontal]')
    mvp.extract(films, progress=False)
    (path,) = (films / "engines").iterdir()
    assert path.suffix == ".onnx"
    wanted = features_of(films)
    shutil.rmtree(films / "cache")
    mvp.extract(films, progress=False)
    assert pipeline.cache_verify(films, sample=4).exit_code == 0
    assert len(made) == 1
    assert np.array_equal(features_of(films), wanted)


def test_few_images_are_not_worth_an_export(films):
    mvp.extract(films, progress=False)
    assert key(films).engine == "torch"


def test_rows_that_are_stored_decide_where_nobody_has(films, monkeypatch):
    edit(films, '"auto"', '"torch"')
    mvp.extract(films, progress=False)
    edit(films, '"torch"', '"auto"')
    assert key(films).engine == "torch"
    monkeypatch.setattr(engines, "choose_engine", None)
    assert mvp.extract(films, progress=False).forward_passes == 0
    assert notes(films) == [{"view": "frontal", "engine": "torch"}]


def test_another_network_is_decided_anew(films, monkeypatch):
    says(monkeypatch, "torch")
    mvp.extract(films, progress=False)
    edit(films, 'name = "small"', 'name = "small"\nlayer = "stages.3"')
    assert key(films).engine == "auto"


def test_of_two_that_decide_at_a_time_the_first_counts(films, monkeypatch):
    project = Project(films, progress=False)
    made = feature_network(project, "frontal")

    def slow(*arguments):
        says(monkeypatch, "onnxruntime")
        mine = engines.with_engine(project, made, inputs(project, made), 20)
        assert mine.key.engine == "onnxruntime"
        return "torch"

    monkeypatch.setattr(engines, "choose_engine", slow)
    late = engines.with_engine(project, made, inputs(project, made), 20)
    assert late.key.engine == late.settings.engine == "onnxruntime"


def inputs(project, made):
    return view_inputs(project, project.manifest, made.view)


@pytest.mark.parametrize("text", ["", "{}", '{"engine": "abacus"}', "[]"])
def test_a_damaged_note_is_an_error_that_says_what_to_do(films, text):
    digest = replace(key(films), engine="auto").digest
    place = films / "engines" / f"{digest}.json"
    place.parent.mkdir()
    place.write_text(text)
    with pytest.raises(ConfigError, match=r"cannot be read.*delete it, or name the engine"):
        key(films)
    edit(films, '"auto"', '"torch"')
    assert key(films).engine == "torch"
