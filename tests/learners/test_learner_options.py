"""Options are numbers of their range, and what is said of others names the range."""

import math

import pytest

from mvp.errors import ConfigError
from mvp.learners.options import require_number


@pytest.mark.parametrize(
    ("value", "limits", "exclusive"),
    [
        (1, (1,), {}),
        (10**400, (1,), {}),
        (0, (0.0,), {}),
        (1.0, (0.0, 1.0), {}),
        (1e-9, (0.0, 1.0), {"above": True}),
        (0.0, (0.0, 1.0), {"below": True}),
    ],
)
def test_numbers_of_the_range_are_taken(value, limits, exclusive):
    require_number("x", value, *limits, **exclusive)


@pytest.mark.parametrize(
    ("value", "limits", "exclusive", "expected"),
    [
        (0, (1,), {}, "a whole number from 1 on"),
        (1.0, (1,), {}, "a whole number from 1 on"),
        (True, (0,), {}, "a whole number from 0 on"),
        (True, (0.0,), {}, "a number from 0 on"),
        ("1", (0.0,), {}, "a number from 0 on"),
        (None, (0.0,), {}, "a number from 0 on"),
        (math.nan, (0.0, 1.0), {}, "a number from 0 to 1"),
        (math.inf, (0.0,), {"above": True}, "a number above 0"),
        (0.0, (0.0, 1.0), {"above": True}, "a number above 0 to 1"),
        (1.0, (0.0, 1.0), {"below": True}, "a number from 0 to below 1"),
        (1.1, (0.0, 1.0), {}, "a number from 0 to 1"),
    ],
)
def test_others_are_refused_with_the_range(value, limits, exclusive, expected):
    with pytest.raises(ConfigError) as caught:
        require_number("x", value, *limits, **exclusive)
    assert str(caught.value) == f"x is {value!r}, expected {expected}"
