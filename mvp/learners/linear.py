"""Logistic regressions as one matrix product: what `predict_proba` says, without its copies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from mvp.learners.standardise import Standardiser
from mvp.types import BoolArray, FloatArray, IntArray

# Features whose products are summed in float32; the sums are added in float64.
_SUMMED = 128
# What fitting a logistic regression adds to its options.
_FITTED = ("classes_", "coef_", "intercept_", "n_features_in_", "n_iter_")


@dataclass(frozen=True, eq=False)
class LinearModels:
    """Models that stand on the same standardised features, with the scale in their coefficients.

    Attributes:
        mean: (Σ feature,) what features are centred by. It is not folded into the intercept: of
            features far from zero, float32 would leave nothing.
        weights: (Σ feature, logit) float32.
        presence: (view, logit) float64, what the presence of a view adds.
        intercept: (logit,) float64.
        models: for each model its first logit and its columns among the outputs.
    """

    mean: FloatArray
    weights: FloatArray
    presence: NDArray[np.float64]
    intercept: NDArray[np.float64]
    models: tuple[_Place, ...]

    def predict(
        self, matrix: FloatArray, presence: BoolArray, views: Sequence[slice], result: FloatArray
    ) -> None:
        """Write the models' probabilities into their columns of `result` (study, output).

        Args:
            matrix: (study, Σ feature), NaN where a view is missing.
            presence: (study, view).
            views: for each view its columns.
            result: (study, output); columns of other models stay.
        """
        centred = matrix - self.mean
        logits = np.tile(self.intercept, (len(matrix), 1))
        for position, columns in enumerate(views):
            there = presence[:, position]
            part = np.tile(self.presence[position], (len(matrix), 1))
            for start in range(columns.start, columns.stop, _SUMMED):
                some = slice(start, min(start + _SUMMED, columns.stop))
                part += centred[:, some] @ self.weights[some]
            if not there.all():
                part[~there] = 0  # NaN: a missing view is at the mean and adds nothing
            logits += part
        for place in self.models:
            own = logits[:, place.start : place.start + place.logits]
            if place.logits > 1:
                result[:, place.outputs] = softmax(own, axis=1)
                continue
            positive = expit(own[:, 0])
            if len(place.outputs) == 2:  # two classes of several were seen in training
                result[:, place.outputs[0]] = 1 - positive
            result[:, place.outputs[-1]] = positive


@dataclass(frozen=True, eq=False)
class _Place:
    start: int
    logits: int
    outputs: IntArray


def linear_models(
    scalers: Sequence[Standardiser], models: Sequence[Any], outputs: Sequence[IntArray]
) -> list[LinearModels]:
    """The models as matrix products, those on the same scale together.

    Args:
        scalers: for each model, what its features were standardised by.
        models: fitted classifiers.
        outputs: for each model, the output columns of its logits; of a model of two classes, that
            of the positive one, or of both.

    Returns:
        Nothing where a model is no logistic regression of this form.
    """
    if not all(_is_linear(model) for model in models):
        return []
    groups: list[list[int]] = []
    for index, scaler in enumerate(scalers):
        for group in groups:
            first = scalers[group[0]]
            if np.array_equal(first.mean, scaler.mean) and np.array_equal(first.std, scaler.std):
                group.append(index)
                break
        else:
            groups.append([index])
    return [_folded(scalers[g[0]], [models[i] for i in g], [outputs[i] for i in g]) for g in groups]


def _folded(
    scaler: Standardiser, models: Sequence[Any], outputs: Sequence[IntArray]
) -> LinearModels:
    features = len(scaler.mean)
    coefficients = np.concatenate([m.coef_ for m in models]).astype(np.float64)
    places, start = [], 0
    for model, columns in zip(models, outputs, strict=True):
        places.append(_Place(start, len(model.coef_), columns))
        start += len(model.coef_)
    return LinearModels(
        scaler.mean,
        np.ascontiguousarray((coefficients[:, :features] / scaler.std).T, dtype=np.float32),
        np.ascontiguousarray(coefficients[:, features:].T),
        np.concatenate([m.intercept_ for m in models]).astype(np.float64),
        tuple(places),
    )


def _is_linear(model: Any) -> bool:
    """Whether probabilities are a sigmoid, or a softmax, of the decision function."""
    if type(model) is not LogisticRegression:
        return False
    # Older versions of scikit-learn know other ways from several decisions to probabilities.
    usual = getattr(model, "multi_class", "auto") in ("auto", "deprecated")
    return usual and (len(model.classes_) == 2 or model.solver != "liblinear")


def is_plain(model: Any) -> bool:
    """Whether a classifier is a fitted logistic regression of numbers and JSON alone."""
    if type(model) is not LogisticRegression:
        return False
    options = model.get_params()
    try:
        same = json.loads(json.dumps(options)) == options
    except (TypeError, ValueError):
        return False
    numbers = all(np.asarray(getattr(model, name, None)).dtype.kind in "iuf" for name in _FITTED)
    return same and numbers and vars(model).keys() == {*options, *_FITTED}


def dump_plain(model: Any, path: Path) -> None:
    """Write a logistic regression as arrays: reading it takes none of the seconds of skops."""
    fitted: dict[str, Any] = {name: np.asarray(getattr(model, name)) for name in _FITTED}
    options = json.dumps(model.get_params(), sort_keys=True).encode()
    np.savez(path, options=np.frombuffer(options, np.uint8), **fitted)


def load_plain(path: Path) -> LogisticRegression:
    """Read what `dump_plain` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        model = LogisticRegression(**json.loads(stored["options"].tobytes()))
        for name in _FITTED:
            value = stored[name]
            setattr(model, name, value if value.ndim else value.item())
    return model
