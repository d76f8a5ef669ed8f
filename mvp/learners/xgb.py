"""XGBoost on the joined features; a missing view stays missing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xgboost

from mvp.errors import ConfigError
from mvp.features.table import FeatureTable
from mvp.files import read_json, write_json
from mvp.learners.base import Validation, stored_options
from mvp.learners.options import require_number
from mvp.learners.xgb_data import binned, binned_bytes, cache_folder
from mvp.types import FloatArray, Labels, output_slices

# Least and greatest value of each option; a whole number where the least is written as one.
_RANGES: dict[str, tuple[float, float]] = {
    "n_estimators": (1, math.inf),
    "max_depth": (1, math.inf),
    "early_stopping_rounds": (0, math.inf),
    "n_jobs": (0, math.inf),
    "learning_rate": (0.0, math.inf),
    "subsample": (0.0, 1.0),
    "colsample_bytree": (0.0, 1.0),
    "min_child_weight": (0.0, math.inf),
    "reg_lambda": (0.0, math.inf),
    "memory_limit": (0.0, math.inf),
}
_ABOVE_ZERO = {"learning_rate", "subsample", "colsample_bytree"}


@dataclass(frozen=True)
class _Part:
    """The targets that one booster predicts, and the output columns that they fill."""

    targets: tuple[int, ...]
    outputs: tuple[int, ...]
    classes: int  # 0: binary


Rows = tuple[FeatureTable, FloatArray]


class XGBoostLearner:
    """Gradient-boosted trees (Chen and Guestrin 2016, arXiv:1603.02754), histogram method.

    A missing view is NaN, for which every split learns a direction. Binary targets that are
    known in every training row share one booster that grows one tree per target and round. A
    target with unknown rows gets its own booster, fitted on its known rows alone. With
    validation rows, each booster stops when their log loss no longer falls, and keeps the best
    round; a target that is not known there gets all its trees.

    Features are read from the table in batches and kept as bins, of 2.5 bytes a number, 5.5 where
    views are missing. Bins of more than `memory_limit` are kept in files, in a folder of their own
    among the system's temporary files (TMPDIR); the trees are the same.

    Args:
        n_estimators: rounds, at most.
        max_depth: depth of a tree, at most.
        learning_rate: shrinkage of each tree.
        subsample: fraction of the rows that each tree sees.
        colsample_bytree: fraction of the features that each tree sees.
        min_child_weight: least sum of second derivatives in a leaf.
        reg_lambda: L2 penalty on leaf values.
        early_stopping_rounds: rounds without improvement before stopping; 0 never stops early.
        n_jobs: threads; 0 takes all.
        memory_limit: GB (10^9 bytes) that the bins may take in memory; 0 keeps none there.
    """

    # Rounds are not in it: rows to stop on choose them.
    search_space: ClassVar[Mapping[str, Any]] = {
        "max_depth": {"low": 2, "high": 8},
        "learning_rate": {"low": 0.01, "high": 0.3, "log": True},
        "subsample": {"low": 0.5, "high": 1.0},
        "colsample_bytree": {"low": 0.05, "high": 1.0, "log": True},
        "min_child_weight": {"low": 0.1, "high": 30.0, "log": True},
        "reg_lambda": {"low": 0.01, "high": 100.0, "log": True},
    }

    def __init__(
        self,
        *,
        n_estimators: int = 400,
        max_depth: int = 4,
        learning_rate: float = 0.05,
        subsample: float = 0.8,
        colsample_bytree: float = 0.3,
        min_child_weight: float = 1.0,
        reg_lambda: float = 1.0,
        early_stopping_rounds: int = 40,
        n_jobs: int = 0,
        memory_limit: float = 4.0,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.min_child_weight = min_child_weight
        self.reg_lambda = reg_lambda
        self.early_stopping_rounds = early_stopping_rounds
        self.n_jobs = n_jobs
        self.memory_limit = memory_limit

    def fit(
        self, table: FeatureTable, labels: Labels, *, validation: Validation | None, seed: int
    ) -> Self:
        """See `Learner.fit`.

        Raises:
            ConfigError: an option's value is refused, or there is no room for the bins.
        """
        self._check_options()
        self._outputs = len(labels.outputs)
        self._parts = _split(labels)
        self._boosters = []
        for part in self._parts:
            train = _known_rows(table, labels, part)
            stop = None
            if validation is not None and self.early_stopping_rounds:
                stop = _known_rows(*validation, part)
            needed = binned_bytes(train[0]) + (binned_bytes(stop[0]) if stop else 0)
            outside = needed > self.memory_limit * 1e9
            with cache_folder(needed) if outside else nullcontext() as folder:
                self._boosters.append(self._boost(part, train, stop, folder, seed))
        return self

    def predict(self, table: FeatureTable) -> FloatArray:
        """(study, output) float32 probabilities; see `Learner.predict`."""
        result = np.empty((len(table), self._outputs), np.float32)
        for rows, matrix in table.batches():
            for part, booster in zip(self._parts, self._boosters, strict=True):
                values = booster.inplace_predict(matrix)
                result[rows, list(part.outputs)] = values.reshape(len(matrix), -1)
        return result

    def save(self, folder: Path) -> None:
        """One `booster-<i>.ubj` (UBJSON) per booster, and `boosters.json`, which maps outputs."""
        for index, booster in enumerate(self._boosters):
            booster.save_model(folder / f"booster-{index}.ubj")
        parts = [
            {"targets": p.targets, "outputs": p.outputs, "classes": p.classes} for p in self._parts
        ]
        write_json(
            folder / "boosters.json",
            {"options": stored_options(self), "outputs": self._outputs, "parts": parts},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """See `Learner.load`."""
        stored = read_json(folder / "boosters.json")
        learner = cls(**stored["options"])
        learner._outputs = stored["outputs"]
        learner._parts = [
            _Part(tuple(p["targets"]), tuple(p["outputs"]), p["classes"]) for p in stored["parts"]
        ]
        learner._boosters = []
        for index in range(len(learner._parts)):
            booster = xgboost.Booster({"nthread": learner.n_jobs})
            booster.load_model(folder / f"booster-{index}.ubj")
            learner._boosters.append(booster)
        return learner

    def _boost(
        self,
        part: _Part,
        train: Rows,
        stop: Rows | None,
        folder: Path | None,
        seed: int,
    ) -> xgboost.Booster:
        objective: dict[str, Any] = (
            {"objective": "multi:softprob", "num_class": part.classes, "eval_metric": "mlogloss"}
            if part.classes
            else {"objective": "binary:logistic", "eval_metric": "logloss"}
        )
        parameters = {
            **objective,
            "tree_method": "hist",
            "multi_strategy": "one_output_per_tree",
            "max_depth": self.max_depth,
            "learning_rate": self.learning_rate,
            "subsample": self.subsample,
            "colsample_bytree": self.colsample_bytree,
            "min_child_weight": self.min_child_weight,
            "reg_lambda": self.reg_lambda,
            "nthread": self.n_jobs,
            "seed": seed,
        }
        try:
            rows = binned(*train, threads=self.n_jobs, reference=None, folder=folder)
            evals = []
            if stop is not None and len(stop[0]):
                held_out = binned(*stop, threads=self.n_jobs, reference=rows, folder=folder)
                evals = [(held_out, "validation")]
            booster = xgboost.train(
                parameters,
                rows,
                self.n_estimators,
                evals=evals,
                early_stopping_rounds=self.early_stopping_rounds if evals else None,
                verbose_eval=False,
            )
        except xgboost.core.XGBoostError as error:
            raise ConfigError(
                "XGBoost cannot fit these features with these options",
                cause=str(error).strip().splitlines()[-1],
            ) from error
        # Rounds after the best one would be used by every later prediction, and stored.
        return booster[: booster.best_iteration + 1] if evals else booster

    def _check_options(self) -> None:
        for option, (least, most) in _RANGES.items():
            above = option in _ABOVE_ZERO
            require_number(option, getattr(self, option), least, most, above=above)


def _known_rows(table: FeatureTable, labels: Labels, part: _Part) -> Rows:
    """The rows in which all targets of a part are known, and what is known there."""
    values = labels.values[:, list(part.targets)]
    known = np.isfinite(values).all(axis=1)
    if not known.all():
        table, values = table.select(known), values[known]
    return table, values[:, 0] if len(part.targets) == 1 else values


def _split(labels: Labels) -> list[_Part]:
    """The targets grouped by booster."""
    columns = [tuple(range(s.start, s.stop)) for s in output_slices(labels.targets)]
    complete = np.all(labels.known, axis=0)
    binary = [i for i, target in enumerate(labels.targets) if not target.multiclass]
    shared = tuple(i for i in binary if complete[i])
    parts = [_Part(shared, sum((columns[i] for i in shared), ()), 0)] if shared else []
    for index, target in enumerate(labels.targets):
        if index not in shared:
            parts.append(_Part((index,), columns[index], len(target.classes)))
    return parts
