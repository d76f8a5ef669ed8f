from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvp.errors import ConfigError, DataError
from mvp.statistics.curves import binary_confusion
from mvp.statistics.thresholds import Threshold, choose_threshold

ROWS = st.lists(
    st.tuples(st.booleans(), st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0]))),
    min_size=2,
    max_size=30,
).filter(lambda rows: len({y for y, _ in rows}) == 2)
WIDTHS = st.sampled_from([np.float32, np.float64])


def every_threshold(y, p):
    """Sensitivity and specificity at every threshold that parts the rows differently."""
    for value in (*np.unique(p), np.inf):
        counted = binary_confusion(y, p, value)
        yield counted.sensitivity, counted.specificity


@given(ROWS, st.floats(0.01, 1), WIDTHS)
def test_a_fixed_sensitivity_is_kept_at_the_highest_specificity(rows, target, width) -> None:
    y, p = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], width)
    chosen = choose_threshold(y, p, "sensitivity", target)
    counted = binary_confusion(y, p, chosen.value)
    assert (counted.sensitivity, counted.specificity) == (chosen.sensitivity, chosen.specificity)
    assert chosen.sensitivity >= target - 1e-9
    assert chosen.specificity == max(
        spec for sens, spec in every_threshold(y, p) if sens >= target - 1e-9
    )
    # Nor does it depend on the width in which the comparison is made.
    np.testing.assert_array_equal(chosen.apply(p), (p >= width(chosen.value)).astype(float))


@given(ROWS, st.floats(0.01, 1), WIDTHS)
def test_a_fixed_specificity_is_kept_at_the_highest_sensitivity(rows, target, width) -> None:
    y, p = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], width)
    chosen = choose_threshold(y, p, "specificity", target)
    counted = binary_confusion(y, p, chosen.value)
    assert (counted.sensitivity, counted.specificity) == (chosen.sensitivity, chosen.specificity)
    assert chosen.specificity >= target - 1e-9
    assert chosen.sensitivity == max(
        sens for sens, spec in every_threshold(y, p) if spec >= target - 1e-9
    )


@given(ROWS)
def test_youden_is_the_highest_there_is(rows) -> None:
    y, p = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    chosen = choose_threshold(y, p)
    highest = max(sens + spec for sens, spec in every_threshold(y, p))
    if chosen.value is None:
        assert highest == pytest.approx(1)
        return
    counted = binary_confusion(y, p, chosen.value)
    assert counted.sensitivity + counted.specificity == pytest.approx(highest)
    assert (counted.sensitivity, counted.specificity) == (chosen.sensitivity, chosen.specificity)


def test_it_stands_midway_between_two_scores() -> None:
    assert choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.8]).value == pytest.approx(0.4)


def test_tied_scores_are_called_alike() -> None:
    chosen = choose_threshold([1, 1, 0, 0], [0.5, 0.9, 0.5, 0.1], "sensitivity", 1.0)
    np.testing.assert_array_equal(chosen.apply([0.5, 0.9, 0.1, np.nan]), [1, 1, 0, np.nan])
    assert (chosen.sensitivity, chosen.specificity) == (1, 0.5)


def test_of_equals_youden_takes_the_lowest() -> None:
    # At .9 and at .3 the index is .5 both times.
    chosen = choose_threshold([1, 0, 1, 0], [0.9, 0.5, 0.3, 0.1])
    assert (chosen.sensitivity, chosen.specificity) == (1, 0.5)


def test_no_negative_above_it_may_take_a_threshold_above_all() -> None:
    chosen = choose_threshold([1, 1, 0], [0.2, 0.4, 1.0], "specificity", 1.0)
    assert 1 < chosen.value < 1.001
    assert (chosen.sensitivity, chosen.specificity) == (0, 1)


@pytest.mark.parametrize("y", [[1, 1, np.nan], [0, 0, np.nan], [np.nan] * 3])
@pytest.mark.parametrize(("rule", "target"), [("youden", None), ("sensitivity", 0.9)])
def test_one_class_is_refused_with_a_reason(y, rule, target) -> None:
    chosen = choose_threshold(y, [0.1, 0.5, 0.9], rule, target)
    assert chosen.value is None
    assert "a class is missing" in chosen.reason
    assert chosen.sensitivity is None
    assert Threshold.from_json(chosen.to_json()) == chosen
    with pytest.raises(DataError, match="a class is missing"):
        chosen.apply([0.3])


def test_scores_no_better_than_chance_have_no_threshold_by_youden() -> None:
    chosen = choose_threshold([1, 1, 0, 0], [0.1, 0.2, 0.7, 0.9])
    assert chosen.value is None
    assert "chance" in chosen.reason
    assert (chosen.positives, chosen.negatives) == (2, 2)


def test_it_is_written_and_read() -> None:
    chosen = choose_threshold([0, 1, 0, 1], [0.1, 0.4, 0.45, 0.8], "sensitivity", 0.5)
    assert Threshold.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen


@pytest.mark.parametrize(
    "change", [{"rule": "other"}, {"value": "0.5"}, {"value": float("nan")}, {"more": 1}]
)
def test_a_damaged_threshold_is_refused(change) -> None:
    written = choose_threshold([0, 1], [0.1, 0.4]).to_json()
    with pytest.raises(DataError, match="cannot be read"):
        Threshold.from_json({**written, **change})


@pytest.mark.parametrize(
    ("rule", "target"),
    [
        ("youden", 0.5),
        ("sensitivity", None),
        ("specificity", 1.2),
        ("f1", None),
        ("sensitivity", 0),
    ],
)
def test_a_target_without_meaning_is_refused(rule, target) -> None:
    with pytest.raises(ConfigError):
        choose_threshold([0, 1], [0.1, 0.4], rule, target)
