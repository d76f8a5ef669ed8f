"""What a machine reads: one JSON object on stdout, the same numbers as in the text."""

import json
import re
from pathlib import Path


def said(command, *arguments):
    code, out, _ = command(*arguments, "--json", "--quiet")
    assert code == 0
    assert out.count("\n") == 1
    return json.loads(out)


def test_finetune_says_what_was_trained_and_why(workspace, command):
    done = said(command, "finetune", "-w", workspace, "--view", "frontal", "--force")
    assert list(done["views"]) == ["frontal"]
    trained = done["views"]["frontal"]
    assert trained["epochs_run"] == 2
    assert 0 <= trained["best_auroc"] <= 1
    assert done["rejected"] == 0
    again = said(command, "finetune", "-w", workspace, "--view", "frontal")
    assert again["views"]["frontal"].keys() == {"reason", "folder"}
    assert (Path(trained["folder"]) / "weights.safetensors").exists()


def test_fit_head_says_what_was_fitted(workspace, command):
    done = said(command, "fit-head", "-w", workspace, "--name", "one")
    assert (done["name"], done["learner"], done["views"]) == (
        "one",
        "logistic",
        ["frontal", "lateral"],
    )
    assert done["rows"] > done["inner_rows"] > 0
    code, text, _ = command("fit-head", "-w", workspace, "--name", "one", "--quiet")
    assert code == 0
    assert int(re.search(r"(\d+) training", text)[1]) == done["rows"]


def test_run_says_every_step_and_its_evaluation(workspace, command):
    planned = said(command, "run", "-w", workspace, "--dry-run")
    assert planned["dry_run"]
    assert planned["evaluation"] is None
    done = said(command, "run", "-w", workspace)
    assert [step["name"] for step in done["steps"]] == [step["name"] for step in planned["steps"]]
    assert [s["runs"] for s in done["steps"]] == [s["runs"] for s in planned["steps"]]
    assert {row["model"] for row in done["evaluation"]["rows"]} >= {"frontal", "fusion"}
    assert done["evaluation"]["accuracy"] == []
    again = said(command, "run", "-w", workspace)
    assert not any(step["runs"] for step in again["steps"])
