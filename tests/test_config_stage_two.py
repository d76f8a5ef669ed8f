"""Settings of what is decided: a share where a rule needs one, columns that nothing else has."""

from pathlib import Path

import pytest

from mvp.config import parse_config
from mvp.errors import ConfigError

BASE = """
[data]
table = "t.csv"
[views.a]
[labels.x]
"""


def parsed(more):
    return parse_config(BASE + more, Path("mvp.toml"))


def test_defaults_decide_thresholds_alone():
    head = parsed("").head
    assert (head.calibration, head.threshold, head.at, head.conformal) == (
        "auto",
        "youden",
        None,
        0,
    )
    assert head.on_calibration_rows == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("at = 0.9", "`at` has no meaning"),
        ('threshold = "sensitivity"', "needs `at`"),
        ('threshold = "specificity"\nat = 0', "at"),
        ('threshold = "f1"', "youden"),
        ("conformal = 1", "conformal"),
        ('calibration = "beta"', "temperature"),
    ],
)
def test_what_means_nothing_is_refused(more, said):
    with pytest.raises(ConfigError, match=said):
        parsed(f"[head]\n{more}\n")


def test_what_needs_a_calibration_part_is_named_as_it_is_written():
    head = parsed('[head]\ncalibration = "platt"\nconformal = 0.1\n').head
    assert head.on_calibration_rows == ['head.calibration = "platt"', "head.conformal = 0.1"]


@pytest.mark.parametrize("name", ["x_raw", "x_call", "x_set"])
def test_a_label_that_is_called_as_a_decision_of_another_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name}.*score table"):
        parsed(f"[labels.{name}]\n")
    assert parsed(f"[labels.other{name}]\n")


def test_classes_with_a_bar_cannot_be_told_apart_in_sets():
    label = '[labels.k]\nkind = "multiclass"\nclasses = ["a|b", "c"]\n'
    assert parsed(label)
    with pytest.raises(ConfigError, match=r"a\|b"):
        parsed(f"{label}[head]\nconformal = 0.1\n")
