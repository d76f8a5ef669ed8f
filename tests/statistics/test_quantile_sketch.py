from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvp.errors import DataError
from mvp.statistics.sketch import Sketch

VALUES = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50)


def sketch_of(values) -> Sketch:
    made = Sketch()
    made.add(values)
    return made


@given(VALUES, st.floats(0.01, 1))
def test_a_quantile_lies_by_the_value_of_its_rank(values, share) -> None:
    ordered = np.sort(values)
    rank = max(0, int(np.ceil(share * len(values) - 1e-9)) - 1)
    found = float(sketch_of(values).quantiles(share))
    near = 0.006 * np.abs(ordered) + 0.006
    # On the border of two ranks either is right.
    ranks = {rank, min(rank + 1, len(values) - 1)}
    assert any(abs(found - ordered[r]) <= near[r] for r in ranks)


@given(VALUES, VALUES)
def test_parts_add_up(one, two) -> None:
    made = sketch_of(one)
    made.add(two)
    np.testing.assert_array_equal(made.counts, sketch_of([*one, *two]).counts)
    assert made.n == len(one) + len(two)


@given(VALUES, st.integers(2, 12))
def test_parts_between_cuts_hold_everything_and_tear_no_ties(values, parts) -> None:
    made = sketch_of(values)
    counts = made.divided(made.cuts(parts))
    assert counts.sum() == len(values)
    assert (counts > 0).all()
    assert len(counts) <= parts
    assert len(made.divided(sketch_of([1.0] * 9).cuts(parts))) == 1


def test_parts_of_many_values_are_nearly_equal() -> None:
    made = sketch_of(np.random.default_rng(0).normal(size=10_000))
    counts = made.divided(made.cuts(10))
    assert len(counts) == 10
    assert np.abs(counts - 1000).max() < 60


@given(VALUES, st.floats(0.05, 0.99))
def test_hardly_more_than_the_share_lies_below(values, share) -> None:
    limit = sketch_of(values).above(share)
    assert np.mean(np.array(values) <= limit) >= share - 1e-9
    assert limit <= np.max(values) + 0.006 * abs(np.max(values)) + 0.006


def test_values_beyond_its_reach_count_as_its_end() -> None:
    made = sketch_of([1e300, -1e300])
    assert made.n == 2
    assert float(made.quantiles(1.0)) > 5e12


def test_what_is_no_number_is_refused() -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(DataError, match="not finite"):
            sketch_of([value])
    for ask in (lambda s: s.quantiles(0.5), lambda s: s.cuts(3), lambda s: s.above(0.9)):
        with pytest.raises(DataError, match="no values"):
            ask(Sketch())
