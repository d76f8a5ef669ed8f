"""Parameter groups, frozen layers, and what a step is made of."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from finetuning import INNER, TRAIN, Images, Net, data, labels, net, train, view
from safetensors.torch import load_file
from torch import nn

from mvp.config import NetworkConfig, TrainingConfig
from mvp.errors import ConfigError
from mvp.networks import Network, build
from mvp.training.division import share_of
from mvp.training.groups import frozen_part, network_groups
from mvp.training.one_view import NetworkPhase
from mvp.training.optimizer import make_optimizer, set_cycle
from mvp.training.processes import Processes
from mvp.training.task import Task


def resnet():
    return build(NetworkConfig(name="resnet18"), 2)


def test_groups_follow_the_cycle_each_at_its_factor():
    settings = TrainingConfig(rates={"head": 10.0, "layer4": 1.0, "layer1": 0.1})
    groups = network_groups(resnet(), settings, "frontal")
    assert [(g.name, g.rate) for g in groups] == [
        ("network", 1e-3),
        ("head", 1e-2),
        ("layer4", 1e-3),
        ("layer1", pytest.approx(1e-4)),
    ]
    everything = [id(p) for g in groups for p in g.parameters]
    assert len(everything) == len(set(everything)) == len(list(resnet().module.parameters()))
    optimizer = make_optimizer(groups, settings)
    set_cycle(optimizer, 0.5, 0.9)
    rates = [g["lr"] for g in optimizer.param_groups[::2]]
    assert rates == pytest.approx([5e-4, 5e-3, 5e-4, 5e-5])
    assert all(g["betas"] == (0.9, 0.999) for g in optimizer.param_groups)
    for group in optimizer.param_groups:
        decays = group["weight_decay"] > 0
        assert all((p.ndim > 1) == decays for p in group["params"])


def test_sgd_has_the_cycles_momentum():
    settings = TrainingConfig(optimizer="sgd", nesterov=True)
    optimizer = make_optimizer(network_groups(resnet(), settings, "frontal"), settings)
    set_cycle(optimizer, 1.0, 0.85)
    assert all(g["momentum"] == 0.85 and g["nesterov"] for g in optimizer.param_groups)


def test_the_longest_name_wins_and_names_are_whole():
    settings = TrainingConfig(rates={"layer1": 0.1, "layer1.0": 0.5})
    network = resnet()
    groups = {g.name: g for g in network_groups(network, settings, "frontal")}
    names = {id(p): n for n, p in network.module.named_parameters()}
    assert all(names[id(p)].startswith("layer1.0.") for p in groups["layer1.0"].parameters)
    assert all(names[id(p)].startswith("layer1.1.") for p in groups["layer1"].parameters)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rates": {"layer9": 1.0}}, r"no stage 'layer9'.*conv1, bn1, layer1.*layer4, head"),
        ({"rates": {"layer": 1.0}}, "no stage 'layer'"),
        ({"rates": {"layer1": 1.0}, "freeze": "layer2"}, "'layer1' has no effect"),
        ({"freeze": "layer9"}, r"no layer 'layer9'.*conv1, bn1, layer1"),
        ({"freeze": "fc"}, "would freeze the classifier"),
    ],
)
def test_names_that_are_not_there_are_errors_that_list_the_stages(settings, said):
    network, settings = resnet(), TrainingConfig(**settings)
    with pytest.raises(ConfigError, match=said):
        frozen = frozen_part(network, settings.freeze, "frontal")
        network_groups(network, settings, "frontal", frozen.parameters)


def test_a_wrong_name_is_told_before_anything_is_read(tmp_path):
    images = Images(data()[0])
    with pytest.raises(ConfigError, match=r"no layer 'nowhere'.*frontal"):
        train(tmp_path, view(freeze="nowhere"), images)
    assert not images.asked


def test_a_frozen_part_ends_with_its_layer():
    network = resnet()
    frozen = frozen_part(network, "layer2", "frontal")
    names = {n for n, p in network.module.named_parameters() if not p.requires_grad}
    stages = {n.split(".")[0] for n in names}
    assert stages == {"conv1", "bn1", "layer1", "layer2"}
    network.module.train()
    frozen.keep_still()
    for name, module in network.module.named_modules():
        still = name.split(".")[0] in stages | {"relu", "maxpool"}
        assert module.training != still, name


def test_a_container_that_is_partly_fitted_stays_in_training_mode():
    module = nn.Sequential(
        OrderedDict(
            body=nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            fc=nn.Linear(4, 2),
        )
    )
    network = Network("made", module, "fc")
    frozen = frozen_part(network, "body.1", "frontal")
    module.train()
    frozen.keep_still()
    assert module.training
    assert module.body.training
    assert [child.training for child in module.body] == [False, False, True]
    assert [p.requires_grad for p in module.body.parameters()] == [False] * 4 + [True] * 2


def test_frozen_layers_and_their_statistics_stay_bit_for_bit(tmp_path):
    settings = {"head_epochs": 0, "learning_rate": 0.05}
    train(tmp_path / "first", view(epochs=0, **settings))
    train(tmp_path / "some", view(epochs=3, freeze="norm", monitor="loss", **settings))
    train(tmp_path / "none", view(epochs=3, monitor="loss", **settings))
    first, some, none = (
        load_file(tmp_path / n / "weights.safetensors") for n in ("first", "some", "none")
    )
    moved = {name for name in first if not torch.equal(first[name], some[name])}
    assert moved == {"fc.weight", "fc.bias"}
    moved = {name for name in first if not torch.equal(first[name], none[name])}
    assert {"norm.running_mean", "norm.num_batches_tracked"} <= moved
    assert any(name.startswith("body.") for name in moved)


def test_everything_but_the_head_can_be_frozen(tmp_path):
    result = train(tmp_path / "all", view(freeze="all", head_epochs=None, epochs=9))
    assert result.epochs_run == 5
    train(tmp_path / "first", view(epochs=0, head_epochs=0))
    one, two = (load_file(tmp_path / n / "weights.safetensors") for n in ("all", "first"))
    assert {n for n in one if not torch.equal(one[n], two[n])} == {"fc.weight", "fc.bias"}


class Plain(Net):
    """Neither batch norm nor dropout."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.Identity(), nn.Identity()


def plain():
    return Plain()


def test_a_step_in_parts_is_the_undivided_step(tmp_path):
    # SGD: AdamW would make whole steps of rounding errors where a gradient is next to nothing.
    settings = {"optimizer": "sgd", "learning_rate": 0.05, "epochs": 2, "head_epochs": 0}
    for parts in (1, 2, 4):
        train(tmp_path / str(parts), view("test_groups:plain", accumulate=parts, **settings))
    one, *others = (load_file(tmp_path / str(n) / "weights.safetensors") for n in (1, 2, 4))
    for other in others:
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-5, atol=1e-6)


def phase(**settings):
    pixels, truth = data()
    network = Network("net", net(), "fc")
    device = torch.device("cpu")
    task = Task(
        view(**settings), network, Images(pixels), labels(truth), TRAIN, INNER, torch.ones(2),
        0, device,
    )  # fmt: skip
    return NetworkPhase(task, 1)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 9])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_shares_hold_every_row_once_or_all_rows_in_every_process(rows, number, accumulate):
    step = np.random.default_rng(0).permutation(TRAIN)[:rows]
    shares = [
        share_of(phase(), step, Processes(rank, number), accumulate) for rank in range(number)
    ]
    own = [np.concatenate(share.parts) for share in shares]
    assert len({len(share.parts) for share in shares}) == 1
    if rows < number:
        assert all(part.tolist() == step.tolist() for part in own)
        assert all(share.copies == number and share.start == 0 for share in shares)
    else:
        assert np.concatenate(own).tolist() == step.tolist()
        for share, part in zip(shares, own, strict=True):
            assert step[share.start : share.start + len(part)].tolist() == part.tolist()
        firsts = [share.first for share in shares]
        assert firsts == [rank * len(shares[0].parts) for rank in range(number)]
    if number == 1 and rows > 1:
        assert all(len(part) > 1 for part in shares[0].parts)
