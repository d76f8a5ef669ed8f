"""Whether a checkpoint belongs to this very training."""

from __future__ import annotations

from typing import Any

import numpy as np

from mvp.config import ResolvedView
from mvp.files import digest_bytes, digest_json
from mvp.types import IntArray, Labels

VERSION = 1
# Where images wait, not what they are.
WITHOUT_EFFECT = {"training": {"memory_gb"}}


def fingerprint(
    view: ResolvedView,
    labels: Labels,
    train: IntArray,
    inner: IntArray,
    seed: int,
    first_weights: str,
    counts: IntArray | None,
) -> str:
    """The digest of everything that decides the trained weights, save the images themselves."""
    settings: dict[str, Any] = view.model_dump(mode="json", exclude=WITHOUT_EFFECT)
    if counts is None:
        del settings["training"]["slices"]
    return digest_json(
        {
            "version": VERSION,
            "view": settings,
            "slices": None if counts is None else _digest(counts),
            "targets": [[t.name, list(t.classes)] for t in labels.targets],
            "labels": _digest(labels.values.astype(np.float32)),
            "train": _digest(train),
            "inner": _digest(inner),
            "seed": seed,
            "first_weights": first_weights,
        }
    )


def _digest(array: np.ndarray) -> str:
    return digest_bytes(np.ascontiguousarray(array).tobytes())
