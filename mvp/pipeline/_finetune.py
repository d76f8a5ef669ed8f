"""`mvp finetune`: train each view's network."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mvp.config import ResolvedView
from mvp.errors import REJECTED_EXIT_CODE, MvpError
from mvp.files import digest_json, read_json, write_json
from mvp.networks import Capture, inference
from mvp.pipeline.networks import initial_network, network_inputs, view_inputs
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import changed_inputs, write_provenance
from mvp.pipeline.recording import Reject, Run, recording
from mvp.pipeline.tables import labels_digest
from mvp.pipeline.training_rows import TrainingRows, training_inputs, training_rows
from mvp.stages.finetune import FinetuneResult, finetune

log = logging.getLogger("mvp")


@dataclass
class FinetuneOutcome:
    """What was trained.

    Attributes:
        views: for each view its result, or None where the network was fresh or stays frozen.
        reasons: for each view why it was trained or not.
        folders: where the networks lie.
        rejects: images that could not be used.
        reject_table: where they are listed.
    """

    views: dict[str, FinetuneResult | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    reject_table: str | None = None

    @property
    def exit_code(self) -> int:
        """0, or 4 when images were rejected."""
        return REJECTED_EXIT_CODE if self.rejects else 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            "views": {
                view: {"reason": self.reasons[view], **(asdict(result) if result else {})}
                for view, result in self.views.items()
            },
            "rejected": len(self.rejects),
            "reject_table": self.reject_table,
        }

    @property
    def text(self) -> str:
        """For a person."""
        lines = []
        for view, result in self.views.items():
            if result is None:
                lines.append(f"{view}: {self.reasons[view]}")
                continue
            area = "undefined" if result.best_auroc is None else f"{result.best_auroc:.3f}"
            lines.append(
                f"{view}: {result.epochs_run} epochs in {result.seconds:.0f} s, best epoch "
                f"{result.best_epoch} (inner AUROC {area}); {self.folders[view]}"
            )
        if self.rejects:
            lines.append(f"{len(self.rejects)} images rejected: {self.reject_table}")
        return "\n".join(lines)


def run_finetune(
    workspace: str | Path = ".",
    views: Sequence[str] | None = None,
    *,
    force: bool = False,
    progress: bool = True,
) -> FinetuneOutcome:
    """Train the networks of some views (default: all), each on its own.

    A network whose data and settings have not changed is left as it is. An interrupted training
    goes on where it was.

    Args:
        workspace: its folder.
        views: names of views.
        force: train fresh networks too.
        progress: show bars.
    """
    project = Project(workspace, progress=progress)
    names = project.config.require_views(list(views) if views else None)
    outcome = FinetuneOutcome()
    with recording(project.workspace, "finetune") as run:
        for name in names:
            _one(project, name, outcome, force)
        _list_rejects(run, outcome)
    return outcome


def _list_rejects(run: Run, outcome: FinetuneOutcome) -> None:
    if outcome.rejects:
        outcome.reject_table = str(run.write_rejects(outcome.rejects))


def _one(project: Project, name: str, outcome: FinetuneOutcome, force: bool) -> None:
    view = project.view(name)
    outcome.views[name] = None
    outcome.folders[name] = str(project.workspace.stage1(name))
    if view.imported or view.kind == "table":
        why = "imported: it has no network"
        outcome.reasons[name] = why if view.imported else "a table: extraction fits its encoder"
        return
    if project.config.protocol == "frozen":
        outcome.reasons[name] = "frozen: its weights are used as they are"
        return
    rows = training_rows(project, view)
    outcome.rejects += rows.rejects
    inputs = finetune_inputs(project, view, rows)
    reason = why_finetune(project, name, inputs)
    if reason is None and not force:
        outcome.reasons[name] = "fresh: data and settings are those it was trained with"
        return
    outcome.reasons[name] = reason or "asked for with --force"
    log.info("finetune %s: %s", name, outcome.reasons[name])
    _require_features(project, view, len(rows.labels.outputs))
    if rows.volumes:
        _say_other_reduction(project, view)
    folder = project.workspace.stage1(name)
    # Without it an interrupted new training would pass for the old, finished one.
    project.workspace.provenance(folder).unlink(missing_ok=True)
    _forget_other_checkpoints(project, name, inputs)
    result = finetune(
        view,
        training_inputs(project, view, rows),
        rows.labels,
        train=rows.train,
        inner=rows.inner,
        folder=folder,
        seed=project.config.seed,
        device=project.device,
        progress=project.progress,
    )
    used = np.concatenate([rows.train, rows.inner])
    write_provenance(
        folder,
        inputs=inputs,
        seed=project.config.seed,
        workspace=project.workspace,
        patients=(rows.patients[i] for i in used),
        studies=(rows.studies[i] for i in used),
        extra={"result": asdict(result), "view": project.config.view(name).model_dump(mode="json")},
    )
    outcome.views[name] = result


def _require_features(project: Project, view: ResolvedView, outputs: int) -> None:
    """Refuse a layer or pooling that extraction cannot take, before hours of training."""
    import torch

    plain = view.network.model_copy(update={"weights": "none"})
    network = initial_network(project, view.model_copy(update={"network": plain}), outputs)
    inputs = view_inputs(project, project.manifest, view)
    batch = inputs.preparation.finish(torch.stack(inputs.synthetic()[:1]))
    try:
        with Capture(network, plain.layer, plain.pooling) as capture, inference(network):
            capture(batch)
    except MvpError as error:
        error.view = view.name
        raise


def _say_other_reduction(project: Project, view: ResolvedView) -> None:
    """Heads that see slices reduced otherwise than the network was trained: allowed, but told."""
    setting, how = "extract.instances", project.config.extract.instances
    if how == "keep":
        setting, how = "head.instances", project.config.head.instances
    if how != view.training.slices:
        log.warning(
            'view %s: training.slices = "%s", but heads see slices by %s = "%s"',
            view.name,
            view.training.slices,
            setting,
            how,
        )


def _forget_other_checkpoints(project: Project, name: str, inputs: dict[str, Any]) -> None:
    """A checkpoint goes on only with the very images it was begun with.

    The training itself compares settings, labels and rows; it does not know what the files hold.
    """
    started = project.workspace.training_started(name)
    if not started.exists() or read_json(started) != inputs:
        project.workspace.checkpoint(name).unlink(missing_ok=True)
        write_json(started, inputs)


def finetune_inputs(project: Project, view: ResolvedView, rows: TrainingRows) -> dict[str, Any]:
    """What decides a view's trained weights, by name, as digests."""
    # What has no effect on these rows is no reason to train anew.
    idle = {"memory_gb"} if rows.volumes else {"memory_gb", "slices"}
    settings = view.training.model_dump(mode="json", exclude=idle)
    augment = view.augment.model_dump(mode="json") if view.kind == "image" else None
    return {
        **network_inputs(project, view),
        "the training settings": digest_json(settings),
        "the augmentation": digest_json(augment),
        "the seed": project.config.seed,
        "the training images": digest_json(
            [[rows.records[i].digest for i in part] for part in (rows.train, rows.inner)]
        ),
        "the labels": labels_digest(rows.labels),
    }


def why_finetune(project: Project, name: str, inputs: dict[str, Any]) -> str | None:
    """Why a view's network has to be trained; None when it is fresh."""
    if not project.workspace.weights(name).exists():
        return "not trained yet"
    changed = changed_inputs(project.workspace.stage1(name), inputs)
    if changed is None:
        return "its training did not finish"
    return f"changed since it was trained: {', '.join(changed)}" if changed else None


def plan_finetune(project: Project, name: str) -> str | None:
    """Why `run` would train a view's network; None when it would not."""
    view = project.view(name)
    if project.config.protocol == "frozen" or view.imported or view.kind == "table":
        return None
    return why_finetune(project, name, finetune_inputs(project, view, training_rows(project, view)))
