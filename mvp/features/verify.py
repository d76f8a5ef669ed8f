"""Everything that is stored, held against what was promised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mvp.errors import StoreDamagedError
from mvp.features import documents
from mvp.features.golden import golden_damage
from mvp.features.key import FeatureKey
from mvp.features.keystore import KeyStore
from mvp.features.segment import Segment
from mvp.features.shelf import array_damage
from mvp.features.storage import WITHDRAWN, Storage


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it was written.

    Attributes:
        view: the view.
        key: digest of the feature key.
        segment: name of the segment, "" for the key itself.
        unit: number of the unit, None for the segment itself.
        what: what is wrong.
    """

    view: str
    key: str
    segment: str
    unit: int | None
    what: str

    @property
    def text(self) -> str:
        """One line."""
        place = f"{self.view}, key {self.key[:10]}"
        if self.segment:
            place += f", segment {self.segment}"
        if self.unit is not None:
            place += f", unit {self.unit}"
        return f"{place}: {self.what}"


def verify(store: KeyStore) -> list[Finding]:
    """Compare every object of a key with what was promised of it; reads all stored bytes.

    Found are changed, cut and missing objects of every kind. A unit that is still open is not
    damage; a segment that is whole and does not say so is.
    """
    storage, folder = store.storage, store.folder
    view, key = folder.split("/", 1)
    found = [Finding(view, key, "", None, what) for what in _key_damage(storage, folder)]
    if (wrong := golden_damage(storage, folder, computed=store.key.computed)) is not None:
        found.append(Finding(view, key, "", None, wrong))
    for name in storage.names(f"{folder}/segments"):
        place = f"{folder}/segments/{name}"
        try:
            segment = Segment(storage, place)
        except StoreDamagedError as error:
            found.append(Finding(view, key, name, None, error.cause or error.what))
        except FileNotFoundError:
            # Planning that was cut short leaves a plan; a promise without one was published once.
            objects = storage.walk(place)
            gone = f"{place}/{WITHDRAWN}" in objects
            if not gone and any("/ledger/" in path for path in objects):
                found.append(Finding(view, key, name, None, "segment.json is missing"))
        else:
            found += [Finding(view, key, name, u, what) for u, what in _segment_damage(segment)]
    return found


def _key_damage(storage: Storage, folder: str) -> Iterator[str]:
    try:
        key = FeatureKey.from_json(documents.load(storage.read(f"{folder}/key.json")))
    except FileNotFoundError:
        if storage.names(f"{folder}/segments"):
            yield "key.json is missing"
        return
    except (ValueError, KeyError, TypeError) as error:
        yield f"key.json is damaged ({error})"
        return
    if f"{key.view}/{key.digest}" != folder:
        yield "key.json is another key's"


def _segment_damage(segment: Segment) -> Iterator[tuple[int | None, str]]:
    if (wrong := array_damage(segment)) is not None:
        yield None, wrong
    promised = segment.ledger.promises()
    single, broken = segment.ledger.entries()
    if promised.seal:
        yield None, promised.seal
    if not promised.sealed and not promised.seal and len(single) == segment.units:
        yield None, "its seal is missing"
    for unit in range(segment.units):
        entry = promised.entries.get(unit)
        if unit in broken:
            yield unit, broken[unit]
        elif entry is not None and unit not in single:
            yield unit, "its ledger entry is missing"
        elif entry is not None and single[unit] != entry:
            yield unit, "its ledger entry and the seal differ"
        if entry is not None and (hurt := segment.damage(entry, deep=True)) is not None:
            yield unit, hurt
