"""A learner in numpy only, and ways of getting it wrong that are silent elsewhere."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np

from mvp.types import output_slices


class NumpyLearner:
    """Nearest class mean, softmax over negative distances: the contract without a framework."""

    def __init__(self, sharpness: float = 1.0) -> None:
        self.sharpness = sharpness

    def fit(self, table, labels, *, validation, seed):
        x = np.nan_to_num(table.matrix())
        self.slices = output_slices(labels.targets)
        self.means = []
        for target, y in zip(labels.targets, labels.values.T, strict=True):
            classes = range(len(target.classes) or 2)
            self.means.append(np.stack([x[y == c].mean(axis=0) for c in classes]))

    def predict(self, table):
        x = np.nan_to_num(table.matrix())
        result = np.zeros((len(x), self.slices[-1].stop), np.float32)
        for outputs, means in zip(self.slices, self.means, strict=True):
            far = ((x[:, None] - means[None]) ** 2).sum(axis=2) * self.sharpness
            score = np.exp(far.min(axis=1, keepdims=True) - far)
            score /= score.sum(axis=1, keepdims=True)
            result[:, outputs] = score if outputs.stop - outputs.start > 1 else score[:, 1:]
        return result

    def save(self, folder: Path) -> None:
        widths = [s.stop - s.start for s in self.slices]
        (folder / "options.json").write_text(json.dumps([self.sharpness, widths]))
        np.savez(folder / "means.npz", *self.means)

    @classmethod
    def load(cls, folder: Path):
        sharpness, widths = json.loads((folder / "options.json").read_text())
        learner = cls(sharpness)
        edges = np.cumsum([0, *widths])
        pairs = pairwise(edges)
        learner.slices = [slice(int(a), int(b)) for a, b in pairs]
        with np.load(folder / "means.npz", allow_pickle=False) as stored:
            learner.means = [stored[name] for name in stored.files]
        return learner


class BusyConstructor(NumpyLearner):
    def __init__(self, sharpness: float = 1.0) -> None:
        self.sharpness = float(sharpness)


class Unseeded(NumpyLearner):
    def fit(self, table, labels, *, validation, seed):
        super().fit(table, labels, validation=validation, seed=seed)
        noise = np.random.default_rng().normal(size=self.means[0].shape)
        self.means[0] = self.means[0] + noise


class GlobalSeed(NumpyLearner):
    def fit(self, table, labels, *, validation, seed):
        np.random.seed(seed)
        super().fit(table, labels, validation=validation, seed=seed)


class UnknownIsNegative(NumpyLearner):
    """Predicts the prevalence, counted over all rows."""

    def fit(self, table, labels, *, validation, seed):
        super().fit(table, labels, validation=validation, seed=seed)
        self.level = np.float32(np.nan_to_num(labels.values[:, -1]).mean())

    def predict(self, table):
        result = super().predict(table)
        result[:, -1] = self.level
        return result


class SharesALevel(NumpyLearner):
    """Predicts every label's prevalence among the rows, whichever label they are known for."""

    def fit(self, table, labels, *, validation, seed):
        super().fit(table, labels, validation=validation, seed=seed)
        self.level = np.float32(np.nanmean(labels.values == 1))

    def predict(self, table):
        result = super().predict(table)
        result[:, -1] = self.level
        return result


class UnknownIsFirstClass(NumpyLearner):
    """The same of a label with several classes."""

    def fit(self, table, labels, *, validation, seed):
        super().fit(table, labels, validation=validation, seed=seed)
        filled = np.nan_to_num(labels.values[:, 1])
        self.shares = np.array([(filled == c).mean() for c in range(3)], np.float32)

    def predict(self, table):
        result = super().predict(table)
        result[:, 1:4] = self.shares
        return result


class NeedsEveryViewSomewhere(NumpyLearner):
    def predict(self, table):
        result = super().predict(table)
        seen = table.presence.any(axis=0)
        return result * np.nan if seen.any() and not seen.all() and len(result) > 1 else result


class LetsNaNThrough(NumpyLearner):
    def predict(self, table):
        return super().predict(table) + 0 * table.matrix()[:, :1]


class LooksAtItsNeighbours(NumpyLearner):
    def predict(self, table):
        result = super().predict(table)
        result[:, 0] = np.argsort(np.argsort(result[:, 0])) / len(result)
        return result


class WrongShape(NumpyLearner):
    def predict(self, table):
        return super().predict(table)[:, :3]


class Logits(NumpyLearner):
    def predict(self, table):
        return super().predict(table) * 8 - 4


class ClassesApart(NumpyLearner):
    def predict(self, table):
        result = super().predict(table)
        result[:, 1] /= 2
        return result


class Pickles(NumpyLearner):
    def save(self, folder: Path) -> None:
        (folder / "model.bin").write_bytes(pickle.dumps((self.sharpness, self.slices, self.means)))

    @classmethod
    def load(cls, folder: Path):
        learner = cls()
        stored = pickle.loads((folder / "model.bin").read_bytes())
        learner.sharpness, learner.slices, learner.means = stored
        return learner


class ForgetsOptions(NumpyLearner):
    @classmethod
    def load(cls, folder: Path):
        learner = super().load(folder)
        learner.sharpness = 1.0
        return learner


class NeedsValidation(NumpyLearner):
    def fit(self, table, labels, *, validation, seed):
        assert len(validation[0])
        super().fit(table, labels, validation=validation, seed=seed)


class EditsLabels(NumpyLearner):
    def fit(self, table, labels, *, validation, seed):
        super().fit(table, labels, validation=validation, seed=seed)
        np.nan_to_num(labels.values, copy=False)
