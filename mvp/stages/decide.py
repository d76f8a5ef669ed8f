"""Decide: calibrators, thresholds and prediction sets of fitted heads, on rows kept for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from mvp.config import HeadConfig
from mvp.errors import ConfigError
from mvp.learners.comparison import FUSION
from mvp.learners.ensemble import Asked, Ensemble, HeadRows
from mvp.stages._decisions import VIEWS_BY, Decisions, LabelDecision, joined
from mvp.statistics.calibration import Kind, fit_calibrator
from mvp.statistics.calibrators import Calibrator
from mvp.statistics.conformal import ConformalPredictor
from mvp.statistics.thresholds import choose_threshold
from mvp.types import FloatArray, Target, output_slices


def require_calibration_rows(settings: HeadConfig, there: bool) -> None:
    """Refuse settings that need studies nobody learns from, where there are none.

    Args:
        settings: what is asked for.
        there: whether the split has a calibration part.

    Raises:
        ConfigError: a calibration or prediction sets are asked for, and there are none.
    """
    asked = " and ".join(settings.on_calibration_rows)
    if asked and not there:
        raise ConfigError(
            f"{asked}: there are no patients whom nothing learns from",
            cause="the split has no calibration part",
            remedy="set split.calibration = 0.1 and run `mvp split`",
        )


def decide(ensemble: Ensemble, rows: Mapping[str, HeadRows], settings: HeadConfig) -> Decisions:
    """Fit calibrators and prediction sets on `calibration` rows, choose thresholds on `inner` ones.

    Calibration rows are asked of all members, as any new study is. Of a cross-fitted head a fold's
    inner rows are asked of that fold's own member alone, the only one whose networks do not know
    them. One member is surer of itself than the mean of all, so that a threshold chosen on what it
    says misses its promise on the mean: such a head's thresholds are chosen on calibration rows,
    where there are any. All calibrators leave the order of a binary label's studies as it is, so
    that these rows may do both.

    A label with a class missing among the rows is decided as far as it can be, and says so in its
    notes. Without calibration rows nothing is calibrated.

    Args:
        ensemble: the fitted heads.
        rows: for each fold its studies: roles `calibration` and `inner`.
        settings: which calibration, threshold and share of misses.

    Raises:
        ConfigError: the settings need calibration rows, and there are none.
    """
    kept = ensemble.ask(rows, "calibration")
    require_calibration_rows(settings, len(kept) > 0)
    chosen_on = kept if len(ensemble.folds) > 1 and len(kept) else ensemble.ask(rows, "inner")
    texts, which = joined(kept.presence, ensemble.views, VIEWS_BY)
    patterns = [texts[i] for i in which]
    labels = []
    places = output_slices(ensemble.targets)
    for column, (target, own) in enumerate(zip(ensemble.targets, places, strict=True)):
        truth, chances = kept.labels.values[:, column], _chances(kept, target, own)
        calibrator = _calibrator(settings, target, chances, truth) if len(kept) else None
        label = LabelDecision(target, calibrator)
        threshold = None
        if not target.multiclass:
            said = label.calibrated(chosen_on.predicted[FUSION][:, own])[:, 0]
            threshold = choose_threshold(
                chosen_on.labels.values[:, column], said, settings.threshold, settings.at
            )
        sets = None
        if settings.conformal:
            sets = ConformalPredictor.fit(
                chances,
                truth,
                patterns,
                settings.conformal,
                patients=kept.groups,
                seed=settings.seed % 2**32,
            )
        labels.append(LabelDecision(target, calibrator, threshold, sets))
    return Decisions(ensemble.views, tuple(labels))


def _calibrator(
    settings: HeadConfig, target: Target, chances: FloatArray, truth: FloatArray
) -> Calibrator | None:
    """What was asked for; by default what leaves the ranking of studies, or of classes, as it is.

    A binary label's odds may be off as a whole (weighted classes), which needs an intercept.
    """
    if settings.calibration == "none":
        return None
    usual = "temperature" if target.multiclass else "platt"
    kind = usual if settings.calibration == "auto" else settings.calibration
    return fit_calibrator(cast(Kind, kind), chances, truth)


def _chances(asked: Asked, target: Target, own: slice) -> FloatArray:
    """(study,) of a binary label, (study, class) of one with several."""
    values = asked.predicted[FUSION][:, own]
    return values if target.multiclass else values[:, 0]
