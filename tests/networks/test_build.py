import importlib.util
import sys
import urllib.error

import pytest
import torch
from torch import nn
from torchvision import models

from mvp.config import NetworkConfig
from mvp.errors import ConfigError, MissingExtraError
from mvp.networks import build
from mvp.networks.network import last_linear

has_timm = importlib.util.find_spec("timm") is not None


def net(name, outputs=None, **settings):
    return build(NetworkConfig(name=name, **settings), outputs)


def test_the_head_is_replaced():
    network = net("resnet18", 3)
    assert (network.classifier, network.width, network.outputs) == ("fc", 512, 3)
    assert network.forward(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_the_native_head_stays_without_outputs():
    assert net("mobilenet_v3_small").outputs == 1000


def test_random_values_come_from_the_callers_seed():
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(net("odd_networks:tiny", 2).module.state_dict())
    assert all(torch.equal(made[0][n], made[1][n]) for n in made[0])
    assert not torch.equal(made[0]["fc.weight"], made[2]["fc.weight"])


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'densenet121'"):
        net("densnet121")


@pytest.mark.skipif(not has_timm, reason="the extra timm is not installed")
def test_timm_networks():
    network = net("timm:resnet18", 2)
    assert (network.classifier, network.outputs) == ("fc", 2)
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        net("timm:resnet_18")


@pytest.mark.skipif(not has_timm, reason="the extra timm is not installed")
def test_a_timm_network_without_classifier_gets_one():
    assert net("timm:resnet18").outputs == 1000
    network = net("timm:vit_small_patch14_dinov2", 2)
    assert (network.classifier, network.width) == ("head", 384)


def test_timm_that_is_absent_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"multiview-pipeline\[timm\]"):
        net("timm:resnet18")


def test_the_small_network():
    network = net("small", 3)
    network.module.eval()
    assert network.forward(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    with pytest.raises(ConfigError, match="no published weights"):
        net("small", weights="DEFAULT")


def test_lenet_learns_nothing_from_the_other_images_of_a_batch():
    network = net("lenet", 3)
    assert (network.classifier, network.width) == ("fc3", 84)
    assert not list(network.module.buffers())
    with pytest.raises(ConfigError, match="no published weights"):
        net("lenet", weights="DEFAULT")


@pytest.mark.parametrize("shape", [(12, 12), (14, 28), (28, 28), (65, 33), (224, 224)])
def test_lenet_takes_images_of_any_size(shape):
    network = net("lenet", 3)
    network.module.eval()
    assert network.forward(torch.rand(2, 3, *shape)).shape == (2, 3)


def test_lenet_begins_with_activations_of_mean_0_and_variance_1():
    torch.manual_seed(0)
    network = net("lenet", 200)
    seen = {}
    for name in ("selu3", "selu4"):
        layer = network.module.get_submodule(name)
        layer.register_forward_hook(lambda m, i, o, n=name: seen.update({n: o}))
    network.forward(torch.randn(256, 3, 28, 28))
    for value in map(torch.Tensor.detach, seen.values()):
        assert abs(float(value.mean())) < 0.3
        assert 0.4 < float(value.var()) < 1.6


def test_the_users_own_factory():
    assert net("odd_networks:tiny", 5).outputs == 5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module:tiny", "cannot be imported"),
        ("odd_networks:absent", "cannot be imported"),
        ("odd_networks:not_a_module", "not a torch.nn.Module"),
        ("odd_networks:failing", "no such GPU"),
    ],
)
def test_a_factory_that_fails_is_named(name, words):
    with pytest.raises(ConfigError, match=words):
        net(name)


def test_a_convolution_as_classifier_is_refused_unless_a_layer_is_named():
    with pytest.raises(ConfigError, match=r"no linear classifier.*network\.layer"):
        net("odd_networks:ConvolutionLast")
    with pytest.raises(ConfigError, match="no linear classifier"):
        net("odd_networks:ConvolutionLast", 2, layer="body")
    assert net("odd_networks:ConvolutionLast", layer="body").classifier is None


@pytest.mark.parametrize(
    "name", ["googlenet", pytest.param("inception_v3", marks=pytest.mark.slow)]
)
def test_auxiliary_outputs_are_gone_in_training(name):
    network = net(name, 2)
    network.module.train()
    assert network.forward(torch.rand(2, 3, 96, 96)).shape == (2, 2)
    assert network.module.transform_input


def test_an_unknown_published_set_lists_the_known():
    with pytest.raises(ConfigError, match="IMAGENET1K_V1"):
        net("resnet18", weights="IMAGENET_V1")
    with pytest.raises(ConfigError, match="no published weights"):
        net("odd_networks:tiny", weights="DEFAULT")


def test_a_failed_download_says_to_name_a_file(monkeypatch):
    def fail(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(ConfigError, match=r"no route to host.*network\.weights to its path"):
        net("resnet18", weights="DEFAULT")


def test_published_weights_are_loaded_before_the_head_is_replaced(monkeypatch):
    published = models.resnet18().state_dict()
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *a, **k: published
    )
    network = net("resnet18", 3, weights="IMAGENET1K_V1")
    assert torch.equal(network.module.conv1.weight, published["conv1.weight"])
    assert network.outputs == 3


def test_images_of_a_wrong_size_are_a_plain_error():
    with pytest.raises(ConfigError, match=r"vit_b_32.*transform\.size"):
        net("vit_b_32", 2).forward(torch.rand(1, 3, 64, 64))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
def test_every_torchvision_classifier_registers_its_linear_classifier_last():
    for name in models.list_models(module=models):
        if name.startswith("squeezenet"):  # made linear; see test_families.py
            continue
        builder = models.get_model_builder(name)
        # RegNet copies while building, which the meta device cannot; its large ones are alike.
        device = "cpu" if name.startswith("regnet") else "meta"
        if name.startswith("regnet") and "400mf" not in name:
            continue
        with torch.device(device):
            module = builder(weights=None)
        layer = module.get_submodule(last_linear(module))
        assert isinstance(layer, nn.Linear)
        assert layer.out_features == 1000, name
