"""Standardised features with a missing view at the mean: for all learners that need a scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvp.features.casting import all_finite
from mvp.features.table import FeatureTable
from mvp.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Standardiser:
    """Mean and standard deviation of every feature over the studies that have its view.

    After standardising, 0 is the mean, so writing 0 for a missing view is mean imputation.

    Attributes:
        mean: (Σ feature,) float32.
        std: (Σ feature,) float32; 1 where a feature is constant or its view never present.
    """

    mean: FloatArray
    std: FloatArray

    @classmethod
    def fit(cls, table: FeatureTable, rows: IntArray | None = None) -> Standardiser:
        """Measured on the given rows of the training table (default: all) and on no others."""
        return cls.of(*table_moments(table if rows is None else table.select(rows)))

    @classmethod
    def of(cls, mean: NDArray[np.float64], std: NDArray[np.float64]) -> Standardiser:
        """From what `moments` measured, (Σ feature,) each."""
        # A constant feature has a spread of rounding errors, which must not be blown up.
        constant = std <= 1e-6 * np.maximum(np.abs(mean), 1e-12)
        return cls(mean.astype(np.float32), np.where(constant, 1.0, std).astype(np.float32))

    def transform(self, matrix: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """(study, Σ feature) float32 without NaN, from `table.matrix()` or a batch of it.

        Args:
            matrix: NaN where a view is missing.
            out: where to, instead of a new array; may be `matrix` itself.
        """
        out = np.empty(matrix.shape, np.float32) if out is None else out
        np.subtract(matrix, self.mean, out=out, casting="same_kind")
        out /= self.std
        return out if all_finite(out) else np.nan_to_num(out, copy=False, nan=0.0)


def table_moments(table: FeatureTable) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation, (Σ feature,), over the studies that have a feature's view."""
    parts = []
    for position, view in enumerate(table.views):
        own = table.only([view]).select(table.presence[:, position])
        parts.append(moments((batch for _, batch in own.batches()), own.signature.widths[0]))
    mean, std = (np.concatenate(part) for part in zip(*parts, strict=True))
    return mean, std


def moments(
    batches: Iterable[FloatArray], width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of every feature, zeros without rows; a batch in memory.

    Batches are joined after Chan, Golub and LeVeque (1983, The American Statistician 37, 242-247).

    Args:
        batches: (row, feature) each.
        width: number of features.
    """
    count, mean, squares = 0, np.zeros(width), np.zeros(width)
    for batch in batches:
        if not len(batch):
            continue
        own = batch.mean(axis=0, dtype=np.float64)
        squares += np.square(batch - own).sum(axis=0)
        if count:
            away = own - mean
            both = count + len(batch)
            squares += away**2 * (count * len(batch) / both)
            mean = mean + away * (len(batch) / both)
        else:
            mean = own
        count += len(batch)
    return mean, np.sqrt(squares / max(count, 1))
