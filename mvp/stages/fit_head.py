"""Fit stage two: the fusion head, one head per view for comparison, and the ablation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from mvp.errors import DataError
from mvp.features import FeatureTable
from mvp.learners.comparison import FUSION, HeadFamily
from mvp.learners.ensemble import SAME_ROWS, Ensemble, HeadRows
from mvp.learners.guards import learnable
from mvp.learners.head import Head, Tta
from mvp.types import UNFOLDED, BoolArray, Labels

log = logging.getLogger("mvp")


@dataclass
class FitHeadResult:
    """What was fitted.

    Attributes:
        ensemble: the fitted family, or one for each fold.
        rows: training studies with at least one view.
        inner_rows: studies for early stopping.
        ablation: the fusion fitted on rows that its networks have seen; None where there are none.
        notes: what a user should know, such as a view that could not be fitted alone.
    """

    ensemble: Ensemble
    rows: int
    inner_rows: int
    ablation: Head | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Fitting:
    """How every head of a result is fitted."""

    learner: str
    options: Mapping[str, Any]
    seed: int
    tta: Tta

    def head(self, table: FeatureTable, labels: Labels, validation: Any) -> Head:
        return Head.fit(
            self.learner,
            self.options,
            table,
            labels,
            validation=validation,
            seed=self.seed,
            tta=self.tta,
        )


def fit_head(
    learner: str,
    options: Mapping[str, Any],
    rows: Mapping[str, HeadRows],
    *,
    seed: int,
    tta: Tta = "mean",
    progress: bool = True,
) -> FitHeadResult:
    """Fit a learner on all views together, and on each view alone; with folds, for each of them.

    Args:
        learner: a registered name or a dotted path.
        options: its options.
        rows: for each fold its studies; roles `train` and `inner`, and `same-rows` where the
            ablation is to be fitted.
        seed: decides everything random.
        tta: what the heads are fitted on of a study's draws; see `Head.fit`.
        progress: show a bar.

    Raises:
        DataError: no training study has a view, or a label has one class only.
    """
    fitting = _Fitting(learner, options, seed, tta)
    views = next(iter(rows.values())).table.views
    models = [FUSION, *(views if len(views) > 1 else ())]
    notes: list[str] = []
    members, fitted, inner = {}, 0, 0
    total = len(rows) * len(models) + any(SAME_ROWS in one.roles for one in rows.values())
    with tqdm(total=total, desc=f"fit {learner}", unit="head", disable=not progress) as bar:
        for fold, one in rows.items():
            family = _family(fitting, one, fold, views, notes, bar)
            members[fold] = family
            fitted += int(one.mask("train").sum())
            inner += int(one.mask("inner").sum())
        ablation = _ablation(fitting, rows, notes, bar)
    for note in notes:
        log.warning(note)
    return FitHeadResult(Ensemble(members), fitted, inner, ablation, notes)


def _family(
    fitting: _Fitting,
    rows: HeadRows,
    fold: str,
    views: tuple[str, ...],
    notes: list[str],
    bar: Any,
) -> HeadFamily:
    where = "" if fold == UNFOLDED else f" of {fold}"
    table, labels = rows.of("train")
    if not len(table):
        raise DataError(
            f"no training study{where} has cached features of any of the views",
            view=", ".join(views),
            remedy="run `mvp extract`, or look at the split with `mvp check`",
        )
    try:
        family = HeadFamily(fitting.head(table, labels, _validation(rows)), {})
    except DataError as error:
        if fold != UNFOLDED:
            error.view = ", ".join(filter(None, (error.view, fold)))
        raise
    bar.update()
    for view in views if len(views) > 1 else ():
        own = rows.table.only([view])
        mine = HeadRows(own, rows.labels, rows.roles)
        some, note = _with_two_classes(rows.labels, mine.mask("train"))
        if note:
            notes.append(f"{view} alone{where} is not fitted for {note}")
        if some.targets:
            alone = HeadRows(own, some, rows.roles)
            family.singles[view] = fitting.head(*alone.of("train"), _validation(alone))
        bar.update()
    return family


def _validation(rows: HeadRows, role: str = "inner") -> tuple[FeatureTable, Labels] | None:
    return rows.of(role) if rows.mask(role).any() else None


def _ablation(
    fitting: _Fitting, rows: Mapping[str, HeadRows], notes: list[str], bar: Any
) -> Head | None:
    """The fusion on the rows of its own networks, where a fold has any; it is there to be beaten.

    What hinders it hinders nothing else: it is noted.
    """
    one = rows.get(UNFOLDED)
    if one is None or SAME_ROWS not in one.roles:
        return None
    table, labels = one.of(SAME_ROWS)
    try:
        head = fitting.head(table, labels, _validation(one, f"{SAME_ROWS}-inner"))
    except DataError as error:
        notes.append(f"the same-rows ablation is not fitted: {error.what}")
        return None
    bar.update()
    return head


def _with_two_classes(labels: Labels, rows: BoolArray) -> tuple[Labels, str]:
    """The labels that these rows can teach, and the names of the others."""
    kept = learnable(labels.select(np.flatnonzero(rows)))
    lost = [t.name for i, t in enumerate(labels.targets) if i not in kept]
    if not lost:
        return labels, ""
    why = f"{', '.join(lost)}: fewer than two classes among its {int(rows.sum())} rows"
    return labels.only(kept), why
