"""Features that lie under another view's name already, as those of a copied network do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from mvp.errors import StaleError, StoreDamagedError
from mvp.features import KeyStore, UnitTask, Writer

log = logging.getLogger("mvp")


def take_from_twins(
    twins: Sequence[KeyStore],
    rows: Sequence[bytes],
    writer: Writer,
    plan: Callable[[Sequence[bytes]], list[UnitTask]],
    agree: Callable[[KeyStore], object],
) -> list[bytes]:
    """Copy what twins hold; the rows that are left for the network.

    Args:
        twins: features whose keys differ from the writer's in the view's name alone.
        rows: row ids that are wanted.
        writer: of the view's own features.
        plan: gives the units of some rows.
        agree: raises a StaleError or StoreDamagedError where a twin's numbers, maybe made
            elsewhere, are not those that this machine gives.
    """
    store, left = writer.store, list(rows)
    for twin in twins:
        twin.refresh()
        seen = twin.has(left)
        there = [row for row, has in zip(left, seen, strict=True) if has]
        if not there:
            continue
        try:
            agree(twin)
            for task in writer.claimed(plan(there)):
                with writer.released_on_error(task):
                    values = twin.read(task.rows)
                writer.commit(task, values.reshape(len(values), *task.segment.shape), {})
        except (StaleError, StoreDamagedError) as error:
            log.info("%s: nothing is copied from %s: %s", store.key.view, twin.key.view, error)
        except KeyError:  # collected at this very moment
            log.info("%s: rows of %s are gone meanwhile", store.key.view, twin.key.view)
        store.refresh()
        stored = store.has(left)
        left = [row for row, has in zip(left, stored, strict=True) if not has]
    return left
