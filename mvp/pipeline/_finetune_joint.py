"""`mvp finetune-joint`: train all views' networks and one head at once."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mvp.features.table import Signature
from mvp.files import digest_file, read_json, write_json
from mvp.learners.base import stored_options
from mvp.learners.comparison import HeadFamily
from mvp.learners.ensemble import Ensemble, HeadRows
from mvp.learners.head import Head, Tta
from mvp.learners.torch_base import TorchLearner
from mvp.pipeline.decisions import DECIDED_INPUT, decision_settings, require_calibration
from mvp.pipeline.drift import drift_references
from mvp.pipeline.extracting import Wanted, extract_views
from mvp.pipeline.heads import reading, save_heads
from mvp.pipeline.joint import JointPlan
from mvp.pipeline.joint_checks import require_settings, require_unseen
from mvp.pipeline.joint_outcome import JointOutcome
from mvp.pipeline.networks import feature_network, network_inputs
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import changed_inputs, read_provenance, versions, write_provenance
from mvp.pipeline.recording import Reject, Run, recording
from mvp.pipeline.stage_two import head_rows, learned_from, rows_inputs
from mvp.pipeline.uses import note_uses, use_name
from mvp.pipeline.workspace import JOINT
from mvp.stages.decide import decide
from mvp.stages.finetune_joint import JointResult, finetune_joint, read_heads
from mvp.training.processes import Processes, together

log = logging.getLogger("mvp")


def run_finetune_joint(
    workspace: str | Path = ".", *, force: bool = False, progress: bool = True
) -> JointOutcome:
    """Train the networks of all views and one head together; `[joint]` in mvp.toml says how.

    It starts from what the two stages have learnt (or from their networks alone, or from published
    weights), and keeps the start where no epoch is better on the validation studies. Afterwards the
    features of its bodies are extracted and its head stands in `heads/joint`, so that `evaluate`,
    `score` and `compare` know it.

    A joint network whose data and settings have not changed is left as it is. An interrupted
    training goes on where it was. Started by `torchrun`, its processes train together.

    Args:
        workspace: its folder.
        force: train a fresh one too.
        progress: show bars.

    Raises:
        ConfigError: there is nothing to start from, or the head cannot be trained jointly.
        StaleError: what it would start from is not up to date.
    """
    with together() as processes:
        project = Project(workspace, progress=progress and processes.first)
        require_calibration(project)
        with recording(project.workspace, "finetune-joint") as run:
            with processes.first_before_others():
                plan = JointPlan(project)
                why = _why(plan)
            # The first one may have begun meanwhile, and what another saw is no longer so.
            why = processes.told(why)
            outcome = JointOutcome(
                reason=why or "fresh: data and settings have not changed",
                views=plan.views,
                bodies=plan.bodies,
                folder=str(project.workspace.joint),
            )
            if why is not None or force:
                outcome.reason = why or "asked for with --force"
                log.info("finetune-joint: %s", outcome.reason)
                outcome.result = _train(plan, processes)
            if processes.first:
                _finish(project, plan, outcome, run)
    return outcome


def _why(plan: JointPlan) -> str | None:
    """Why the joint network has to be trained; None where it is fresh."""
    workspace = plan.project.workspace
    folders = [workspace.joint, *(workspace.stage1(view, JOINT) for view in plan.bodies)]
    if any(read_provenance(folder) is None for folder in folders):
        return "not trained yet"
    changed = changed_inputs(workspace.joint, plan.inputs)
    return f"changed since it was trained: {', '.join(changed)}" if changed else None


def _train(plan: JointPlan, processes: Processes) -> JointResult:
    project, workspace = plan.project, plan.project.workspace
    # Alone, because it may fetch published weights.
    with processes.first_before_others():
        require_unseen(plan)
        require_settings(plan)
        members, shared = plan.members()
        data = plan.data()
    if processes.first:
        for folder in [workspace.joint, *(one.folder for one in members)]:
            # Without it an interrupted new training would pass for the old, finished one.
            workspace.provenance(folder).unlink(missing_ok=True)
        for view in project.config.views:
            if view not in plan.bodies:
                # A body of another joint network, whose features would stand beside this one's.
                shutil.rmtree(workspace.stage1(view, JOINT), ignore_errors=True)
        _forget_other_checkpoint(plan)
    processes.meet()
    seen = plan.inherited()
    result = finetune_joint(
        members,
        data,
        settings=plan.settings,
        how=plan.how,
        start=plan.learner(),
        table=plan.table(),
        folder=workspace.joint,
        seed=project.config.seed,
        device=processes.device(project.device),
        shared=shared,
        progress=project.progress,
        processes=processes,
    )
    if processes.first:
        manifest = project.manifest
        used = plan.studies
        facts: dict[str, Any] = {
            "seed": project.config.seed,
            "workspace": workspace,
            "patients": [str(p) for p in manifest.patients[used]],
            "studies": [str(s) for s in manifest.studies[used]],
            "inherited": seen,
        }
        for one in members:
            name = one.view.name
            write_provenance(
                one.folder,
                inputs=network_inputs(project, project.view(name), JOINT),
                extra={"fold": JOINT, "weights": digest_file(workspace.weights(name, JOINT))},
                **facts,
            )
        extra = {"result": asdict(result), "split": project.split.digest, "views": plan.views}
        write_provenance(workspace.joint, inputs=plan.inputs, extra=extra, **facts)
    processes.meet()
    return result


def _forget_other_checkpoint(plan: JointPlan) -> None:
    """A checkpoint goes on only with the very images it was begun with."""
    folder = plan.project.workspace.joint
    started = folder / "started.json"
    if not started.exists() or read_json(started) != plan.inputs:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(started, plan.inputs)


def _finish(project: Project, plan: JointPlan, outcome: JointOutcome, run: Run) -> None:
    """Extract what the head needs, and make it a head of stage two."""
    workspace = project.workspace
    wanted = [
        Wanted(use_name(view, JOINT), feature_network(project, view, JOINT)) for view in plan.bodies
    ]
    found = extract_views(project, project.manifest, wanted)
    outcome.forward_passes = found.forward_passes
    outcome.rejects = list(dict.fromkeys([*_rejects(plan), *found.rejects]))
    if outcome.rejects:
        outcome.reject_table = str(run.write_rejects(outcome.rejects))
    learner, singles = read_heads(workspace.joint)
    outcome.learner = learner.name
    rows, keys = head_rows(project, plan.views, "joint", ablation=False)
    inputs = {
        "the joint network": read_provenance(workspace.joint)["inputs"],  # type: ignore[index]
        "the features": {view: key.digest for view, key in keys[JOINT].items()},
        "the reading of several images or of texts": reading(project, plan.views),
        DECIDED_INPUT: decision_settings(project.config.head),
        **rows_inputs(project, plan.views, "joint", ["train", "inner", "calibration"]),
    }
    folder = workspace.head(JOINT)
    if changed_inputs(folder, inputs) == []:
        outcome.digest = str((read_provenance(folder) or {})["digest"])
        return
    tta = plan.saved.ensemble.first.fusion.tta if plan.saved is not None else "mean"
    ensemble = _ensemble(rows[JOINT], learner, singles, project.config.seed, tta)
    decisions = decide(ensemble, rows, project.config.head)
    drift = drift_references(rows, project.config.head.seed)
    saved = save_heads(workspace, JOINT, ensemble, None, decisions, drift)
    patients, studies = learned_from(rows)
    made = read_provenance(workspace.joint)
    write_provenance(
        folder,
        inputs=inputs,
        seed=project.config.seed,
        workspace=workspace,
        patients=patients,
        studies=studies,
        inherited=[made] if made else [],
        extra={
            "learner": learner.name,
            "options": stored_options(learner),
            "search": None,
            "protocol": JOINT,
            "on_joint": True,
            "joint_rows": project.config.joint.rows,
            "split": project.split.digest,
            "reading": reading(project, plan.views),
            "keys": {
                fold: {view: key.to_json() for view, key in own.items()}
                for fold, own in keys.items()
            },
            **saved,
        },
    )
    note_uses(project)
    outcome.digest = saved["digest"]
    outcome.notes += decisions.notes()
    log.info("finetune-joint: head %s, digest %s", JOINT, outcome.digest)


def _rejects(plan: JointPlan) -> list[Reject]:
    return [reject for own in plan.rows.values() for reject in own.rejects]


def _ensemble(
    rows: HeadRows, head: TorchLearner, singles: dict[str, TorchLearner], seed: int, tta: Tta
) -> Ensemble:
    version = versions()["multiview-pipeline"]

    def made(learner: TorchLearner, signature: Signature) -> Head:
        return Head(
            learner,
            learner.name,
            stored_options(learner),
            signature,
            learner.fitted.targets,
            seed,
            version,
            tta,
        )

    own = {}
    if len(rows.table.views) > 1:
        for view, learner in singles.items():
            own[view] = made(learner, rows.table.only([view]).signature)
    return Ensemble({JOINT: HeadFamily(made(head, rows.table.signature), own)})
