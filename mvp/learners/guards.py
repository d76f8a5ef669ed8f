"""Checks of what goes into a learner and what comes out, the same for every learner."""

from __future__ import annotations

import numpy as np

from mvp.errors import ConfigError, DataError
from mvp.features.table import FeatureTable
from mvp.types import FloatArray, Labels, Target, output_slices

_ROUNDING = 1e-5
_SUM_ROUNDING = 1e-3


def class_counts(labels: Labels) -> list[dict[str, int]]:
    """For each target, how many known rows each class has (`0` and `1` for a binary one)."""
    return [
        {
            name: int((labels.values[:, column] == position).sum())
            for position, name in enumerate(target.classes or ("0", "1"))
        }
        for column, target in enumerate(labels.targets)
    ]


def learnable(labels: Labels) -> list[int]:
    """Numbers of the targets of which two classes at least are known."""
    return [i for i, c in enumerate(class_counts(labels)) if sum(n > 0 for n in c.values()) > 1]


def require_two_classes(labels: Labels) -> None:
    """Refuse labels that cannot be learned.

    Raises:
        DataError: there is no label, a value is none of the target's classes, or a target has
            fewer than two classes among its known rows.
    """
    if not labels.targets:
        raise DataError("there is no label to learn", remedy="name one under [labels] in mvp.toml")
    for column, target in enumerate(labels.targets):
        values = labels.values[:, column]
        allowed = np.arange(len(target.classes) or 2)
        strange = values[~np.isnan(values) & ~np.isin(values, allowed)]
        if len(strange):
            raise DataError(
                f"label {target.name!r} has the value {strange[0]:g}, which is none of its classes",
                cause=f"expected 0 to {len(allowed) - 1}, or NaN for unknown",
            )
    for column, (target, counts) in enumerate(
        zip(labels.targets, class_counts(labels), strict=True)
    ):
        if sum(count > 0 for count in counts.values()) < 2:
            unknown = int(np.isnan(labels.values[:, column]).sum())
            found = ", ".join(f"{count} of class {name}" for name, count in counts.items())
            raise DataError(
                f"label {target.name!r} has fewer than two classes among the training rows",
                cause=f"{found}, {unknown} unknown",
                remedy="leave the label out, or add studies of the missing class to the training "
                "split",
            )


def require_matching(
    table: FeatureTable, labels: Labels, validation: tuple[FeatureTable, Labels] | None
) -> None:
    """Refuse training and validation data that do not belong together.

    Raises:
        DataError: rows and labels differ in number, validation has other features or targets,
            or a patient stands on both sides.
    """
    if len(table) != len(labels):
        raise DataError(f"{len(table)} studies, but labels of {len(labels)}")
    if validation is None:
        return
    other, other_labels = validation
    if len(other) != len(other_labels):
        raise DataError(f"validation has {len(other)} studies, but labels of {len(other_labels)}")
    if other.signature != table.signature:
        raise DataError("training and validation studies have features of other views or keys")
    if other_labels.targets != labels.targets:
        raise DataError("training and validation labels have other targets, or another order")
    shared = set(table.groups.tolist()) & set(other.groups.tolist())
    if shared:
        raise DataError(
            f"{len(shared)} patient(s) stand in both training and validation",
            cause="early stopping on patients of the training rows rewards over-fitting",
            remedy="give both sides other patients",
        )


def checked_probabilities(
    values: FloatArray, rows: int, targets: tuple[Target, ...], learner: str
) -> FloatArray:
    """The learner's probabilities as (study, output) float32, if that is what they are.

    Raises:
        ConfigError: wrong shape, not finite, outside [0, 1], or classes that do not sum to 1.
    """
    values = np.asarray(values)
    slices = output_slices(targets)
    expected = (rows, slices[-1].stop if slices else 0)
    wrong = None
    if values.shape != expected:
        wrong = f"shape {values.shape}, expected {expected}"
    elif not np.isfinite(values).all():
        wrong = f"{int((~np.isfinite(values)).sum())} values that are not finite"
    elif values.size and (values.min() < -_ROUNDING or values.max() > 1 + _ROUNDING):
        wrong = f"values from {values.min():g} to {values.max():g}, outside [0, 1]"
    else:
        for target, columns in zip(targets, slices, strict=True):
            off = np.abs(values[:, columns].sum(axis=1) - 1)
            if target.multiclass and rows and off.max() > _SUM_ROUNDING:
                wrong = f"class probabilities of {target.name!r} that do not sum to 1"
    if wrong:
        raise ConfigError(
            f"the learner {learner!r} gave {wrong}",
            remedy="report it to the learner's author; mvp.learners.check_learner shows it",
        )
    return np.clip(values, 0, 1).astype(np.float32)
