"""`mvp extract`: fill the feature store."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from mvp.config import flipped_sides
from mvp.errors import ConfigError
from mvp.pipeline._encode import encode_view, plan_encode
from mvp.pipeline.encoded import current_encoder
from mvp.pipeline.extracting import Wanted, extract_views
from mvp.pipeline.extraction import ExtractOutcome
from mvp.pipeline.folds import fold_networks
from mvp.pipeline.items import reject_rows, view_items
from mvp.pipeline.networks import (
    ViewNetwork,
    feature_network,
    feature_store,
    stored_imports,
)
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import read_provenance
from mvp.pipeline.recording import recording
from mvp.pipeline.sharding import parse_shard
from mvp.pipeline.uses import mend_keys, use_name
from mvp.pipeline.workspace import FOLD, JOINT
from mvp.stages.extract import rows_of
from mvp.types import BoolArray

log = logging.getLogger("mvp")


def run_extract(
    workspace: str | Path = ".",
    views: Sequence[str] | None = None,
    *,
    verify: bool = False,
    shard: str | None = None,
    folds: bool = False,
    from_joint: bool = False,
    progress: bool = True,
) -> ExtractOutcome:
    """Compute and store the features of some views (default: all) that are not stored yet.

    Any number of processes may do this on one store at a time; they share the work.

    Args:
        workspace: its folder.
        views: names of views.
        verify: compare all stored bytes with the ledger first, and recompute what is damaged.
        shard: `3/16`: only the third of sixteen parts of the images, for job arrays.
        folds: with the networks of the folds instead (`mvp finetune --folds`), each what it is
            needed for: the studies of its fold, of calibration and of test. Protocol "crossfit"
            always means these.
        from_joint: with the bodies of the joint network instead (`mvp finetune-joint`).
        progress: show bars.

    Raises:
        ConfigError: folds and the joint network are asked for at a time.
    """
    if folds and from_joint:
        raise ConfigError(
            "--folds and --from-joint are other networks", remedy="ask for them one by one"
        )
    part = parse_shard(shard)
    project = Project(workspace, progress=progress)
    names = project.config.require_views(list(views) if views else None)
    folds = folds or (project.config.protocol == "crossfit" and not from_joint)
    with recording(project.workspace, "extract") as run:
        if verify:
            mend_keys(project)
        imported = [name for name in names if project.config.views[name].imported]
        tables = [name for name in names if project.config.views[name].kind == "table"]
        others = [name for name in names if name not in imported and name not in tables]
        fold = JOINT if from_joint else FOLD
        if from_joint:
            # A view that is no part of it has no body there, unless it was asked for by name.
            others = joint_views(project, others, asked=bool(views))
        wanted = [one for name in others for one in _wanted(project, name, folds, fold)]
        outcome = extract_views(project, project.manifest, wanted, verify=verify, shard=part)
        _warn_of_flips(project, others)
        for name in tables:
            view = project.view(name)
            encoder = current_encoder(project, view)
            encode_view(project, project.manifest, view, encoder, outcome, verify=verify)
        for name in imported:
            outcome.imported[name], outcome.lost[name] = stored_imports(project, name, verify)
        outcome.rejects += reject_rows(project.manifest)
        # The networks of several folds meet an unreadable image of a test study.
        outcome.rejects = list(dict.fromkeys(outcome.rejects))
        if outcome.rejects:
            outcome.reject_table = str(run.write_rejects(outcome.rejects))
    return outcome


def _warn_of_flips(project: Project, views: Sequence[str]) -> None:
    """Draws are flipped as training images are."""
    sides = [flipped_sides(project.config, view) for view in views]
    for told in sides if project.config.extract.tta > 1 else ():
        if told is not None:
            log.warning(told)


def joint_views(project: Project, views: Sequence[str], asked: bool) -> list[str]:
    """Those of some views that have a body in the joint network.

    Raises:
        ConfigError: one that was asked for has none, or none has.
    """
    every = project.config.views
    has = [v for v in every if read_provenance(project.workspace.stage1(v, JOINT)) is not None]
    if not has:
        raise ConfigError("there is no joint network", remedy="run `mvp finetune-joint`")
    lost = [v for v in views if v not in has]
    if lost and asked:
        raise ConfigError(
            "the view has no body in the joint network",
            view=lost[0],
            cause=f"its bodies are those of {', '.join(has)}",
            remedy="name one of these",
        )
    return [v for v in views if v in has]


def _wanted(project: Project, view: str, folds: bool, fold: str = FOLD) -> Iterator[Wanted]:
    if not folds:
        yield Wanted(use_name(view, fold), feature_network(project, view, fold))
        return
    for one, made, studies in fold_networks(project, view):
        yield Wanted(use_name(view, one), made, studies)


def plan_extract(project: Project, name: str) -> str | None:
    """Why `run` would extract a view; None when everything is stored."""
    view = project.view(name)
    if view.kind == "table":
        return plan_encode(project, view)
    if project.config.protocol == "crossfit":
        reasons = (
            _why_extract(project, made, studies)
            for _, made, studies in fold_networks(project, name)
        )
        return next((reason for reason in reasons if reason is not None), None)
    return _why_extract(project, feature_network(project, name), None)


def _why_extract(project: Project, made: ViewNetwork, studies: BoolArray | None) -> str | None:
    store = feature_store(project).open(made.key)
    items = view_items(project, project.manifest, made.view, project.contents)
    items = [item for item in items if studies is None or studies[item.study]]
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
