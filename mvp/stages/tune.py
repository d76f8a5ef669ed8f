"""Tune: search a learner's options over patient folds of the rows that heads are fitted on."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from mvp.errors import ConfigError, DataError, MissingExtraError
from mvp.features import FeatureTable
from mvp.files import canonical_json
from mvp.learners.ensemble import HeadRows
from mvp.learners.head import Head, Tta
from mvp.learners.search import Spec, default_point, search_space, with_options
from mvp.stages._search_folds import SearchRows, search_rows
from mvp.statistics import auroc
from mvp.types import one_hot

log = logging.getLogger("mvp")
SEARCH_FOLDS = 3
OBJECTIVE = "mean AUROC over labels on patients held out of the training rows"


@dataclass(frozen=True)
class Trial:
    """Some options, and how good they were.

    Attributes:
        number: in order of trying; 0 is the learner's default.
        chosen: the options searched; empty in trial 0.
        value: mean AUROC over labels; None where they could not be fitted.
        seconds: that it took.
        failed: why they could not be fitted.
    """

    number: int
    chosen: Mapping[str, Any]
    value: float | None
    seconds: float
    failed: str = ""


@dataclass(frozen=True)
class Search:
    """What was tried, and what came out.

    Attributes:
        space: what was searched.
        trials: in order; the first is the default.
        best: the first of the best, the default where nothing was better.
        options: all options of the best: the fixed ones and its own.
        outputs: what the mean AUROC is over.
        left_out: labels and classes that it is not over, undefined in the folds.
        folds: patient folds of each member's training rows.
        ended: by the number of `trials` or the `timeout`.
    """

    space: Mapping[str, Spec]
    trials: list[Trial]
    best: Trial
    options: dict[str, Any]
    outputs: list[str]
    left_out: list[str] = field(default_factory=list)
    folds: int = SEARCH_FOLDS
    ended: str = "trials"

    def records(self) -> list[dict[str, Any]]:
        """A plain dictionary for each trial, a column for each searched option."""
        return [
            {
                "trial": one.number,
                "mean_auroc": one.value,
                "seconds": round(one.seconds, 2),
                "best": one is self.best,
                **{name: one.chosen.get(name, "default") for name in self.space},
                "failed": one.failed,
            }
            for one in self.trials
        ]


def tune(
    learner: str,
    fixed: Mapping[str, Any],
    rows: Mapping[str, HeadRows],
    *,
    trials: int,
    timeout: float | None = None,
    seed: int,
    tta: Tta = "mean",
    folds: int = SEARCH_FOLDS,
    progress: bool = True,
) -> Search:
    """Search a learner's options; the learner's defaults are tried first and must be beaten.

    The training rows of every member are dealt to patient folds. Options are fitted on all folds
    but one and measured on that one, for each of them; where heads stop early, a part of the
    patients fitted on says when. Rows of other roles (`inner`, `calibration`, `test`) take no
    part. What is maximised is the mean AUROC: of a label over the folds in which it is defined,
    then over labels, then over members; which these are is the same for all options. Options are
    proposed by the tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS 24) of Optuna,
    and are the same for all members.

    Args:
        learner: a registered name or a dotted path.
        fixed: options that are not searched.
        rows: for each fold of networks its studies.
        trials: how many options to try, the default counted; 2 or more.
        timeout: seconds after which no further trial begins; the first always runs.
        seed: decides folds, fits and proposals. Without `timeout` the same seed gives the same.
        tta: see `Head.fit`.
        folds: how many, fewer where there are fewer patients.
        progress: show a bar.

    Raises:
        MissingExtraError: Optuna is not installed.
        ConfigError: the learner has no search space, or refuses its defaults.
        DataError: no label can be measured on held-out patients.
    """
    if trials < 2:
        raise ConfigError(
            f"a search of {trials} trials tries the learner's defaults alone",
            remedy="ask for two or more with --trials",
        )
    space = search_space(learner, fixed)
    sampler = _Sampler(space, seed, default_point(learner, space))
    stops = all(one.mask("inner").any() for one in rows.values())
    members, outputs, left_out = search_rows(rows, folds, stops, seed)

    def score(chosen: Mapping[str, Any]) -> float:
        options = with_options(fixed, chosen)
        return float(np.mean([_score(learner, options, m, outputs, seed, tta) for m in members]))

    started = time.monotonic()
    done: list[Trial] = []
    known: dict[str, float | None] = {}
    ended = "trials"
    with tqdm(total=trials, desc=f"tune {learner}", unit="trial", disable=not progress) as bar:
        while len(done) < trials:
            chosen = sampler.ask() if done else {}
            done.append(_tried(len(done), chosen, score, known))
            sampler.tell(done[-1].value)
            bar.update()
            if timeout is not None and time.monotonic() - started >= timeout and len(done) < trials:
                ended = "timeout"
                break
    # Strictly better than all before it: equal options do not replace the default.
    best = max(done, key=lambda one: -np.inf if one.value is None else one.value)
    return Search(
        space,
        done,
        best,
        with_options(fixed, best.chosen),
        outputs,
        left_out,
        len(members[0].parts),
        ended,
    )


def _tried(
    number: int,
    chosen: dict[str, Any],
    score: Any,
    known: dict[str, float | None],
) -> Trial:
    started = time.monotonic()
    name = canonical_json(chosen)
    failed = ""
    if name not in known:
        try:
            known[name] = score(chosen)
        except (ConfigError, DataError) as error:
            if not number:
                raise
            known[name], failed = None, str(error)
            log.warning("trial %d could not be fitted: %s", number, error)
    return Trial(number, chosen, known[name], time.monotonic() - started, failed)


def _score(
    learner: str,
    options: Mapping[str, Any],
    rows: SearchRows,
    outputs: Sequence[str],
    seed: int,
    tta: Tta,
) -> float:
    """The mean over outputs of their mean AUROC over the folds."""
    found: dict[str, list[float]] = {name: [] for name in outputs}
    for part in rows.parts:
        head = Head.fit(
            learner,
            options,
            *_of(rows, part.train),
            validation=_of(rows, part.stop) if len(part.stop) else None,
            seed=seed,
            tta=tta,
        )
        table, labels = _of(rows, part.held)
        said, truth = head.predict(table), one_hot(labels)
        for column, name in enumerate(labels.outputs):
            value = auroc(truth[:, column], said[:, column]) if name in found else None
            if value is not None:
                found[name].append(value)
    return float(np.mean([np.mean(values) for values in found.values()]))


def _of(rows: SearchRows, chosen: Any) -> tuple[FeatureTable, Any]:
    return rows.table.select(chosen), rows.labels.select(chosen)


class _Sampler:
    """Optuna's proposals, in memory: ask, and tell how good they were."""

    def __init__(self, space: Mapping[str, Spec], seed: int, default: dict[str, Any] | None):
        try:
            import optuna
        except ImportError:
            raise MissingExtraError("optuna", "tune", "a search of options (--trials)") from None
        self._optuna = optuna
        self._ranges = {name: _range(optuna, spec) for name, spec in space.items()}
        self._default = default
        self._asked: Any = None
        with self._quiet():
            sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
            self._study = optuna.create_study(direction="maximize", sampler=sampler)

    def ask(self) -> dict[str, Any]:
        """The next options; numbers have four digits, as many as a person would write."""
        with self._quiet():
            self._asked = self._study.ask(self._ranges)
        params = self._asked.params
        return {
            name: float(f"{value:.4g}") if isinstance(value, float) else value
            for name, value in ((name, params[name]) for name in self._ranges)
        }

    def tell(self, value: float | None) -> None:
        """How good the last ones were; before any were asked for, the default."""
        trial = self._optuna.trial
        with self._quiet():
            if self._asked is not None:
                failed = trial.TrialState.FAIL if value is None else None
                self._study.tell(self._asked, value, state=failed)
            elif self._default is not None:
                self._study.add_trial(
                    trial.create_trial(
                        params=self._default, distributions=self._ranges, value=value
                    )
                )

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        logging_of = self._optuna.logging
        level = logging_of.get_verbosity()
        logging_of.set_verbosity(logging_of.ERROR)
        try:
            yield
        finally:
            logging_of.set_verbosity(level)


def _range(optuna: Any, spec: Spec) -> Any:
    kinds = optuna.distributions
    if "choices" in spec:
        return kinds.CategoricalDistribution(tuple(spec["choices"]))
    low, high, by_order = spec["low"], spec["high"], spec.get("log", False)
    whole = isinstance(low, int) and isinstance(high, int)
    kind = kinds.IntDistribution if whole else kinds.FloatDistribution
    return kind(low, high, log=by_order)
