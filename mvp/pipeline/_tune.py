"""What `mvp fit-head` does before it fits: choose the learner's options by trials or by a sweep."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mvp.config.stage_two import HeadConfig
from mvp.errors import ConfigError
from mvp.features.block import Aggregate
from mvp.learners.ensemble import HeadRows
from mvp.pipeline.project import Project
from mvp.pipeline.recording import Run
from mvp.pipeline.stage_two import head_rows
from mvp.reports.tables import grid, number, write_csv
from mvp.stages.linear_sweep import MEAN_LABEL, STRENGTHS, Sweep, linear_sweep
from mvp.stages.tune import OBJECTIVE, SEARCH_FOLDS, Search, tune

if TYPE_CHECKING:
    from mvp.pipeline._fit_head import HeadRequest

log = logging.getLogger("mvp")
LINEAR = "logistic"
_LISTED = 8


@dataclass(frozen=True)
class SearchRequest:
    """How options are to be chosen; as it stands here, not at all."""

    trials: int = 0
    timeout: float | None = None
    sweep: bool = False

    @property
    def asked(self) -> bool:
        """Whether anything is to be searched."""
        return bool(self.trials or self.sweep)

    def inputs(self) -> dict[str, Any]:
        """What of it decides a head, by name; nothing where nothing is searched."""
        if self.sweep:
            return {"the search of its options": {"sweep": list(STRENGTHS)}}
        if self.trials:
            asked = {"trials": self.trials, "timeout": self.timeout, "folds": SEARCH_FOLDS}
            return {"the search of its options": asked}
        return {}


NO_SEARCH = SearchRequest()


@dataclass
class Found:
    """The options that came out, what provenance says of them, and what a person should know."""

    options: dict[str, Any]
    record: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


def search_request(
    settings: HeadConfig,
    learner: str,
    options: Mapping[str, Any],
    trials: int | None,
    timeout: float | None,
    sweep: bool | None,
) -> SearchRequest:
    """Fill in from mvp.toml what was not asked for, which is None.

    Args:
        settings: of mvp.toml. Its `sweep` belongs to the learner that it names.
        learner: the one that is fitted.
        options: those that are fixed.
        trials: how many, the defaults counted.
        timeout: in seconds.
        sweep: choose C of `logistic`.

    Raises:
        ConfigError: what was asked for has no meaning together.
    """
    own_sweep = settings.sweep and learner == settings.learner and not trials
    swept = own_sweep if sweep is None else sweep
    own_trials = 0 if swept else settings.trials
    number_of = own_trials if trials is None else trials
    if swept and number_of:
        raise ConfigError(
            "--sweep and --trials are two ways to choose options", remedy="leave one of them out"
        )
    if number_of < 0 or number_of == 1:
        raise ConfigError(
            f"--trials {number_of} searches nothing: the first trial is the learner's defaults",
            remedy="ask for 2 or more, or for 0 to search nothing",
        )
    if timeout is not None and not number_of:
        raise ConfigError(
            "--timeout has no meaning without trials", remedy="say how many at most with --trials"
        )
    if timeout is not None and not timeout > 0:
        raise ConfigError(f"--timeout {timeout:g} leaves no time", remedy="give seconds above 0")
    if swept:
        _require_linear(learner, options)
    limit = settings.timeout if timeout is None and number_of else timeout
    return SearchRequest(number_of, limit, swept)


def _require_linear(learner: str, options: Mapping[str, Any]) -> None:
    if learner != LINEAR:
        raise ConfigError(
            f"a sweep is of logistic regressions, not of {learner!r}",
            remedy=f"add --learner {LINEAR}, or search with --trials",
        )
    if fixed := [name for name in ("C", "class_weight") if options.get(name) is not None]:
        raise ConfigError(
            f"a sweep chooses C for rows of equal weight, and {' and '.join(fixed)} is fixed",
            remedy="leave it out of --set and head.options, or leave --sweep out",
        )


def search_options(
    project: Project, request: HeadRequest, rows: Mapping[str, HeadRows], run: Run
) -> Found:
    """Choose the learner's options as was asked for; the table of what was tried is the run's.

    Args:
        project: the workspace.
        request: for a head, and how its options are chosen.
        rows: for each fold its studies.
        run: whose folder gets `trials.csv` or `sweep.csv`.
    """
    options, asked = request.options, request.search
    if asked.sweep:
        return _swept(project, request, rows, run)
    if not asked.trials:
        return Found(dict(options))
    found = tune(
        request.learner,
        options,
        rows,
        trials=asked.trials,
        timeout=asked.timeout,
        seed=project.config.head.seed,
        tta=project.config.head.tta,
        progress=project.progress,
    )
    path = run.folder / "trials.csv"
    write_csv(path, found.records())
    record = {
        "by": f"optuna {importlib.metadata.version('optuna')}, TPE",
        "asked": {"trials": asked.trials, "timeout": asked.timeout},
        "trials": len(found.trials),
        "failed": sum(one.value is None for one in found.trials),
        "ended_by": found.ended,
        "objective": OBJECTIVE,
        "patient_folds": found.folds,
        "over": found.outputs,
        "left_out": found.left_out,
        "space": {name: dict(spec) for name, spec in found.space.items()},
        "fixed": dict(options),
        "chosen": dict(found.best.chosen),
        "best": found.best.value,
        "default": found.trials[0].value,
        "table": path.relative_to(project.workspace.folder).as_posix(),
    }
    return Found(found.options, record, _trial_notes(found, str(path)))


def _trial_notes(found: Search, path: str) -> list[str]:
    notes = [
        f"{len(found.trials)} trials by {OBJECTIVE} ({found.folds} folds of patients)"
        f"{', ended by the timeout' if found.ended == 'timeout' else ''}; {path}"
    ]
    default = number(found.trials[0].value)
    if found.best.number:
        chosen = ", ".join(f"{name}={value}" for name, value in found.best.chosen.items())
        notes.append(
            f"best: {number(found.best.value)} by {chosen}; the defaults reach {default}. As the "
            f"best of {len(found.trials)} it is too good; what the head is worth, test rows say"
        )
    else:
        notes.append(f"no trial was better than the defaults ({default}): they are kept")
    if found.left_out:
        notes.append(
            f"not searched for, undefined on held-out patients: {', '.join(found.left_out)}"
        )
    if failed := sum(one.value is None for one in found.trials):
        notes.append(f"{failed} trials could not be fitted; why stands in the table")
    return notes


def _swept(project: Project, request: HeadRequest, rows: Mapping[str, HeadRows], run: Run) -> Found:
    settings, views = project.config.head, request.views
    table = next(iter(rows.values())).table
    if settings.tta == "augment" and table.draws > 1:
        raise ConfigError(
            "a sweep fits one row a study, its mean over draws",
            remedy='set head.tta = "mean", or leave --sweep out and search with --trials',
        )
    poolings: dict[str, Mapping[str, HeadRows]] = {settings.instances: rows}
    if any((one.table.instances(v) > 1).any() for one in rows.values() for v in views):
        other: Aggregate = "max" if settings.instances == "mean" else "mean"
        poolings[other] = head_rows(
            project, views, request.protocol, ablation=False, instances=other
        )[0]
    found = linear_sweep(poolings, progress=project.progress)
    strength, value = found.best(views, settings.instances)
    path = run.folder / "sweep.csv"
    write_csv(path, found.records())
    record = {
        "by": "a sweep of logistic regressions",
        "heads": found.heads,
        "passes": found.passes,
        "unconverged": found.unconverged,
        "objective": "mean AUROC over labels on validation",
        "over": found.labels,
        "left_out": found.left_out,
        "chosen": {"C": strength},
        "best": value,
        "table": path.relative_to(project.workspace.folder).as_posix(),
    }
    log.info("sweep: %d heads in %d passes", found.heads, found.passes)
    return Found(
        {**request.options, "C": strength}, record, _sweep_notes(found, strength, value, str(path))
    )


def _sweep_notes(found: Sweep, strength: float, value: float, path: str) -> list[str]:
    means = [row for row in found.rows if row.label == MEAN_LABEL][:_LISTED]
    cells = [[row.views, row.instances, f"{row.C:g}", number(row.auroc)] for row in means]
    notes = [
        f"{found.heads} linear heads in {found.passes} passes over the features; {path}",
        f"the best by mean AUROC on validation over {', '.join(found.labels) or 'no label'}:",
        grid([["views", "instances", "C", "AUROC"], *cells]),
        f"taken: C = {strength:g} ({value:.3f} on validation, where it was chosen)",
    ]
    if found.left_out:
        notes.append(
            "left out of the means, of several classes or undefined for some head: "
            + ", ".join(found.left_out)
        )
    if found.unconverged:
        notes.append(f"{found.unconverged} heads have not converged")
    return notes
