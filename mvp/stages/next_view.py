"""Next view: which view that a study lacks would most likely change what is decided of it.

For a study with views P and a missing view v, the reference are studies that have P and v. Each is
scored twice, with P alone shown and with P and v, everything else hidden; its decision flips when
the two differ. The estimate for a study is the share of flips among the k reference studies of the
same decision whose scores are nearest, on the scale of log odds, with Wilson's interval (1927) for
a share: nearest neighbours of one dimension, so nothing is assumed of the shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvp.stages._hidden import Reference
from mvp.types import BoolArray, FloatArray, IntArray, Target, output_slices

Floats = NDArray[np.float64]
# Of fewer studies no share is told.
LEAST = 10
USUAL = 30
_SMALLEST = 2.0**-25  # float32 tells no probability nearer to 1 from it
_95 = 1.959963984540054


@dataclass(frozen=True, eq=False)
class NextViews:
    """For every study, label and view how likely the view is to change the decision.

    Attributes:
        calls: (study, label) what is decided now: 1 or 0, the number of a class, -1 for nothing.
        flips: (study, label, view) share of similar studies whose decision the view changed; NaN
            where the study has the view, or there are fewer than 10 similar studies.
        low: of its interval, likewise.
        high: likewise.
        rests_on: (study, label, view) similar studies.
        held_out: (study, label, view) False where the head was fitted on some of them.
    """

    calls: IntArray
    flips: Floats
    low: Floats
    high: Floats
    rests_on: IntArray
    held_out: BoolArray

    def best(self) -> IntArray:
        """(study, label) the number of the view most likely to change it; -1 for none."""
        known = ~np.isnan(self.flips)
        first = np.where(known, self.flips, -1.0).argmax(axis=2)
        return np.where(known.any(axis=2), first, -1)


def calls_of(
    p: FloatArray, targets: Sequence[Target], thresholds: Sequence[float]
) -> tuple[IntArray, Floats]:
    """What is decided of every study and label, and the log odds that it is decided by.

    Args:
        p: (study, output) probabilities; NaN where nothing is said.
        targets: the labels.
        thresholds: of each label, 1 at or above it; several classes have none and the most
            probable one is decided.

    Returns:
        (study, label) 1 or 0, or the number of the class, -1 where nothing is said; (study, label)
        log odds of the probability of a binary label, or of the most probable class.
    """
    calls = np.full((len(p), len(targets)), -1, np.int64)
    odds = np.full(calls.shape, np.nan)
    for column, (target, places) in enumerate(zip(targets, output_slices(targets), strict=True)):
        own = np.asarray(p[:, places], np.float64)
        said = ~np.isnan(own).any(axis=1)
        if target.multiclass:
            calls[said, column] = own[said].argmax(axis=1)
        else:
            calls[said, column] = own[said, 0] >= thresholds[column]
        top = np.clip(own[said].max(axis=1), _SMALLEST, 1 - _SMALLEST)
        odds[said, column] = np.log(top) - np.log1p(-top)
    return calls, odds


def flip_shares(
    odds: Floats, flipped: BoolArray, asked: Floats, neighbours: int
) -> tuple[Floats, int]:
    """The share of flips among the nearest reference studies of every study that is asked about.

    Args:
        odds: (reference,) log odds.
        flipped: (reference,) whether the decision changed.
        asked: (study,) log odds.
        neighbours: how many count; all where there are fewer.

    Returns:
        (study,) shares; how many they rest on.
    """
    order = np.argsort(odds, kind="stable")
    x, total = odds[order], np.concatenate([[0], np.cumsum(flipped[order])])
    count = min(neighbours, len(x))
    # The k nearest of a sorted line stand together; the window moves on when the one after it is
    # nearer than its first.
    middles = (x[: len(x) - count] + x[count:]) / 2
    start = np.searchsorted(middles, asked, "left")
    return (total[start + count] - total[start]) / count, count


def usual_neighbours(studies: int) -> int:
    """30, or half of n to the power of 4/5, at which bias and noise of neighbours shrink alike."""
    return max(USUAL, round(studies**0.8 / 2))


def wilson(share: Floats, count: int) -> tuple[Floats, Floats]:
    """Wilson's 95% interval of a share.

    Args:
        share: (study,) between 0 and 1.
        count: how many it is of.
    """
    middle = (share + _95**2 / (2 * count)) / (1 + _95**2 / count)
    spread = np.sqrt(share * (1 - share) / count + (_95 / (2 * count)) ** 2)
    half = _95 * spread / (1 + _95**2 / count)
    return np.maximum(0, middle - half), np.minimum(1, middle + half)


def next_views(
    reference: Reference,
    presence: BoolArray,
    said: FloatArray,
    targets: Sequence[Target],
    thresholds: Sequence[float],
    *,
    neighbours: int | None = None,
) -> NextViews:
    """How likely each missing view of each study is to change its decisions.

    Where fewer held-out reference studies than `neighbours`, or 30, are decided alike, those that
    the head was fitted on are taken too; these flip too rarely or too often, and `held_out` says
    so.

    Args:
        reference: the studies to learn from.
        presence: (study, view) of the studies that are asked about.
        said: (study, output) what the head says of them, NaN where nothing.
        targets: the labels.
        thresholds: see `calls_of`.
        neighbours: reference studies that an estimate rests on; without it `usual_neighbours`.
    """
    calls, odds = calls_of(said, targets, thresholds)
    shape = (*calls.shape, presence.shape[1])
    found = NextViews(
        calls,
        np.full(shape, np.nan),
        np.full(shape, np.nan),
        np.full(shape, np.nan),
        np.zeros(shape, np.int64),
        np.ones(shape, bool),
    )
    patterns, which = np.unique(presence, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows = np.flatnonzero(which.reshape(-1) == number)
        shown = tuple(int(v) for v in np.flatnonzero(pattern))
        for view in map(int, np.flatnonzero(~pattern)) if shown else ():
            more = tuple(sorted((*shown, view)))
            before = calls_of(reference.ask(shown), targets, thresholds)
            after, _ = calls_of(reference.ask(more), targets, thresholds)
            usable = np.asarray(reference.presence[:, list(more)].all(axis=1), bool)
            for label in range(len(targets)):
                columns = (before[0][:, label], before[1][:, label], after[:, label])
                _estimate(
                    found, columns, usable, reference.held_out, odds, rows, label, view, neighbours
                )
    return found


def _estimate(
    found: NextViews,
    columns: tuple[IntArray, Floats, IntArray],
    usable: BoolArray,
    held_out: BoolArray,
    odds: Floats,
    rows: IntArray,
    label: int,
    view: int,
    neighbours: int | None,
) -> None:
    """Fill in the shares of some studies of one pattern, for one label and one missing view."""
    before, scores, after = columns
    usable = usable & (before >= 0) & (after >= 0)
    for call in np.unique(found.calls[rows, label]):
        alike = usable & (before == call)
        kept = alike & held_out
        clean = int(kept.sum()) >= min(neighbours or USUAL, int(alike.sum()))
        chosen = kept if clean else alike
        if call < 0 or chosen.sum() < LEAST:
            continue
        mine = rows[found.calls[rows, label] == call]
        flipped = after[chosen] != call
        most = neighbours or usual_neighbours(len(flipped))
        share, count = flip_shares(scores[chosen], flipped, odds[mine, label], most)
        place = (mine, label, view)
        found.flips[place] = share
        found.low[place], found.high[place] = wilson(share, count)
        found.rests_on[place], found.held_out[place] = count, clean
