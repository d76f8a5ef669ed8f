"""The rows of one unit while their images come in."""

from __future__ import annotations

import numpy as np

from mvp.types import FloatArray


class UnitRows:
    """The rows of one unit as their images come in; slices of one row are pooled."""

    def __init__(self, counts: list[int], shape: tuple[int, ...], instances: str) -> None:
        self._counts, self._instances = counts, instances
        start = -np.inf if instances == "max" else 0.0
        self._sum = np.full((len(counts), *shape), start, np.float32)
        self.rejected: dict[int, str] = {}

    def add(self, places: list[int], features: FloatArray) -> None:
        """Features (n, ...) of images that belong to these rows."""
        if self._instances == "keep":
            self._sum[places] = features
        elif self._instances == "max":
            np.maximum.at(self._sum, places, features)
        else:
            # In the order of the slices, whatever the batches: one row's sum is always the same.
            np.add.at(self._sum, places, features)

    def values(self) -> FloatArray:
        """(row, ...), NaN where rejected."""
        values = self._sum
        if self._instances == "mean":
            values /= np.reshape(np.array(self._counts, np.float32), (-1, *[1] * (values.ndim - 1)))
        values[list(self.rejected)] = np.nan
        return values
