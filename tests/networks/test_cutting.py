import pytest
import torch
from torch import nn

from mvp.config import NetworkConfig
from mvp.errors import ConfigError
from mvp.networks import Network, build, inference
from mvp.networks.split import split_at

CUTS = [
    ("resnet18", "layer2", 32),
    ("densenet121", "features.transition2", 32),
    ("mobilenet_v3_small", "features.4", 32),
    ("lenet", "pool2", 28),
    ("small", "stages.1", 32),
    ("odd_networks:Dropped", "body", 16),
    ("odd_networks:Transformer", "encoder.layers.encoder_layer_0", 32),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [
            ("efficientnet_b0", "features.3", 64),
            ("vit_b_32", "encoder.layers.encoder_layer_3", 224),
            ("swin_t", "features.3", 64),
            ("swin_v2_t", "features.3", 64),
            ("maxvit_t", "blocks.1", 224),
            ("convnext_tiny", "features.3", 64),
            ("shufflenet_v2_x0_5", "stage3", 64),
            ("googlenet", "inception4a", 64),
            ("inception_v3", "Mixed_5d", 96),
            ("squeezenet1_1", "features.6", 64),
            ("regnet_y_400mf", "trunk_output.block2", 64),
            ("mnasnet0_5", "layers.9", 64),
            ("vgg11", "features.5", 32),
            ("alexnet", "features.5", 64),
        ]
    ),
]


def net(name, outputs=3, seed=0):
    torch.manual_seed(seed)
    return build(NetworkConfig(name=name), outputs)


def images(number, size):
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(1))


def gradients(network):
    return {n: p.grad for n, p in network.module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "layer", "size"), CUTS)
def test_tail_after_stem_is_the_network(name, layer, size):
    network = net(name)
    stem, tail = split_at(network, layer)
    batch = images(2, size)
    with inference(network):
        assert torch.equal(tail(stem(batch)), network.module(batch))
    network.module.train()
    state = {n: v.clone() for n, v in network.module.state_dict().items()}
    found = []
    for run in (network.module, lambda x: tail(stem(x))):
        network.module.load_state_dict(state)
        network.module.zero_grad()
        torch.manual_seed(5)  # dropout and stochastic depth
        run(batch).square().sum().backward()
        found.append((gradients(network), network.module.state_dict()))
    (whole, after), (cut, after_cut) = found
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[n], cut[n]) for n in whole)
    assert all(torch.equal(after[n], after_cut[n]) for n in after)


@pytest.mark.parametrize(("name", "layer", "size"), CUTS[:7])
def test_every_parameter_is_the_networks_and_on_one_side(name, layer, size):
    network = net(name)
    sides = [{id(p) for p in part.parameters()} for part in split_at(network, layer)]
    own = {id(p) for n, p in network.module.named_parameters() if not n.startswith("unused")}
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == own


def test_the_sides_keep_the_networks_names():
    stem, tail = split_at(net("odd_networks:Transformer"), "encoder.layers.encoder_layer_0")
    assert {"class_token", "encoder.pos_embedding"} <= set(stem.state_dict())
    assert "heads.head.weight" in tail.state_dict()


def test_a_part_and_its_network_have_one_mode():
    network = net("odd_networks:Dropped")
    _, tail = split_at(network, "body")
    hidden = torch.rand(4, 8, 16, 16)

    def gives_the_same():
        return torch.equal(*[tail(hidden) for _ in range(2)])

    network.module.eval()
    assert gives_the_same()
    tail.train()
    assert not gives_the_same()
    with inference(network):
        assert gives_the_same()


def test_modes_are_left_as_they_were():
    network = net("resnet18")
    network.module.train()
    network.module.layer1.eval()
    split_at(network, "layer2")
    assert network.module.layer3.training
    assert not network.module.layer1[0].bn1.training


def test_moving_a_part_moves_the_network():
    network = net("odd_networks:Shifted")
    network.module.eval()
    stem, tail = split_at(network, "body")
    stem.double(), tail.double()
    assert network.module.shift.dtype == torch.float64
    batch = images(2, 8).double()
    assert torch.equal(tail(stem(batch)), network.module(batch))


class Values(nn.Module):
    """Decides by an image's values which way it goes."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        seen = self.body(x).mean((2, 3))
        return self.fc(seen if seen.sum() > 0 else -seen)


class Around(nn.Module):
    """Its convolution stands before and after the middle; the image comes in again at the end."""

    def __init__(self, again):
        super().__init__()
        self.body = nn.Conv2d(3, 3, 1)
        self.middle = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 2)
        self.again = again

    def forward(self, x):
        seen = self.middle(self.body(x))
        seen = self.body(seen) if self.again else seen + x
        return self.fc(seen.mean((2, 3)))


@pytest.mark.parametrize(
    ("module", "layer", "words"),
    [
        (Values(), "body", "cannot be followed"),
        (Around(True), "middle", "'body' is used before the layer's output and after it"),
        (Around(True), "body", "uses the layer 2 times"),
        (Around(False), "middle", "needs an earlier one"),
        (Around(False), "midle", "near it: middle"),
    ],
)
def test_a_network_that_cannot_be_cut_there_says_why(module, layer, words):
    with pytest.raises(ConfigError, match=words):
        split_at(Network("odd", module, "fc"), layer)


def test_a_block_with_a_shortcut_is_cut_at_its_end_only():
    with pytest.raises(ConfigError, match=r"needs an earlier one.*end of a block"):
        split_at(net("resnet18"), "layer2.0.conv1")
    with pytest.raises(ConfigError, match="0 times"):
        split_at(net("odd_networks:tiny"), "unused")
