"""Heads that speak together: one family, or one for each fold of a cross-fit.

A cross-fitted system is K pairs of networks and heads; what it says of a study is the mean over
the pairs, each asked about the features of its own networks (Chernozhukov et al. 2018, The
Econometrics Journal 21, C1-C68). Features of different folds stand in different bases and are never
pooled; what is pooled is probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mvp.errors import DataError
from mvp.features.table import FeatureTable
from mvp.files import digest_json
from mvp.learners.comparison import FUSION, MEAN, HeadFamily, nan_mean
from mvp.types import UNFOLDED, BoolArray, FloatArray, Labels, Target, TextArray

Tables = Mapping[str, FeatureTable]
# The role of rows that the networks have seen, and the name of a head that is fitted on them.
SAME_ROWS = "same-rows"


@dataclass(frozen=True, eq=False)
class HeadRows:
    """The studies that the heads of one fold are fitted, chosen and tested on.

    Attributes:
        table: their features, of this fold's networks.
        labels: theirs, in the same order.
        roles: for each role (study,) True where a study plays it: `train`, `inner` (early
            stopping and choices), `calibration`, `test`, and `same-rows`, `same-rows-inner`,
            where the ablation can be fitted.
    """

    table: FeatureTable
    labels: Labels
    roles: Mapping[str, BoolArray]

    def __post_init__(self) -> None:
        if len(self.table) != len(self.labels):
            raise DataError(f"{len(self.table)} studies, but labels of {len(self.labels)}")
        for role, mask in self.roles.items():
            if mask.shape != (len(self.table),):
                raise DataError(f"{role}: a mask of {mask.shape} for {len(self.table)} studies")

    def mask(self, role: str) -> BoolArray:
        """(study,) who plays a role and has a view at all."""
        mask = self.roles.get(role, np.zeros(len(self.table), bool))
        return mask & np.asarray(self.table.presence.any(axis=1))

    def of(self, role: str) -> tuple[FeatureTable, Labels]:
        """Features and labels of those who play a role and have a view."""
        rows = np.flatnonzero(self.mask(role))
        return self.table.select(rows), self.labels.select(rows)


@dataclass(frozen=True, eq=False)
class Asked:
    """Studies, and what every model says of them.

    Attributes:
        predicted: for each model (study, output) probabilities; NaN where it says nothing.
        labels: their labels.
        groups: (study,) patients.
        presence: (study, view) which views they have.
        views: names of the views.
        studies: (study,) ids.
    """

    predicted: Mapping[str, FloatArray]
    labels: Labels
    groups: TextArray
    presence: BoolArray
    views: tuple[str, ...]
    studies: TextArray

    def __len__(self) -> int:
        return len(self.groups)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Families of heads, by the fold whose networks they were fitted on; `all` without folds.

    Attributes:
        members: for each fold its family, all with the same views and targets.
    """

    members: Mapping[str, HeadFamily]

    def __post_init__(self) -> None:
        kinds = {(f.fusion.signature.views, f.fusion.targets) for f in self.members.values()}
        if len(kinds) != 1:
            raise DataError("the heads of the folds differ in views or labels")

    @property
    def first(self) -> HeadFamily:
        """One of the families: what all of them agree in can be asked of it."""
        return next(iter(self.members.values()))

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds; `all` alone where there are none."""
        return tuple(self.members)

    @property
    def views(self) -> tuple[str, ...]:
        """Views in the order that the heads were fitted on."""
        return self.first.fusion.signature.views

    @property
    def targets(self) -> tuple[Target, ...]:
        """The labels in order."""
        return self.first.fusion.targets

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the probability columns."""
        return self.first.fusion.outputs

    @property
    def singles(self) -> tuple[str, ...]:
        """Views that some member has a head of their own for."""
        return tuple(v for v in self.views if any(v in f.singles for f in self.members.values()))

    @property
    def models(self) -> tuple[str, ...]:
        """Names of what `predict` gives: each view, their mean, the fusion."""
        return (*self.singles, MEAN, FUSION) if self.singles else (FUSION,)

    @property
    def digest(self) -> str:
        """Digest of the saved heads."""
        digests = {fold: family.fusion.digest for fold, family in self.members.items()}
        return next(iter(digests.values())) if list(digests) == [UNFOLDED] else digest_json(digests)

    def predict(self, tables: Tables) -> dict[str, FloatArray]:
        """For each model (study, output) probabilities: the mean over the members.

        Args:
            tables: for each fold the features of its networks; the same studies in the same order.

        Raises:
            DataError: the tables are of other studies, or a fold has none.
        """
        self._require(tables)
        said = {fold: family.predict(tables[fold]) for fold, family in self.members.items()}
        return {model: self._mean(said, model) for model in self.models}

    def fused(self, tables: Tables) -> FloatArray:
        """(study, output) probabilities of the fusion alone; NaN for a study without any view.

        Args:
            tables: as for `predict`.
        """
        self._require(tables)
        values = [family.fused(tables[fold]) for fold, family in self.members.items()]
        return values[0] if len(values) == 1 else nan_mean(values)

    def ask(self, rows: Mapping[str, HeadRows], role: str) -> Asked:
        """What is said of the studies of a role.

        Test and calibration studies are unknown to every network: all members are asked. Training
        and inner studies of a fold are unknown to that fold's networks alone, so its own member
        answers for them.

        Args:
            rows: for each fold its studies.
            role: `train`, `inner`, `calibration` or `test`.
        """
        if role in ("test", "calibration"):
            parts = {fold: one.of(role) for fold, one in rows.items()}
            predicted = self.predict({fold: table for fold, (table, _) in parts.items()})
            return _asked(predicted, *next(iter(parts.values())), self.views)
        answers = []
        for fold, family in self.members.items():
            table, labels = rows[fold].of(role)
            if len(table):
                said = family.predict(table)
                blank = np.full((len(table), len(self.outputs)), np.nan, np.float32)
                own = {model: said.get(model, blank) for model in self.models}
                answers.append(_asked(own, table, labels, self.views))
        if not answers:
            table, labels = next(iter(rows.values())).of(role)
            none = np.empty((0, len(self.outputs)), np.float32)
            return _asked(dict.fromkeys(self.models, none), table, labels, self.views)
        return Asked(
            {m: np.concatenate([a.predicted[m] for a in answers]) for m in self.models},
            Labels(answers[0].labels.targets, np.concatenate([a.labels.values for a in answers])),
            np.concatenate([a.groups for a in answers]),
            np.concatenate([a.presence for a in answers]),
            self.views,
            np.concatenate([a.studies for a in answers]),
        )

    def _mean(self, said: Mapping[str, Mapping[str, FloatArray]], model: str) -> FloatArray:
        values = [one[model] for one in said.values() if model in one]
        return values[0] if len(values) == 1 else nan_mean(values)

    def _require(self, tables: Tables) -> None:
        missing = [fold for fold in self.members if fold not in tables]
        if missing:
            raise DataError(f"there are no features of {', '.join(missing)}")
        # One member has nothing to be held against, and scoring asks it for every block.
        if len(self.members) > 1 and len({tables[fold].digest for fold in self.members}) != 1:
            raise DataError("the folds' features are of other studies, or in another order")


def _asked(
    predicted: Mapping[str, FloatArray],
    table: FeatureTable,
    labels: Labels,
    views: tuple[str, ...],
) -> Asked:
    own = table.only(views)
    return Asked(predicted, labels, own.groups, own.presence, views, own.studies)
