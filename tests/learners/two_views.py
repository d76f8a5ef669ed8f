"""Two views that hold one hidden bit each."""

from __future__ import annotations

import numpy as np

from mvp.features import FeatureTable, table_from_arrays
from mvp.types import Labels, Target


def two_views(
    rows: int, width: int, seed: int, *, signal: float = 2.0
) -> tuple[FeatureTable, np.ndarray]:
    """Each view holds one bit along a direction of its own, among correlated noise."""
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    bits = rng.integers(0, 2, (rows, 2))
    blocks = {}
    for index, view in enumerate(("frontal", "lateral")):
        direction = fixed.normal(size=width)
        direction *= signal * np.sqrt(width) / 4 / np.linalg.norm(direction)
        common = rng.normal(size=(rows, 8)) @ fixed.normal(size=(8, width)) * 0.3
        shift = (2 * bits[:, [index]] - 1) * direction
        blocks[view] = (shift + common + rng.normal(size=(rows, width))).astype(np.float32)
    return table_from_arrays([f"{seed}-{i}" for i in range(rows)], blocks), bits


def binary(values: np.ndarray, *names: str) -> Labels:
    return Labels(
        tuple(Target(name) for name in names),
        np.asarray(values, np.float32).reshape(-1, len(names)),
    )
