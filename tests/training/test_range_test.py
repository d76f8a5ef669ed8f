"""The learning-rate range test."""

import csv

import numpy as np
import pytest
import torch
from finetuning import INNER, TRAIN, Images, data, labels, view

from mvp.errors import ConfigError, MvpError
from mvp.networks import build_view
from mvp.stages.lr_find import lr_find
from mvp.training import range_test as module
from mvp.training.curves import draw_range_test, write_range_test
from mvp.training.one_view import HeadPhase, NetworkPhase
from mvp.training.range_test import RangeTest, range_test
from mvp.training.task import Task

CPU = torch.device("cpu")


def phase(kind, settings):
    pixels, truth = data()
    torch.manual_seed(0)
    network = build_view(settings, 2)
    network.module.eval()
    task = Task(
        settings, network, Images(pixels), labels(truth), TRAIN, INNER, torch.ones(2), 0, CPU
    )
    return kind(task, 1)


@pytest.mark.parametrize("kind", [HeadPhase, NetworkPhase])
def test_it_climbs_and_leaves_the_network_as_it_was(kind):
    settings = view(rates={"head": 2.0}) if kind is NetworkPhase else view()
    objective = phase(kind, settings)
    before = {n: t.clone() for n, t in objective.module.state_dict().items()}
    random = torch.get_rng_state()
    found = range_test(objective, settings.training, 40, 0, CPU)
    assert torch.equal(torch.get_rng_state(), random)
    after = objective.module.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert not any(m.training for m in objective.module.modules())
    assert all(p.grad is None for p in objective.module.parameters())
    assert found.rates[0] == pytest.approx(1e-7)
    steps = np.diff(np.log(found.rates))
    assert steps == pytest.approx(np.full(len(steps), np.log(1e8) / 39))
    assert found.diverged or found.rates[-1] == pytest.approx(10)
    assert found.losses[0] == pytest.approx(found.smoothed[0])
    again = range_test(objective, settings.training, 40, 0, CPU)
    assert again == found


def test_the_rate_is_that_of_the_settings_whatever_the_factors(monkeypatch):
    """Where rates name every stage, the first group's own rate is not learning_rate."""
    rates = {"body": 0.5, "norm": 0.5, "head": 4.0}
    objective = phase(NetworkPhase, view(rates=rates))
    seen = []

    def noted(optimizer, *arguments):
        set_cycle(optimizer, *arguments)
        seen.append([group["lr"] for group in optimizer.param_groups])

    set_cycle = module.set_cycle
    monkeypatch.setattr(module, "set_cycle", noted)
    found = range_test(objective, objective.task.view.training, 12, 0, CPU)
    for rate, used in zip(found.rates, seen, strict=False):
        assert used[0] == pytest.approx(0.5 * rate)
        assert used[-1] == pytest.approx(4 * rate)


@pytest.mark.parametrize("steps", [-1, 0, 9])
def test_too_few_steps_are_refused(steps):
    objective = phase(HeadPhase, view())
    with pytest.raises(ConfigError, match=f"{steps} steps are too few"):
        range_test(objective, objective.task.view.training, steps, 0, CPU)


def test_it_suggests_a_rate_that_learns():
    pixels, truth = data()
    found = lr_find(
        view(head_epochs=2), Images(pixels), labels(truth), train=TRAIN, inner=INNER,
        phase="all", steps=60, seed=3, device=CPU, progress=False,
    )  # fmt: skip
    assert 1e-5 < found.suggestion < 1
    assert min(found.smoothed) < found.smoothed[0]


def test_what_is_suggested():
    made = RangeTest([1e-3, 1e-2], [1.0, 0.5], [1.0, 0.7], 1e-2, 1e-3, False)
    assert made.suggestion == 1e-3
    assert RangeTest([1e-3], [1.0], [1.0], None, 1e-4, False).suggestion == 1e-4


def test_a_loss_that_explodes_at_once_is_an_error():
    settings = view()
    objective = phase(NetworkPhase, settings)
    objective.task.images.pixels[:] = float("inf")
    with pytest.raises(MvpError, match=r"ended after 0 steps.*mvp check"):
        range_test(objective, settings.training, 40, 0, CPU)


def test_the_picture_and_the_table(tmp_path):
    rates = list(np.geomspace(1e-7, 1, 50))
    losses = [1 - 0.1 * i / 50 for i in range(50)]
    found = RangeTest(rates, losses, losses, 1e-3, 2e-3, True)
    write_range_test(tmp_path / "lr_find.csv", found)
    with (tmp_path / "lr_find.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["learning_rate"]) for row in rows] == rates
    assert list(rows[0]) == ["learning_rate", "loss", "smoothed_loss"]
    from PIL import Image

    pictures = []
    for name, tenth in (("one", 2e-3), ("two", 1e-5)):
        changed = RangeTest(rates, losses, losses, 1e-3, tenth, True)
        draw_range_test(tmp_path / f"{name}.png", "frontal", changed)
        pictures.append(np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")))
    assert pictures[0].shape == pictures[1].shape
    red = [((p[..., 0] > 180) & (p[..., 1] < 80)).any(0) for p in pictures]
    # The mark stands further to the left where the suggestion is smaller.
    assert red[1].nonzero()[0].min() < red[0].nonzero()[0].min() - 50
