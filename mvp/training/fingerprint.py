"""Whether a checkpoint belongs to this very training."""

from __future__ import annotations

from typing import Any

import numpy as np

from mvp.config import ResolvedView
from mvp.config.training import WITHOUT_EFFECT_ON_WEIGHTS
from mvp.files import digest_bytes, digest_json
from mvp.types import IntArray, Labels

VERSION = 2
# Training looks neither at a hook's place nor at what text views alone have.
OF_EXTRACTION = {"layer", "pooling"}


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
    settings: dict[str, Any] = view.model_dump(
        mode="json",
        exclude={"training": set(WITHOUT_EFFECT_ON_WEIGHTS), "network": OF_EXTRACTION},
    )
    if counts is None:
        del settings["training"]["slices"]
    # A text has no pixels to prepare or augment, an image no characters.
    for idle in ("transform", "augment", "network") if view.kind == "text" else ("text",):
        del settings[idle]
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
