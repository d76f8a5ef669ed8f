"""XGBoost on the joined features; a missing view stays missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import xgboost

from mvp.errors import ConfigError
from mvp.features.table import FeatureTable
from mvp.files import read_json, write_json
from mvp.learners.base import Validation, stored_options
from mvp.types import FloatArray, IntArray, Labels, output_slices


@dataclass(frozen=True)
class _Part:
    """The targets that one booster predicts, and the output columns that they fill."""

    targets: tuple[int, ...]
    outputs: tuple[int, ...]
    classes: int  # 0: binary


class XGBoostLearner:
    """Gradient-boosted trees (Chen and Guestrin 2016, arXiv:1603.02754), histogram method.

    A missing view is NaN, for which every split learns a direction. Binary targets that are
    known in every training row share one booster that grows one tree per target and round. A
    target with unknown rows gets its own booster, fitted on its known rows alone. With
    validation rows, each booster stops when their log loss no longer falls, and keeps the best
    round; a target that is not known there gets all its trees.

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
    """

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

    def fit(
        self, table: FeatureTable, labels: Labels, *, validation: Validation | None, seed: int
    ) -> Self:
        """See `Learner.fit`.

        Raises:
            ConfigError: an option's value is refused.
        """
        for option, least in (("n_estimators", 1), ("early_stopping_rounds", 0)):
            value = getattr(self, option)
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"{option} is {value!r}, expected a whole number >= {least}")
        self._outputs = len(labels.outputs)
        self._parts = _split(labels)
        matrix = table.matrix()
        held_out = None if validation is None else validation[0].matrix()
        self._boosters = []
        for part in self._parts:
            train = self._data(matrix, labels, part, None, table.row_weight)
            stop = None
            if held_out is not None and validation is not None and self.early_stopping_rounds:
                stop = self._data(held_out, validation[1], part, train, table.row_weight)
            self._boosters.append(self._boost(part, train, stop, seed))
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

    def _data(
        self,
        matrix: FloatArray,
        labels: Labels,
        part: _Part,
        reference: xgboost.QuantileDMatrix | None,
        row_weight: float,
    ) -> xgboost.QuantileDMatrix | None:
        """The rows in which all targets of a part are known, with bins as in `reference`."""
        values = labels.values[:, list(part.targets)]
        rows: IntArray = np.flatnonzero(np.isfinite(values).all(axis=1))
        if not len(rows):
            return None
        known = matrix if len(rows) == len(matrix) else matrix[rows]
        target = values[rows, 0] if len(part.targets) == 1 else values[rows]
        # Or a leaf of one study with many draws would pass for one of many studies.
        weights = None if row_weight == 1 else np.full(len(rows), row_weight, np.float32)
        return xgboost.QuantileDMatrix(
            known, target, weight=weights, ref=reference, nthread=self.n_jobs or None
        )

    def _boost(
        self,
        part: _Part,
        train: xgboost.QuantileDMatrix | None,
        stop: xgboost.DMatrix | None,
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
            booster = xgboost.train(
                parameters,
                train,
                self.n_estimators,
                evals=[] if stop is None else [(stop, "validation")],
                early_stopping_rounds=None if stop is None else self.early_stopping_rounds,
                verbose_eval=False,
            )
        except xgboost.core.XGBoostError as error:
            raise ConfigError(
                "XGBoost refuses its options", cause=str(error).strip().splitlines()[-1]
            ) from error
        # Rounds after the best one would be used by every later prediction, and stored.
        return booster if stop is None else booster[: booster.best_iteration + 1]


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
