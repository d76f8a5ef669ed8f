"""From the names that a table has for views to the views that were configured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mvp.config import Config
from mvp.data.tables import is_blank

MAX_LISTED = 20


def source_views(
    cells: Sequence[str], config: Config
) -> tuple[list[str | None], list[tuple[str, int]]]:
    """The view of every row, None where none goes by that name; and what those rows are, counted.

    The counts add up to the rows that have no view: no name is guessed, none is passed over.
    """
    known = alias_table(config)
    views = [known.get(cell.casefold()) for cell in cells]
    strange = Counter(cell for cell, view in zip(cells, views, strict=True) if view is None)
    ranked = strange.most_common()
    listed = []
    for cell, count in ranked[:MAX_LISTED]:
        name = "(blank)" if is_blank(cell) else repr(cell[:80])
        listed.append((f"the view {name}, an alias of no configured view", count))
    if rest := sum(count for _, count in ranked[MAX_LISTED:]):
        further = len(ranked) - MAX_LISTED
        listed.append((f"{further} further views, aliases of no configured view", rest))
    return views, listed


def alias_table(config: Config) -> Mapping[str, str]:
    """Case-folded name or alias to source view."""
    return {
        alias.casefold(): name
        for name, view in config.views.items()
        if view.own_files
        for alias in (name, *view.aliases)
    }
