"""Finished heads that are measured: whether they may be, on today's studies."""

from __future__ import annotations

from collections.abc import Sequence

from mvp.errors import ConfigError, DataError, MvpError, StaleError
from mvp.features import FeatureKey
from mvp.learners.ensemble import Ensemble, HeadRows
from mvp.pipeline.heads import (
    SavedHead,
    load_head,
    require_current_keys,
    require_current_reading,
    require_same_labels,
)
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import shared_patients
from mvp.pipeline.stage_two import head_rows, rows_inputs
from mvp.pipeline.workspace import JOINT
from mvp.stages._candidates import Candidate

Fitted = tuple[Ensemble, dict[str, HeadRows]]


def measurable(
    project: Project, saved: SavedHead, *, ablation: bool = True
) -> tuple[dict[str, HeadRows], dict[str, dict[str, FeatureKey]]]:
    """The studies that a head may be measured on, by fold, and the keys of their features.

    Args:
        project: the workspace.
        saved: the head.
        ablation: also say who plays `same-rows`.

    Raises:
        StaleError: it was fitted on other features, labels or another reading than today's.
        DataError: it has seen patients of the test.
    """
    require_current_reading(project, saved)
    require_same_labels(project, saved)
    protocol = saved.provenance["protocol"]
    if protocol == JOINT and saved.provenance["joint_rows"] != project.config.joint.rows:
        raise StaleError(
            f"the head {saved.name!r} was trained on other studies than joint.rows says now",
            cause=f"{saved.provenance['joint_rows']!r} then, {project.config.joint.rows!r} now",
            remedy="run `mvp finetune-joint`, or restore the setting",
        )
    views = list(saved.ensemble.views)
    rows, keys = head_rows(project, views, protocol, joint=saved.on_joint, ablation=ablation)
    require_current_keys(saved, keys)
    _require_untouched(project, saved)
    return rows, keys


def _require_untouched(project: Project, saved: SavedHead) -> None:
    manifest = project.manifest
    test = project.split.mask(manifest.studies, ["test"])
    both = shared_patients(
        project.workspace,
        saved.provenance,
        manifest.patients[test],
        manifest.studies[test],
        f"the head {saved.name!r}",
    )
    if both:
        raise DataError(
            f"{both} test patients were among those that head {saved.name!r} was fitted on",
            cause="the split or the patient ids changed after the head was fitted",
            remedy="run `mvp fit-head` again, or restore split.csv",
        )


def finished_heads(
    project: Project, heads: Sequence[str] | None, views: Sequence[str], notes: list[str]
) -> dict[Candidate, Fitted]:
    """Heads of the workspace as candidates of a comparison, with the studies to ask them about.

    Args:
        project: the workspace.
        heads: their names; None takes that of the joint network, if it may be measured.
        views: that are compared.
        notes: takes why that one is left out.

    Raises:
        ConfigError: a head that is named needs other views.
        DataError, StaleError: it may not be measured, or not ranked, on today's studies.
    """
    names = list(dict.fromkeys(heads)) if heads is not None else []
    if heads is None and JOINT in project.workspace.head_names():
        names = [JOINT]
    found: dict[Candidate, Fitted] = {}
    for name in names:
        try:
            saved = load_head(project, name)
            found[_candidate(project, saved, views)] = saved.ensemble, _rows(project, saved)
        except MvpError as error:
            if heads is not None:
                raise
            notes.append(f"head {name} is left out: {error}")
    return found


def _candidate(project: Project, saved: SavedHead, views: Sequence[str]) -> Candidate:
    own = saved.ensemble.views
    if not set(own) <= set(views):
        raise ConfigError(
            f"the head {saved.name!r} needs {', '.join(own)}",
            cause=f"compared are {', '.join(views)}",
            remedy="leave it out of --heads, or name all its views with --views",
        )
    return Candidate(f"head {saved.name}", own, saved.provenance["protocol"])


def _rows(project: Project, saved: SavedHead) -> dict[str, HeadRows]:
    rows, _ = measurable(project, saved, ablation=False)
    protocol, views = saved.provenance["protocol"], list(saved.ensemble.views)
    inputs = saved.provenance["inputs"]["the rows"]
    roles = list(dict.fromkeys(role for own in inputs.values() for role in own))
    now = rows_inputs(project, views, protocol, roles, saved.on_joint)["the rows"]
    if now != inputs:
        raise StaleError(
            f"the head {saved.name!r} was fitted on other studies than those of today",
            cause="studies were added, taken out or dealt to other parts since; those that "
            "candidates are ranked on may be among its own",
            remedy="fit it again",
        )
    if protocol == JOINT and project.config.joint.rows == "stage1":
        # It chose its epoch on stage one's studies, and knows those that stage two chooses on
        # no better than any other.
        rows, _ = head_rows(project, views, "holdout", joint=True, ablation=False)
    return rows
