"""What a fitted head decides: calibrated probabilities, calls at a threshold, prediction sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mvp.errors import DataError
from mvp.files import digest_json
from mvp.learners.ensemble import Ensemble
from mvp.statistics.calibration import calibrator_from_json
from mvp.statistics.calibrators import Calibrator
from mvp.statistics.conformal import ConformalPredictor
from mvp.statistics.thresholds import Threshold
from mvp.types import BoolArray, FloatArray, IntArray, Target, TextArray, output_slices

RAW, CALL, SET = "_raw", "_call", "_set"
# Between views of a pattern, and between classes of a set.
VIEWS_BY, CLASSES_BY = "+", "|"


@dataclass(frozen=True)
class LabelDecision:
    """What is decided about one label.

    Attributes:
        target: the label.
        calibrator: what corrects its probabilities; None where none was asked for. One that could
            not be fitted changes nothing and has a `reason`.
        threshold: of a binary label, on calibrated probabilities; its `value` is None, with a
            reason, where none could be chosen. None for several classes.
        sets: which classes cannot be ruled out, by raw probabilities; None where not asked for.
    """

    target: Target
    calibrator: Calibrator | None = None
    threshold: Threshold | None = None
    sets: ConformalPredictor | None = None

    @property
    def corrects(self) -> bool:
        """Whether its probabilities are other ones than the heads say."""
        return self.calibrator is not None and self.calibrator.reason is None

    @property
    def calibration(self) -> str:
        """The kind of what corrects its probabilities; "none" where nothing does."""
        if self.calibrator is None or not self.corrects:
            return "none"
        made = self.calibrator.to_json()
        # Several classes against the rest are of one kind.
        return str(made.get("members", [made])[0]["kind"])

    @property
    def calls(self) -> bool:
        """Whether its studies are called something."""
        return self.target.multiclass or (
            self.threshold is not None and self.threshold.value is not None
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of its classes, as sets show them: `0` and `1` of a binary label."""
        return self.target.classes or ("0", "1")

    def calibrated(self, raw: FloatArray) -> FloatArray:
        """(study, own output) float32 probabilities, corrected; NaN stays NaN."""
        if self.calibrator is None or not self.corrects:
            return raw
        if self.target.multiclass:
            return self.calibrator.apply(raw).astype(np.float32)
        return self.calibrator.apply(raw[:, 0]).astype(np.float32)[:, None]

    def in_set(self, raw: FloatArray, patterns: Sequence[str], which: IntArray) -> BoolArray:
        """(study, class) True for the classes of each study's set.

        Args:
            raw: (study, own output) probabilities as the heads say them.
            patterns: the different patterns of present views.
            which: (study,) the number of each study's pattern among them.
        """
        assert self.sets is not None
        members = np.empty((len(raw), self.sets.classes), bool)
        for number, pattern in enumerate(patterns):
            rows = np.flatnonzero(which == number)
            own = raw[rows] if self.target.multiclass else raw[rows, 0]
            members[rows] = self.sets.sets(own, np.broadcast_to(np.str_(pattern), len(rows)))
        return members

    def notes(self) -> list[str]:
        """What a user should know of what could not be decided."""
        name, found = self.target.name, []
        if self.calibrator is not None and self.calibrator.reason is not None:
            found.append(f"{name} is not calibrated: {self.calibrator.reason}")
        if self.threshold is not None and self.threshold.value is None:
            found.append(f"{name} has no threshold: {self.threshold.reason}")
        if self.sets is not None and self.sets.undecided:
            few = ", ".join(self.classes[c] for c in self.sets.undecided)
            found.append(
                f"{name}: too few calibration patients of class {few} to rule it out, so it is in "
                "every prediction set"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """The decision as plain values."""
        return {
            "name": self.target.name,
            "classes": list(self.target.classes),
            "calibration": None if self.calibrator is None else self.calibrator.to_json(),
            "threshold": None if self.threshold is None else self.threshold.to_json(),
            "sets": None if self.sets is None else self.sets.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LabelDecision:
        """The decision that `to_json` wrote."""
        calibration, threshold, sets = (value[k] for k in ("calibration", "threshold", "sets"))
        return cls(
            Target(value["name"], tuple(value["classes"])),
            None if calibration is None else calibrator_from_json(calibration),
            None if threshold is None else Threshold.from_json(threshold),
            None if sets is None else ConformalPredictor.from_json(sets),
        )


@dataclass(frozen=True)
class Decisions:
    """What a head decides about every label; knows neither studies nor patients.

    Attributes:
        views: of the head, in order: what patterns are made of.
        labels: one for each label, in order.
    """

    views: tuple[str, ...]
    labels: tuple[LabelDecision, ...]

    @property
    def digest(self) -> str:
        """Digest of all of it."""
        return digest_json(self.to_json())

    def calibrated(self, raw: FloatArray) -> FloatArray:
        """(study, output) float32: the heads' probabilities, corrected; NaN stays NaN."""
        parts = [label.calibrated(raw[:, places]) for label, places in self._places()]
        return np.concatenate(parts, axis=1)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what `cells` gives."""
        return tuple(name for names in map(_columns, self.labels) for name in names)

    @property
    def texts(self) -> frozenset[str]:
        """Those of the columns that hold texts; calls of binary labels are whole numbers."""
        several = {f"{d.target.name}{CALL}" for d in self.labels if d.target.multiclass}
        return frozenset(several | {f"{d.target.name}{SET}" for d in self.labels if d.sets})

    def cells(
        self, raw: FloatArray, calibrated: FloatArray, presence: BoolArray
    ) -> dict[str, NDArray[Any]]:
        """What stands beside the probabilities in a score table, by `columns`.

        `LABEL_raw` is what the heads say of a label that is corrected, `LABEL_call` 1 at or above
        the threshold and 0 below (of several classes the most probable one's name), `LABEL_set`
        the classes that cannot be ruled out: more than one, or none, is an abstention.

        Args:
            raw: (study, output) probabilities as the heads say them.
            calibrated: what `calibrated` makes of them.
            presence: (study, view).

        Returns:
            (study,) float32, int8, or texts (object).

        Raises:
            DataError: of some study nothing is said, so nothing can be decided.
        """
        if np.isnan(raw).any():
            raise DataError("nothing can be decided of a study without any of the views")
        patterns, which = joined(presence, self.views, VIEWS_BY)
        cells: dict[str, NDArray[Any]] = {}
        for label, places in self._places():
            name, own = label.target.name, calibrated[:, places]
            if label.corrects:
                for i, output in enumerate(label.target.outputs):
                    cells[f"{output}{RAW}"] = raw[:, places.start + i]
            if label.target.multiclass:
                cells[f"{name}{CALL}"] = _texts(label.classes)[own.argmax(axis=1)]
            elif label.threshold is not None and label.threshold.value is not None:
                # Not in float32, which may round the threshold onto the score below it.
                cells[f"{name}{CALL}"] = label.threshold.apply(own[:, 0]).astype(np.int8)
            if label.sets is not None:
                members = label.in_set(raw[:, places], patterns, which)
                different, row = joined(members, label.classes, CLASSES_BY)
                cells[f"{name}{SET}"] = _texts(different)[row]
        return cells

    def notes(self) -> list[str]:
        """What a user should know of what could not be decided."""
        return [note for label in self.labels for note in label.notes()]

    def to_json(self) -> dict[str, Any]:
        """The decisions as plain values."""
        return {"views": list(self.views), "labels": [label.to_json() for label in self.labels]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Decisions:
        """The decisions that `to_json` wrote.

        Raises:
            DataError: the value is none.
        """
        try:
            labels = tuple(LabelDecision.from_json(label) for label in value["labels"])
            return cls(tuple(map(str, value["views"])), labels)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError("stored decisions cannot be read") from error

    def _places(self) -> list[tuple[LabelDecision, slice]]:
        places = output_slices([label.target for label in self.labels])
        return list(zip(self.labels, places, strict=True))


def head_digest(ensemble: Ensemble, decisions: Decisions) -> str:
    """Digest of saved heads with what they decide: what a score table's rows were made by."""
    return digest_json({"heads": ensemble.digest, "decisions": decisions.digest})


def joined(mask: BoolArray, names: Sequence[str], by: str) -> tuple[list[str], IntArray]:
    """For each row the names of what holds, joined.

    Args:
        mask: (row, name).
        names: of its columns.
        by: what stands between two of them.

    Returns:
        The different texts; (row,) the number of each row's text among them.
    """
    first, *others = np.packbits(mask, axis=1).T
    codes: IntArray = first.astype(np.int64)
    for column in others:
        codes = np.unique(codes * 256 + column, return_inverse=True)[1].reshape(-1)
    different = np.flatnonzero(np.bincount(codes)) if len(codes) else codes
    number = np.zeros(different.max(initial=-1) + 1, np.int64)
    number[different] = np.arange(len(different))
    which = number[codes]
    example = np.zeros(len(different), np.int64)
    example[which] = np.arange(len(which))
    texts = [by.join(n for n, holds in zip(names, mask[i], strict=True) if holds) for i in example]
    return texts, which


def _columns(label: LabelDecision) -> list[str]:
    name = label.target.name
    names = [f"{output}{RAW}" for output in label.target.outputs] if label.corrects else []
    if label.calls:
        names.append(f"{name}{CALL}")
    return names if label.sets is None else [*names, f"{name}{SET}"]


def _texts(values: Sequence[str]) -> TextArray:
    return np.array(values, object)
