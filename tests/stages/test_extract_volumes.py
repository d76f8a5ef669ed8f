"""Volumes: every slice is what a plain forward pass gives, and a file is decoded once."""

import numpy as np
import pytest

from mvp.config import TransformConfig
from mvp.data import loading
from mvp.data.transforms import Transform
from mvp.features import instance_of, row_id
from tests.stages.extracting import (
    plain_forward,
    read,
    row_ids,
    run,
    scan,
    write_images,
    write_volume,
)

SLICES = (3, 9, 5, 4)


@pytest.fixture
def files(tmp_path):
    """Volumes of several sizes with a film between them."""
    found = [write_volume(tmp_path / f"v{n}.npy", n) for n in SLICES]
    found.insert(2, write_images(tmp_path, 1)[0])
    return found


@pytest.fixture
def records(files):
    return scan(files)


@pytest.fixture
def decoded(monkeypatch):
    """Every file that extraction decodes, in order."""
    seen = []
    decode = loading.decode
    monkeypatch.setattr(
        loading, "decode", lambda f, *a, **k: (seen.append(f), decode(f, *a, **k))[1]
    )
    return seen


@pytest.mark.parametrize("unit_rows", [4, 1024])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_slice_is_a_row_equal_to_a_plain_forward_pass(
    network, files, records, tmp_path, unit_rows, workers
):
    store, done = run(
        network, records, tmp_path / "c", unit_rows=unit_rows, batch_size=3, workers=workers
    )
    assert done.rows == done.forward_passes == done.computed == sum(SLICES) + 1
    assert [instance_of(r) for r in row_ids(records[:2])] == [*range(3), *range(9)]
    np.testing.assert_allclose(read(store, records), plain_forward(network, files), atol=1e-5)
    assert len(store.segments[0].rows) == 22
    assert store.segments[0].units == (6 if unit_rows == 4 else 1)
    assert run(network, records, tmp_path / "c", unit_rows=unit_rows)[1].forward_passes == 0


@pytest.mark.parametrize("batch_size", [1, 2, 50])
@pytest.mark.parametrize("instances", ["max", "mean"])
def test_pooled_slices_are_the_pooled_plain_forward_passes(
    network, files, records, tmp_path, instances, batch_size
):
    store, done = run(
        network, records, tmp_path / "c", instances=instances, unit_rows=2, batch_size=batch_size
    )
    assert done.rows == done.computed == len(store) == len(files)
    assert done.forward_passes == sum(SLICES) + 1
    pool = {"max": np.max, "mean": np.mean}[instances]
    expected = [pool(plain_forward(network, [file]), axis=0) for file in files]
    np.testing.assert_allclose(read(store, records), expected, atol=1e-5)


def test_batches_change_no_bit_of_a_mean_beyond_the_network_s_own(network, records, tmp_path):
    made = [
        read(run(network, records, tmp_path / str(n), instances="mean", unit_rows=n)[0], records)
        for n in (1, 2, 1024)
    ]
    np.testing.assert_allclose(made[0], made[1], atol=1e-5)
    np.testing.assert_allclose(made[0], made[2], atol=1e-5)


def test_the_three_ways_of_slices_have_keys_of_their_own_and_meet_nowhere(
    network, records, tmp_path
):
    made = [run(network, records, tmp_path / "c", instances=i) for i in ("keep", "max", "mean")]
    assert len({done.key for _, done in made}) == 3
    assert [len(store) for store, _ in made] == [22, 5, 5]
    # Of one image they are the same numbers.
    alone = [store.read([row_id(records[2].pixels)]) for store, _ in made]
    np.testing.assert_allclose(alone[0], alone[1], atol=1e-5)
    np.testing.assert_allclose(alone[0], alone[2], atol=1e-5)


@pytest.mark.parametrize("instances", ["keep", "mean"])
def test_a_volume_is_decoded_once_where_a_unit_holds_it(
    network, files, records, tmp_path, decoded, instances
):
    run(network, records, tmp_path / "c", instances=instances)
    assert decoded == [str(f) for f in files]


def test_a_volume_that_units_split_is_decoded_once_for_each(network, records, tmp_path, decoded):
    store, _ = run(network, records, tmp_path / "c", unit_rows=4)
    layout = store.segments[0].layout
    digests = [row[:16] for row in store.segments[0].rows]
    wanted = sum(len(set(digests[layout.unit_slice(u)])) for u in range(layout.units))
    assert len(decoded) == wanted


def test_a_volume_whose_slices_cannot_be_prepared_is_one_reject_and_retried_in_one_go(
    network, files, tmp_path, decoded
):
    bad = write_volume(tmp_path / "bad.npy", 6, dtype=np.float32)
    records = scan([*files, bad])
    assert records[-1].pixels
    store, first = run(network, records, tmp_path / "c", unit_rows=50)
    assert list(first.rejected) == [records[-1].pixels]
    assert (first.rows, first.forward_passes) == (22, 22)
    assert len(store) == 22
    decoded.clear()
    store, second = run(network, records, tmp_path / "c", unit_rows=50)
    assert second.rejected == first.rejected
    assert second.forward_passes == 0
    assert decoded == [str(bad)]
    assert len(store.segments) == 1
    _, pooled = run(network, records, tmp_path / "c", instances="max")
    assert list(pooled.rejected) == [records[-1].pixels]
    assert (pooled.rows, pooled.forward_passes) == (5, 22)


def test_float_volumes_by_percentiles(network, tmp_path):
    transform = Transform(TransformConfig(size=32, intensity="percentile"))
    files = [write_volume(tmp_path / f"{n}.npy", n, dtype=np.float32) for n in (3, 4)]
    records = scan(files)
    store, done = run(network, records, tmp_path / "c", transform=transform)
    assert done.rows == 7
    np.testing.assert_allclose(
        read(store, records), plain_forward(network, files, transform), atol=1e-5
    )


def test_a_volume_that_lost_slices_since_its_scan_is_rejected_whole(network, files, tmp_path):
    records = scan(files)
    write_volume(files[1], 2)
    store, done = run(network, records, tmp_path / "c", unit_rows=4)
    assert list(done.rejected) == [records[1].pixels]
    assert "changed while" in done.rejected[records[1].pixels]
    assert not store.has(row_ids(records[1:2])).any()
    assert done.rows == done.forward_passes == 13


def test_new_slices_of_another_volume_cost_only_themselves(network, files, records, tmp_path):
    run(network, records[:2], tmp_path / "c", unit_rows=4)
    store, done = run(network, records, tmp_path / "c", unit_rows=4)
    assert done.forward_passes == 10
    np.testing.assert_allclose(read(store, records), plain_forward(network, files), atol=1e-5)
