"""What a view's network is trained from, with whom, and on what: the plan of a fine-tuning.

Views of one `network.share` are trained together; a view may start from another's network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mvp.config import ResolvedView
from mvp.config.training import WITHOUT_EFFECT_ON_WEIGHTS
from mvp.config.variants import source_network, stays_untrained, trained_together
from mvp.errors import ConfigError, StaleError
from mvp.files import digest_json
from mvp.pipeline.folds import fold_seed
from mvp.pipeline.networks import finetune_command, network_inputs, network_of, view_targets
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import (
    changed_inputs,
    read_provenance,
    shared_patients,
    weights_provenance,
)
from mvp.pipeline.tables import labels_digest
from mvp.pipeline.training_rows import TrainingRows, training_rows
from mvp.pipeline.workspace import FOLD
from mvp.training.schedule import derived_seed


@dataclass(frozen=True, eq=False)
class Planned:
    """One view's network as it would be trained.

    Attributes:
        view: its settings.
        rows: what it would be trained on; None where its body stays as it is.
        inputs: what decides its weights, by name.
        seed: its own.
    """

    view: ResolvedView
    rows: TrainingRows | None
    inputs: dict[str, Any]
    seed: int


def all_views(project: Project) -> dict[str, ResolvedView]:
    """Every view with its settings."""
    return {name: project.view(name) for name in project.config.views}


def view_seed(project: Project, view: ResolvedView, fold: str = FOLD) -> int:
    """The seed of a view's network.

    Two networks on the same images with the same settings would otherwise come out as one.
    """
    seed = project.config.seed
    return fold_seed(seed if view.source == view.name else derived_seed(seed, view.name), fold)


def planned_group(project: Project, names: Sequence[str], fold: str = FOLD) -> list[Planned]:
    """The networks of views that are trained together, or the one of a view alone.

    Args:
        project: the workspace.
        names: of the group.
        fold: whose networks.

    Raises:
        DataError: a view has no rows to train on.
    """
    members = [_planned(project, project.view(name), fold) for name in names]
    digests = {one.view.name: digest_json(one.inputs) for one in members}
    for one in members:
        others = {name: digest for name, digest in digests.items() if name != one.view.name}
        if others:
            one.inputs["the views that it is trained together with"] = others
    return members


def _planned(project: Project, view: ResolvedView, fold: str) -> Planned:
    inputs = network_inputs(project, view, fold)
    seed = view_seed(project, view, fold)
    if stays_untrained(view):
        # Its classifier is never trained, but it must be of the right width to be read again.
        targets = [[t.name, list(t.classes)] for t in view_targets(project, view)]
        inputs |= {"the training settings": "none", "the seed": seed, "the labels": targets}
        return Planned(view, None, inputs, seed)
    rows = training_rows(project, view, fold)
    # What has no effect on these rows is no reason to train anew.
    idle = WITHOUT_EFFECT_ON_WEIGHTS | (set() if rows.volumes else {"slices"})
    settings = view.training.model_dump(mode="json", exclude=set(idle))
    augment = view.augment.model_dump(mode="json") if view.kind == "image" else None
    inputs |= {
        "the training settings": digest_json(settings),
        "the augmentation": digest_json(augment),
        "the seed": seed,
        "the training images": digest_json(
            [[rows.records[i].digest for i in part] for part in (rows.train, rows.inner)]
        ),
        "the labels": labels_digest(rows.labels),
    }
    return Planned(view, rows, inputs, seed)


def why_train(project: Project, members: Iterable[Planned], fold: str = FOLD) -> str | None:
    """Why some networks have to be trained; None when all of them are fresh."""
    for one in members:
        name = one.view.name
        if not project.workspace.weights(name, fold).exists():
            return "not trained yet"
        changed = changed_inputs(project.workspace.stage1(name, fold), one.inputs)
        if changed is None:
            return "its training did not finish"
        if changed:
            return f"changed since it was trained: {', '.join(changed)}"
    return None


def plan_finetune(project: Project, name: str, fold: str = FOLD) -> str | None:
    """Why `run` would train a view's network and those of its group; None when it would not."""
    view = project.view(name)
    if project.config.protocol == "frozen" or view.imported or view.kind == "table":
        return None
    group = trained_together(all_views(project), name)
    for start in _starts(project, group):
        if plan_finetune(project, start, fold) is not None:
            return f"the network of {start}, which it starts from, is not up to date"
    return why_train(project, planned_group(project, group, fold), fold)


def _starts(project: Project, group: Iterable[str]) -> list[str]:
    starts = (source_network(project.view(name)) for name in group)
    return list(dict.fromkeys(start for start in starts if start is not None))


def require_sources(project: Project, names: Iterable[str], fold: str = FOLD) -> None:
    """Refuse to start from a view's network that is not there, or no longer up to date.

    Raises:
        ConfigError: it is not trained yet.
        StaleError: its data or settings have changed since.
    """
    for name in names:
        start = source_network(project.view(name))
        if start is None or (reason := plan_finetune(project, start, fold)) is None:
            continue
        there = project.workspace.weights(start, fold).exists()
        kind = StaleError if there else ConfigError
        raise kind(
            f"{network_of(fold)} starts from that of view {start}, which is "
            + ("not up to date" if there else "not trained yet"),
            view=name,
            cause=reason if there else None,
            remedy=f"run `{finetune_command(start, fold)}` first, or both in one call",
        )


def with_first_weights(project: Project, view: ResolvedView, fold: str = FOLD) -> ResolvedView:
    """A view whose first weights are a file also where they are another view's network."""
    start = source_network(view)
    if start is None:
        return view
    file = str(project.workspace.weights(start, fold))
    network = view.network.model_copy(update={"weights": file})
    return view.model_copy(update={"network": network})


def inherited(project: Project, names: Sequence[str], fold: str = FOLD) -> list[Mapping[str, Any]]:
    """The provenances of the networks that some views' start from: whom these saw, they saw.

    A network of this workspace may be named as a view, or as the file of its weights.

    Raises:
        StaleError: nobody can tell whom they saw, since patients.key is another.
    """
    found: list[Mapping[str, Any]] = []
    for start in _starts(project, names):
        made = read_provenance(project.workspace.stage1(start, fold))
        if made is not None:
            shared_patients(project.workspace, made, (), (), f"the network of {start}")
            found.append(made)
    files = (weights_provenance(project.workspace, project.view(name)) for name in names)
    return [*found, *(made for made in files if made is not None)]


def offered_rows(project: Project, one: Planned, fold: str = FOLD) -> str | None:
    """Digest of the studies that a view's network was offered; None where it was trained on none.

    A copy was offered what the network was that it is a copy of, if it looks at the same images.
    """
    if one.rows is not None:
        return one.rows.offered
    start = source_network(one.view)
    if start is None or project.view(start).source != one.view.source:
        return None
    made = read_provenance(project.workspace.stage1(start, fold))
    return None if made is None else made.get("offered")


def require_same_rows(project: Project, views: Iterable[str], fold: str = FOLD) -> None:
    """Refuse networks on the same images that were trained under different splits.

    Two sets of labels on one image are compared on equal terms only where the same studies were
    offered to both.

    Raises:
        StaleError: they were not.
    """
    offered: dict[str, tuple[str, Any]] = {}
    # Frozen networks are those of nobody's training, whatever was trained before.
    for name in views if project.config.protocol != "frozen" or fold != FOLD else ():
        view = project.view(name)
        made = read_provenance(project.workspace.stage1(name, fold))
        if view.imported or view.kind == "table" or made is None:
            continue
        # Nothing was ever trained where it says None; where it says nothing, nobody can tell.
        mine = made.get("offered", "unknown")
        if mine is None:
            continue
        other, its = offered.setdefault(view.source, (name, mine))
        if its != mine:
            raise StaleError(
                f"the networks of {other} and {name} look at the same images, but were trained "
                "under different splits",
                view=name,
                cause="split.csv, or the studies of the table, changed between the two trainings",
                remedy=f"run `mvp finetune --view {other} --view {name}`",
            )
