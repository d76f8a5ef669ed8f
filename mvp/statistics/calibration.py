"""Calibration: what probabilities should have been, learnt on rows that nothing else learnt from.

Fit on a slice of its own: on rows of the training the model is too sure of itself, and a
calibrator would learn that this is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from mvp.errors import ConfigError, DataError
from mvp.statistics.calibrators import (
    Calibrator,
    Isotonic,
    OneVersusRest,
    Platt,
    Temperature,
    Uncalibrated,
    log_odds,
)
from mvp.statistics.ranking import Float
from mvp.statistics.scores import probable_rows

Kind = Literal["temperature", "platt", "isotonic"]
# What a small slice can support; a slice that the model ranks perfectly would ask for 0.
TEMPERATURES = (0.1, 100.0)


def fit_calibrator(
    kind: Kind, p: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None
) -> Calibrator:
    """Learn to correct probabilities.

    `temperature` divides log odds, or the logarithms of several classes' probabilities, by one
    number (Guo et al. 2017): the ranking, and with several classes the most probable class, stay.
    `platt` fits slope and intercept of the log odds, with targets drawn in from 0 and 1 (Platt
    1999): the ranking stays. `isotonic` fits a rising step function by pooling adjacent violators
    (Zadrozny and Elkan 2002): different probabilities may become equal. With several classes the
    last two are fitted for each class against the rest and divided by their sum (ibid.), which may
    change the most probable class.

    Args:
        kind: which of them.
        p: (row,) probability of 1, or (row, class) probabilities; NaN where nothing is said.
        y: (row,) 0, 1, or the index of the class; NaN for unknown.
        weights: (row,) 0 or more; such as one by the number of a patient's rows. Equal by default.

    Returns:
        A calibrator. Where nothing can be learnt (a class is missing among the rows; the
        probabilities do not rise with the labels) it is an `Uncalibrated`, which changes
        nothing and says why in `reason`.

    Raises:
        ConfigError: no such kind.
        DataError: other labels, what is no probability, unequal lengths, weights below 0.
    """
    if kind not in get_args(Kind):
        raise ConfigError(
            f"there is no calibration {kind!r}; there are {', '.join(get_args(Kind))}"
        )
    kept, labels, chances = probable_rows(y, p)
    weight = np.ones(len(kept)) if weights is None else np.asarray(weights, np.float64)
    if weight.shape != kept.shape or not (np.isfinite(weight) & (weight >= 0)).all():
        raise DataError(
            f"weights of shape {weight.shape} for {len(kept)} rows: expected (row,), 0 or more"
        )
    weight = weight[kept]
    counted = weight > 0
    labels, chances, weight = labels[counted], chances[counted], weight[counted]
    classes = 2 if chances.ndim == 1 else chances.shape[1]
    missing = classes - len(np.unique(labels))
    if missing:
        return Uncalibrated(
            f"{missing} of {classes} classes are missing among {len(labels)} calibration rows"
        )
    # Weights say how rows compare; how many rows there are, the rows say.
    weight = weight * (len(weight) / weight.sum())
    if kind == "temperature":
        return _temperature(labels, chances, weight)
    fit = _platt if kind == "platt" else _isotonic
    if chances.ndim == 1:
        return fit(labels, chances, weight)
    members = [fit((labels == c).astype(np.float64), chances[:, c], weight) for c in range(classes)]
    for index, member in enumerate(members):
        if isinstance(member, Uncalibrated):
            return Uncalibrated(f"class number {index}: {member.reason}")
    return OneVersusRest(tuple(members))


def calibrator_from_json(value: Mapping[str, Any]) -> Calibrator:
    """The calibrator whose `to_json` this is.

    Raises:
        DataError: the value is none.
    """
    fields = dict(value)
    kinds = {c.kind: c for c in (Temperature, Platt, Isotonic, Uncalibrated)}
    kind = fields.pop("kind", None)
    try:
        if kind == OneVersusRest.kind:
            return OneVersusRest(tuple(calibrator_from_json(m) for m in fields["members"]))
        return kinds[str(kind)].from_json(fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError("a stored calibration cannot be read") from error


def _temperature(labels: Float, chances: Float, weight: Float) -> Calibrator:
    """The temperature of least log loss, found on its logarithm, where the loss has one valley."""
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        scaled = Temperature(float(np.exp(logarithm))).apply(chances)
        if scaled.ndim == 1:
            true = np.where(labels == 1, scaled, 1 - scaled)
        else:
            true = scaled[np.arange(len(labels)), labels.astype(int)]
        return float(-(weight * np.log(np.maximum(true, np.finfo(np.float64).tiny))).sum())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return Temperature(float(np.exp(found.x)))


def _platt(labels: Float, chances: Float, weight: Float) -> Calibrator:
    """Slope and intercept of the log odds by Newton's method on Platt's targets."""
    from scipy.optimize import minimize
    from scipy.special import expit

    odds = log_odds(chances)
    positive = labels == 1
    hits, misses = weight[positive].sum(), weight[~positive].sum()
    target = np.where(positive, (hits + 1) / (hits + 2), 1 / (misses + 2))

    def loss(parameters: Float) -> tuple[float, Float]:
        margin = parameters[0] * odds + parameters[1]
        gap = weight * (expit(margin) - target)
        value = (weight * (np.logaddexp(0, margin) - target * margin)).sum()
        return float(value), np.array([(gap * odds).sum(), gap.sum()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS")
    slope, intercept = (float(v) for v in found.x)
    if slope <= 0:
        return Uncalibrated("the probabilities do not rise with the labels on the calibration rows")
    return Platt(slope, intercept)


def _isotonic(labels: Float, chances: Float, weight: Float) -> Calibrator:
    """The rising function of least squared error, as knots; scikit-learn pools the violators."""
    from sklearn.isotonic import IsotonicRegression

    # Blocks of one class would be sure for ever; so many rows cannot say more than this.
    least = 1 / (len(labels) + 2)
    fitted = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
    fitted.fit(chances, labels, sample_weight=weight)
    knots, values = fitted.X_thresholds_, fitted.y_thresholds_
    if values[0] == values[-1]:
        return Uncalibrated("the probabilities do not rise with the labels on the calibration rows")
    return Isotonic(tuple(float(k) for k in knots), tuple(float(v) for v in values))
