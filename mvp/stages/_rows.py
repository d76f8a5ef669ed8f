"""Rows of numbers that no network computes, into the store; several processes may do so."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

from mvp.config import ExtractConfig
from mvp.features import KeyStore, Writer, row_id
from mvp.types import FloatArray


def store_rows(
    store: KeyStore, digests: Sequence[str], values: FloatArray, settings: ExtractConfig, what: str
) -> int:
    """Make sure that rows are stored.

    Args:
        store: the features of their key.
        digests: of the rows; one may stand twice.
        values: (row, feature) float32.
        settings: unit size and compression.
        what: how they were made, for the surroundings.

    Returns:
        How many rows were not stored before.

    Raises:
        StorageError: the store cannot be written.
    """
    place = {row_id(digest): i for i, digest in enumerate(digests)}
    # Before anything is looked for: what is damaged is written anew from the table.
    store.discard_damaged(deep=False)
    waiting = [row for row, there in zip(place, store.has(list(place)), strict=True) if not there]
    if not waiting:
        return 0
    here = {what: "1", "mvp": importlib.metadata.version("multiview-pipeline")}
    with Writer(store) as writer:
        writer.require_place()
        tasks = writer.plan(
            waiting,
            values.shape[1],
            settings.unit_rows,
            here,
            available=place.keys(),
            compression=settings.compression,
        )
        while tasks:
            for task in writer.claimed(tasks):
                writer.commit(task, values[[place[row] for row in task.rows]], {})
            tasks = writer.still_open(tasks)
            if tasks:
                writer.pause()
    store.refresh()
    return len(waiting)
