"""Four protocols on networks that memorise: the example runs, and the order is what it claims."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples import optimism
from tests.pipeline.conftest import finish_json

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_same_rows_lose_and_the_report_shows_it(tmp_path):
    kept = tmp_path / "kept"
    ran = subprocess.run(
        [
            *(sys.executable, ROOT / "examples" / "optimism.py", "--folder", kept),
            *("--seeds", "2", "--train", "300", "--test", "400", "--folds", "3"),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    lines = [re.split(r"\s{2,}", line) for line in ran.stdout.splitlines()]
    said = {line[0]: line[1:] for line in lines}
    assert set(optimism.MODELS) <= set(said)
    # What the example says is what the command line says of the workspace that it kept.
    own, test = [], []
    for seed in range(2):
        shown = finish_json("evaluate", "-w", kept / f"seed-{seed}", "--head", "holdout")
        ablation = next(row for row in shown["optimism"] if row["model"] == "same-rows")
        honest = next(row for row in shown["optimism"] if row["model"] == "fusion")
        assert ablation["own"] > 0.99
        assert ablation["gap"] > honest["gap"] + 0.03
        assert ablation["difference"] == pytest.approx(honest["test"] - ablation["test"])
        own.append(ablation["own"])
        test.append(ablation["test"])
    assert said["same-rows"][0] == optimism.interval(np.array(test))
    assert said["same-rows"][1] == optimism.interval(np.array(own))
    assert np.mean(test) < float(said["holdout"][0].split()[0])


def test_intervals_are_students():
    from scipy.stats import ttest_1samp

    values = np.array([0.1, 0.4, 0.3])
    low, high = ttest_1samp(values, 0).confidence_interval()
    assert optimism.interval(values) == f"0.267 [{low:.3f}, {high:.3f}]"
    assert optimism.interval(values[:1]) == "0.100"


@pytest.mark.parametrize("wrong", [["--folds", "1"], ["--seeds", "0"], ["--folder", str(ROOT)]])
def test_wrong_options_of_the_protocols_are_refused(monkeypatch, capsys, wrong):
    monkeypatch.setattr(sys, "argv", ["optimism.py", *wrong])
    with pytest.raises(SystemExit) as stop:
        optimism.main()
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err
