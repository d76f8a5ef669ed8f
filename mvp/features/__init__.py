"""What we cached: keys, segments, ledger, store, and the table that learners read."""

from mvp.features.blocks import table_from_stores
from mvp.features.key import FeatureKey
from mvp.features.rows import image_digest, row_id
from mvp.features.store import FeatureStore, KeyStore, UnitTask
from mvp.features.table import ArrayBlock, Block, FeatureTable, Signature, table_from_arrays

__all__ = [
    "ArrayBlock",
    "Block",
    "FeatureKey",
    "FeatureStore",
    "FeatureTable",
    "KeyStore",
    "Signature",
    "UnitTask",
    "image_digest",
    "row_id",
    "table_from_arrays",
    "table_from_stores",
]
