"""Views that are columns of the table: one cell per study and column."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from mvp.config import Config
from mvp.data.tables.columns import Columns, contradictions, each_value, first_values, text_array
from mvp.data.tables.problems import Problem
from mvp.data.tables.table import is_blank
from mvp.types import IntArray, TextArray

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def study_cells(
    config: Config, columns: Columns, codes: IntArray, n: int
) -> tuple[dict[str, TextArray], list[Problem]]:
    """For every view of columns its cells (study, column), and what was found on the way.

    A cell is blank where no row of the study fills it, and where its rows contradict each other.

    Args:
        config: the settings.
        columns: of the table.
        codes: (row,) the index of each row's study.
        n: how many studies there are.

    Raises:
        ConfigError: a column is not there.
    """
    cells: dict[str, TextArray] = {}
    problems: list[Problem] = []
    for view in config.views:
        names = _settings(config, view)
        if not names:
            continue
        merged = [_merge(columns, name, setting, codes, n) for name, setting in names]
        cells[view] = np.stack([values for values, _ in merged], axis=1)
        for (name, setting), (_, rows) in zip(names, merged, strict=True):
            if len(rows):
                studies = len(np.unique(codes[rows]))
                text = (
                    f"view {view}, column {name!r} ({setting}): the rows of {studies} studies "
                    f"contradict each other, the first on line {columns.line(int(rows[0]))}; the "
                    "cell is taken as blank there; correct the table, or add a column to data.study"
                )
                problems.append(Problem("cell-conflict", "warning", text, studies))
    return cells, problems


def _settings(config: Config, view: str) -> list[tuple[str, str]]:
    """The columns of a view, each with the setting that names it."""
    own = config.views[view]
    fields: dict[str, Sequence[str]] = {"numbers": own.numbers, "categories": own.categories}
    if own.column is not None:
        fields = {"column": [own.column]}
    return [(name, f"views.{view}.{field}") for field, names in fields.items() for name in names]


def _merge(
    columns: Columns, name: str, setting: str, codes: IntArray, n: int
) -> tuple[TextArray, IntArray]:
    numbers, values = columns.distinct(name, setting)
    if setting.endswith(".numbers"):
        values = _one_spelling(values)
    said = ~each_value(numbers, values, is_blank)
    cells = text_array(values)[numbers]
    rows = contradictions(cells, said, codes, n)
    first = first_values(said, codes, n)
    merged = np.where(first >= 0, cells[first], "")
    merged[codes[rows]] = ""
    return merged, rows


def _one_spelling(values: Sequence[str]) -> list[str]:
    """The same, every number as the shortest of its spellings: 63 and 63.0 are no contradiction."""
    shortest: dict[float, str] = {}
    for value in sorted(values, key=lambda v: (len(v), v)):
        if _NUMBER.fullmatch(value):
            shortest.setdefault(float(value), value)
    return [shortest[float(v)] if _NUMBER.fullmatch(v) else v for v in values]
