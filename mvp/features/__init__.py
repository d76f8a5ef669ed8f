"""What we cached: keys, segments, ledger, store, and the table that learners read."""

from mvp.features.arrays import InstanceBlock, table_from_arrays
from mvp.features.block import ArrayBlock, Bags, Block
from mvp.features.blocks import table_from_stores
from mvp.features.key import FeatureKey
from mvp.features.keystore import KeyStore
from mvp.features.rows import StudyRows, image_digest, instance_of, row_id
from mvp.features.store import FeatureStore
from mvp.features.table import FeatureTable, Signature
from mvp.features.writing import UnitTask, Writer

__all__ = [
    "ArrayBlock",
    "Bags",
    "Block",
    "FeatureKey",
    "FeatureStore",
    "FeatureTable",
    "InstanceBlock",
    "KeyStore",
    "Signature",
    "StudyRows",
    "UnitTask",
    "Writer",
    "image_digest",
    "instance_of",
    "row_id",
    "table_from_arrays",
    "table_from_stores",
]
