"""The feature table of a manifest: which stored rows belong to which study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mvp.data.inventory import FileRecord
from mvp.data.manifest import Manifest
from mvp.errors import ConfigError
from mvp.features import FeatureTable, KeyStore, image_digest, row_id, table_from_stores
from mvp.pipeline.networks import open_store
from mvp.pipeline.project import Project


def study_rows(
    project: Project, manifest: Manifest, view: str, records: Mapping[str, FileRecord]
) -> list[list[bytes]]:
    """For each study the row ids of a view's images; files without content are left out."""
    rows: list[list[bytes]] = [[] for _ in range(len(manifest))]
    images = project.view_images(manifest, project.view(view))
    for study, file in zip(images["study"], images["file"], strict=True):
        record = records.get(file)
        if record is not None and record.digest:
            rows[study].append(row_id(record.digest))
    return rows


def cached_table(project: Project, views: Sequence[str]) -> FeatureTable:
    """The features of all studies of the workspace, under the present keys.

    Raises:
        ConfigError: images have neither features nor a reason why not: they were not extracted.
    """
    manifest = project.manifest
    records = project.records(manifest.images, decode=False)
    stores: dict[str, KeyStore] = {}
    rows: dict[str, list[list[bytes]]] = {}
    for view in views:
        stores[view] = open_store(project, view)
        rows[view] = study_rows(project, manifest, view, records)
        _require_extracted(stores[view], rows[view], view)
    return table_from_stores(
        manifest.studies, manifest.patients, stores, rows, project.config.head.instances
    )


def _require_extracted(store: KeyStore, rows: Sequence[Sequence[bytes]], view: str) -> None:
    # An image that nobody extracted must not pass for a missing view.
    rejected = {image_digest(row) for row in store.rejected}
    wanted = {row for ids in rows for row in ids}
    waiting = sum(row not in store and image_digest(row) not in rejected for row in wanted)
    if waiting:
        nothing = "no cached features of this view under its present network and settings"
        raise ConfigError(
            nothing if not len(store) else f"{waiting} images have no cached features yet",
            view=view,
            remedy=f"run `mvp extract --view {view}`",
        )
