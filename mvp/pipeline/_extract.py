"""`mvp extract`: fill the feature store."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvp.data.inventory import FileRecord
from mvp.data.manifest import Manifest
from mvp.errors import REJECTED_EXIT_CODE
from mvp.features import row_id
from mvp.pipeline.networks import ViewNetwork, feature_network, feature_store
from mvp.pipeline.project import Project
from mvp.pipeline.recording import Reject, recording
from mvp.stages.extract import ExtractResult, extract

log = logging.getLogger("mvp")


@dataclass
class ViewExtraction:
    """One view's images: `rows` of them have features, the others are rejected.

    `rows` = `forward_passes` + `cached`; an image that stands in the table twice went through
    the network once.
    """

    key: str
    rows: int
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
    """What was extracted, by view."""

    views: dict[str, ViewExtraction] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    reject_table: str | None = None

    @property
    def exit_code(self) -> int:
        """0, or 4 when images were rejected."""
        return REJECTED_EXIT_CODE if self.rejects else 0

    @property
    def forward_passes(self) -> int:
        """Images that went through a network."""
        return sum(view.forward_passes for view in self.views.values())

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "views": {name: view.to_json() for name, view in self.views.items()},
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
        if self.rejects:
            lines.append(f"{len(self.rejects)} images rejected: {self.reject_table}")
        return "\n".join(lines)


def run_extract(
    workspace: str | Path = ".",
    views: Sequence[str] | None = None,
    *,
    verify: bool = False,
    progress: bool = True,
) -> ExtractOutcome:
    """Compute and store the features of some views (default: all) that are not stored yet.

    Args:
        workspace: its folder.
        views: names of views.
        verify: compare all stored bytes with the ledger first, and recompute what is damaged.
        progress: show bars.
    """
    project = Project(workspace, progress=progress)
    names = project.config.require_views(list(views) if views else None)
    with recording(project.workspace, "extract") as run:
        made = (feature_network(project, name) for name in names)
        outcome = extract_views(project, project.manifest, made, project.contents, verify=verify)
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
    root: Path | None = None,
) -> ExtractOutcome:
    """Extract the images of a manifest, which may be another than the workspace's own.

    Args:
        project: the workspace.
        manifest: whose images.
        networks: of the views, one after the other.
        records: for every file of the manifest's images what it is.
        verify: compare all stored bytes with the ledger first.
        root: where the manifest's paths start, if not at data.root.
    """
    outcome = ExtractOutcome()
    for made in networks:
        _one(project, manifest, made, records, outcome, verify, root)
    return outcome


def _one(
    project: Project,
    manifest: Manifest,
    made: ViewNetwork,
    records: Mapping[str, FileRecord],
    outcome: ExtractOutcome,
    verify: bool,
    root: Path | None,
) -> None:
    table = project.view_images(manifest, made.view)
    contents = {
        records[file].digest: file for file in table["file"] if file and records[file].digest
    }
    store = feature_store(project).open(made.key)
    _say_what_changed(project, made, len(store), len(contents))
    result = extract(
        made.network,
        made.view.network,
        made.transform,
        contents,
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
    rows = len(table) - len(rejects)
    outcome.views[made.view.name] = ViewExtraction(
        key=result.key,
        rows=rows,
        forward_passes=result.forward_passes,
        cached=rows - result.forward_passes,
        rejected=len(rejects),
        recomputed_units=result.recomputed_units,
        seconds=result.seconds["total"],
        time={k: v for k, v in result.seconds.items() if k != "total"},
    )
    counts = outcome.views[made.view.name]
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
    if not record.digest:
        return record.error or "the file cannot be read"
    return result.rejected.get(record.digest, "")


def _say_what_changed(project: Project, made: ViewNetwork, stored: int, wanted: int) -> None:
    """A changed configuration makes a new key: say what changed and what it costs."""
    if stored or not wanted:
        return
    others = [k for k in feature_store(project).keys(made.view.name) if k != made.key]
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
    records = project.records(table, decode=False)
    rows = {row_id(r.digest) for r in records.values() if r.digest}
    rejected = store.rejected
    waiting = sum(row not in store and row not in rejected for row in rows)
    refused = sum(row in rejected for row in rows)
    refused += sum(not r.digest for r in records.values()) + int((table["error"] != "").sum())
    damaged = sum(
        segment.damage(entry, deep=False) is not None
        for segment in store.segments
        for entry in segment.ledger().values()
    )
    if damaged:
        return f"{damaged} stored units are damaged"
    if waiting:
        return f"{waiting} images have no features yet"
    # Trying them again costs a decode, and the exit code must not forget them.
    return f"{refused} images were rejected and are tried again" if refused else None
