"""Made studies of two views for what is decided about them, through fitted heads."""

import numpy as np

from mvp.config import HeadConfig
from mvp.features import table_from_arrays
from mvp.learners.ensemble import HeadRows
from mvp.stages.decide import decide
from mvp.stages.fit_head import fit_head
from mvp.types import Labels, Target

TARGETS = (Target("finding"), Target("kind", ("a", "b", "c")))
# Features that repeat each other make it much too sure of itself.
SURE = "sklearn.naive_bayes.GaussianNB"
PARTS = {"train": 0.2, "inner": 0.2, "calibration": 0.3, "test": 0.3}


def made_rows(n=1200, seed=0, *, without_lateral=(), targets=TARGETS):
    """Rows of every role; a third of the studies lacks the lateral, which tells more.

    Args:
        n: studies, two of every patient.
        seed: decides them.
        without_lateral: roles whose studies all lack it.
        targets: a part of `TARGETS`.
    """
    rng = np.random.default_rng(seed)
    finding = (rng.random(n) < 0.35).astype(np.float32)
    kind = rng.integers(0, 3, n).astype(np.float32)
    signal = np.stack([finding - 0.35, (kind == 1) - 1 / 3, (kind == 2) - 1 / 3], axis=1)
    frontal, lateral = (
        np.repeat(signal * strength + rng.standard_normal((n, 3)), 6, axis=1)
        + 0.3 * rng.standard_normal((n, 18))
        for strength in (1.0, 1.8)
    )
    patients = np.arange(n) // 2
    edges = np.cumsum(list(PARTS.values()))
    part = np.searchsorted(edges, rng.random(n // 2 + 1), "right")[patients]
    roles = {role: part == i for i, role in enumerate(PARTS)}
    lateral[rng.random(n) < 1 / 3] = np.nan
    for role in without_lateral:
        lateral[roles[role]] = np.nan
    views = {"frontal": frontal.astype(np.float32), "lateral": lateral.astype(np.float32)}
    table = table_from_arrays(
        [f"S{i}" for i in range(n)], views, groups=[f"P{p}" for p in patients]
    )
    chosen = [TARGETS.index(target) for target in targets]
    labels = Labels(targets, np.stack([finding, kind], axis=1)[:, chosen])
    return {"all": HeadRows(table, labels, roles)}


def with_labels(rows, values):
    """The same rows with other labels (study, target)."""
    one = rows["all"]
    return {"all": HeadRows(one.table, Labels(one.labels.targets, values), one.roles)}


def fitted(rows, learner=SURE, **settings):
    """Heads fitted on such rows, and what they decide."""
    ensemble = fit_head(learner, {}, rows, seed=0, progress=False).ensemble
    return ensemble, decide(ensemble, rows, HeadConfig(**settings))
