"""Patient folds of training rows: what a search of options fits on, stops on and measures on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mvp.data.splits.stratify import deal, link_groups, traits
from mvp.errors import DataError
from mvp.features import FeatureTable
from mvp.learners.ensemble import HeadRows
from mvp.learners.guards import learnable
from mvp.types import UNFOLDED, BoolArray, IntArray, Labels, one_hot

# The share of a fold's training patients that says when to stop.
_STOP_SHARE = 0.15


@dataclass(frozen=True, eq=False)
class SearchPart:
    """Row numbers of one fold: of disjoint patients.

    Attributes:
        train: fitted on.
        stop: for early stopping; empty where heads do not stop early.
        held: measured on.
    """

    train: IntArray
    stop: IntArray
    held: IntArray


@dataclass(frozen=True, eq=False)
class SearchRows:
    """One member's training studies, dealt to folds."""

    table: FeatureTable
    labels: Labels
    parts: list[SearchPart]


def search_rows(
    rows: Mapping[str, HeadRows], folds: int, stops: bool, seed: int
) -> tuple[list[SearchRows], list[str], list[str]]:
    """Deal the training rows of every member to patient folds.

    Args:
        rows: for each fold of networks its studies; only those of role `train` are looked at.
        folds: how many, fewer where there are fewer patients.
        stops: keep rows apart for early stopping.
        seed: breaks ties.

    Returns:
        The members, with the labels that every fold can teach; the outputs that every member can
        be measured on; and the names of the others.

    Raises:
        DataError: there is nobody to hold out, or nothing to measure.
    """
    dealt = [(fold, *one.of("train")) for fold, one in rows.items()]
    parts = [_parts(t, labels, folds, stops, seed, fold) for fold, t, labels in dealt]
    kept: set[int] | None = None
    for (_, _, labels), own in zip(dealt, parts, strict=True):
        for part in own:
            some = set(learnable(labels.select(part.train)))
            kept = some if kept is None else kept & some
    columns = sorted(kept or ())
    members = [
        SearchRows(table, labels.only(columns), own)
        for (_, table, labels), own in zip(dealt, parts, strict=True)
    ]
    outputs = [
        name
        for i, name in enumerate(members[0].labels.outputs)
        if all(_measurable(member, i) for member in members)
    ]
    if not outputs:
        raise DataError(
            "no label shows both classes among patients held out of the training rows, so options "
            "cannot be compared",
            remedy="leave --trials out, or add training studies of the rarer class",
        )
    every = dealt[0][2].outputs
    return members, outputs, [name for name in every if name not in outputs]


def _measurable(member: SearchRows, column: int) -> bool:
    truth = one_hot(member.labels)[:, column]
    return any((truth[p.held] == 0).any() and (truth[p.held] == 1).any() for p in member.parts)


def _parts(
    table: FeatureTable, labels: Labels, folds: int, stops: bool, seed: int, fold: str
) -> list[SearchPart]:
    groups = link_groups(table.groups)
    patients = int(groups.max()) + 1 if len(groups) else 0
    number = min(folds, patients)
    if number < 2:
        where = "" if fold == UNFOLDED else f" of {fold}"
        raise DataError(
            f"options cannot be searched with {patients} patient(s) in the training rows{where}",
            cause="they are measured on patients that they were not fitted on",
            remedy="leave --trials out, or look at the split with `mvp check`",
        )
    members = traits(labels, table.presence)
    dealt = deal(groups, {}, members, [1 / number] * number, seed)[groups]
    parts = []
    for k in range(number):
        rest = np.flatnonzero(dealt != k)
        stop = _stopping(groups[rest], members[rest], seed) if stops else np.zeros(len(rest), bool)
        parts.append(SearchPart(rest[~stop], rest[stop], np.flatnonzero(dealt == k)))
    return parts


def _stopping(groups: IntArray, members: np.ndarray, seed: int) -> BoolArray:
    """(row,) True for those of the patients that say when to stop."""
    _, own = np.unique(groups, return_inverse=True)
    bins = deal(own.astype(np.int64), {}, members, [1 - _STOP_SHARE, _STOP_SHARE], seed)
    return np.asarray(bins[own] == 1)
