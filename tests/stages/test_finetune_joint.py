"""Joint training: from the two stages, exactly them while detached, resumed, and in processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jointly
import numpy as np
import pytest
import torch
from jointly import INNER, STUDIES, TARGETS, TRAIN, VIEWS, members, settings, train
from safetensors.torch import load_file

from mvp.errors import ConfigError
from mvp.features import table_from_arrays
from mvp.learners.mlp import MLPLearner
from mvp.learners.xgb import XGBoostLearner
from mvp.networks import Capture, inference, restore_view
from mvp.stages.finetune_joint import JointData, finetune_joint, read_heads
from mvp.types import Labels

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def without_curve(monkeypatch):
    """Drawing takes half the time of these trainings."""
    monkeypatch.setattr("mvp.training.session.draw_curve", lambda *arguments: None)


def weights(folder):
    """Every tensor of a finished joint network by its file and name."""
    found = {}
    for view in VIEWS:
        for name, value in load_file(folder / view / "weights.safetensors").items():
            found[f"{view} {name}"] = value
    for name, value in load_file(folder / "joint" / "head" / "weights.safetensors").items():
        found[f"head {name}"] = value
    return found


def said(folder, network="jointly:net"):
    """(study, output) what a saved joint network says: bodies to features, features to head."""
    pixels, presence, _ = jointly.made()
    blocks = {}
    for place, view in enumerate(VIEWS):
        path = folder / view / "weights.safetensors"
        body = restore_view(jointly.resolved(view, network), 2, path)
        with inference(body), Capture(body) as capture:
            seen = capture(jointly.Images(None).finish(pixels[view])).numpy()
        seen[~presence[:, place]] = np.nan
        blocks[view] = seen
    table = table_from_arrays([f"s{i}" for i in range(STUDIES)], blocks)
    head, singles = read_heads(folder / "joint")
    return head.predict(table), {v: one.predict(table.only([v])) for v, one in singles.items()}


@pytest.mark.parametrize("learner", ["mlp", "auxiliary"])
def test_it_starts_as_the_two_stage_system(tmp_path, learner):
    head = jointly.head(learner)
    want = head.predict(jointly.features())
    result = train(tmp_path, settings(training={"epochs": 0}), start=head)
    assert result.trained.epochs_run == 0
    np.testing.assert_allclose(said(tmp_path)[0], want, atol=1e-5)
    # And so the network as a whole judges itself.
    known = Labels(TARGETS, jointly.made()[2]).select(INNER)
    clipped = np.clip(want[INNER], 1e-7, 1 - 1e-7)
    logits = torch.from_numpy(np.log(clipped / (1 - clipped)))
    from mvp.networks import positive_weights
    from mvp.training.monitor import score

    balance = positive_weights(Labels(TARGETS, jointly.made()[2]).select(TRAIN), 5.0)
    direct = score(logits.float(), known, torch.from_numpy(balance))
    assert result.start_loss == pytest.approx(direct.loss, abs=1e-5)
    assert result.start_auroc == pytest.approx(direct.auroc, abs=1e-9)


@pytest.mark.parametrize("learner", ["mlp", "auxiliary"])
def test_detached_bodies_train_the_head_that_cached_features_train(tmp_path, learner):
    """Live, through frozen bodies, epoch for epoch what the same loop makes of a cache."""
    frozen = settings(training={"freeze": "all", "epochs": 4}, auxiliary=0)
    own = members(tmp_path / "live", still=True)
    train(tmp_path / "live", frozen, own, jointly.head(learner))
    table = jointly.features()
    fixed = {view: table.only([view]).matrix() for view in VIEWS}
    cached = JointData(Labels(TARGETS, jointly.made()[2]), TRAIN, INNER, VIEWS, fixed)
    train(tmp_path / "cache", frozen, of=[], start=jointly.head(learner), data=cached)
    live, cache = (
        load_file(tmp_path / way / "joint" / "head" / "weights.safetensors")
        for way in ("live", "cache")
    )
    start = {f"net.{n}": v for n, v in jointly.head(learner).fitted.net.state_dict().items()}
    assert any(not torch.equal(live[name], start[name]) for name in start)
    for name in live:
        torch.testing.assert_close(live[name], cache[name], rtol=1e-5, atol=1e-5, msg=name)
    for view in VIEWS:
        first = jointly.first_weights(view, "jointly:net").module.state_dict()
        now = load_file(tmp_path / "live" / view / "weights.safetensors")
        assert all(torch.equal(first[name], now[name]) for name in first)


def test_a_stage_two_learner_fits_the_same_head_on_live_features(tmp_path):
    """The probe of a fresh head is stage two's own fit, on features that are taken once."""
    chosen = settings(
        start="networks",
        learner="mlp",
        options={"epochs": 6, "hidden": 8, "device": "cpu"},
        training={"epochs": 0},
    )
    result = finetune_joint(
        members(tmp_path), jointly.data(), settings=chosen, how="max", start=None, table=None,
        folder=tmp_path / "joint", seed=3, device=jointly.CPU, progress=False,
    )  # fmt: skip
    labels, table = Labels(TARGETS, jointly.made()[2]), jointly.features()
    want = MLPLearner(epochs=6, hidden=8, device="cpu").fit(
        table.select(TRAIN),
        labels.select(TRAIN),
        validation=(table.select(INNER), labels.select(INNER)),
        seed=3,
    )
    found, _ = read_heads(tmp_path / "joint")
    for name, value in want.fitted.net.state_dict().items():
        torch.testing.assert_close(found.fitted.net.state_dict()[name], value, atol=1e-5, rtol=1e-5)
    assert result.probe_inputs == jointly.made()[1].sum()
    # From the cache no image passes.
    again = finetune_joint(
        members(tmp_path / "2"), jointly.data(), settings=chosen, how="max", start=None,
        table=table, folder=tmp_path / "2" / "joint", seed=3, device=jointly.CPU, progress=False,
    )  # fmt: skip
    assert again.probe_inputs == 0
    np.testing.assert_allclose(said(tmp_path / "2")[0], said(tmp_path)[0], atol=1e-5)


def test_training_reaches_every_body_and_the_start_is_kept_where_it_is_better(tmp_path):
    result = train(tmp_path / "trained")
    assert result.trained.epochs_run == 2
    for view in VIEWS:
        first = jointly.first_weights(view, "jointly:net").module.state_dict()
        now = load_file(tmp_path / "trained" / view / "weights.safetensors")
        assert not torch.equal(first["body.weight"], now["body.weight"])
    # A rate that ruins it: nothing beats the start.
    wild = settings(training={"monitor": "loss", "learning_rate": 30.0, "clip": 1e6})
    spoilt = train(tmp_path / "kept", wild)
    assert spoilt.trained.best_epoch == 0
    assert spoilt.trained.best_loss == spoilt.start_loss
    want = jointly.head().predict(jointly.features())
    np.testing.assert_allclose(said(tmp_path / "kept")[0], want, atol=1e-5)


def test_the_views_own_heads_are_heads_of_stage_two(tmp_path):
    train(tmp_path)
    _, singles = said(tmp_path)
    assert set(singles) == set(VIEWS)
    pixels = jointly.made()[0]
    for view in VIEWS:
        path = tmp_path / view / "weights.safetensors"
        body = restore_view(jointly.resolved(view), 2, path)
        with inference(body):
            logits = body.module(jointly.Images(None).finish(pixels[view]))
        here = jointly.made()[1][:, VIEWS.index(view)]
        np.testing.assert_allclose(singles[view][here], logits.sigmoid()[here], atol=1e-5)


def test_frozen_layers_keep_still_until_they_thaw(tmp_path):
    frozen = settings(training={"freeze": "norm", "epochs": 2})
    train(tmp_path / "frozen", frozen)
    first = jointly.first_weights("frontal", "jointly:net").module.state_dict()
    now = load_file(tmp_path / "frozen" / "frontal" / "weights.safetensors")
    for name in ("body.weight", "norm.weight", "norm.running_mean"):
        assert torch.equal(first[name], now[name])
    train(tmp_path / "thawed", settings(training={"freeze": "norm", "epochs": 2}, thaw=1))
    now = load_file(tmp_path / "thawed" / "frontal" / "weights.safetensors")
    for name in ("body.weight", "norm.weight", "norm.running_mean"):
        assert not torch.equal(first[name], now[name])


def test_only_learners_with_gradients_can_join():
    from mvp.stages._joint_head import joinable

    with pytest.raises(ConfigError, match="mlp, auxiliary"):
        joinable(XGBoostLearner(), "xgboost")


def test_volumes_and_images_of_several_go_as_heads_see_them(tmp_path):
    """Slices of a study are reduced inside the network: as the maximum over its stored rows."""
    pixels, presence, values = jointly.made()
    chance = np.random.default_rng(1)
    found, blocks = [], {}
    for place, view in enumerate(VIEWS):
        owner = np.flatnonzero(presence[:, place])
        counts = chance.integers(1, 5, len(owner))
        slices = torch.cat(
            [pixels[view][o].repeat(c, 1, 1, 1) for o, c in zip(owner, counts, strict=True)]
        )
        slices = slices + 0.2 * torch.rand(slices.shape, generator=torch.Generator().manual_seed(0))
        body = jointly.first_weights(view, "jointly:net")
        with inference(body), Capture(body) as capture:
            each = capture(jointly.Images(None).finish(slices))
        seen = np.full((STUDIES, 8), np.nan, np.float32)
        seen[owner] = torch.stack([p.amax(0) for p in each.split(counts.tolist())]).numpy()
        blocks[view] = seen
        images = jointly.Images(slices, counts)
        of = jointly.JointMember(jointly.resolved(view), body, True, images, owner, tmp_path / view)
        found.append(of)
    table = table_from_arrays([f"s{i}" for i in range(STUDIES)], blocks)
    labels = Labels(TARGETS, values)
    head = MLPLearner(epochs=10, hidden=8, device="cpu").fit(
        table.select(TRAIN), labels.select(TRAIN), validation=None, seed=0
    )
    result = train(tmp_path, settings(training={"epochs": 1}), of=found, start=head)
    want = head.predict(table.select(INNER))
    clipped = torch.from_numpy(np.clip(want, 1e-7, 1 - 1e-7))
    from mvp.statistics.metrics import auroc

    areas = [
        auroc(values[INNER][known, i], clipped.numpy()[known, i])
        for i in range(2)
        if (known := ~np.isnan(values[INNER][:, i])).any()
    ]
    assert result.start_auroc == pytest.approx(np.mean(areas), abs=1e-9)
    assert result.most_inputs == max(
        sum(int(one.images.counts[one.owner == s].sum()) for one in found) for s in range(STUDIES)
    )


class _Interrupted:
    """A training of which one view's images stop coming after some batches."""

    def __init__(self, folder, batches):
        own = members(folder, stops=batches)
        with pytest.raises(KeyboardInterrupt):
            train(folder, SLOW, own)


SLOW = settings(training={"epochs": 4, "checkpoint_minutes": 0}, rows="train")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    patch = pytest.MonkeyPatch()
    patch.setattr("mvp.training.session.draw_curve", lambda *arguments: None)
    result = train(folder, SLOW)
    patch.undo()
    return result, weights(folder)


@pytest.mark.parametrize("batches", [3, 5, 8, 11, 14])
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, whole, batches):
    _Interrupted(tmp_path, batches)
    result = train(tmp_path, SLOW)
    assert (result.trained.best_epoch, result.trained.best_loss, result.start_loss) == (
        whole[0].trained.best_epoch,
        whole[0].trained.best_loss,
        whole[0].start_loss,
    )
    now = weights(tmp_path)
    assert all(torch.equal(now[name], value) for name, value in whole[1].items())
    assert not (tmp_path / "joint" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "joint" / "start").exists()


def environment():
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    return {**kept, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_weights(tmp_path, whole):
    options = {"joint": {"training": {"epochs": 4, "checkpoint_minutes": 0}, "rows": "train"}}
    said = json.dumps({"killed": options})
    command = [sys.executable, str(HERE / "jointly.py"), str(tmp_path), said, "0.2"]
    run = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE)
    place = tmp_path / "killed" / "joint" / "checkpoint.safetensors"
    patience = time.monotonic() + 120
    while not place.exists() and run.poll() is None and time.monotonic() < patience:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert place.exists(), run.stderr.read()
    result = train(tmp_path / "killed", SLOW)
    assert result.trained.epochs_run == 4
    now = weights(tmp_path / "killed")
    for name, value in whole[1].items():
        torch.testing.assert_close(now[name], value, rtol=1e-5, atol=1e-6, msg=name)
