"""An export is made once, kept whole, and used only while it gives the hook's numbers."""

import importlib.metadata
import logging

import numpy as np
import pytest
import torch
from odd_networks import MovesStatistics, Tiny

from mvp.config import ExtractConfig, NetworkConfig
from mvp.errors import ConfigError, MvpError
from mvp.files import digest_bytes
from mvp.networks import Network
from mvp.networks.engines import KeptExports, choice, choose_engine, exported, open_engine
from mvp.networks.engines.exported import exported as export
from mvp.networks.engines.kept import export_key

CPU = torch.device("cpu")
CONFIG = NetworkConfig()


def images(number=2, size=16):
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(1))


def tiny(kind=Tiny, seed=0):
    torch.manual_seed(seed)
    return Network("tiny", kind().eval(), "fc")


def features(exports, network=None):
    settings = ExtractConfig(engine="onnxruntime")
    with open_engine(network or tiny(), CONFIG, settings, CPU, images(), exports) as engine:
        return engine(images(5))


@pytest.fixture(scope="module")
def model():
    return export(tiny(), CONFIG, images())


@pytest.fixture
def exports(tmp_path):
    return KeptExports(tmp_path / "engines", "frontal.all")


@pytest.fixture
def made(monkeypatch, model):
    """How often the network of seed 0 was exported; its real export, made once."""
    made = []

    monkeypatch.setattr(exported, "exported", lambda *a: (made.append(a), model)[1])
    return made


def names(exports):
    return sorted(path.name for path in exports.folder.iterdir())


def key_of(network=None, example=None, **config):
    example = images() if example is None else example
    return export_key(network or tiny(), NetworkConfig(**config), example)


def test_the_second_time_nothing_is_exported(exports, made, model):
    first = features(exports)
    assert np.array_equal(features(exports), first)
    assert len(made) == 1
    assert names(exports) == [f"frontal.all.{key_of()}.{digest_bytes(model)}.onnx"]
    (path,) = exports.folder.iterdir()
    assert path.read_bytes() == model  # a plain ONNX file


def test_without_a_place_every_opening_exports(made):
    features(None)
    features(None)
    assert len(made) == 2


def test_what_decides_an_export_is_in_its_key(monkeypatch):
    other_statistics, unsaved = tiny(), tiny()
    other_statistics.module.norm.running_mean += 1
    unsaved.module.register_buffer("scale", torch.ones(1), persistent=False)
    keys = [
        key_of(),
        key_of(tiny(seed=1)),
        key_of(other_statistics),
        key_of(unsaved),
        key_of(layer="body"),
        key_of(layer="body", pooling="max"),
        key_of(layer=["body", "norm"]),
        key_of(layer=["norm", "body"]),
        key_of(example=images(size=20)),
        key_of(name="small"),
    ]
    monkeypatch.setattr(importlib.metadata, "version", lambda library: "another")
    keys.append(key_of())
    assert len(set(keys)) == len(keys)


def test_neither_the_head_nor_the_number_of_images_is_in_the_key():
    other = tiny()
    with torch.no_grad():
        other.module.fc.weight += 1
    assert key_of(other) == key_of() == key_of(example=images(7))
    assert key_of(other, layer="fc") != key_of(layer="fc")


@pytest.mark.parametrize("damage", ["bit", "half", "empty"])
def test_a_damaged_file_is_replaced(exports, made, model, caplog, damage):
    wanted = features(exports)
    (path,) = exports.folder.iterdir()
    flipped = bytearray(model)
    flipped[len(model) // 2] ^= 1
    path.write_bytes(
        {"bit": bytes(flipped), "half": model[: len(model) // 2], "empty": b""}[damage]
    )
    with caplog.at_level(logging.WARNING, "mvp"):
        assert np.array_equal(features(exports), wanted)
    assert "damaged" in caplog.text
    assert len(made) == 2
    assert path.read_bytes() == model
    features(exports)
    assert len(made) == 2


def of_other_weights():
    larger = tiny()
    with torch.no_grad():
        larger.module.body.weight *= 1.01
    return export(larger, CONFIG, images())


@pytest.mark.parametrize("content", [of_other_weights, lambda: b"not a graph"])
def test_a_file_that_gives_other_numbers_is_replaced(exports, made, model, caplog, content):
    exports.keep(key_of(), content())
    with caplog.at_level(logging.WARNING, "mvp"):
        given = features(exports)
    assert "is not used" in caplog.text
    assert np.array_equal(given, features(None))
    assert names(exports) == [f"frontal.all.{key_of()}.{digest_bytes(model)}.onnx"]


class Otherwise(Tiny):
    """Gives other features to whoever traces it."""

    def features(self, x):
        values = super().features(x)
        return values * 1.01 if torch.compiler.is_exporting() else values


def test_what_does_not_agree_is_not_kept(exports):
    with pytest.raises(ConfigError, match="relative difference"):
        features(exports, tiny(Otherwise))
    assert not exports.folder.exists()


def test_an_export_of_a_network_that_changes_is_not_kept(exports, made):
    with pytest.raises(MvpError, match="buffers of the network changed"):
        features(exports, tiny(MovesStatistics))
    assert not exports.folder.exists()


def test_an_owner_has_one_export(exports):
    other = KeptExports(exports.folder, "frontal.fold-0")
    neighbour = KeptExports(exports.folder, "frontal2.all")
    for one in (exports, other, neighbour):
        one.keep("k1", b"first")
    (exports.folder / "frontal.all.json").write_text("{}")
    exports.keep("k2", b"second")
    assert exports.read("k2") == b"second"
    assert [name.split(".")[:3] for name in names(exports)] == [
        ["frontal", "all", "json"],
        ["frontal", "all", "k2"],
        ["frontal", "fold-0", "k1"],
        ["frontal2", "all", "k1"],
    ]


def test_what_another_owner_made_serves_too(exports, made):
    wanted = features(KeptExports(exports.folder, "lateral.all"))
    assert np.array_equal(features(exports), wanted)
    assert len(made) == 1
    assert len(names(exports)) == 1


@pytest.mark.parametrize("same", [True, False])
def test_two_that_export_at_a_time_leave_one_whole_file(exports, made, model, monkeypatch, same):
    made_alone = exported.exported

    def slow(*arguments):
        monkeypatch.setattr(exported, "exported", made_alone)
        if same:
            features(exports)  # another process, from beginning to end
        else:
            exports.keep(key_of(), b"the same graph in other bytes")
        return model

    monkeypatch.setattr(exported, "exported", slow)
    given = features(exports)
    assert exports.read(key_of()) == model
    assert len(names(exports)) == 1
    assert np.array_equal(features(exports), given)


def test_a_file_that_goes_while_it_is_looked_for_is_made_again(exports, made, monkeypatch):
    features(exports)
    (path,) = exports.folder.iterdir()
    path.unlink()
    monkeypatch.setattr(KeptExports, "_files", lambda self, key: [path])
    features(exports)
    assert len(made) == 2


def test_a_place_that_cannot_be_written_is_told_and_no_error(tmp_path, made, caplog):
    (tmp_path / "engines").write_text("a file")
    with caplog.at_level(logging.WARNING, "mvp"):
        features(KeptExports(tmp_path / "engines", "frontal.all"))
    assert "the export is not kept" in caplog.text


def chosen(exports, number):
    settings = ExtractConfig(engine="auto")
    return choose_engine(tiny(), CONFIG, settings, CPU, images(), number, exports)


def test_auto_keeps_what_it_exported(exports, made, monkeypatch):
    monkeypatch.setattr(choice, "WORTH_TRYING_S", 0.0)
    chosen(exports, 10)
    features(exports)
    assert len(made) == 1


def test_a_kept_export_is_worth_trying_for_few_images(exports, made, monkeypatch):
    monkeypatch.setattr(choice, "_seconds", lambda e, b: 1.0 if e.name == "torch" else 0.1)
    clock = iter(range(10))
    monkeypatch.setattr(choice.time, "perf_counter", lambda: next(clock))
    assert chosen(exports, 32 * 10) == "torch"  # ten seconds
    assert not made
    features(exports)
    assert chosen(exports, 32 * 10) == "onnxruntime"
    assert len(made) == 1
