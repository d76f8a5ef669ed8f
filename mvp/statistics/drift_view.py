"""What is known of one view's features in training, and how far a row lies from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mvp.errors import DataError
from mvp.statistics.ranking import Float
from mvp.statistics.sketch import Sketch

PROJECTIONS = 4
PARTS = 10
FAR = 0.99
# A feature that hardly moved in training would make any change of it endless.
_LEAST_SCALE = 0.01


@dataclass(frozen=True)
class Distribution:
    """Counts of held-out studies in parts that each hold about a tenth of them.

    Attributes:
        cuts: bins of a `Sketch` where a part ends.
        counts: one more than cuts.
    """

    cuts: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ViewReference:
    """What is known of a view's features in training.

    Attributes:
        mean: (feature,) of the training studies.
        scale: (feature,) their standard deviation, not below a hundredth of what is usual.
        rows: training studies that have the view.
        held_out: held-out studies that have it; without any there is no distance to compare with.
        median: of the held-out studies' distances.
        far: their 99th percentile.
        distributions: of the distance, then of each projection.
    """

    mean: Float
    scale: Float
    rows: int
    held_out: int
    median: float | None
    far: float | None
    distributions: tuple[Distribution, ...]

    def measured(self, view: str, block: Float) -> list[Float]:
        """(row,) distances, then (row,) of each projection, of features (row, feature)."""
        standard = (block - self.mean) / self.scale
        signs = _signs(view, len(self.mean))
        distances = np.sqrt(np.einsum("rf,rf->r", standard, standard) / len(self.mean))
        return [distances, *(standard @ signs.T / np.sqrt(len(self.mean))).T]

    def to_json(self) -> dict[str, Any]:
        """The reference as plain values."""
        return {
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "rows": self.rows,
            "held_out": self.held_out,
            "median": self.median,
            "far": self.far,
            "distributions": [
                {"cuts": list(d.cuts), "counts": list(d.counts)} for d in self.distributions
            ],
        }


class Moments:
    """Mean and standard deviation in one pass: parts are joined as Chan et al. (1983) do.

    Args:
        width: number of features.
    """

    def __init__(self, width: int) -> None:
        self.rows = 0
        self.mean, self.squares = np.zeros(width), np.zeros(width)

    def add(self, view: str, part: Float) -> None:
        """Take in some studies (row, feature), of which there is one at least.

        Raises:
            DataError: the width is another one.
        """
        if part.shape[1:] != self.mean.shape:
            raise DataError("features change their width within training", view=view)
        mean = part.mean(axis=0)
        gap, total = mean - self.mean, self.rows + len(part)
        self.squares += ((part - mean) ** 2).sum(axis=0)
        self.squares += gap**2 * (self.rows * len(part) / total)
        self.mean += gap * (len(part) / total)
        self.rows = total

    def reference(self) -> ViewReference:
        """What training was like, without held-out studies."""
        deviation = np.sqrt(self.squares / self.rows)
        usual = float(np.sqrt((deviation**2).mean()))
        # Studies that are all alike (or one alone) have no scale: their deviations count as such.
        scale = np.maximum(deviation, _LEAST_SCALE * usual or 1)
        # Seven digits, as float32 features have: a stored reference equals the one in memory.
        mean, scale = (np.array([float(f"{v:.7g}") for v in a]) for a in (self.mean, scale))
        return ViewReference(mean, scale, self.rows, 0, None, None, ())


def with_held_out(bare: ViewReference, sketches: list[Sketch]) -> ViewReference:
    """The reference with held-out studies.

    Args:
        bare: of the training studies alone.
        sketches: of the held-out studies' distances, then of each projection.
    """
    distance = sketches[0]
    if not distance.n:
        return bare
    distributions = []
    for sketch in sketches:
        cuts = sketch.cuts(PARTS)
        counts = sketch.divided(cuts)
        distributions.append(Distribution(tuple(cuts.tolist()), tuple(counts.tolist())))
    median, far = float(distance.quantiles(0.5)), distance.above(FAR)
    return ViewReference(
        bare.mean, bare.scale, bare.rows, distance.n, median, far, tuple(distributions)
    )


def _signs(view: str, width: int) -> Float:
    """(projection, feature) of 1 and -1, the same for ever: no generator has a say in it."""
    bits = hashlib.shake_128(f"projections of {view}".encode()).digest(PROJECTIONS * width)
    odd = (np.frombuffer(bits, np.uint8) & 1).astype(np.float64)
    return (1 - 2 * odd).reshape(PROJECTIONS, width)


def view_from_json(fields: Mapping[str, Any]) -> ViewReference:
    """The reference whose `to_json` this is.

    Raises:
        KeyError: a field is missing.
        TypeError: a field is of another kind.
        ValueError: fields do not fit each other.
    """
    mean, scale = (np.array(fields[name], np.float64) for name in ("mean", "scale"))
    if mean.shape != scale.shape or mean.ndim != 1 or not (scale > 0).all():
        raise ValueError("mean and scale do not fit each other")
    distributions = tuple(
        Distribution(tuple(map(int, d["cuts"])), tuple(map(int, d["counts"])))
        for d in fields["distributions"]
    )
    median, far = (None if fields[n] is None else float(fields[n]) for n in ("median", "far"))
    return ViewReference(
        mean, scale, int(fields["rows"]), int(fields["held_out"]), median, far, distributions
    )
