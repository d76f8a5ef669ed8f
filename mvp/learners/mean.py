"""The mean of the single views' probabilities: what a fusion must beat, as a learner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from mvp.errors import ConfigError, DataError
from mvp.features.table import FeatureTable
from mvp.files import read_json, write_json
from mvp.learners.base import Validation, stored_options
from mvp.learners.comparison import nan_mean, opinion
from mvp.learners.guards import learnable
from mvp.learners.head import Head
from mvp.learners.search import search_space
from mvp.types import FloatArray, Labels, one_hot

NAME = "mean"


class MeanLearner:
    """The average of single-view probabilities, over the views that a study has.

    Every view gets a learner of its own, fitted on the studies that have the view; a label of
    which these show one class only is left to the other views. A study of which no view says
    anything gets the prevalence among the training rows.

    Every comparison of heads has this model already, under the name `mean`, made of the single
    views' heads of the same learner: with `of` and `options` alike, the two are the same.

    Args:
        of: the learner of each view: a registered name or a dotted path, not `mean` itself.
        options: that learner's options.
    """

    def __init__(self, *, of: str = "logistic", options: Mapping[str, Any] | None = None) -> None:
        self.of = of
        self.options = options

    @classmethod
    def search_space(cls, fixed: Mapping[str, Any]) -> dict[str, Any]:
        """That of the learner `of`, whose options stand in `options`.

        Raises:
            ConfigError: there is no learner `of`, or it has no space.
        """
        of = fixed.get("of", "logistic")
        if of == NAME:  # refused by `fit`; here it would go on for ever
            raise ConfigError(f"of is {of!r}, expected the name of another learner")
        inner = search_space(of, fixed.get("options") or {})
        return {f"options.{option}": spec for option, spec in inner.items()}

    def fit(
        self, table: FeatureTable, labels: Labels, *, validation: Validation | None, seed: int
    ) -> Self:
        """See `Learner.fit`.

        Raises:
            ConfigError: there is no learner `of`, or it refuses its options.
            DataError: no view alone has studies of two classes of a label.
        """
        if not isinstance(self.of, str) or self.of == NAME:
            raise ConfigError(
                f"of is {self.of!r}, expected the name of another learner",
                remedy="--set of=logistic",
            )
        if not isinstance(self.options, Mapping | None):
            raise ConfigError(
                f"options is {self.options!r}, expected a table of the options of {self.of}",
                remedy="--set 'options={\"C\": 0.1}'",
            )
        self._outputs = labels.outputs
        self._prevalence = np.nanmean(one_hot(labels), axis=0, dtype=np.float64).astype(np.float32)
        self._heads: dict[str, Head] = {}
        for view in table.views:
            own, some = _with_view(table, labels, view)
            kept = learnable(some)
            if not kept:
                continue
            stop = None
            if validation is not None:
                held_out, known = _with_view(*validation, view)
                stop = (held_out, known.only(kept)) if len(held_out) else None
            self._heads[view] = Head.fit(
                self.of, self.options, own, some.only(kept), validation=stop, seed=seed
            )
        said = {name for head in self._heads.values() for name in head.outputs}
        for target in labels.targets:
            if not said.issuperset(target.outputs):
                raise DataError(
                    f"no view alone has studies of two classes of label {target.name!r}",
                    view=", ".join(table.views),
                    remedy="leave the label out, or choose a learner that sees all views at once",
                )
        return self

    def predict(self, table: FeatureTable) -> FloatArray:
        """(study, output) float32 probabilities; see `Learner.predict`."""
        mean = nan_mean([opinion(h, v, table, self._outputs) for v, h in self._heads.items()])
        return np.where(np.isnan(mean), self._prevalence, mean)

    def save(self, folder: Path) -> None:
        """A head for each view in `view-<i>/`, and `mean.json` with the prevalence."""
        for index, head in enumerate(self._heads.values()):
            head.save(folder / f"view-{index}")
        write_json(
            folder / "mean.json",
            {
                "options": stored_options(self),
                "outputs": self._outputs,
                "prevalence": self._prevalence.tolist(),
                "views": list(self._heads),
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """See `Learner.load`."""
        stored = read_json(folder / "mean.json")
        learner = cls(**stored["options"])
        learner._outputs = tuple(stored["outputs"])
        learner._prevalence = np.asarray(stored["prevalence"], dtype=np.float32)
        learner._heads = {
            view: Head.load(folder / f"view-{index}") for index, view in enumerate(stored["views"])
        }
        return learner


def _with_view(table: FeatureTable, labels: Labels, view: str) -> tuple[FeatureTable, Labels]:
    """The studies that have a view, with that view alone."""
    own = table.only([view])
    rows = np.flatnonzero(own.presence[:, 0])
    return own.select(rows), labels.select(rows)
