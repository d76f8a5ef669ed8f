"""A hidden view is a missing one, of the same width."""

import numpy as np

from mvp.features import table_from_arrays
from mvp.features.hiding import hide


def made():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 5, 3)).astype(np.float32)
    a[1] = np.nan
    return table_from_arrays([f"S{i}" for i in range(5)], {"a": a, "b": b[:, :2]})


def test_a_hidden_view_is_missing_and_the_others_stay():
    table = made()
    hidden = hide(table, ["b"])
    assert not hidden.presence[:, 1].any()
    np.testing.assert_array_equal(hidden.presence[:, 0], table.presence[:, 0])
    np.testing.assert_array_equal(hidden.matrix()[:, :3], table.matrix()[:, :3])
    assert np.isnan(hidden.matrix()[:, 3:]).all()
    assert hidden.signature == table.signature
    assert table.presence[:, 1].all()


def test_rows_are_chosen_of_a_table_with_a_hidden_view_as_of_any():
    hidden = hide(made(), ["a"]).select([4, 2]).only(["b", "a"])
    np.testing.assert_array_equal(hidden.block("b"), made().block("b")[[4, 2]])
    assert np.isnan(hidden.block("a")).all()
    assert hidden.instances("a").tolist() == [0, 0]
    bags = hidden.bags("a")
    assert bags.counts.tolist() == [0, 0]
    assert bags.values.shape == (0, 3)
