"""From cells to labels: one policy per column, unknown stays unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mvp.config import LabelConfig
from mvp.data.tables import is_blank
from mvp.errors import DataError
from mvp.types import FloatArray, IntArray, Target

UNKNOWN = float("nan")
_POLICY = {"unknown": UNKNOWN, "negative": 0.0, "positive": 1.0}
_UNCERTAIN = frozenset({"-1", "-1.0"})


def target_of(name: str, config: LabelConfig) -> Target:
    """The target that a label's settings describe."""
    return Target(name, tuple(config.classes))


def parse_labels(
    cells: Sequence[str], name: str, config: LabelConfig, line: Callable[[int], int] | None = None
) -> FloatArray:
    """(row,) float32: 0 or 1 (binary) or a class index, NaN for unknown.

    Args:
        cells: one per row.
        name: of the label.
        config: its policy.
        line: from a row to its line in the file; default: the header is line 1.

    Raises:
        DataError: a cell fits no rule and `other = "error"`; it names line, value and remedy.
    """
    parse = _multiclass(config) if config.kind == "multiclass" else _binary(config)
    # Tables repeat few values many times: each is parsed once.
    meaning: dict[str, float | None] = {}
    values = np.empty(len(cells), np.float32)
    for row, cell in enumerate(cells):
        if cell not in meaning:
            meaning[cell] = parse(cell.strip())
        value = meaning[cell]
        if value is None:
            place = line(row) if line is not None else row + 2
            raise DataError(
                f"label {name!r}: line {place} says {cell[:80]!r}, which no rule covers",
                remedy=f"list it under labels.{name}.positive, negative or classes, "
                f'or set labels.{name}.other = "unknown"',
            )
        values[row] = value
    return values


def merge_labels(values: FloatArray, codes: IntArray, studies: int) -> tuple[FloatArray, int]:
    """One value per study, NaN where its rows contradict each other, and how many do.

    Args:
        values: (row,) NaN for unknown.
        codes: (row,) the index of each row's study.
        studies: how many there are.
    """
    known = ~np.isnan(values)
    low, high = np.full(studies, np.inf), np.full(studies, -np.inf)
    np.minimum.at(low, codes[known], values[known])
    np.maximum.at(high, codes[known], values[known])
    conflict = np.isfinite(low) & (low != high)
    merged = np.where(np.isfinite(low) & ~conflict, low, np.nan).astype(np.float32)
    return merged, int(conflict.sum())


def _binary(config: LabelConfig) -> Callable[[str], float | None]:
    positive = {p.casefold() for p in config.positive}
    negative = {n.casefold() for n in config.negative}
    other = None if config.other == "error" else _POLICY[config.other]

    def parse(cell: str) -> float | None:
        # An explicit rule wins over what a blank or a -1 usually means.
        tokens = {t.strip().casefold() for t in cell.split(config.separator or "\0")}
        if tokens & positive:
            return 1.0
        if tokens & negative:
            return 0.0
        if is_blank(cell):
            return _POLICY[config.blank]
        if cell in _UNCERTAIN:
            return _POLICY[config.uncertain]
        return other

    return parse


def _multiclass(config: LabelConfig) -> Callable[[str], float | None]:
    index = {c.casefold(): float(i) for i, c in enumerate(config.classes)}

    def parse(cell: str) -> float | None:
        if cell.casefold() in index:
            return index[cell.casefold()]
        if is_blank(cell) or cell in _UNCERTAIN or config.other == "unknown":
            return UNKNOWN
        return None

    return parse
