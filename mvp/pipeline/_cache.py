"""`mvp cache`: look into the feature store, check it, tidy it, hand its features on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mvp.errors import ConfigError, StoreDamagedError
from mvp.features import FeatureKey, KeyStore
from mvp.features.export import Exported, export
from mvp.features.uses import read_uses
from mvp.pipeline.networks import feature_store, open_stores
from mvp.pipeline.project import Project
from mvp.pipeline.tables import cached_table, stored_draws, study_rows
from mvp.pipeline.uses import note_uses, workspace_id
from mvp.reports import grid

_BATCH = 1024


@dataclass
class CacheOutcome:
    """What a verb of `mvp cache` found or did: `facts` for a machine, `lines` for a person."""

    facts: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """The facts."""
        return self.facts

    @property
    def text(self) -> str:
        """For a person."""
        return "\n".join(self.lines)


def run_cache_ls(workspace: str | Path = ".") -> CacheOutcome:
    """The keys in the store: rows, bytes, what made them and who uses them."""
    project = Project(workspace, progress=False)
    store = feature_store(project)
    note_uses(project)
    users = read_uses(store.storage)
    here = workspace_id(project)
    entries, broken = [], []
    for view in store.views():
        keys, wrong = store.readable_keys(view)
        broken += [str(error) for error in wrong]
        for key in keys:
            entries.append(_entry(store.open(key)))
            entries[-1]["used_by"] = sorted(
                use.purpose if use.owner == here else f"{use.purpose} of {use.workspace}"
                for use in users
                if (view, key.digest) in use.keys
            )
    header = ["view", "key", "rows", "units", "bytes", "made by", "used by"]
    rows = [
        [
            e["view"],
            e["key"][:10],
            str(e["rows"]),
            f"{e['units']}" + (f" ({e['open_units']} open)" if e["open_units"] else ""),
            size_text(e["bytes"]),
            e["made_by"],
            ", ".join(e["used_by"]) or "nobody",
        ]
        for e in entries
    ]
    lines = [grid([header, *rows])] if rows else ["nothing is stored yet"]
    broken += [line for e in entries for line in e["damaged"]]
    lines += [f"damaged: {line}" for line in broken]
    if broken:
        lines.append("run `mvp cache verify` for the whole list")
    code = StoreDamagedError.exit_code if broken else 0
    return CacheOutcome({"keys": entries, "damaged": broken}, lines, code)


def _entry(store: KeyStore) -> dict[str, Any]:
    key, shelf = store.key, store.shelf
    layer = f" {key.layer} {key.pooling}" if key.computed else ""
    made = sorted({_surroundings(segment.info["surroundings"]) for segment in store.segments})
    objects = store.storage.walk(store.folder)
    return {
        "view": key.view,
        "key": key.digest,
        "rows": len(store),
        "shape": list(store.shape or ()),
        "dtype": key.dtype,
        "segments": len(store.segments),
        "units": sum(segment.units for segment in store.segments),
        "open_units": sum(len(shelf.open_units(number)) for number in shelf.live),
        "rejected": len(store.rejected),
        "objects": len(objects),
        "bytes": sum(objects.values()),
        "made_by": f"{key.architecture}{layer}" + (f" ({'; '.join(made)})" if made else ""),
        "fields": key.to_json(),
        "damaged": [str(problem) for problem in store.problems],
    }


def _surroundings(made: dict[str, Any]) -> str:
    if "merged" in made:
        return "; ".join(sorted({_surroundings(one) for one in made["merged"]}))
    return ", ".join(f"{k} {made[k]}" for k in ("torch", "device") if k in made) or (
        "encoder" if "encoded" in made else "import"
    )


def run_cache_diff(workspace: str | Path, first: str, second: str) -> CacheOutcome:
    """What differs between two keys, and between the numbers of the rows that both have.

    Args:
        workspace: its folder.
        first: digest of a key, or its beginning.
        second: digest of the other.
    """
    project = Project(workspace, progress=False)
    a, b = (_by_prefix(project, text) for text in (first, second))
    differences = a.differences(b)
    store = feature_store(project)
    left, right = store.open(a), store.open(b)
    there = set(right.rows)
    both = [row for row in left.rows if row in there]
    facts: dict[str, Any] = {
        "keys": [a.to_json(), b.to_json()],
        "differences": differences,
        "rows": [len(left), len(right)],
        "rows_in_both": len(both),
    }
    lines = [f"{len(left)} and {len(right)} rows, {len(both)} in both", *differences]
    if not differences:
        lines.append("they are the same key")
    if both and left.shape == right.shape:
        gaps, scale = [], 0.0
        for start in range(0, len(both), _BATCH):
            one, other = (s.read(both[start : start + _BATCH]) for s in (left, right))
            gaps.append(float(np.abs(one - other).max()))
            scale = max(scale, float(np.abs(one).max()))
        facts["largest_difference"], facts["largest_value"] = max(gaps), scale
        lines.append(f"largest difference {max(gaps):.3g} (values up to {scale:.3g})")
    elif both:
        lines.append(f"rows of shape {left.shape} and {right.shape}")
    return CacheOutcome(facts, lines)


def _by_prefix(project: Project, text: str, view: str | None = None) -> FeatureKey:
    store = feature_store(project)
    views = [v for v in store.views() if view in (None, v)]
    keys = [key for v in views for key in store.readable_keys(v)[0]]
    found = [key for key in keys if key.digest.startswith(text.lower())]
    if len(found) != 1:
        raise ConfigError(
            f"{'no key begins' if not found else f'{len(found)} keys begin'} with {text!r}",
            cause=f"there are {', '.join(k.digest[:10] for k in keys) or 'none'}",
            remedy="`mvp cache ls` lists them",
        )
    return found[0]


def run_cache_export(
    workspace: str | Path,
    view: str,
    out: str | Path,
    *,
    key: str | None = None,
    every_instance: bool = False,
    progress: bool = True,
) -> CacheOutcome:
    """Write a view's features for somebody without `mvp`.

    Args:
        workspace: its folder.
        view: the view.
        out: `.npz`, `.parquet` or `.zarr`.
        key: digest of a key, or its beginning; default: the present one.
        every_instance: a row for every image or slice, not one a study as heads see it.
        progress: show bars while files are looked at.
    """
    project = Project(workspace, progress=progress)
    project.config.require_views([view])
    chosen = _by_prefix(project, key, view) if key else None
    store = feature_store(project).open(chosen) if chosen else open_stores(project, [view])[view]
    table = cached_table(project, {view: store})
    present = table.presence[:, 0]
    shape, drawn = store.shape or (0,), stored_draws(project, [view]).get(view, 1) > 1
    if every_instance:
        per_study = study_rows(
            project, project.manifest, view, project.contents, store.key.instances
        )
        rows = [[row for row in ids if row in store] for ids in per_study]
        counts = np.array([len(ids) for ids in rows], np.int64)
        flat = [row for ids in rows for row in ids]
        numbers = np.concatenate([np.arange(n) for n in counts] or [np.empty(0, np.int64)])
        batches = (store.read(flat[i : i + _BATCH]) for i in range(0, len(flat), _BATCH))
        exported = Exported(np.repeat(table.studies, counts), numbers, shape, batches, drawn)
    else:
        some = table.select(present)
        shape = shape[1:] if drawn else shape  # heads see the mean of a study's draws
        exported = Exported(some.studies, None, shape, (v for _, v in some.batches(_BATCH)))
    export(Path(out), exported)
    facts = {"view": view, "key": store.key.digest, "rows": len(exported.studies), "out": str(out)}
    width = " x ".join(map(str, shape))
    return CacheOutcome(facts, [f"{view}: {facts['rows']} rows of {width} features: {out}"])


def stored_views(project: Project, views: Sequence[str] | None) -> list[str]:
    """The named views, or all that something is stored for; a ConfigError for an unknown one."""
    stored = feature_store(project).views()
    for view in views or ():
        if view not in stored:
            project.config.require_views([view])
    return list(views or stored)


def size_text(count: float) -> str:
    """Bytes for a person."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
