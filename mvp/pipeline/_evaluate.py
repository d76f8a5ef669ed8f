"""`mvp evaluate`: measure a head on the test studies and write the report."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvp.files import digest_json
from mvp.pipeline._evaluation_files import write_evaluation
from mvp.pipeline.decisions import warn_of_other_decisions
from mvp.pipeline.finished import measurable
from mvp.pipeline.heads import (
    SavedHead,
    load_head,
)
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import (
    changed_inputs,
    read_provenance,
    write_provenance,
)
from mvp.pipeline.recording import recording
from mvp.pipeline.stage_two import rows_inputs
from mvp.reports import accuracy_text, comparison_text, decisions_text, optimism_text
from mvp.stages.evaluate import Evaluation, evaluate

log = logging.getLogger("mvp")
_VERSION = 4  # of what an evaluation states: by pattern of views, and what is decided, too


@dataclass
class EvaluateOutcome:
    """The measured rows and where the report lies."""

    head: str
    learner: str
    protocol: str
    evaluation: Evaluation
    folder: str
    warnings: list[str]
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "head": self.head,
            "learner": self.learner,
            "protocol": self.protocol,
            "labels": [target.name for target in self.evaluation.labels.targets],
            "views": list(self.evaluation.decisions.views),
            "studies": self.evaluation.studies,
            "without_views": self.evaluation.without_views,
            "level": self.evaluation.level,
            "draws": self.evaluation.draws,
            "rows": self.evaluation.records(),
            "means": self.evaluation.mean_records(),
            "differences": self.evaluation.difference_records(),
            "accuracy": self.evaluation.accuracy_records(),
            "accuracy_differences": self.evaluation.accuracy_difference_records(),
            "optimism": self.evaluation.optimism_records(),
            **self.evaluation.judged.records(),
            "warnings": self.warnings,
            "folder": self.folder,
        }

    @property
    def text(self) -> str:
        """For a person: the comparison table."""
        title = (
            f"Test AUROC of head {self.head} ({self.learner}, protocol {self.protocol}), "
            f"{self.evaluation.studies} studies, {self.evaluation.level:.0%} intervals from "
            f"{self.evaluation.draws} resamples of patients"
        )
        table = comparison_text(self.evaluation.records(), self.evaluation.difference_records())
        page = str(Path(self.folder) / "report.html")
        optimism = optimism_text(self.evaluation.optimism_records(), self.protocol)
        gap = ["Optimism gap of the fusion, by AUROC", "", optimism, ""]
        decided = decisions_text(self.evaluation.judged.records())
        calls = ["The fusion's calls and probabilities on test, thresholds from other studies", ""]
        calls += [decided, ""]
        lines = [*self._means(), *self._accuracy(), *calls, *gap, *self.warnings]
        return "\n".join([title, "", table, "", *lines, f"report: {page}"])

    def _accuracy(self) -> list[str]:
        rows = self.evaluation.accuracy_records()
        if not rows:
            return []
        table = accuracy_text(rows, self.evaluation.accuracy_difference_records())
        return ["Accuracy of the most probable class, same studies and intervals", "", table, ""]

    def _means(self) -> list[str]:
        means = [row for row in self.evaluation.mean_records() if row["auroc"] is not None]
        if not means or max(row["labels"] for row in means) < 2:
            return []
        # A model that cannot be measured on every label is not to be read beside the others.
        said = (f"{row['model']} {row['auroc']:.3f} ({row['labels']})" for row in means)
        return [f"mean AUROC (labels): {', '.join(said)}", ""]


def run_evaluate(
    workspace: str | Path = ".", head: str | None = None, *, progress: bool = True
) -> EvaluateOutcome:
    """Measure each single view, the mean of their opinions and the fusion on the test studies.

    Args:
        workspace: its folder.
        head: the head's name; default: the one of mvp.toml's learner, or the only one.
        progress: show bars.
    """
    project = Project(workspace, progress=progress)
    with recording(project.workspace, "evaluate") as run:
        saved = load_head(project, head)
        warn_of_other_decisions(project.config.head, saved.name, saved.provenance)
        protocol = saved.provenance["protocol"]
        rows, _ = measurable(project, saved)
        result = evaluate(
            saved.ensemble,
            rows,
            settings=project.config.evaluate,
            seed=project.config.seed,
            ablation=saved.ablation,
            decisions=saved.decisions,
        )
        outcome = EvaluateOutcome(
            saved.name,
            saved.provenance["learner"],
            protocol,
            result,
            str(run.folder),
            _warnings(project, saved, result),
        )
        _write(project, saved, outcome, run.folder)
    return outcome


def _warnings(project: Project, saved: SavedHead, result: Evaluation) -> list[str]:
    warnings = []
    if saved.provenance["protocol"] == "same-rows":
        warnings.append("same-rows ablation: the head was fitted on rows that its networks saw")
    warnings += result.decisions.notes()
    if result.without_views:
        warnings.append(
            f"{result.without_views} test studies have no readable view and are in no row"
        )
    undefined = sorted({r.label for r in result.metrics if r.auroc is None})
    for label in undefined:
        rows = [r for r in result.metrics if r.label == label and r.auroc is None]
        models = ", ".join(f"{r.model} ({r.positives} of {r.n} positive)" for r in rows)
        warnings.append(f"{label}: AUROC undefined, a class is missing among the rows of {models}")
    few = sorted({r.label for r in result.metrics if r.n and min(r.positives, r.negatives) < 10})
    if few:
        warnings.append(
            f"fewer than 10 positives or negatives in the test: {', '.join(few)}; "
            "read these numbers as anecdotes"
        )
    return warnings


def _write(project: Project, saved: SavedHead, outcome: EvaluateOutcome, folder: Path) -> None:
    result = outcome.evaluation
    write_evaluation(folder, result, outcome.to_json(), saved.provenance)
    write_provenance(
        folder,
        inputs=evaluation_inputs(project, saved),
        seed=project.config.seed,
        extra={"head": saved.name, "split": project.split.digest},
    )
    log.info("evaluate %s: %d test studies, report %s", saved.name, result.studies, folder)


def evaluation_inputs(project: Project, saved: SavedHead) -> dict[str, Any]:
    """What decides an evaluation, by name."""
    return {
        "what an evaluation states": _VERSION,
        "the head": saved.digest,
        # Neither is part of the head's digest, and both decide what is measured.
        "the ablation": None if saved.ablation is None else saved.ablation.digest,
        "the reading of several images or of texts": saved.provenance["reading"],
        **rows_inputs(
            project,
            saved.ensemble.views,
            saved.provenance["protocol"],
            ["train", "inner", "calibration", "test"],
            saved.on_joint,
        ),
        "the settings": digest_json(project.config.evaluate.model_dump(mode="json")),
        "the seed": project.config.seed,
    }


def plan_evaluate(project: Project, name: str) -> str | None:
    """Why `run` would evaluate a head; None when its newest evaluation is fresh."""
    saved = load_head(project, name)
    inputs = evaluation_inputs(project, saved)
    for folder in project.workspace.evaluations():
        made = read_provenance(folder)
        if made is not None and made.get("head") == name:
            changed = changed_inputs(folder, inputs) or []
            return f"changed since the last one: {', '.join(changed)}" if changed else None
    return "not evaluated yet"
