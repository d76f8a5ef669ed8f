"""What nobody uses, and taking it away: first its publication, then its bytes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from mvp.errors import StoreDamagedError
from mvp.features.claims import PLANNING, Claims
from mvp.features.index import RowIndex
from mvp.features.keystore import KeyStore
from mvp.features.shelf import Shelf
from mvp.features.storage import WITHDRAWN, Storage
from mvp.features.store import FeatureStore


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


def collect(
    store: FeatureStore, found: list[Garbage], used: Callable[[], Collection[tuple[str, str]]]
) -> None:
    """Delete garbage. Broken off, it can be found and deleted again.

    Args:
        store: all features.
        found: what `garbage` gave.
        used: what is used now, asked again before anything goes.

    Raises:
        StoreDamagedError: rows that were merged do not stand well in their new place; what they
            were copied from stays.
    """
    storage = store.storage
    folders: dict[tuple[str, str], list[str]] = {}
    for item in found:
        view, digest, *segment = item.folder.split("/")
        folders.setdefault((view, digest), []).extend(segment[1:])
    for (view, digest), segments in folders.items():
        folder = f"{view}/{digest}"
        claims = Claims(storage, f"{folder}/claims", store.lease_s)
        with claims.waiting(PLANNING):
            if segments:
                key = store.find(view, digest)
                if key is not None:
                    _collect_segments(key, segments)
            elif (view, digest) not in used():
                for name in storage.names(f"{folder}/segments"):
                    storage.delete(f"{folder}/segments/{name}/segment.json")
        if not segments and (view, digest) not in used():
            storage.delete_tree(folder)


def _collect_segments(key: KeyStore, names: list[str]) -> None:
    # Planned again meanwhile? Then it is no garbage any more.
    still = {item.folder for item in _within(key)}
    whole = set[str]()
    for name in names:
        folder = f"{key.folder}/segments/{name}"
        if folder in still:
            _require_merged(key, name, whole)
            key.storage.create(f"{folder}/{WITHDRAWN}", b"taken back\n")
            key.storage.delete(f"{folder}/segment.json")
            key.storage.delete_tree(folder)


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
