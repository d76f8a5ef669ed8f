"""What may be stored: finite numbers, whatever their type."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mvp.errors import DataError
from mvp.features.casting import all_finite, finite_rows, storable, widen

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@given(st.data())
def test_numbers_that_are_not_finite_are_seen_wherever_they_stand(dtype, data):
    values = data.draw(hnp.arrays(dtype, SHAPES))
    for given_ in (values, values[::-1], np.asfortranarray(values)):
        assert all_finite(given_) == bool(np.isfinite(given_).all())
        rows = np.isfinite(given_).reshape(len(given_), -1).all(axis=1) if given_.size else None
        if rows is not None:
            np.testing.assert_array_equal(finite_rows(given_), rows)


def test_large_numbers_whose_squares_overflow_are_finite():
    values = np.full((3, 4), 3e38, np.float32)
    assert all_finite(values)
    values[1, 2] = -np.inf
    np.testing.assert_array_equal(finite_rows(values), [True, False, True])


def test_a_rejected_row_may_be_nan_and_no_other():
    values = np.ones((3, 2), np.float32)
    values[1] = np.nan
    assert np.isnan(storable(values, [1], "float16")[1]).all()
    with pytest.raises(DataError, match="NaN or inf"):
        storable(values, [2], "float32")


def test_widened_halves_are_those_that_numpy_makes():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    every = np.stack([halves, halves[::-1]])
    out = np.full(every.shape, np.nan, np.float32)
    widen(every, out)
    assert np.array_equal(out.view(np.uint32), every.astype(np.float32).view(np.uint32))
    # Of more rows than are converted at a time.
    many = np.repeat(every, 9, axis=0)
    out = np.empty((18, many.shape[1]), np.float32)
    widen(many, out)
    assert np.array_equal(out, many.astype(np.float32))
