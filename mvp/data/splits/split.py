"""Splits by patient, once for all views, labels and stages.

Patients (and whoever shares an image with them) are dealt to parts so that every part gets its
share of each label's positives and negatives and of each pattern of views; where folds are wanted,
everybody who may be learned from is dealt to these too, in the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mvp.config import Protocol, SplitConfig
from mvp.data.splits.stratify import deal, link_groups, traits
from mvp.errors import ConfigError, DataError
from mvp.files import digest_json
from mvp.types import BoolArray, IntArray, Labels, TextArray

__all__ = [
    "PARTS",
    "TRAIN",
    "Role",
    "Split",
    "link_groups",
    "make_split",
    "names_test",
    "parts_for",
]

# What networks and heads may learn from; calibration and test are never learned from.
TRAIN = ("stage1", "stage1-inner", "stage2", "stage2-inner")
_NOT_TEST = (*TRAIN, "calibration")
PARTS = (*_NOT_TEST, "test")
# Whom a calibration slice may take from a split that stands: nobody whom a network has seen.
_LENDERS = ("stage2", "stage2-inner")
Role = Literal["stage1", "stage1-inner", "stage2", "stage2-inner", "calibration", "test"]


@dataclass(frozen=True)
class Split:
    """Which part every study belongs to.

    Attributes:
        parts: study id to one of `PARTS`.
        folds: study id to its fold, 0 to K - 1, for the studies of `TRAIN`; empty without folds.
    """

    parts: Mapping[str, str]
    folds: Mapping[str, int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of the parts, for provenance; what is fitted on parts does not know of folds."""
        return digest_json(dict(self.parts))

    def mask(self, studies: TextArray, parts: Sequence[str]) -> BoolArray:
        """(study,): True where the study belongs to one of the parts."""
        wanted = set(parts)
        return np.array([self.parts.get(str(s)) in wanted for s in studies], dtype=bool)

    @property
    def used(self) -> tuple[str, ...]:
        """The parts in order; `calibration` only where somebody is in it."""
        idle = set() if "calibration" in self.parts.values() else {"calibration"}
        return tuple(part for part in PARTS if part not in idle)

    def counts(self) -> dict[str, int]:
        """Studies per part that is used, in order."""
        counted = Counter(self.parts.values())
        return {part: counted.get(part, 0) for part in self.used}

    def fold_counts(self) -> list[int]:
        """Studies per fold; empty without folds."""
        counted = Counter(self.folds.values())
        return [counted[fold] for fold in range(max(counted, default=-1) + 1)]


def parts_for(role: Role, protocol: Protocol, networks: Protocol) -> tuple[str, ...]:
    """The parts that play a role.

    Args:
        role: who asks; `-inner` rows are for early stopping and choosing.
        protocol: the protocol of stage two.
        networks: the protocol that stage one's networks were trained under.

    Raises:
        ConfigError: stage two would see rows that trained its networks, without saying so.
    """
    if role in ("test", "calibration"):
        return (role,)
    inner = "-inner" if role.endswith("-inner") else ""
    everything = (f"stage1{inner}", f"stage2{inner}")
    trained = {
        "holdout": (f"stage1{inner}",),
        "frozen": (),
        "same-rows": everything,
        "crossfit": everything,
    }[networks]
    if role.startswith("stage1"):
        return trained
    if protocol == "crossfit" and networks != "frozen":
        # Of each fold those that stand in it, whom its networks have never seen.
        return everything
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


def names_test(fixed: TextArray | None) -> bool:
    """Whether the test part is fixed: some study is named for it, and no other is dealt to it."""
    return fixed is not None and bool((np.asarray(fixed) == "test").any())


def make_split(
    studies: TextArray,
    patients: TextArray,
    labels: Labels,
    presence: BoolArray,
    config: SplitConfig,
    *,
    fixed: TextArray | None = None,
    origins: TextArray | None = None,
    content: Sequence[Sequence[str]] | None = None,
    links: Sequence[tuple[int, int]] = (),
    previous: Split | None = None,
) -> Split:
    """Deal every study to a part; studies of one patient, or with one image, stay together.

    Args:
        studies: (study,) ids.
        patients: (study,) group keys.
        labels: (study, target).
        presence: (study, view).
        config: shares, folds and seed.
        fixed: (study,) wishes: a part, "train" (any part but test), or "". Where one says "test",
            the test part is exactly those that say so.
        origins: (study,) who wishes it, for errors; without it the split column.
        content: for each study the content digests of its images.
        links: pairs of study indices that belong together for another reason.
        previous: a split that stands already: it is kept, only new patients are dealt.

    Raises:
        DataError: linked studies are wanted in different parts or folds; both are named. Or there
            are more folds than patients.
        ConfigError: `previous` has another number of folds.
    """
    groups = link_groups(patients, content, links)
    wishes = _wishes(studies, groups, fixed, origins, previous, config)
    members = traits(labels, presence)
    shares = _shares(config)
    if names_test(fixed):
        # The others share what is left, whatever the fixed part's size.
        tested = {group for group, parts in wishes.items() if parts == ("test",)}
        rest = 1 - np.isin(groups, list(tested)).mean()
        shares = np.array([*(shares[:-1] / shares[:-1].sum() * rest), 1 - rest])
    allowed = {group: [PARTS.index(p) for p in parts] for group, parts in wishes.items()}
    dealt = deal(groups, allowed, members, shares.tolist(), config.seed)[groups]
    parts = {str(s): PARTS[part] for s, part in zip(studies, dealt, strict=True)}
    if not config.folds:
        return Split(parts)
    training = np.flatnonzero(np.isin(dealt, [PARTS.index(part) for part in TRAIN]))
    return Split(
        parts, _folds(studies[training], groups[training], members[training], config, previous)
    )


def _folds(
    studies: TextArray,
    groups: IntArray,
    members: np.ndarray,
    config: SplitConfig,
    previous: Split | None,
) -> dict[str, int]:
    """The fold of every study that may be learned from; those that stand stay."""
    stands = previous.folds if previous is not None else {}
    if stands and max(stands.values()) + 1 != config.folds:
        raise ConfigError(
            f"split.csv holds {max(stands.values()) + 1} folds, and split.folds is {config.folds}",
            remedy="set split.folds to what split.csv holds, or run `mvp split --new-folds`",
        )
    _, own = np.unique(groups, return_inverse=True)
    n = int(own.max()) + 1 if len(own) else 0
    if n < config.folds:
        raise DataError(
            f"{config.folds} folds need as many patients to learn from, and there are {n}",
            cause="patients that share an image count as one",
            remedy="set split.folds lower, or to 0",
        )
    kept: dict[int, tuple[int, str]] = {}
    for study, group in zip(map(str, studies), own.tolist(), strict=True):
        if (fold := stands.get(study)) is None:
            continue
        held, holder = kept.setdefault(group, (fold, study))
        if held != fold:
            raise DataError(
                f"studies {holder} and {study} belong together (one patient, or one image) and "
                f"stand in different folds ({held} and {fold})",
                study=study,
                remedy="correct split.csv, or run `mvp split --new-folds`",
            )
    allowed = {group: [fold] for group, (fold, _) in kept.items()}
    # Another draw than that of the parts: folds are not to follow them.
    dealt = deal(own, allowed, members, [1 / config.folds] * config.folds, config.seed + 1)
    return {str(s): int(f) for s, f in zip(studies, dealt[own], strict=True)}


def _wishes(
    studies: TextArray,
    groups: IntArray,
    fixed: TextArray | None,
    origins: TextArray | None,
    previous: Split | None,
    config: SplitConfig,
) -> dict[int, tuple[str, ...]]:
    """For each group that is not free, the parts it may go to."""
    wishes: dict[int, tuple[tuple[str, ...], str]] = {}
    only = names_test(fixed)
    # A calibration slice that is wanted later comes out of stage two: no network is stale for it.
    lends = (
        previous is not None
        and config.calibration > 0
        and "calibration" not in previous.parts.values()
    )
    for i, (study, group) in enumerate(zip(map(str, studies), groups.tolist(), strict=True)):
        wanted: tuple[str, ...] | None = None
        holder = study
        if fixed is not None and fixed[i]:
            wanted = _parts_named(str(fixed[i]), study)
            said = str(origins[i]) if origins is not None and origins[i] else "the split column"
            holder = f"{study} ({said})"
        elif only:
            wanted = _NOT_TEST
            holder = f"{study} (not among the studies that are fixed as test)"
        stands = previous.parts.get(study) if previous is not None else None
        if stands is not None and (wanted is None or stands in wanted):
            given = wanted
            wanted = (stands,)
            if lends and stands in _LENDERS and (given is None or "calibration" in given):
                wanted = (stands, "calibration")
        if wanted is None:
            continue
        held, other = wishes.setdefault(group, (wanted, holder))
        common = tuple(p for p in held if p in wanted)
        if not common:
            raise DataError(
                f"studies {other} and {holder} belong together (one patient, or one image) and "
                f"stand in different splits ({'/'.join(held)} and {'/'.join(wanted)})",
                study=study,
                remedy="correct the split column, the lists, split.csv or the patient ids; or run "
                "`mvp split --force` to deal anew, which makes trained networks stale",
            )
        if common != held:
            wishes[group] = (common, holder)
    return {group: parts for group, (parts, _) in wishes.items()}


def _parts_named(text: str, study: str) -> tuple[str, ...]:
    if text == "train":
        return _NOT_TEST
    if text in PARTS:
        return (text,)
    raise DataError(
        f"the split column says {text[:40]!r}",
        study=study,
        remedy=f"use train, test, or one of {', '.join(_NOT_TEST)}; blank lets mvp deal",
    )


def _shares(config: SplitConfig) -> np.ndarray:
    stage1, stage2 = 1 - config.test - config.stage2, config.stage2 - config.calibration
    fitted, inner = 1 - config.inner, config.inner
    return np.array(
        [
            *(stage1 * fitted, stage1 * inner),
            *(stage2 * fitted, stage2 * inner),
            *(config.calibration, config.test),
        ]
    )
