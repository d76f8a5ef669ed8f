"""`extract.compile`: the same features, one kernel for all batches."""

from functools import partial

import numpy as np
import pytest
import torch
from odd_networks import Tiny
from torch._dynamo.utils import counters

from mvp.config import ExtractConfig, NetworkConfig
from mvp.errors import ConfigError
from mvp.networks import Capture, Network, build, inference
from mvp.networks.engines import open_engine

CPU = torch.device("cpu")


def images(number, size=16, channels=3):
    return torch.rand(number, channels, size, size, generator=torch.Generator().manual_seed(1))


def opened(network, config=None, batch_size=8, example=None, **settings):
    settings = ExtractConfig(compile=True, batch_size=batch_size, **settings)
    example = images(2, channels=network.channels) if example is None else example
    return open_engine(network, config or NetworkConfig(), settings, CPU, example)


def hooked(network, batch, config=None):
    config = config or NetworkConfig()
    with inference(network), Capture(network, config.layer, config.pooling) as capture:
        return capture(batch).numpy()


@pytest.fixture
def traced(monkeypatch):
    """Without the kernels, which take a compiler half a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch.compiler.reset()
    counters.clear()


def tiny(kind=Tiny, width=8):
    torch.manual_seed(0)
    return Network("tiny", kind(width).eval(), "fc")


@pytest.mark.parametrize(("layer", "pooling"), [("auto", "avg"), (["norm", "body"], "avgmax")])
def test_features_are_those_of_the_hook(traced, layer, pooling):
    network, config = tiny(), NetworkConfig(layer=layer, pooling=pooling)
    with opened(network, config) as engine:
        for rows in (1, 5, 8, 21):
            given, wanted = engine(images(rows)), hooked(network, images(rows), config)
            assert given.shape == wanted.shape
            assert np.abs(given - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert counters["stats"]["unique_graphs"] == 1
    assert not network.head._forward_hooks


def test_a_row_is_the_same_whatever_stands_beside_it(traced):
    with opened(tiny()) as engine:
        whole = engine(images(21))
        one_by_one = np.concatenate([engine(images(21)[i : i + 1]) for i in range(21)])
    assert np.array_equal(one_by_one, whole)


def test_many_networks_at_a_time_are_all_compiled(traced):
    networks = [tiny(width=width) for width in range(2, 14)]
    contexts = [opened(network) for network in networks]
    engines = [context.__enter__() for context in contexts]
    for network, engine in zip(networks, engines, strict=True):
        np.testing.assert_allclose(engine(images(4)), hooked(network, images(4)), rtol=1e-4)
    assert counters["stats"]["unique_graphs"] == 12
    for context in contexts:
        context.__exit__(None, None, None)


class Breaking(Tiny):
    """Leaves the graph in the middle."""

    def features(self, x):
        torch._dynamo.graph_break()
        return super().features(x)


class Otherwise(Tiny):
    """Gives other features when it is compiled."""

    def features(self, x):
        values = super().features(x)
        return values * 1.01 if torch.compiler.is_compiling() else values


@pytest.mark.parametrize(
    ("kind", "cause"), [(Breaking, "Unsupported"), (Otherwise, "relative difference")]
)
def test_what_cannot_be_compiled_whole_is_refused(traced, kind, cause):
    network = tiny(kind)
    with (
        pytest.raises(ConfigError, match=f"cannot be compiled.*{cause}.*extract.compile = false"),
        opened(network),
    ):
        pass
    assert not network.head._forward_hooks


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "layer", "pooling"),
    [
        ("resnet18", "auto", "avg"),
        ("squeezenet1_1", "features", "avgmax"),
        ("small", "auto", "avg"),
    ],
)
def test_real_networks_through_the_compiler(name, layer, pooling, precision):
    torch.manual_seed(0)
    config = NetworkConfig(name=name, layer=layer, pooling=pooling)
    network = build(config, None)
    batch = images(11, 64, network.channels)
    wanted = hooked(network, batch, config)
    with opened(network, config, example=batch[:2], precision=precision) as engine:
        gap = np.abs(engine(batch) - wanted).max() / np.abs(wanted).max()
        assert np.array_equal(engine(batch), engine(batch))
    assert gap < (1e-4 if precision == "float32" else 3e-2)
