"""Any scikit-learn classifier as a learner: one fit per target on its known rows."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils.validation import has_fit_parameter

from mvp.errors import ConfigError, DataError
from mvp.features.table import FeatureTable
from mvp.files import read_json, write_json
from mvp.learners.base import Validation
from mvp.learners.linear import dump_plain, is_plain, linear_models, load_plain
from mvp.learners.registry import import_dotted
from mvp.learners.safe_skops import dump, load
from mvp.learners.search import SKLEARN_SPACES, Spec
from mvp.learners.standardise import Standardiser
from mvp.types import BoolArray, FloatArray, IntArray, Labels, Target, TextArray, output_slices

_CALIBRATION_FOLDS = 5
# From so many rows on, early_stopping = "auto" of gradient boosting holds rows back.
_AUTO_STOPPING_ROWS = 10_000


class SklearnLearner:
    """Wraps a scikit-learn classifier, given by its dotted path.

    For each target, on the rows where it is known: features are standardised, a missing view is
    set to the mean of its features, one column per view says whether it is there, and the
    classifier is fitted (with `random_state` from the seed, if it has one). Validation rows are
    not used.

    A classifier without `predict_proba` (support vectors, ridge, perceptron) gets its
    probabilities from a sigmoid over its decision function, fitted on decisions about held-out
    patients of the training rows (Platt 1999; `CalibratedClassifierCV(ensemble=False)`).

    Args:
        path: dotted path of the classifier, such as `sklearn.ensemble.RandomForestClassifier`.
        options: its constructor's keywords.
    """

    def __init__(self, path: str, **options: Any) -> None:
        self.path = path
        self.options = options

    @classmethod
    def of(cls, path: str) -> type[SklearnLearner]:
        """The learner class of one classifier, whose constructor takes the classifier's options.

        Raises:
            ConfigError: the path is no scikit-learn classifier, or one that cannot be stored.
        """
        estimator = _classifier_class(path)

        def __init__(self: SklearnLearner, **options: Any) -> None:  # noqa: N807
            SklearnLearner.__init__(self, path, **options)

        signature = inspect.signature(estimator)
        # `load` builds the general class: it takes path and options from the folder.
        members = {"__init__": __init__, "__signature__": signature, "__doc__": cls.__doc__}
        if (space := SKLEARN_SPACES.get(estimator.__name__)) is not None:
            members["search_space"] = space
        return type(f"Sklearn{estimator.__name__}", (SklearnLearner,), members)

    def fit(
        self, table: FeatureTable, labels: Labels, *, validation: Validation | None, seed: int
    ) -> Self:
        """See `Learner.fit`.

        Raises:
            ConfigError: the classifier refuses an option, or splits rows by itself where a study
                has several.
            DataError: too few patients of a class to calibrate a decision function.
        """
        self._targets = labels.targets
        self._scalers, self._models = [], []
        known: BoolArray | None = None
        for column, target in enumerate(labels.targets):
            # Labels that are known in the same rows share their inputs.
            if known is None or not np.array_equal(known, labels.known[:, column]):
                known = labels.known[:, column]
                rows = np.flatnonzero(known)
                own = table if known.all() else table.select(rows)
                scaler = Standardiser.fit(own)
                x = np.empty((0, 0), np.float32)  # so that two of them never stand in memory
                x = _all_inputs(scaler, own)
            y = labels.values[rows, column].astype(np.int64)
            self._scalers.append(scaler)
            self._models.append(self._fit_one(target, x, y, own.groups, seed, table.row_weight))
        self._linear = linear_models(self._scalers, self._models, self._columns())
        return self

    def predict(self, table: FeatureTable) -> FloatArray:
        """(study, output) float32 probabilities; see `Learner.predict`."""
        columns = self._columns()
        views = list(table.signature.slices.values())
        result = np.zeros((len(table), output_slices(self._targets)[-1].stop), np.float32)
        for rows, matrix in table.batches():
            presence = table.presence[rows]
            for models in self._linear:
                models.predict(matrix, presence, views, result[rows])
            if self._linear:
                continue
            for scaler, model, own in zip(self._scalers, self._models, columns, strict=True):
                values = model.predict_proba(_inputs(scaler, matrix, presence))
                result[rows, own] = values if len(own) > 1 else values[:, 1:]
        return result

    def _columns(self) -> list[IntArray]:
        """For each target the outputs of its model's classes; of a binary one, of the second."""
        columns = []
        for target, place, model in zip(
            self._targets, output_slices(self._targets), self._models, strict=True
        ):
            # A class that never occurred in training has no column in the model.
            own = model.classes_ if target.multiclass else [0]
            columns.append(place.start + np.asarray(own, dtype=np.int64))
        return columns

    def save(self, folder: Path) -> None:
        """`model-<i>.npz` or `.skops` and `scaler-<i>.npy` per target, and `sklearn.json`.

        Raises:
            ConfigError: the classifier holds types that cannot be stored without pickle.
        """
        for index, (scaler, model) in enumerate(zip(self._scalers, self._models, strict=True)):
            if is_plain(model):
                dump_plain(model, folder / f"model-{index}.npz")
            else:
                dump(model, folder / f"model-{index}.skops")
            np.save(folder / f"scaler-{index}.npy", np.stack([scaler.mean, scaler.std]))
        targets = [{"name": t.name, "classes": t.classes} for t in self._targets]
        write_json(
            folder / "sklearn.json",
            {"path": self.path, "options": self.options, "targets": targets},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """See `Learner.load`.

        Raises:
            StoreDamagedError: a file holds types that no learner of ours would have stored.
        """
        stored = read_json(folder / "sklearn.json")
        learner = cls.__new__(cls)
        SklearnLearner.__init__(learner, stored["path"], **stored["options"])
        learner._targets = tuple(Target(t["name"], tuple(t["classes"])) for t in stored["targets"])
        learner._scalers, learner._models = [], []
        for index in range(len(learner._targets)):
            mean, std = np.load(folder / f"scaler-{index}.npy", allow_pickle=False)
            learner._scalers.append(Standardiser(mean, std))
            plain = folder / f"model-{index}.npz"
            model = load_plain(plain) if plain.exists() else load(folder / f"model-{index}.skops")
            learner._models.append(model)
        learner._linear = linear_models(learner._scalers, learner._models, learner._columns())
        return learner

    def _fit_one(
        self,
        target: Target,
        x: FloatArray,
        y: Any,
        groups: TextArray,
        seed: int,
        row_weight: float,
    ) -> Any:
        estimator = _classifier_class(self.path)
        options = dict(self.options)
        if "random_state" in inspect.signature(estimator).parameters:
            options.setdefault("random_state", seed % 2**32)
        try:
            model = estimator(**options)
            weights = {}
            if row_weight != 1:
                _require_no_split(self.path, model, len(y))
                if has_fit_parameter(model, "sample_weight"):
                    # Or a penalty would count less the more draws a study has.
                    weights = {"sample_weight": np.full(len(y), row_weight)}
            if not hasattr(model, "predict_proba"):
                model = _calibrated(model, target, y, groups, seed)
            with warnings.catch_warnings():
                # Whether more iterations help is seen on validation rows, not in a warning per
                # label and fold.
                warnings.simplefilter("ignore", ConvergenceWarning)
                return model.fit(x, y, **weights)
        except (ValueError, TypeError) as error:
            said = str(error).strip().splitlines()
            raise ConfigError(
                f"{self.path} cannot be fitted to label {target.name!r} with {self.options}",
                cause=said[0].rstrip(".") if said else None,
                remedy="where an option is at fault, correct it with --set or head.options",
            ) from error


class LogisticLearner(SklearnLearner):
    """Logistic regression with an L2 penalty, per target (multinomial for several classes).

    Args:
        C: inverse strength of the penalty on standardised features.
        max_iter: iterations of L-BFGS, at most.
        class_weight: None, or "balanced", which distorts probabilities: calibrate afterwards.
    """

    search_space: ClassVar[dict[str, Spec]] = SKLEARN_SPACES["LogisticRegression"]

    def __init__(
        self,
        *,
        C: float = 0.01,  # noqa: N803  (the field's name for it)
        max_iter: int = 1000,
        class_weight: str | None = None,
    ) -> None:
        super().__init__(
            "sklearn.linear_model.LogisticRegression",
            C=C,
            max_iter=max_iter,
            class_weight=class_weight,
        )


def is_classifier_class(candidate: object) -> bool:
    """Whether a class is a scikit-learn classifier."""
    if not isinstance(candidate, type):
        return False
    return issubclass(candidate, ClassifierMixin) and issubclass(candidate, BaseEstimator)


def _classifier_class(path: str) -> Any:
    found = import_dotted(path)
    if not is_classifier_class(found):
        raise ConfigError(f"{path} is not a scikit-learn classifier")
    if found.__module__.partition(".")[0] != "sklearn":
        raise ConfigError(
            f"{path} cannot be stored without pickle",
            cause="only classifiers that scikit-learn itself defines are on the list of safe types",
            remedy="write a learner around it: four methods, see mvp.learners.Learner",
        )
    return found


def _require_no_split(path: str, model: Any, rows: int) -> None:
    """Refuse a classifier that deals rows to parts, where the draws of a study are several rows.

    Raises:
        ConfigError: a study would stand on both sides.
    """
    options = model.get_params()
    stops = options.get("early_stopping", False)
    stops = rows > _AUTO_STOPPING_ROWS if stops == "auto" else stops
    patient = "validation_fraction" in options and "early_stopping" not in options
    stops = stops or (patient and options.get("n_iter_no_change") is not None)
    if stops or "cv" in options:
        raise ConfigError(
            f"{path} splits its training rows by itself",
            cause="the draws of a study would stand on both sides",
            remedy='set head.tta = "mean", or take a classifier without early stopping or folds '
            "of its own",
        )


def _all_inputs(scaler: Standardiser, table: FeatureTable) -> FloatArray:
    """`_inputs` of all rows of a table, which never stand in memory beside them."""
    width = sum(table.signature.widths)
    out = np.empty((len(table), width + len(table.views)), np.float32)
    for rows, matrix in table.batches():
        out[rows] = _inputs(scaler, matrix, table.presence[rows])
    return out


def _inputs(scaler: Standardiser, matrix: FloatArray, presence: Any) -> FloatArray:
    """(study, Σ feature + view) float32: standardised features, then presence as 0 or 1."""
    return np.concatenate([scaler.transform(matrix), presence.astype(np.float32)], axis=1)


def _calibrated(model: Any, target: Target, y: Any, groups: TextArray, seed: int) -> Any:
    """The classifier under a sigmoid that is fitted on patients held out in turn."""
    classes = [position for position in range(len(target.classes) or 2) if (y == position).any()]
    patients = min(len(set(groups[y == position].tolist())) for position in classes)
    folds = min(_CALIBRATION_FOLDS, patients)
    if folds < 2:
        raise DataError(
            f"label {target.name!r} has a class in one patient only",
            cause="turning decisions into probabilities needs two patients of every class",
            remedy="use a classifier that has predict_proba, such as logistic",
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    splits = list(splitter.split(y, y, groups.astype(str)))
    return CalibratedClassifierCV(model, method="sigmoid", cv=splits, ensemble=False)
