"""Nearly the same pixels: one film saved twice, as another format, size, depth or brightness.

Identical pixels are found by their digest. A film that was exported again shares no byte with
itself; what stays is how it looks from afar. `thumbnail` keeps that look in 1,024 bytes,
`near_pairs` finds the looks that are one film.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mvp.data.reading.limits import Pixels
from mvp.data.splits.near_fit import SIDE, detail, shapes, similarity
from mvp.types import IntArray

LOOK_BYTES = SIDE * SIDE
# Raise it when the same pixels may give another look: looks of two versions do not compare.
LOOK_VERSION = 1
# One film and its copies, measured on real chest films and mammograms: 97 of 100 crops by 2 %
# reach it and 99 of 100 other copies; other films stay below 0.75. Where different images are
# more alike than films, more is asked for (`_enough`).
NEAR = 0.88
# More images than this that all look alike are no copies of a film, but of nothing: test
# patterns, black frames with a mark.
CROWD = 50

_POINTS = 8 * SIDE
_LOW, _HIGH = 1.0, 99.0
_FLAT = 0.01
# Grey values by which a look must differ from its own blur to be of something.
_BLANK = 1.0
# The search: so many orders of all looks, in each of which so many neighbours are compared.
_ORDERS, _NEIGHBOURS = 32, 4
_BITS = 48
_ALIKE = 0.75
# Of pictures laid out alike, as aligned slices are, every pair would be a candidate, and each costs
# a tenth of a millisecond and more: of this many, and one a look, the likeliest are fitted.
_MOST = 200_000
_SAMPLE = 4096
# A similarity at which nothing else is asked: the same film as JPEG reaches it.
_PLAIN = 0.98
# Pairs drawn to learn how alike different images are; of fewer looks nothing can be learnt.
_DRAWN, _FEW = 1000, 20

_Floats = NDArray[np.float32]
_Any = TypeVar("_Any", bound=np.generic)


@dataclass(frozen=True)
class NearPair:
    """Two images that are nearly one: their keys and the correlation of their detail."""

    first: str
    second: str
    similarity: float


@dataclass(frozen=True)
class Near:
    """What was found among many looks.

    Attributes:
        pairs: of keys, in the order of the looks given; copies of copies may be named through
            one of them only.
        blank: how many images show nothing, and were compared with none.
        crowded: how many images are of groups of more than `CROWD` that all look alike; their
            pairs are left out.
    """

    pairs: tuple[NearPair, ...]
    blank: int
    crowded: int


def thumbnail(pixels: Pixels) -> bytes:
    """How one image looks from afar: 32 x 32 grey values, the same for the same picture.

    An edge of one value (letterboxing) is cut off. Each value is the mean of 8 x 8 points spread
    evenly over its cell, so that a large film costs no more than a small one. The 1st and the
    99th percentile become 0 and 255: depth, brightness and contrast do not matter.

    Args:
        pixels: (H, W) or (H, W, 3), one instance; uint8, uint16 or float32.

    Returns:
        1,024 bytes, row by row; all zero where the image is of one value.
    """
    height, width = pixels.shape[:2]
    points = _points(pixels, (0, height), (0, width))
    rows = _picture(points.std(axis=1) > _FLAT, height)
    columns = _picture(points.std(axis=0) > _FLAT, width)
    if (rows, columns) != ((0, height), (0, width)):
        points = _points(pixels, rows, columns)
    cells = points.reshape(SIDE, 8, SIDE, 8).mean(axis=(1, 3))
    return np.rint(np.clip(cells, 0, 1) * 255).astype(np.uint8).tobytes()


def _points(pixels: Pixels, rows: tuple[float, float], columns: tuple[float, float]) -> _Floats:
    """256 x 256 points, evenly spread over a box; dark is 0 and bright 1."""
    spread = (np.arange(_POINTS) + 0.5) / _POINTS
    y, x = ((a + spread * (b - a)).astype(np.intp) for a, b in (rows, columns))
    points = pixels.take(y, axis=0).take(x, axis=1).astype(np.float64)
    if pixels.dtype.kind == "f":
        points = np.nan_to_num(points)
    if points.ndim == 3:
        points = points.mean(axis=2)
    low, high = np.percentile(points[::2, ::2], (_LOW, _HIGH))
    if high <= low:
        return np.zeros((_POINTS, _POINTS), np.float32)
    return np.clip((points - low) / (high - low), -1, 2).astype(np.float32)


def _picture(lively: NDArray[np.bool_], size: int) -> tuple[float, float]:
    """From the first to the last line that is not of one value; all of them if none is."""
    found = np.flatnonzero(lively)
    if not len(found):
        return 0, size
    return found[0] * size / _POINTS, (found[-1] + 1) * size / _POINTS


def shows_something(look: str) -> bool:
    """Whether a look, in hexadecimal, is of a picture: not of one value, and not missing."""
    return bool(look.strip("0"))


def near_pairs(looks: Mapping[str, bytes]) -> Near:
    """Pairs of images that are nearly one: saved again, resized, brightened, cropped a little.

    A mirrored or inverted copy is another image, and so is another film of the same kind: a
    candidate is fitted onto its partner (shift and stretch by up to two cells of 32), and what is
    compared is the detail that remains, not the shape of a chest.

    Candidates come from sorted neighbourhoods (Hernández and Stolfo, 1995): 32 orders of all
    looks by random hyperplanes (Charikar, 2002); so the work grows as N log N, whatever the looks
    are. The same looks give the same pairs.

    Args:
        looks: key to the bytes of `thumbnail`.
    """
    copies: dict[bytes, list[str]] = {}
    for key, look in looks.items():
        copies.setdefault(look, []).append(key)
    grey = np.frombuffer(b"".join(copies), np.uint8).reshape(-1, SIDE, SIDE)
    shown = _contrast(grey) >= _BLANK
    groups = list(copies.values())
    blank = sum(len(keys) for keys, seen in zip(groups, shown, strict=True) if not seen)
    kept = np.flatnonzero(shown)
    number = {key: i for i, key in enumerate(looks)}
    found = [
        NearPair(keys[0], other, 1.0) for keys in (groups[k] for k in kept) for other in keys[1:]
    ]
    grey = grey[kept]
    pairs = _candidates(grey)
    enough = _enough(grey)
    scores = similarity(grey, pairs, enough)
    for (a, b), score in zip(pairs[scores >= enough], scores[scores >= enough], strict=True):
        first, second = sorted((groups[kept[a]][0], groups[kept[b]][0]), key=number.__getitem__)
        found.append(NearPair(first, second, round(float(score), 3)))
    crowded = _crowded(found)
    pairs_left = [p for p in found if p.first not in crowded]
    pairs_left.sort(key=lambda p: (number[p.first], number[p.second]))
    return Near(tuple(pairs_left), blank, len(crowded))


def _enough(grey: NDArray[np.uint8]) -> float:
    """The similarity that no pair of different images among these should reach by chance.

    Drawings, phantoms or digits are more alike than films are. What pairs drawn at random reach
    says how much (Fisher's z); the largest of m normal values is near sqrt(2 ln m) deviations.
    """
    n = len(grey)
    if n < _FEW:
        return NEAR
    rng = np.random.default_rng(0)
    first = rng.integers(0, n, _DRAWN)
    pairs = np.stack([first, (first + rng.integers(1, n, _DRAWN)) % n], axis=1)
    # One direction is enough for a level, and copies among the pairs do not move quartiles.
    z = np.arctanh(np.clip(similarity(grey, pairs, 1e-6, 0.0), 0, 0.999))
    middle, upper = np.percentile(z, (50, 75))
    deviations = np.sqrt(2 * np.log(n * (n - 1) / 2))
    level = float(np.tanh(middle + deviations * (upper - middle) / 0.6745))
    return min(max(NEAR, level), _PLAIN)


def _contrast(grey: NDArray[np.uint8]) -> _Floats:
    """(look,): how much each look differs from its own blur, in grey values."""
    return np.concatenate(
        [detail(part).std(axis=1) for part in _parts(grey)] or [np.zeros(0, np.float32)]
    )


def _parts(rows: NDArray[_Any], size: int = 4096) -> list[NDArray[_Any]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _candidates(grey: NDArray[np.uint8]) -> IntArray:
    """(pair, 2) indices, first < second, of looks that may be one film."""
    n = len(grey)
    if n < 2:
        return np.zeros((0, 2), np.int64)
    coarse = np.concatenate([shapes(part) for part in _parts(grey)])
    sample = coarse[:: max(1, n // _SAMPLE)]
    middle = sample.mean(axis=0)
    # Films of one kind share their large shapes: what differs between them is what tells them
    # apart, so each direction counts by its own spread.
    _, spread, axes = np.linalg.svd(sample - middle, full_matrices=False)
    use = min(_BITS, len(spread))
    scale = 1 / np.sqrt(spread[:use] ** 2 + (0.05 * spread[0]) ** 2 + 1e-12)
    codes = (coarse - middle) @ (axes[:use].T * scale)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(_ORDERS):
        signs = codes @ rng.standard_normal((use, _BITS)).astype(np.float32) > 0
        order = np.argsort(signs @ (1 << np.arange(_BITS, dtype=np.int64)), kind="stable")
        line = coarse[order]
        for step in range(1, min(_NEIGHBOURS, n - 1) + 1):
            alike = np.einsum("ij,ij->i", line[:-step], line[step:]) >= _ALIKE
            a, b = order[:-step][alike], order[step:][alike]
            found.append(np.minimum(a, b) * n + np.maximum(a, b))
    joined = np.unique(np.concatenate(found))
    pairs = np.stack([joined // n, joined % n], axis=1)
    return _likeliest(pairs, coarse - middle, _MOST + n)


def _likeliest(pairs: IntArray, own: _Floats, most: int) -> IntArray:
    """Those pairs that are most alike in what their looks do not share with all others.

    Args:
        pairs: (pair, 2) indices.
        own: (look, shape) what each look differs from the mean of all.
        most: how many pairs are kept.
    """
    if len(pairs) <= most:
        return pairs
    own = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-9)
    alike = np.concatenate(
        [np.einsum("ij,ij->i", own[part[:, 0]], own[part[:, 1]]) for part in _parts(pairs, 65536)]
    )
    return np.asarray(pairs[np.sort(np.argsort(-alike, kind="stable")[:most])])


def _crowded(pairs: Sequence[NearPair]) -> set[str]:
    """Keys of groups that are too large to be one film."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while (up := parent.setdefault(key, key)) != key:
            parent[key] = key = parent.setdefault(up, up)
        return key

    for pair in pairs:
        parent[root(pair.second)] = root(pair.first)
    sizes = Counter(root(key) for key in list(parent))
    return {key for key in list(parent) if sizes[root(key)] > CROWD}
