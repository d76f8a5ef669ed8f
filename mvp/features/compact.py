"""Many small segments into one, with the same numbers and without disturbing readers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mvp.features.casting import finite_rows
from mvp.features.claims import PLANNING
from mvp.features.keystore import KeyStore
from mvp.features.layout import Layout
from mvp.features.reading import UnitReader
from mvp.features.rows import unpack
from mvp.features.segment import Segment
from mvp.types import FloatArray

# A segment of fewer units than this is small: its plan, metadata and seal weigh more than rows.
_SMALL_UNITS = 16


@dataclass(frozen=True)
class Compaction:
    """What was merged: `segments` into one of `rows` rows; 0 where there was nothing to merge."""

    segments: int
    rows: int


def compact(store: KeyStore, unit_rows: int, *, every: bool = False) -> Compaction:
    """Copy the rows of small, whole segments into one new segment.

    The old ones stay until they are collected: a reader that has found rows there goes on, and
    one that looks anew finds them in the new segment. Interrupted, it goes on where it was. Two
    at a time do the same work once.

    Args:
        store: the features of a key.
        unit_rows: most rows of a unit of the new segment.
        every: take every whole segment, not only the small ones.

    Raises:
        StoreDamagedError: a unit is not what was promised; nothing is merged.
    """
    with store.claims.waiting(PLANNING):
        store.refresh(gone=True)
        chosen = _chosen(store, every)
        if len(chosen) < 2:
            return Compaction(0, 0)
        first = store.shelf.segments[chosen[0]]
        rows: dict[bytes, tuple[int, int]] = {}
        for number in chosen:
            readable = store.shelf.readable(number)
            here = store.shelf.segments[number].rows
            for i in np.flatnonzero(readable):
                rows.setdefault(here[i], (number, int(i)))  # the first, as readers take it
        kept = list(rows)
        rejected = {
            row: reason
            for number in chosen
            for row, reason in store.shelf.rejected_in(number).items()
            if row not in rows
        }
        kept += list(rejected)
        layout = Layout.fitting(
            len(kept), first.shape, first.layout.dtype, unit_rows, first.layout.compression
        )
        segment = Segment.plan(
            store.storage,
            f"{store.folder}/segments",
            store.key.digest,
            kept,
            layout,
            {"merged": [store.shelf.segments[n].info["surroundings"] for n in chosen]},
            # Also what those replace: they may be collected in any order.
            replaces=sorted(
                {
                    name
                    for segment in (store.shelf.segments[n] for n in chosen)
                    for name in (segment.name, *segment.info["replaces"])
                }
            ),
        )
        reader = UnitReader()
        done = segment.ledger.promises().entries
        for unit in range(segment.units):
            if unit in done:
                continue
            ids = unpack(segment.ids[layout.unit_slice(unit)])
            values = _values(store, reader, segment, [rows.get(row) for row in ids])
            wrong = {i: rejected[row] for i, row in enumerate(ids) if row in rejected}
            segment.commit(unit, values, wrong)
        segment.ledger.seal(segment.ledger.entries()[0])
        store.refresh()
    return Compaction(len(chosen), len(kept))


def _chosen(store: KeyStore, every: bool) -> list[int]:
    """Numbers of the whole segments to merge: of one type, shape and compression."""
    whole = [n for n in store.shelf.live if store.shelf.promises(n).sealed]
    small = [n for n in whole if every or store.shelf.segments[n].units < _SMALL_UNITS]
    alike = [n for n in small if _form(store, n) == _form(store, small[0])]
    rows = sum(store.shelf.segments[n].layout.rows for n in alike)
    # One that is as large as all the others together is left alone: merging it again and again
    # with every new study would copy everything each time.
    return [n for n in alike if every or 2 * store.shelf.segments[n].layout.rows <= rows]


def _form(store: KeyStore, number: int) -> tuple[object, ...]:
    layout = store.shelf.segments[number].layout
    return layout.shape, layout.dtype, layout.compression


def _values(
    store: KeyStore,
    reader: UnitReader,
    segment: Segment,
    places: list[tuple[int, int] | None],
) -> FloatArray:
    values = np.full((len(places), *segment.shape), np.nan, np.float32)
    for at, place in enumerate(places):
        if place is not None:
            number, row = place
            source = store.shelf.segments[number]
            unit = row // source.layout.unit_rows
            stored = reader.unit(source, store.shelf.entry(number, unit))
            values[at] = stored[row - unit * source.layout.unit_rows]
    here = np.array([place is not None for place in places])
    assert finite_rows(values[here]).all()
    return values
