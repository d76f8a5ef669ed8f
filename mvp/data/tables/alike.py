"""Ids that differ in their writing only: one patient taken for two stands in two parts unseen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from mvp.data.tables.columns import Columns
from mvp.data.tables.problems import Problem, quoted
from mvp.types import IntArray, TextArray

_SPACES = re.compile(r"[^\S\n]+")
# Of parts that are numbers: 0012 is 12 before a spreadsheet, 12.0 is 12 after a data frame.
_ZEROS = re.compile(r"(?m)(?:^|(?<=/))0+(?=[0-9]+(?:\.0)?(?:/|$))")
_DECIMAL = re.compile(r"(?m)((?:^|/)[0-9]+)\.0(?=/|$)")


def alike_ids(
    columns: Columns,
    codes: IntArray,
    ids: TextArray,
    what: str,
    names: Sequence[str],
    owners: TextArray | None = None,
) -> list[Problem]:
    """A warning of ids that one hand may have written in two ways.

    They are not joined: nobody can tell from their writing alone.

    Args:
        columns: of the table.
        codes: (row,) the index of each row's study.
        ids: (study,) what is compared.
        what: "study" or "patient".
        names: the columns that they come from.
        owners: (study,) ids are compared within one of these only.
    """
    whose = [""] * len(ids) if owners is None else owners.tolist()
    pairs = list(dict.fromkeys(zip(ids.tolist(), whose, strict=True)))
    simple = _simple([identity for identity, _ in pairs])
    if len(set(simple)) == len(pairs):
        return []
    first: dict[tuple[str, str], str] = {}
    found: list[tuple[str, str]] = []
    for (identity, owner), key in zip(pairs, simple, strict=True):
        other = first.setdefault((key, owner), identity)
        if other != identity:
            found.append((other, identity))
    if not found:
        return []
    one, two = found[0]
    line = columns.line(int(np.flatnonzero(ids[codes] == two)[0]))
    text = (
        f"{len(found)} ids of data.{what} = {list(names)} differ from another only in case, "
        f"spaces, leading zeros or the form of letters (first: {quoted(two)} on line {line}, and "
        f"{quoted(one)}); they are taken as two; write them alike where they are one"
    )
    return [Problem(f"alike-{what}", "warning", text, len(found))]


def _simple(ids: Sequence[str]) -> list[str]:
    """Ids without what a keyboard, a spreadsheet or a file system may change in them."""
    # One text for all: an id holds no line break, and a loop over them takes many times longer.
    text = "\n".join(ids)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = _SPACES.sub(" ", text.casefold())
    return _DECIMAL.sub(r"\1", _ZEROS.sub("", text)).split("\n")
