"""What stage two learns from, chooses on and is tested on: features, labels and roles, by fold."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from mvp.config import Protocol
from mvp.data.splits.split import TRAIN, Role, parts_for
from mvp.features import FeatureKey
from mvp.features.block import Aggregate
from mvp.learners.ensemble import SAME_ROWS, HeadRows
from mvp.pipeline.folds import held_out, needed_for, protocol_folds
from mvp.pipeline.networks import open_stores, view_key
from mvp.pipeline.project import Project
from mvp.pipeline.sharing import require_same_rows
from mvp.pipeline.tables import cached_table, labels_digest, require_unseen, rows_digests
from mvp.pipeline.workspace import FOLD, JOINT
from mvp.types import BoolArray

log = logging.getLogger("mvp")

# "joint": the head that was trained with the networks themselves.
HeadProtocol = Protocol | Literal["joint"]
_ROLES: tuple[tuple[str, Role], ...] = (("train", "stage2"), ("inner", "stage2-inner"))
# Whom no network and no head may ever have seen, whatever the protocol.
_KEPT_OUT = ("calibration", "test")


def role_masks(project: Project, protocol: HeadProtocol, fold: str = FOLD) -> dict[str, BoolArray]:
    """(study,) of the manifest for each role in stage two.

    Args:
        project: the workspace.
        protocol: of the head.
        fold: under `crossfit` the fold whose networks have not seen the training rows.

    Returns:
        `train`, `inner`, `calibration` and `test`; and the rows of the ablation where the networks
        have been trained on rows that the head is not fitted on.
    """
    studies, split = project.manifest.studies, project.split
    # Whatever stage one's networks were trained on, the joint ones were on `joint.rows`.
    networks = "holdout" if fold == JOINT else project.config.protocol
    if protocol == "joint":
        return joint_masks(project) | {part: split.mask(studies, (part,)) for part in _KEPT_OUT}
    masks = {
        role: split.mask(studies, parts_for(part, protocol, networks)) for role, part in _ROLES
    }
    if protocol == "crossfit":
        mine = held_out(split, studies, fold)
        masks = {role: mask & mine for role, mask in masks.items()}
    masks |= {part: split.mask(studies, (part,)) for part in _KEPT_OUT}
    if protocol == "holdout" and networks == "holdout":
        masks[SAME_ROWS] = split.mask(studies, parts_for("stage2", "same-rows", networks))
        inner = parts_for("stage2-inner", "same-rows", networks)
        masks[f"{SAME_ROWS}-inner"] = split.mask(studies, inner)
    return masks


def joint_masks(project: Project) -> dict[str, BoolArray]:
    """(study,) whom the joint network is fitted on (`train`), and who chooses its epoch (`inner`).

    The latter are those on which stage two chooses, so that both are judged alike.
    """
    networks, split = project.config.protocol, project.split
    if project.config.joint.rows == "stage1":
        parts: dict[str, tuple[str, ...]] = {"train": ("stage1",), "inner": ("stage1-inner",)}
    else:
        inner = parts_for("stage2-inner", networks, networks)
        parts = {"train": tuple(part for part in TRAIN if part not in inner), "inner": inner}
    return {role: split.mask(project.manifest.studies, own) for role, own in parts.items()}


def head_rows(
    project: Project,
    views: Sequence[str],
    protocol: HeadProtocol,
    *,
    joint: bool = False,
    ablation: bool = True,
    instances: Aggregate | None = None,
) -> tuple[dict[str, HeadRows], dict[str, dict[str, FeatureKey]]]:
    """For each fold of a protocol its studies with their features, and the keys of these.

    Args:
        project: the workspace.
        views: in order.
        protocol: of the head.
        joint: with the features of the joint network's bodies.
        ablation: also say who plays `same-rows`, where there is such a thing.
        instances: how several instances become one row; default: `head.instances`.

    Raises:
        ConfigError: features are not extracted, or networks not trained.
        DataError: a network has seen patients that it must not have seen.
        StaleError: networks on the same images were trained under different splits.
    """
    rows, keys = {}, {}
    for fold in protocol_folds(project, protocol, joint):
        stores = open_stores(project, views, fold)
        masks = role_masks(project, protocol, fold)
        require_same_rows(project, views, fold)
        _require_honest(project, views, protocol, masks, fold)
        manifest = project.manifest
        chosen = (
            None if fold in (FOLD, JOINT) else needed_for(project.split, manifest.studies, fold)
        )
        table = cached_table(project, stores, chosen, fold, instances)
        labels = manifest.labels
        if chosen is not None:
            labels = labels.select(chosen)
            masks = {role: mask[chosen] for role, mask in masks.items()}
        if not ablation:
            masks = {role: mask for role, mask in masks.items() if not role.startswith(SAME_ROWS)}
        rows[fold] = HeadRows(table, labels, masks)
        keys[fold] = {view: store.key for view, store in stores.items()}
    return _answered_by_all(rows), keys


def _answered_by_all(rows: dict[str, HeadRows]) -> dict[str, HeadRows]:
    """Without studies of test or calibration that a fold's networks could say nothing of.

    Every pair of networks and head is asked about them, and the mean of fewer is another thing.
    """
    lost = 0
    for role in _KEPT_OUT if len(rows) > 1 else ():
        seen = [set(one.table.studies[one.mask(role)].tolist()) for one in rows.values()]
        some = set.union(*seen) - set.intersection(*seen)
        if some:
            lost += len(some)
            rows = {
                fold: replace(
                    one,
                    roles={
                        **one.roles,
                        role: one.roles[role] & ~np.isin(one.table.studies, list(some)),
                    },
                )
                for fold, one in rows.items()
            }
    if lost:
        log.warning(
            "%d studies are left out: a view of theirs is readable for some folds' networks alone",
            lost,
        )
    return rows


def _require_honest(
    project: Project,
    views: Sequence[str],
    protocol: HeadProtocol,
    masks: Mapping[str, BoolArray],
    fold: str,
) -> None:
    """Ask the networks themselves whom they saw; the split says so already."""
    require_unseen(project, views, masks["test"], "test", fold)
    if masks["calibration"].any():
        require_unseen(project, views, masks["calibration"], "calibration", fold)
    if protocol in ("same-rows", "joint"):
        return
    # An encoder of values knows no labels: that it has seen a fold's columns lets nothing through.
    kinds = project.config.views
    asked = [v for v in views if not (protocol == "crossfit" and kinds[v].kind == "table")]
    require_unseen(project, asked, masks["train"] | masks["inner"], "head", fold)


def current_keys(
    project: Project, views: Sequence[str], protocol: str, joint: bool = False
) -> dict[str, dict[str, FeatureKey]]:
    """The key of every view's features today, for each fold of a protocol."""
    return {
        fold: {view: view_key(project, view, fold) for view in views}
        for fold in protocol_folds(project, protocol, joint)
    }


def rows_inputs(
    project: Project,
    views: Sequence[str],
    protocol: HeadProtocol,
    roles: Sequence[str],
    joint: bool = False,
) -> dict[str, Any]:
    """Digests of what the studies of some roles are made of, and of their labels.

    Args:
        project: the workspace.
        views: whose images.
        protocol: of the head.
        roles: as `role_masks` names them; those without rows leave no trace.
        joint: whether it stands on the joint network's bodies.
    """
    folds = protocol_folds(project, protocol, joint)
    masks = {fold: role_masks(project, protocol, fold) for fold in folds}
    everybody = [own[role] for own in masks.values() for role in roles if role in own]
    all_of = project.split.mask(project.manifest.studies, [])
    for mask in everybody:
        all_of = all_of | mask
    # By name: studies that change their role are other rows, though they are the same studies.
    played = {
        fold: {r: m for r, m in own.items() if r in roles and m.any()}
        for fold, own in masks.items()
    }
    rows = {
        fold: dict(zip(own, rows_digests(project, views, list(own.values())), strict=True))
        for fold, own in played.items()
    }
    return {
        "the rows": rows,
        "the labels": labels_digest(project.manifest.labels.select(all_of)),
    }


def learned_from(rows: Mapping[str, HeadRows]) -> tuple[set[str], set[str]]:
    """Patients and studies whom honest heads have seen in any role but test."""
    patients: set[str] = set()
    studies: set[str] = set()
    for one in rows.values():
        for role in one.roles:
            if role != "test" and not role.startswith(SAME_ROWS):
                table, _ = one.of(role)
                patients.update(map(str, table.groups))
                studies.update(map(str, table.studies))
    return patients, studies
