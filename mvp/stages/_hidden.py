"""Studies of which a head can be asked with some of their views hidden."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mvp.features.hiding import hide
from mvp.learners.ensemble import Ensemble, HeadRows
from mvp.stages._candidates import Frame
from mvp.types import BoolArray, FloatArray

# Whom no learner was fitted on; those of `inner` were stopped early by.
HELD_OUT = ("inner", "calibration")


@dataclass(frozen=True, eq=False)
class Reference:
    """Studies of which the head can be asked with views hidden.

    Attributes:
        presence: (study, view) which views they have.
        held_out: (study,) True where the head was not fitted on it.
        ask: (study, output) probabilities with these views alone shown, NaN where a study has not
            all of them; views by number.
    """

    presence: BoolArray
    held_out: BoolArray
    ask: Callable[[tuple[int, ...]], FloatArray]


def reference_of(
    ensemble: Ensemble,
    rows: Mapping[str, HeadRows],
    corrected: Callable[[FloatArray], FloatArray],
) -> Reference:
    """The studies that a head was chosen, calibrated and fitted on, to be asked about again.

    Args:
        ensemble: the heads.
        rows: for each fold its studies: roles `inner`, `calibration` and `train`.
        corrected: what becomes of probabilities, NaN of NaN.
    """
    roles = [r for r in (*HELD_OUT, "train") if all(r in one.roles for one in rows.values())]
    views = ensemble.views
    alike = {f: HeadRows(one.table.only(views), one.labels, one.roles) for f, one in rows.items()}
    frames = {role: Frame.of_role(alike, role) for role in roles}
    presence = np.concatenate([frame.presence for frame in frames.values()])
    kept: dict[tuple[int, ...], FloatArray] = {}

    def ask(shown: tuple[int, ...]) -> FloatArray:
        if shown not in kept:
            hidden = [view for i, view in enumerate(views) if i not in shown]
            some = {
                fold: HeadRows(hide(one.table, hidden), one.labels, one.roles)
                for fold, one in alike.items()
            }
            parts = [
                frame.lay(ensemble.ask(some, r), ensemble.outputs) for r, frame in frames.items()
            ]
            said = corrected(np.concatenate(parts))
            said[~presence[:, list(shown)].all(axis=1)] = np.nan
            kept[shown] = said
        return kept[shown]

    held_out = [np.full(len(frame), role in HELD_OUT) for role, frame in frames.items()]
    return Reference(presence, np.concatenate(held_out), ask)
