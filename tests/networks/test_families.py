"""The classifier of every family of torchvision is found, and what goes into it is captured."""

import gc

import pytest
import torch
from torchvision import models

from mvp.config import NetworkConfig
from mvp.networks import Capture, build, inference, restore, save_weights

# One small member of each, and the side of an image that it takes.
MEMBERS = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "swin_v2_t": 32,
    "vgg11": 32,
    "vit_b_32": 224,
    "wide_resnet50_2": 32,
}
# Of hundreds of megabytes, or seconds to build.
HEAVY = {"maxvit_t", "inception_v3", "vgg11", "vit_b_32", "wide_resnet50_2", "alexnet"}


# By the first of these that a name begins with.
FAMILIES = [
    "alexnet",
    "convnext",
    "densenet",
    "efficientnet_b",
    "efficientnet_v2",
    "googlenet",
    "inception",
    "maxvit",
    "mnasnet",
    "mobilenet_v2",
    "mobilenet_v3",
    "regnet_x",
    "regnet_y",
    "resnet",
    "resnext",
    "shufflenet",
    "squeezenet",
    "swin_v2",
    "swin_",
    "vgg",
    "vit",
    "wide_resnet",
]


def family(name):
    return next((f for f in FAMILIES if name.startswith(f)), name)


def assert_captured(name, size, outputs):
    """`auto` times the classifier's weights plus its bias are the network's logits."""
    torch.manual_seed(0)
    network = build(NetworkConfig(name=name), outputs)
    # Some begin with a classifier of zeros, which any features would fit.
    with torch.no_grad():
        torch.nn.init.normal_(network.head.weight, std=0.1)
        if network.head.bias is not None:
            torch.nn.init.normal_(network.head.bias)
    batch = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with inference(network), Capture(network) as capture:
        vector, logits = capture.with_logits(batch)
        head = network.head
        assert vector.shape == (1, network.width)
        torch.testing.assert_close(head(vector), logits, rtol=1e-4, atol=1e-4)
        assert float(vector.abs().max()) > 0
    assert capture.layer_name == f"{network.classifier}:input"


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in HEAVY else n for n in MEMBERS],
)
def test_one_member_of_each_family(name):
    assert_captured(name, MEMBERS[name], 3)


def test_no_family_is_left_out():
    assert {family(name) for name in models.list_models(module=models)} == {
        family(name) for name in MEMBERS
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", models.list_models(module=models))
def test_every_member(name):
    sizes = {f: MEMBERS[m] for m in MEMBERS for f in [family(m)]}
    assert_captured(name, sizes[family(name)], None)
    gc.collect()


def test_squeezenets_features_are_those_before_its_convolutional_classifier():
    torch.manual_seed(0)
    native = models.squeezenet1_1()
    network = build(NetworkConfig(name="squeezenet1_1"), None)
    native.load_state_dict(
        {
            n: v[..., None, None] if n == "classifier.1.weight" else v
            for n, v in network.module.state_dict().items()
        }
    )
    native.eval()
    batch = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with inference(network), Capture(network) as capture:
        vector, logits = capture.with_logits(batch)
        maps = native.features(batch)
        torch.testing.assert_close(vector, maps.mean((2, 3)))
        torch.testing.assert_close(logits, native.classifier[1](maps).mean((2, 3)))


def test_a_file_of_squeezenet_fits(tmp_path):
    torch.manual_seed(0)
    native = models.squeezenet1_1()
    path = tmp_path / "squeezenet.pt"
    torch.save(native.state_dict(), path)
    network = build(NetworkConfig(name="squeezenet1_1", weights=str(path)), None)
    state = network.module.state_dict()
    assert torch.equal(state["classifier.1.weight"], native.classifier[1].weight.flatten(1))
    assert build(NetworkConfig(name="squeezenet1_1", weights=str(path)), 2).outputs == 2
    other = models.squeezenet1_1(num_classes=4)
    torch.save(other.state_dict(), path)
    network = build(NetworkConfig(name="squeezenet1_1", weights=str(path)), 2)
    assert torch.equal(network.module.features[0].weight, other.features[0].weight)


def test_published_squeezenet_weights_reach_the_linear_classifier(monkeypatch):
    published = models.squeezenet1_1().state_dict()
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *a, **k: published
    )
    head = build(NetworkConfig(name="squeezenet1_1", weights="IMAGENET1K_V1"), None).head
    assert torch.equal(head.weight, published["classifier.1.weight"].flatten(1))
    assert torch.equal(head.bias, published["classifier.1.bias"])


@pytest.mark.parametrize(
    "name",
    ["mnasnet0_5", *(pytest.param(n, marks=pytest.mark.slow) for n in MEMBERS if n not in HEAVY)],
)
def test_what_is_saved_is_restored(name, tmp_path):
    torch.manual_seed(0)
    config = NetworkConfig(name=name)
    network = build(config, 3)
    path = tmp_path / "weights.safetensors"
    save_weights(network, path)
    files = [restore(config, 3, path), build(NetworkConfig(name=name, weights=str(path)), 3)]
    for again, whole in zip(files, (True, False), strict=True):
        state = again.module.state_dict()
        for key, value in network.module.state_dict().items():
            if whole or not key.startswith(network.classifier):
                assert torch.equal(state[key], value)
