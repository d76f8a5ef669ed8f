"""`mvp cache gc` and `compact`: fewer features, fewer objects, the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mvp.features.collect import Garbage, collect, garbage
from mvp.features.compact import compact
from mvp.features.uses import forget_uses, read_uses
from mvp.pipeline._cache import CacheOutcome, size_text, stored_views
from mvp.pipeline.networks import feature_store
from mvp.pipeline.project import Project
from mvp.pipeline.uses import present_uses


def run_cache_gc(
    workspace: str | Path = ".", *, delete: bool = False, forget_missing: bool = False
) -> CacheOutcome:
    """Keys that no workspace uses, and segments that were merged or never published.

    Args:
        workspace: its folder.
        delete: take them away; without it they are only listed.
        forget_missing: workspaces whose folder is not on this machine count no more.
    """
    project = Project(workspace, progress=False)
    store = feature_store(project)
    present_uses(project)
    missing = {
        use.owner: use.workspace
        for use in read_uses(store.storage)
        if not Path(use.workspace).exists()
    }

    def used() -> set[tuple[str, str]]:
        return {
            key
            for use in read_uses(store.storage)
            if not (forget_missing and use.owner in missing)
            for key in use.keys
        }

    found = garbage(store, used())
    if delete:
        collect(store, found, used)
        for owner in missing if forget_missing else ():
            forget_uses(store.storage, owner)
    return _gc_outcome(found, delete, [] if forget_missing else sorted(missing.values()))


def _gc_outcome(found: Sequence[Garbage], delete: bool, missing: Sequence[str]) -> CacheOutcome:
    total = sum(item.size for item in found)
    lines = [f"{item.folder}: {item.what}, {size_text(item.size)}" for item in found]
    if not found:
        lines.append("there is nothing to collect")
    elif delete:
        lines.append(f"{size_text(total)} deleted")
    else:
        lines.append(f"{size_text(total)} can be deleted: `mvp cache gc --delete` does it")
    lines += [
        f"the workspace {place} is not on this machine; its features are kept "
        "(--forget-missing lets them go)"
        for place in missing
    ]
    facts = {
        "deleted": delete,
        "bytes": total,
        "items": [item.__dict__ for item in found],
        "missing_workspaces": list(missing),
    }
    return CacheOutcome(facts, lines)


def run_cache_compact(
    workspace: str | Path = ".", views: Sequence[str] | None = None, *, every: bool = False
) -> CacheOutcome:
    """Merge small segments; the old ones go with the next `mvp cache gc --delete`.

    Args:
        workspace: its folder.
        views: names of views; default: all that are stored.
        every: merge large segments too.
    """
    project = Project(workspace, progress=False)
    store = feature_store(project)
    done, lines = [], []
    for view in stored_views(project, views):
        keys, wrong = store.readable_keys(view)
        lines += [str(error) for error in wrong]
        for key in keys:
            merged = compact(store.open(key), project.config.extract.unit_rows, every=every)
            if merged.segments:
                done.append({"view": view, "key": key.digest, **merged.__dict__})
                lines.append(
                    f"{view}, key {key.digest[:10]}: {merged.segments} segments of together "
                    f"{merged.rows} rows are one now"
                )
    if done:
        lines.append("`mvp cache gc --delete` takes the old ones away")
    return CacheOutcome({"merged": done}, lines or ["there is nothing to merge"])
