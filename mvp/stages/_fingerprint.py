"""Whether a checkpoint belongs to this very training."""

from __future__ import annotations

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
) -> str:
    """The digest of everything that decides the trained weights, save the images themselves."""
    return digest_json(
        {
            "version": VERSION,
            "view": view.model_dump(mode="json", exclude=WITHOUT_EFFECT),
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
