"""What a comparison of new studies with training says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class ViewDrift:
    """How far the new studies of a view lie from training.

    Attributes:
        view: its name.
        rows: new studies that have it.
        held_out: training studies that they are compared with.
        times_as_far: median distance over that of the held-out studies; None where undefined.
        beyond: share of the new studies that lie beyond the 99th percentile of the held-out ones.
        distance_index: population stability index of the distance.
        projection_index: the mean one of the projections.
        index_by_chance: what an index is expected to be, without drift, from so few rows.
    """

    view: str
    rows: int
    held_out: int
    times_as_far: float | None
    beyond: float | None
    distance_index: float | None
    projection_index: float | None
    index_by_chance: float | None

    @property
    def text(self) -> str:
        """One line for a person."""
        if not self.rows:
            return f"{self.view}: no study has it"
        if not self.held_out or self.beyond is None:
            return f"{self.view}: undefined, no held-out training study has it"
        far = "undefined" if self.times_as_far is None else f"{self.times_as_far:.1f} times"
        return (
            f"{self.view}: {far} as far from training as held-out training studies; "
            f"{self.beyond:.0%} of {self.rows} studies beyond the 99th percentile; "
            f"stability index {self.distance_index:.2f} of the distance, "
            f"{self.projection_index:.2f} of projections ({self.index_by_chance:.2f} by chance)"
        )


@dataclass(frozen=True)
class PatternShare:
    """The share of a pattern of present views then (training) and now; None of no studies."""

    pattern: str
    then: float | None
    now: float | None
    rows: int

    @property
    def text(self) -> str:
        """One line for a person."""
        then, now = ("undefined" if s is None else f"{s:.1%}" for s in (self.then, self.now))
        # One view's name would read as all studies that have it.
        alone = "" if "+" in self.pattern or not self.pattern else " alone"
        named = self.pattern or "no view"
        return f"{named}{alone}: {then} of the studies in training, {now} now"


@dataclass(frozen=True)
class DriftReport:
    """All views and patterns.

    Attributes:
        studies: new studies.
        views: one for every view of the reference.
        patterns: the most frequent in training first.
    """

    studies: int
    views: tuple[ViewDrift, ...]
    patterns: tuple[PatternShare, ...]

    @property
    def lines(self) -> list[str]:
        """A line for every view, then for every pattern."""
        return [v.text for v in self.views] + [p.text for p in self.patterns]

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)


def stability_index(then: Sequence[int] | ArrayLike, now: Sequence[int] | ArrayLike) -> float:
    """Population stability index of two counts over the same parts (Siddiqi 2006).

    The sum of (now - then) log(now / then) over shares; 0 where they agree. An empty part counts as
    half a row. Without drift it is about (parts - 1) (1 / rows then + 1 / rows now) (Yurdakul and
    Naranjo 2020), so the customary marks of 0.1 and 0.25 need hundreds of rows.

    Args:
        then: (part,) counts, not all 0.
        now: likewise.
    """
    shares = []
    for counts in (np.asarray(then, np.float64), np.asarray(now, np.float64)):
        filled = np.maximum(counts, 0.5)
        shares.append(filled / filled.sum())
    before, after = shares
    return float(((after - before) * np.log(after / before)).sum())
