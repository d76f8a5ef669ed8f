"""Drift: how far new features lie from those of training, view by view, in one pass.

A study's distance in a view is the root of its mean squared standardised deviation: 1 is usual
for a training study. Networks see held-out studies otherwise than those they were trained on, so
new ones are compared with held-out training studies: by their median distance, by the share beyond
the 99th percentile, and by the population stability index (Siddiqi 2006) of the distance and of
a few random projections, which also notice a shift that leaves distances as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvp.errors import DataError
from mvp.statistics.drift_report import DriftReport, PatternShare, ViewDrift, stability_index
from mvp.statistics.drift_view import (
    PROJECTIONS,
    Moments,
    ViewReference,
    view_from_json,
    with_held_out,
)
from mvp.statistics.ranking import Float
from mvp.statistics.sketch import Sketch

# (row, feature) of some studies, view by view, same studies everywhere; NaN where a view is absent.
Blocks = Mapping[str, NDArray[Any]]
_ROWS_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class DriftReference:
    """What training studies looked like; knows neither studies nor patients.

    Attributes:
        views: a reference for every view.
        patterns: training studies by pattern of present views, such as "frontal+lateral".
    """

    views: Mapping[str, ViewReference]
    patterns: Mapping[str, int]

    @classmethod
    def fit(cls, training: Iterable[Blocks], held_out: Iterable[Blocks]) -> DriftReference:
        """Learn what is usual, in one pass over each.

        Args:
            training: features of the studies that the heads learn from, in batches of any size.
            held_out: of training studies that neither networks nor heads learn from.

        Raises:
            DataError: a view changes its width, is partly NaN or infinite, or is held out alone.
        """
        moments: dict[str, Moments] = {}
        patterns: dict[str, int] = {}
        for blocks in training:
            _count(patterns, blocks)
            for view, block in blocks.items():
                for part in _present(view, block):
                    moments.setdefault(view, Moments(part.shape[1])).add(view, part)
        bare = {view: made.reference() for view, made in moments.items()}
        sketches = {view: [Sketch() for _ in range(1 + PROJECTIONS)] for view in bare}
        for blocks in held_out:
            _measure(bare, sketches, blocks)
        return cls({v: with_held_out(bare[v], sketches[v]) for v in bare}, patterns)

    def to_json(self) -> dict[str, Any]:
        """The reference as plain values."""
        views = {view: reference.to_json() for view, reference in self.views.items()}
        return {"views": views, "patterns": dict(self.patterns)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DriftReference:
        """The reference that `to_json` wrote.

        Raises:
            DataError: the value is none.
        """
        try:
            views = {str(view): view_from_json(fields) for view, fields in value["views"].items()}
            patterns = {str(name): int(count) for name, count in value["patterns"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError("a stored drift reference cannot be read") from error
        return cls(views, patterns)


class DriftMeter:
    """Compares new studies with a reference, batch after batch; its memory does not grow.

    Args:
        reference: of the training studies.
    """

    def __init__(self, reference: DriftReference) -> None:
        self.reference = reference
        self._sketches = {
            view: [Sketch() for _ in range(1 + PROJECTIONS)] for view in reference.views
        }
        self._beyond = dict.fromkeys(reference.views, 0)
        self._patterns: dict[str, int] = {}

    def add(self, blocks: Blocks) -> None:
        """Take in some new studies.

        Args:
            blocks: their features, as in `DriftReference.fit`.

        Raises:
            DataError: a view or width that the reference does not know, or partly NaN or infinite.
        """
        distances = _measure(self.reference.views, self._sketches, blocks)
        _count(self._patterns, blocks)
        for view, some in distances.items():
            far = self.reference.views[view].far
            self._beyond[view] += 0 if far is None else int((some > far).sum())

    def report(self) -> DriftReport:
        """What was seen so far."""
        views = tuple(self._view(view) for view in self.reference.views)
        then, now = self.reference.patterns, self._patterns
        before, after = sum(then.values()), sum(now.values())
        names = sorted({*then, *now}, key=lambda n: (-then.get(n, 0), -now.get(n, 0), n))
        patterns = tuple(
            PatternShare(
                name,
                then.get(name, 0) / before if before else None,
                now.get(name, 0) / after if after else None,
                now.get(name, 0),
            )
            for name in names
        )
        return DriftReport(after, views, patterns)

    def _view(self, view: str) -> ViewDrift:
        reference, sketches = self.reference.views[view], self._sketches[view]
        rows, median = sketches[0].n, reference.median
        if not rows or median is None:
            return ViewDrift(view, rows, reference.held_out, None, None, None, None, None)
        pairs = zip(reference.distributions, sketches, strict=True)
        shifts = [stability_index(d.counts, s.divided(d.cuts)) for d, s in pairs]
        parts = max(len(d.counts) for d in reference.distributions)
        return ViewDrift(
            view,
            rows,
            reference.held_out,
            float(sketches[0].quantiles(0.5)) / median if median > 0 else None,
            self._beyond[view] / rows,
            shifts[0],
            float(np.mean(shifts[1:])),
            (parts - 1) * (1 / rows + 1 / reference.held_out),
        )


def _measure(
    views: Mapping[str, ViewReference], sketches: Mapping[str, list[Sketch]], blocks: Blocks
) -> dict[str, Float]:
    """Add studies to the sketches; the distances of those that have the view, by view."""
    distances = {}
    for view, block in blocks.items():
        found = []
        for part in _present(view, block):
            known = views.get(view)
            if known is None or part.shape[1] != len(known.mean):
                had = "no study with the view" if known is None else f"width {len(known.mean)}"
                raise DataError(
                    f"features have width {part.shape[1]}, but training had {had}", view=view
                )
            measured = known.measured(view, part)
            for sketch, values in zip(sketches[view], measured, strict=True):
                sketch.add(values)
            found.append(measured[0])
        if found:
            distances[view] = np.concatenate(found)
    return distances


def _present(view: str, block: NDArray[Any]) -> Iterable[Float]:
    """The rows that have the view, float64, few enough at once."""
    if np.ndim(block) != 2:
        raise DataError(
            f"features have shape {np.shape(block)}, expected (row, feature)", view=view
        )
    for start in range(0, len(block), _ROWS_AT_ONCE):
        part = np.asarray(block[start : start + _ROWS_AT_ONCE], np.float64)
        part = part[~np.isnan(part).all(axis=1)]
        if not np.isfinite(part).all():
            raise DataError("features are partly NaN, or infinite", view=view)
        if len(part):
            yield part


def _count(patterns: dict[str, int], blocks: Blocks) -> None:
    """Add studies to the counts by pattern, views in the order of the blocks."""
    if not blocks:
        return
    there = np.stack([~np.isnan(block).all(axis=1) for block in blocks.values()], axis=1)
    for mask, count in zip(*np.unique(there, axis=0, return_counts=True), strict=True):
        name = "+".join(view for view, has in zip(blocks, mask, strict=True) if has)
        patterns[name] = patterns.get(name, 0) + int(count)
