"""Each pooling against the same numbers by hand, on maps, tokens and vectors."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mvp.config import NetworkConfig
from mvp.errors import ConfigError
from mvp.networks import Capture, build, inference
from mvp.networks.pooling import POOLINGS, pooled

# Network, layer that gives a map, its shape of one image of 64 x 48 pixels.
MAPS = [
    ("small", "stages.1", (32, 16, 12)),
    ("small", "stages.3", (128, 4, 3)),
    ("resnet18", "layer3", (256, 4, 3)),
    ("resnet18", "layer4", (512, 2, 2)),
]
TRANSFORMER = "odd_networks:Transformer"
BY_HAND = {
    "avg": lambda m: m.mean((2, 3)),
    "max": lambda m: m.max((2, 3)),
    "avgmax": lambda m: np.concatenate([m.mean((2, 3)), m.max((2, 3))], 1),
    "rows": lambda m: m.mean(3),
    "map": lambda m: m,
}
WIDTHS = {
    "avg": lambda c, h, w: (c,),
    "max": lambda c, h, w: (c,),
    "avgmax": lambda c, h, w: (2 * c,),
    "rows": lambda c, h, w: (c, h),
    "map": lambda c, h, w: (c, h, w),
}


def net(name):
    torch.manual_seed(0)
    return build(NetworkConfig(name=name), None)


def images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def features(network, batch, layer, pooling):
    with inference(network), Capture(network, layer, pooling) as capture:
        return capture(batch)


def walk(module, name, x):
    """What a layer of the small CNN or a ResNet gives, one step after the other."""
    if hasattr(module, "stages"):
        steps = [module.stem, *module.stages[: int(name[-1]) + 1]]
    else:
        steps = [module.conv1, module.bn1, torch.relu, module.maxpool]
        steps += [getattr(module, f"layer{i}") for i in range(1, int(name[-1]) + 1)]
    for step in steps:
        x = step(x)
    return x


@pytest.mark.parametrize("pooling", BY_HAND)
@pytest.mark.parametrize(("name", "layer", "shape"), MAPS)
def test_a_map_is_pooled_as_by_hand(name, layer, shape, pooling):
    network = net(name)
    batch = images(3, 3, 64, 48)
    with inference(network):
        given = walk(network.module, layer, batch).double().numpy()
    assert given.shape == (3, *shape)
    found = features(network, batch, layer, pooling)
    assert found.shape == (3, *WIDTHS[pooling](*shape))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), BY_HAND[pooling](given), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("pooling", "by_hand"),
    [
        ("avg", lambda t: t.mean(1)),
        ("max", lambda t: t.max(1)),
        ("avgmax", lambda t: np.concatenate([t.mean(1), t.max(1)], 1)),
        ("map", lambda t: t),
    ],
)
def test_tokens_are_pooled_as_by_hand(pooling, by_hand):
    network = net(TRANSFORMER)
    module, batch = network.module, images(3, 3, 32, 32)
    with inference(network):
        patches = module.conv_proj(batch).flatten(2).transpose(1, 2)
        tokens = module.encoder(torch.cat([module.class_token.expand(3, -1, -1), patches], 1))
    assert tokens.shape == (3, 17, 12)
    found = features(network, batch, "encoder.ln", pooling)
    np.testing.assert_allclose(
        found.numpy(), by_hand(tokens.double().numpy()), rtol=1e-5, atol=1e-6
    )
    assert found.is_contiguous()
    # The classifier sees the class token alone, which `map` keeps first.
    if pooling == "map":
        assert torch.equal(found[:, 0], features(network, batch, "auto", "none"))


def test_the_classifiers_input_is_the_mean_of_the_last_map():
    for name, layer in [("small", "stages.3"), ("resnet18", "layer4")]:
        network, batch = net(name), images(3, 3, 64, 48)
        auto = features(network, batch, "auto", "avg")
        assert torch.equal(features(network, batch, "auto", "none"), auto)
        whole = features(network, batch, layer, "map")
        torch.testing.assert_close(whole.mean((2, 3)), auto)
        torch.testing.assert_close(features(network, batch, layer, "rows").mean(2), auto)


def test_vectors_are_kept_by_avg_and_none_alone():
    network, batch = net("resnet18"), images(2, 3, 32, 32)
    with inference(network):
        logits = network.module(batch)
    for pooling in ("avg", "none"):
        assert torch.equal(features(network, batch, "fc", pooling), logits)
    for pooling in set(POOLINGS) - {"avg", "none"}:
        with pytest.raises(ConfigError, match=r"'fc'.*\(2, 1000\).*no places.*Remedy.*\"none\""):
            features(network, batch, "fc", pooling)


@pytest.mark.parametrize("pooling", ["max", "avgmax", "rows", "map"])
def test_the_classifiers_input_was_pooled_already(pooling):
    for layer in ("auto", ["auto"]):
        with pytest.raises(ConfigError, match="pooled by the network itself"):
            Capture(net("small"), layer, pooling)


@pytest.mark.parametrize(
    ("name", "layer", "pooling", "words"),
    [
        ("small", "stages", "none", r"\(2, 128, 2, 2\).*'none'.*no vector.*Remedy.*\"avg\""),
        (TRANSFORMER, "encoder", "none", r"\(2, 17, 12\).*no single vector.*Remedy.*\"avg\""),
        (TRANSFORMER, "encoder", "rows", r"\(2, 17, 12\).*stand in no rows.*Remedy.*\"avg\""),
    ],
)
def test_what_a_pooling_cannot_take_is_refused_with_a_remedy(name, layer, pooling, words):
    with pytest.raises(ConfigError, match=words) as caught:
        features(net(name), images(2, 3, 32, 32), layer, pooling)
    assert str(caught.value).isprintable()


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ConfigError, match=r"no pooling 'sum'.*avgmax"):
        Capture(net("small"), "stem", "sum")


@pytest.mark.parametrize("pooling", BY_HAND)
def test_a_later_in_place_layer_overwrites_nothing(pooling):
    network, batch = net("small"), images(2, 3, 32, 32)
    stem = network.module.stem
    with inference(network):
        given = stem[1](stem[0](batch)).double().numpy()
    assert given.min() < 0  # The ReLU that follows writes zeros here.
    found = features(network, batch, "stem.1", pooling)
    np.testing.assert_allclose(found.numpy(), BY_HAND[pooling](given), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_features_are_copies_in_order_whatever_the_memory_format(pooling):
    for value in (torch.rand(2, 5, 4, 3), torch.rand(2, 7, 5), torch.rand(2, 5)):
        shuffled = value.transpose(1, -1).contiguous().transpose(1, -1)
        for one in (value, shuffled, value.double(), value.clone().requires_grad_()):
            try:
                found = pooled(one, pooling, "layer 'x'")
            except ConfigError:
                continue
            before = found.clone()
            one.detach().fill_(-1)
            assert torch.equal(found, before)
            assert found.is_contiguous()
            assert found.dtype == torch.float32
            assert not found.requires_grad


def test_channels_last_changes_neither_numbers_nor_order():
    network, batch = net("resnet18"), images(2, 3, 64, 48)
    plain = {p: features(network, batch, "layer3", p) for p in BY_HAND}
    network.module.to(memory_format=torch.channels_last)
    batch = batch.contiguous(memory_format=torch.channels_last)
    for pooling, expected in plain.items():
        found = features(network, batch, "layer3", pooling)
        assert found.is_contiguous()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_every_pooling_is_in_the_settings_and_in_their_documentation():
    for pooling in POOLINGS:
        assert NetworkConfig(layer="layer4", pooling=pooling).pooling == pooling
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    row = re.search(r"^\| `pooling` .*$", text, re.M).group()
    assert set(re.findall(r'`"(\w+)"`', row)) == {*POOLINGS, "auto"}
    assert "a list" in re.search(r"^\| `layer` .*$", text, re.M).group()
