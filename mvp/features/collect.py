"""What nobody uses, and taking it away: first its publication, then its bytes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mvp.errors import StoreDamagedError
from mvp.features.claims import PLANNING
from mvp.features.index import RowIndex
from mvp.features.keystore import KeyStore
from mvp.features.shelf import Shelf
from mvp.features.storage import Storage
from mvp.features.store import FeatureStore

# Says of a segment without its plan that it is being taken away, and is not damaged.
COLLECTED = "collected"


@dataclass(frozen=True)
class Garbage:
    """Something that can be deleted.

    Attributes:
        folder: where it lies in the storage.
        what: why nobody needs it.
        size: its bytes.
    """

    folder: str
    what: str
    size: int


def garbage(store: FeatureStore, used: Collection[tuple[str, str]]) -> list[Garbage]:
    """Keys that nobody uses, and within the others segments that were merged or never published.

    Args:
        store: all features.
        used: view and key digest of every key that somebody uses.
    """
    storage, found = store.storage, []
    for view in store.views():
        for digest in store.digests(view):
            folder = f"{view}/{digest}"
            if (view, digest) not in used:
                found.append(Garbage(folder, "no workspace uses this key", _size(storage, folder)))
                continue
            try:
                key = store.find(view, digest)
            except StoreDamagedError:
                continue  # what is damaged is mended first
            if key is not None:
                found += _within(key)
    return found


def collect(store: FeatureStore, found: list[Garbage]) -> None:
    """Delete garbage. Broken off, it can be found and deleted again.

    Raises:
        StoreDamagedError: rows that were merged do not stand well in their new place; what they
            were copied from stays.
    """
    storage, whole = store.storage, set[str]()
    for item in found:
        view, digest, *segment = item.folder.split("/")
        if segment:
            key = store.find(view, digest)
            if key is not None:
                with key.claims.waiting(PLANNING):
                    # Planned again meanwhile? Then it is no garbage any more.
                    if item.folder in {again.folder for again in _within(key)}:
                        _require_merged(key, segment[-1], whole)
                        storage.create(f"{item.folder}/{COLLECTED}", b"")
                        storage.delete(f"{item.folder}/segment.json")
                        storage.delete_tree(item.folder)
            continue
        for name in storage.names(f"{item.folder}/segments"):
            storage.delete(f"{item.folder}/segments/{name}/segment.json")
        storage.delete_tree(item.folder)


def _within(key: KeyStore) -> list[Garbage]:
    storage = key.storage
    key.refresh()
    shelf = key.shelf
    live = {shelf.segments[number].name for number in shelf.live}
    merged = {shelf.segments[number].name for number in shelf.merged}
    unfinished = {shelf.segments[n].name for n in shelf.unfinished if _stands_elsewhere(shelf, n)}
    found = []
    for name in storage.names(f"{key.folder}/segments"):
        folder = f"{key.folder}/segments/{name}"
        if name in merged:
            found.append(Garbage(folder, "its rows were merged", _size(storage, folder)))
        elif name in unfinished:
            found.append(Garbage(folder, "a merge that was broken off", _size(storage, folder)))
        elif name not in live and storage.size(f"{folder}/segment.json") is None:
            found.append(Garbage(folder, "it was never published", _size(storage, folder)))
    return found


def _require_merged(key: KeyStore, name: str, whole: set[str]) -> None:
    """Read what a segment was merged into, once, before the segment goes."""
    for number in key.shelf.live:
        segment = key.shelf.segments[number]
        if name in segment.info["replaces"] and segment.folder not in whole:
            for entry in key.shelf.promises(number).entries.values():
                if (wrong := segment.damage(entry, deep=True)) is not None:
                    raise segment.damaged(entry.unit, wrong)
            whole.add(segment.folder)


def _stands_elsewhere(shelf: Shelf, number: int) -> bool:
    """Whether every row of a segment is in another: those it was copied from may be damaged."""
    others = [n for n in shelf.live if n != number]
    index = RowIndex([(n, shelf.segments[n].ids, shelf.readable(n)) for n in others])
    places = index.find(shelf.segments[number].ids[shelf.readable(number)])
    return bool((places[:, 0] >= 0).all())


def _size(storage: Storage, folder: str) -> int:
    return sum(storage.walk(folder).values())
