import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from finetuning import INNER, TRAIN, Images, data, labels, train, view
from safetensors import safe_open

from mvp.config import NetworkConfig, TextConfig
from mvp.errors import MvpError
from mvp.training.fingerprint import fingerprint

HERE = Path(__file__).parent


def checkpoint(folder):
    return folder / "checkpoint.safetensors"


def epochs_in(folder):
    with safe_open(checkpoint(folder), framework="pt") as stream:
        return len(json.loads(stream.metadata()["progress"])["history"])


class StopsAfter(Images):
    """Interrupts the user's patience after so many batches."""

    def __init__(self, batches):
        super().__init__(data()[0])
        self.left = batches

    def batches(self, order, size):
        for batch in super().batches(order, size):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            yield batch


def interrupt(folder, batches, **changes):
    with pytest.raises(KeyboardInterrupt):
        train(folder, images=StopsAfter(batches), **changes)


@pytest.fixture(autouse=True)
def without_curve(monkeypatch):
    """Drawing takes half the time of these trainings; test_finetune.py looks at the picture."""
    monkeypatch.setattr("mvp.training.session.draw_curve", lambda *arguments: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return train(folder), (folder / "weights.safetensors").read_bytes()


# The features take 5 + 2 batches of the source, and so does an epoch of the whole network.
@pytest.mark.parametrize(("batches", "finished"), [(8, 3), (14, 4), (21, 5), (22, 5)])
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path, whole, batches, finished):
    interrupt(tmp_path, batches)
    assert epochs_in(tmp_path) == finished
    result = train(tmp_path)
    assert result.resumed_from == finished
    assert (tmp_path / "weights.safetensors").read_bytes() == whole[1]
    assert (result.best_epoch, result.best_auroc, result.best_loss, result.epochs_run) == (
        whole[0].best_epoch,
        whole[0].best_auroc,
        whole[0].best_loss,
        whole[0].epochs_run,
    )
    assert not checkpoint(tmp_path).exists()


def test_a_training_stopped_within_the_heads_phase_goes_on(tmp_path, whole, monkeypatch):
    from mvp.training import session as stage

    saved = []

    def save_once(*arguments):
        if saved:
            raise KeyboardInterrupt
        saved.append(original(*arguments))

    original = stage.save_checkpoint
    monkeypatch.setattr(stage, "save_checkpoint", save_once)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    monkeypatch.undo()
    assert train(tmp_path).resumed_from == 1
    assert (tmp_path / "weights.safetensors").read_bytes() == whole[1]


def test_a_crash_while_publishing_repeats_only_that(tmp_path, whole, monkeypatch):
    def fail(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("mvp.training.session.draw_curve", fail)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    monkeypatch.undo()
    source = Images(data()[0])
    assert train(tmp_path, images=source).resumed_from == 6
    assert not source.asked
    assert (tmp_path / "weights.safetensors").read_bytes() == whole[1]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"settings": view(learning_rate=2e-3)},
        {"values": 1 - data()[1]},
        {"train": range(1, 33)},
        {"inner": range(34, 49)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_training_starts_over_and_says_so(tmp_path, caplog, change):
    import numpy as np

    change = {k: np.array(v) if isinstance(v, range) else v for k, v in change.items()}
    interrupt(tmp_path, 14)
    with caplog.at_level(logging.WARNING, "mvp"):
        result = train(tmp_path, **change)
    assert result.resumed_from is None
    assert "starting over" in caplog.text


def test_other_first_weights_start_over(tmp_path, caplog):
    from finetuning import net

    path = tmp_path / "first.pth"
    torch.save(net().state_dict(), path)
    settings = view(weights=str(path))
    folder = tmp_path / "out"
    interrupt(folder, 14, settings=settings)
    torch.save(net().state_dict(), path)
    with caplog.at_level(logging.WARNING, "mvp"):
        assert train(folder, settings).resumed_from is None
    assert "starting over" in caplog.text


def test_first_weights_that_lie_elsewhere_are_the_same(tmp_path):
    from finetuning import net

    path = tmp_path / "first.pth"
    torch.save(net().state_dict(), path)
    interrupt(tmp_path / "out", 14, settings=view(weights=str(path)))
    moved = path.rename(tmp_path / "moved.pth")
    assert train(tmp_path / "out", view(weights=str(moved))).resumed_from == 4
    # The head's epochs hang on whether there are weights at all.
    usual = {"train": TRAIN, "inner": INNER, "seed": 3, "first_weights": "", "counts": None}
    marks = {
        fingerprint(view(weights=name, head_epochs=None), labels(data()[1]), **usual)
        for name in ("none", str(moved))
    }
    assert len(marks) == 2


def other(**sections):
    return view().model_copy(update=sections)


@pytest.mark.parametrize(
    "settings",
    [
        view(memory_gb=7),
        view(checkpoint_minutes=3, window=9),
        view(tensorboard=True),
        other(network=NetworkConfig(name="finetuning:net", layer="body", pooling="max")),
        other(text=TextConfig(length=9)),
    ],
    ids=["memory", "saving", "tensorboard", "hook", "texts"],
)
def test_what_decides_no_weight_is_no_reason_to_start_over(tmp_path, settings):
    interrupt(tmp_path, 14)
    assert train(tmp_path, settings).resumed_from == 4


def test_a_damaged_checkpoint_starts_over(tmp_path, caplog, whole):
    interrupt(tmp_path, 14)
    path = checkpoint(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with caplog.at_level(logging.WARNING, "mvp"):
        assert train(tmp_path).resumed_from is None
    assert "is damaged" in caplog.text
    assert (tmp_path / "weights.safetensors").read_bytes() == whole[1]


def test_an_error_leaves_the_last_checkpoint(tmp_path):
    pixels, _ = data()

    class Spoilt(StopsAfter):
        def finish(self, batch, channels):
            return super().finish(batch, channels) * (float("inf") if self.left < 2 else 1)

    source = Spoilt(16)
    source.pixels = pixels
    with pytest.raises(MvpError, match="loss became"):
        train(tmp_path, images=source)
    assert epochs_in(tmp_path) == 4


def start(folder, pause, **settings):
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    return subprocess.Popen(
        [
            sys.executable,
            str(HERE / "finetuning.py"),
            *(str(folder), str(pause), json.dumps(settings)),
        ],
        env=environment,
    )


@pytest.mark.slow
def test_a_killed_process_is_resumed_to_the_same_bits(tmp_path, whole, monkeypatch):
    killed = tmp_path / "killed"
    process = start(killed, 0.2)
    deadline = time.monotonic() + 60
    while not checkpoint(killed).exists() or epochs_in(killed) < 4:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL
    assert not (killed / "weights.safetensors").exists()
    (killed / ".partial-left-behind.safetensors").write_bytes(b"half")
    monkeypatch.undo()  # the curve is drawn
    assert train(killed).resumed_from >= 4
    assert {p.name for p in killed.iterdir()} == {
        "weights.safetensors",
        "history.csv",
        "curve.png",
    }
    assert (killed / "weights.safetensors").read_bytes() == whole[1]
