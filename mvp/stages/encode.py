"""Encode: rows of measurements and categories, as features, into the store."""

from __future__ import annotations

from collections.abc import Mapping

from mvp.config import ExtractConfig
from mvp.data.table_encoder import VERSION, TableEncoder, Values
from mvp.features import FeatureKey, KeyStore
from mvp.stages._rows import store_rows

ENGINE = "encoder"


def encoded_key(view: str, encoder: TableEncoder, dtype: str) -> FeatureKey:
    """The key of the features that an encoder gives.

    Args:
        view: its name.
        encoder: fitted.
        dtype: type that is stored.
    """
    return FeatureKey(
        view=view,
        weights=encoder.digest,
        architecture="table",
        layer="columns",
        pooling="none",
        transform=f"table {VERSION}",
        dtype=dtype,
        engine=ENGINE,
    )


def encode(
    encoder: TableEncoder,
    values: Mapping[str, Values],
    store: KeyStore,
    *,
    settings: ExtractConfig,
    verify: bool = False,
) -> int:
    """Make sure that every row of values has its features in the store.

    Args:
        encoder: fitted on training rows.
        values: digest to values, of any studies.
        store: the features of the encoder's key.
        settings: unit size and compression.
        verify: compare all stored bytes first; what is damaged is written anew.

    Returns:
        How many rows were not stored before.
    """
    if verify:
        store.discard_damaged(deep=True)
    digests = list(values)
    return store_rows(
        store, digests, encoder.encode([values[d] for d in digests]), settings, "encoded"
    )
