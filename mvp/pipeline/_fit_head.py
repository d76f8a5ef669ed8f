"""`mvp fit-head`: train a learner on the cached features of all views."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

from mvp.config import Protocol, nearest
from mvp.data.splits.split import parts_for
from mvp.errors import ConfigError
from mvp.features import FeatureKey
from mvp.files import digest_json
from mvp.learners import find_learner, parse_option
from mvp.pipeline.heads import head_name, reading, save_heads
from mvp.pipeline.networks import open_stores, view_key
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import (
    changed_inputs,
    write_provenance,
)
from mvp.pipeline.recording import recording
from mvp.pipeline.sharing import require_same_rows
from mvp.pipeline.tables import cached_table, labels_digest, require_unseen, rows_digests
from mvp.pipeline.uses import note_uses
from mvp.stages.fit_head import fit_head
from mvp.types import BoolArray

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
    digest: str
    folder: str
    notes: list[str] = field(default_factory=list)
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {k: v for k, v in self.__dict__.items() if k != "exit_code"}

    @property
    def text(self) -> str:
        """For a person."""
        lines = [
            f"head {self.name}: {self.learner} on {' + '.join(self.views)}, {self.rows} training "
            f"studies, {self.inner_rows} for early stopping, protocol {self.protocol}; "
            f"{self.folder}"
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


def head_request(
    project: Project,
    learner: str | None = None,
    options: Mapping[str, Any] | None = None,
    views: Sequence[str] | None = None,
    name: str | None = None,
    protocol: str | None = None,
) -> HeadRequest:
    """Fill in from mvp.toml what was not asked for.

    Raises:
        ConfigError: an unknown learner, view or protocol.
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
    some = list(views) if views else settings.views
    return HeadRequest(
        chosen,
        {**own, **(options or {})},
        project.config.require_views(some),
        name or head_name(chosen),
        cast(Protocol, asked),
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
    progress: bool = True,
) -> FitHeadOutcome:
    """Fit a learner on the concatenated cached features, and one per view for comparison.

    Args:
        workspace: its folder.
        learner: `mlp`, `xgboost`, `logistic`, another registered name, or a dotted path.
        options: the learner's options.
        views: a subset of the configured views.
        name: the head's name; default: the learner's.
        protocol: `same-rows` names the ablation; default: what mvp.toml says.
        progress: show bars.
    """
    project = Project(workspace, progress=progress)
    request = head_request(project, learner, options, views, name, protocol)
    with recording(project.workspace, "fit-head"):
        return _fit(project, request)


def _fit(project: Project, request: HeadRequest) -> FitHeadOutcome:
    workspace, manifest = project.workspace, project.manifest
    stores = open_stores(project, request.views)
    table = cached_table(project, stores)
    masks = role_masks(project, request.protocol)
    learning = masks["stage2"] | masks["stage2-inner"]
    require_same_rows(project, request.views)
    require_unseen(project, request.views, masks["test"], "test")
    if request.protocol != "same-rows":
        require_unseen(project, request.views, learning, "head")
    seed = project.config.head.seed
    result = fit_head(
        request.learner,
        request.options,
        table,
        manifest.labels,
        train=masks["stage2"],
        inner=masks["stage2-inner"],
        seed=seed,
        tta=project.config.head.tta,
        progress=project.progress,
    )
    save_heads(workspace, request.name, result.heads)
    keys = {view: store.key for view, store in stores.items()}
    used = table.presence.any(axis=1) & learning
    if (learning & ~used).any():
        note = f"{int((learning & ~used).sum())} training studies have no readable view: left out"
        result.notes.append(note)
        log.warning(note)
    write_provenance(
        workspace.head(request.name),
        inputs=head_inputs(project, request, keys),
        seed=seed,
        workspace=workspace,
        patients=table.groups[used],
        studies=table.studies[used],
        extra={
            "learner": request.learner,
            "options": dict(request.options),
            "protocol": request.protocol,
            "split": project.split.digest,
            "reading": reading(project, request.views),
            "keys": {view: key.to_json() for view, key in keys.items()},
            "singles": list(result.heads.singles),
            "digest": result.heads.fusion.digest,
        },
    )
    note_uses(project)
    outcome = FitHeadOutcome(
        name=request.name,
        learner=request.learner,
        protocol=request.protocol,
        views=request.views,
        labels=[t.name for t in manifest.labels.targets],
        rows=result.rows,
        inner_rows=result.inner_rows,
        digest=result.heads.fusion.digest,
        folder=str(workspace.head(request.name)),
        notes=result.notes,
    )
    log.info("fit-head %s: %d studies, digest %s", outcome.name, outcome.rows, outcome.digest)
    return outcome


def role_masks(project: Project, protocol: Protocol) -> dict[str, BoolArray]:
    """(study,) masks of the rows that stage two trains on, stops early on, and is tested on."""
    studies, split = project.manifest.studies, project.split
    return {
        role: split.mask(studies, parts_for(role, protocol, project.config.protocol))
        for role in ("stage2", "stage2-inner", "test")
    }


def head_inputs(
    project: Project, request: HeadRequest, keys: Mapping[str, FeatureKey]
) -> dict[str, Any]:
    """What decides a fitted head, by name."""
    masks = role_masks(project, request.protocol)
    rows = masks["stage2"] | masks["stage2-inner"]
    return {
        "the features": {view: key.digest for view, key in keys.items()},
        "the learner": request.learner,
        "its options": digest_json(dict(request.options)),
        "the reading of several images or of texts": reading(project, request.views),
        "the protocol": request.protocol,
        "the seed": project.config.head.seed,
        "the rows": rows_digests(project, request.views, [masks["stage2"], masks["stage2-inner"]]),
        "the labels": labels_digest(project.manifest.labels.select(rows)),
    }


def plan_fit_head(project: Project, request: HeadRequest) -> str | None:
    """Why `run` would fit this head; None when it is fresh."""
    keys = {view: view_key(project, view) for view in request.views}
    changed = changed_inputs(
        project.workspace.head(request.name), head_inputs(project, request, keys)
    )
    if changed is None:
        return "not fitted yet"
    return f"changed since it was fitted: {', '.join(changed)}" if changed else None
