"""The joint network beside the two stages: the example runs, and its numbers are those of mvp."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples import joint
from tests.pipeline.conftest import finish_json

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_both_tables_through_the_command_line(tmp_path):
    folder = tmp_path / "joint"
    ran = subprocess.run(
        [sys.executable, ROOT / "examples" / "joint.py", "--small", "--folder", folder],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    lines = [re.split(r"\s{2,}", line.strip()) for line in ran.stdout.splitlines()]
    said = {line[0]: line[1:] for line in lines}
    assert {"mean over labels", "tube_misplaced"} <= said.keys()
    for name in joint.BODIES:
        title = joint.variants.VARIANTS[name].title
        shown = finish_json("evaluate", "-w", folder / name, "--head", "joint")
        (row,) = (r for r in shown["accuracy"] if (r["model"], r["label"]) == ("fusion", "breed"))
        assert said[title][1] == joint.with_interval(row["accuracy"], row["low"], row["high"])
