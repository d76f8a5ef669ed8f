"""Splits by patient, once for all views, labels and stages.

Patients (and whoever shares an image with them) are dealt to five parts so that every part gets
its share of each label's positives and negatives and of each pattern of views. The dealing is the
iterative stratification of Sechidis, Tsoumakas and Vlahavas (2011), with groups instead of rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mvp.config import Protocol, SplitConfig
from mvp.errors import ConfigError, DataError
from mvp.files import digest_json
from mvp.types import BoolArray, Labels, TextArray

PARTS = ("stage1", "stage1-inner", "stage2", "stage2-inner", "test")
TRAIN = PARTS[:4]
Role = Literal["stage1", "stage1-inner", "stage2", "stage2-inner", "test"]


@dataclass(frozen=True)
class Split:
    """Which part every study belongs to: `parts` maps study id to one of `PARTS`."""

    parts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Digest of the assignment, for provenance."""
        return digest_json(dict(self.parts))

    def mask(self, studies: TextArray, parts: Sequence[str]) -> BoolArray:
        """(study,): True where the study belongs to one of the parts."""
        wanted = set(parts)
        return np.array([self.parts.get(str(s)) in wanted for s in studies], dtype=bool)

    def counts(self) -> dict[str, int]:
        """Studies per part, in the order of `PARTS`."""
        counted = Counter(self.parts.values())
        return {part: counted.get(part, 0) for part in PARTS}


def parts_for(role: Role, protocol: Protocol, networks: Protocol) -> tuple[str, ...]:
    """The parts that play a role.

    Args:
        role: who asks; `-inner` rows are for early stopping and choosing.
        protocol: the protocol of stage two.
        networks: the protocol that stage one's networks were trained under.

    Raises:
        ConfigError: stage two would see rows that trained its networks, without saying so.
    """
    if role == "test":
        return ("test",)
    inner = "-inner" if role.endswith("-inner") else ""
    everything = (f"stage1{inner}", f"stage2{inner}")
    trained = {
        "holdout": (f"stage1{inner}",),
        "frozen": (),
        "same-rows": everything,
    }[networks]
    if role.startswith("stage1"):
        return trained
    if protocol == "same-rows":
        # The labelled ablation: exactly the rows that the networks were fitted on.
        return trained or everything
    if networks == "frozen":
        return everything
    if protocol == networks == "holdout":
        return (f"stage2{inner}",)
    raise ConfigError(
        f"protocol {protocol!r} would fit the head on rows that trained its networks "
        f"(they were trained under {networks!r})",
        remedy='use protocol "holdout" for both stages, or name the ablation: --protocol same-rows',
    )


def make_split(
    studies: TextArray,
    patients: TextArray,
    labels: Labels,
    presence: BoolArray,
    config: SplitConfig,
    *,
    fixed: TextArray | None = None,
    content: Sequence[Sequence[str]] | None = None,
    previous: Split | None = None,
) -> Split:
    """Deal every study to a part; studies of one patient, or with one image, stay together.

    Args:
        studies: (study,) ids.
        patients: (study,) group keys.
        labels: (study, target).
        presence: (study, view).
        config: shares and seed.
        fixed: (study,) wishes: a part, "train" (any part but test), or "".
        content: for each study the content digests of its images.
        previous: a split that stands already: it is kept, only new patients are dealt.

    Raises:
        DataError: linked studies are wanted in different parts; both are named.
    """
    groups = link_groups(patients, content)
    wishes = _wishes(studies, groups, fixed, previous)
    traits = _traits(labels, presence)
    shares = _shares(config)
    dealt = _deal(groups, wishes, traits, shares, config.seed)
    return Split({str(s): PARTS[dealt[g]] for s, g in zip(studies, groups, strict=True)})


def link_groups(patients: TextArray, content: Sequence[Sequence[str]] | None = None) -> np.ndarray:
    """(study,) int: one number per set of studies linked by patient or by identical images."""
    parent = list(range(len(patients)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, patient in enumerate(patients):
        links = [("patient", str(patient))]
        links += [("image", digest) for digest in (content[i] if content is not None else ())]
        for link in links:
            a, b = root(first.setdefault(link, i)), root(i)
            parent[max(a, b)] = min(a, b)
    roots = [root(i) for i in range(len(parent))]
    number = {r: n for n, r in enumerate(dict.fromkeys(roots))}
    return np.array([number[r] for r in roots], dtype=np.int64)


def _wishes(
    studies: TextArray, groups: np.ndarray, fixed: TextArray | None, previous: Split | None
) -> dict[int, tuple[str, ...]]:
    """For each group that is not free, the parts it may go to."""
    wishes: dict[int, tuple[tuple[str, ...], str]] = {}
    for i, (study, group) in enumerate(zip(studies, groups, strict=True)):
        wanted: tuple[str, ...] | None = None
        if fixed is not None and fixed[i]:
            wanted = _parts_named(str(fixed[i]), str(study))
        stands = previous.parts.get(str(study)) if previous is not None else None
        if stands is not None and (wanted is None or stands in wanted):
            wanted = (stands,)
        if wanted is None:
            continue
        held, holder = wishes.setdefault(int(group), (wanted, str(study)))
        common = tuple(p for p in held if p in wanted)
        if not common:
            raise DataError(
                f"studies {holder} and {study} belong together (one patient, or one image) and "
                f"stand in different splits ({'/'.join(held)} and {'/'.join(wanted)})",
                study=str(study),
                remedy="correct the split column or the patient ids; or delete split.csv to "
                "deal anew, which makes trained networks stale",
            )
        wishes[int(group)] = (common, holder)
    return {group: parts for group, (parts, _) in wishes.items()}


def _parts_named(text: str, study: str) -> tuple[str, ...]:
    if text == "train":
        return TRAIN
    if text in PARTS:
        return (text,)
    raise DataError(
        f"the split column says {text[:40]!r}",
        study=study,
        remedy=f"use train, test, or one of {', '.join(TRAIN)}; blank lets mvp deal",
    )


def _traits(labels: Labels, presence: BoolArray) -> np.ndarray:
    """(study, trait) 0/1: each label's classes, each pattern of views, and being a study."""
    columns = [np.ones(len(labels))]
    for index, target in enumerate(labels.targets):
        value = labels.values[:, index]
        columns += [(value == c).astype(float) for c in range(max(2, len(target.classes)))]
    patterns = np.unique(presence, axis=0) if len(presence) else presence
    columns += [(presence == p).all(axis=1).astype(float) for p in patterns]
    return np.stack(columns, axis=1)


def _shares(config: SplitConfig) -> np.ndarray:
    stage1 = 1 - config.test - config.stage2
    inner = config.inner
    return np.array(
        [
            stage1 * (1 - inner),
            stage1 * inner,
            config.stage2 * (1 - inner),
            config.stage2 * inner,
            config.test,
        ]
    )


def _deal(
    groups: np.ndarray,
    wishes: dict[int, tuple[str, ...]],
    traits: np.ndarray,
    shares: np.ndarray,
    seed: int,
) -> np.ndarray:
    """(group,) index into PARTS."""
    n = int(groups.max()) + 1 if len(groups) else 0
    weight = np.zeros((n, traits.shape[1]))
    np.add.at(weight, groups, traits)
    desired = shares[:, None] * weight.sum(axis=0)[None, :]
    dealt = np.full(n, -1)
    for group, parts in wishes.items():
        if len(parts) == 1:
            dealt[group] = PARTS.index(parts[0])
            desired[dealt[group]] -= weight[group]
    # A fixed draw breaks ties; a patient with many studies is placed while there is room.
    order = np.random.default_rng(seed).permutation(n)
    order = order[np.argsort(-weight[order, 0], kind="stable")] if n else order
    open_groups = [g for g in order if dealt[g] < 0]
    left = weight[open_groups].sum(axis=0) if open_groups else np.zeros(traits.shape[1])
    queue = {t: [g for g in open_groups if weight[g, t]] for t in range(traits.shape[1])}
    while (left > 0).any():
        trait = int(np.argmin(np.where(left > 0, left, np.inf)))
        for group in queue[trait]:
            if dealt[group] >= 0:
                continue
            allowed = [PARTS.index(p) for p in wishes.get(int(group), PARTS)]
            # The part that lacks this trait most; then the one that lacks studies most.
            part = max(allowed, key=lambda p: (desired[p, trait], desired[p, 0], -p))
            dealt[group] = part
            desired[part] -= weight[group]
            left -= weight[group]
        left[trait] = 0
    return dealt
