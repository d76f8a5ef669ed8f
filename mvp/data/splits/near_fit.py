"""Two looks laid onto each other: shift and stretch, then the correlation of their detail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mvp.types import IntArray

SIDE = 32

# Cells at each edge that are not compared: a crop or a frame shows there first.
_EDGE = 2
_STEPS = 3
# A first straight-line fit that explains less than this is of two films.
HOPELESS = 0.8
_BATCH = 512

_Floats = NDArray[np.float32]


def _blur(sigma: float) -> _Floats:
    """(32, 32): blurs one axis with a Gaussian; the edges are mirrored."""
    kernel = np.exp(-0.5 * (np.arange(-16, 17) / sigma) ** 2)
    matrix = np.zeros((SIDE, SIDE))
    for row in range(SIDE):
        for offset, weight in zip(range(-16, 17), kernel / kernel.sum(), strict=True):
            column = row + offset
            column = -column - 1 if column < 0 else min(column, 2 * SIDE - 1 - column)
            matrix[row, column] += weight
    return matrix.astype(np.float32)


_SOFT, _FINE, _MIDDLE = _blur(0.6), _blur(1.0), _blur(2.0)
_PLACE = (((np.arange(SIDE) + 0.5) / SIDE) * 2 - 1).astype(np.float32)


def _apply(blur: _Floats, looks: _Floats) -> _Floats:
    return np.asarray(blur @ looks @ blur.T, np.float32)


def _without(blur: _Floats, looks: _Floats) -> _Floats:
    """What a blur takes away, without the edges: (..., 784), of mean 0."""
    left = (looks - _apply(blur, looks))[..., _EDGE:-_EDGE, _EDGE:-_EDGE]
    flat = left.reshape(*left.shape[:-2], -1)
    return np.asarray(flat - flat.mean(axis=-1, keepdims=True), np.float32)


def detail(looks: NDArray[np.uint8]) -> _Floats:
    """(look, 784): the fine detail of (look, 32, 32) grey values."""
    return _without(_FINE, looks.astype(np.float32))


def shapes(looks: NDArray[np.uint8]) -> _Floats:
    """(look, 196): the coarser shapes of (look, 32, 32) grey values, each of length 1."""
    values = _apply(_FINE, looks.astype(np.float32))
    band = (values - _apply(_MIDDLE, values))[:, _EDGE:-_EDGE:2, _EDGE:-_EDGE:2]
    flat = band.reshape(len(looks), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(length, 1e-9), np.float32)


def similarity(
    looks: NDArray[np.uint8], pairs: IntArray, enough: float, hopeless: float = HOPELESS
) -> _Floats:
    """(pair,): correlation of the detail of two looks, when the one is laid onto the other.

    Args:
        looks: (look, 32, 32) grey values.
        pairs: (pair, 2) indices.
        enough: a pair that reaches it in one direction is not tried in the other.
        hopeless: a pair whose first straight-line fit explains less is given up, with 0.
    """
    scores = np.zeros(len(pairs), np.float32)
    for first, second in ((0, 1), (1, 0)):
        rest = np.flatnonzero(scores < enough)
        for start in range(0, len(rest), _BATCH):
            some = rest[start : start + _BATCH]
            a = looks[pairs[some, first]].astype(np.float32)
            b = looks[pairs[some, second]].astype(np.float32)
            scores[some] = np.maximum(scores[some], _fitted(a, b, hopeless))
    return scores


def _fitted(a: _Floats, b: _Floats, hopeless: float) -> _Floats:
    """(pair,): `a` is moved onto `b` by Gauss-Newton steps (Lucas and Kanade, 1981)."""
    scores = np.zeros(len(a), np.float32)
    target = _without(_MIDDLE, _apply(_SOFT, b))
    # Row shift, column shift, row stretch, column stretch; in cells, the stretch at the edge.
    moves = np.zeros((len(a), 4), np.float32)
    rows = np.arange(len(a))
    soft = _apply(_SOFT, a)
    for step in range(_STEPS):
        terms = _without(_MIDDLE, _terms(_moved(soft[rows], moves[rows])))
        weights, fit = _least_squares(terms, target[rows])
        hopeful = (weights[:, 0] > 0.2) & ((fit >= hopeless) if step == 0 else True)
        rows, weights = rows[hopeful], weights[hopeful]
        if not len(rows):
            return scores
        moves[rows] += np.clip(weights[:, 1:] / weights[:, :1], -1, 1)
        np.clip(moves, -2, 2, out=moves)
    terms = _without(_FINE, _terms(_moved(a[rows], moves[rows])))
    weights, fit = _least_squares(terms, _without(_FINE, b[rows]))
    scores[rows] = np.where(weights[:, 0] > 0, fit, 0)
    return scores


def _terms(looks: _Floats) -> _Floats:
    """(look, 5, 32, 32): itself, and how it changes with each of the four moves."""
    down, right = np.gradient(looks, axis=-2), np.gradient(looks, axis=-1)
    terms = [looks, down, right, down * _PLACE[:, None], right * _PLACE]
    return np.stack(terms, axis=1).astype(np.float32)


def _moved(looks: _Floats, moves: _Floats) -> _Floats:
    """Looks resampled linearly, each by its own move."""
    down = _resampling(moves[:, 0], moves[:, 2])
    right = _resampling(moves[:, 1], moves[:, 3])
    return np.asarray(down @ looks @ right.transpose(0, 2, 1), np.float32)


def _resampling(shift: _Floats, stretch: _Floats) -> _Floats:
    at = np.arange(SIDE) + shift[:, None] + stretch[:, None] * _PLACE
    at = np.clip(at, 0, SIDE - 1)
    below = np.minimum(at.astype(np.intp), SIDE - 2)
    matrix = np.zeros((len(at), SIDE, SIDE), np.float32)
    which, row = np.arange(len(at))[:, None], np.arange(SIDE)[None, :]
    matrix[which, row, below] = below + 1 - at
    matrix[which, row, below + 1] = at - below
    return matrix


def _least_squares(terms: _Floats, target: _Floats) -> tuple[_Floats, _Floats]:
    """(pair, 5) weights of the terms, and (pair,) the multiple correlation."""
    products = (terms @ terms.transpose(0, 2, 1)).astype(np.float64)
    size = np.trace(products, axis1=1, axis2=2)[:, None, None]
    products += (1e-6 * size + 1e-12) * np.eye(products.shape[1])
    right = (terms @ target[:, :, None]).astype(np.float64)
    weights = np.linalg.solve(products, right)[:, :, 0]
    explained = np.maximum((weights * right[:, :, 0]).sum(axis=1), 0)
    whole = (target.astype(np.float64) ** 2).sum(axis=1)
    fit = np.sqrt(np.minimum(explained / np.maximum(whole, 1e-12), 1))
    return weights.astype(np.float32), fit.astype(np.float32)
