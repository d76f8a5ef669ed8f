"""Every setting of [training] has an effect: two trainings that differ only in it differ."""

import csv

import numpy as np
import pytest
from finetuning import ROWS, Images, data, train, view
from pydantic import ValidationError
from safetensors.torch import load_file
from test_finetune_bags import Volumes

from mvp.config import TrainingConfig
from mvp.errors import ConfigError
from mvp.training import session

LOW = {"learning_rate": 1e-12, "head_epochs": 0, "epochs": 6}
# Setting: what both have, and what one of them has besides.
CHANGES = {
    "epochs": ({}, 4),
    "head_epochs": ({}, 1),
    "learning_rate": ({}, 2e-3),
    "head_learning_rate": ({}, 2e-2),
    "rates": ({}, {"head": 3.0}),
    "freeze": ({}, "norm"),
    "optimizer": ({}, "sgd"),
    "nesterov": ({"optimizer": "sgd"}, True),
    "weight_decay": ({}, 0.5),
    "batch_size": ({}, 6),
    "accumulate": ({}, 2),
    "precision": ({}, "bfloat16"),
    "patience": (LOW, 2),
    "monitor": ({"head_epochs": 8, "epochs": 8, "learning_rate": 0.1}, "loss"),
    "max_pos_weight": ({}, 1.0),
    "clip": ({}, 0.01),
    "slices": ({}, "mean"),
}
ARTEFACTS = {"window", "checkpoint_minutes", "tensorboard", "memory_gb"}


@pytest.fixture(autouse=True)
def without_curve(monkeypatch):
    monkeypatch.setattr("mvp.training.session.draw_curve", lambda *arguments: None)


def test_every_setting_is_tried_here():
    assert set(CHANGES) | ARTEFACTS == set(TrainingConfig.model_fields)


@pytest.mark.parametrize("setting", CHANGES)
def test_it_changes_the_weights(tmp_path, setting):
    base, value = CHANGES[setting]
    found = []
    for name, own in (("one", {}), ("two", {setting: value})):
        source = Volumes() if setting == "slices" else Images(data()[0])
        values = source.values if setting == "slices" else None
        if setting == "monitor":
            # What cannot be learnt: the loss has its best epoch elsewhere than the AUROC.
            values = np.random.default_rng(1).integers(0, 2, (ROWS, 2)).astype(np.float32)
        settings = view(**{"epochs": 2, "head_epochs": 2, **base, **own})
        result = train(tmp_path / name, settings, source, values)
        weights = load_file(tmp_path / name / "weights.safetensors")
        found.append((result.epochs_run, weights))
    (epochs, one), (other_epochs, two) = found
    # Patience ends training; the weights that it had kept stay.
    changed = any(not np.array_equal(one[n], two[n]) for n in one)
    assert changed or (setting == "patience" and epochs != other_epochs)


def history(folder):
    with (folder / "history.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_the_window_decides_what_the_metrics_of_training_cover(tmp_path):
    for length in (1, 50):
        train(tmp_path / str(length), view(window=length))
    one, all_ = history(tmp_path / "1"), history(tmp_path / "50")
    assert [row["train_loss"] for row in one] == [row["train_loss"] for row in all_]
    assert [row["train_accuracy"] for row in one] != [row["train_accuracy"] for row in all_]


def test_checkpoints_come_after_minutes_and_after_every_epoch(tmp_path, monkeypatch):
    saved = []
    keep = session.save_checkpoint
    monkeypatch.setattr(
        session, "save_checkpoint", lambda *a: (saved.append(a[2].progress.step), keep(*a))
    )
    train(tmp_path / "rare")
    assert saved == [0] * 6
    saved.clear()
    train(tmp_path / "often", view(checkpoint_minutes=0))
    # 33 rows in batches of 8: four steps, the last of nine.
    assert saved == [1, 2, 3, 4, 0] * 6
    rare, often = (tmp_path / n / "weights.safetensors" for n in ("rare", "often"))
    assert rare.read_bytes() == often.read_bytes()


def test_event_files_hold_the_history(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(tmp_path / "without")
    assert not (tmp_path / "without" / "tensorboard").exists()
    for _ in range(2):  # a training anew begins its events anew
        train(tmp_path / "with", view(tensorboard=True))
    events = accumulator.EventAccumulator(str(tmp_path / "with" / "tensorboard"))
    events.Reload()
    written = history(tmp_path / "with")
    for tag, column in (
        ("loss/train", "train_loss"),
        ("loss/inner", "inner_loss"),
        ("auroc/inner/a", "auroc_a"),
        ("accuracy/train", "train_accuracy"),
        ("learning rate", "learning_rate"),
    ):
        found = events.Scalars(tag)
        assert [event.step for event in found] == [1, 2, 3, 4, 5, 6]
        assert [event.value for event in found] == pytest.approx(
            [float(row[column]) for row in written]
        )


def test_without_tensorboard_the_error_names_the_extra(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"training.tensorboard.*multiview-pipeline\[tensorb"):
        train(tmp_path, view(tensorboard=True))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nesterov": True}, 'without optimizer = "sgd"'),
        ({"freeze": "all", "rates": {"head": 2.0}}, "rates have no meaning"),
        ({"freeze": "all", "head_epochs": 0}, "nothing to train"),
        ({"accumulate": 2, "batch_size": "auto"}, "accumulate has no meaning"),
        ({"accumulate": 5, "batch_size": 8}, "less than two"),
        ({"rates": {"head": 0.0}}, "greater than 0"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        TrainingConfig(**settings)


def test_without_a_monitor_the_last_epoch_is_kept_and_patience_is_refused():
    from mvp.training.monitor import Score

    worse = Score(9.0, 0.1)
    assert worse.beats(1.0, 0.9, "none")
    assert not worse.beats(1.0, 0.9, "auroc")
    with pytest.raises(ValueError, match="keeps the last"):
        TrainingConfig(monitor="none", patience=3)
