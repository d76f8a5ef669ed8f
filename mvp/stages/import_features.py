"""Import: features from elsewhere into the store, under a key and rows of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mvp.config import ExtractConfig
from mvp.errors import DataError
from mvp.features import FeatureKey, KeyStore
from mvp.files import digest_bytes, digest_json
from mvp.stages._rows import store_rows
from mvp.types import FloatArray

ENGINE = "import"
# Other things that are digested into rows are images: no row of numbers shall pass for one.
_PREFIX = b"mvp imported row\0"


def imported_key(view: str, columns: Sequence[str], made_by: str, dtype: str) -> FeatureKey:
    """The key of imported features: their columns in order, and what they say made them.

    Args:
        view: its name.
        columns: names of the features.
        made_by: the model or software that gave them, or "".
        dtype: type that is stored.
    """
    return FeatureKey(
        view=view,
        weights=digest_json([list(columns), made_by]),
        architecture="imported",
        layer="columns",
        pooling="none",
        transform="none",
        dtype=dtype,
        engine=ENGINE,
    )


def row_digests(values: FloatArray) -> list[str]:
    """For each row (row, feature) the digest of its numbers: no study's id enters the store."""
    rows = np.ascontiguousarray(values, "<f4")
    return [digest_bytes(_PREFIX + row.tobytes()) for row in rows]


def require_fitting(
    view: str, columns: Sequence[str], studies: Sequence[str], values: FloatArray, dtype: str
) -> None:
    """Refuse numbers that the stored type does not hold, before anything is stored.

    Raises:
        DataError: naming the first study and column.
    """
    with np.errstate(over="ignore"):
        over = ~np.isfinite(values.astype(dtype))
    if over.any():
        row, column = (int(i) for i in np.argwhere(over)[0])
        raise DataError(
            f"{int(over.any(axis=1).sum())} rows hold numbers that are too large for {dtype}, the "
            f"first in column {columns[column]!r}",
            study=studies[row],
            view=view,
            cause=f"{values[row, column]:g} exceeds the type's range",
            remedy='set extract.dtype = "float32" and import with --replace, or scale the column',
        )


def import_rows(
    store: KeyStore, digests: Sequence[str], values: FloatArray, settings: ExtractConfig
) -> int:
    """Make sure that rows are stored; several processes may do so at a time.

    Args:
        store: the features of their key.
        digests: of the rows, as `row_digests` gives them; one may stand twice.
        values: (row, feature) float32.
        settings: unit size and compression.

    Returns:
        How many rows were not stored before.

    Raises:
        StorageError: the store cannot be written.
    """
    return store_rows(store, digests, values, settings, "imported")
