"""Views that are trained together: what is shared, who learns from what, and going on."""

import csv

import numpy as np
import pytest
import torch
from finetuning import INNER, TRAIN, Images, data, labels, view
from safetensors.numpy import load_file

from mvp.networks import build_view, positive_weights
from mvp.networks.sharing import share_stem
from mvp.stages.finetune_shared import Member, finetune_shared
from mvp.training.several_views import SeveralHeads, SeveralNetworks
from mvp.training.task import Task

CPU = torch.device("cpu")
NAMES = ("frontal", "lateral")
BODY = "body.convolution.weight"


@pytest.fixture(autouse=True)
def without_curve(monkeypatch):
    """Drawing takes most of the time of these trainings."""
    monkeypatch.setattr("mvp.training.session.draw_curve", lambda *arguments: None)


def settings(name, share="body", **training):
    one = view(**{"batch_size": 16, **training})
    network = one.network.model_copy(update={"share": share})
    return one.model_copy(update={"name": name, "source": name, "network": network})


def tasks(share="body", counts=None, lateral=TRAIN, **training):
    """Two views' tasks on networks with a common stem, and these."""
    torch.manual_seed(0)
    views = [settings(name, share, **training) for name in NAMES]
    networks = {one.name: build_view(one, 2) for one in views}
    shared = share_stem(networks, share)
    shared.module.to(memory_format=torch.channels_last)
    shared.module.eval()
    made = []
    for seed, (one, rows) in enumerate(zip(views, (TRAIN, lateral), strict=True)):
        pixels, values = data(seed)
        images = Images(pixels)
        if counts is not None:
            images = Bags(pixels, counts)
        network = shared.networks[one.name]
        known = labels(values)
        weight = torch.from_numpy(positive_weights(known.select(rows), 10.0))
        made.append(Task(one, network, images, known, rows, INNER, weight, seed, CPU))
    return made, shared


class Bags(Images):
    """Rows of several inputs: the same image again and again."""

    def __init__(self, pixels, counts):
        super().__init__(pixels)
        self.counts = counts

    def batches(self, order, size):
        order = np.repeat(order, self.counts[order])
        yield from super().batches(order, size)


def members(folder, share="body", images=None, values=None, **training):
    made = []
    for seed, name in enumerate(NAMES):
        pixels, truth = data(seed)
        source = (images or {}).get(name) or Images(pixels)
        known = labels((values or {}).get(name, truth))
        one = settings(name, share, **training)
        made.append(Member(one, source, known, TRAIN, INNER, folder / name, seed))
    return made


def train(folder, **changes):
    return finetune_shared(members(folder, **changes), seed=3, device=CPU, progress=False)


def gradients(network):
    return {
        name: p.grad is not None and bool(p.grad.abs().sum() > 0)
        for name, p in network.module.named_parameters()
    }


def test_shared_parameters_are_the_same_objects_and_both_views_reach_them():
    (one, other), shared = tasks()
    assert one.network.module.body is other.network.module.body
    assert one.network.module.fc.weight is not other.network.module.fc.weight
    phase = SeveralNetworks([one, other], 1, shared)
    for rows, own, foreign in (
        (TRAIN, one.network, other.network),
        (TRAIN + len(one.labels), other.network, one.network),
    ):
        shared.module.zero_grad(set_to_none=True)
        (loss,) = phase.losses(0, [rows])
        loss.total.backward()
        assert all(gradients(own).values())
        assert {n.split(".")[0] for n, there in gradients(foreign).items() if there} == {"body"}


def test_a_view_may_be_called_as_a_method_is():
    one, other = (build_view(settings(name), 2) for name in ("type", "values"))
    shared = share_stem({"type": one, "values": other}, "body")
    assert len(shared.module.state_dict()) == len(one.module.state_dict()) * 2 - 2


def test_the_optimiser_has_every_shared_parameter_once():
    (one, other), shared = tasks()
    phase = SeveralNetworks([one, other], 1, shared)
    fitted = [p for group in phase.groups() for p in group.parameters]
    assert len({id(p) for p in fitted}) == len(fitted) == len(list(shared.module.parameters()))
    state = phase.state()
    assert sum(BODY in name for name in state) == 1
    assert sum(name.endswith("fc.weight") for name in state) == 2


@pytest.mark.parametrize("share", ["body", "all"])
def test_the_loss_is_the_sum_of_the_views_losses(share):
    made, shared = tasks(share)
    for task in made:
        # Whatever batch norm and dropout make of the rows of a batch.
        task.network.module.drop.p = 0.0
    phase = SeveralNetworks(made, 1, shared)
    rows = np.concatenate([TRAIN[:8], len(made[0].labels) + TRAIN[:8]])
    (loss,) = phase.losses(0, [rows])
    assert loss.inputs == 16
    assert phase.known(rows) == sum(np.isfinite(t.labels.values[:8]).sum() for t in made)
    halves = list(phase.losses(0, [TRAIN[:8], len(made[0].labels) + TRAIN[:8]]))
    if share == "body":  # the norm is a view's own
        assert torch.isclose(loss.total, halves[0].total + halves[1].total, rtol=1e-4)
    else:
        assert not torch.isclose(loss.total, halves[0].total + halves[1].total, rtol=1e-4)


def test_a_step_has_rows_of_all_views_in_proportion_and_none_is_lost():
    (one, other), shared = tasks(lateral=TRAIN[:11], batch_size=11)
    phase = SeveralNetworks([one, other], 2, shared)
    first = len(one.labels)
    steps = phase.steps(0)
    assert len(steps) == 4
    everything = np.sort(np.concatenate(steps))
    assert everything.tolist() == [*TRAIN, *(first + TRAIN[:11])]
    for step in steps:
        assert 2 <= (step >= first).sum() <= 3
        assert 8 <= (step < first).sum() <= 9
    again = phase.steps(0)
    assert all(np.array_equal(a, b) for a, b in zip(steps, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(steps, phase.steps(1), strict=False))


def test_a_view_of_few_rows_is_never_alone_in_a_step():
    (one, other), shared = tasks(lateral=TRAIN[:5], batch_size=4)
    phase = SeveralNetworks([one, other], 1, shared)
    numbers = [int((step >= len(one.labels)).sum()) for step in phase.steps(0)]
    assert sum(numbers) == 5
    assert set(numbers) <= {0, 2, 3}


def test_every_part_of_a_step_has_every_view():
    (one, other), shared = tasks(lateral=TRAIN[:6])
    phase = SeveralNetworks([one, other], 1, shared)
    rows = np.concatenate([TRAIN[:9], len(one.labels) + TRAIN[:3]])
    for number, wanted in ((2, 2), (3, 3), (5, 3)):
        parts = phase.parts(rows, number)
        assert len(parts) == wanted
        assert np.sort(np.concatenate(parts)).tolist() == rows.tolist()
        assert all((part >= len(one.labels)).any() for part in parts)
    assert phase.least_inputs(rows) == 3


@pytest.mark.parametrize("share", ["body", "all"])
def test_volumes_and_images_may_share(share):
    counts = np.random.default_rng(0).integers(1, 4, 49)
    made, shared = tasks(share, counts)
    phase = SeveralNetworks(made, 1, shared)
    steps = phase.steps(0)
    assert sum(len(step) for step in steps) == 66
    losses = list(phase.losses(0, steps))
    assert sum(loss.inputs for loss in losses) == 2 * counts[TRAIN].sum()
    assert all(torch.isfinite(loss.total) for loss in losses)
    assert len(SeveralHeads(made, 1).steps(0)) == round(66 / 16)


def test_positives_count_by_the_training_rows_of_the_own_network(tmp_path, monkeypatch):
    seen = {}

    class Noted(SeveralNetworks):
        def __init__(self, made, epochs, shared):
            super().__init__(made, epochs, shared)
            seen.update({task.view.name: task.pos_weight.tolist() for task in made})

    monkeypatch.setattr("mvp.stages.finetune_shared.SeveralNetworks", Noted)
    values = {name: np.zeros((49, 2), np.float32) for name in NAMES}
    values["frontal"][:11] = 1  # 22 of 33 are negative
    values["lateral"][:3] = 1
    for name in NAMES:
        values[name][INNER] = 1  # nobody asks the inner rows
        values[name][INNER[0]] = 0
    train(tmp_path, values=values, epochs=1, head_epochs=0)
    assert seen == {"frontal": [2.0, 2.0], "lateral": [10.0, 10.0]}
    train(tmp_path, values=values, share="all", epochs=1, head_epochs=0)
    assert seen["frontal"] == seen["lateral"] == pytest.approx([52 / 14] * 2)


def test_one_network_learns_what_one_view_alone_could_not(tmp_path, caplog):
    """With everything shared a label's two classes may come from two views."""
    values = {name: data(seed)[1] for seed, name in enumerate(NAMES)}
    values["frontal"][:, 1], values["lateral"][:, 1] = 0, 1
    train(tmp_path, values=values, share="all", epochs=1, head_epochs=0)
    assert "fewer than two classes" not in caplog.text
    train(tmp_path, values=values, epochs=1, head_epochs=0)
    assert caplog.text.count("fewer than two classes") == 2


class StopsAfter(Images):
    """Interrupts the user's patience after so many batches."""

    def __init__(self, pixels, batches):
        super().__init__(pixels)
        self.left = batches

    def batches(self, order, size):
        for batch in super().batches(order, size):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            yield batch


@pytest.mark.parametrize("share", ["body", "all"])
def test_an_interrupted_group_ends_with_the_same_bits(tmp_path, share):
    whole = train(tmp_path / "whole", share=share)
    stops = {"lateral": StopsAfter(data(1)[0], 14)}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", share=share, images=stops)
    assert (tmp_path / "cut" / "frontal" / "checkpoint.safetensors").exists()
    again = train(tmp_path / "cut", share=share)
    assert again["frontal"].resumed_from
    assert again["frontal"].best_loss == whole["lateral"].best_loss
    for name in NAMES:
        one, other = (
            load_file(tmp_path / run / name / "weights.safetensors") for run in ("whole", "cut")
        )
        assert all(np.array_equal(value, other[key]) for key, value in one.items())
        assert {p.name for p in (tmp_path / "cut" / name).iterdir()} <= {
            "weights.safetensors",
            "history.csv",
        }
    both = [load_file(tmp_path / "whole" / name / "weights.safetensors") for name in NAMES]
    assert np.array_equal(both[0][BODY], both[1][BODY])
    assert np.array_equal(both[0]["fc.weight"], both[1]["fc.weight"]) == (share == "all")


def test_a_checkpoint_of_one_group_is_none_of_another(tmp_path, caplog):
    stops = {"lateral": StopsAfter(data(1)[0], 14)}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, images=stops)
    values = {"lateral": 1 - data(1)[1]}
    assert train(tmp_path, values=values)["frontal"].resumed_from is None
    assert "starting over" in caplog.text


def test_parts_of_a_step_and_a_frozen_stem(tmp_path):
    found = train(tmp_path, accumulate=2, freeze="body", head_epochs=0)
    assert found["lateral"].epochs_run == 3
    with (tmp_path / "frontal" / "history.csv").open() as stream:
        (*_, last) = csv.DictReader(stream)
    areas = [[last[f"auroc_{name} {label}"] for label in "ab"] for name in NAMES]
    means = [np.mean([float(one) for one in own if one != "undefined"]) for own in areas]
    assert float(last["inner_auroc"]) == pytest.approx(np.mean(means))
    frontal, lateral = (load_file(tmp_path / name / "weights.safetensors") for name in NAMES)
    assert np.array_equal(frontal[BODY], lateral[BODY])
    trained = train(tmp_path / "free", head_epochs=0)
    assert trained["lateral"].epochs_run == 3
    free = load_file(tmp_path / "free" / "frontal" / "weights.safetensors")
    assert not np.array_equal(frontal[BODY], free[BODY])
