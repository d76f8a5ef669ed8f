"""Extraction of views of values: their encoder instead of a network."""

from __future__ import annotations

import logging
import time

from mvp.config import ResolvedView
from mvp.data.table_encoder import TableEncoder
from mvp.data.tables.manifest import Manifest
from mvp.features import row_id
from mvp.pipeline.encoded import load_encoder, table_key, why_encode
from mvp.pipeline.extraction import ExtractOutcome, ViewExtraction
from mvp.pipeline.items import reject_items, row_values, view_items
from mvp.pipeline.networks import feature_store
from mvp.pipeline.project import Project
from mvp.pipeline.uses import note_uses
from mvp.stages.encode import encode
from mvp.stages.extract import rows_of

log = logging.getLogger("mvp")


def encode_view(
    project: Project,
    manifest: Manifest,
    view: ResolvedView,
    encoder: TableEncoder,
    outcome: ExtractOutcome,
    *,
    verify: bool = False,
) -> None:
    """Store the features of a table view for some studies, and count them.

    Args:
        project: the workspace.
        manifest: the studies, of the workspace or others.
        view: of kind "table".
        encoder: its own, fitted.
        outcome: gets the counts and the rejects.
        verify: compare all stored bytes first.
    """
    started = time.perf_counter()
    key = table_key(project, view, encoder)
    store = feature_store(project).open(key, mend=verify)
    note_uses(project, {view.name: key})
    items = view_items(project, manifest, view, {})
    values = row_values(project, manifest, view)
    computed = encode(encoder, values, store, settings=project.config.extract, verify=verify)
    rejects = reject_items(manifest, view.name, items, [item.error for item in items])
    outcome.rejects += rejects
    records = [item.record for item in items if item.record is not None]
    rows = int(store.has([row for r in records for row in rows_of(r, "keep")]).sum())
    seconds = time.perf_counter() - started
    outcome.views[view.name] = ViewExtraction(
        key=key.digest,
        images=len(items),
        rows=rows,
        computed=computed,
        forward_passes=0,
        cached=rows - computed,
        rejected=len(rejects),
        recomputed_units=0,
        seconds=seconds,
        time={"write": seconds},
    )
    log.info("extract %s: %d rows of %d columns", view.name, rows, len(encoder.columns))


def plan_encode(project: Project, view: ResolvedView) -> str | None:
    """Why `run` would encode a table view; None when everything is stored."""
    reason = why_encode(project, view)
    if reason is not None:
        return reason
    store = feature_store(project).open(table_key(project, view, load_encoder(project, view)))
    if damaged := store.count_damaged():
        return f"{damaged} stored units are damaged"
    items = view_items(project, project.manifest, view, {})
    wanted = [row_id(i.record.digest) for i in items if i.record is not None]
    if waiting := int((~store.has(wanted)).sum()):
        return f"{waiting} studies have no features yet"
    refused = sum(bool(item.error) for item in items)
    # The exit code must not forget them.
    return f"{refused} studies have values that cannot be used" if refused else None
