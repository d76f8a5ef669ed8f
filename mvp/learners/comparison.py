"""The fusion head beside what it must beat: one head per view, and the mean of their opinions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mvp.features.table import FeatureTable
from mvp.learners.head import Head
from mvp.types import FloatArray

FUSION = "fusion"
MEAN = "mean"


@dataclass(frozen=True, eq=False)
class HeadFamily:
    """A fusion head and the heads of the single views, all by one learner on the same rows.

    Attributes:
        fusion: fitted on the concatenated views.
        singles: for each view the head fitted on it alone; empty where there is one view only,
            and a view is absent where it could not be fitted.
    """

    fusion: Head
    singles: dict[str, Head]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of what `predict` gives: each view, the mean, the fusion."""
        views = [v for v in self.fusion.signature.views if v in self.singles]
        return (*views, MEAN, FUSION) if views else (FUSION,)

    def predict(self, table: FeatureTable) -> dict[str, FloatArray]:
        """For each model (study, output) probabilities; NaN where it cannot say anything.

        A single view's head says nothing about a study without that view, or about a label that
        it could not be fitted on. The mean is over the views that say something.
        """
        outputs = self.fusion.outputs
        result: dict[str, FloatArray] = {}
        for view in self.models[:-2]:
            result[view] = opinion(self.singles[view], view, table, outputs)
        if result:
            result[MEAN] = nan_mean(list(result.values()))
        result[FUSION] = self.fused(table)
        return result

    def fused(self, table: FeatureTable) -> FloatArray:
        """(study, output) probabilities of the fusion; NaN for a study without any view."""
        values = np.full((len(table), len(self.fusion.outputs)), np.nan, np.float32)
        seen = np.asarray(table.only(self.fusion.signature.views).presence.any(axis=1))
        if seen.any():
            values[seen] = self.fusion.predict(table if seen.all() else table.select(seen))
        return values


def opinion(head: Head, view: str, table: FeatureTable, outputs: Sequence[str]) -> FloatArray:
    """(study, output) what the head of one view says; NaN where it cannot say anything.

    Args:
        head: fitted on the view, for all of the outputs or some.
        view: its name.
        table: features of that view and maybe others.
        outputs: names of the columns wanted.
    """
    own = table.only([view])
    values = np.full((len(table), len(outputs)), np.nan, np.float32)
    seen = own.presence[:, 0]
    if seen.any():
        columns = np.array([outputs.index(name) for name in head.outputs])
        values[np.ix_(np.flatnonzero(seen), columns)] = head.predict(own.select(seen))
    return values


def nan_mean(values: Sequence[FloatArray]) -> FloatArray:
    """The mean over those arrays that say something; NaN where none does."""
    stacked = np.stack(values)
    known = ~np.isnan(stacked)
    count = known.sum(axis=0)
    total = np.where(known, stacked, 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
