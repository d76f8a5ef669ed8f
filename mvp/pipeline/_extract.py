"""`mvp extract`: fill the feature store."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mvp.data.reading.inventory import FileRecord
from mvp.data.tables.manifest import Manifest
from mvp.pipeline._encode import encode_view, plan_encode
from mvp.pipeline.encoded import current_encoder
from mvp.pipeline.extraction import ExtractOutcome, ViewExtraction
from mvp.pipeline.items import reject_items, reject_rows, view_items
from mvp.pipeline.networks import (
    ViewNetwork,
    feature_network,
    feature_store,
    stored_imports,
    view_inputs,
)
from mvp.pipeline.project import Project
from mvp.pipeline.recording import recording
from mvp.pipeline.sharding import WHOLE, Shard, parse_shard
from mvp.pipeline.uses import mend_keys, note_uses
from mvp.stages.extract import ExtractResult, extract, rows_of

log = logging.getLogger("mvp")
_MANY_SEGMENTS = 200


def run_extract(
    workspace: str | Path = ".",
    views: Sequence[str] | None = None,
    *,
    verify: bool = False,
    shard: str | None = None,
    progress: bool = True,
) -> ExtractOutcome:
    """Compute and store the features of some views (default: all) that are not stored yet.

    Any number of processes may do this on one store at a time; they share the work.

    Args:
        workspace: its folder.
        views: names of views.
        verify: compare all stored bytes with the ledger first, and recompute what is damaged.
        shard: `3/16`: only the third of sixteen parts of the images, for job arrays.
        progress: show bars.
    """
    part = parse_shard(shard)
    project = Project(workspace, progress=progress)
    names = project.config.require_views(list(views) if views else None)
    with recording(project.workspace, "extract") as run:
        if verify:
            mend_keys(project)
        imported = [name for name in names if project.config.views[name].imported]
        tables = [name for name in names if project.config.views[name].kind == "table"]
        others = [name for name in names if name not in imported and name not in tables]
        made = (feature_network(project, name) for name in others)
        outcome = extract_views(
            project, project.manifest, made, project.contents, verify=verify, shard=part
        )
        for name in tables:
            view = project.view(name)
            encoder = current_encoder(project, view)
            encode_view(project, project.manifest, view, encoder, outcome, verify=verify)
        for name in imported:
            outcome.imported[name], outcome.lost[name] = stored_imports(project, name, verify)
        outcome.rejects += reject_rows(project.manifest)
        if outcome.rejects:
            outcome.reject_table = str(run.write_rejects(outcome.rejects))
    return outcome


def extract_views(
    project: Project,
    manifest: Manifest,
    networks: Iterable[ViewNetwork],
    records: Mapping[str, FileRecord],
    *,
    verify: bool = False,
    shard: Shard = WHOLE,
    root: Path | None = None,
) -> ExtractOutcome:
    """Extract the images of a manifest, which may be another than the workspace's own.

    Args:
        project: the workspace.
        manifest: whose images.
        networks: of the views, one after the other.
        records: for every file of the manifest's images what it is.
        verify: compare all stored bytes with the ledger first.
        shard: which part of the images.
        root: where the manifest's paths start, if not at data.root.
    """
    outcome = ExtractOutcome()
    for made in networks:
        _one(project, manifest, made, records, outcome, verify, shard, root)
    return outcome


def _one(
    project: Project,
    manifest: Manifest,
    made: ViewNetwork,
    records: Mapping[str, FileRecord],
    outcome: ExtractOutcome,
    verify: bool,
    shard: Shard,
    root: Path | None,
) -> None:
    items = view_items(project, manifest, made.view, records)
    items = [item for item in items if shard.has(item.record, item.path)]
    readable = [item.record for item in items if item.record is not None and not item.error]
    store = feature_store(project).open(made.key, mend=verify)
    # Said first: nobody may collect the features while they are being computed.
    note_uses(project, {made.view.name: made.key})
    _say_what_changed(project, made, len(store), len({r.pixels for r in readable}))
    result = extract(
        made.network,
        made.view.network,
        view_inputs(project, manifest, made.view, root),
        readable,
        store,
        settings=project.config.extract,
        device=project.device,
        workers=project.workers,
        verify=verify,
        progress=project.progress,
    )
    reasons = [item.error or _reason(item.record, result) for item in items]
    rejects = reject_items(manifest, made.view.name, items, reasons)
    outcome.rejects += rejects
    # A row for every image of the table, also where two of them are the same.
    instances = made.key.instances
    rows = int(store.has([row for r in readable for row in rows_of(r, instances)]).sum())
    outcome.views[made.view.name] = ViewExtraction(
        key=result.key,
        images=len(items),
        rows=rows,
        computed=result.computed,
        forward_passes=result.forward_passes,
        cached=rows - result.computed,
        rejected=len(rejects),
        recomputed_units=result.recomputed_units,
        seconds=result.seconds["total"],
        time={k: v for k, v in result.seconds.items() if k != "total"},
    )
    counts = outcome.views[made.view.name]
    if len(store.segments) > _MANY_SEGMENTS:
        log.info(
            "%s: %d small segments make opening slow; `mvp cache compact` merges them",
            made.view.name,
            len(store.segments),
        )
    log.info(
        "extract %s: %d rows, %d forward passes, %d cached, %d rejected, key %s",
        made.view.name,
        counts.rows,
        counts.forward_passes,
        counts.cached,
        counts.rejected,
        result.key,
    )


def _reason(record: FileRecord | None, result: ExtractResult) -> str:
    return result.rejected.get(str(record.pixels), "") if record is not None else ""


def _say_what_changed(project: Project, made: ViewNetwork, stored: int, wanted: int) -> None:
    """A changed configuration makes a new key: say what changed and what it costs."""
    if stored or not wanted:
        return
    keys, _ = feature_store(project).readable_keys(made.view.name)
    others = [key for key in keys if key != made.key]
    if others:
        nearest = min(others, key=lambda k: len(k.differences(made.key)))
        log.info(
            "%s: other features than those stored, because of %s; %d images are extracted anew, "
            "the old features stay",
            made.view.name,
            "; ".join(nearest.differences(made.key)),
            wanted,
        )


def plan_extract(project: Project, name: str) -> str | None:
    """Why `run` would extract a view; None when everything is stored."""
    view = project.view(name)
    if view.kind == "table":
        return plan_encode(project, view)
    made = feature_network(project, name)
    store = feature_store(project).open(made.key)
    items = view_items(project, project.manifest, made.view, project.contents)
    records = {i.record.pixels: i.record for i in items if i.record is not None and not i.error}
    rows = {row for r in records.values() for row in rows_of(r, made.key.instances)}
    rejected = store.rejected
    stored = dict(zip(rows, store.has(list(rows)), strict=True))
    waiting = sum(not there and row not in rejected for row, there in stored.items())
    refused = sum(row in rejected for row in rows) + sum(bool(i.error) for i in items)
    damaged = store.count_damaged()
    if damaged:
        return f"{damaged} stored units are damaged"
    if waiting:
        return f"{waiting} images or slices have no features yet"
    # Trying them again costs a decode, and the exit code must not forget them.
    return f"{refused} images were rejected and are tried again" if refused else None
