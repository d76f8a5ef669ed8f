"""`mvp fit-head`: train a learner on the cached features of all views."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from mvp.config import Protocol, nearest
from mvp.errors import ConfigError
from mvp.features import FeatureKey
from mvp.files import digest_json
from mvp.learners import find_learner, parse_option
from mvp.learners.ensemble import SAME_ROWS, HeadRows
from mvp.pipeline._tune import NO_SEARCH, SearchRequest, search_options, search_request
from mvp.pipeline.decisions import DECIDED_INPUT, decision_settings, require_calibration
from mvp.pipeline.drift import drift_references
from mvp.pipeline.fitting import FitHeadOutcome
from mvp.pipeline.heads import head_name, reading, save_heads
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import (
    changed_inputs,
    write_provenance,
)
from mvp.pipeline.recording import Run, recording
from mvp.pipeline.stage_two import current_keys, head_rows, learned_from, rows_inputs
from mvp.pipeline.uses import note_uses
from mvp.pipeline.workspace import JOINT
from mvp.stages.decide import decide
from mvp.stages.fit_head import fit_head

log = logging.getLogger("mvp")


@dataclass(frozen=True)
class HeadRequest:
    """What a head is to be fitted with; blanks are filled from mvp.toml."""

    learner: str
    options: Mapping[str, Any]
    views: list[str]
    name: str
    protocol: Protocol
    search: SearchRequest = NO_SEARCH
    joint: bool = False


def head_request(
    project: Project,
    learner: str | None = None,
    options: Mapping[str, Any] | None = None,
    views: Sequence[str] | None = None,
    name: str | None = None,
    protocol: str | None = None,
    *,
    trials: int | None = None,
    timeout: float | None = None,
    sweep: bool | None = None,
    from_joint: bool = False,
) -> HeadRequest:
    """Fill in from mvp.toml what was not asked for.

    Raises:
        ConfigError: an unknown learner, view or protocol, or a search without meaning.
    """
    settings = project.config.head
    chosen = learner or settings.learner
    find_learner(chosen)
    # Options in mvp.toml belong to the learner that it names.
    own = dict(settings.options) if chosen == settings.learner else {}
    allowed = get_args(Protocol)
    asked = protocol or ("holdout" if from_joint else project.config.protocol)
    if asked not in allowed:
        raise ConfigError(
            f"there is no protocol {asked!r}" + nearest(asked, allowed),
            remedy=f"use one of {', '.join(allowed)}",
        )
    if from_joint:
        _require_unseen_by_joint(project, asked)
    elif project.config.protocol == "frozen" and asked != "frozen":
        raise ConfigError(
            f"protocol {asked!r} means nothing where the networks are frozen",
            remedy='leave --protocol out, or set protocol = "holdout" and run `mvp finetune`',
        )
    elif project.config.protocol == "crossfit" and asked != "crossfit":
        raise ConfigError(
            f'protocol {asked!r} needs networks without folds, and protocol = "crossfit" has none',
            remedy='leave --protocol out, or set protocol = "holdout" and run `mvp finetune`',
        )
    if name == JOINT:
        raise ConfigError(
            f'the head "{JOINT}" is that of the joint network', remedy="take another --name"
        )
    some = list(views) if views else settings.views
    fixed = {**own, **(options or {})}
    return HeadRequest(
        chosen,
        fixed,
        project.config.require_views(some),
        name or head_name(chosen) + ("-on-joint" if from_joint else ""),
        cast(Protocol, asked),
        search_request(settings, chosen, fixed, trials, timeout, sweep),
        from_joint,
    )


def _require_unseen_by_joint(project: Project, protocol: str) -> None:
    if protocol not in ("holdout", "same-rows"):
        raise ConfigError(
            f"protocol {protocol!r} means nothing on the features of the joint network",
            remedy="leave --protocol out, or name the ablation: --protocol same-rows",
        )
    if protocol == "same-rows" or project.config.joint.rows == "stage1":
        return
    raise ConfigError(
        "the joint network was trained on the rows that this head would be fitted on",
        remedy='set joint.rows = "stage1" and run `mvp finetune-joint`, or name the ablation: '
        "--protocol same-rows",
    )


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """Options of a learner from `name=value` texts, as the command line gives them."""
    return dict(parse_option(text) for text in texts)


def run_fit_head(
    workspace: str | Path = ".",
    learner: str | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    views: Sequence[str] | None = None,
    name: str | None = None,
    protocol: str | None = None,
    trials: int | None = None,
    timeout: float | None = None,
    sweep: bool | None = None,
    from_joint: bool = False,
    progress: bool = True,
) -> FitHeadOutcome:
    """Fit a learner on the concatenated cached features, and one per view for comparison.

    Args:
        workspace: its folder.
        learner: `mlp`, `xgboost`, `logistic`, another registered name, or a dotted path.
        options: the learner's options.
        views: a subset of the configured views.
        name: the head's name; default: the learner's.
        protocol: `crossfit` stands on the networks of the folds, `same-rows` names the ablation;
            default: what mvp.toml says.
        trials: how many options to try on patient folds of the training rows; 0 takes those given.
        timeout: seconds after which no further trial begins.
        sweep: choose C of `logistic` on validation, of heads that are fitted in common passes.
        from_joint: on the features of the joint network's bodies (`mvp extract --from-joint`).
        progress: show bars.
    """
    project = Project(workspace, progress=progress)
    request = head_request(
        project,
        learner,
        options,
        views,
        name,
        protocol,
        trials=trials,
        timeout=timeout,
        sweep=sweep,
        from_joint=from_joint,
    )
    with recording(project.workspace, "fit-head") as run:
        return _fit(project, request, run)


def _fit(project: Project, request: HeadRequest, run: Run) -> FitHeadOutcome:
    require_calibration(project)
    workspace, seed = project.workspace, project.config.head.seed
    rows, keys = head_rows(
        project,
        request.views,
        request.protocol,
        joint=request.joint,
        ablation=project.config.head.ablation and not request.joint,
    )
    found = search_options(project, request, rows, run)
    result = fit_head(
        request.learner,
        found.options,
        rows,
        seed=seed,
        tta=project.config.head.tta,
        progress=project.progress,
    )
    decisions = decide(result.ensemble, rows, project.config.head)
    drift = drift_references(rows, seed)
    saved = save_heads(workspace, request.name, result.ensemble, result.ablation, decisions, drift)
    for note in decisions.notes():
        result.notes.append(note)
        log.warning(note)
    if request.protocol == "crossfit" and not next(iter(rows.values())).mask("calibration").any():
        result.notes.append(
            "thresholds are chosen on single members of the cross-fit, which are surer than their "
            "mean: set split.calibration for a slice that all of them are asked about"
        )
        log.warning(result.notes[-1])
    _note_left_out(rows, result.notes)
    patients, studies = learned_from(rows)
    write_provenance(
        workspace.head(request.name),
        inputs=head_inputs(project, request, keys),
        seed=seed,
        workspace=workspace,
        patients=patients,
        studies=studies,
        extra={
            "learner": request.learner,
            "options": found.options,
            "search": found.record,
            "protocol": request.protocol,
            "on_joint": request.joint,
            "split": project.split.digest,
            "reading": reading(project, request.views),
            "keys": {
                fold: {view: key.to_json() for view, key in own.items()}
                for fold, own in keys.items()
            },
            **saved,
        },
    )
    note_uses(project)
    outcome = FitHeadOutcome(
        name=request.name,
        learner=request.learner,
        protocol=request.protocol,
        views=request.views,
        labels=[t.name for t in project.manifest.labels.targets],
        rows=result.rows,
        inner_rows=result.inner_rows,
        # Every fold has the same.
        calibration_rows=int(next(iter(rows.values())).mask("calibration").sum()),
        folds=len(rows) if request.protocol == "crossfit" else 0,
        digest=saved["digest"],
        folder=str(workspace.head(request.name)),
        options=found.options,
        search=found.record,
        notes=[*found.notes, *result.notes],
    )
    log.info("fit-head %s: %d studies, digest %s", outcome.name, outcome.rows, outcome.digest)
    return outcome


def _note_left_out(rows: Mapping[str, HeadRows], notes: list[str]) -> None:
    lost = sum(
        int((one.roles[role] & ~one.mask(role)).sum())
        for one in rows.values()
        for role in ("train", "inner")
    )
    if lost:
        notes.append(f"{lost} training studies have no readable view: left out")
        log.warning(notes[-1])


def head_inputs(
    project: Project, request: HeadRequest, keys: Mapping[str, Mapping[str, FeatureKey]]
) -> dict[str, Any]:
    """What decides a fitted head, by name."""
    settings = project.config.head
    roles = ["train", "inner", "calibration"]
    if settings.ablation:
        roles += [SAME_ROWS, f"{SAME_ROWS}-inner"]
    return {
        "the features": {
            fold: {view: key.digest for view, key in own.items()} for fold, own in keys.items()
        },
        "the learner": request.learner,
        "its options": digest_json(dict(request.options)),
        **request.search.inputs(),
        "the reading of several images or of texts": reading(project, request.views),
        "the protocol": request.protocol,
        "the seed": settings.seed,
        DECIDED_INPUT: decision_settings(settings),
        **rows_inputs(project, request.views, request.protocol, roles, request.joint),
    }


def plan_fit_head(project: Project, request: HeadRequest) -> str | None:
    """Why `run` would fit this head; None when it is fresh."""
    keys = current_keys(project, request.views, request.protocol, request.joint)
    changed = changed_inputs(
        project.workspace.head(request.name), head_inputs(project, request, keys)
    )
    if changed is None:
        return "not fitted yet"
    return f"changed since it was fitted: {', '.join(changed)}" if changed else None
