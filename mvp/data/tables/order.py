"""Which of several images of a view is the newest."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from mvp.data.tables.columns import Columns
from mvp.data.tables.problems import quoted
from mvp.data.tables.table import is_blank
from mvp.errors import DataError
from mvp.types import IntArray

_NUMBER = re.compile(r"[+-]?\d{1,100}(\.\d{0,100})?")
_DATE = re.compile(r"\d{4}-?\d\d-?\d\d([T ].*)?", re.DOTALL)


def ranks(columns: Columns, name: str, rows: IntArray) -> IntArray:
    """(row,) how new some rows of a table are, from 1 for the oldest; a blank has 0.

    Numbers are compared as numbers, dates (`2019-05-30`, `20190530`, also with a time) as dates;
    equal ones share a rank.

    Args:
        columns: of the table.
        name: of the column, `data.order`.
        rows: which rows are compared.

    Raises:
        ConfigError: there is no such column.
        DataError: the cells are neither all numbers nor all dates; it names line and value.
    """
    codes, values = columns.distinct(name, "data.order")
    used, first = np.unique(codes[rows], return_index=True)
    line_of = {int(v): columns.line(int(rows[f])) for v, f in zip(used, first, strict=True)}
    filled = [int(v) for v in used[np.argsort(first)] if not is_blank(values[v])]
    parsed = _parse(_number, filled, values)
    if parsed is None:
        parsed = _parse(_date, filled, values)
    if parsed is None:
        wrong = next((v for v in filled if _date(values[v]) is None), filled[0])
        if _date(values[filled[0]]) is None and _number(values[filled[0]]) is not None:
            wrong = next(v for v in filled if _number(values[v]) is None)
        raise DataError(
            f"data.order: line {line_of[wrong]} says {quoted(values[wrong])} in column {name!r}",
            path=columns.table.path,
            cause="the cells are neither all numbers nor all dates as 2019-05-30 or 20190530",
            remedy="correct the cell, or name another column in data.order",
        )
    places = {value: rank for rank, value in enumerate(sorted(set(parsed.values())), start=1)}
    by_code = np.zeros(len(values), np.int64)
    for code, value in parsed.items():
        by_code[code] = places[value]
    return by_code[codes[rows]]


def _parse(
    parse: Callable[[str], Any], codes: list[int], values: list[str]
) -> dict[int, Any] | None:
    """The meaning of every value, or None where one has none."""
    meaning = {code: parse(values[code]) for code in codes}
    return None if any(m is None for m in meaning.values()) else meaning


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _date(text: str) -> datetime | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        date = datetime.fromisoformat(text)
        # A time without a zone is taken as UTC, or the two kinds could not be compared.
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
