import pytest
import torch

from mvp.config import NetworkConfig
from mvp.errors import ConfigError
from mvp.networks import Network, build, inference, load_weights, save_weights
from mvp.networks.sharing import share_stem


def net(name="small", outputs=3, seed=0):
    torch.manual_seed(seed)
    return build(NetworkConfig(name=name), outputs)


def pair(name="small", layer="stages.1", outputs=(3, 2)):
    networks = {v: net(name, o, s) for s, (v, o) in enumerate(zip("ab", outputs, strict=True))}
    return share_stem(networks, layer)


def images(number, size=16, seed=1):
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(seed))


CASES = [
    ("small", "stages.1", (3, 2)),
    ("small", "all", (3, 3)),
    ("lenet", "pool1", (2, 3)),
    ("odd_networks:Transformer", "encoder.layers.encoder_layer_0", (2, 3)),
    ("odd_networks:Transformer", "all", (2, 2)),
]


@pytest.mark.parametrize(("name", "layer", "outputs"), CASES)
def test_each_views_network_gives_what_the_shared_ones_give(name, layer, outputs):
    shared = pair(name, layer, outputs)
    batches = {"a": images(2, 32), "b": images(3, 32, seed=2)}
    with inference(shared.module):
        logits = shared.forward(batches)
        for view, batch in batches.items():
            alone = shared.networks[view].module(batch)
            assert alone.shape == (len(batch), shared.networks[view].outputs)
            torch.testing.assert_close(logits[view], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "layer", "outputs"), CASES)
def test_every_parameter_is_shared_or_a_views_own(name, layer, outputs):
    shared = pair(name, layer, outputs)
    parts = [shared.stem_parameters(), shared.tail_parameters("a"), shared.tail_parameters("b")]
    ids = [id(p) for part in parts for p in part]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in shared.module.parameters()}
    assert parts[0]
    assert bool(parts[1]) is bool(parts[2]) is (layer != "all")
    a, b = (dict(shared.networks[v].module.named_parameters()) for v in "ab")
    same = {n for n in a if a[n] is b[n]}
    assert {id(a[n]) for n in same} == {id(p) for p in parts[0]}


def test_batch_norm_of_the_stem_sees_all_views_at_once():
    shared = pair()
    shared.module.train()
    first = shared.networks["a"].module.stem[1]
    a, b = images(4), 3 * images(4, seed=2)
    seen = first.running_mean.clone()
    shared.forward({"a": a, "b": b})
    together = torch.cat([a, b])
    mean = shared.networks["a"].module.stem[0](together).mean((0, 2, 3))
    torch.testing.assert_close(first.running_mean, 0.9 * seen + 0.1 * mean)
    assert first is shared.networks["b"].module.stem[1]
    assert int(first.num_batches_tracked) == 1


def test_one_step_moves_the_stem_for_both_and_each_tail_by_its_own_view():
    shared = pair()
    shared.module.train()
    before = {n: p.clone() for n, p in shared.module.named_parameters()}
    optimizer = torch.optim.SGD(shared.module.parameters(), lr=0.1)
    shared.forward({"a": images(4)})["a"].square().sum().backward()
    optimizer.step()
    moved = {n for n, p in shared.module.named_parameters() if not torch.equal(p, before[n])}
    assert "a.stem.0.weight" in moved
    assert "a.fc.weight" in moved
    assert not any(n.startswith("b.") for n in moved)
    weights = [shared.networks[v].module.stem[0].weight for v in "ab"]
    assert weights[0] is weights[1]


def test_each_network_is_saved_and_restored_by_itself(tmp_path):
    shared = pair()
    path = tmp_path / "b.safetensors"
    save_weights(shared.networks["b"], path)
    alone = net(outputs=2, seed=9)
    load_weights(alone, path)
    with inference(alone), inference(shared.module):
        batch = images(2)
        assert torch.equal(alone.module(batch), shared.networks["b"].module(batch))


@pytest.mark.parametrize(("name", "layer", "outputs"), CASES)
def test_the_state_has_every_tensor_once_and_comes_back(name, layer, outputs):
    shared, other = pair(name, layer, outputs), pair(name, layer, outputs)
    state = {n: v.clone() for n, v in shared.module.state_dict().items()}
    total = sum(v.numel() for v in state.values())
    tensors = [*shared.module.parameters(), *shared.module.buffers()]
    assert total == sum(v.numel() for v in tensors)
    with torch.no_grad():
        for value in other.module.parameters():
            value.add_(1)
    other.module.load_state_dict(state)
    for view in "ab":
        loaded = other.networks[view].module.state_dict()
        for n, value in shared.networks[view].module.state_dict().items():
            assert torch.equal(loaded[n], value)


def test_a_state_that_lacks_something_is_not_taken():
    shared = pair()
    state = shared.module.state_dict()
    del state["a.stem.0.weight"]
    with pytest.raises(RuntimeError, match=r"a\.stem\.0\.weight"):
        shared.module.load_state_dict(state)


def test_moving_the_module_keeps_what_is_shared():
    shared = pair("odd_networks:Transformer", "encoder.layers.encoder_layer_0", (2, 2))
    shared.module.double()
    a, b = (shared.networks[v].module for v in "ab")
    assert a.class_token is b.class_token
    assert a.class_token.dtype == torch.float64
    with inference(shared.module):
        logits = shared.forward({"a": images(2, 32).double(), "b": images(1, 32).double()})
        torch.testing.assert_close(logits["b"], b(images(1, 32).double()))


@pytest.mark.parametrize(
    ("networks", "layer", "words"),
    [
        (lambda: {"a": net()}, "stem", "fewer than two views"),
        (lambda: {"a": net(), "b": net("lenet")}, "stem", "'small' and 'lenet'"),
        (lambda: {"a": net(outputs=2), "b": net(outputs=3)}, "all", r"'fc\.weight' is \(2, 128\)"),
        (lambda: {"a": net(), "b": net()}, "stages.9", "no layer 'stages.9'"),
        (lambda: {"a": net(), "b": net(outputs=3)}, "fc", "its classifier too"),
        (lambda: dict.fromkeys("ab", net()), "stem", "one network already"),
    ],
)
def test_networks_that_cannot_share_say_why(networks, layer, words):
    with pytest.raises(ConfigError, match=words):
        share_stem(networks(), layer)


def test_a_buffer_beside_the_stem_is_refused():
    def shifted(seed):
        network = net("odd_networks:Shifted", seed=seed)
        return Network("shifted", network.module, "fc")

    with pytest.raises(ConfigError, match="buffer 'shift' belongs to a module"):
        share_stem({"a": shifted(0), "b": shifted(1)}, "body")


def test_images_of_two_shapes_or_of_unknown_views_are_refused():
    shared = pair()
    with pytest.raises(ConfigError, match=r"transform\.size"):
        shared.forward({"a": images(2), "b": images(2, size=32)})
    with pytest.raises(ConfigError, match="no view 'c'"):
        shared.forward({"c": images(2)})
    with pytest.raises(ConfigError, match="no view's images"):
        shared.forward({})
