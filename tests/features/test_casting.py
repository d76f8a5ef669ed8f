"""What may be stored: finite numbers, whatever their type."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mvp.errors import DataError
from mvp.features.casting import all_finite, finite_rows, storable

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
