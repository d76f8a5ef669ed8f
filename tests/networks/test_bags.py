"""Bags: the classifier is trained on just what features of slices, reduced afterwards, are."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from mvp.config import NetworkConfig
from mvp.errors import ConfigError, MvpError
from mvp.networks import Capture, Network, build, inference
from mvp.networks.bags import BagReduction, forward_bags

COUNTS = [3, 1, 5, 2]


def slices(number=11, size=32, seed=0):
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(seed))


def reference(features, counts, how):
    parts = features.split(counts)
    return torch.stack([p.max(0).values if how == "max" else p.mean(0) for p in parts])


def hooks(network):
    return [h for m in network.module.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]


@pytest.mark.parametrize("how", ["max", "mean"])
@pytest.mark.parametrize("name", ["small", "resnet18", "densenet121", "efficientnet_b0"])
def test_features_of_slices_reduced_and_classified_are_the_forward_of_training(name, how):
    torch.manual_seed(0)
    network = build(NetworkConfig(name=name), 3)
    batch = slices()
    with inference(network), Capture(network) as capture:
        features = torch.cat([capture(part) for part in batch.split(4)])
    network.module.eval()
    logits = forward_bags(network, batch, COUNTS, how)
    assert logits.shape == (4, 3)
    with torch.no_grad():
        expected = network.head(reference(features, COUNTS, how))
    torch.testing.assert_close(logits.detach(), expected, rtol=1e-5, atol=1e-5)
    assert not hooks(network)


@pytest.mark.parametrize("how", ["max", "mean"])
@pytest.mark.parametrize("step", [1, 2, 4, 100])
def test_a_reduction_does_not_depend_on_how_the_slices_come(how, step):
    features = torch.randn(11, 7, generator=torch.Generator().manual_seed(1)) - 5
    bags = BagReduction(COUNTS, how)
    for part in features.split(step):
        bags.add(part)
    torch.testing.assert_close(bags.features(), reference(features, COUNTS, how))


def test_a_reduction_of_fewer_or_more_slices_than_said_is_an_error():
    bags = BagReduction([2, 2], "max")
    bags.add(torch.ones(3, 1))
    with pytest.raises(MvpError, match="for 1 whole bags, not for 2"):
        bags.features()
    with pytest.raises(MvpError, match="more inputs than the 4"):
        bags.add(torch.ones(2, 1))


def test_a_bag_of_one_is_its_only_slice():
    torch.manual_seed(0)
    network = build(NetworkConfig(name="small"), 2)
    network.module.eval()
    batch = slices(3)
    torch.testing.assert_close(
        forward_bags(network, batch, [1, 1, 1], "max"), network.forward(batch), rtol=0, atol=0
    )


def test_gradients_reach_the_slices_that_won_and_no_other():
    network = Network("flat", nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), "1")
    batch = slices(4, 2).requires_grad_()
    forward_bags(network, batch, [3, 1], "max").sum().backward()
    gradient = batch.grad.flatten(1)
    best = batch.detach().flatten(1)[:3].argmax(0)
    assert all((gradient[:3, i] != 0).nonzero().flatten().tolist() == [best[i]] for i in range(12))
    assert (gradient[3] != 0).all()
    batch.grad = None
    forward_bags(network, batch, [3, 1], "mean").sum().backward()
    torch.testing.assert_close(batch.grad[0], batch.grad[3] / 3)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("between", [[], [nn.Identity()]])
def test_dropout_before_the_classifier_takes_whole_features_of_a_volume(inplace, between):
    """Drawn for each slice, a maximum of many would hardly ever be dropped, and twice as large."""
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5, inplace), *between, nn.Linear(12, 12))
    last = str(len(module) - 1)
    with torch.no_grad():
        module[-1].weight.copy_(torch.eye(12))
        module[-1].bias.zero_()
    network = Network("dropping", module.train(), last)
    torch.manual_seed(0)
    seen = forward_bags(network, torch.ones(200, 3, 2, 2), [20] * 10, "max")
    assert set(seen.unique().tolist()) == {0.0, 2.0}
    assert 0.3 < float((seen == 0).float().mean()) < 0.7
    assert len({tuple(row.tolist()) for row in seen}) == 10
    module.eval()
    seen = forward_bags(network, torch.ones(200, 3, 2, 2), [20] * 10, "max")
    assert torch.equal(seen, torch.ones(10, 12))


def test_a_dropout_elsewhere_is_drawn_for_every_slice():
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.ReLU(), nn.Linear(12, 12))
    with torch.no_grad():
        module[-1].weight.copy_(torch.eye(12))
        module[-1].bias.zero_()
    network = Network("dropping", module.train(), "3")
    seen = forward_bags(network, torch.ones(60, 3, 2, 2), [60], "max")
    assert (seen == 2).all()


def test_hooks_are_gone_after_an_error():
    torch.manual_seed(0)
    network = build(NetworkConfig(name="small"), 2)
    for batch, counts in ((torch.rand(2, 1, 32, 32), [2]), (slices(4), [3])):
        with pytest.raises(ConfigError):
            forward_bags(network, batch, counts, "max")
        assert not hooks(network)


class _Twice(nn.Module):
    def __init__(self, times):
        super().__init__()
        self.times, self.fc = times, nn.Linear(12, 12)

    def forward(self, x):
        x = x.flatten(1)
        for _ in range(self.times):
            x = self.fc(x)
        return x


@pytest.mark.parametrize("times", [0, 2])
def test_a_classifier_used_other_than_once_is_refused(times):
    network = Network("odd", _Twice(times), "fc")
    with pytest.raises(MvpError, match=r"frozen") as caught:
        forward_bags(network, slices(4, 2), [2, 2], "max")
    assert "odd" in str(caught.value)


def test_a_classifier_of_maps_is_refused():
    class Map(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x):
            return functional.relu(self.fc(x)).mean((1, 2))

    with pytest.raises(ConfigError, match="not one vector"):
        forward_bags(Network("map", Map(), "fc"), slices(4, 2), [2, 2], "max")
