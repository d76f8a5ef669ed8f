"""The character network: what is padding must decide nothing."""

import pytest
import torch

from mvp.config import NetworkConfig, TextConfig
from mvp.config.network import ALPHABET
from mvp.data.text_preparation import TextPreparation
from mvp.networks import Capture, build_view, inference, load_weights, restore_view, save_weights
from mvp.networks.text import build_text


def config(**changes):
    return TextConfig(**{"length": 12, "embedding": 6, "channels": 5, "kernels": [1, 3], **changes})


def batch(*texts, **changes):
    preparation = TextPreparation(config(**changes))
    return torch.stack([preparation.prepare(text) for text in texts])


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = build_text(config(), 2)
    made.module.eval()
    return made


def features(network, texts):
    with Capture(network) as capture, inference(network):
        return capture(texts)


def test_features_are_the_pooled_activations_before_the_classifier(network):
    texts = batch("Anna", "Bo")
    seen = features(network, texts)
    assert seen.shape == (2, 10)
    with torch.no_grad():
        assert torch.allclose(network.head(seen), network.forward(texts))
        embedded = network.module.embedding(texts[1, :4]).T[None]  # start, B, o, end
        plain = torch.relu(network.module.convolutions[0](embedded)).amax(2)
    assert torch.allclose(seen[1, :5], plain[0], atol=1e-6)


def test_more_padding_changes_no_feature(network):
    short = features(network, batch("Bo", length=3))
    long = features(network, batch("Bo", length=200))
    assert torch.allclose(short, long, atol=1e-6)


def test_texts_of_a_batch_do_not_see_each_other(network):
    texts = ["Anna", "", "Bo", "a very long text that is cut off"]
    together = features(network, batch(*texts))
    alone = torch.cat([features(network, batch(text)) for text in texts])
    assert torch.allclose(together, alone, atol=1e-6)


def test_the_order_of_the_characters_matters(network):
    one, other = features(network, batch("abc", "cba"))
    assert not torch.allclose(one[5:], other[5:])
    assert torch.allclose(one[:5], other[:5], atol=1e-6)  # kernels of width one see no order


def test_weights_go_through_a_file(network, tmp_path):
    class View:
        kind, text, network = "text", config(), NetworkConfig(name="char-cnn")

    made = build_view(View, 2)
    save_weights(network, tmp_path / "w.safetensors")
    load_weights(made, tmp_path / "w.safetensors")
    texts = batch("Anna")
    restored = restore_view(View, 2, tmp_path / "w.safetensors")
    assert torch.equal(features(network, texts), features(made, texts))
    assert torch.equal(features(network, texts), features(restored, texts))


def test_every_number_of_the_preparation_has_an_embedding(network):
    strange = "".join(map(chr, [0x24F, 0x250, 0x4E00, 0x10FFFD]))
    texts = batch(strange)
    assert texts.max() < ALPHABET
    assert torch.isfinite(features(network, texts)).all()
