"""Counts of studies: per label and class, per part, per pattern of views."""

from __future__ import annotations

from typing import Any

import numpy as np

from mvp.data.splits.split import Split
from mvp.data.tables.manifest import Manifest
from mvp.types import BoolArray


def label_counts(manifest: Manifest, split: Split | None) -> dict[str, dict[str, Any]]:
    """For every label what is known, positive and missing: of `all` studies, and of each part."""
    masks = {p: split.mask(manifest.studies, [p]) for p in split.used} if split else {}
    result = {}
    for column, target in enumerate(manifest.labels.targets):
        values = manifest.labels.values[:, column]
        result[target.name] = {
            "all": _counted(values, target.classes),
            "parts": {part: _counted(values[mask], target.classes) for part, mask in masks.items()},
        }
    return result


def _counted(values: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    known = values[~np.isnan(values)]
    counted: dict[str, Any] = {
        "known": len(known),
        "unknown": len(values) - len(known),
        "positive": int((known > 0).sum()),
        "negative": int((known == 0).sum()),
    }
    names = classes or ("negative", "positive")
    found = {c: int((known == i).sum()) for i, c in enumerate(names)}
    if classes:
        counted["classes"] = found
    counted["missing"] = [c for c, n in found.items() if not n]
    counted["found"] = sum(n > 0 for n in found.values())
    return counted


def pattern_counts(
    names: list[str], presence: BoolArray, mask: BoolArray | None = None
) -> dict[str, int]:
    """Studies per pattern of views, such as "frontal+lateral", the most frequent first.

    Args:
        names: of the views.
        presence: (study, view).
        mask: (study,) those to count; the patterns are those of all studies.
    """
    patterns, which = np.unique(presence, axis=0, return_inverse=True)
    everyone = np.bincount(which.ravel(), minlength=len(patterns))
    some = which.ravel() if mask is None else which.ravel()[mask]
    counts = np.bincount(some, minlength=len(patterns))
    words = ["+".join(n for n, there in zip(names, p, strict=True) if there) for p in patterns]
    order = sorted(range(len(patterns)), key=lambda i: (-everyone[i], words[i]))
    return {words[i] or "none": int(counts[i]) for i in order}
