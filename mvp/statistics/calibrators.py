"""Fitted calibrators: what they do to probabilities, and how they are written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike

from mvp.errors import DataError
from mvp.statistics.ranking import Float
from mvp.statistics.scores import LEAST


class Calibrator(Protocol):
    """What `fit_calibrator` returns."""

    @property
    def reason(self) -> str | None:
        """Why nothing is corrected; None where something is."""

    def apply(self, p: ArrayLike) -> Float:
        """Corrected probabilities of the same shape, float64; NaN stays NaN."""

    def to_json(self) -> dict[str, Any]:
        """The calibrator as plain values."""


def log_odds(p: ArrayLike) -> Float:
    """Log odds of probabilities, held within those of 2**-25 and 1 - 2**-25 (17.3 either way).

    A float32 has no probability nearer to 1 but 1 itself; nearer ones become equal.
    """
    chances = np.clip(np.asarray(p, np.float64), LEAST, 1 - LEAST)
    return np.log(chances) - np.log1p(-chances)


def _expit(x: Float) -> Float:
    """The logistic function, which loses nothing near 0."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


@dataclass(frozen=True)
class Temperature:
    """Log odds, or logarithms of several classes' probabilities, over one number."""

    kind: ClassVar[str] = "temperature"
    reason: ClassVar[str | None] = None
    temperature: float

    def apply(self, p: ArrayLike) -> Float:
        """Corrected probabilities of the same shape; above 1, a temperature makes less sure.

        Args:
            p: (row,) probability of 1, or (row, class); NaN stays NaN.
        """
        chances = np.asarray(p, np.float64)
        if chances.ndim == 1:
            return _expit(log_odds(chances) / self.temperature)
        scaled = np.log(np.maximum(chances, LEAST)) / self.temperature
        shares = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
        return shares / shares.sum(axis=1, keepdims=True)

    def to_json(self) -> dict[str, Any]:
        """The calibrator as plain values."""
        return {"kind": self.kind, "temperature": self.temperature}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Temperature:
        """The calibrator that `to_json` wrote, without its kind."""
        return cls(_positive(value["temperature"]))


@dataclass(frozen=True)
class Platt:
    """Slope times the log odds plus an intercept; the slope is above 0."""

    kind: ClassVar[str] = "platt"
    reason: ClassVar[str | None] = None
    slope: float
    intercept: float

    def apply(self, p: ArrayLike) -> Float:
        """(row,) corrected probabilities; NaN stays NaN."""
        return _expit(self.slope * log_odds(p) + self.intercept)

    def to_json(self) -> dict[str, Any]:
        """The calibrator as plain values."""
        return {"kind": self.kind, "slope": self.slope, "intercept": self.intercept}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Platt:
        """The calibrator that `to_json` wrote, without its kind."""
        return cls(_positive(value["slope"]), _finite(value["intercept"]))


@dataclass(frozen=True)
class Isotonic:
    """A rising function through knots, linear between them and level beyond.

    Attributes:
        knots: probabilities as they come, rising.
        values: what they become, rising; never nearer to 0 or 1 than 1 / (calibration rows + 2).
    """

    kind: ClassVar[str] = "isotonic"
    reason: ClassVar[str | None] = None
    knots: tuple[float, ...]
    values: tuple[float, ...]

    def apply(self, p: ArrayLike) -> Float:
        """(row,) corrected probabilities; NaN stays NaN."""
        return np.interp(np.asarray(p, np.float64), self.knots, self.values)

    def to_json(self) -> dict[str, Any]:
        """The calibrator as plain values."""
        return {"kind": self.kind, "knots": list(self.knots), "values": list(self.values)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Isotonic:
        """The calibrator that `to_json` wrote, without its kind."""
        knots, values = (tuple(_finite(v) for v in value[name]) for name in ("knots", "values"))
        if not knots or len(knots) != len(values) or not _rise(knots) or not _rise(values):
            raise ValueError("knots must rise, with a value each")
        return cls(knots, values)


@dataclass(frozen=True)
class OneVersusRest:
    """A calibrator for each class against the rest; what they say is divided by its sum."""

    kind: ClassVar[str] = "one-versus-rest"
    reason: ClassVar[str | None] = None
    members: tuple[Calibrator, ...]

    def apply(self, p: ArrayLike) -> Float:
        """(row, class) corrected probabilities; NaN stays NaN.

        Raises:
            DataError: other classes than it was fitted on.
        """
        chances = np.asarray(p, np.float64)
        if chances.ndim != 2 or chances.shape[1] != len(self.members):
            raise DataError(
                f"probabilities have shape {chances.shape}, expected (row, {len(self.members)})"
            )
        parts = [m.apply(column) for m, column in zip(self.members, chances.T, strict=True)]
        corrected = np.stack(parts, axis=1)
        return corrected / corrected.sum(axis=1, keepdims=True)

    def to_json(self) -> dict[str, Any]:
        """The calibrator as plain values."""
        return {"kind": self.kind, "members": [m.to_json() for m in self.members]}


@dataclass(frozen=True)
class Uncalibrated:
    """Changes nothing, because nothing could be learnt."""

    kind: ClassVar[str] = "none"
    reason: str

    def apply(self, p: ArrayLike) -> Float:
        """The probabilities as they are."""
        return np.array(p, np.float64)

    def to_json(self) -> dict[str, Any]:
        """The reason as a plain value."""
        return {"kind": self.kind, "reason": self.reason}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Uncalibrated:
        """The calibrator that `to_json` wrote, without its kind."""
        return cls(str(value["reason"]))


def _finite(value: Any) -> float:
    if not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError("a number of a calibration is none")
    return float(value)


def _positive(value: Any) -> float:
    if _finite(value) <= 0:
        raise ValueError("a number of a calibration must be above 0")
    return float(value)


def _rise(values: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in pairwise(values))
