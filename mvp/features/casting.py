"""From features as a network gives them to numbers that may be stored."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mvp.errors import DataError
from mvp.types import FloatArray


def storable(values: FloatArray, rejected: Mapping[int, str], dtype: str) -> np.ndarray:
    """Features cast to the stored type, (row, feature).

    Raises:
        DataError: a row that is not rejected is not finite, or does not fit the type.
    """
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(values, dtype=dtype)
    bad = np.asarray(~np.isfinite(stored).all(axis=1))
    bad[list(rejected)] = False
    if bad.any():
        overflow = bool(np.isfinite(values[bad]).all())
        raise DataError(
            f"{int(bad.sum())} rows of features are not finite"
            + (f" after the cast to {dtype}" if overflow else ""),
            cause="values exceed the type's range" if overflow else "the network gave NaN or inf",
            remedy='set extract.dtype = "float32"' if overflow else "look at the weights",
        )
    return stored
