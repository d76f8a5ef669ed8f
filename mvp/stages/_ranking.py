"""Candidates ranked on validation and measured on test: AUROC by label, and its mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mvp.stages._candidates import Candidate, Frame
from mvp.statistics import Interval, PatientBootstrap, auroc
from mvp.types import FloatArray

MEAN_LABEL = "mean over labels"
# A figure, what it is in every resample, and the labels that it rests on.
Found = tuple[float | None, NDArray[np.float64], FloatArray]


@dataclass(frozen=True, eq=False)
class Said:
    """What a candidate says of validation and of test; NaN where it says nothing.

    Attributes:
        candidate: who.
        validation: (study, output) probabilities.
        test: likewise.
    """

    candidate: Candidate
    validation: FloatArray
    test: FloatArray


@dataclass(frozen=True)
class CandidateRow:
    """One candidate on one label, or on the mean over labels.

    Attributes:
        rank: 1 is best on validation; None of an ablation, which is not ranked.
        learner: its name.
        views: joined with `+`.
        protocol: of its heads.
        ablation: whether its networks have seen its training rows.
        label: an output, or the mean over those that count.
        validation: AUROC on validation, which ranked it; None where undefined.
        validation_n: studies that this rests on.
        test: AUROC on test.
        low: of its interval.
        high: of its interval.
        n: test studies that it can score, of which the label is known.
        positives: how many of them are positive; None for the mean.
    """

    rank: int | None
    learner: str
    views: str
    protocol: str
    ablation: bool
    label: str
    validation: float | None
    validation_n: int
    test: float | None
    low: float | None
    high: float | None
    n: int
    positives: int | None


@dataclass(frozen=True)
class GapRow:
    """Test AUROC of the winner minus that of another candidate, paired, where both can score.

    Attributes:
        other: name of the other candidate.
        why: what it is: the runner-up, or a learner's best single view, both on validation.
        label: an output, or the mean over those that count.
        difference: None where undefined.
        low: of its interval.
        high: of its interval.
        n: test studies that both can score, of which the label is known.
    """

    other: str
    why: str
    label: str
    difference: float | None
    low: float | None
    high: float | None
    n: int


def defined_labels(frame: Frame, scores: Sequence[FloatArray]) -> list[str]:
    """Labels whose AUROC is defined for everybody: the others count for nobody.

    Args:
        frame: the studies.
        scores: of every candidate (study, output) probabilities.
    """
    defined = [
        all(auroc(*_known(frame.truth[:, i], one[:, i])) is not None for one in scores)
        for i in range(len(frame.outputs))
    ]
    return [name for name, fine in zip(frame.outputs, defined, strict=True) if fine]


def ranked(frame: Frame, said: Sequence[Said], labels: Sequence[str]) -> list[Said]:
    """The candidates, best mean AUROC on validation first; of equal ones that of fewer views."""
    columns = [frame.outputs.index(name) for name in labels]

    def order(one: Said) -> tuple[float, int]:
        areas = [auroc(*_known(frame.truth[:, i], one.validation[:, i])) or 0.0 for i in columns]
        return -float(np.mean(areas)), len(one.candidate.views)

    return sorted(said, key=order)


class Measuring:
    """Test figures of candidates, all from the same resamples of patients.

    Args:
        validation: the studies that rank.
        test: the studies that are reported on.
        labels: that the mean on validation is over.
        reported: that the mean on test is over.
        resamples: of the test studies.
    """

    def __init__(
        self,
        validation: Frame,
        test: Frame,
        labels: Sequence[str],
        reported: Sequence[str],
        resamples: PatientBootstrap,
    ) -> None:
        self._validation, self._test, self._resamples = validation, test, resamples
        self._labels, self._reported = labels, reported

    def rows(self, said: Said, rank: int | None) -> list[CandidateRow]:
        """One row for every label, the mean first."""
        one = said.candidate
        who = (rank, one.learner, "+".join(one.views), one.protocol, one.ablation)
        found = self._by_label([(said.test, 1.0)])
        guessed = [self._guess(said, i) for i in range(len(self._test.outputs))]
        counted = [guessed[self._test.outputs.index(name)][0] for name in self._labels]
        areas = [area for area in counted if area is not None]
        mean = self._mean(found, [said.test])
        rows = [
            CandidateRow(
                *who,
                MEAN_LABEL,
                float(np.mean(areas)) if areas else None,
                0 if one.ablation else int((~np.isnan(said.validation)).any(axis=1).sum()),
                mean.estimate,
                mean.low,
                mean.high,
                mean.n,
                None,
            )
        ]
        for label, guess in zip(self._test.outputs, guessed, strict=True):
            area = self._resamples.summary(*found[label])
            tested = (area.estimate, area.low, area.high)
            rows.append(CandidateRow(*who, label, *guess, *tested, area.n, area.positives))
        return rows

    def gaps(self, winner: Said, other: Said, why: str) -> list[GapRow]:
        """How far a candidate is behind the winner, the mean over labels first."""
        found = self._by_label([(winner.test, 1.0), (other.test, -1.0)])
        mean = self._mean(found, [winner.test, other.test])
        by_label = {name: self._resamples.summary(*parts) for name, parts in found.items()}
        return [
            GapRow(other.candidate.name, why, label, gap.estimate, gap.low, gap.high, gap.n)
            for label, gap in {MEAN_LABEL: mean, **by_label}.items()
        ]

    def _guess(self, said: Said, column: int) -> tuple[float | None, int]:
        """What ranked a candidate; an ablation has no validation rows that others have."""
        if said.candidate.ablation:
            return None, 0
        y, p = _known(self._validation.truth[:, column], said.validation[:, column])
        return auroc(y, p), len(y)

    def _by_label(self, terms: Sequence[tuple[FloatArray, float]]) -> dict[str, Found]:
        """By label a signed sum of AUROCs, on the studies of which every term says something."""
        found: dict[str, Found] = {}
        for column, label in enumerate(self._test.outputs):
            scores = [one[:, column] for one, _ in terms]
            silent = np.isnan(np.stack(scores)).any(axis=0)
            y = np.where(silent, np.float32(np.nan), self._test.truth[:, column])
            total, drawn = 0.0, np.zeros(self._resamples.draws)
            for p, (_, sign) in zip(scores, terms, strict=True):
                # Where it says nothing the label is unknown, and any score does.
                area, many = self._resamples.values(y, np.nan_to_num(p))
                total += sign * (np.nan if area is None else area)
                drawn += sign * many
            found[label] = (None if np.isnan(total) else total, drawn, y)
        return found

    def _mean(self, found: Mapping[str, Found], scores: Sequence[FloatArray]) -> Interval:
        """The mean over labels, draw by draw."""
        said = np.all([~np.isnan(one).all(axis=1) for one in scores], axis=0)
        rows = np.where(said, 1.0, np.nan)
        parts = [found[label] for label in self._reported]
        values = [estimate for estimate, _, _ in parts if estimate is not None]
        if not parts or len(values) < len(parts):
            return self._resamples.summary(None, np.full(self._resamples.draws, np.nan), rows)
        drawn = np.mean([many for _, many, _ in parts], axis=0)
        return self._resamples.summary(float(np.mean(values)), drawn, rows)


def summary_rows(rows: Sequence[CandidateRow]) -> list[CandidateRow]:
    """Of every candidate the row of the mean over labels."""
    return [row for row in rows if row.label == MEAN_LABEL]


def best_of(said: Sequence[Said]) -> Mapping[str, Said]:
    """For every learner the first candidate of one view, of candidates that are ranked."""
    best: dict[str, Said] = {}
    for one in said:
        if len(one.candidate.views) == 1:
            best.setdefault(one.candidate.learner, one)
    return best


def _known(y: FloatArray, p: FloatArray) -> tuple[FloatArray, FloatArray]:
    rows = ~np.isnan(y) & ~np.isnan(p)
    return y[rows], p[rows]
