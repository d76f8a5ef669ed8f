"""`mvp finetune`: train each view's network."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mvp.config import ResolvedView
from mvp.config.variants import training_order
from mvp.files import digest_file, read_json, write_json
from mvp.pipeline.finetuning import FinetuneOutcome
from mvp.pipeline.folds import fold_seed, folds_asked_for, saying_fold
from mvp.pipeline.networks import outputs_of, view_targets
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import read_provenance, write_provenance
from mvp.pipeline.recording import Run, recording
from mvp.pipeline.sharing import (
    Planned,
    all_views,
    inherited,
    offered_rows,
    plan_finetune,
    planned_group,
    require_sources,
    why_train,
    with_first_weights,
)
from mvp.pipeline.trainable import require_trainable
from mvp.pipeline.training_rows import training_inputs
from mvp.pipeline.workspace import FOLD
from mvp.stages.finetune import finetune
from mvp.stages.finetune_shared import Member, finetune_shared
from mvp.stages.untrained import write_untrained
from mvp.training.processes import Processes, together
from mvp.training.result import FinetuneResult

__all__ = ["FinetuneOutcome", "plan_finetune", "run_finetune"]

log = logging.getLogger("mvp")


def run_finetune(
    workspace: str | Path = ".",
    views: Sequence[str] | None = None,
    *,
    force: bool = False,
    folds: int | None = None,
    fold: int | None = None,
    progress: bool = True,
) -> FinetuneOutcome:
    """Train the networks of some views (default: all).

    Each is trained on its own, save those with `network.share`, which are trained together,
    whichever of them is named. A network that others start from comes before them.

    A network whose data and settings have not changed is left as it is. An interrupted training
    goes on where it was.

    With folds (cross-fitting) there are K networks a view: network k is trained on everybody
    outside test and outside fold k, so that a head may learn from what it says of fold k.

    Started by `torchrun`, its processes train each network together.

    Args:
        workspace: its folder.
        views: names of views.
        force: train fresh networks too.
        folds: train K networks a view; the folds are dealt where split.csv has none.
        fold: only the network without this fold, from 0.
        progress: show bars.

    Raises:
        ConfigError: other folds stand, there is no such fold, or no network is trained at all.
    """
    with together() as processes:
        project = Project(workspace, progress=progress and processes.first)
        names = project.config.require_views(list(views) if views else None)
        outcome = FinetuneOutcome()
        groups = training_order(all_views(project), _trainable(project, names, outcome))
        with recording(project.workspace, "finetune") as run:
            with processes.first_before_others():
                parts = folds_asked_for(project, folds, fold)
            for one in parts:
                for group in groups:
                    _group(project, group, outcome, force, one, processes)
            if processes.first:
                _list_rejects(run, outcome)
    return outcome


def _trainable(project: Project, names: Sequence[str], outcome: FinetuneOutcome) -> list[str]:
    """Those of some views that have a network; why the others have none is noted."""
    found = []
    for name in names:
        view = project.view(name)
        if not view.imported and view.kind != "table":
            found.append(name)
            continue
        why = "imported: it has no network"
        outcome.views[name] = None
        outcome.reasons[name] = why if view.imported else "a table: extraction fits its encoder"
    return found


def _list_rejects(run: Run, outcome: FinetuneOutcome) -> None:
    # Each fold's network meets an unreadable image again.
    outcome.rejects = list(dict.fromkeys(outcome.rejects))
    if outcome.rejects:
        outcome.reject_table = str(run.write_rejects(outcome.rejects))


def _group(
    project: Project,
    names: Sequence[str],
    outcome: FinetuneOutcome,
    force: bool,
    fold: str,
    processes: Processes,
) -> None:
    """Train one view's network, or those of views that are trained together."""
    entries = [name if fold == FOLD else f"{name} {fold}" for name in names]
    for name, entry in zip(names, entries, strict=True):
        outcome.views[entry] = None
        outcome.folders[entry] = str(project.workspace.stage1(name, fold))
        if len(names) > 1:
            outcome.together[entry] = [other for other in names if other != name]
    if project.config.protocol == "frozen":
        outcome.reasons |= dict.fromkeys(entries, "frozen: its weights are used as they are")
        return
    require_sources(project, names, fold)
    # The first one looks at all files; the others read what it found.
    with processes.first_before_others():
        members = planned_group(project, names, fold)
    outcome.rejects += [reject for one in members if one.rows for reject in one.rows.rejects]
    reason = processes.told(why_train(project, members, fold))
    if reason is None and not force:
        fresh = "fresh: data and settings are those it was trained with"
        outcome.reasons |= dict.fromkeys(entries, fresh)
        if processes.first:
            _note_offered(project, members, fold)
        return
    outcome.reasons |= dict.fromkeys(entries, reason or "asked for with --force")
    log.info("finetune %s: %s", " + ".join(entries), outcome.reasons[entries[0]])
    # Alone, because it may fetch published weights.
    with processes.first_before_others():
        require_trainable(project, names, fold)
    # Asked first: where nobody can tell, hours of training would end in an error.
    seen = inherited(project, names, fold)
    for one in members:
        if one.rows and one.rows.volumes:
            _say_other_reduction(project, one.view)
        if processes.first:
            # Without it an interrupted new training would pass for the old, finished one.
            folder = project.workspace.stage1(one.view.name, fold)
            project.workspace.provenance(folder).unlink(missing_ok=True)
    with saying_fold(fold):
        results = _train(project, members, fold, processes)
    for one, entry in zip(members, entries, strict=True):
        outcome.views[entry] = results[one.view.name]
    if processes.first:
        _note_provenance(project, members, results, seen, fold)
    # A network that starts from this one waits until it is whole.
    processes.meet()


def _train(
    project: Project, members: list[Planned], fold: str, processes: Processes
) -> dict[str, FinetuneResult]:
    first = members[0]
    folders = [project.workspace.stage1(one.view.name, fold) for one in members]
    views = [with_first_weights(project, one.view, fold) for one in members]
    if first.rows is None:
        outputs = outputs_of(view_targets(project, first.view))
        made = None
        if processes.first:
            made = asdict(write_untrained(views[0], outputs, folders[0], first.seed))
        return {first.view.name: FinetuneResult(**processes.told(made))}
    if processes.first:
        _forget_other_checkpoints(project, members, fold)
    device, progress = processes.device(project.device), project.progress
    if len(members) == 1:
        rows = first.rows
        result = finetune(
            views[0],
            training_inputs(project, first.view, rows),
            rows.labels,
            train=rows.train,
            inner=rows.inner,
            folder=folders[0],
            seed=first.seed,
            device=device,
            progress=progress,
            processes=processes,
        )
        return {first.view.name: result}
    group = [
        Member(
            view=view,
            images=training_inputs(project, one.view, one.rows),
            labels=one.rows.labels,
            train=one.rows.train,
            inner=one.rows.inner,
            folder=folder,
            seed=one.seed,
        )
        for one, view, folder in zip(members, views, folders, strict=True)
        if one.rows is not None
    ]
    seed = fold_seed(project.config.seed, fold)
    return finetune_shared(group, seed=seed, device=device, progress=progress, processes=processes)


def _note_provenance(
    project: Project,
    members: list[Planned],
    results: dict[str, FinetuneResult],
    seen: list[Mapping[str, Any]],
    fold: str,
) -> None:
    """Everybody of the group is in every member's provenance: its weights have seen them."""
    used = [
        (one.rows.patients[i], one.rows.studies[i])
        for one in members
        if one.rows is not None
        for i in np.concatenate([one.rows.train, one.rows.inner])
    ]
    for one in members:
        write_provenance(
            project.workspace.stage1(one.view.name, fold),
            inputs=one.inputs,
            seed=one.seed,
            workspace=project.workspace,
            patients=(patient for patient, _ in used),
            studies=(study for _, study in used),
            inherited=seen,
            extra={
                "result": asdict(results[one.view.name]),
                "view": project.config.view(one.view.name).model_dump(mode="json"),
                "offered": offered_rows(project, one, fold),
                "fold": fold,
                "weights": digest_file(project.workspace.weights(one.view.name, fold)),
            },
        )


def _note_offered(project: Project, members: list[Planned], fold: str) -> None:
    """What a fresh network would be offered today: a study without labels may have come since.

    Its rows are the same all the same, so it stands on equal terms with one that is trained now.
    """
    for one in members:
        folder = project.workspace.stage1(one.view.name, fold)
        made, offered = read_provenance(folder), offered_rows(project, one, fold)
        if made is not None and made.get("offered", "unknown") != offered:
            write_json(project.workspace.provenance(folder), {**made, "offered": offered})


def _say_other_reduction(project: Project, view: ResolvedView) -> None:
    """Heads that see slices reduced otherwise than the network was trained: allowed, but told."""
    setting, how = "extract.instances", project.config.extract.instances
    if how == "keep":
        setting, how = "head.instances", project.config.head.instances
    if how != view.training.slices:
        log.warning(
            'view %s: training.slices = "%s", but heads see slices by %s = "%s"',
            view.name,
            view.training.slices,
            setting,
            how,
        )


def _forget_other_checkpoints(project: Project, members: list[Planned], fold: str) -> None:
    """A checkpoint goes on only with the very images it was begun with.

    The training itself compares settings, labels and rows; it does not know what the files hold.
    A group's checkpoint lies with its first view, whose inputs name those of the others.
    """
    first, *others = members
    for one in others:
        project.workspace.checkpoint(one.view.name, fold).unlink(missing_ok=True)
    started = project.workspace.training_started(first.view.name, fold)
    if not started.exists() or read_json(started) != first.inputs:
        project.workspace.checkpoint(first.view.name, fold).unlink(missing_ok=True)
        write_json(started, first.inputs)
