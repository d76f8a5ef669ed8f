"""The contract of a learner: four methods, no base class, numpy is enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Self

from mvp.features.table import FeatureTable
from mvp.types import FloatArray, Labels

Validation = tuple[FeatureTable, Labels]


class Learner(Protocol):
    """Anything that learns labels from the joined features of all views.

    A class fulfils the contract by having these four methods; it need not inherit from
    anything. Its options are keywords of its constructor, which only stores them: a wrong value
    is refused by `fit`. Around it, `Head` checks that the features offered later are those that
    it was fitted on, and that its probabilities have the right shape and range.

    What it is given:

    * `table.matrix()` is (study, Σ feature) float32 with the views side by side; a missing view
      is NaN, and `table.presence` (study, view) says which. A study may lack every view: it
      gets a finite probability like any other (whether to report it is decided above).
    * With `head.tta = "augment"` a study has several rows, its draws, all of one weight:
      `table.row_weight` is what a row counts so that a study counts 1, and `table.groups` keeps
      them together where rows are to be split. Their probabilities are averaged above.
    * `labels.values` is (study, target); NaN is *unknown*, which is never a negative.
      `labels.targets` says which columns are binary and which hold a class index.

    Example: each label's score is how far a study lies along the line between the mean features
    of its negatives and of its positives. (It knows binary targets only, to stay short.)

        class MeansLearner:
            def __init__(self, sharpness: float = 1.0) -> None:
                self.sharpness = sharpness

            def fit(self, table, labels, *, validation, seed):
                x = np.nan_to_num(table.matrix())
                self.low = np.stack([x[y == 0].mean(axis=0) for y in labels.values.T])
                self.high = np.stack([x[y == 1].mean(axis=0) for y in labels.values.T])

            def predict(self, table):
                x = np.nan_to_num(table.matrix())[:, None, :]
                middle, way = (self.high + self.low) / 2, self.high - self.low
                along = ((x - middle) * way).sum(axis=2) / (way**2).sum(axis=1)
                return (1 / (1 + np.exp(-self.sharpness * along))).astype(np.float32)

            def save(self, folder):
                np.save(folder / "means.npy", np.stack([self.low, self.high]))
                (folder / "options.json").write_text(json.dumps({"sharpness": self.sharpness}))

            @classmethod
            def load(cls, folder):
                learner = cls(**json.loads((folder / "options.json").read_text()))
                learner.low, learner.high = np.load(folder / "means.npy", allow_pickle=False)
                return learner

    Name it in the entry-point group `mvp.learners` of your distribution, or use its dotted path
    `package.module.MeansLearner`. Run `mvp.learners.check_learner(MeansLearner)` in your tests.
    """

    def fit(
        self, table: FeatureTable, labels: Labels, *, validation: Validation | None, seed: int
    ) -> object:
        """Learn from these studies; the return value is ignored.

        Args:
            table: features of n studies.
            labels: their labels, (n, target); every target has two classes among the known.
            validation: other patients' studies, for early stopping alone; they may be missing,
                and a label may have one class, or nothing known, among them.
            seed: decides everything that is random. Global random states stay untouched.
        """
        ...

    def predict(self, table: FeatureTable) -> FloatArray:
        """Probabilities, (study, output) float32 in [0, 1], in the order of `labels.outputs`.

        A binary target has one column, a multi-class target one per class, summing to 1. A
        study's row does not depend on the other studies in the table.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write what `load` needs into an existing, empty folder; no pickle."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """A learner whose predictions equal those of the one that was saved."""
        ...


CONTRACT = ("fit", "predict", "save", "load")


def fulfils_contract(candidate: object) -> bool:
    """Whether a class has the four methods (what they do is `check_learner`'s business)."""
    return isinstance(candidate, type) and all(
        callable(getattr(candidate, method, None)) for method in CONTRACT
    )


def stored_options(learner: object) -> dict[str, Any]:
    """A built-in learner's options: what its `__init__` stored under public names."""
    return {name: value for name, value in vars(learner).items() if not name.startswith("_")}
