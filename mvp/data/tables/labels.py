"""From cells to labels: one policy per column, unknown stays unknown."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from mvp.config import LabelConfig
from mvp.data.tables.problems import quoted
from mvp.data.tables.table import is_blank
from mvp.errors import DataError
from mvp.types import BoolArray, FloatArray, IntArray, Target

UNKNOWN = float("nan")
_POLICY = {"unknown": UNKNOWN, "negative": 0.0, "positive": 1.0}
_UNCERTAIN = "-1"
# Whole numbers that went through a data frame, or a spreadsheet with decimal commas. A leading
# zero stays: it may be part of a code.
_WHOLE = re.compile(r"([+-]?)(\d+)(?:\.0*|,0{1,2})?")
# What stands between findings in the tables of others.
_BETWEEN = re.compile(r"[|,;\t\n]")
MAX_LISTED = 5


def target_of(name: str, config: LabelConfig) -> Target:
    """The target that a label's settings describe."""
    return Target(name, tuple(config.classes))


def parse_labels(
    values: Sequence[str],
    codes: IntArray,
    name: str,
    config: LabelConfig,
    line: Callable[[int], int],
) -> FloatArray:
    """(row,) float32: 0 or 1 (binary) or a class index, NaN for unknown.

    Args:
        values: the different cells of the column; each is parsed once.
        codes: (row,) which of them each row has.
        name: of the label.
        config: its policy.
        line: from a row to its line in the file.

    Raises:
        DataError: a cell fits no rule and `other = "error"`; it names line, value and remedy.
    """
    parse = _multiclass(config) if config.kind == "multiclass" else _binary(config)
    meaning = [parse(value.strip()) for value in values]
    wrong = np.array([m is None for m in meaning], dtype=bool)[codes]
    if wrong.any():
        rows = np.flatnonzero(wrong)
        others = list(dict.fromkeys(values[code] for code in codes[rows]))[1:]
        more = f"; in all {len(rows)} rows say such values" if len(rows) > 1 else ""
        if others:
            listed = ", ".join(quoted(value, 40) for value in others[:MAX_LISTED])
            more += f", also {listed}" + (", …" if len(others) > MAX_LISTED else "")
        raise DataError(
            f"label {name!r}: line {line(int(rows[0]))} says {quoted(values[codes[rows[0]]])} in "
            f"column {config.column or name!r}, which no rule covers{more}",
            remedy=f"list it under labels.{name}.positive, negative or classes, "
            f'or set labels.{name}.other = "unknown"',
        )
    return np.array(meaning, dtype=np.float32)[codes]


def merge_labels(values: FloatArray, codes: IntArray, studies: int) -> tuple[FloatArray, BoolArray]:
    """One value per study, NaN where its rows contradict each other; and where they do.

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
    return merged, conflict


def overlooked(values: Sequence[str], config: LabelConfig) -> list[int]:
    """Which cells count as negative though they list a positive value, by another separator.

    Args:
        values: the different cells of the column.
        config: its policy.
    """
    if config.other != "negative":
        return []
    parse, positive = _binary(config), _spellings(config.positive)
    return [
        number
        for number, value in enumerate(values)
        if not positive.isdisjoint(_spellings(_BETWEEN.split(value))) and parse(value.strip()) == 0
    ]


def _plain(text: str) -> str:
    """A value without case, a whole number in one spelling: 1.0 and +1 as 1."""
    text = text.replace("\u2212", "-")
    if found := _WHOLE.fullmatch(text):
        sign, digits = found.groups()
        return f"-{digits}" if sign == "-" and digits.strip("0") else digits
    return text.casefold()


def _spellings(values: Sequence[str]) -> set[str]:
    return {value.strip().casefold() for value in values}


def _binary(config: LabelConfig) -> Callable[[str], float | None]:
    positive, negative = _spellings(config.positive), _spellings(config.negative)
    other = None if config.other == "error" else _POLICY[config.other]
    rules = {_plain(value): 0.0 for value in negative} | {_plain(value): 1.0 for value in positive}
    # An explicit rule wins over what a blank or a -1 usually means, a spelling over its number.
    rules |= dict.fromkeys(negative, 0.0) | dict.fromkeys(positive, 1.0)

    def meaning(value: str) -> float | None:
        for spelling in (value.casefold(), _plain(value)):
            if spelling in rules:
                return rules[spelling]
        if is_blank(value):
            return _POLICY[config.blank]
        return _POLICY[config.uncertain] if _plain(value) == _UNCERTAIN else other

    def parse(cell: str) -> float | None:
        values = [cell]
        if config.separator and not is_blank(cell):
            listed = [value.strip() for value in cell.split(config.separator)]
            said = [v for v in listed if v.casefold() in rules or not is_blank(v)]
            values = said or [""]
        found = {meaning(value) for value in values}
        if 1.0 in found:
            return 1.0
        # Of a list only what is known throughout is negative.
        return None if None in found else UNKNOWN if found != {0.0} else 0.0

    return parse


def _multiclass(config: LabelConfig) -> Callable[[str], float | None]:
    index = {_plain(c.strip()): float(i) for i, c in enumerate(config.classes)}
    index |= {c.strip().casefold(): float(i) for i, c in enumerate(config.classes)}

    def parse(cell: str) -> float | None:
        for spelling in (cell.casefold(), _plain(cell)):
            if spelling in index:
                return index[spelling]
        if is_blank(cell) or _plain(cell) == _UNCERTAIN or config.other == "unknown":
            return UNKNOWN
        return None

    return parse
