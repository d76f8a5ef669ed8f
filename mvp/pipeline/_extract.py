"""`mvp extract`: fill the feature store."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvp.data.inventory import FileRecord
from mvp.data.manifest import Manifest
from mvp.errors import REJECTED_EXIT_CODE, StoreDamagedError
from mvp.pipeline.networks import ViewNetwork, feature_network, feature_store, stored_imports
from mvp.pipeline.project import Project
from mvp.pipeline.recording import Reject, recording
from mvp.pipeline.sharding import WHOLE, Shard, parse_shard
from mvp.pipeline.uses import mend_keys, note_uses
from mvp.stages.extract import ExtractResult, extract, rows_of

log = logging.getLogger("mvp")
_MANY_SEGMENTS = 200


@dataclass
class ViewExtraction:
    """What became of one view's images.

    `rows` are stored for them: one an image, or one a slice; `rows` = `computed` + `cached`. An
    image that stands in the table twice was computed once. `forward_passes` counts the images and
    slices that went through the network here.
    """

    key: str
    images: int
    rows: int
    computed: int
    forward_passes: int
    cached: int
    rejected: int
    recomputed_units: int
    seconds: float
    time: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The counts as plain values."""
        times = {name: round(seconds, 3) for name, seconds in self.time.items()}
        return {**self.__dict__, "seconds": round(self.seconds, 3), "time": times}


@dataclass
class ExtractOutcome:
    """What was extracted, by view.

    Of imported views nothing is extracted: `imported` are their rows, `lost` those studies whose
    rows are not in the store.
    """

    views: dict[str, ViewExtraction] = field(default_factory=dict)
    imported: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    reject_table: str | None = None

    @property
    def exit_code(self) -> int:
        """0, or 4 when images were rejected, or 5 when imported rows are lost."""
        if any(self.lost.values()):
            return StoreDamagedError.exit_code
        return REJECTED_EXIT_CODE if self.rejects else 0

    @property
    def forward_passes(self) -> int:
        """Images that went through a network."""
        return sum(view.forward_passes for view in self.views.values())

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "views": {name: view.to_json() for name, view in self.views.items()},
            "imported": self.imported,
            "imported_lost": self.lost,
            "forward_passes": self.forward_passes,
            "rejected": len(self.rejects),
            "reject_table": self.reject_table,
        }

    @property
    def text(self) -> str:
        """For a person."""
        lines = []
        for name, view in self.views.items():
            line = (
                f"{name}: {view.rows} rows, {view.forward_passes} forward passes, "
                f"{view.cached} from the cache, {view.rejected} rejected, {view.seconds:.1f} s"
            )
            if view.forward_passes:
                network = view.time["network"]
                line += (
                    f" ({view.forward_passes / max(view.seconds, 1e-9):.1f} images/s; network "
                    f"{network:.1f} s, waiting for images {view.time['decode']:.1f} s, "
                    f"writing {view.time['write']:.1f} s)"
                )
            if view.recomputed_units:
                line += f"; {view.recomputed_units} damaged units recomputed"
            lines.append(line)
        for name, count in self.imported.items():
            line = f"{name}: imported, {count} rows"
            if self.lost[name]:
                line += (
                    f"; {self.lost[name]} studies have lost theirs: run `mvp import-features "
                    f"--view {name} TABLE` again"
                )
            lines.append(line)
        if self.rejects:
            lines.append(f"{len(self.rejects)} images rejected: {self.reject_table}")
        return "\n".join(lines)


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
        made = (feature_network(project, name) for name in names if name not in imported)
        outcome = extract_views(
            project, project.manifest, made, project.contents, verify=verify, shard=part
        )
        for name in imported:
            outcome.imported[name], outcome.lost[name] = stored_imports(project, name, verify)
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
    table = project.view_images(manifest, made.view)
    table = table[[shard.has(records.get(file), file) for file in table["file"]]]
    readable = [records[file] for file in table["file"] if file and records[file].pixels]
    store = feature_store(project).open(made.key, mend=verify)
    # Said first: nobody may collect the features while they are being computed.
    note_uses(project, {made.view.name: made.key})
    _say_what_changed(project, made, len(store), len({r.pixels for r in readable}))
    result = extract(
        made.network,
        made.view.network,
        made.transform,
        readable,
        store,
        settings=project.config.extract,
        limits=project.limits(root),
        device=project.device,
        workers=project.workers,
        verify=verify,
        progress=project.progress,
    )
    reasons = [
        error or _reason(records[file], result)
        for file, error in zip(table["file"], table["error"], strict=True)
    ]
    rejects = project.reject_rows(manifest, table, made.view.name, reasons)
    outcome.rejects += rejects
    # A row for every image of the table, also where two of them are the same.
    instances = made.key.instances
    rows = int(store.has([row for r in readable for row in rows_of(r, instances)]).sum())
    outcome.views[made.view.name] = ViewExtraction(
        key=result.key,
        images=len(table),
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


def _reason(record: FileRecord, result: ExtractResult) -> str:
    if not record.pixels:
        return record.error or "the file cannot be read"
    return result.rejected.get(record.pixels, "")


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
    made = feature_network(project, name)
    store = feature_store(project).open(made.key)
    table = project.view_images(project.manifest, made.view)
    records = project.records(table)
    rows = {row for r in records.values() if r.pixels for row in rows_of(r, made.key.instances)}
    rejected = store.rejected
    stored = dict(zip(rows, store.has(list(rows)), strict=True))
    waiting = sum(not there and row not in rejected for row, there in stored.items())
    refused = sum(row in rejected for row in rows)
    refused += sum(not r.pixels for r in records.values()) + int((table["error"] != "").sum())
    damaged = store.count_damaged()
    if damaged:
        return f"{damaged} stored units are damaged"
    if waiting:
        return f"{waiting} images or slices have no features yet"
    # Trying them again costs a decode, and the exit code must not forget them.
    return f"{refused} images were rejected and are tried again" if refused else None
