"""Several layers in one pass: their vectors side by side, in the order that was asked for."""

import pytest
import torch

from mvp.config import NetworkConfig, parse_config
from mvp.errors import ConfigError, MvpError
from mvp.networks import Capture, build, inference
from mvp.networks.weights import save_weights

TRANSFORMER = "odd_networks:Transformer"
CASES = [
    ("small", ["stages.1", "stages.3", "auto"]),
    ("resnet18", ["layer4", "layer3"]),
    ("resnet18", ["auto", "layer2.0", "fc"]),
    (TRANSFORMER, ["encoder.layers.encoder_layer_0", "conv_proj", "encoder", "auto"]),
]


def net(name, **settings):
    torch.manual_seed(0)
    return build(NetworkConfig(name=name, **settings), None)


def images(number=3):
    return torch.rand(number, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def features(network, layer, pooling="avg"):
    with inference(network), Capture(network, layer, pooling) as capture:
        return capture(images())


@pytest.mark.parametrize(("name", "layers"), CASES)
def test_several_layers_are_each_alone_side_by_side(name, layers):
    network = net(name)
    alone = [features(network, layer) for layer in layers]
    together = features(network, layers)
    assert together.shape == (3, sum(one.shape[1] for one in alone))
    assert together.is_contiguous()
    assert torch.equal(together, torch.cat(alone, 1))


@pytest.mark.parametrize("pooling", ["max", "avgmax"])
def test_every_layer_is_pooled_alike(pooling):
    network = net("resnet18")
    alone = [features(network, layer, pooling) for layer in ("layer3", "layer1")]
    assert torch.equal(features(network, ["layer3", "layer1"], pooling), torch.cat(alone, 1))


def test_vectors_of_several_layers_need_no_pooling():
    network = net("resnet18")
    expected = torch.cat([features(network, "fc"), features(network, "auto")], 1)
    assert torch.equal(features(network, ["fc", "auto"], "none"), expected)
    with pytest.raises(ConfigError, match="layer 'layer4' of network 'resnet18' gives"):
        features(network, ["auto", "layer4"], "none")
    with pytest.raises(ConfigError, match="layer 'fc' of network 'resnet18' gives"):
        features(network, ["layer4", "fc"], "max")


def test_one_forward_gives_every_layer_by_name_and_the_logits():
    network = net("resnet18")
    forwards = []
    network.module.register_forward_hook(lambda *_: forwards.append(1))
    with inference(network), Capture(network, ["layer4", "auto", "layer3"]) as capture:
        found = capture.separately(images())
        assert len(forwards) == 1
        assert list(found) == ["layer4:output", "fc:input", "layer3:output"]
        assert ",".join(found) == capture.layer_name
        joined, logits = capture.with_logits(images())
        assert len(forwards) == 2
        assert torch.equal(joined, torch.cat(list(found.values()), 1))
        assert torch.equal(capture(images()), joined)
    with inference(network):
        torch.testing.assert_close(network.head(found["fc:input"]), logits)


@pytest.mark.parametrize("pooling", ["rows", "map"])
def test_one_map_by_name(pooling):
    network = net("resnet18")
    with inference(network), Capture(network, ["layer3"], pooling) as capture:
        assert torch.equal(capture.separately(images())["layer3:output"], capture(images()))


def test_the_input_and_the_output_of_the_classifier_are_two_layers():
    network = net("small")
    with inference(network), Capture(network, ["auto", "fc"]) as capture:
        found = capture.separately(images())
        assert capture.layer_name == "fc:input,fc:output"
    with inference(network):
        assert torch.equal(network.head(found["fc:input"]), found["fc:output"])


def test_the_order_of_the_layers_is_part_of_the_name():
    network = net("resnet18")
    assert Capture(network, ["layer3", "layer4"]).layer_name == "layer3:output,layer4:output"
    assert Capture(network, ["layer4", "layer3"]).layer_name == "layer4:output,layer3:output"
    assert Capture(network, ["layer4"]).layer_name == Capture(network, "layer4").layer_name


@pytest.mark.parametrize(
    ("layers", "uses"),
    [
        (["auto", "layer4"], False),
        (["layer4", "fc"], True),
        (["fc", "layer4"], True),
        (["auto", "fc"], True),
    ],
)
def test_one_layer_that_uses_the_classifier_is_enough(layers, uses):
    assert Capture(net("resnet18"), layers).uses_classifier is uses


@pytest.mark.parametrize(
    ("layers", "pooling", "words"),
    [
        (["layer3", "layer3"], "avg", "names 'layer3' twice"),
        (["auto", "auto"], "avg", "names 'auto' twice"),
        ([], "avg", "no layer is named"),
        (["layer3", "layer_4"], "avg", "no layer 'layer_4'; near it: layer4"),
        (["layer3", "layer4"], "rows", "'rows' cannot be had of several layers"),
        (["layer3", "layer4"], "map", "'map' cannot be had of several layers"),
        (["layer3", "auto"], "max", "pooled by the network itself"),
    ],
)
def test_layers_that_cannot_be_taken_together(layers, pooling, words):
    with pytest.raises(ConfigError, match=words):
        Capture(net("resnet18"), layers, pooling)


@pytest.mark.parametrize(
    ("name", "layers", "words"),
    [
        ("resnet18", ["layer4", "layer1.0.relu"], r"layer 'layer1.0.relu' .* fired 2 times"),
        ("odd_networks:Twice", ["relu", "auto"], "layer 'relu' .* fired 2 times"),
        ("odd_networks:Tiny", ["norm", "unused"], "layer 'unused' .* fired 0 times"),
        ("odd_networks:Folded", ["auto", "body"], "layer 'body' .* gave 96 rows for 3 images"),
    ],
)
def test_the_error_names_the_layer_that_is_at_fault(name, layers, words):
    with pytest.raises(MvpError, match=words):
        features(net(name), layers)


def test_all_hooks_are_gone_afterwards():
    network = net("resnet18")

    def hooks():
        return sum(len(module._forward_hooks) for module in network.module.modules())

    with Capture(network, ["layer3", "layer4", "auto"]) as capture:
        assert hooks() == 3
        with pytest.raises(MvpError, match="already"):
            capture.__enter__()
    assert hooks() == 0
    with pytest.raises(ZeroDivisionError), capture:
        raise ZeroDivisionError
    assert hooks() == 0


def test_a_list_of_one_layer_means_its_bare_name():
    bare, listed = NetworkConfig(layer="layer4"), NetworkConfig(layer=["layer4"])
    assert bare == listed
    assert bare.model_dump(mode="json") == listed.model_dump(mode="json")
    assert bare.model_dump()["layer"] == "layer4"
    assert bare.layers == ["layer4"]


def test_several_layers_in_the_settings():
    config = NetworkConfig(layer=["layer4", "auto"])
    assert config.layers == ["layer4", "auto"]
    assert NetworkConfig.model_validate(config.model_dump()) == config
    assert config != NetworkConfig(layer=["auto", "layer4"])
    assert config.model_dump(mode="json")["layer"] == ["layer4", "auto"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("layer = []", "network.layer: should be the name of a layer, or a list"),
        ("layer = 3", "network.layer: should be the name of a layer, or a list"),
        ("layer = ['a', 3]", "network.layer: should be the name of a layer, or a list"),
        ("layer = ['a', 'b', 'a']", "network.layer: names 'a' twice"),
        ("layer = ['a', 'b']\npooling = 'map'", "network: pooling = 'map' takes one layer"),
    ],
)
def test_wrong_layers_in_the_settings_are_one_line(settings, says):
    text = f"[data]\ntable = 't'\n[views.a]\n[labels.b]\n[network]\n{settings}\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "mvp.toml")
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_view_may_name_other_layers():
    text = (
        "[data]\ntable = 't'\n[labels.b]\n[network]\nlayer = ['layer3', 'layer4']\n"
        "[views.a]\n[views.b.network]\nlayer = 'layer4'\npooling = 'rows'\n"
    )
    config = parse_config(text, "mvp.toml")
    assert config.view("a").network.layers == ["layer3", "layer4"]
    assert config.view("b").network.layers == ["layer4"]


def test_a_network_without_linear_classifier_has_no_auto_among_its_layers():
    with pytest.raises(ConfigError, match="no linear classifier"):
        net("odd_networks:ConvolutionLast", layer=["body", "auto"])
    network = net("odd_networks:ConvolutionLast", layer=["body", "last"])
    assert features(network, ["body", "last"]).shape == (3, 9)


def test_a_weights_file_without_classifier_is_refused_for_the_layer_that_needs_it(tmp_path):
    path = tmp_path / "body.safetensors"
    network = net("odd_networks:Tiny")
    del network.module.fc
    save_weights(network, path)
    name = {"name": "odd_networks:Tiny", "weights": str(path)}
    assert net(**name, layer=["norm", "auto"]).classifier == "fc"
    with pytest.raises(ConfigError, match="layer 'fc' depends on the classifier"):
        net(**name, layer=["norm", "fc"])
