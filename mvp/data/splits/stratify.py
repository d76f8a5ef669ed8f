"""Who belongs together, and dealing: every bin gets its share of all traits.

The dealing is the iterative stratification of Sechidis, Tsoumakas and Vlahavas (2011), with groups
of rows instead of rows: the rarest trait first, each group to the bin that lacks it most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mvp.types import BoolArray, IntArray, Labels, TextArray


def link_groups(
    patients: TextArray,
    content: Sequence[Sequence[str]] | None = None,
    links: Sequence[tuple[int, int]] = (),
) -> IntArray:
    """(study,) int: one number per set of studies linked by patient, identical images or a link.

    Args:
        patients: (study,) group keys.
        content: for each study the digests of its images.
        links: pairs of study indices that belong together for another reason.
    """
    number: dict[str, int] = {}
    own = [number.setdefault(p, len(number)) for p in map(str, patients)]
    parent = list(range(len(number)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(i: int, j: int) -> None:
        a, b = root(i), root(j)
        parent[max(a, b)] = min(a, b)

    first: dict[str, int] = {}
    for patient, digests in zip(own, content if content is not None else (), strict=False):
        for digest in digests:
            if (other := first.setdefault(digest, patient)) != patient:
                join(other, patient)
    for a, b in links:
        join(own[a], own[b])
    renamed: dict[int, int] = {}
    groups = [renamed.setdefault(root(p), len(renamed)) for p in range(len(number))]
    return np.array(groups, np.int64)[np.array(own, np.int64)]


def traits(labels: Labels, presence: BoolArray) -> NDArray[np.float64]:
    """(study, trait) 0/1: being a study, each label's classes, each pattern of views."""
    columns = [np.ones(len(labels))]
    for index, target in enumerate(labels.targets):
        value = labels.values[:, index]
        columns += [(value == c).astype(float) for c in range(max(2, len(target.classes)))]
    patterns, which = np.unique(presence, axis=0, return_inverse=True)
    columns += [(which.ravel() == p).astype(float) for p in range(len(patterns))]
    return np.stack(columns, axis=1)


def deal(
    groups: IntArray,
    allowed: Mapping[int, Sequence[int]],
    traits: NDArray[np.float64],
    shares: Sequence[float],
    seed: int,
) -> IntArray:
    """(group,) the bin of every group.

    Args:
        groups: (row,) group numbers from 0 on.
        allowed: bins that a group may go to, where it may not go to all; a group of one bin
            counts there before the others are dealt.
        traits: (row, trait) of 0 and 1, the first of them 1 for every row.
        shares: of each bin, together 1; a bin without a share takes only groups of one bin.
        seed: breaks ties.
    """
    n = int(groups.max()) + 1 if len(groups) else 0
    # Where all others are full, an unwanted bin would lack least.
    bins = [b for b, share in enumerate(shares) if share > 0]
    weight = np.zeros((n, traits.shape[1]))
    for column in range(traits.shape[1]):
        weight[:, column] = np.bincount(groups, traits[:, column], minlength=n)
    desired = np.asarray(shares)[:, None] * weight.sum(axis=0)[None, :]
    dealt = np.full(n, -1)
    for group, some in allowed.items():
        if len(some) == 1:
            dealt[group] = some[0]
            desired[dealt[group]] -= weight[group]
    # A fixed draw breaks ties; a group with many rows is placed while there is room.
    order = np.random.default_rng(seed).permutation(n)
    order = order[np.argsort(-weight[order, 0], kind="stable")] if n else order
    waiting = order[dealt[order] < 0]
    left = weight[waiting].sum(axis=0)
    # Plain lists: single numbers of an array cost ten times as much, and there are millions.
    lacks: list[list[float]] = desired.tolist()
    while (left > 0).any():
        trait = int(np.argmin(np.where(left > 0, left, np.inf)))
        queue = waiting[(dealt[waiting] < 0) & (weight[waiting, trait] > 0)]
        for group, row in zip(queue.tolist(), weight[queue].tolist(), strict=True):
            # The bin that lacks this trait most; then the one that lacks rows most.
            open_to = [b for b in allowed.get(group, bins) if b in bins] or allowed[group]
            best = max(open_to, key=lambda b: (lacks[b][trait], lacks[b][0], -b))
            dealt[group] = best
            mine = lacks[best]
            for index, value in enumerate(row):
                if value:
                    mine[index] -= value
        left -= weight[queue].sum(axis=0)
        left[trait] = 0
    return dealt
