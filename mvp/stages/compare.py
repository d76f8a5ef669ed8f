"""Compare: learners on subsets of views under protocols, ranked on validation, reported on test.

The test studies are scored once, after the ranking stands, and change nothing in it. Chance favours
the best of many on the rows that it was chosen on, so the winner's figure on validation is too
good; its figure on test is not, because nobody was chosen there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from mvp.config import EvaluateConfig
from mvp.errors import DataError, MvpError
from mvp.stages._candidates import Candidate, Fitting, Frame
from mvp.stages._ranking import (
    CandidateRow,
    GapRow,
    Measuring,
    Said,
    best_of,
    defined_labels,
    ranked,
    summary_rows,
)
from mvp.stages._view_values import GainRow, ViewValueRow, view_values
from mvp.statistics import PatientBootstrap
from mvp.types import FloatArray

log = logging.getLogger("mvp")
# Of fewer in a class a ranking is mostly chance.
FEW = 10


@dataclass(frozen=True, eq=False)
class Comparison:
    """What was compared, and what came out.

    Attributes:
        rows: one for every candidate and label, in the order of the ranking; ablations last.
        gaps: the winner against the runner-up and against every learner's best single view.
        winner: who is best on validation.
        labels: outputs that the mean on validation is over: defined there for every candidate.
        reported: those of them that the mean on test is over: defined there for all, too.
        few: labels with fewer than 10 positives or negatives on validation.
        candidates: how many were fitted; `ranked` of them are no ablation.
        ranked: how many were ranked.
        validation_studies: studies that every protocol may choose on.
        test_studies: test studies; those without any view are in no row but `values`.
        values: Shapley value of every view by label, where asked for.
        gains: what these add up to.
        valued: whose views were valued.
        level: nominal coverage of the intervals.
        draws: resamples of patients.
        notes: what could not be fitted, and why.
    """

    rows: list[CandidateRow]
    gaps: list[GapRow]
    winner: Candidate
    labels: list[str]
    reported: list[str]
    few: list[str]
    candidates: int
    ranked: int
    validation_studies: int
    test_studies: int
    values: list[ViewValueRow]
    gains: list[GainRow]
    valued: Candidate | None
    level: float
    draws: int
    notes: list[str]

    def means(self) -> list[dict[str, Any]]:
        """Of every candidate the mean over labels, as plain dictionaries."""
        return [asdict(row) for row in summary_rows(self.rows)]

    def records(self, what: str) -> list[dict[str, Any]]:
        """The `rows`, `gaps`, `values` or `gains` as plain dictionaries."""
        return [asdict(row) for row in getattr(self, what)]


def compare(
    candidates: Sequence[Candidate],
    fitting: Fitting,
    *,
    settings: EvaluateConfig,
    seed: int,
    values: bool,
    progress: bool = True,
) -> Comparison:
    """Fit every candidate, rank them on validation, and measure them on test.

    Args:
        candidates: who takes part; at least one is no ablation.
        fitting: how they are fitted, and on what.
        settings: resamples and level.
        seed: decides the resamples.
        values: also the Shapley value of every view, by the best candidate of all views.
        progress: show a bar.

    Raises:
        DataError: no candidate could be fitted, or no label can be ranked by.
    """
    honest = [rows for protocol, rows in fitting.rows.items() if _ranks(protocol, candidates)]
    honest += [rows for one, (_, rows) in fitting.given.items() if not one.ablation]
    validation = Frame.of_role(honest[0], "inner")
    for other in honest[1:]:
        validation = validation.among(Frame.of_role(other, "inner"))
    test = Frame.of_role(honest[0], "test")
    if not len(test):
        raise DataError("there is no test study", remedy="look at the split with `mvp check`")
    asking = _Asking(fitting, validation, test)
    for one in tqdm(candidates, desc="compare", unit="candidate", disable=not progress):
        asking.ask(one)
    fitted = len(asking.said)
    able = [one for one in asking.said.values() if not one.candidate.ablation]
    if not able:
        raise asking.failures[0]
    labels = defined_labels(validation, [one.validation for one in able])
    if not labels:
        raise DataError(
            "no label has an AUROC on validation for every candidate, so nothing can be ranked",
            cause=f"{len(validation)} validation studies, with one class of every label among "
            "those that some candidate can score",
            remedy="raise split.inner, or name fewer views with --views",
        )
    order = ranked(validation, able, labels)
    resamples = PatientBootstrap(test.groups, draws=settings.draws, seed=seed, level=settings.level)
    tested = defined_labels(test, [one.test for one in asking.said.values()])
    reported = [name for name in labels if name in tested]
    measuring = Measuring(validation, test, labels, reported, resamples)
    winner = order[0]
    rows = [row for rank, one in enumerate(order, 1) for row in measuring.rows(one, rank)]
    for one in asking.said.values():
        if one.candidate.ablation:
            rows += measuring.rows(one, None)
    rivals = [(one, "runner-up") for one in order[1:2]]
    rivals += [
        (one, f"best single view of {name}")
        for name, one in best_of(order).items()
        if one is not winner
    ]
    held = [one.candidate for one, _ in rivals]
    rivals += [
        (one, "a finished head")
        for one in order[1:]
        if one.candidate in fitting.given and one.candidate not in held
    ]
    gaps = [row for one, why in rivals for row in measuring.gaps(winner, one, why)]
    # Only what can be fitted on subsets of the views.
    most = _most([one for one in candidates if one not in fitting.given])
    full = next(
        (
            one.candidate
            for one in order
            if len(one.candidate.views) == most and one.candidate not in fitting.given
        ),
        None,
    )
    valued: list[ViewValueRow] = []
    gains: list[GainRow] = []
    if values and full is not None:
        try:
            valued, gains = view_values(full, asking.prevalence(full), test, asking.test, resamples)
        except DataError as error:
            asking.notes.append(str(error))
    for note in asking.notes:
        log.warning(note)
    return Comparison(
        rows=rows,
        gaps=gaps,
        winner=winner.candidate,
        labels=labels,
        reported=reported,
        few=[name for name in labels if validation.least(name) < FEW],
        candidates=fitted,
        ranked=len(order),
        validation_studies=len(validation),
        test_studies=len(test),
        values=valued,
        gains=gains,
        valued=full if valued else None,
        level=settings.level,
        draws=settings.draws,
        notes=asking.notes,
    )


class _Asking:
    """Fits candidates, each once, and keeps what they say."""

    def __init__(self, fitting: Fitting, validation: Frame, test: Frame) -> None:
        self._fitting, self._validation, self._test = fitting, validation, test
        self.said: dict[Candidate, Said] = {}
        self.failures: list[MvpError] = []
        self.notes: list[str] = []

    def ask(self, candidate: Candidate) -> Said | None:
        """What a candidate says; None where it cannot be fitted, which is noted."""
        if candidate in self.said:
            return self.said[candidate]
        try:
            ensemble, rows = self._fitting.fit(candidate)
        except MvpError as error:
            self.failures.append(error)
            self.notes.append(f"{candidate.name} could not be fitted: {error}")
            return None
        lost = [name for name in self._test.outputs if name not in ensemble.outputs]
        if lost:
            self.notes.append(
                f"{candidate.name} says nothing of {', '.join(lost)}: fewer than two classes among "
                "its training studies"
            )
        guessed = self._validation.lay(ensemble.ask(rows, "inner"), ensemble.outputs)
        tested = self._test.lay(ensemble.ask(rows, "test"), ensemble.outputs)
        self.said[candidate] = Said(candidate, guessed, tested)
        return self.said[candidate]

    def test(self, candidate: Candidate) -> FloatArray | None:
        """(test study, output) what a candidate says; None where it cannot be fitted."""
        one = self.ask(candidate)
        return None if one is None else one.test

    def prevalence(self, candidate: Candidate) -> FloatArray:
        """(output,) share of positives among the known training labels of its protocol."""
        truth = Frame.of_role(self._fitting.rows[candidate.protocol], "train").truth
        known = ~np.isnan(truth)
        share = np.where(known, truth, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
        return np.asarray(share, np.float32)


def _ranks(protocol: str, candidates: Sequence[Candidate]) -> bool:
    return any(one.protocol == protocol and not one.ablation for one in candidates)


def _most(candidates: Sequence[Candidate]) -> int:
    return max((len(one.views) for one in candidates), default=0)
