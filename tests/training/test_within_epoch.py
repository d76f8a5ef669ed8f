"""Interruptions within an epoch, and exceptions in training and judgement."""

import json
import signal
import sys
import time

import pytest
import torch
from finetuning import Images, data, train, view
from test_finetune_resume import StopsAfter, checkpoint, start

from mvp.errors import MvpError
from mvp.networks import build_view
from mvp.training.checkpoint import load_checkpoint
from mvp.training.precision import require_precision


@pytest.fixture(autouse=True)
def without_curve(monkeypatch):
    monkeypatch.setattr("mvp.training.session.draw_curve", lambda *arguments: None)


def progress_in(folder):
    # By one open: safe_open opens it twice, and the file may be another by then.
    with checkpoint(folder).open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return json.loads(header["__metadata__"]["progress"])


SETTINGS = {"checkpoint_minutes": 0, "head_epochs": 0, "epochs": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mvp.training.session.draw_curve", lambda *arguments: None)
        result = train(folder, view(**SETTINGS))
    return result, folder


# An epoch reads 5 batches for its 4 steps and 2 for the judgement.
@pytest.mark.parametrize(("batches", "done", "step"), [(1, 0, 1), (4, 0, 3), (9, 1, 2), (19, 2, 4)])
def test_it_goes_on_within_the_epoch_with_the_same_bits(tmp_path, whole, batches, done, step):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, view(**SETTINGS), StopsAfter(batches))
    saved = progress_in(tmp_path)
    assert (saved["done"], saved["step"]) == (done, step)
    images = Images(data()[0])
    result = train(tmp_path, view(**SETTINGS), images)
    # Steps that were done are not read again.
    rows = 33 - min(8 * step, 33) if step < 4 else 0
    assert len(images.asked) == rows + 16 + (2 - done) * 49
    assert (tmp_path / "weights.safetensors").read_bytes() == (
        whole[1] / "weights.safetensors"
    ).read_bytes()
    assert result.images_seen == whole[0].images_seen

    def numbers(folder):
        lines = (folder / "history.csv").read_text().splitlines()
        seconds = lines[0].split(",").index("seconds")
        return [[c for i, c in enumerate(line.split(",")) if i != seconds] for line in lines]

    assert numbers(tmp_path) == numbers(whole[1])


def test_a_process_killed_within_an_epoch_is_resumed_to_the_same_bits(tmp_path):
    killed, smooth = tmp_path / "killed", tmp_path / "smooth"
    process = start(killed, 0.1, checkpoint_minutes=0)
    deadline = time.monotonic() + 90
    while True:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        if checkpoint(killed).exists():
            saved = progress_in(killed)
            if saved["phase"] == "all" and saved["done"] and saved["step"] in (1, 2):
                break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL
    assert not (killed / "weights.safetensors").exists()
    train(killed, view(checkpoint_minutes=0))
    train(smooth)
    one, two = (f / "weights.safetensors" for f in (killed, smooth))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("phase", ["losses", "judge"])
def test_evaluation_mode_comes_back_after_an_exception(tmp_path, monkeypatch, phase):
    made = []

    def spy(view, outputs):
        made.append(build_view(view, outputs))
        return made[-1]

    class Failing(Images):
        def finish(self, batch, *channels):
            # Rows are judged in evaluation mode, and nothing may leave the mode behind.
            if made[0].module.training == (phase == "losses"):
                raise OSError("the disk is gone")
            return super().finish(batch, *channels)

    monkeypatch.setattr("mvp.training.result.build_view", spy)
    with pytest.raises(OSError, match="disk"):
        train(tmp_path, view(head_epochs=0), Failing(data()[0]))
    assert not any(m.training for m in made[0].module.modules())


def test_evaluation_mode_comes_back_when_the_loss_explodes(tmp_path, monkeypatch):
    made = []

    def spy(view, outputs):
        made.append(build_view(view, outputs))
        return made[-1]

    monkeypatch.setattr("mvp.training.result.build_view", spy)
    pixels, _ = data()
    pixels[5] = float("nan")
    with pytest.raises(MvpError, match="loss became"):
        train(tmp_path, view(head_epochs=0), Images(pixels))
    assert sys.exc_info()[0] is None
    assert not any(m.training for m in made[0].module.modules())


def test_the_scaler_comes_back_from_a_checkpoint(tmp_path):
    from mvp.training.checkpoint import Checkpoint, Progress, save_checkpoint
    from mvp.training.precision import make_scaler, restore_scaler, scaler_tensors

    scaler = make_scaler("float16", torch.device("cpu"))
    scaler.load_state_dict({**scaler.state_dict(), "scale": 1024.0, "_growth_tracker": 7})
    state = Checkpoint(Progress(step=3), {}, {}, {}, scaler_tensors(scaler), {})
    save_checkpoint(tmp_path / "c.safetensors", "mark", state)
    found = load_checkpoint(tmp_path / "c.safetensors", "mark")
    other = make_scaler("float16", torch.device("cpu"))
    restore_scaler(other, found.scaler)
    assert other.state_dict() == scaler.state_dict()
    assert found.progress.step == 3
    assert scaler_tensors(make_scaler("float32", torch.device("cpu"))) == {}


def test_float16_is_for_cuda(tmp_path):
    from mvp.errors import ConfigError

    with pytest.raises(ConfigError, match=r"float16.*cpu.*bfloat16"):
        train(tmp_path, view(precision="float16"))
    require_precision("float16", torch.device("cuda"))


def test_mixed_precision_leaves_weights_and_losses_in_float32(tmp_path):
    from safetensors.torch import load_file

    result = train(tmp_path, view(precision="bfloat16", epochs=6, learning_rate=1e-2))
    weights = load_file(tmp_path / "weights.safetensors")
    assert {t.dtype for t in weights.values()} == {torch.float32, torch.int64}
    assert result.best_auroc > 0.9
