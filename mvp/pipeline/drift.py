"""How far the studies that are scored lie from those that the heads learnt from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from mvp.features import FeatureTable
from mvp.learners.ensemble import HeadRows
from mvp.statistics.drift import Blocks, DriftMeter, DriftReference
from mvp.statistics.drift_report import DriftReport
from mvp.types import IntArray

# So many studies show what is usual, and measuring all of a large table would not be free: of the
# training studies, and of each part of a table that is scored.
ROWS, PART_ROWS = 20_000, 5_000
# What the share of a pattern of views has to change by to be told.
_TOLD = 0.1


def drift_references(rows: Mapping[str, HeadRows], seed: int) -> dict[str, DriftReference]:
    """For each fold what features looked like in training, held-out studies being the inner ones.

    Args:
        rows: for each fold its studies: roles `train` and `inner`.
        seed: decides which studies, where there are more than 20,000.
    """
    return {fold: _reference(one, seed) for fold, one in rows.items()}


def drift_lines(report: DriftReport) -> list[str]:
    """A line for every view, and for every pattern of views that is more or less frequent now."""
    moved = [p for p in report.patterns if abs((p.now or 0) - (p.then or 0)) >= _TOLD]
    return [v.text for v in report.views] + [p.text for p in moved]


class DriftWatch:
    """Measures the studies of a scoring run, fold by fold, while their features are at hand.

    Args:
        references: for each fold what its features looked like in training.
    """

    def __init__(self, references: Mapping[str, DriftReference]) -> None:
        self._meters = {fold: DriftMeter(known) for fold, known in references.items()}
        self._every = 0
        self._passed = 0

    def expect(self, studies: int) -> None:
        """Say how many studies the next part has; of a long table every n-th is measured."""
        # The parts of a table are of one length but the last, so the first one decides.
        self._every = self._every or max(1, -(-studies // PART_ROWS))

    def add(self, tables: Mapping[str, FeatureTable]) -> None:
        """Take in a block of studies, by fold, all of the same studies."""
        count = len(next(iter(tables.values())))
        rows = np.arange(-self._passed % self._every, count, self._every)
        self._passed += count
        for fold, meter in self._meters.items():
            known = [v for v in tables[fold].views if v in meter.reference.views]
            for blocks in blocks_of(tables[fold].select(rows).only(known)):
                meter.add(blocks)

    def reports(self) -> dict[str, DriftReport]:
        """For each fold what was seen."""
        return {fold: meter.report() for fold, meter in self._meters.items()}


def blocks_of(table: FeatureTable) -> Iterator[Blocks]:
    """The features of a table, view by view, in bounded memory."""
    places = table.signature.slices
    for _, matrix in table.batches():
        yield {view: matrix[:, columns] for view, columns in places.items()}


def _reference(rows: HeadRows, seed: int) -> DriftReference:
    train, inner = (_drawn(rows, role, seed) for role in ("train", "inner"))
    # A rare view may stand on the held-out studies of a fold alone: nothing is usual of it.
    known = [view for i, view in enumerate(train.views) if train.presence[:, i].any()]
    return DriftReference.fit(blocks_of(train), blocks_of(inner.only(known)))


def _drawn(rows: HeadRows, role: str, seed: int) -> FeatureTable:
    there: IntArray = np.flatnonzero(rows.mask(role))
    if len(there) > ROWS:
        drawn = np.random.default_rng(seed % 2**32).choice(there, ROWS, replace=False)
        there = np.sort(drawn)
    return rows.table.select(there)
