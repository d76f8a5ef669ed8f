"""Which stored features this workspace uses, said where others who share the store can see it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from mvp.errors import StoreDamagedError
from mvp.features import FeatureKey
from mvp.features.uses import Uses, read_uses, write_uses
from mvp.files import digest_bytes
from mvp.pipeline.networks import feature_store
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import read_provenance

log = logging.getLogger("mvp")


def workspace_id(project: Project) -> str:
    """A name for the workspace that says nothing about it."""
    return digest_bytes(str(project.workspace.folder.resolve()).encode())[:16]


def head_uses(project: Project) -> dict[str, tuple[tuple[str, str], ...]]:
    """For each finished head the view and key digest of what it was fitted on."""
    uses = {}
    for name in project.workspace.head_names():
        made = read_provenance(project.workspace.head(name)) or {}
        keys = [FeatureKey.from_json(key) for key in made.get("keys", {}).values()]
        uses[f"head {name}"] = tuple((key.view, key.digest) for key in keys)
    return uses


def note_uses(project: Project, keys: Mapping[str, FeatureKey] | None = None) -> Uses:
    """Say what the workspace uses now: its heads' features, and the last ones of each view.

    Args:
        project: the workspace.
        keys: by view, the keys that have just been extracted.
    """
    storage = feature_store(project).storage
    try:
        before = read_uses(storage).get(workspace_id(project))
    except StoreDamagedError as error:
        log.warning("%s", error)
        before = None
    views = {
        purpose: used
        for purpose, used in (before.keys.items() if before else ())
        if purpose.partition(" ")[0] == "view" and purpose[5:] in project.config.views
    }
    views.update({f"view {view}": ((view, k.digest),) for view, k in (keys or {}).items()})
    uses = Uses(str(project.workspace.folder.resolve()), {**views, **head_uses(project)})
    if before is None or dict(before.keys) != dict(uses.keys):
        write_uses(storage, workspace_id(project), uses)
    return uses
