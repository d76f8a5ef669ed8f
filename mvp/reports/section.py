"""Parts of a report page: a question, how to read the answer, tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table with its caption; every cell is a text or a whole number.

    Attributes:
        caption: what it shows.
        names: of its columns.
        rows: as many cells each.
        strong: numbers of the rows that stand out.
    """

    caption: str
    names: Sequence[str]
    rows: Sequence[Sequence[Any]]
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Section:
    """A question and its answer.

    Attributes:
        title: the question.
        text: how to read what follows.
        tables: those with rows are shown.
        pictures: file names; those that were drawn are shown.
    """

    title: str
    text: str
    tables: Sequence[Table]
    pictures: Sequence[str] = ()
