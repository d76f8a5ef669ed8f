"""Extraction: what is cached is what a plain forward pass gives, computed once."""

import numpy as np
import pytest
import torch
from PIL import Image

from mvp.config import AugmentConfig, ExtractConfig, NetworkConfig, TransformConfig
from mvp.data.augment import Augmentation
from mvp.data.readers import Limits, read_image
from mvp.data.transforms import Transform
from mvp.errors import MvpError
from mvp.features import FeatureStore, row_id
from mvp.files import digest_file
from mvp.networks import build
from mvp.stages.extract import extract, feature_key

NETWORK = NetworkConfig(name="small")
TRANSFORM = Transform(TransformConfig(size=32))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = build(NETWORK, 3)
    # Statistics as after training: fresh batch norm would hide a network in training mode.
    for module in made.module.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    made.module.eval()
    return made


@pytest.fixture
def images(tmp_path):
    """Digest to file of 16 asymmetric films of different sizes."""
    rng = np.random.default_rng(0)
    found = {}
    for i in range(16):
        pixels = rng.integers(0, 256, (30 + i, 40), dtype=np.uint8)
        path = tmp_path / f"{i}.png"
        Image.fromarray(pixels).save(path)
        found[digest_file(path)] = str(path)
    return found


def run(network, images, folder, *, batch=8, unit=1024, workers=2, transform=TRANSFORM, **kwargs):
    key = feature_key("frontal", network, NETWORK, transform, kwargs.pop("dtype", "float32"))
    store = FeatureStore(folder).open(key)
    result = extract(
        network,
        NETWORK,
        transform,
        images,
        store,
        settings=ExtractConfig(batch_size=batch, unit_rows=unit),
        limits=Limits(),
        device=torch.device("cpu"),
        workers=workers,
        progress=False,
        **kwargs,
    )
    return store, result


def read(store, images):
    return store.read([row_id(digest) for digest in images])


def plain_forward(network, images):
    """Without hooks, batches, stores or threads: one image at a time through the body."""
    body = torch.nn.Sequential(*list(network.module.children())[:-1], torch.nn.Flatten())
    rows = []
    with torch.no_grad():
        for file in images.values():
            batch = TRANSFORM.finish(TRANSFORM.prepare(read_image(file))[None])
            rows.append(body(batch)[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_cached_features_equal_a_plain_forward_pass(network, images, tmp_path, batch):
    store, result = run(network, images, tmp_path / "c", batch=batch, unit=5)
    assert result.forward_passes == result.rows == 16
    np.testing.assert_allclose(read(store, images), plain_forward(network, images), atol=1e-5)


def test_order_and_workers_change_no_bit_and_batch_size_only_the_last_ones(
    network, images, tmp_path
):
    shuffled = dict(sorted(images.items()))
    base = read(run(network, images, tmp_path / "a", batch=16)[0], images)
    other = read(run(network, shuffled, tmp_path / "b", batch=16, workers=1)[0], images)
    four = read(run(network, shuffled, tmp_path / "c", batch=16, workers=4)[0], images)
    ones = read(run(network, images, tmp_path / "d", batch=1)[0], images)
    assert (base == other).all()
    assert (base == four).all()
    np.testing.assert_allclose(base, ones, atol=1e-5)


def test_a_second_run_makes_no_forward_pass_and_a_new_image_only_its_own(
    network, images, tmp_path, monkeypatch
):
    some = dict(list(images.items())[:10])
    run(network, some, tmp_path / "c")
    forwards = []
    forward = type(network).forward
    monkeypatch.setattr(
        type(network), "forward", lambda self, x: (forwards.append(len(x)), forward(self, x))[1]
    )
    _, again = run(network, some, tmp_path / "c")
    assert forwards == []
    assert (again.rows, again.forward_passes, again.cached) == (10, 0, 10)
    _, more = run(network, images, tmp_path / "c")
    assert sum(forwards) == more.forward_passes == 6
    assert more.cached == 10


def test_the_linear_head_sees_the_same_loss_live_and_cached(network, images, tmp_path):
    store, _ = run(network, images, tmp_path / "c")
    labels = (torch.arange(16)[:, None] % torch.tensor([2, 3, 5]) == 0).float()
    batch = torch.stack([TRANSFORM.prepare(read_image(f)) for f in images.values()])
    with torch.no_grad():
        live = network.module(TRANSFORM.finish(batch))
    cached = network.head(torch.from_numpy(read(store, images)))
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    assert abs(loss(live, labels) - loss(cached, labels)) < 1e-6


def test_nothing_random_can_touch_the_images(network, images, tmp_path):
    with pytest.raises(TypeError, match="nothing random"):
        run_with(network, images, tmp_path, Augmentation(AugmentConfig()))


def run_with(network, images, folder, transform):
    key = feature_key("frontal", network, NETWORK, TRANSFORM, "float32")
    return extract(
        network,
        NETWORK,
        transform,
        images,
        FeatureStore(folder / "c").open(key),
        settings=ExtractConfig(),
        limits=Limits(),
        device=torch.device("cpu"),
        progress=False,
    )


def test_a_network_left_in_training_mode_is_used_in_evaluation_mode_and_given_back(
    network, images, tmp_path
):
    expected = read(run(network, images, tmp_path / "a")[0], images)
    network.module.train()
    try:
        before = {k: v.clone() for k, v in network.module.state_dict().items()}
        store, _ = run(network, images, tmp_path / "b")
        assert network.module.training
        assert (read(store, images) == expected).all()
        for name, value in network.module.state_dict().items():
            assert torch.equal(value, before[name]), name
    finally:
        network.module.eval()


def test_a_layer_that_switches_itself_to_training_is_found(network, images, tmp_path):
    layer = network.module.stages[0]
    handle = network.module.register_forward_pre_hook(lambda *_: layer.train() and None)
    try:
        with pytest.raises(MvpError, match=r"training mode|buffers"):
            run(network, images, tmp_path / "c")
    finally:
        handle.remove()
        network.module.eval()


def test_no_hook_is_left_behind(network, images, tmp_path):
    run(network, images, tmp_path / "c")
    for module in network.module.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_damaged_images_are_rejected_with_the_reason_and_tried_again_for_free(
    network, images, tmp_path
):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    some = {digest_file(bad): str(bad), **images}
    _, first = run(network, some, tmp_path / "c", unit=4)
    assert list(first.rejected) == [digest_file(bad)]
    assert "decoded" in first.rejected[digest_file(bad)]
    assert first.rows == first.forward_passes == 16
    store, second = run(network, some, tmp_path / "c", unit=4)
    assert second.forward_passes == 0
    assert list(second.rejected) == list(first.rejected)
    assert len(store.segments) == 1


def test_weights_preparation_and_layer_each_make_another_key(network):
    base = feature_key("frontal", network, NETWORK, TRANSFORM, "float32")
    crop = Transform(TransformConfig(size=32, fit="crop"))
    torch.manual_seed(1)
    others = [
        feature_key("lateral", network, NETWORK, TRANSFORM, "float32"),
        feature_key("frontal", network, NETWORK, crop, "float32"),
        feature_key("frontal", network, NETWORK, TRANSFORM, "float16"),
        feature_key("frontal", build(NETWORK, 3), NETWORK, TRANSFORM, "float32"),
        feature_key(
            "frontal", network, NetworkConfig(name="small", layer="stages.2"), TRANSFORM, "float32"
        ),
    ]
    assert len({base.digest, *(o.digest for o in others)}) == 6
    assert all(base.differences(o) for o in others)


def test_another_head_on_the_same_body_is_the_same_key(network):
    base = feature_key("frontal", network, NETWORK, TRANSFORM, "float32")
    weights = network.head.weight.detach().clone()
    with torch.no_grad():
        network.head.weight.add_(1)
        assert feature_key("frontal", network, NETWORK, TRANSFORM, "float32") == base
        network.head.weight.copy_(weights)


def test_a_file_replaced_after_its_scan_does_not_give_its_features_to_the_old_content(
    network, images, tmp_path
):
    digest, file = next(iter(images.items()))
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(file)
    store, result = run(network, images, tmp_path / "c")
    assert "changed while" in result.rejected[digest]
    assert result.rows == 15
    assert row_id(digest) not in store
