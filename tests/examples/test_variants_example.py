"""Every variant of networks on one split: the example runs, and its numbers are those of mvp."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import mvp
from examples import variants
from mvp.reports import with_interval
from tests.pipeline.conftest import finish_json

ROOT = Path(__file__).parents[2]


def test_an_animal_is_drawn_the_same_for_the_same_seed():
    import numpy as np

    one, two = (variants.draw(3, True, True, False, np.random.default_rng(seed)) for seed in (0, 0))
    assert one.shape == (variants.SIZE, variants.SIZE)
    assert (one == two).all()
    assert one.std() > 10


@pytest.mark.slow
def test_all_variants_through_the_command_line(tmp_path):
    folder = tmp_path / "variants"
    ran = subprocess.run(
        [sys.executable, ROOT / "examples" / "variants.py", "--small", "--folder", folder],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    lines = [re.split(r"\s{2,}", line.strip()) for line in ran.stdout.splitlines()]
    said = {line[0]: line[1:] for line in lines}
    splits = {(folder / name / "split.csv").read_text() for name in variants.VARIANTS}
    assert len(splits) == 1
    for name, variant in variants.VARIANTS.items():
        shown = finish_json("evaluate", "-w", folder / name)
        breed, collar, _, numbers = said[variant.title]
        (row,) = (r for r in shown["accuracy"] if (r["model"], r["label"]) == ("fusion", "breed"))
        assert breed == with_interval(row["accuracy"], row["low"], row["high"])
        (row,) = (r for r in shown["rows"] if (r["model"], r["label"]) == ("fusion", "collar"))
        assert collar == with_interval(row["auroc"], row["low"], row["high"])
        assert int(numbers.replace(",", "")) == variants.different_numbers(folder / name)
    weights = {name: variants.different_numbers(folder / name) for name in variants.VARIANTS}
    assert weights["all"] < weights["stem"] < weights["separate"]
    # A copy has a classifier of its own, and nothing else.
    assert weights["labels"] < weights["copies"] < 1.01 * weights["labels"]
    assert not any(s.runs for s in mvp.run(folder / "copies", progress=False).steps)
