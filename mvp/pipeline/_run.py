"""`mvp run`: the whole way, each step only where something changed, and why."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mvp.config.variants import source_network, training_order, with_sources
from mvp.errors import REJECTED_EXIT_CODE
from mvp.pipeline._evaluate import EvaluateOutcome, plan_evaluate, run_evaluate
from mvp.pipeline._extract import plan_extract, run_extract
from mvp.pipeline._finetune import FinetuneOutcome, plan_finetune, run_finetune
from mvp.pipeline._fit_head import HeadRequest, head_request, plan_fit_head, run_fit_head
from mvp.pipeline.decisions import require_calibration
from mvp.pipeline.extraction import ExtractOutcome
from mvp.pipeline.folds import protocol_folds
from mvp.pipeline.imported import require_import
from mvp.pipeline.project import Project
from mvp.pipeline.sharing import all_views
from mvp.pipeline.workspace import FOLD

log = logging.getLogger("mvp")


@dataclass(frozen=True)
class Step:
    """One step: `reason` says why it runs; when it does not, why not."""

    name: str
    runs: bool
    reason: str

    @property
    def text(self) -> str:
        """For a person."""
        return f"{self.name}: {'runs' if self.runs else 'skipped'}, {self.reason}"


@dataclass
class RunOutcome:
    """The steps in order, and the evaluation if one ran."""

    steps: list[Step] = field(default_factory=list)
    dry: bool = False
    evaluation: EvaluateOutcome | None = None
    rejected: int = 0
    reject_tables: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0, or 4 when images were rejected."""
        return REJECTED_EXIT_CODE if self.rejected else 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "dry_run": self.dry,
            "steps": [step.__dict__ for step in self.steps],
            "rejected": self.rejected,
            "reject_tables": self.reject_tables,
            "evaluation": self.evaluation.to_json() if self.evaluation else None,
        }

    @property
    def text(self) -> str:
        """For a person."""
        lines = [step.text for step in self.steps]
        if self.rejected:
            lines.append(f"{self.rejected} images rejected: {', '.join(self.reject_tables)}")
        if self.dry:
            lines.append("dry run: nothing was trained, extracted or dealt")
        if self.evaluation:
            lines += ["", self.evaluation.text]
        return "\n".join(lines)


def run_all(
    workspace: str | Path = ".",
    *,
    learner: str | None = None,
    dry_run: bool = False,
    progress: bool = True,
) -> RunOutcome:
    """Fine-tune, extract, fit the head and evaluate, skipping what is fresh.

    Args:
        workspace: its folder.
        learner: instead of mvp.toml's.
        dry_run: only say what would run and why.
        progress: show bars.
    """
    project = Project(workspace, progress=progress)
    request = head_request(project, learner)
    if dry_run:
        project.deal_for_now()
    require_calibration(project)
    outcome = RunOutcome(dry=dry_run)
    walk = _Walk(project, outcome, dry_run)
    imported = [view for view in request.views if project.config.views[view].imported]
    counts = {view: len(require_import(project, view).rows) for view in imported}
    trained = _finetunes(project, walk, request.views, counts)
    for view in request.views:
        if view in counts:
            walk.skip(f"extract {view}", f"imported, {counts[view]} rows")
            continue
        walk.step(
            f"extract {view}",
            trained.get(view, ()),
            partial(plan_extract, project, view),
            partial(run_extract, workspace, [view], progress=progress),
        )
    head = f"fit-head {request.name}"
    walk.step(
        head,
        tuple(f"extract {view}" for view in request.views),
        partial(plan_fit_head, project, request),
        partial(_fit, workspace, request, progress),
    )
    walk.step(
        "evaluate",
        (head,),
        partial(plan_evaluate, project, request.name),
        partial(run_evaluate, workspace, request.name, progress=progress),
    )
    return outcome


def _finetunes(
    project: Project, walk: _Walk, views: Sequence[str], imported: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """The steps of stage one, in the order in which networks start from one another.

    Returns:
        For each view with a network the name of its step; views that are trained together have
        one step.
    """
    networks = []
    for view in views:
        if view in imported:
            walk.skip(f"finetune {view}", "imported: it has no network")
        elif project.config.views[view].kind == "table":
            walk.skip(f"finetune {view}", "a table view: extraction fits its encoder")
        elif project.config.protocol == "frozen":
            walk.skip(f"finetune {view}", "protocol frozen: its weights are used as they are")
        else:
            networks.append(view)
    settings = all_views(project)
    step: dict[str, tuple[str, ...]] = {}
    for group in training_order(settings, with_sources(settings, networks)):
        name = f"finetune {' + '.join(group)}"
        starts = (source_network(settings[view]) for view in group)
        walk.step(
            name,
            tuple(other for start in starts if start is not None for other in step[start]),
            partial(_why_finetune, project, group[0]),
            partial(run_finetune, project.workspace.folder, group, progress=project.progress),
        )
        step |= dict.fromkeys(group, (name,))
    return step


def _why_finetune(project: Project, view: str) -> str | None:
    """Why a view's network has to be trained, or one of those of its folds."""
    for fold in protocol_folds(project, project.config.protocol):
        if (reason := plan_finetune(project, view, fold)) is not None:
            return reason if fold == FOLD else f"{fold}: {reason}"
    return None


def _fit(workspace: str | Path, request: HeadRequest, progress: bool) -> Any:
    return run_fit_head(
        workspace,
        request.learner,
        request.options,
        views=request.views,
        name=request.name,
        protocol=request.protocol,
        progress=progress,
    )


class _Walk:
    """Decides, step by step, whether it is needed; what comes before it may make it so."""

    def __init__(self, project: Project, outcome: RunOutcome, dry: bool) -> None:
        self.project, self.outcome, self.dry = project, outcome, dry
        self.ran: set[str] = set()

    def skip(self, name: str, reason: str) -> None:
        """Note a step that does not apply."""
        self._note(Step(name, False, reason))

    def step(
        self,
        name: str,
        after: tuple[str, ...],
        plan: Callable[[], str | None],
        act: Callable[[], Any],
    ) -> None:
        """Run a step if its plan gives a reason, or, in a dry run, if one before it would run."""
        upstream = [other for other in after if other in self.ran]
        if upstream and self.dry:
            # What it depends on is not there yet, so nothing can be compared.
            reason: str | None = f"after {', '.join(upstream)}"
        else:
            reason = plan()
        if reason is None:
            self._note(Step(name, False, "nothing it depends on has changed"))
            return
        self._note(Step(name, True, reason))
        self.ran.add(name)
        if self.dry:
            return
        result = act()
        if isinstance(result, FinetuneOutcome | ExtractOutcome) and result.reject_table:
            self.outcome.rejected += len(result.rejects)
            self.outcome.reject_tables.append(result.reject_table)
        if isinstance(result, EvaluateOutcome):
            self.outcome.evaluation = result

    def _note(self, step: Step) -> None:
        self.outcome.steps.append(step)
        if not self.dry:  # There they are the answer, and once is enough.
            log.info(step.text)
