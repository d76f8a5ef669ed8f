"""Candidates of a comparison: a learner on some views under a protocol, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mvp.errors import DataError
from mvp.learners.comparison import FUSION, HeadFamily
from mvp.learners.ensemble import Asked, Ensemble, HeadRows
from mvp.learners.guards import learnable
from mvp.learners.head import Head, Tta
from mvp.types import BoolArray, FloatArray, Labels, TextArray, one_hot

ABLATION = "same-rows"


@dataclass(frozen=True)
class Candidate:
    """What may be fitted: a learner on some of the views, under a protocol; or a finished head."""

    learner: str
    views: tuple[str, ...]
    protocol: str

    @property
    def ablation(self) -> bool:
        """Whether it is fitted on rows that its networks have seen: it is there to be beaten."""
        return self.protocol == ABLATION

    @property
    def name(self) -> str:
        """For a person."""
        return f"{self.learner} on {'+'.join(self.views)}, {self.protocol}"


@dataclass(frozen=True, eq=False)
class Frame:
    """Studies that all candidates are measured on, each where it can say something.

    Attributes:
        studies: (study,) ids.
        groups: (study,) patients.
        truth: (study, output) 0, 1 or NaN for unknown.
        presence: (study, view) which views they have.
        outputs: names of the columns of `truth`.
    """

    studies: TextArray
    groups: TextArray
    truth: FloatArray
    presence: BoolArray
    outputs: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.studies)

    @classmethod
    def of_role(cls, rows: Mapping[str, HeadRows], role: str) -> Frame:
        """The studies of a role, with views or without.

        Args:
            rows: for each fold its studies; those of `test` and `calibration` are the same in all
                folds, those of other roles stand in one fold each.
            role: as in `HeadRows`.
        """
        parts = list(rows.values())[: 1 if role in ("test", "calibration") else None]
        masks = [one.roles[role] for one in parts]
        pairs = list(zip(parts, masks, strict=True))
        values = [one.labels.values[mask] for one, mask in pairs]
        labels = Labels(parts[0].labels.targets, np.concatenate(values))
        return cls(
            np.concatenate([one.table.studies[mask] for one, mask in pairs]),
            np.concatenate([one.table.groups[mask] for one, mask in pairs]),
            one_hot(labels),
            np.concatenate([one.table.presence[mask] for one, mask in pairs]),
            labels.outputs,
        )

    def least(self, output: str) -> int:
        """How many studies the rarer class of an output has."""
        values = self.truth[:, self.outputs.index(output)]
        return int(min((values == 0).sum(), (values == 1).sum()))

    def among(self, other: Frame) -> Frame:
        """Those of them that are in another frame too."""
        both = np.isin(self.studies, other.studies)
        return replace(
            self,
            studies=self.studies[both],
            groups=self.groups[both],
            truth=self.truth[both],
            presence=self.presence[both],
        )

    def lay(self, asked: Asked, outputs: Sequence[str]) -> FloatArray:
        """(study, output) what was said of them, NaN where nothing was.

        Args:
            asked: what the fusion said, of any studies.
            outputs: names of its columns.
        """
        place = {str(study): i for i, study in enumerate(self.studies)}
        here = [(i, place[s]) for i, s in enumerate(map(str, asked.studies)) if s in place]
        laid = np.full(self.truth.shape, np.nan, np.float32)
        if here:
            source, target = np.array(here).T
            columns = np.array([self.outputs.index(name) for name in outputs])
            laid[np.ix_(target, columns)] = asked.predicted[FUSION][source]
        return laid


@dataclass(frozen=True, eq=False)
class Fitting:
    """How every candidate is fitted.

    Attributes:
        options: of each learner.
        rows: for each protocol and fold the studies with all views.
        seed: decides everything random.
        tta: see `Head.fit`.
        given: candidates that are fitted already, with the studies that they can be asked about.
    """

    options: Mapping[str, Mapping[str, Any]]
    rows: Mapping[str, Mapping[str, HeadRows]]
    seed: int
    tta: Tta = "mean"
    given: Mapping[Candidate, tuple[Ensemble, dict[str, HeadRows]]] = field(default_factory=dict)

    def fit(self, candidate: Candidate) -> tuple[Ensemble, dict[str, HeadRows]]:
        """The candidate's heads, one for each fold, and their studies.

        They know the labels of which every fold's training rows show two classes.

        Raises:
            DataError: no training study has any of the views, or no label can be learnt.
            ConfigError: the learner refuses the data.
        """
        if candidate in self.given:
            return self.given[candidate]
        rows = {
            fold: HeadRows(one.table.only(candidate.views), one.labels, one.roles)
            for fold, one in self.rows[candidate.protocol].items()
        }
        kept = taught(rows)
        if not kept:
            raise DataError("no label has two classes among the training studies with these views")
        return Ensemble(
            {fold: self._head(candidate, one, kept) for fold, one in rows.items()}
        ), rows

    def _head(self, candidate: Candidate, rows: HeadRows, kept: Sequence[int]) -> HeadFamily:
        def of(role: str) -> tuple[Any, Labels]:
            table, labels = rows.of(role)
            return table, labels.only(kept)

        head = Head.fit(
            candidate.learner,
            self.options.get(candidate.learner),
            *of("train"),
            validation=of("inner") if rows.mask("inner").any() else None,
            seed=self.seed,
            tta=self.tta,
        )
        return HeadFamily(head, {})


def taught(rows: Mapping[str, HeadRows]) -> list[int]:
    """Numbers of the labels of which the training rows of every fold show two classes."""
    return sorted(set.intersection(*(set(learnable(o.of("train")[1])) for o in rows.values())))


def subsets_of(views: Sequence[str], which: Callable[[int], bool]) -> list[tuple[str, ...]]:
    """All subsets of views of certain sizes but the empty one, the smaller first, in view order."""
    from itertools import combinations

    sizes = [size for size in range(1, len(views) + 1) if which(size)]
    return [chosen for size in sizes for chosen in combinations(views, size)]
