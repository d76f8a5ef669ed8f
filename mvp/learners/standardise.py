"""Standardised features with a missing view at the mean: shared by MLP and scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
        table = table if rows is None else table.select(rows)
        means, stds = [], []
        for position, view in enumerate(table.views):
            present = table.select(table.presence[:, position]).block(view)
            width = present.shape[1]
            if not len(present):
                means.append(np.zeros(width))
                stds.append(np.ones(width))
                continue
            mean = present.mean(axis=0, dtype=np.float64)
            std = np.sqrt(np.square(present - mean).mean(axis=0))
            # A constant feature has a spread of rounding errors, which must not be blown up.
            constant = std <= 1e-6 * np.maximum(np.abs(mean), 1e-12)
            means.append(mean)
            stds.append(np.where(constant, 1.0, std))
        return cls(
            np.concatenate(means).astype(np.float32), np.concatenate(stds).astype(np.float32)
        )

    def transform(self, matrix: FloatArray) -> FloatArray:
        """(study, Σ feature) float32 without NaN, from `table.matrix()` or a batch of it."""
        return np.nan_to_num((matrix - self.mean) / self.std, nan=0.0).astype(np.float32)
