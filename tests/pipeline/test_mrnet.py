"""A made MRNet the whole way: three planes of volumes, three labels, the maximum over slices."""

import csv
import json

import numpy as np
import pytest
import torch

import mvp
from mvp.data.loading import Request
from mvp.pipeline.networks import feature_network, view_inputs
from mvp.pipeline.project import Project
from mvp.training import one_view
from tests.pipeline.conftest import edit, features_of
from tests.pipeline.knees import PLANES, SHARES, SHOWN, WITHOUT, made_workspace, smaller

SETTINGS = 'epochs = {}\npatience = 99\nmonitor = "loss"\nbatch_size = 128'
LABELS = list(SHARES)


@pytest.fixture
def losses(monkeypatch):
    """Shapes of logits and labels, and the class weights, of every loss of stage one."""
    seen = []
    loss = one_view.summed_loss

    def spy(logits, values, targets, pos_weight):
        seen.append((tuple(logits.shape), tuple(values.shape), pos_weight.tolist()))
        return loss(logits, values, targets, pos_weight)

    monkeypatch.setattr(one_view, "summed_loss", spy)
    return seen


def prepared(command, ws, train, valid, epochs, **settings):
    labels = made_workspace(command, ws, train, valid, **settings)
    edit(ws, "epochs = 20", SETTINGS.format(epochs))
    edit(ws, "learning_rate = 0.0001\n", "learning_rate = 0.01\n")
    edit(ws, 'learner = "mlp" ', 'learner = "logistic" ')
    return labels


def said(command, *arguments):
    code, out, err = command(*arguments, "--quiet")
    assert code == 0, err
    return out


def json_of(command, *arguments):
    return json.loads(said(command, *arguments, "--json"))


def trained(ws, plane):
    return json.loads((ws / "stage1" / plane / "all" / "provenance.json").read_text())["result"]


def areas(done):
    return {(row["label"], row["model"]): row for row in done["rows"]}


def test_three_planes_and_three_labels_from_import_to_evaluation(command, tmp_path, losses):
    ws = tmp_path / "knees"
    labels = prepared(command, ws, 90, 40, 12)
    smaller(ws)
    with (ws / "manifest.csv").open() as stream:
        assert {row["study"] for row in csv.DictReader(stream)} >= {"0000", "0089", "0139"}

    said(command, "finetune", "-w", ws)
    known = {**labels["train"], **labels["valid"]}
    with (ws / "split.csv").open() as stream:
        parts = {row["study"]: row["part"] for row in csv.DictReader(stream)}
    for plane in PLANES:
        assert trained(ws, plane)["epochs_run"] == 12
        rows = [s for s, p in parts.items() if p == "stage1" and ("train", s, plane) not in WITHOUT]
        positive = np.array([[known[s][n] for n in LABELS] for s in rows]).sum(0)
        weights = ((len(rows) - positive) / positive).tolist()
        mine = [seen for seen in losses if seen[2] == pytest.approx(weights, rel=1e-5)]
        # A row, and so a loss, for every volume and not for its 17 to 61 slices.
        assert sum(logits[0] for logits, _, _ in mine) >= 12 * len(rows)
        assert all(logits == values and logits[1] == 3 for logits, values, _ in mine)
        assert max(logits[0] for logits, _, _ in mine) <= 128 // 17

    stored = json_of(command, "extract", "-w", ws)["views"]
    assert {plane: stored[plane]["images"] for plane in PLANES} == {
        "axial": 130,
        "coronal": 129,
        "sagittal": 129,
    }
    assert all(stored[p]["rows"] == stored[p]["images"] for p in PLANES)
    assert all(stored[p]["forward_passes"] > 17 * stored[p]["rows"] for p in PLANES)
    said(command, "fit-head", "-w", ws)
    done = json_of(command, "evaluate", "-w", ws)

    found = areas(done)
    for label, plane in SHOWN.items():
        assert found[label, "fusion"]["auroc"] > 0.85
        assert found[label, plane]["auroc"] > 0.85
    # One examination without its sagittal plane is still an examination.
    assert found["acl", "sagittal"]["n"] == 39
    assert found["acl", "fusion"]["n"] == 40
    mean = {row["model"]: row for row in done["means"]}
    expected = np.mean([found[label, "fusion"]["auroc"] for label in LABELS])
    assert mean["fusion"]["auroc"] == pytest.approx(expected)
    assert mean["fusion"]["labels"] == 3
    assert not any(step.runs for step in mvp.run(ws, progress=False).steps)


def test_what_is_stored_is_what_the_trained_classifier_sees(command, tmp_path):
    """The features of a volume, under the trained classifier, are the forward of training."""
    from mvp.networks.bags import forward_bags

    ws = tmp_path / "knees"
    prepared(command, ws, 30, 6, 1, deepest=20)
    smaller(ws)
    mvp.finetune(ws, ["axial"], progress=False)
    mvp.extract(ws, ["axial"], progress=False)
    stored = torch.from_numpy(np.array(features_of(ws, "axial")))
    project = Project(ws, progress=False)
    made = feature_network(project, "axial")
    images = project.view_images(project.manifest, made.view)
    images = images[~images["file"].duplicated()]
    records = [project.contents[file] for file in images["file"]][:5]
    counts = [record.instances for record in records]
    assert min(counts) >= 17
    inputs = view_inputs(project, project.manifest, made.view)
    requests = [Request(r.file, r.digest, tuple(range(r.instances))) for r in records]
    slices = torch.stack(list(inputs.load(requests, 2, 64)))
    made.network.module.eval()
    with torch.no_grad():
        batch = inputs.preparation.finish(slices, made.network.channels)
        logits = forward_bags(made.network, batch, counts, "max")
        seen = made.network.head(stored[images["study"].to_numpy()[:5]])
    torch.testing.assert_close(seen, logits, rtol=1e-5, atol=1e-5)


def test_heads_that_see_another_reduction_than_networks_are_told_of(command, tmp_path, caplog):
    ws = tmp_path / "knees"
    prepared(command, ws, 12, 4, 0, deepest=18)
    smaller(ws)
    mvp.finetune(ws, ["axial"], progress=False)
    assert "training.slices" not in caplog.text
    edit(ws, 'slices = "max"', 'slices = "mean"')
    mvp.finetune(ws, ["axial"], progress=False)
    assert 'training.slices = "mean"' in caplog.text
    assert 'extract.instances = "max"' in caplog.text


@pytest.mark.slow
def test_the_mean_over_slices_drowns_what_one_slice_shows(command, tmp_path):
    found = {}
    for how in ("max", "mean"):
        ws = tmp_path / how
        prepared(command, ws, 90, 60, 12)
        smaller(ws, how)
        edit(ws, 'instances = "max"', f'instances = "{how}"')
        edit(ws, "[head]", '[head]\nviews = ["axial"]')
        mvp.finetune(ws, ["axial"], progress=False)
        mvp.extract(ws, ["axial"], progress=False)
        mvp.fit_head(ws, progress=False)
        done = mvp.evaluate(ws, progress=False).to_json()
        found[how] = areas(done)["abnormal", "fusion"]["auroc"]
    assert found["max"] > 0.9
    assert found["mean"] < found["max"] - 0.1


@pytest.mark.slow
def test_alexnet_at_its_own_size(command, tmp_path):
    ws = tmp_path / "knees"
    prepared(command, ws, 24, 8, 1, deepest=25)
    edit(ws, 'weights = "DEFAULT"', 'weights = "none"')
    edit(ws, "batch_size = 128", "batch_size = 40\nhead_epochs = 1")
    said(command, "finetune", "-w", ws, "--view", "axial")
    assert trained(ws, "axial")["epochs_run"] == 2
    assert trained(ws, "axial")["parameters"] > 57_000_000
    stored = json_of(command, "extract", "-w", ws, "--view", "axial")["views"]["axial"]
    assert stored["rows"] == stored["images"] == 32
    assert features_of(ws, "axial").shape == (32, 4096)
