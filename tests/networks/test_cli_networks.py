import json
import sys

import pytest

from mvp import cli


@pytest.fixture
def command(monkeypatch, capsys):
    def run(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["mvp", "networks", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        assert (stop.value.code or 0) == code, said.err
        return said.out if code == 0 else said.err

    return run


def test_networks_by_name(command):
    text = command("--match", "densenet")
    assert text.splitlines()[0].split() == ["network", "parameters", "weights"]
    assert "densenet121  7.98 M      IMAGENET1K_V1, DEFAULT" in text
    assert "resnet" not in text


def test_networks_as_json(command):
    found = json.loads(command("--match", "lenet", "--sizes", "--json"))["networks"]
    (lenet,) = [n for n in found if n["name"] == "lenet"]
    assert lenet == {"name": "lenet", "weights": [], "features": 84, "parameters": 187_710}


def test_layers_of_one(command):
    text = command("--layers", "lenet", "--size", "28", "--match", "pool")
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["pool1", "32", "x", "14", "x", "14", "MaxPool2d"],
        ["pool2", "64", "x", "7", "x", "7", "MaxPool2d"],
    ]
    found = json.loads(command("--layers", "lenet", "--size", "28", "--json"))
    assert (found["network"], found["size"]) == ("lenet", 28)
    assert found["layers"][0] == {"name": "auto", "kind": "input of fc3", "shape": [84]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--match", "zzz"], "no network's name holds 'zzz'"),
        (["--layers", "lenet", "--match", "zzz"], "no layer of 'lenet' holds 'zzz'"),
        (["--layers", "lenett"], "did you mean 'lenet'"),
        (["--size", "64"], "--size has no meaning here"),
        (["--layers", "lenet", "--sizes"], "--sizes has no meaning here"),
        (["--layers", "lenet", "--timm"], "--timm has no meaning here"),
    ],
)
def test_what_cannot_be_listed_is_one_line(command, arguments, words):
    said = command(*arguments, code=2)
    assert words in said
    assert len(said.strip().splitlines()) == 1
