"""What every view is worth: exact Shapley values of test AUROC over all subsets of views.

Every subset has heads of its own, fitted on its views alone. All are measured on all test studies:
one that has no view of a subset is scored by the prevalence among the training rows, a constant, so
that such studies tie. The values of a label then add up to what all views reach above chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mvp.errors import DataError
from mvp.stages._candidates import Candidate, Frame, subsets_of
from mvp.statistics import Interval, PatientBootstrap
from mvp.statistics.shapley import shapley_intervals
from mvp.types import FloatArray

CHANCE = 0.5


@dataclass(frozen=True)
class ViewValueRow:
    """What a view adds to the test AUROC of a label, averaged over the orders of all views.

    Attributes:
        label: an output.
        view: its name.
        value: None where AUROC is undefined.
        low: of its interval.
        high: of its interval.
        n: test studies of which the label is known.
        positives: how many of them are positive.
    """

    label: str
    view: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    positives: int


@dataclass(frozen=True)
class GainRow:
    """What the values of a label add up to: test AUROC of all views, minus one half.

    Attributes:
        label: an output.
        auroc: of all views, on all test studies.
        gain: minus one half.
        low: of the gain's interval.
        high: of the gain's interval.
        n: test studies of which the label is known.
    """

    label: str
    auroc: float | None
    gain: float | None
    low: float | None
    high: float | None
    n: int


def view_values(
    full: Candidate,
    prevalence: FloatArray,
    test: Frame,
    ask: Callable[[Candidate], FloatArray | None],
    resamples: PatientBootstrap,
) -> tuple[list[ViewValueRow], list[GainRow]]:
    """The Shapley value of every view for every label, and what they add up to.

    Args:
        full: whose views are valued; candidates of fewer views are the same but for these.
        prevalence: (output,) what a study is scored by that has no view of a subset.
        test: all test studies.
        ask: (study, output) what a candidate says of them, NaN where nothing; None where it
            cannot be fitted.
        resamples: of these studies.

    Raises:
        DataError: a subset cannot be fitted.
    """
    scores = {}
    for views in subsets_of(full.views, lambda size: True):
        said = ask(replace(full, views=views))
        if said is None:
            raise DataError(
                f"the views cannot be valued: {full.learner} cannot be fitted on "
                f"{'+'.join(views)} alone",
                remedy="leave it out with --no-shapley",
            )
        scores[frozenset(views)] = np.where(np.isnan(said), prevalence, said)
    rows, gains = [], []
    for i, label in enumerate(test.outputs):
        y = test.truth[:, i]
        columns = {subset: one[:, i] for subset, one in scores.items()}
        found = shapley_intervals(resamples, y, columns, full.views, nothing=CHANCE)
        rows += [_row(label, view, found[view]) for view in full.views]
        area = resamples.interval(y, columns[frozenset(full.views)])
        low, high = _above(area.low), _above(area.high)
        gains.append(GainRow(label, area.estimate, _above(area.estimate), low, high, area.n))
    return rows, gains


def _row(label: str, view: str, value: Interval) -> ViewValueRow:
    return ViewValueRow(
        label, view, value.estimate, value.low, value.high, value.n, value.positives
    )


def _above(area: float | None) -> float | None:
    return None if area is None else area - CHANCE
