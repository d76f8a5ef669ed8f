"""Layers and poolings: what is stored has their shape, and is what a plain forward pass gives."""

import numpy as np
import pytest
import torch
import zarr

from mvp.config import NetworkConfig
from mvp.errors import ConfigError, DataError
from mvp.features import table_from_stores
from tests.stages.extracting import plain_map, read, row_ids, run, scan, write_volume


def stage_map(network, files, stage):
    """What a stage of the network gives, through a plain hook."""
    seen = []
    hook = network.module.stages[stage].register_forward_hook(
        lambda module, inputs, output: seen.append(output.clone().numpy())
    )
    try:
        plain_map(network, files)
    finally:
        hook.remove()
    return np.concatenate(seen)


def mean(values):
    return values.mean((2, 3))


def most(values):
    return values.max((2, 3))


CASES = [
    ("stages.2", "max", lambda n, f: most(stage_map(n, f, 2))),
    (
        "stages.2",
        "avgmax",
        lambda n, f: np.hstack([mean(stage_map(n, f, 2)), most(stage_map(n, f, 2))]),
    ),
    ("stages.2", "rows", lambda n, f: stage_map(n, f, 2).mean(3)),
    ("stages.1", "map", lambda n, f: stage_map(n, f, 1)),
    (
        ["stages.0", "stages.2"],
        "avg",
        lambda n, f: np.hstack([mean(stage_map(n, f, 0)), mean(stage_map(n, f, 2))]),
    ),
    (
        ["stages.1", "auto"],
        "avg",
        lambda n, f: np.hstack([mean(stage_map(n, f, 1)), mean(plain_map(n, f))]),
    ),
]


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize(
    ("layer", "pooling", "plain"), CASES, ids=[f"{layer}-{pooling}" for layer, pooling, _ in CASES]
)
def test_what_is_stored_has_the_shape_of_the_pooling(
    network, files, images, tmp_path, layer, pooling, plain, compression
):
    config = NetworkConfig(name="small", layer=layer, pooling=pooling)
    expected = plain(network, files)
    store, done = run(
        network,
        images,
        tmp_path / "c",
        config=config,
        unit_rows=5,
        batch_size=3,
        compression=compression,
    )
    shape = expected.shape[1:]
    assert done.rows == 16
    assert store.shape == shape
    assert store.width == np.prod(shape)
    np.testing.assert_allclose(read(store, images), expected.reshape(16, -1), atol=1e-4, rtol=1e-4)
    (folder,) = (tmp_path / "c").glob("*/*/segments/*/features")
    array = zarr.open_array(str(folder), mode="r")
    assert array.shape == (16, *shape)
    order = [store.segments[0].rows.index(row) for row in row_ids(images)]
    np.testing.assert_array_equal(array[:][order].reshape(16, -1), read(store, images))
    studies = np.array([f"s{i}" for i in range(16)], dtype=object)
    table = table_from_stores(
        studies, studies, {"frontal": store}, {"frontal": [[r] for r in row_ids(images)]}
    )
    assert table.signature.widths == (store.width,)
    np.testing.assert_array_equal(table.block("frontal"), read(store, images))


@pytest.mark.parametrize("instances", ["max", "mean"])
def test_maps_of_slices_are_pooled_place_by_place(network, files, tmp_path, instances):
    volumes = [write_volume(tmp_path / f"{n}.npy", n) for n in (3, 5)]
    records = scan(volumes)
    config = NetworkConfig(name="small", layer="stages.2", pooling="map")
    store, _ = run(network, records, tmp_path / "c", config=config, instances=instances)
    pool = {"max": np.max, "mean": np.mean}[instances]
    expected = [pool(stage_map(network, [file], 2), axis=0).ravel() for file in volumes]
    np.testing.assert_allclose(read(store, records), expected, atol=1e-4, rtol=1e-4)


def test_float16_that_overflows_is_refused_and_nothing_stored(network, images, tmp_path):
    weights = network.module.stem[1].weight.detach().clone()
    config = NetworkConfig(name="small", layer="stem", pooling="max")
    with torch.no_grad():
        network.module.stem[1].weight.mul_(1e6)
    try:
        with pytest.raises(DataError, match="after the cast to float16") as error:
            run(network, images, tmp_path / "c", config=config, dtype="float16")
        assert 'extract.dtype = "float32"' in str(error.value)
        assert not list((tmp_path / "c").glob("*/*/segments/*/ledger/*"))
        assert not list((tmp_path / "c").glob("*/*/segments/*/features/c.*"))
        assert not list((tmp_path / "c").glob("*/*/claims/*"))
        store, done = run(network, images, tmp_path / "c", config=config)
        assert done.rows == 16
        assert read(store, images).max() > np.finfo(np.float16).max
    finally:
        with torch.no_grad():
            network.module.stem[1].weight.copy_(weights)


@pytest.mark.parametrize(
    ("layer", "pooling"), [("avgpool", "none"), ("fc", "max"), ("fc", "map"), ("nowhere", "avg")]
)
def test_what_the_layer_cannot_give_is_refused_before_an_image_is_read(
    network, images, tmp_path, monkeypatch, layer, pooling
):
    monkeypatch.setattr("mvp.data.loading.decode", None)
    config = NetworkConfig(name="small", layer=layer, pooling=pooling)
    with pytest.raises(ConfigError):
        run(network, images, tmp_path / "c", config=config)
    assert not list(tmp_path.glob("c/*/*/segments"))
