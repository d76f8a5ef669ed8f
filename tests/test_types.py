"""Labels and targets keep their columns apart."""

import numpy as np
import pytest

from mvp.types import Labels, Target, one_hot, output_slices

NAN = np.nan
TARGETS = (Target("mass"), Target("grade", ("a", "b", "c")), Target("fluid"))


def labels():
    return Labels(TARGETS, np.array([[1, 2, NAN], [NAN, NAN, 0]], np.float32))


def test_outputs_are_named_in_order():
    assert labels().outputs == ("mass", "grade=a", "grade=b", "grade=c", "fluid")
    assert output_slices(TARGETS) == [slice(0, 1), slice(1, 4), slice(4, 5)]
    assert [t.multiclass for t in TARGETS] == [False, True, False]


def test_one_hot_keeps_unknown_unknown():
    np.testing.assert_array_equal(one_hot(labels()), [[1, 0, 0, 1, NAN], [NAN, NAN, NAN, NAN, 0]])
    assert one_hot(labels()).dtype == np.float32
    assert one_hot(Labels((), np.empty((3, 0), np.float32))).shape == (3, 0)


def test_rows_are_selected_in_the_order_given():
    chosen = labels().select([1, 0, 0])
    assert len(chosen) == 3
    known = [[True, True, False], [False, False, True]]
    assert chosen.known.tolist() == [known[1], known[0], known[0]]


def test_some_targets_are_taken_in_the_order_given():
    chosen = labels().only([2, 1])
    assert chosen.targets == (TARGETS[2], TARGETS[1])
    np.testing.assert_array_equal(chosen.values, [[NAN, 2], [0, NAN]])
    assert labels().only([]).values.shape == (2, 0)


@pytest.mark.parametrize("shape", [(2,), (2, 2), (2, 3, 1)])
def test_values_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="labels have shape"):
        Labels(TARGETS, np.zeros(shape, np.float32))
