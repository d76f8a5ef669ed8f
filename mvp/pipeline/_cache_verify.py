"""`mvp cache verify`: every stored byte, and a sample of rows computed anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mvp.errors import ConfigError, MvpError, StoreDamagedError
from mvp.features import KeyStore, image_digest
from mvp.features.verify import Finding, verify
from mvp.pipeline._cache import CacheOutcome, stored_views
from mvp.pipeline.items import view_items
from mvp.pipeline.networks import feature_network, feature_store, view_inputs
from mvp.pipeline.project import Project
from mvp.pipeline.uses import standing_folds, use_name
from mvp.pipeline.workspace import FOLD
from mvp.stages.extract import fresh_rows

SAMPLE = 8


def run_cache_verify(
    workspace: str | Path = ".",
    views: Sequence[str] | None = None,
    *,
    sample: int = SAMPLE,
    progress: bool = True,
) -> CacheOutcome:
    """Hold all stored bytes against the ledger, and some rows against a fresh forward pass.

    Args:
        workspace: its folder.
        views: names of views; default: all that are stored.
        sample: rows of each view's present key that are computed anew; 0 for none.
        progress: show bars while files are looked at.

    Returns:
        Exit code 5 when anything differs.
    """
    project = Project(workspace, progress=progress)
    store = feature_store(project)
    findings: list[Finding] = []
    samples: list[dict[str, Any]] = []
    lines: list[str] = []
    rows = 0
    for view in stored_views(project, views):
        for digest in store.digests(view):
            key_store = _opened(project, view, digest, findings)
            if key_store is not None:
                found = verify(key_store)
                findings += found
                rows += len(key_store)
    for view in views or list(project.config.views):
        if not sample or view not in project.config.views:
            continue
        for fold in (FOLD, *standing_folds(project, view)):
            seen = _sampled(project, view, fold, sample)
            if seen is not None:
                samples.append(seen)
                lines.append(seen["text"])
    bad = [s for s in samples if not s["agrees"]]
    lines = [f.text for f in findings] + lines
    lines.append(
        f"{rows} rows: "
        + (f"{len(findings)} things are damaged" if findings else "every byte is as promised")
        + (f"; {len(bad)} views compute other numbers now" if bad else "")
    )
    if findings:
        lines.append(
            "run `mvp extract --verify` (with --folds for features of folds): it recomputes what "
            "is damaged, and only that; or says what has to be imported again"
        )
    facts = {"rows": rows, "damaged": [f.__dict__ for f in findings], "samples": samples}
    code = StoreDamagedError.exit_code if findings or bad else 0
    return CacheOutcome(facts, lines, code)


def _opened(project: Project, view: str, digest: str, findings: list[Finding]) -> KeyStore | None:
    try:
        found = feature_store(project).find(view, digest)
        if found is None:
            findings.append(Finding(view, digest, "", None, "key.json is missing"))
        return found
    except StoreDamagedError as error:
        findings.append(Finding(view, digest, "", None, f"{error.what} ({error.cause})"))
        return None


def _sampled(project: Project, view: str, fold: str, sample: int) -> dict[str, Any] | None:
    """Some rows of a view's present key against a fresh forward pass; None without a network."""
    if project.config.views[view].imported or project.config.views[view].kind == "table":
        return None
    try:
        return _compared(project, view, fold, sample)
    except ConfigError as error:
        text = f"{use_name(view, fold)}: no sample, {error.what}"
        return {"view": view, "agrees": True, "rows": 0, "text": text}
    except MvpError as error:  # damage is among the findings already
        text = f"{use_name(view, fold)}: no sample, {error}"
        return {"view": view, "agrees": False, "rows": 0, "text": text}


def _compared(project: Project, view: str, fold: str, sample: int) -> dict[str, Any]:
    made, name = feature_network(project, view, fold), use_name(view, fold)
    store = feature_store(project).open(made.key)
    items = view_items(project, project.manifest, made.view, project.contents)
    files = {i.record.pixels: i.record for i in items if i.record is not None and not i.error}
    known = [row for row in store.rows if image_digest(row) in files]
    if not known:
        return {"view": view, "agrees": True, "rows": 0, "text": f"{name}: no rows to sample"}
    # Other rows each time: what is verified every week is seen whole in the end.
    chosen = np.random.default_rng().permutation(len(known))[:sample]
    rows = [known[i] for i in sorted(chosen)]
    fresh, failed = fresh_rows(
        made.network,
        made.view.network,
        view_inputs(project, project.manifest, made.view),
        [files[image_digest(row)] for row in rows],
        rows,
        settings=made.settings,
        device=project.device,
        workers=project.workers,
        draws=made.draws,
        exports=made.exports,
    )
    stored = store.read(rows)
    ok = [i for i in range(len(rows)) if i not in failed]
    fresh = fresh.reshape(len(rows), -1)[ok]
    scale = max(float(np.abs(stored).max(initial=0)), 1e-12)
    gap = float(np.abs(fresh - stored[ok]).max(initial=0)) / scale
    # Half precision keeps eleven bits.
    allowed = project.config.extract.tolerance + (2**-10 if made.key.dtype == "float16" else 0)
    agrees = bool(gap <= allowed) and not failed
    text = f"{name}: {len(ok)} rows computed anew, largest relative difference {gap:.1e}"
    if failed:
        text += f"; {len(failed)} images of stored rows cannot be read any more"
    return {
        "view": view,
        "agrees": agrees,
        "rows": len(ok),
        "largest_relative_difference": gap if np.isfinite(gap) else None,
        "text": text,
    }
