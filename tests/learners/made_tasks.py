"""Made tasks on which one way of joining views, slices or maps should do better than another."""

from __future__ import annotations

import numpy as np

from mvp.features import FeatureTable, table_from_arrays
from mvp.types import Labels, Target

Task = tuple[FeatureTable, Labels]


def _labels(values: np.ndarray) -> Labels:
    return Labels((Target("x"),), np.asarray(values, np.float32).reshape(-1, 1))


def _direction(number: int, width: int, length: float) -> np.ndarray:
    way = np.random.default_rng(100 + number).normal(size=width)
    return way * length / np.linalg.norm(way)


def same_height(rows: int, seed: int, channels: int = 16, positions: int = 7) -> Task:
    """A bump in a random row of the frontal's map and one in the lateral's: at one height?"""
    rng = np.random.default_rng(seed)
    same, heights = rng.random(rows) < 0.5, rng.integers(0, positions, rows)
    others = (heights + rng.integers(1, positions, rows)) % positions
    blocks, shapes = {}, {}
    for number, (view, height) in enumerate(
        (("frontal", heights), ("lateral", np.where(same, heights, others)))
    ):
        maps = rng.normal(size=(rows, channels, positions))
        maps[np.arange(rows), :, height] += _direction(number, channels, 5.0)
        blocks[view] = maps.reshape(rows, -1).astype(np.float32)
        shapes[view] = (channels, positions)
    return table_from_arrays([f"{seed}-{i}" for i in range(rows)], blocks, shapes=shapes), _labels(
        same
    )


def one_slice(rows: int, seed: int, slices: int = 30, width: int = 64) -> Task:
    """Volumes of about thirty slices; in one of a positive's something is to be seen."""
    rng = np.random.default_rng(seed)
    positive = rng.random(rows) < 0.5
    sign = _direction(7, width, 5.0)
    bags = []
    for shown in positive:
        bag = rng.normal(size=(int(rng.integers(slices - 5, slices + 6)), width))
        if shown:
            bag[rng.integers(len(bag))] += sign
        bags.append(bag.astype(np.float32))
    return table_from_arrays([f"{seed}-{i}" for i in range(rows)], {"axial": bags}), _labels(
        positive
    )


def plain_in_lateral(rows: int, seed: int, width: int = 64) -> Task:
    """Both views show the finding, the lateral far more plainly."""
    rng = np.random.default_rng(seed)
    positive = rng.random(rows) < 0.5
    blocks = {}
    for number, (view, plain) in enumerate((("frontal", 2.0), ("lateral", 6.0))):
        sign = _direction(20 + number, width, plain)
        noise = rng.normal(size=(rows, width))
        blocks[view] = (noise + np.where(positive, 0.5, -0.5)[:, None] * sign).astype(np.float32)
    return table_from_arrays([f"{seed}-{i}" for i in range(rows)], blocks), _labels(positive)


def without(table: FeatureTable, view: str) -> FeatureTable:
    """The same studies, all of which lack a view."""
    gone = np.full((len(table), table.blocks[view].width), np.nan, np.float32)
    blocks = {v: gone if v == view else table.block(v) for v in table.views}
    return table_from_arrays(list(table.studies), blocks)
