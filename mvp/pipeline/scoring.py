"""What scoring does with a part of a table: its images, its features, its probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mvp.data.reading.inventory import FileRecord
from mvp.data.tables.manifest import Manifest
from mvp.errors import ConfigError
from mvp.features import FeatureKey, FeatureTable, KeyStore, StudyRows, table_from_stores
from mvp.features.rows import pack
from mvp.pipeline._encode import encode_view
from mvp.pipeline.encoded import load_encoder
from mvp.pipeline.extracting import Wanted, extract_views
from mvp.pipeline.extraction import ExtractOutcome
from mvp.pipeline.heads import SavedHead, require_current_keys
from mvp.pipeline.imported import Imported, require_import
from mvp.pipeline.items import reject_items, reject_rows, view_items
from mvp.pipeline.networks import extract_command, feature_network, feature_store, view_key
from mvp.pipeline.project import Project
from mvp.pipeline.recording import Reject
from mvp.pipeline.tables import require_stored, stored_draws, study_rows
from mvp.pipeline.uses import use_name
from mvp.stages.extract import rows_of
from mvp.types import BoolArray

UNCACHED = "not in the cache"


@dataclass
class ScoredPart:
    """The features of a part of a table, and what it took to have them.

    Attributes:
        tables: for each fold the features of its networks; the same studies in the same order.
        rejects: images and rows that could not be used.
        forward_passes: images that went through a network.
        cached: images whose features were stored.
        imported: for each imported view how many of the studies have it.
    """

    tables: dict[str, FeatureTable]
    rejects: list[Reject] = field(default_factory=list)
    forward_passes: int = 0
    cached: int = 0
    imported: dict[str, int] = field(default_factory=dict)


class Scorer:
    """Gets the features that a head needs, part by part of a table.

    Everything that parts have in common is opened once: networks, encoders, stores.

    Args:
        project: the workspace.
        saved: the head.
        root: where the table's paths start, if not at data.root.
        cached_only: open no image.

    Raises:
        ConfigError: a network or encoder is not trained yet, or nothing was imported.
        StaleError: the head was fitted on other features than those of today.
    """

    def __init__(
        self, project: Project, saved: SavedHead, root: Path | None, cached_only: bool
    ) -> None:
        self._project, self._saved, self._root = project, saved, root
        self._cached_only = cached_only
        kinds = project.config.views
        self.views = list(saved.ensemble.views)
        self.imported: dict[str, Imported] = {
            view: require_import(project, view) for view in self.views if kinds[view].imported
        }
        self._tables = [view for view in self.views if kinds[view].kind == "table"]
        alike = {view: found.key for view, found in self.imported.items()}
        # The store alone does not know whether other numbers were imported since, or stand in other
        # columns: a row of values is known by its values.
        alike |= {view: view_key(project, view) for view in self._tables}
        self._wanted: list[Wanted] = []
        keys: dict[str, dict[str, FeatureKey]] = {}
        for fold, fitted in saved.keys.items():
            keys[fold] = {**fitted, **alike}
            for view in self.views if not cached_only else ():
                if view not in alike:
                    made = feature_network(project, view, fold)
                    self._wanted.append(Wanted(use_name(view, fold), made))
                    keys[fold][view] = made.key
        require_current_keys(saved, keys)
        self._encoders = {v: load_encoder(project, project.view(v)) for v in self._tables}
        self._stores: dict[str, dict[str, KeyStore]] = {}

    @property
    def looks_up_only(self) -> bool:
        """Whether parts need no image opened and nothing stored: another thread may get them."""
        return self._cached_only or not (self._wanted or self._tables)

    def part(self, manifest: Manifest) -> ScoredPart:
        """The features of some studies.

        Raises:
            ConfigError: features that the head was fitted on are gone.
        """
        project, part = self._project, ScoredPart({}, reject_rows(manifest))
        if self._cached_only:
            images = manifest.images
            usable = list(images.loc[images["error"] == "", "file"])
            records = project.inventory.known(usable) if usable else {}
        else:
            records = self._extract(manifest, part)
        stores = self._open_stores()
        rows = self._rows(manifest, records, stores)
        part.imported = {view: int((rows[view].counts > 0).sum()) for view in self.imported}
        if self._cached_only:
            self._count_cached(manifest, records, stores, part)
        for fold, own in stores.items():
            part.tables[fold] = table_from_stores(
                manifest.studies,
                manifest.patients,
                own,
                rows,
                project.config.head.instances,
                stored_draws(project, own),
            )
        return part

    def let_go(self) -> None:
        """Take features that were read out of memory."""
        for own in self._stores.values():
            for store in own.values():
                store.let_go()

    def _extract(self, manifest: Manifest, part: ScoredPart) -> dict[str, FileRecord]:
        project, found = self._project, ExtractOutcome()
        if self._wanted:
            found = extract_views(project, manifest, self._wanted, root=self._root)
        records: dict[str, FileRecord] = {}
        if len(manifest.images):
            records = project.records(manifest.images, self._root)
        for view in self._tables:
            encode_view(project, manifest, project.view(view), self._encoders[view], found)
        # The networks of several folds meet the same unreadable image.
        part.rejects += dict.fromkeys(found.rejects)
        part.forward_passes = found.forward_passes
        part.cached = sum(view.cached for view in found.views.values())
        return records

    def _open_stores(self) -> dict[str, dict[str, KeyStore]]:
        """For each fold its views' stores, opened when the first part is there."""
        if not self._stores:
            self._stores = _stores_of_head(self._project, self._saved)
        elif not self._cached_only:
            for own in self._stores.values():
                for view, store in own.items():
                    if view not in self.imported:
                        store.refresh()
        return self._stores

    def _rows(
        self,
        manifest: Manifest,
        records: Mapping[str, FileRecord],
        stores: Mapping[str, Mapping[str, KeyStore]],
    ) -> dict[str, StudyRows]:
        """For each view the rows of every study; they have the same names in every fold."""
        rows = {}
        own = next(iter(stores.values()))
        for view, store in own.items():
            if view in self.imported:
                rows[view] = self.imported[view].study_rows(manifest.studies)
                require_stored(self._project, store, rows[view], view)
            else:
                instances = store.key.instances
                rows[view] = StudyRows.of(
                    study_rows(self._project, manifest, view, records, instances)
                )
        return rows

    def _count_cached(
        self,
        manifest: Manifest,
        records: Mapping[str, FileRecord],
        stores: Mapping[str, Mapping[str, KeyStore]],
        part: ScoredPart,
    ) -> None:
        """Count images whose features are stored for every fold, and reject the others."""
        for view in (v for v in self.views if v not in self.imported):
            items = view_items(self._project, manifest, self._project.view(view), records)
            kept = [own[view] for own in stores.values()]
            instances = kept[0].key.instances
            stored, rows = _stored([item.record for item in items], kept, instances)
            reasons = [
                item.error or ("" if there else UNCACHED)
                for item, there in zip(items, stored, strict=True)
            ]
            whole = np.array([not reason for reason in reasons], bool)
            part.cached += int(rows[whole].sum()) * len(kept)
            part.rejects += reject_items(manifest, view, items, reasons)


def _stored(
    records: Sequence[FileRecord | None], stores: Sequence[KeyStore], instances: str
) -> tuple[BoolArray, np.ndarray]:
    """(item,) whether all rows of an item are stored in all stores, and how many it has."""
    ids = [rows_of(r, instances) if r is not None and r.pixels else [] for r in records]
    counts = np.fromiter((len(own) for own in ids), np.int64, len(ids))
    packed = pack(row for own in ids for row in own)
    there = np.logical_and.reduce([store.has_ids(packed) for store in stores])
    owner = np.repeat(np.arange(len(ids)), counts)
    missing = np.bincount(owner[~there], minlength=len(ids))
    return np.asarray((counts > 0) & (missing == 0)), counts


def _stores_of_head(project: Project, saved: SavedHead) -> dict[str, dict[str, KeyStore]]:
    kept = feature_store(project)
    stores: dict[str, dict[str, KeyStore]] = {}
    for fold, keys in saved.keys.items():
        stores[fold] = {}
        for view, key in keys.items():
            store = kept.find(view, key.digest)
            if store is None:
                raise ConfigError(
                    "the features that the head was fitted on are not in the cache",
                    view=view,
                    remedy=f"run `mvp import-features --view {view} TABLE` again"
                    if project.config.views[view].imported
                    else f"run `{extract_command(view, fold)}`",
                )
            stores[fold][view] = store
    return stores
