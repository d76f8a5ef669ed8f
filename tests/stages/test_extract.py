"""Extraction: what is cached is what a plain forward pass gives, computed once."""

import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from mvp.config import AugmentConfig, ExtractConfig, NetworkConfig, TransformConfig
from mvp.data.augment import Augmentation
from mvp.data.draws import Draws
from mvp.data.inputs import ImageInputs
from mvp.data.reading.readers import read_image
from mvp.data.transforms import Transform
from mvp.errors import MvpError
from mvp.features import FeatureStore, row_id
from mvp.networks import build
from mvp.stages.extract import Extraction, extract, feature_key
from tests.stages.extracting import (
    NETWORK,
    TRANSFORM,
    counting_forwards,
    plain_forward,
    read,
    run,
    scan,
)


def key_of(network, view="frontal", config=NETWORK, transform=TRANSFORM, **settings):
    return feature_key(view, network, config, transform, ExtractConfig(**settings))


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_cached_features_equal_a_plain_forward_pass(network, files, images, tmp_path, batch):
    store, result = run(network, images, tmp_path / "c", batch_size=batch, unit_rows=5)
    assert result.forward_passes == result.rows == 16
    np.testing.assert_allclose(read(store, images), plain_forward(network, files), atol=1e-5)


def test_order_and_workers_change_no_bit_and_batch_size_only_the_last_ones(
    network, images, tmp_path
):
    shuffled = sorted(images, key=lambda record: record.pixels)
    base = read(run(network, images, tmp_path / "a", batch_size=16)[0], images)
    other = read(run(network, shuffled, tmp_path / "b", batch_size=16, workers=1)[0], images)
    four = read(run(network, shuffled, tmp_path / "c", batch_size=16, workers=4)[0], images)
    ones = read(run(network, images, tmp_path / "d", batch_size=1)[0], images)
    assert (base == other).all()
    assert (base == four).all()
    np.testing.assert_allclose(base, ones, atol=1e-5)


def test_a_second_run_makes_no_forward_pass_and_a_new_image_only_its_own(
    network, images, tmp_path, monkeypatch
):
    some = images[:10]
    run(network, some, tmp_path / "c")
    forwards = counting_forwards(monkeypatch, network)
    _, again = run(network, some, tmp_path / "c")
    assert forwards == []
    assert (again.rows, again.forward_passes, again.computed) == (10, 0, 0)
    _, more = run(network, images, tmp_path / "c")
    assert sum(forwards) == more.forward_passes == more.computed == 6
    assert more.rows == 16


def test_the_linear_head_sees_the_same_loss_live_and_cached(network, files, images, tmp_path):
    store, _ = run(network, images, tmp_path / "c")
    labels = (torch.arange(16)[:, None] % torch.tensor([2, 3, 5]) == 0).float()
    batch = torch.stack([TRANSFORM.prepare(read_image(f)) for f in files])
    with torch.no_grad():
        live = network.module(TRANSFORM.finish(batch))
    cached = network.head(torch.from_numpy(read(store, images)))
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    assert abs(loss(live, labels) - loss(cached, labels)) < 1e-6


def test_nothing_random_can_touch_the_images(network, images, tmp_path):
    for random in (Augmentation(AugmentConfig()), ImageInputs(Augmentation(AugmentConfig()))):
        with pytest.raises(TypeError, match="nothing random"):
            run_with(network, images, tmp_path, random)


def run_with(network, images, folder, inputs):
    return extract(
        network,
        NETWORK,
        inputs,
        images,
        FeatureStore(folder / "c").open(key_of(network)),
        settings=ExtractConfig(),
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


def test_images_that_fail_are_rejected_with_the_reason_and_tried_again_for_free(
    network, files, images, tmp_path
):
    bad = tmp_path / "bad.npy"
    np.save(bad, np.zeros((30, 30), np.float32))  # its full range is unknown
    some = scan([*files[:3], bad, *files[3:]])
    _, first = run(network, some, tmp_path / "c", unit_rows=4)
    assert list(first.rejected) == [some[3].pixels]
    assert "floating-point" in first.rejected[some[3].pixels]
    assert first.rows == first.forward_passes == first.computed == 16
    store, second = run(network, some, tmp_path / "c", unit_rows=4)
    assert second.forward_passes == 0
    assert second.rejected == first.rejected
    assert len(store.segments) == 1


def test_a_file_that_was_gone_is_computed_when_it_is_back(network, files, images, tmp_path):
    away = tmp_path / "away.png"
    files[5].rename(away)
    _, first = run(network, images, tmp_path / "c", unit_rows=4)
    assert (first.rows, first.forward_passes) == (15, 15)
    assert "not there" in first.rejected[images[5].pixels]
    away.rename(files[5])
    store, second = run(network, images, tmp_path / "c", unit_rows=4)
    assert (second.rows, second.forward_passes, second.rejected) == (16, 1, {})
    np.testing.assert_allclose(read(store, images), plain_forward(network, files), atol=1e-5)


def test_weights_preparation_layer_and_slices_each_make_another_key(network):
    base = key_of(network)
    crop = Transform(TransformConfig(size=32, fit="crop"))
    torch.manual_seed(1)
    others = [
        key_of(network, "lateral"),
        key_of(network, transform=crop),
        key_of(network, dtype="float16"),
        key_of(build(NETWORK, 3)),
        key_of(network, config=NetworkConfig(name="small", layer="stages.2")),
        key_of(network, config=NetworkConfig(name="small", layer=["stages.2", "auto"])),
        key_of(network, config=NetworkConfig(name="small", layer="stages.2", pooling="max")),
        key_of(network, instances="max"),
        key_of(network, instances="mean"),
    ]
    assert len({base.digest, *(o.digest for o in others)}) == 10
    assert all(base.differences(o) for o in others)


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 3},
        {"unit_rows": 7},
        {"compression": "zstd"},
        {"tolerance": 0.1},
        {"cache": "elsewhere"},
        {"lease": 5},
    ],
)
def test_how_it_is_computed_and_where_it_lies_is_no_part_of_the_key(network, settings):
    assert key_of(network, **settings) == key_of(network)


def test_another_head_on_the_same_body_is_the_same_key(network):
    base = key_of(network)
    weights = network.head.weight.detach().clone()
    with torch.no_grad():
        network.head.weight.add_(1)
        assert key_of(network) == base
        network.head.weight.copy_(weights)


def test_a_file_replaced_after_its_scan_does_not_give_its_features_to_the_old_content(
    network, files, images, tmp_path
):
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(files[0])
    store, result = run(network, images, tmp_path / "c")
    assert "changed while" in result.rejected[images[0].pixels]
    assert result.rows == 15
    assert row_id(images[0].pixels) not in store


def test_what_was_prepared_is_let_go_when_it_is_stored(network, images, tmp_path):
    settings, inputs = ExtractConfig(batch_size=8), ImageInputs(TRANSFORM)
    store = FeatureStore(tmp_path / "c").open(key_of(network))
    tensors = [TRANSFORM.prepare(read_image(record.file)) for record in images]
    alive = [weakref.ref(tensor) for tensor in tensors]
    ready = {record.digest: [tensor] for record, tensor in zip(images, tensors, strict=True)}
    del tensors
    device = torch.device("cpu")
    with Extraction(
        network, NETWORK, inputs, store, settings=settings, device=device, progress=False
    ) as extraction:
        extraction.add(images, ready=ready, wait=False)
        del ready
        assert extraction.result.rows == 16
        assert not [tensor for tensor in alive if tensor() is not None]


def test_draws_are_made_as_many_at_a_time_as_the_network_takes(
    network, images, tmp_path, monkeypatch
):
    made = []
    draw = Draws.__call__
    monkeypatch.setattr(Draws, "__call__", lambda *a: (made.append(len(d := draw(*a))), d)[1])
    draws, settings = Draws(AugmentConfig(), 3), ExtractConfig(batch_size=8, tta=3)
    key = feature_key("frontal", network, NETWORK, TRANSFORM, settings, draws)
    store = FeatureStore(tmp_path / "c").open(key)
    how = {"settings": settings, "device": torch.device("cpu"), "progress": False}
    extract(network, NETWORK, ImageInputs(TRANSFORM), images, store, draws=draws, **how)
    assert store.shape == (3, network.width)
    assert sum(made) == (16 + 2) * 3  # and the golden images
    assert max(made) <= 8
