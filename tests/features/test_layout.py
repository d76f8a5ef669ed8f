"""A unit's bytes: what goes in comes out, Zarr agrees, and no change passes for numbers."""

import json
import math

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.features.layout import MAX_UNIT_BYTES, Layout

SHAPES = st.one_of(
    st.tuples(st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 5)),
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4)),
)
LAYOUTS = st.builds(
    Layout.fitting,
    st.integers(1, 23),
    SHAPES,
    st.sampled_from(["float32", "float16"]),
    st.integers(1, 30),
    st.sampled_from(["none", "zstd"]),
)


def values_of(layout, seed=0):
    """(row, ...) with some rows of NaN, as rejected ones are."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(layout.rows, *layout.shape)).astype(layout.dtype)
    values[rng.random(layout.rows) < 0.2] = np.nan
    return values


def stored(layout, values, unit):
    return b"".join(layout.encode(values[layout.unit_slice(unit)]))


@settings(max_examples=100, deadline=None)
@given(LAYOUTS, st.integers(0, 99))
def test_what_is_encoded_is_decoded(layout, seed):
    values = values_of(layout, seed)
    got = [layout.decode(stored(layout, values, unit)) for unit in range(layout.units)]
    assert all(unit.shape == (layout.unit_rows, *layout.shape) for unit in got)
    every = np.concatenate(got)
    assert every.dtype == layout.dtype
    assert every[: layout.rows].tobytes() == values.tobytes()
    assert np.isnan(every[layout.rows :]).all()


@settings(max_examples=40, deadline=None)
@given(LAYOUTS, st.integers(0, 99))
def test_plain_zarr_reads_the_same_and_names_the_checksum(tmp_path_factory, layout, seed):
    folder, values = tmp_path_factory.mktemp("a"), values_of(layout, seed)
    (folder / "zarr.json").write_bytes(layout.metadata())
    for unit in range(layout.units):
        (folder / layout.chunk(unit)).write_bytes(stored(layout, values, unit))
    array = zarr.open_array(str(folder), mode="r")
    assert (array.shape, array.dtype) == ((layout.rows, *layout.shape), np.dtype(layout.dtype))
    np.testing.assert_array_equal(array[:], values)
    meta = json.loads(layout.metadata())
    names = [codec["name"] for codec in meta["codecs"]]
    assert names == ["bytes", *(["zstd"] if layout.compression == "zstd" else []), "crc32c"]
    assert meta["fill_value"] == "NaN"
    assert meta["dimension_names"][0] == "row"
    assert layout.metadata() == Layout(**vars_of(layout)).metadata()
    (folder / layout.chunk(layout.units - 1)).unlink()
    assert np.isnan(array[layout.unit_slice(layout.units - 1)]).all()


def vars_of(layout):
    fields = ("rows", "shape", "dtype", "unit_rows", "compression")
    return {name: getattr(layout, name) for name in fields}


@settings(max_examples=25, deadline=None)
@given(LAYOUTS, st.integers(0, 99), st.data())
def test_zarr_writes_the_very_bytes_that_we_write(tmp_path_factory, layout, seed, data):
    folder, values = tmp_path_factory.mktemp("a"), values_of(layout, seed)
    (folder / "zarr.json").write_bytes(layout.metadata())
    values[np.isnan(values)] = 0.5  # Zarr leaves chunks of nothing but fill values out
    zarr.open_array(str(folder), mode="r+")[:] = values
    unit = data.draw(st.integers(0, layout.units - 1))
    theirs = (folder / layout.chunk(unit)).read_bytes()
    assert theirs == stored(layout, values, unit)


@settings(max_examples=30, deadline=None)
@given(LAYOUTS, st.integers(0, 99), st.data())
def test_no_truncation_and_no_flipped_bit_is_decoded(layout, seed, data):
    whole = stored(layout, values_of(layout, seed), data.draw(st.integers(0, layout.units - 1)))
    for length in range(len(whole)):
        with pytest.raises(ValueError):
            layout.decode(whole[:length])
    with pytest.raises(ValueError):
        layout.decode(whole + b"\0")
    for _ in range(50):
        hurt = bytearray(whole)
        hurt[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        with pytest.raises(ValueError):
            layout.decode(bytes(hurt))


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_every_single_bit_of_a_unit_counts(compression):
    layout = Layout.fitting(3, (4,), "float32", 3, compression)
    whole = stored(layout, values_of(layout), 0)
    for bit in range(8 * len(whole)):
        hurt = bytearray(whole)
        hurt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError):
            layout.decode(bytes(hurt))


def test_a_unit_of_another_layout_is_not_decoded():
    layout = Layout.fitting(4, (3,), "float32", 4)
    for other in (
        Layout.fitting(4, (4,), "float32", 4),
        Layout.fitting(4, (3,), "float16", 4),
        Layout.fitting(5, (3,), "float32", 5),
    ):
        with pytest.raises(ValueError, match="bytes"):
            layout.decode(stored(other, values_of(other), 0))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 10**7),
    st.sampled_from([(1,), (2048,), (1280, 7, 7), (512, 64, 64), (3, 9)]),
    st.sampled_from(["float32", "float16"]),
    st.integers(1, 10**6),
)
def test_units_cover_all_rows_once_and_are_never_too_large(rows, shape, dtype, unit_rows):
    layout = Layout.fitting(rows, shape, dtype, unit_rows)
    row_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    assert layout.unit_rows <= unit_rows
    assert layout.unit_bytes <= max(MAX_UNIT_BYTES, row_bytes)
    assert layout.unit_slice(0).start == 0
    assert layout.unit_slice(layout.units - 1).stop == rows
    last = layout.unit_slice(layout.units - 1)
    assert 0 < last.stop - last.start <= layout.unit_rows
    # No more units than the largest ones would make: they are evened out, not split.
    most = max(1, min(unit_rows, MAX_UNIT_BYTES // row_bytes))
    assert layout.units <= math.ceil(rows / most)


def test_numbers_are_little_endian_whatever_the_machine():
    layout = Layout.fitting(1, (1,), "float32", 1)
    assert stored(layout, np.ones((1, 1), ">f4"), 0)[:4] == b"\x00\x00\x80\x3f"
