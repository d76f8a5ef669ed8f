import pytest
import torch
from torch import nn

from mvp.config import NetworkConfig
from mvp.errors import ConfigError, MvpError
from mvp.networks import Capture, Network, build, inference

FAMILIES = [
    ("resnet18", "fc", 32),
    ("mobilenet_v3_small", "classifier.3", 32),
    ("efficientnet_b0", "classifier.1", 32),
    ("shufflenet_v2_x0_5", "fc", 32),
    ("densenet121", "classifier", 32),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [
            ("googlenet", "fc", 32),
            ("alexnet", "classifier.6", 64),
            ("vgg11", "classifier.6", 32),
            ("convnext_tiny", "classifier.2", 32),
            ("regnet_y_400mf", "fc", 32),
            ("vit_b_16", "heads.head", 224),
            ("swin_t", "head", 32),
            ("mnasnet0_5", "classifier.1", 32),
            ("inception_v3", "fc", 96),
            ("maxvit_t", "classifier.5", 224),
        ]
    ),
]


def odd(name, **settings):
    torch.manual_seed(0)
    return build(NetworkConfig(name=f"odd_networks:{name}", **settings), None)


def images(number, size=16):
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(1))


def features(network, batch, **settings):
    with inference(network), Capture(network, **settings) as capture:
        return capture(batch)


@pytest.mark.parametrize(("name", "classifier", "size"), FAMILIES)
def test_features_times_the_classifier_are_the_logits(name, classifier, size):
    torch.manual_seed(0)
    network = build(NetworkConfig(name=name), 3)
    batch = images(2, size)
    with inference(network):
        logits = network.module(batch)
        with Capture(network) as capture:
            vector = capture(batch)
    head = network.head
    assert capture.layer_name == f"{classifier}:input"
    assert vector.shape == (2, network.width)
    torch.testing.assert_close(vector @ head.weight.detach().T + head.bias.detach(), logits)


def test_batch_size_and_order_do_not_matter():
    torch.manual_seed(0)
    network = build(NetworkConfig(name="resnet18"), 2)
    batch = images(16, 32)
    whole = features(network, batch)
    one_by_one = torch.cat([features(network, batch[i : i + 1]) for i in range(16)])
    torch.testing.assert_close(one_by_one, whole, rtol=1e-5, atol=1e-5)
    order = torch.randperm(16)
    shuffled = features(network, batch[order])
    torch.testing.assert_close(shuffled, whole[order], rtol=1e-5, atol=1e-5)
    assert torch.equal(features(network, batch), whole)


def test_a_named_layer_is_pooled_over_space():
    network = odd("Tiny")
    batch = images(3)
    with inference(network):
        by_hand = network.module.norm(network.module.body(batch))
    assert torch.equal(features(network, batch, layer="norm"), by_hand.mean((2, 3)))
    assert torch.equal(features(network, batch, layer="norm", pooling="max"), by_hand.amax((2, 3)))
    assert Capture(network, "norm").layer_name == "norm:output"


def test_tokens_are_pooled_and_vectors_kept():
    network = odd("Tokens")
    batch = images(3)
    with inference(network):
        logits = network.module(batch)
    torch.testing.assert_close(features(network, batch, layer="tokens"), features(network, batch))
    assert torch.equal(features(network, batch, layer="fc"), logits)


def test_channels_that_stand_last_are_refused():
    with pytest.raises(ConfigError, match="channels stand last"):
        features(odd("Tokens"), images(2), layer="wide")


def test_a_later_in_place_layer_does_not_change_features():
    torch.manual_seed(0)
    network = build(NetworkConfig(name="densenet121"), 2)
    # The last batch norm gives negative values, and an in-place ReLU follows it.
    assert float(features(network, images(2, 32), layer="features").min()) < 0
    network = Network(
        "plain", nn.Sequential(nn.Flatten(), nn.Linear(768, 5), nn.ReLU(True), nn.Linear(5, 2)), "3"
    )
    assert float(features(network, images(4), layer="1").min()) < 0


def test_an_unknown_layer_names_the_nearest():
    with pytest.raises(ConfigError, match="near it: layer4"):
        Capture(build(NetworkConfig(name="resnet18"), 2), "layer_4")


def test_max_pooling_of_what_is_pooled_is_refused():
    with pytest.raises(ConfigError, match="pooled by the network itself"):
        Capture(odd("Tiny"), "auto", "max")


@pytest.mark.parametrize(("name", "layer", "times"), [("Twice", "relu", 2), ("Tiny", "unused", 0)])
def test_a_layer_that_fires_other_than_once_is_an_error(name, layer, times):
    with pytest.raises(MvpError, match=f"fired {times} times"):
        features(odd(name), images(2), layer=layer)


def test_a_layer_with_another_batch_size_is_an_error():
    with pytest.raises(MvpError, match="gave 32 rows for 2 images"):
        features(odd("Folded"), images(2), layer="body")


def test_a_last_linear_layer_that_is_not_the_classifier_is_an_error():
    with pytest.raises(ConfigError, match="not the network's classifier"):
        features(odd("GateLast"), images(2))


def test_only_inside_the_block_and_only_once():
    network = odd("Tiny")
    capture = Capture(network)
    with pytest.raises(MvpError, match="inside its `with` block"):
        capture(images(2))
    with capture, pytest.raises(MvpError, match="already"):
        capture.__enter__()
    with pytest.raises(MvpError, match="inside its `with` block"):
        capture(images(2))


def test_the_hook_is_gone_afterwards_also_after_an_exception():
    network = odd("Tiny")
    with Capture(network):
        assert len(network.head._forward_hooks) == 1
    assert not network.head._forward_hooks
    with pytest.raises(ZeroDivisionError), Capture(network):
        raise ZeroDivisionError
    assert not network.head._forward_hooks


def test_a_failed_forward_leaves_nothing_behind():
    network = odd("Tiny")
    with inference(network), Capture(network) as capture:
        with pytest.raises(ConfigError, match="cannot take a batch"):
            capture(torch.rand(2, 5, 16, 16))
        assert capture(images(2)).shape == (2, 8)


def test_a_module_shared_by_two_views_keeps_them_apart():
    network = odd("Tiny")
    frontal, lateral = images(4), 1 - images(4)
    with inference(network), Capture(network) as first, Capture(network) as second:
        a = first(frontal)
        b = second(lateral)
        network.module(lateral)  # a forward that nobody captures
        assert torch.equal(first(frontal), a)
    assert not torch.allclose(a, b)
    assert torch.equal(a, features(network, frontal))
    assert torch.equal(b, features(network, lateral))


def test_features_are_float32():
    network = odd("Tiny")
    network.module.double()
    assert features(network, images(2).double()).dtype == torch.float32


@pytest.mark.parametrize(
    ("layer", "uses"),
    [
        ("auto", False),
        ("features", False),
        ("classifier.5", False),
        ("classifier", True),
        ("classifier.6", True),
    ],
)
def test_whether_the_classifier_decides_the_features(layer, uses):
    with torch.device("meta"):
        network = build(NetworkConfig(name="alexnet"), 2)
    assert Capture(network, layer).uses_classifier is uses
