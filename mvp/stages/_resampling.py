"""Resamples of patients, drawn once for every set of rows that models can score."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from mvp.config import EvaluateConfig
from mvp.statistics import Interval, PatientBootstrap
from mvp.types import BoolArray, TextArray

Numbers = NDArray[Any]


class Resampling:
    """Intervals of metrics on the rows that a model, or two of them, can score.

    Args:
        groups: (row,) patient of each test row.
        settings: resamples and level.
        seed: decides the resamples.
    """

    def __init__(self, groups: TextArray, settings: EvaluateConfig, seed: int) -> None:
        self.groups, self.settings, self.seed = groups, settings, seed
        self._kept: dict[bytes, PatientBootstrap] = {}

    def metric(self, rows: BoolArray, y: Numbers, p: Numbers, name: str) -> Interval:
        """A metric of one model by 0/1 labels, on some rows; see `PatientBootstrap.interval`."""
        if not rows.any():
            return self.nothing()
        return self._on(rows).interval(y[rows], p[rows], name)

    def difference(self, rows: BoolArray, y: Numbers, p: Numbers, q: Numbers) -> Interval:
        """AUROC of p minus that of q, paired, on some rows."""
        if not rows.any():
            return self.nothing()
        return self._on(rows).paired_difference(y[rows], p[rows], q[rows])

    def mean(self, rows: BoolArray, values: Numbers) -> Interval:
        """The mean of some values, NaN where unknown, on some rows."""
        return self._on(rows).mean(values[rows]) if rows.any() else self.nothing()

    def nothing(self) -> Interval:
        """What is known of a metric without any row."""
        return Interval(
            estimate=None,
            low=None,
            high=None,
            level=self.settings.level,
            draws=self.settings.draws,
            undefined_draws=self.settings.draws,
            n=0,
            positives=0,
            patients=0,
        )

    def _on(self, rows: BoolArray) -> PatientBootstrap:
        kept = self._kept.get(rows.tobytes())
        if kept is None:
            kept = PatientBootstrap(
                self.groups[rows],
                draws=self.settings.draws,
                seed=self.seed,
                level=self.settings.level,
            )
            self._kept[rows.tobytes()] = kept
        return kept
