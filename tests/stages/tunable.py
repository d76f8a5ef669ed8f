"""Learners with one knob, for tests of the search of options, and studies for them."""

import json
from typing import ClassVar

import numpy as np

from mvp.errors import ConfigError
from mvp.features import table_from_arrays
from mvp.learners.ensemble import HeadRows
from mvp.types import Labels, Target

PATH = "tests.stages.tunable."


class Knob:
    """Mixes the telling feature with a misleading one; `clear` 1 is best."""

    search_space: ClassVar = {"clear": {"low": 0.0, "high": 1.0}}
    fits: ClassVar[list] = []
    asked: ClassVar[list] = []

    def __init__(self, clear=0.3, label=""):
        self.clear, self.label = clear, label

    def fit(self, table, labels, *, validation, seed):
        self.outputs = len(labels.outputs)
        stop = [] if validation is None else validation[0].groups.tolist()
        Knob.fits.append((table.groups.tolist(), stop))

    def predict(self, table):
        Knob.asked.append(table.groups.tolist())
        x = np.nan_to_num(table.matrix())
        mixed = self.clear * x[:, 0] - (1 - self.clear) * x[:, 1]
        return np.tile(1 / (1 + np.exp(-mixed))[:, None], (1, self.outputs)).astype(np.float32)

    def save(self, folder):
        (folder / "knob.json").write_text(json.dumps([self.clear, self.outputs]))

    @classmethod
    def load(cls, folder):
        learner = cls()
        learner.clear, learner.outputs = json.loads((folder / "knob.json").read_text())
        return learner


class Perfect(Knob):
    """Its default cannot be beaten."""

    def __init__(self, clear=1.0):
        super().__init__(clear)


class Touchy(Knob):
    """Refuses half of what its space offers."""

    def fit(self, table, labels, *, validation, seed):
        if self.clear > 0.5:
            raise ConfigError(f"clear is {self.clear}, that is too much")
        super().fit(table, labels, validation=validation, seed=seed)


class TouchyByDefault(Touchy):
    """Refuses its own default."""

    def __init__(self, clear=0.9):
        super().__init__(clear)


class Wrong(Knob):
    """A space that cannot be read."""

    search_space: ClassVar = {"clear": {"low": 1.0, "high": 0.0}}


class Asking(Knob):
    """A space that depends on what is fixed."""

    @classmethod
    def search_space(cls, fixed):
        return {"clear": {"choices": [0.9] if fixed.get("label") == "high" else [0.1]}}


def studies(n=240, seed=0, targets=2, patients=80):
    """Two features of one view each, a few studies a patient; the first tells the first label."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (n, targets)).astype(np.float32)
    a = (truth[:, :1] * 1.2 + rng.standard_normal((n, 3))).astype(np.float32)
    b = (truth[:, :1] * 0.8 + rng.standard_normal((n, 2))).astype(np.float32)
    b[rng.random(n) < 0.2] = np.nan
    truth[rng.random(n) < 0.2, 1] = np.nan
    table = table_from_arrays(
        [f"S{i}" for i in range(n)], {"a": a, "b": b}, groups=[f"P{i % patients}" for i in range(n)]
    )
    return table, Labels(tuple(Target(f"l{i}") for i in range(targets)), truth)


def rows_of_roles(table, labels, patients=80):
    """Parts by patient: 60 % train, 15 % inner, 10 % calibration, the rest test."""
    number = np.array([int(str(p)[1:]) for p in table.groups]) / patients
    return HeadRows(
        table,
        labels,
        {
            "train": number < 0.6,
            "inner": (number >= 0.6) & (number < 0.75),
            "calibration": (number >= 0.75) & (number < 0.85),
            "test": number >= 0.85,
        },
    )


def poisoned(rows, roles):
    """The same with other features and turned labels in some roles."""
    hit = np.any([rows.roles[role] for role in roles], axis=0)
    blocks = {v: rows.table.block(v).copy() for v in rows.table.views}
    for values in blocks.values():
        values[hit] = values[hit] * -50 + 7
    truth = rows.labels.values.copy()
    truth[hit] = 1 - truth[hit]
    table = table_from_arrays(
        list(rows.table.studies), blocks, groups=[str(g) for g in rows.table.groups]
    )
    return HeadRows(table, Labels(rows.labels.targets, truth), rows.roles)
