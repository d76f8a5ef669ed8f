import importlib.util
import sys

import pytest
import torch
from torchvision import models

from mvp.config import NetworkConfig
from mvp.errors import ConfigError, MissingExtraError
from mvp.networks import Capture, build, inference
from mvp.networks.listing import list_layers, list_networks, sketch

needs_timm = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="the extra timm is not installed"
)


def test_all_of_torchvision_and_our_own_are_there():
    names = {n.name for n in list_networks()}
    assert names == {"small", "lenet", *models.list_models(module=models)}


def test_published_sets_and_parameters():
    (resnet,) = list_networks("ResNet18")
    assert resnet.weights == ("IMAGENET1K_V1", "DEFAULT")
    assert (resnet.features, resnet.parameters) == (None, 11_689_512)


def test_sizes_are_the_networks_own():
    found = {n.name: n for n in list_networks("squeezenet", sizes=True)}
    assert found["squeezenet1_1"].features == 512
    assert found["squeezenet1_1"].parameters == 1_235_496
    (lenet,) = [n for n in list_networks("lenet", sizes=True) if n.name == "lenet"]
    real = build(NetworkConfig(name="lenet"), None)
    assert lenet.parameters == sum(p.numel() for p in real.module.parameters())


@pytest.mark.parametrize("name", ["resnet18", "regnet_y_400mf", "swin_t", "googlenet", "lenet"])
def test_sizes_cost_no_memory(name):
    assert all(p.is_meta for p in sketch(name).module.parameters())


@pytest.mark.slow
def test_every_network_of_torchvision_has_a_width():
    assert all(n.features for n in list_networks(sizes=True))


@needs_timm
def test_timm_is_listed_when_asked_for():
    (found,) = list_networks("timm:tf_efficientnet_lite0")
    assert found.weights == ("in1k",)
    assert not any(n.name.startswith("timm:") for n in list_networks("efficientnet"))
    both = {n.name for n in list_networks("efficientnet_b0", timm=True)}
    assert {"efficientnet_b0", "timm:efficientnet_b0"} <= both
    (sized,) = list_networks("timm:resnet10t", sizes=True)
    assert (sized.features, sized.weights) == (512, ("c3_in1k",))


def test_timm_that_is_absent_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"multiview-pipeline\[timm\]"):
        list_networks(timm=True)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("small", 32),
        ("lenet", 28),
        ("odd_networks:Twice", 16),
        pytest.param("shufflenet_v2_x0_5", 64, marks=pytest.mark.slow),
        pytest.param("swin_t", 64, marks=pytest.mark.slow),
    ],
)
def test_every_listed_layer_can_be_captured_with_this_shape(name, size):
    network = build(NetworkConfig(name=name), None)
    batch = torch.rand(2, 3, size, size)
    layers = list_layers(name, size)
    assert layers[0].name == "auto"
    listed = {layer.name for layer in layers}
    for layer in layers:
        pooling = "avg" if layer.name == "auto" or len(layer.shape) == 1 else "map"
        with inference(network), Capture(network, layer.name, pooling) as capture:
            assert capture(batch).shape[1:] == layer.shape
    for other in {n for n, _ in network.module.named_modules() if n} - listed:
        with (
            pytest.raises(Exception, match=r"fired|gives|gave"),
            inference(network),
            Capture(network, other) as capture,
        ):
            capture(batch)


def test_channels_that_stand_last_are_not_listed():
    listed = {layer.name for layer in list_layers("odd_networks:Tokens", 16)}
    assert "tokens" in listed
    assert "wide" not in listed


def test_a_network_that_needs_values_is_built_in_earnest():
    assert list_layers("odd_networks:LooksAtValues", 16)[0].shape == (8,)
    assert list_layers("odd_networks:NeedsValuesToBeBuilt", 16)[0].shape == (8,)


def test_what_does_not_exist_or_fit_is_said():
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        list_layers("resnt18")
    with pytest.raises(ConfigError, match="cannot take a batch of shape"):
        list_layers("lenet", 3)
