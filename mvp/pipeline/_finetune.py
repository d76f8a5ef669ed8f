"""`mvp finetune`: train each view's network."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mvp.config import ResolvedView
from mvp.data.datasets import ImageSet
from mvp.data.inventory import FileRecord
from mvp.data.splits import parts_for
from mvp.data.transforms import Transform
from mvp.errors import REJECTED_EXIT_CODE, DataError, MvpError
from mvp.files import digest_json, read_json, write_json
from mvp.networks import Capture, inference
from mvp.pipeline.networks import initial_network, network_inputs, view_targets
from mvp.pipeline.project import Project, label_indices
from mvp.pipeline.provenance import changed_inputs, write_provenance
from mvp.pipeline.recording import Reject, Run, recording
from mvp.pipeline.tables import labels_digest
from mvp.stages.finetune import FinetuneResult, finetune
from mvp.types import IntArray, Labels

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


@dataclass(frozen=True, eq=False)
class _TrainingRows:
    """The images that a view's network is trained on."""

    files: list[str]
    digests: list[str]
    labels: Labels
    patients: list[str]
    train: IntArray
    inner: IntArray
    rejects: list[Reject]


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
    if view.imported:
        outcome.reasons[name] = "imported: it has no network"
        return
    if project.config.protocol == "frozen":
        outcome.reasons[name] = "frozen: its weights are used as they are"
        return
    rows = _training_rows(project, view)
    outcome.rejects += rows.rejects
    inputs = finetune_inputs(project, view, rows)
    reason = why_finetune(project, name, inputs)
    if reason is None and not force:
        outcome.reasons[name] = "fresh: data and settings are those it was trained with"
        return
    outcome.reasons[name] = reason or "asked for with --force"
    log.info("finetune %s: %s", name, outcome.reasons[name])
    _require_features(project, view, len(rows.labels.outputs))
    folder = project.workspace.stage1(name)
    # Without it an interrupted new training would pass for the old, finished one.
    project.workspace.provenance(folder).unlink(missing_ok=True)
    _forget_other_checkpoints(project, name, inputs)
    images = ImageSet(
        rows.files,
        Transform(view.transform),
        project.limits(),
        project.workers,
        int(view.training.memory_gb * 2**30),
    )
    result = finetune(
        view,
        images,
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
        extra={"result": asdict(result), "view": project.config.view(name).model_dump(mode="json")},
    )
    outcome.views[name] = result


def _require_features(project: Project, view: ResolvedView, outputs: int) -> None:
    """Refuse a layer or pooling that extraction cannot take, before hours of training."""
    import torch

    plain = view.network.model_copy(update={"weights": "none"})
    network = initial_network(project, view.model_copy(update={"network": plain}), outputs)
    size = view.transform.size
    try:
        with Capture(network, plain.layer, plain.pooling) as capture, inference(network):
            capture(torch.zeros(1, 3, size, size))
    except MvpError as error:
        error.view = view.name
        raise


def _forget_other_checkpoints(project: Project, name: str, inputs: dict[str, Any]) -> None:
    """A checkpoint goes on only with the very images it was begun with.

    The training itself compares settings, labels and rows; it does not know what the files hold.
    """
    started = project.workspace.training_started(name)
    if not started.exists() or read_json(started) != inputs:
        project.workspace.checkpoint(name).unlink(missing_ok=True)
        write_json(started, inputs)


def _training_rows(project: Project, view: ResolvedView) -> _TrainingRows:
    manifest, split = project.manifest, project.split
    protocol = project.config.protocol
    images = project.view_images(manifest, view)
    columns = label_indices(manifest, view.labels)
    targets = view_targets(project, view)
    values = manifest.labels.values[:, columns]
    studies = images["study"].to_numpy()
    parts = {
        role: split.mask(manifest.studies, parts_for(role, protocol, protocol))
        for role in ("stage1", "stage1-inner")
    }
    mine = (parts["stage1"] | parts["stage1-inner"])[studies]
    # A study without any known label teaches nothing.
    mine &= ~np.isnan(values[studies]).all(axis=1)
    images = images[mine]
    records = project.records(images)
    reasons = [
        error or _untrainable(records[file])
        for file, error in zip(images["file"], images["error"], strict=True)
    ]
    rejects = project.reject_rows(manifest, images, view.name, reasons)
    images = images[[not reason for reason in reasons]]
    studies = images["study"].to_numpy()
    if not len(images) or not parts["stage1"][studies].any():
        raise DataError(
            "there are no images to train on",
            view=view.name,
            cause=f"{len(rejects)} were rejected" if rejects else "none is in the training split",
            remedy="look with `mvp check`",
        )
    return _TrainingRows(
        files=list(images["file"]),
        digests=[records[f].digest for f in images["file"]],
        labels=Labels(targets, values[studies]),
        patients=[str(manifest.patients[s]) for s in studies],
        train=np.flatnonzero(parts["stage1"][studies]),
        inner=np.flatnonzero(parts["stage1-inner"][studies]),
        rejects=rejects,
    )


def _untrainable(record: FileRecord) -> str:
    """Why a network cannot be trained on a file, or ""."""
    if record.instances > 1:
        return (
            f"a volume of {record.instances} slices; stage one trains on single images: "
            'set protocol = "frozen", or save every slice as a file of its own'
        )
    return record.error


def finetune_inputs(project: Project, view: ResolvedView, rows: _TrainingRows) -> dict[str, Any]:
    """What decides a view's trained weights, by name, as digests."""
    settings = view.training.model_dump(mode="json", exclude={"memory_gb"})
    return {
        **network_inputs(project, view),
        "the training settings": digest_json(settings),
        "the augmentation": digest_json(view.augment.model_dump(mode="json")),
        "the seed": project.config.seed,
        "the training images": digest_json(
            [[rows.digests[i] for i in rows.train], [rows.digests[i] for i in rows.inner]]
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
    if project.config.protocol == "frozen" or view.imported:
        return None
    return why_finetune(
        project, name, finetune_inputs(project, view, _training_rows(project, view))
    )
