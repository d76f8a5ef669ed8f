"""Fit stage two: the fusion head, and one head per view for comparison."""

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
from mvp.learners.guards import class_counts
from mvp.learners.head import Head, Tta
from mvp.types import BoolArray, Labels

log = logging.getLogger("mvp")


@dataclass
class FitHeadResult:
    """What was fitted.

    Attributes:
        heads: the fitted family.
        rows: training studies with at least one view.
        inner_rows: studies for early stopping.
        notes: what a user should know, such as a view that could not be fitted alone.
    """

    heads: HeadFamily
    rows: int
    inner_rows: int
    notes: list[str] = field(default_factory=list)


def fit_head(
    learner: str,
    options: Mapping[str, Any],
    table: FeatureTable,
    labels: Labels,
    *,
    train: BoolArray,
    inner: BoolArray,
    seed: int,
    tta: Tta = "mean",
    progress: bool = True,
) -> FitHeadResult:
    """Fit a learner on all views together, and on each view alone.

    Args:
        learner: a registered name or a dotted path.
        options: its options.
        table: features of the studies.
        labels: their labels, same rows.
        train: (study,) True for training rows.
        inner: (study,) True for the rows of early stopping, of other patients.
        seed: decides everything random.
        tta: what the heads are fitted on of a study's draws; see `Head.fit`.
        progress: show a bar.

    Raises:
        DataError: no training study has a view, or a label has one class only.
    """
    views = table.views
    models = [FUSION, *(views if len(views) > 1 else ())]
    result: FitHeadResult | None = None
    bar = tqdm(models, desc=f"fit {learner}", unit="head", disable=not progress)
    for model in bar:
        if result is None:
            head, rows, inner_rows = _fit(learner, options, table, labels, train, inner, seed, tta)
            result = FitHeadResult(HeadFamily(head, {}), rows, inner_rows)
            continue
        own = table.only([model])
        some, note = _with_two_classes(labels, train & own.presence[:, 0])
        if note:
            result.notes.append(f"{model} alone is not fitted for {note}")
            log.warning(result.notes[-1])
        if some.targets:
            result.heads.singles[model] = _fit(
                learner, options, own, some, train, inner, seed, tta
            )[0]
    assert result is not None
    return result


def _fit(
    learner: str,
    options: Mapping[str, Any],
    table: FeatureTable,
    labels: Labels,
    train: BoolArray,
    inner: BoolArray,
    seed: int,
    tta: Tta,
) -> tuple[Head, int, int]:
    seen = table.presence.any(axis=1)
    rows, inner_rows = np.flatnonzero(train & seen), np.flatnonzero(inner & seen)
    if not len(rows):
        raise DataError(
            "no training study has cached features of any of the views",
            view=", ".join(table.views),
            remedy="run `mvp extract`, or look at the split with `mvp check`",
        )
    fitting = table.select(rows)
    validation = None
    if len(inner_rows):
        validation = (table.select(inner_rows), labels.select(inner_rows))
    head = Head.fit(
        learner, options, fitting, labels.select(rows), validation=validation, seed=seed, tta=tta
    )
    return head, len(rows), len(inner_rows)


def _with_two_classes(labels: Labels, rows: BoolArray) -> tuple[Labels, str]:
    """The labels that these rows can teach, and the names of the others."""
    counts = class_counts(labels.select(rows))
    kept = [i for i, c in enumerate(counts) if sum(n > 0 for n in c.values()) > 1]
    lost = [t.name for i, t in enumerate(labels.targets) if i not in kept]
    if not lost:
        return labels, ""
    some = Labels(tuple(labels.targets[i] for i in kept), labels.values[:, kept])
    return some, f"{', '.join(lost)}: fewer than two classes among its {int(rows.sum())} rows"
