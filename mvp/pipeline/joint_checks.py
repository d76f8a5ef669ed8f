"""What is refused of a joint training before anything of an earlier one is touched."""

from __future__ import annotations

from mvp.errors import DataError
from mvp.learners.registry import make_learner
from mvp.pipeline.joint import JointPlan
from mvp.pipeline.provenance import shared_patients
from mvp.stages._joint_head import joinable
from mvp.training.joint_groups import body_groups, frozen_bodies


def require_unseen(plan: JointPlan) -> None:
    """Refuse to start from what has seen patients of test or calibration.

    Raises:
        DataError: it has: hours of training would end in this error.
    """
    manifest, split = plan.project.manifest, plan.project.split
    kept = split.mask(manifest.studies, ["calibration", "test"])
    for made in plan.inherited():
        both = shared_patients(
            plan.project.workspace,
            made,
            manifest.patients[kept],
            manifest.studies[kept],
            "what the joint network starts from",
        )
        if both:
            raise DataError(
                f"{both} patients of test or calibration have been seen by what the joint "
                "network would start from",
                cause="the split or the patient ids changed since",
                remedy="run `mvp finetune`, `mvp extract` and `mvp fit-head` again, or restore "
                "split.csv",
            )


def require_settings(plan: JointPlan) -> None:
    """Refuse settings that do not fit, before anything of an earlier training is touched.

    Raises:
        ConfigError: a layer or rate is not there, or the new head is none that can join.
    """
    if plan.saved is None:
        joinable(make_learner(plan.settings.learner, plan.settings.options), "joint.learner")
    networks = {name: plan.body(name)[1] for name in plan.bodies}
    training = plan.settings.training
    frozen = frozen_bodies(networks, training.freeze)
    if plan.settings.thaw:
        for one in frozen.values():
            for parameter in one.parameters:
                parameter.requires_grad_(True)
    body_groups(networks, training, {} if plan.settings.thaw else frozen)
