import pytest
import torch

from mvp.config import NetworkConfig, TransformConfig
from mvp.data.transforms import Transform
from mvp.errors import ConfigError
from mvp.networks import Capture, build, inference, restore, save_weights


def pair(name, size=32, outputs=3, **settings):
    """A network as it is for colour, the same folded for grey, and the transform."""
    transform = TransformConfig(size=size, **settings)
    config = NetworkConfig(name=name)
    made = []
    for one in (None, transform):
        torch.manual_seed(0)
        made.append(build(config, outputs, one))
    return (*made, Transform(transform))


def greys(number, size):
    return torch.rand(number, 1, size, size, generator=torch.Generator().manual_seed(1))


def features(network, transform, batch):
    with inference(network), Capture(network) as capture:
        return capture(transform.finish(batch, network.channels))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 32),
        pytest.param("densenet121", 32, marks=pytest.mark.slow),
        ("squeezenet1_1", 32),
        pytest.param("googlenet", 64, marks=pytest.mark.slow),
        ("lenet", 28),
        ("small", 33),
        ("odd_networks:Transformer", 32),
        pytest.param("inception_v3", 96, marks=pytest.mark.slow),
        pytest.param("swin_t", 64, marks=pytest.mark.slow),
        pytest.param("convnext_tiny", 64, marks=pytest.mark.slow),
        pytest.param("efficientnet_b0", 64, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("mean", [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]])
def test_a_folded_network_gives_what_three_repeated_channels_gave(name, size, mean):
    wide, folded, transform = pair(name, size, mean=mean)
    assert (wide.channels, folded.channels) == (3, 1)
    batch = greys(2, size)
    assert transform.finish(batch, 1).shape == (2, 1, size, size)
    whole = features(wide, transform, batch)
    scale = float(whole.abs().max())
    torch.testing.assert_close(
        features(folded, transform, batch), whole, rtol=1e-4, atol=1e-5 * scale
    )


def test_timms_padding_is_kept():
    pytest.importorskip("timm", reason="the extra timm is not installed")
    wide, folded, transform = pair("timm:tf_efficientnet_lite0", 64)
    assert folded.channels == 1
    batch = greys(2, 64)
    whole = features(wide, transform, batch)
    torch.testing.assert_close(features(folded, transform, batch), whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "StandardisedFirst",
        "SeesTheImageTwice",
        "TwoEyes",
        "LooksAgain",
        "ChangesTheImage",
        "Folded",
    ],
)
def test_a_network_that_cannot_be_folded_keeps_three_channels(name):
    wide, kept, transform = pair(f"odd_networks:{name}")
    assert kept.channels == 3
    state = kept.module.state_dict()
    assert all(torch.equal(v, state[n]) for n, v in wide.module.state_dict().items())
    batch = greys(2, 32)
    assert torch.equal(features(kept, transform, batch), features(wide, transform, batch))


def test_colour_keeps_three_channels():
    assert pair("small", color="rgb")[1].channels == 3


def test_an_image_size_that_does_not_fit_is_said_by_the_network():
    _, network, transform = pair("odd_networks:Transformer", size=24)
    with pytest.raises(ConfigError, match=r"transform\.size"):
        network.forward(transform.finish(greys(1, 24), network.channels))


def test_folding_leaves_modes_and_gradients_as_they_were():
    _, folded, transform = pair("small")
    assert all(m.training for m in folded.module.modules())
    assert all(p.requires_grad for p in folded.module.parameters())
    folded.forward(transform.finish(greys(4, 32), 1)).sum().backward()
    assert all(p.grad is not None for p in folded.module.parameters())


@pytest.mark.parametrize("mean", [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]])
@pytest.mark.parametrize("name", ["small", "odd_networks:TwoEyes"])
def test_what_was_folded_is_restored(tmp_path, name, mean):
    _, folded, transform = pair(name, 64, mean=mean)
    path = tmp_path / "weights.safetensors"
    save_weights(folded, path)
    torch.manual_seed(9)
    again = restore(NetworkConfig(name=name), 3, path, transform.config)
    assert again.channels == folded.channels
    batch = greys(2, 64)
    assert torch.equal(features(again, transform, batch), features(folded, transform, batch))


def test_weights_of_a_file_are_folded(tmp_path):
    wide, _, transform = pair("small", outputs=None)
    path = tmp_path / "wide.pt"
    torch.save(wide.module.state_dict(), path)
    torch.manual_seed(9)
    network = build(NetworkConfig(name="small", weights=str(path)), 3, transform.config)
    assert network.channels == 1
    batch = greys(2, 32)
    torch.testing.assert_close(
        features(network, transform, batch),
        features(wide, transform, batch),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("mean", [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]])
def test_weights_that_were_folded_before_are_taken_as_they_are(tmp_path, mean):
    _, folded, transform = pair("small", mean=mean)
    path = tmp_path / "trained.safetensors"
    save_weights(folded, path)
    torch.manual_seed(9)
    network = build(NetworkConfig(name="small", weights=str(path)), 2, transform.config)
    assert (network.channels, network.outputs) == (1, 2)
    batch = greys(2, 32)
    assert torch.equal(features(network, transform, batch), features(folded, transform, batch))


def test_chance_is_left_alone():
    states = []
    for one in (None, TransformConfig(size=32)):
        torch.manual_seed(0)
        build(NetworkConfig(name="small"), 3, one)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
