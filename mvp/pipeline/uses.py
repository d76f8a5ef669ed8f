"""Which stored features this workspace uses, said where others who share the store can see it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress

from mvp.data.splits.file import read_split
from mvp.errors import DataError, MvpError, StorageError
from mvp.features import FeatureKey
from mvp.features.uses import Use, forget_uses, read_uses, write_use
from mvp.files import digest_bytes
from mvp.pipeline.heads import head_keys
from mvp.pipeline.networks import feature_store, view_key
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import read_provenance
from mvp.pipeline.workspace import FOLD, JOINT, fold_number

log = logging.getLogger("mvp")


def workspace_id(project: Project) -> str:
    """A name for the workspace that says nothing about it."""
    return digest_bytes(str(project.workspace.folder.resolve()).encode())[:16]


def head_uses(project: Project) -> dict[str, tuple[tuple[str, str], ...]]:
    """For each finished head the view and key digest of what it was fitted on."""
    uses = {}
    for name in project.workspace.head_names():
        made = read_provenance(project.workspace.head(name)) or {}
        try:
            keys = [key for own in head_keys(made).values() for key in own.values()]
        except (ValueError, AttributeError):
            continue  # of another version of the store: its features cannot be read any more
        uses[f"head {name}"] = tuple((key.view, key.digest) for key in keys)
    return uses


def mend_keys(project: Project) -> None:
    """Write the damaged `key.json` of features that a head was fitted on anew."""
    for name in project.workspace.head_names():
        made = read_provenance(project.workspace.head(name)) or {}
        with suppress(ValueError, AttributeError):
            for own in head_keys(made).values():
                for key in own.values():
                    feature_store(project).open(key, mend=True)


def use_name(view: str, fold: str = FOLD) -> str:
    """What the use of a view's features is called; the networks of its folds have one each."""
    return view if fold == FOLD else f"{view} {fold}"


def standing_folds(project: Project, view: str) -> list[str]:
    """The folds of a view with a finished network that the split still has; and the joint one."""
    trained = project.workspace.trained_folds(view)
    joint = [JOINT] if project.workspace.weights(view, JOINT).exists() else []
    try:
        split = read_split(project.workspace.split)
    except DataError:
        return [*trained, *joint]  # nobody can tell; what is in doubt is kept
    known = len(split.fold_counts()) if split is not None else 0
    return [*(fold for fold in trained if (fold_number(fold) or 0) < known), *joint]


def note_uses(project: Project, keys: Mapping[str, FeatureKey] | None = None) -> None:
    """Say what the workspace uses now: its heads' features, and the present ones of some views.

    Args:
        project: the workspace.
        keys: by view, or by view and fold (`use_name`), the keys that are to be kept for it.
    """
    storage = feature_store(project).storage
    owner, folder = workspace_id(project), str(project.workspace.folder.resolve())
    uses = head_uses(project)
    uses.update({f"view {name}": ((k.view, k.digest),) for name, k in (keys or {}).items()})
    try:
        for purpose, used in uses.items():
            write_use(storage, Use(owner, folder, purpose, used))
    except StorageError as error:
        # Whoever computes is told by the store; whoever reads need not write.
        log.debug("%s", error)


def present_uses(project: Project) -> None:
    """Note what every view reads under the present settings, and forget what is no more.

    Beside the last features that were extracted: those stay until the settings' own are there.
    """
    keys, names = {}, []
    for view in project.config.views:
        for fold in (FOLD, *standing_folds(project, view)):
            names.append(use_name(view, fold))
            with suppress(MvpError):  # a network that is not trained yet has no features
                keys[f"{names[-1]} by its settings"] = view_key(project, view, fold)
    note_uses(project, keys)
    storage, owner = feature_store(project).storage, workspace_id(project)
    standing = {f"view {name}" for name in [*names, *keys]} | set(head_uses(project))
    for use in read_uses(storage):
        if use.owner == owner and use.purpose not in standing:
            forget_uses(storage, owner, use.purpose)
