"""`mvp fit-head`: train a learner on the cached features of all views."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
from mvp.pipeline.heads import head_name, reading, save_heads
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import (
    changed_inputs,
    write_provenance,
)
from mvp.pipeline.recording import Run, recording
from mvp.pipeline.stage_two import current_keys, head_rows, learned_from, rows_inputs
from mvp.pipeline.uses import note_uses
from mvp.stages.decide import decide
from mvp.stages.fit_head import fit_head

log = logging.getLogger("mvp")


@dataclass
class FitHeadOutcome:
    """What was fitted, and where it lies."""

    name: str
    learner: str
    protocol: str
    views: list[str]
    labels: list[str]
    rows: int
    inner_rows: int
    calibration_rows: int
    folds: int
    digest: str
    folder: str
    options: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {k: v for k, v in self.__dict__.items() if k != "exit_code"}

    @property
    def text(self) -> str:
        """For a person."""
        # A member of a cross-fit is surer than their mean: its threshold would not be theirs.
        both = " and thresholds"
        early, late = ("", both) if self.folds and self.calibration_rows else (both, "")
        lines = [
            f"head {self.name}: {self.learner} on {' + '.join(self.views)}, {self.rows} training "
            f"studies, {self.inner_rows} for early stopping{early}"
            f"{f', {self.calibration_rows} for calibration{late}' if self.calibration_rows else ''}"
            f", protocol {self.protocol}"
            f"{f' over {self.folds} folds' if self.folds else ''}; {self.folder}"
        ]
        if self.protocol == "same-rows":
            lines.append(
                "same-rows is an ablation: the networks have seen these rows, so the head trusts "
                "their features too much"
            )
        return "\n".join([*lines, *self.notes])


@dataclass(frozen=True)
class HeadRequest:
    """What a head is to be fitted with; blanks are filled from mvp.toml."""

    learner: str
    options: Mapping[str, Any]
    views: list[str]
    name: str
    protocol: Protocol
    search: SearchRequest = NO_SEARCH


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
    asked = protocol or project.config.protocol
    if asked not in allowed:
        raise ConfigError(
            f"there is no protocol {asked!r}" + nearest(asked, allowed),
            remedy=f"use one of {', '.join(allowed)}",
        )
    if project.config.protocol == "frozen" and asked != "frozen":
        raise ConfigError(
            f"protocol {asked!r} means nothing where the networks are frozen",
            remedy='leave --protocol out, or set protocol = "holdout" and run `mvp finetune`',
        )
    if project.config.protocol == "crossfit" and asked != "crossfit":
        raise ConfigError(
            f'protocol {asked!r} needs networks without folds, and protocol = "crossfit" has none',
            remedy='leave --protocol out, or set protocol = "holdout" and run `mvp finetune`',
        )
    some = list(views) if views else settings.views
    fixed = {**own, **(options or {})}
    return HeadRequest(
        chosen,
        fixed,
        project.config.require_views(some),
        name or head_name(chosen),
        cast(Protocol, asked),
        search_request(settings, chosen, fixed, trials, timeout, sweep),
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
    )
    with recording(project.workspace, "fit-head") as run:
        return _fit(project, request, run)


def _fit(project: Project, request: HeadRequest, run: Run) -> FitHeadOutcome:
    require_calibration(project)
    workspace, seed = project.workspace, project.config.head.seed
    rows, keys = head_rows(
        project, request.views, request.protocol, ablation=project.config.head.ablation
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
        **rows_inputs(project, request.views, request.protocol, roles),
    }


def plan_fit_head(project: Project, request: HeadRequest) -> str | None:
    """Why `run` would fit this head; None when it is fresh."""
    keys = current_keys(project, request.views, request.protocol)
    changed = changed_inputs(
        project.workspace.head(request.name), head_inputs(project, request, keys)
    )
    if changed is None:
        return "not fitted yet"
    return f"changed since it was fitted: {', '.join(changed)}" if changed else None
