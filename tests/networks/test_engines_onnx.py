"""onnxruntime gives what the hooks give."""

import numpy as np
import onnx
import pytest
import torch
from odd_networks import Tiny, Tokens, Transformer

from mvp.config import ExtractConfig, NetworkConfig
from mvp.errors import ConfigError, MvpError
from mvp.networks import Capture, Network, build, inference
from mvp.networks.engines import exported, open_engine
from mvp.networks.engines.exported import exported as export

CPU = torch.device("cpu")
FAMILIES = [
    ("small", "auto", "avg", 32),
    ("lenet", "auto", "avg", 32),
    ("squeezenet1_1", "features", "avgmax", 32),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [
            ("resnet18", "auto", "avg", 64),
            ("resnet18", ["layer2", "layer4"], "avgmax", 64),
            ("densenet121", "auto", "avg", 64),
            ("densenet121", "features.denseblock3", "max", 64),
            ("mobilenet_v3_small", "auto", "avg", 64),
            ("efficientnet_b0", "auto", "avg", 64),
            ("convnext_tiny", "auto", "avg", 64),
            ("vit_b_16", "auto", "avg", 224),
            ("timm:tf_efficientnet_lite0", "auto", "avg", 64),
        ]
    ),
]


def images(number, size=16, channels=3):
    return torch.rand(number, channels, size, size, generator=torch.Generator().manual_seed(1))


def opened(network, config, example):
    return open_engine(network, config, ExtractConfig(engine="onnxruntime"), CPU, example)


def hooked(network, config, batch):
    with inference(network), Capture(network, config.layer, config.pooling) as capture:
        return capture(batch).numpy()


def require_equal(network, config, size=16):
    channels = network.channels
    with opened(network, config, images(2, size, channels)) as engine:
        assert engine.name == "onnxruntime"
        for rows in (1, 5, 32):
            batch = images(rows, size, channels)
            wanted, given = hooked(network, config, batch), engine(batch)
            assert given.dtype == np.float32
            assert given.shape == wanted.shape
            assert np.abs(given - wanted).max() <= 1e-4 * np.abs(wanted).max()
            assert np.array_equal(engine(batch), given)
            assert np.abs(engine(batch[:1]) - given[:1]).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(("name", "layer", "pooling", "size"), FAMILIES)
def test_every_family_agrees_in_batches_of_any_size(name, layer, pooling, size):
    torch.manual_seed(0)
    config = NetworkConfig(name=name, layer=layer, pooling=pooling)
    outputs = 3 if "auto" in config.layers else None
    network = build(config, outputs)
    # Fresh weights of a deep network give features that hardly differ between images.
    require_equal(network, config, size)


@pytest.mark.parametrize(
    ("module", "layer", "pooling"),
    [
        (Tiny, ["norm", "body", "auto"], "avg"),
        (Tiny, "body", "rows"),
        (Tiny, "body", "map"),
        (Tokens, "tokens", "map"),
        pytest.param(Tokens, "fc", "none", marks=pytest.mark.slow),
    ],
)
def test_layers_and_poolings(module, layer, pooling):
    torch.manual_seed(0)
    config = NetworkConfig(layer=layer, pooling=pooling)
    require_equal(Network("odd", module(), "fc"), config)


@pytest.mark.slow
def test_attention_is_exported():
    torch.manual_seed(0)
    require_equal(Network("vit", Transformer(), "heads.head"), NetworkConfig(), 32)


def nodes_and_weights(network, layer):
    model = onnx.load_from_string(export(network, NetworkConfig(layer=layer), images(2)))
    return len(model.graph.node), sum(int(np.prod(w.dims)) for w in model.graph.initializer)


def test_what_stands_behind_the_layer_is_not_exported():
    torch.manual_seed(0)
    network = Network("tiny", Tiny(8, 1000), "fc")
    whole, weights = nodes_and_weights(network, "fc")
    nodes, fewer = nodes_and_weights(network, "body")
    assert nodes < whole
    assert weights >= 9000
    assert fewer < 500


def test_the_module_is_left_as_it_was():
    module = Tiny().train()
    with opened(Network("tiny", module, "fc"), NetworkConfig(), images(1)) as engine:
        assert engine(images(3)).shape == (3, 8)
    assert module.norm.training
    assert not module.fc._forward_hooks
    assert module(images(2)).requires_grad


class Otherwise(Tiny):
    """Gives other features to whoever traces it."""

    def features(self, x):
        values = super().features(x)
        return values * 1.01 if torch.compiler.is_exporting() else values


class Nothing(Tiny):
    """Gives no number to whoever traces it."""

    def features(self, x):
        values = super().features(x)
        return values / torch.zeros(1) if torch.compiler.is_exporting() else values


class Forking(Tiny):
    """Goes by the values of its inputs, which no graph can follow."""

    def features(self, x):
        return super().features(x) if float(x.mean()) > 0 else x.mean((2, 3))


class Fixed(Tiny):
    """Is right for as many rows as it was traced with."""

    def features(self, x):
        rows = len(x)
        return super().features(x) + torch.ones(rows, 1)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [(Otherwise, "relative difference"), (Nothing, "NaN or inf"), (Forking, "")],
)
def test_other_numbers_and_failed_exports_are_refused(kind, cause):
    torch.manual_seed(0)
    network = Network("odd", kind(), "fc")
    with (
        pytest.raises(ConfigError, match=f"'odd' cannot run in onnxruntime.*{cause}.*= \"torch\""),
        opened(network, NetworkConfig(), images(2)),
    ):
        pass
    assert not network.head._forward_hooks


def test_networks_of_two_gigabytes_are_refused(monkeypatch):
    monkeypatch.setattr(exported, "LARGEST", 100)
    network = Network("odd", Tiny(), "fc")
    with pytest.raises(ConfigError, match="more than ONNX's 2 GB"):
        export(network, NetworkConfig(), images(2))


def test_a_batch_of_another_size_is_an_error():
    network = Network("odd", Tiny(), "fc")
    with opened(network, NetworkConfig(), images(2)) as engine:
        with pytest.raises(MvpError, match=r"onnxruntime failed on a batch of shape \(2, 3, 20"):
            engine(images(2, 20))
        assert engine(images(2)).shape == (2, 8)
