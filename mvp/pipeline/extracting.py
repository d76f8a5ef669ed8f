"""Views of some studies into the feature store: files first that nobody knows, then the rest."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from mvp.data.reading.inventory import FileRecord
from mvp.data.tables.manifest import Manifest
from mvp.features import FeatureKey, KeyStore
from mvp.pipeline.engines import UNDECIDED, with_engine
from mvp.pipeline.extraction import ExtractOutcome, ViewExtraction
from mvp.pipeline.items import Item, reject_items, view_items
from mvp.pipeline.networks import (
    ViewNetwork,
    feature_store,
    view_inputs,
)
from mvp.pipeline.new_files import Running, take_new_files
from mvp.pipeline.project import MANY_FILES, Project
from mvp.pipeline.sharding import WHOLE, Shard
from mvp.pipeline.uses import note_uses
from mvp.stages.extract import Extraction, ExtractResult, rows_of
from mvp.types import BoolArray

log = logging.getLogger("mvp")
_MANY_SEGMENTS = 200


@dataclass(frozen=True, eq=False)
class Wanted:
    """One network, and the studies whose images it is to see.

    Attributes:
        entry: its name in the outcome.
        made: the network.
        studies: (study,); None for all.
    """

    entry: str
    made: ViewNetwork
    studies: BoolArray | None = None

    def images(self, project: Project, manifest: Manifest) -> frozenset[str]:
        """The files of its images."""
        images = project.view_images(manifest, self.made.view)
        if self.studies is not None:
            images = images[self.studies[images["study"].to_numpy()]]
        return frozenset(images.loc[images["error"] == "", "file"])

    def items(
        self, project: Project, manifest: Manifest, records: Mapping[str, FileRecord], shard: Shard
    ) -> list[Item]:
        """Its inputs, study by study."""
        items = view_items(project, manifest, self.made.view, records)
        if self.studies is not None:
            items = [item for item in items if self.studies[item.study]]
        return [item for item in items if shard.has(item.record, item.path)]


def extract_views(
    project: Project,
    manifest: Manifest,
    wanted: Sequence[Wanted],
    *,
    verify: bool = False,
    shard: Shard = WHOLE,
    root: Path | None = None,
) -> ExtractOutcome:
    """Extract the images of a manifest, which may be another than the workspace's own.

    Views of one source look at the same files: a new file is decoded once for all of them.

    Args:
        project: the workspace.
        manifest: whose images.
        wanted: the networks.
        verify: compare all stored bytes with the ledger first.
        shard: which part of the images.
        root: where the manifest's paths start, if not at data.root.
    """
    outcome = ExtractOutcome()
    groups: dict[str, list[Wanted]] = {}
    for one in wanted:
        decided = _with_engine(project, manifest, one, root)
        groups.setdefault(one.made.view.source, []).append(decided)
    for group in groups.values():
        with ExitStack() as stack:
            running: list[Running] = []
            for one in group:
                store = feature_store(project).open(one.made.key, mend=verify)
                # Said first: nobody may collect the features while they are being computed.
                note_uses(project, {one.entry: one.made.key})
                twins = _twins(project, one.made.key, [at.extraction.store for at in running])
                extraction = stack.enter_context(
                    _extraction(project, manifest, one.made, store, twins, verify, root)
                )
                files = frozenset[str]()
                if not one.made.view.columns:
                    files = one.images(project, manifest)
                _say_what_changed(project, manifest, one, len(store), files)
                running.append(Running(extraction, files))
            unusable = take_new_files(project, running, root=root, shard=shard)
            every = sorted(frozenset[str]().union(*(at.files for at in running)) - unusable.keys())
            records = unusable | project.inventory.scan(
                every,
                project.limits(root),
                workers=project.workers,
                progress=project.progress and len(every) > MANY_FILES,
            )
            for one, at in zip(group, running, strict=True):
                items = one.items(project, manifest, records, shard)
                at.extraction.add([i.record for i in items if i.record and not i.error])
                _count(project, manifest, one, at.extraction, items, outcome)
    return outcome


def _with_engine(project: Project, manifest: Manifest, one: Wanted, root: Path | None) -> Wanted:
    if project.config.extract.engine != UNDECIDED:
        return one  # nothing is decided, so no file need be asked for
    inputs = view_inputs(project, manifest, one.made.view, root)
    files = one.images(project, manifest)
    known = project.inventory.known(list(files))
    # A file that nobody has looked at may be a volume; it counts as one image.
    images = sum(max(1, known[file].instances) if file in known else 1 for file in files)
    return replace(one, made=with_engine(project, one.made, inputs, images))


def _extraction(
    project: Project,
    manifest: Manifest,
    made: ViewNetwork,
    store: KeyStore,
    twins: Sequence[KeyStore],
    verify: bool,
    root: Path | None,
) -> Extraction:
    return Extraction(
        made.network,
        made.view.network,
        view_inputs(project, manifest, made.view, root),
        store,
        settings=made.settings,
        device=project.device,
        workers=project.workers,
        verify=verify,
        progress=project.progress,
        draws=made.draws,
        twins=twins,
        exports=made.exports,
    )


def _twins(project: Project, key: FeatureKey, open_ones: Sequence[KeyStore]) -> list[KeyStore]:
    """Stores whose keys differ in the view's name alone, as those of a copied network do."""
    twins = [store for store in open_ones if replace(store.key, view=key.view) == key]
    for view in project.config.views:
        other = replace(key, view=view)
        if view != key.view and all(store.key != other for store in open_ones):
            found = feature_store(project).find(view, other.digest)
            twins += [found] if found is not None else []
    return twins


def _count(
    project: Project,
    manifest: Manifest,
    one: Wanted,
    extraction: Extraction,
    items: Sequence[Item],
    outcome: ExtractOutcome,
) -> None:
    """Write down what became of a view's images."""
    result, store, instances = extraction.result, extraction.store, one.made.key.instances
    reasons = [item.error or _reason(item.record, result) for item in items]
    rejects = reject_items(manifest, one.made.view.name, items, reasons)
    outcome.rejects += rejects
    # A row for every image of the table, also where two of them are the same.
    readable = [item.record for item in items if item.record is not None and not item.error]
    rows = int(store.has([row for r in readable for row in rows_of(r, instances)]).sum())
    counts = ViewExtraction(
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
    outcome.views[one.entry] = counts
    if len(store.segments) > _MANY_SEGMENTS:
        log.info(
            "%s: %d small segments make opening slow; `mvp cache compact` merges them",
            one.entry,
            len(store.segments),
        )
    log.info(
        "extract %s: %d rows, %d forward passes, %d cached, %d rejected, key %s",
        one.entry,
        counts.rows,
        counts.forward_passes,
        counts.cached,
        counts.rejected,
        result.key,
    )


def _reason(record: FileRecord | None, result: ExtractResult) -> str:
    return result.rejected.get(str(record.pixels), "") if record is not None else ""


def _say_what_changed(
    project: Project, manifest: Manifest, one: Wanted, stored: int, files: frozenset[str]
) -> None:
    """A changed configuration makes a new key: say what changed and what it costs."""
    made = one.made
    # The features of another fold's network are no earlier ones that a setting has changed.
    if stored or one.studies is not None:
        return
    keys, _ = feature_store(project).readable_keys(made.view.name)
    others = [key for key in keys if key != made.key]
    if others:
        known = project.inventory.known(list(files))
        wanted = len({known[file].pixels if file in known else file for file in files})
        if made.view.columns:
            wanted = len(one.items(project, manifest, {}, WHOLE))
        nearest = min(others, key=lambda k: len(k.differences(made.key)))
        log.info(
            "%s: other features than those stored, because of %s; %d images are extracted anew, "
            "the old features stay",
            made.view.name,
            "; ".join(nearest.differences(made.key)),
            wanted,
        )
