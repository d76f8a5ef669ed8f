"""How good the fusion is by pattern of present views, and what its decisions are worth.

A pattern is the set of views that a study has. A model that is good on average may be no good for
those who lack a view, and a promise that holds on average may be broken for them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mvp.learners.comparison import FUSION, MEAN
from mvp.learners.ensemble import Asked
from mvp.stages._decisions import VIEWS_BY, Decisions, LabelDecision, joined
from mvp.stages._judged import (
    CalibrationRow,
    ConfusionRow,
    DecisionRow,
    Judged,
    PatternRow,
    SetRow,
)
from mvp.stages._resampling import Resampling
from mvp.statistics.conformal import abstentions, covered
from mvp.statistics.curves import binary_confusion, confusion_matrix
from mvp.statistics.ranking import Float
from mvp.statistics.scores import binary_view, log_losses, squared_errors
from mvp.types import EVERY_CLASS, EVERY_PATTERN, BoolArray, FloatArray, one_hot, output_slices

UNCORRECTED = "none"


def judge(
    tested: Asked, decisions: Decisions, calibrated: FloatArray, resampling: Resampling
) -> Judged:
    """Measure what the fusion says of the test studies.

    Args:
        tested: the test studies.
        decisions: of the head.
        calibrated: (study, output) what `decisions` makes of the fusion's probabilities.
        resampling: of the test studies.
    """
    rows = pattern_rows(tested)
    judged = Judged(_rankings(tested, rows, resampling), [], [], [], [])
    places = output_slices([label.target for label in decisions.labels])
    for column, (label, own) in enumerate(zip(decisions.labels, places, strict=True)):
        truth = tested.labels.values[:, column].astype(np.float64)
        raw, said = tested.predicted[FUSION][:, own], calibrated[:, own]
        judged.calibration.extend(_calibration(label, truth, raw, said, rows, resampling))
        if label.threshold is not None and label.threshold.value is not None:
            judged.decisions.extend(_calls(label, truth, said[:, 0], rows, resampling))
        if label.sets is not None:
            judged.sets.extend(_sets(label, truth, raw, tested, rows, resampling))
        if label.target.multiclass:
            judged.confusion.extend(_confusion(label, truth, said))
    return judged


def pattern_rows(tested: Asked) -> dict[str, BoolArray]:
    """(study,) who has a pattern, for all of them together and then by falling number."""
    texts, which = joined(tested.presence, tested.views, VIEWS_BY)
    found = {text: which == number for number, text in enumerate(texts)}
    ordered = sorted(found, key=lambda text: (-int(found[text].sum()), text))
    return {EVERY_PATTERN: np.ones(len(tested), bool), **{text: found[text] for text in ordered}}


def _rankings(
    tested: Asked, rows: Mapping[str, BoolArray], resampling: Resampling
) -> list[PatternRow]:
    found = []
    outputs = list(enumerate(tested.labels.outputs))
    models = [model for model in (MEAN, FUSION) if model in tested.predicted]
    truth = one_hot(tested.labels)
    for (i, output), (pattern, mask) in ((o, p) for o in outputs for p in rows.items()):
        for model in models:
            p = tested.predicted[model][:, i]
            area = resampling.metric(mask & ~np.isnan(p), truth[:, i], p, "auroc")
            found.append(
                PatternRow(
                    output,
                    pattern,
                    model,
                    area,
                    area.n,
                    area.positives,
                    area.negatives,
                    area.patients,
                )
            )
    return found


def _calibration(
    label: LabelDecision,
    truth: Float,
    raw: FloatArray,
    calibrated: FloatArray,
    rows: Mapping[str, BoolArray],
    resampling: Resampling,
) -> list[CalibrationRow]:
    kinds = {UNCORRECTED: raw}
    if label.corrects:
        kinds[label.calibration] = calibrated
    found = []
    for kind, values in kinds.items():
        said = values if label.target.multiclass else values[:, 0]
        squares, losses = squared_errors(truth, said), log_losses(truth, said)
        kept, right, chance = binary_view(truth, said)
        hit, sure = (np.full(len(truth), np.nan) for _ in range(2))
        hit[kept], sure[kept] = right, chance
        # Labels differ in who is known, and resamples are drawn once for every set of rows.
        spoken = ~np.isnan(values).any(axis=1)
        for pattern, mask in rows.items():
            brier = resampling.mean(mask, squares)
            loss = resampling.mean(mask, losses)
            error = resampling.metric(mask & spoken, hit, sure, "ece")
            found.append(
                CalibrationRow(
                    label.target.name, pattern, kind, brier, loss, error, brier.n, brier.patients
                )
            )
    return found


def _calls(
    label: LabelDecision,
    truth: Float,
    said: FloatArray,
    rows: Mapping[str, BoolArray],
    resampling: Resampling,
) -> list[DecisionRow]:
    threshold = label.threshold
    assert threshold is not None and threshold.value is not None
    rule: str = threshold.rule
    if threshold.target is not None:
        rule += f" {threshold.target:g}"
    called = threshold.apply(said)
    # A share is a mean over those whom it is a share of; the others are unknown to it.
    shares = {
        "sensitivity": np.where(truth == 1, called, np.nan),
        "specificity": np.where(truth == 0, 1 - called, np.nan),
        "ppv": np.where(called == 1, truth, np.nan),
        "npv": np.where(called == 0, 1 - truth, np.nan),
    }
    found = []
    for pattern, mask in rows.items():
        counts = binary_confusion(truth[mask], said[mask], threshold.value)
        measured = {name: resampling.mean(mask, values) for name, values in shares.items()}
        known = resampling.mean(mask, np.where(np.isnan(called), np.nan, truth))
        found.append(
            DecisionRow(
                label.target.name,
                pattern,
                rule,
                threshold.value,
                **measured,
                true_positives=counts.true_positives,
                false_positives=counts.false_positives,
                false_negatives=counts.false_negatives,
                true_negatives=counts.true_negatives,
                n=counts.n,
                patients=known.patients,
            )
        )
    return found


def _sets(
    label: LabelDecision,
    truth: Float,
    raw: FloatArray,
    tested: Asked,
    rows: Mapping[str, BoolArray],
    resampling: Resampling,
) -> list[SetRow]:
    assert label.sets is not None
    members = label.in_set(raw, *joined(tested.presence, tested.views, VIEWS_BY))
    right, known = covered(members, truth), ~np.isnan(truth)
    undecided = np.where(known, abstentions(members), np.nan)
    empty = known & ~members.any(axis=1)
    of: dict[str, BoolArray] = {EVERY_CLASS: known}
    of |= {name: truth == number for number, name in enumerate(label.classes)}
    found = []
    for pattern, mask in rows.items():
        for name, own in of.items():
            here = mask & own
            share = resampling.mean(mask, np.where(own, right, np.nan))
            found.append(
                SetRow(
                    label.target.name,
                    pattern,
                    name,
                    1 - label.sets.alpha,
                    share,
                    resampling.mean(mask, np.where(own, undecided, np.nan)),
                    int(empty[here].sum()),
                    share.n,
                    share.patients,
                )
            )
    return found


def _confusion(label: LabelDecision, truth: Float, said: FloatArray) -> list[ConfusionRow]:
    counts = confusion_matrix(truth, said)
    names = label.classes
    return [
        ConfusionRow(label.target.name, names[i], names[j], int(count))
        for (i, j), count in np.ndenumerate(counts)
    ]
