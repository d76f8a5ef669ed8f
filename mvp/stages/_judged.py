"""Rows of what is measured by pattern of present views."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from mvp.statistics import Interval


@dataclass(frozen=True)
class PatternRow:
    """The ranking of one output among the studies of a pattern; None: a class is missing."""

    label: str
    pattern: str
    model: str
    auroc: Interval
    n: int
    positives: int
    negatives: int
    patients: int


@dataclass(frozen=True)
class CalibrationRow:
    """How far the fusion's probabilities are from the truth.

    `calibration` is the kind of the calibrator, or "none" for what the heads say. With several
    classes Brier score and log loss are over all of them, the calibration error is that of the
    most probable class.
    """

    label: str
    pattern: str
    calibration: str
    brier: Interval
    log_loss: Interval
    ece: Interval
    n: int
    patients: int


@dataclass(frozen=True)
class DecisionRow:
    """What calls at the threshold are worth, and how many studies that is."""

    label: str
    pattern: str
    rule: str
    threshold: float
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    n: int
    patients: int


@dataclass(frozen=True)
class SetRow:
    """How often the prediction set holds the true class, and how often it abstains.

    `promised` is the coverage asked for; an abstention is a set of several classes, or of none.
    """

    label: str
    pattern: str
    true_class: str
    promised: float
    coverage: Interval
    abstained: Interval
    empty: int
    n: int
    patients: int


@dataclass(frozen=True)
class ConfusionRow:
    """Studies by true and most probable class of a label with several."""

    label: str
    true_class: str
    called: str
    n: int


@dataclass(frozen=True, eq=False)
class Judged:
    """What was measured of the fusion's decisions, label by label and pattern by pattern."""

    patterns: list[PatternRow]
    calibration: list[CalibrationRow]
    decisions: list[DecisionRow]
    sets: list[SetRow]
    confusion: list[ConfusionRow]

    def records(self) -> dict[str, list[dict[str, Any]]]:
        """For each kind its rows as plain values, an interval as three of them."""
        return {f.name: [_flat(row) for row in getattr(self, f.name)] for f in fields(self)}


def _flat(row: Any) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for field in fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Interval):
            flat[field.name] = value.estimate
            flat |= {f"{field.name}_low": value.low, f"{field.name}_high": value.high}
        else:
            flat[field.name] = value
    return flat
