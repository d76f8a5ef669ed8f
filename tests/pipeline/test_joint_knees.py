"""A made MRNet through the joint network: three planes of 17 to 61 slices, planes missing."""

import json

import numpy as np
import pytest

from mvp.pipeline.heads import load_head
from mvp.pipeline.project import Project
from tests.pipeline.conftest import edit
from tests.pipeline.knees import PLANES, SHOWN, smaller
from tests.pipeline.test_mrnet import json_of, prepared, said

STAGES = 'head = "mlp"'
# The few studies of stage two teach a head little; here it learns from all that are trained on.
NETWORKS = """start = "networks"
learner = "mlp"
options = {layers = 0, view_dropout = 0.0}"""
JOINT = """
[joint]
{}
[joint.training]
epochs = {}
learning_rate = 1e-3
monitor = "loss"
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("train", "valid", "epochs", "start"),
    [(30, 12, 2, STAGES), (90, 40, 12, NETWORKS)],
    ids=["stages", "networks"],
)
def test_three_planes_three_labels_end_to_end(command, tmp_path, train, valid, epochs, start):
    ws = tmp_path / "knees"
    prepared(command, ws, train, valid, epochs)
    smaller(ws)
    edit(ws, 'learner = "logistic" ', 'learner = "mlp" ')
    path = ws / "mvp.toml"
    path.write_text(path.read_text() + JOINT.format(start, epochs // 2))
    said(command, "finetune", "-w", ws)
    said(command, "extract", "-w", ws)
    said(command, "fit-head", "-w", ws, "--set", "layers=0")
    done = json_of(command, "finetune-joint", "-w", ws)
    assert done["bodies"] == list(PLANES)
    result = done["result"]
    assert result["trained"]["best_loss"] <= result["start_loss"]
    # The deepest study has 61 slices in each plane.
    assert result["most_inputs"] == 3 * 61
    assert result["trained"]["images_seen"] > 17 * 3 * result["studies"]
    found = {(r["label"], r["model"]): r for r in json_of(
        command, "evaluate", "-w", ws, "--head", "joint"
    )["rows"]}  # fmt: skip
    assert {label for label, _ in found} == set(SHOWN)
    saved = load_head(Project(ws, progress=False), "joint")
    assert saved.ensemble.views == PLANES
    assert set(saved.ensemble.singles) == set(PLANES)
    assert json.loads((ws / "joint" / "provenance.json").read_text())["patients"]
    if start == NETWORKS:
        assert np.mean([found[label, "fusion"]["auroc"] for label in SHOWN]) > 0.85
        for label, plane in SHOWN.items():
            assert found[label, plane]["auroc"] > 0.8
