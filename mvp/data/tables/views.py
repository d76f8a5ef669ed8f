"""From the names that a table has for views to the views that were configured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from mvp.config import Config
from mvp.data.tables.columns import Columns
from mvp.data.tables.problems import Problem, quoted
from mvp.data.tables.table import is_blank
from mvp.types import IntArray, TextArray

MAX_LISTED = 20
_SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}


def source_views(config: Config, columns: Columns) -> tuple[TextArray, list[Problem]]:
    """(row,) the view of every row, None where none goes by that name; and what those rows are.

    The counts of the problems add up to the rows that have no view: no name is guessed, none is
    passed over.

    Raises:
        ConfigError: the column of views or of sides is not there.
    """
    numbers, names = columns.distinct(config.data.view, "data.view")
    sides, side_names = _sides(config, columns)
    known = alias_table(config)
    # One number for each pair of a view's name and a side.
    pairs = numbers * len(side_names) + sides
    views = np.full(len(names) * len(side_names), None, dtype=object)
    for i, name in enumerate(names):
        for j, side in enumerate(side_names):
            views[i * len(side_names) + j] = _find(known, name, side)
    found = views[pairs]
    return found, _strange(known, columns, pairs, found, names, side_names)


def alias_table(config: Config) -> Mapping[tuple[str, str | None], str]:
    """(case-folded name or alias, side) to source view; a view without a side stands under None."""
    return {
        (alias.casefold(), view.side): name
        for name, view in config.views.items()
        if view.own_files
        for alias in (name, *view.aliases)
    }


def side_of(cell: str) -> str | None:
    """`left`, `right`, or None: both sides, or nothing that names one."""
    return _SIDES.get(cell.strip().casefold())


def _sides(config: Config, columns: Columns) -> tuple[IntArray, list[str]]:
    if all(view.side is None for view in config.views.values()):
        return np.zeros(len(columns), np.int64), [""]
    return columns.distinct(str(config.data.laterality), "data.laterality")


def _find(known: Mapping[tuple[str, str | None], str], name: str, side: str) -> str | None:
    # A view without a side takes its rows whatever side they are of.
    return known.get((name.casefold(), side_of(side))) or known.get((name.casefold(), None))


def _strange(
    known: Mapping[tuple[str, str | None], str],
    columns: Columns,
    pairs: IntArray,
    found: TextArray,
    names: list[str],
    sides: list[str],
) -> list[Problem]:
    aliases = {alias for alias, _ in known}
    # What the rows without a view are of, with the first of them and their number.
    first: dict[str, int] = {}
    counts: Counter[str] = Counter()
    rows = np.array([row for row, view in enumerate(found) if view is None], dtype=np.int64)
    for pair, place, count in zip(
        *np.unique(pairs[rows], return_index=True, return_counts=True), strict=True
    ):
        name, side = names[pair // len(sides)], sides[pair % len(sides)]
        what = f"the view {_shown(name)}, an alias of no configured view"
        if name.casefold() in aliases:
            what = f"the view {_shown(name)} with the side {_shown(side)}, which no view takes"
        row = int(rows[place])
        first[what] = min(row, first.get(what, row))
        counts[what] += int(count)
    ranked = sorted(counts, key=lambda what: (-counts[what], first[what]))
    problems = [_left_out(counts[w], w, columns.line(first[w])) for w in ranked[:MAX_LISTED]]
    if rest := ranked[MAX_LISTED:]:
        line = columns.line(min(first[w] for w in rest))
        what = f"{len(rest)} further views, aliases of no configured view"
        problems.append(_left_out(sum(counts[w] for w in rest), what, line))
    return problems


def _left_out(count: int, what: str, line: int) -> Problem:
    text = (
        f"{count} rows are of {what} (first: line {line}); they are left out; name it in the "
        "aliases of a view to use them"
    )
    return Problem("unknown-view", "warning", text, count)


def _shown(cell: str) -> str:
    return "(blank)" if is_blank(cell) else quoted(cell)
