"""Whether a checkpoint belongs to this very training."""

from __future__ import annotations

from typing import Any

import numpy as np

from mvp.config import ResolvedView
from mvp.config.training import WITHOUT_EFFECT_ON_WEIGHTS
from mvp.files import digest_bytes, digest_json
from mvp.training.result import head_epochs
from mvp.types import IntArray, Labels

VERSION = 3
# Training looks not at a hook's place, and not at where the first weights lie: a workspace may be
# moved, or be elsewhere on another machine.
WITHOUT_EFFECT = {"layer", "pooling", "weights"}


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
        exclude={"training": set(WITHOUT_EFFECT_ON_WEIGHTS), "network": WITHOUT_EFFECT},
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
            # Whether there are weights at all decides them, where they are not set.
            "head_epochs": head_epochs(view),
        }
    )


def _digest(array: np.ndarray) -> str:
    return digest_bytes(np.ascontiguousarray(array).tobytes())
