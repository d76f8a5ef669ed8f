"""Split conformal prediction sets: which classes cannot be ruled out at a level of error.

The score of a class is one minus its probability, and a class stays in the set while its score
is no higher than a quantile of the true classes' scores on calibration rows (Vovk et al. 2005;
Sadinle, Lei and Wasserman 2019). There is a quantile for every class and every pattern of present
views (Mondrian: Vovk 2012), so that coverage holds in each and is not paid for by the rare ones.
It holds on average over calibration sets, for rows that are drawn as those were.

What is exchangeable is patients, not studies. Of a patient with several studies in a cell (pattern
and class) one is drawn by seed, each equally likely: then a cell's rows are independent, and the
promise is kept for a study drawn so from a new patient (Dunn, Wasserman and Ramdas 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mvp.errors import ConfigError, DataError
from mvp.statistics.ranking import Float
from mvp.statistics.scores import probable_rows

Sets = NDArray[np.bool_]


@dataclass(frozen=True)
class Cell:
    """What decides about a class in a pattern of views.

    Attributes:
        quantile: highest score at which the class stays; infinite where it always stays.
        n: patients that the quantile rests on.
    """

    quantile: float
    n: int


@dataclass(frozen=True)
class ConformalPredictor:
    """Quantiles by class and by pattern of views.

    A cell with fewer than 1 / alpha - 1 patients has no quantile of its own: the one of the class
    over all patterns stands in, which covers on average over patterns but maybe not in this one.
    Where the class has too few as well, it is in every set. `pooled` and `undecided` say where.

    Attributes:
        alpha: share of rows whose set may miss the true class.
        classes: number of classes; 2 for a binary label: negative, positive.
        by_class: (class,) over all patterns.
        by_group: for every pattern of the calibration rows (class,), None where pooled.
    """

    alpha: float
    classes: int
    by_class: tuple[Cell, ...]
    by_group: Mapping[str, tuple[Cell | None, ...]]

    @classmethod
    def fit(
        cls,
        p: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike,
        alpha: float = 0.1,
        *,
        patients: ArrayLike | None = None,
        seed: int = 0,
    ) -> ConformalPredictor:
        """Learn the quantiles from rows that neither the model nor its calibration has seen.

        Args:
            p: (row,) probability of 1, or (row, class) probabilities; NaN where nothing is said.
            y: (row,) 0, 1, or the index of the class; NaN for unknown.
            groups: (row,) pattern of present views, such as "frontal+lateral".
            alpha: share of sets that may miss the truth, in (0, 1).
            patients: (row,) patient of each row; every row its own unless given.
            seed: decides which study of a patient is drawn.

        Raises:
            ConfigError: alpha outside (0, 1).
            DataError: other labels, what is no probability, unequal lengths.
        """
        if not 0 < alpha < 1:
            raise ConfigError(f"alpha={alpha}: expected a share of sets in (0, 1)")
        kept, labels, chances = probable_rows(y, p)
        pattern = _texts(groups, len(kept), "groups")[kept]
        whose = np.arange(len(kept)).astype(str) if patients is None else patients
        patient = _texts(whose, len(kept), "patients")[kept]
        scores = 1 - _two_columns(chances)
        classes = scores.shape[1]
        true = scores[np.arange(len(labels)), labels.astype(int)]

        def cell(rows: Sets, *place: int) -> Cell:
            rng = np.random.default_rng([seed, *place])
            drawn = np.sort(_one_each(patient[rows], true[rows], rng))
            rank = _rank(len(drawn), alpha)
            return Cell(float(drawn[rank - 1]) if rank <= len(drawn) else math.inf, len(drawn))

        by_group: dict[str, tuple[Cell | None, ...]] = {}
        for index, name in enumerate(np.unique(pattern).tolist()):
            cells = [cell((pattern == name) & (labels == c), c, index + 1) for c in range(classes)]
            by_group[name] = tuple(None if math.isinf(c.quantile) else c for c in cells)
        by_class = tuple(cell(labels == c, c, 0) for c in range(classes))
        return cls(float(alpha), classes, by_class, by_group)

    def sets(self, p: ArrayLike, groups: ArrayLike) -> Sets:
        """The prediction set of every row; what is not one class alone is an abstention.

        A pattern that calibration has not seen takes the quantiles over all patterns. Where
        nothing is said of a row (NaN) no class can be ruled out.

        Args:
            p: (row,) or (row, class) probabilities, as in `fit`.
            groups: (row,) pattern of present views.

        Returns:
            (row, class) True for the classes of the set.

        Raises:
            DataError: other classes than in `fit`, what is no probability, unequal lengths.
        """
        chances = _two_columns(np.asarray(p, np.float64))
        if chances.shape[1:] != (self.classes,):
            raise DataError(
                f"probabilities of shape {np.shape(p)} for sets of {self.classes} classes"
            )
        if (chances < -1e-6).any() or (chances > 1 + 1e-6).any():
            raise DataError("sets were asked for scores that are no probabilities")
        pattern = _texts(groups, len(chances), "groups")
        limits = np.empty_like(chances)
        for name in np.unique(pattern).tolist():
            own = self.by_group.get(name, (None,) * self.classes)
            limits[pattern == name] = [
                (cell or whole).quantile for cell, whole in zip(own, self.by_class, strict=True)
            ]
        silent = np.isnan(chances).any(axis=1, keepdims=True)
        return silent | (1 - np.clip(chances, 0, 1) <= limits)

    @property
    def pooled(self) -> tuple[tuple[str, int], ...]:
        """(pattern, class) where too few patients of the pattern made all patterns stand in."""
        return tuple(
            (name, c)
            for name, cells in self.by_group.items()
            for c, cell in enumerate(cells)
            if cell is None
        )

    @property
    def undecided(self) -> tuple[int, ...]:
        """Classes with too few patients over all patterns: they are in every set."""
        return tuple(c for c, cell in enumerate(self.by_class) if math.isinf(cell.quantile))

    def to_json(self) -> dict[str, Any]:
        """The predictor as plain values; an infinite quantile is None."""
        return {
            "alpha": self.alpha,
            "classes": self.classes,
            "by_class": [_cell_json(cell) for cell in self.by_class],
            "by_group": {
                name: [None if cell is None else _cell_json(cell) for cell in cells]
                for name, cells in self.by_group.items()
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ConformalPredictor:
        """The predictor that `to_json` wrote.

        Raises:
            DataError: the value is none.
        """
        try:
            by_class = tuple(_cell(cell) for cell in value["by_class"])
            by_group = {
                str(name): tuple(None if cell is None else _cell(cell) for cell in cells)
                for name, cells in value["by_group"].items()
            }
            read = cls(float(value["alpha"]), int(value["classes"]), by_class, by_group)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError("stored prediction sets cannot be read") from error
        if {read.classes} != {len(by_class), *map(len, by_group.values())}:
            raise DataError("stored prediction sets cannot be read: classes are missing")
        return read


def abstentions(sets: Sets) -> Sets:
    """(row,) True where a set is not one class alone: empty, or several classes remain."""
    return sets.sum(axis=1) != 1


def covered(sets: Sets, y: ArrayLike) -> Float:
    """(row,) 1 where the set holds the true class, 0 where not, NaN where it is unknown.

    Its mean is the coverage; with `PatientBootstrap.mean` it has an interval.

    Raises:
        DataError: unequal lengths, or labels that are none of the classes.
    """
    labels = np.asarray(y, np.float64)
    known = ~np.isnan(labels)
    if labels.shape != sets.shape[:1] or not np.isin(labels[known], range(sets.shape[1])).all():
        raise DataError(f"labels of shape {labels.shape} for sets of shape {sets.shape}")
    found = np.full(len(labels), np.nan)
    found[known] = sets[known, labels[known].astype(int)]
    return found


def _rank(n: int, alpha: float) -> int:
    """Which of n sorted scores is the quantile; above n where n are too few for the level."""
    # (n + 1)(1 - alpha) that misses a whole number by rounding must not cost a rank.
    return math.ceil((n + 1) * (1 - alpha) - 1e-9)


def _one_each(patient: NDArray[Any], scores: Float, rng: np.random.Generator) -> Float:
    """The score of one row of every patient, whatever the order of the rows."""
    order = np.lexsort((scores, patient))
    _, first, count = np.unique(patient[order], return_index=True, return_counts=True)
    return scores[order][first + rng.integers(0, count)] if len(first) else scores


def _two_columns(chances: Float) -> Float:
    return np.stack([1 - chances, chances], axis=1) if chances.ndim == 1 else chances


def _texts(values: ArrayLike, rows: int, name: str) -> NDArray[Any]:
    texts = np.asarray(values).astype(str)
    if texts.shape != (rows,):
        raise DataError(f"{name} have shape {texts.shape}, expected ({rows},)")
    return texts


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {"quantile": None if math.isinf(cell.quantile) else cell.quantile, "n": cell.n}


def _cell(value: Mapping[str, Any]) -> Cell:
    quantile = value["quantile"]
    return Cell(math.inf if quantile is None else float(quantile), int(value["n"]))
