"""`mvp score`: probabilities for a table of studies, extracting only what is missing."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mvp.data.reading.inventory import FileRecord
from mvp.data.tables.manifest import Manifest
from mvp.errors import REJECTED_EXIT_CODE, ConfigError
from mvp.features import FeatureTable, KeyStore, table_from_stores
from mvp.pipeline._encode import encode_view
from mvp.pipeline.encoded import load_encoder
from mvp.pipeline.extracting import Wanted, extract_views
from mvp.pipeline.heads import (
    SavedHead,
    load_head,
    require_current_keys,
    require_current_reading,
)
from mvp.pipeline.items import reject_items, reject_rows, view_items
from mvp.pipeline.networks import feature_network, feature_store, view_key
from mvp.pipeline.project import Project
from mvp.pipeline.recording import Reject, recording, write_rejects
from mvp.pipeline.tables import require_stored, stored_draws, study_rows
from mvp.stages.extract import rows_of
from mvp.stages.score import require_table_name, score, score_columns, table_writer

log = logging.getLogger("mvp")


@dataclass
class ScoreOutcome:
    """How many studies were scored; every other one is in the reject table."""

    head: str
    digest: str
    out: str
    studies: int
    scored: int
    forward_passes: int
    cached: int
    rejects: list[Reject] = field(default_factory=list)
    rejected_studies: int = 0
    reject_table: str | None = None

    @property
    def exit_code(self) -> int:
        """0, or 4 when images or studies were rejected."""
        return REJECTED_EXIT_CODE if self.rejects else 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "head": self.head,
            "digest": self.digest,
            "out": self.out,
            "studies": self.studies,
            "scored": self.scored,
            "rejected_studies": self.rejected_studies,
            "rejected": len(self.rejects),
            "forward_passes": self.forward_passes,
            "cached": self.cached,
            "reject_table": self.reject_table,
        }

    @property
    def text(self) -> str:
        """For a person."""
        lines = [
            f"{self.scored} of {self.studies} studies scored with head {self.head}: {self.out}",
            f"{self.forward_passes} forward passes, {self.cached} images from the cache",
        ]
        if self.rejects:
            lines.append(
                f"{self.rejected_studies} studies and "
                f"{sum(bool(r.path) for r in self.rejects)} images rejected: {self.reject_table}"
            )
        return "\n".join(lines)


def run_score(
    table: str | Path,
    workspace: str | Path = ".",
    out: str | Path | None = None,
    *,
    head: str | None = None,
    root: str | Path | None = None,
    cached_only: bool = False,
    progress: bool = True,
) -> ScoreOutcome:
    """Score the studies of a table that has the columns of the workspace's own.

    Args:
        table: CSV or Parquet; labels and patients may be absent.
        workspace: its folder.
        out: `.csv` or `.parquet`; default: `scores/<table>.csv` in the workspace.
        head: the head's name; default: the one of mvp.toml's learner, or the only one.
        root: where the table's paths start; default: data.root.
        cached_only: open no image; studies whose features are not stored are rejected.
        progress: show bars.
    """
    project = Project(workspace, progress=progress)
    source = Path(table)
    target = Path(out) if out else project.workspace.scores / f"{source.stem}.csv"
    rejected = target.with_name(f"{target.stem}.rejected.csv")
    if source.resolve() in (target.resolve(), rejected.resolve()):
        raise ConfigError(
            "the scores or their reject table would overwrite the table",
            path=source,
            remedy="name another --out",
        )
    require_table_name(target)
    base = Path(root) if root is not None else None
    with recording(project.workspace, "score"):
        saved = load_head(project, head)
        require_current_reading(project, saved)
        manifest = project.scoring_manifest(source, base)
        views = list(saved.heads.fusion.signature.views)
        rejects = reject_rows(manifest)
        passes = cached = 0
        imported = {v: view_key(project, v) for v in views if project.config.views[v].imported}
        tables = [v for v in views if project.config.views[v].kind == "table"]
        if cached_only:
            # The store alone does not know whether other numbers were imported since, or stand in
            # other columns: a row of values is known by its values.
            encoded = {view: view_key(project, view) for view in tables}
            require_current_keys(saved, {**saved.keys, **imported, **encoded})
            records = _known(project, manifest)
        else:
            others = [v for v in views if v not in imported and v not in tables]
            made = [feature_network(project, view) for view in others]
            encoded = {view: view_key(project, view) for view in tables}
            keys = {**imported, **encoded, **{m.view.name: m.key for m in made}}
            require_current_keys(saved, keys)
            wanted = [Wanted(m.view.name, m) for m in made]
            extracted = extract_views(project, manifest, wanted, root=base)
            records = project.records(manifest.images, base)
            for view in tables:
                settings = project.view(view)
                encoder = load_encoder(project, settings)
                encode_view(project, manifest, settings, encoder, extracted)
            rejects += extracted.rejects
            passes = extracted.forward_passes
            cached = sum(view.cached for view in extracted.views.values())
        stores = _stores_of_head(project, saved)
        rows = {
            view: study_rows(project, manifest, view, records, store.key.instances)
            for view, store in stores.items()
        }
        for view in imported:
            require_stored(project, stores[view], rows[view], view)
            here = sum(map(bool, rows[view]))
            log.info("%s: %d of %d studies have imported features", view, here, len(manifest))
        if cached_only:
            cached, waiting = _count_cached(project, manifest, stores, records)
            rejects += waiting
        features = table_from_stores(
            manifest.studies,
            manifest.patients,
            stores,
            rows,
            project.config.head.instances,
            stored_draws(project, stores),
        )
        reason = "the study has no readable image of any of the head's views"
        if imported:
            reason += f" and no imported features ({', '.join(imported)})"
        outcome = _write(saved, features, target)
        outcome.forward_passes, outcome.cached = passes, cached
        lost = {row.study for row in manifest.refused} - set(manifest.studies)
        outcome.studies += len(lost)
        outcome.rejected_studies += len(lost)
        rejects += [Reject(study, "", "", "", reason) for study in _unseen(features)]
        outcome.rejects = rejects
        rejected.unlink(missing_ok=True)  # an earlier run's rejects are not this one's
        if rejects:
            write_rejects(rejected, rejects)
            outcome.reject_table = str(rejected)
        log.info(
            "score: %d of %d studies, %d forward passes, head %s",
            outcome.scored,
            outcome.studies,
            passes,
            outcome.digest,
        )
    return outcome


def _write(saved: SavedHead, features: FeatureTable, target: Path) -> ScoreOutcome:
    head = saved.heads.fusion
    with table_writer(target, score_columns(head)) as writer:
        done, unseen = score(head, features, writer)
    return ScoreOutcome(
        head=saved.name,
        digest=head.digest,
        out=str(target),
        studies=len(features),
        scored=done,
        forward_passes=0,
        cached=0,
        rejected_studies=len(unseen),
    )


def _unseen(features: FeatureTable) -> list[str]:
    return [str(s) for s in features.studies[~features.presence.any(axis=1)]]


def _stores_of_head(project: Project, saved: SavedHead) -> dict[str, KeyStore]:
    stores = {}
    for view, key in saved.keys.items():
        store = feature_store(project).find(view, key.digest)
        if store is None:
            raise ConfigError(
                "the features that the head was fitted on are not in the cache",
                view=view,
                remedy=f"run `mvp import-features --view {view} TABLE` again"
                if project.config.views[view].imported
                else f"run `mvp extract --view {view}`",
            )
        stores[view] = store
    return stores


def _known(project: Project, manifest: Manifest) -> dict[str, FileRecord]:
    images = manifest.images
    return project.inventory.known(list(images.loc[images["error"] == "", "file"]))


def _uncached(store: KeyStore, record: FileRecord | None, instances: str) -> str:
    """Why the features of an image are not there, or ""."""
    if record is None or not record.pixels:
        return "not in the cache"
    return "" if store.has(rows_of(record, instances)).all() else "not in the cache"


def _count_cached(
    project: Project,
    manifest: Manifest,
    stores: dict[str, KeyStore],
    records: dict[str, FileRecord],
) -> tuple[int, list[Reject]]:
    """Images whose features are stored, and rejects for the others."""
    cached, rejects = 0, []
    for view, store in stores.items():
        if project.config.views[view].imported:
            continue
        items = view_items(project, manifest, project.view(view), records)
        instances = store.key.instances
        reasons = [item.error or _uncached(store, item.record, instances) for item in items]
        cached += sum(
            len(rows_of(item.record, instances))
            for item, reason in zip(items, reasons, strict=True)
            if item.record is not None and not reason
        )
        rejects += reject_items(manifest, view, items, reasons)
    return cached, rejects
