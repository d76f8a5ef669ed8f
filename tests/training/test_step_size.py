"""`training.batch_size = "auto"`, and the metrics of the last steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from finetuning import INNER, ROWS, TRAIN, Images, data, labels, net, train, view
from test_finetune_resume import StopsAfter
from test_several_views import tasks

from mvp.errors import MvpError
from mvp.networks import Network
from mvp.training import step_size
from mvp.training.checkpoint import Checkpoint, Progress
from mvp.training.one_view import NetworkPhase
from mvp.training.processes import Processes
from mvp.training.several_views import SeveralNetworks
from mvp.training.step import Taken
from mvp.training.step_size import decided_step_size, find_step_size, largest, with_step_size
from mvp.training.task import Task
from mvp.training.window import Window
from mvp.types import Labels, Target

CPU = torch.device("cpu")


def test_the_largest_that_fits():
    tried = []

    def fits(size):
        tried.append(size)
        return size <= 70

    assert largest(fits, 1000) == 64
    assert tried == [8, 16, 32, 64, 128]
    assert largest(fits, 50) == 50
    assert largest(fits, 5) == 5
    with pytest.raises(MvpError, match=r"does not hold a step of 8 inputs.*bfloat16"):
        largest(lambda size: False, 100)


def objective(most, monkeypatch):
    class Small(type(net())):
        def forward(self, x):
            if len(x) > most:
                raise torch.OutOfMemoryError("made")
            return super().forward(x)

    pixels, truth = data()
    network = Network("net", Small(), "fc")
    network.module.eval()
    task = Task(view(), network, Images(pixels), labels(truth), TRAIN, INNER, torch.ones(2), 0, CPU)
    return NetworkPhase(task, 1)


def sized(phase):
    """The same phase with steps of another size."""

    def made(size):
        return NetworkPhase(replace(phase.task, view=with_step_size(phase.task.view, size)), 1)

    return made


def test_it_tries_real_steps_and_leaves_the_network_as_it_was(monkeypatch):
    asked = objective(20, monkeypatch)
    before = {n: t.clone() for n, t in asked.module.state_dict().items()}
    assert find_step_size(sized(asked), view().training, CPU) == 16
    after = asked.module.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert all(p.grad is None for p in asked.module.parameters())
    assert not asked.module.training
    with pytest.raises(MvpError, match="does not hold"):
        find_step_size(sized(objective(3, monkeypatch)), view().training, CPU)


def test_on_a_gpu_it_is_measured_and_a_resumed_training_keeps_it(monkeypatch):
    settings = view(batch_size="auto").training
    monkeypatch.setattr(step_size, "find_step_size", lambda *arguments: 64)
    tensor = torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda value, device=None: tensor(value))
    gpu = torch.device("cuda")
    assert decided_step_size(settings, None, gpu, Processes(), lambda: None) == 64
    begun = Checkpoint(Progress(step_size=16), {}, {}, {})
    assert decided_step_size(settings, begun, gpu, Processes(), lambda: None) == 16
    assert decided_step_size(view().training, begun, gpu, Processes(), lambda: None) == 8
    # Nothing of the body is trained, so there is no training to measure.
    still = view(batch_size="auto", freeze="all").training
    assert decided_step_size(still, None, gpu, Processes(), lambda: None) == 32


def test_views_trained_together_are_measured_by_the_steps_they_make(monkeypatch):
    """A view of few rows neither bounds a step nor makes it as large as all rows of the other."""
    seen = []

    def fits(phase, rows, *others):
        seen.append((len(rows), int((rows >= ROWS).sum())))
        return len(rows) <= 20

    monkeypatch.setattr(step_size, "_fits", fits)

    def made(size):
        both, shared = tasks(lateral=TRAIN[:5], batch_size=size)
        return SeveralNetworks(both, 1, shared)

    assert find_step_size(made, view().training, CPU) == 16
    # The fullest of each: the lateral view is in it.
    assert [number for number, _ in seen] == [10, 20, 38]
    assert all(lateral for _, lateral in seen)


def test_on_a_cpu_it_is_32_and_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("mvp.training.session.draw_curve", lambda *arguments: None)
    with caplog.at_level("INFO", "mvp"):
        result = train(tmp_path / "auto", view(batch_size="auto"))
    assert "on cpu it is 32" in caplog.text
    assert result.batch_size == 32
    train(tmp_path / "said", view(batch_size=32))
    one, two = (tmp_path / n / "weights.safetensors" for n in ("auto", "said"))
    assert one.read_bytes() == two.read_bytes()
    # A training that began with another size goes on with it.
    folder = tmp_path / "begun"
    monkeypatch.setattr("mvp.training.session.decided", None, raising=False)
    usual = "mvp.config.training.USUAL_BATCH_SIZE"
    monkeypatch.setattr(usual, 8)
    with pytest.raises(KeyboardInterrupt):
        train(folder, view(batch_size="auto"), StopsAfter(14))
    monkeypatch.setattr(usual, 32)
    resumed = train(folder, view(batch_size="auto"))
    assert (resumed.resumed_from, resumed.batch_size) == (4, 8)


TARGETS = (Target("one"), Target("kind", ("x", "y", "z")))


def taken(seed, rows=6):
    chance = np.random.default_rng(seed)
    values = np.stack([chance.integers(0, 2, rows), chance.integers(0, 3, rows)], 1)
    values = values.astype(np.float32)
    values[0] = np.nan
    logits = torch.from_numpy(chance.normal(size=(rows, 4)).astype(np.float32))
    return Taken(float(seed), rows, logits, Labels(TARGETS, values))


def test_the_window_covers_the_last_steps_alone_and_comes_back_from_a_checkpoint():
    window, last = Window(2), Window(2)
    for seed in (1, 2, 3):
        window.add(taken(seed), 10)
    for seed in (2, 3):
        last.add(taken(seed), 10)
    assert window.recent() == last.recent()
    assert window.recent().loss == pytest.approx(0.25)
    again = Window(2)
    again.restore(window.tensors())
    assert again.recent() == window.recent()
    right = []
    for seed in (2, 3):
        one = taken(seed)
        for row in range(1, 6):
            right.append((one.logits[row, 0] > 0).item() == bool(one.labels.values[row, 0]))
            right.append(one.logits[row, 1:].argmax().item() == one.labels.values[row, 1])
    assert window.recent().accuracy == pytest.approx(np.mean(right))


def test_steps_of_one_class_have_no_auroc():
    window = Window(5)
    assert window.recent() == Window(1).recent()
    values = np.ones((4, 1), np.float32)
    window.add(Taken(1.0, 4, torch.randn(4, 1), Labels((Target("one"),), values)), 4)
    assert window.recent().auroc is None
    assert window.recent().accuracy is not None
    blank = Labels((Target("one"),), np.full((4, 1), np.nan, np.float32))
    empty = Window(5)
    empty.add(Taken(0.0, 4, torch.randn(4, 1), blank), 0)
    assert (empty.recent().loss, empty.recent().accuracy) == (None, None)


def test_a_label_of_one_class_is_undefined_in_the_history(tmp_path, monkeypatch):
    import csv

    monkeypatch.setattr("mvp.training.session.draw_curve", lambda *arguments: None)
    _, values = data()
    values = values.copy()
    values[INNER, 1] = 1
    train(tmp_path, values=values)
    with (tmp_path / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["auroc_b"] for row in rows} == {"undefined"}
    assert all(0 <= float(row["auroc_a"]) <= 1 for row in rows)
    assert len(values) == ROWS
