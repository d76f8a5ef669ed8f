"""`mvp compare`: learners on subsets of views under protocols, ranked, tested, views valued."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from mvp.errors import ConfigError
from mvp.files import digest_json, write_bytes, write_json
from mvp.learners.registry import make_learner
from mvp.pipeline._fit_head import HeadRequest, head_request
from mvp.pipeline.comparing import CompareOutcome
from mvp.pipeline.finished import finished_heads
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import write_provenance
from mvp.pipeline.recording import recording
from mvp.pipeline.stage_two import head_rows, rows_inputs
from mvp.reports.comparing import draw_candidates
from mvp.reports.tables import write_csv
from mvp.stages._candidates import ABLATION, Candidate, Fitting, subsets_of
from mvp.stages._ranking import MEAN_LABEL
from mvp.stages.compare import FEW, Comparison, compare

log = logging.getLogger("mvp")
LEARNERS = ("mlp", "xgboost", "logistic")
SUBSETS = ("auto", "all", "singles", "full")
# Of more views than these all subsets, and exact values, are made on demand only.
FEW_VIEWS = 5
MOST_VIEWS = 10


def run_compare(
    workspace: str | Path = ".",
    learners: Sequence[str] | None = None,
    *,
    protocols: Sequence[str] | None = None,
    subsets: str = "auto",
    views: Sequence[str] | None = None,
    heads: Sequence[str] | None = None,
    shapley: bool | None = None,
    progress: bool = True,
) -> CompareOutcome:
    """Compare learners on subsets of views under protocols: rank on validation, report on test.

    Args:
        workspace: its folder; features are extracted already.
        learners: names or dotted paths; default: mlp, xgboost, logistic and that of mvp.toml.
        protocols: as of `fit_head`; default: that of mvp.toml. `same-rows` stands beside another
            one, is flagged, and is never ranked.
        subsets: `all` subsets of the views; `singles` and all views together; `full`, all together
            alone; `auto` is `all` of up to five views and else `singles`.
        views: a subset of the configured views.
        heads: names of finished heads that stand beside, as they are; default: that of the joint
            network, where there is one that is up to date.
        shapley: also value every view; default: of up to five views.
        progress: show bars.
    """
    project = Project(workspace, progress=progress)
    names = list(dict.fromkeys(learners or [*LEARNERS, project.config.head.learner]))
    protocols = list(dict.fromkeys(protocols or [project.config.protocol]))
    requests = {
        name: head_request(project, name, None, views, "compare", protocols[0]) for name in names
    }
    for request in requests.values():
        make_learner(request.learner, request.options)
    own = next(iter(requests.values())).views
    asked = [head_request(project, names[0], None, views, "compare", p) for p in protocols]
    if all(request.protocol == ABLATION for request in asked):
        raise ConfigError(
            f"{ABLATION} is an ablation, and nothing is chosen by it",
            remedy=f"name an honest protocol beside it, as --protocols holdout,{ABLATION}",
        )
    chosen, warnings = chosen_subsets(own, subsets)
    valued = values_wanted(own, shapley, warnings)
    if any(request.protocol == ABLATION for request in asked):
        warnings.append(
            f"{ABLATION} is an ablation: the networks have seen the rows of its heads; not ranked"
        )
    with recording(project.workspace, "compare") as run:
        rows = {
            one.protocol: head_rows(project, own, one.protocol, ablation=False) for one in asked
        }
        fitting = Fitting(
            {name: request.options for name, request in requests.items()},
            {protocol: by_fold for protocol, (by_fold, _) in rows.items()},
            project.config.head.seed,
            project.config.head.tta,
            finished_heads(project, heads, own, warnings),
        )
        found = compare(
            [Candidate(n, s, one.protocol) for one in asked for n in names for s in chosen]
            + list(fitting.given),
            fitting,
            settings=project.config.evaluate,
            seed=project.config.seed,
            values=valued,
            progress=project.progress,
        )
        outcome = CompareOutcome(
            found, names, list(fitting.rows), own, str(run.folder), warnings + _said(found)
        )
        _write(project, outcome, asked, requests, run.folder)
    return outcome


def chosen_subsets(views: Sequence[str], which: str) -> tuple[list[tuple[str, ...]], list[str]]:
    """The subsets of the views that are compared, and what a user should know of the choice.

    Args:
        views: in order.
        which: one of `SUBSETS`.

    Raises:
        ConfigError: there is no such choice, or all subsets would be too many.
    """
    if which not in SUBSETS:
        raise ConfigError(
            f"there are no subsets {which!r}", remedy=f"use one of {', '.join(SUBSETS)}"
        )
    count, notes = len(views), []
    if which == "all" and count > MOST_VIEWS:
        raise ConfigError(
            f"all subsets of {count} views are {2**count - 1} candidates for each learner",
            remedy=f"name up to {MOST_VIEWS} views with --views, or take --subsets singles",
        )
    if which == "auto":
        which = "all" if count <= FEW_VIEWS else "singles"
        if which == "singles":
            notes.append(
                f"{count} views: compared each alone and all together; --subsets all takes all "
                f"{2**count - 1} subsets"
            )
    sizes = {"all": range(1, count + 1), "singles": (1, count), "full": (count,)}[which]
    return subsets_of(views, lambda size: size in sizes), notes


def values_wanted(views: Sequence[str], shapley: bool | None, notes: list[str]) -> bool:
    """Whether every view is valued.

    Args:
        views: in order.
        shapley: what was asked for; None for nothing.
        notes: takes what a user should know.

    Raises:
        ConfigError: it was asked for of one view, or of too many.
    """
    count = len(views)
    if shapley and (count < 2 or count > MOST_VIEWS):
        raise ConfigError(
            "one view alone is worth all that it reaches"
            if count < 2
            else f"exact values of {count} views take heads for {2**count - 1} subsets of them",
            remedy="leave --shapley away"
            if count < 2
            else f"name up to {MOST_VIEWS} views with --views",
        )
    if shapley is None and count > FEW_VIEWS:
        notes.append(f"{count} views: they are not valued; --shapley does, by {2**count - 1} heads")
    return 1 < count <= FEW_VIEWS if shapley is None else shapley


def _said(found: Comparison) -> list[str]:
    every = dict.fromkeys(row.label for row in found.rows if row.label != MEAN_LABEL)
    notes = []
    if lost := [label for label in every if label not in found.labels]:
        notes.append(
            f"left out of the ranking for all alike, undefined on validation for some candidate: "
            f"{', '.join(lost)}"
        )
    if found.few:
        notes.append(
            f"fewer than {FEW} positives or negatives on validation: {', '.join(found.few)}; "
            "a ranking by so few is mostly chance"
        )
    if lost := [label for label in found.labels if label not in found.reported]:
        notes.append(f"left out of the mean on test, undefined there: {', '.join(lost)}")
    return notes


def _write(
    project: Project,
    outcome: CompareOutcome,
    asked: Sequence[HeadRequest],
    requests: dict[str, HeadRequest],
    folder: Path,
) -> None:
    found = outcome.comparison
    write_json(folder / "compare.json", outcome.to_json())
    write_csv(folder / "compare.csv", found.records("rows"))
    write_csv(folder / "differences.csv", found.records("gaps"))
    if found.values:
        write_csv(folder / "view-values.csv", found.records("values"))
    write_bytes(folder / "compare.txt", (outcome.text + "\n").encode())
    draw_candidates(folder / "compare.png", found.means(), found.records("values"))
    roles = ["train", "inner", "test"]
    write_provenance(
        folder,
        inputs={
            "the learners": {n: digest_json(dict(r.options)) for n, r in requests.items()},
            "the rows": {
                one.protocol: rows_inputs(project, outcome.views, one.protocol, roles)
                for one in asked
            },
            "the settings": digest_json(project.config.evaluate.model_dump(mode="json")),
        },
        seed=project.config.seed,
        extra={"split": project.split.digest},
    )
    log.info("compare: %d candidates, winner %s", found.candidates, found.winner.name)
