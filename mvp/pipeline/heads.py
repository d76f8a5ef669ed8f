"""Heads on disk: fusion and single views together, checked against what lies in the workspace."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mvp.errors import ConfigError, StaleError
from mvp.features import FeatureKey
from mvp.learners.comparison import HeadFamily
from mvp.learners.ensemble import Ensemble
from mvp.learners.head import Head
from mvp.pipeline.decisions import load_decisions, load_drift, save_decisions
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import read_provenance
from mvp.pipeline.workspace import FOLD, Workspace
from mvp.stages._decisions import Decisions, head_digest
from mvp.statistics.drift import DriftReference

Keys = Mapping[str, Mapping[str, FeatureKey]]


@dataclass(frozen=True, eq=False)
class SavedHead:
    """A head of the workspace.

    Attributes:
        name: its name.
        ensemble: the fusion and the single views' heads, of each fold.
        ablation: the fusion fitted on the rows of its own networks, where there is one.
        decisions: what it decides by its probabilities.
        drift: for each fold what features looked like when it was fitted.
        provenance: what it was made from.
    """

    name: str
    ensemble: Ensemble
    ablation: Head | None
    decisions: Decisions
    drift: Mapping[str, DriftReference]
    provenance: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Digest of the saved heads and of what they decide."""
        return str(self.provenance["digest"])

    @property
    def on_joint(self) -> bool:
        """Whether it stands on the bodies of the joint network."""
        return bool(self.provenance.get("on_joint", False))

    @property
    def keys(self) -> dict[str, dict[str, FeatureKey]]:
        """The feature keys that it was fitted on, by fold and view."""
        try:
            return head_keys(self.provenance)
        except ValueError as error:
            raise StaleError(
                f"the head {self.name!r} was fitted on features of another kind of store",
                cause=str(error),
                remedy="run `mvp extract` and `mvp fit-head` again",
            ) from None


def head_keys(provenance: Mapping[str, Any]) -> dict[str, dict[str, FeatureKey]]:
    """The feature keys of a head's provenance, by fold and view.

    Raises:
        ValueError: they are of another version of the store.
    """
    folds = provenance.get("keys", {})
    return {
        fold: {view: FeatureKey.from_json(key) for view, key in keys.items()}
        for fold, keys in folds.items()
    }


def head_name(learner: str) -> str:
    """A head's default name: the learner's, or a dotted path's last word."""
    word = learner.rpartition(".")[2].rpartition(":")[2]
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in word).strip("-_").lower()


def load_head(project: Project, name: str | None) -> SavedHead:
    """Read a head and those of its single views, of every fold.

    Raises:
        ConfigError: there is none of that name, or its fit did not finish.
        StaleError: a version of mvp fitted it that kept its heads otherwise.
        StoreDamagedError: a file of it is not the one that was saved.
    """
    workspace = project.workspace
    found = workspace.require_head(name, head_name(project.config.head.learner))
    provenance = read_provenance(workspace.head(found))
    if provenance is None:
        raise ConfigError(
            f"the head {found!r} was not finished",
            path=workspace.head(found),
            remedy="run `mvp fit-head` again",
        )
    if not {"folds", "decisions"} <= provenance.keys():
        raise StaleError(
            f"the head {found!r} was fitted by an older version of mvp",
            path=workspace.head(found),
            remedy="run `mvp fit-head` again",
        )
    members = {
        fold: HeadFamily(
            Head.load(workspace.fusion(found, fold)),
            {view: Head.load(workspace.single(found, view, fold)) for view in singles},
        )
        for fold, singles in provenance["folds"].items()
    }
    ablation = Head.load(workspace.ablation(found)) if provenance["ablation"] else None
    return SavedHead(
        found,
        Ensemble(members),
        ablation,
        load_decisions(workspace, found, provenance),
        load_drift(workspace, found, provenance),
        provenance,
    )


def save_heads(
    workspace: Workspace,
    name: str,
    ensemble: Ensemble,
    ablation: Head | None,
    decisions: Decisions,
    drift: Mapping[str, DriftReference],
) -> dict[str, Any]:
    """Write the heads of all folds; the provenance, written afterwards, makes them count.

    Args:
        workspace: where.
        name: of the head.
        ensemble: the honest heads.
        ablation: the fusion fitted on rows that its networks have seen.
        decisions: what is decided by the heads' probabilities.
        drift: for each fold what features looked like in training.

    Returns:
        What the provenance has to say of them.
    """
    folder = workspace.head(name)
    workspace.provenance(folder).unlink(missing_ok=True)
    # What an earlier fit left of folds, views or decisions is no part of this head.
    if folder.exists():
        shutil.rmtree(folder)
    for fold, family in ensemble.members.items():
        family.fusion.save(workspace.fusion(name, fold))
        for view, head in family.singles.items():
            head.save(workspace.single(name, view, fold))
    if ablation is not None:
        ablation.save(workspace.ablation(name))
    return {
        "folds": {fold: list(family.singles) for fold, family in ensemble.members.items()},
        "ablation": ablation is not None,
        "digest": head_digest(ensemble, decisions),
        **save_decisions(workspace, name, decisions, drift),
    }


def reading(project: Project, views: Sequence[str]) -> dict[str, str]:
    """How what a study holds becomes one row: the aggregation, each view's policy or text column.

    A text is known by its characters alone, so its key does not say which column it stands in.
    Draws stand here where there are any: a head of no draws is read as ever.
    """
    chosen = {view: project.config.views[view] for view in views}
    policies = {view: own.column or own.images for view, own in chosen.items()}
    draws, tta = project.config.extract.tta, project.config.head.tta
    # No view's name has a dot.
    drawn = {} if draws == 1 else {"extract.tta": str(draws), "head.tta": tta}
    return {"instances": project.config.head.instances, **policies, **drawn}


def require_current_reading(project: Project, saved: SavedHead) -> None:
    """Refuse to read a study in another way than the head was fitted on.

    Raises:
        StaleError: the aggregation, a view's policy, the column of its text or what is made of
            draws has changed.
    """
    views = list(saved.ensemble.views)
    project.config.require_views(views)
    then, now = saved.provenance["reading"], reading(project, views)
    changed = [
        f"{k} ({then.get(k, 'none')} → {now.get(k, 'none')})"
        for k in {**now, **then}
        if then.get(k) != now.get(k)
    ]
    if changed:
        raise StaleError(
            f"the head {saved.name!r} was fitted on another reading of several images, of draws or "
            "of texts",
            cause=f"{', '.join(changed)} changed",
            remedy="run `mvp fit-head` again, or restore the settings",
        )


def require_same_labels(project: Project, saved: SavedHead) -> None:
    """Refuse labels of other names, classes or order than the head was fitted on.

    Raises:
        StaleError: they are others.
    """
    targets = project.manifest.labels.targets
    if targets != saved.ensemble.targets:
        raise StaleError(
            f"the head {saved.name!r} was fitted on other labels than mvp.toml has now",
            cause=f"{[t.name for t in saved.ensemble.targets]} then, "
            f"{[t.name for t in targets]} now",
            remedy="run `mvp fit-head` again, or restore the labels and their order",
        )


def require_current_keys(saved: SavedHead, now: Keys) -> None:
    """Refuse features of another kind than the head was fitted on, naming what differs.

    Args:
        saved: the head.
        now: for each of its folds the present key of every view.

    Raises:
        StaleError: the weights, the preparation or anything else in a key has changed, or the
            number of folds.
    """
    if saved.keys.keys() != now.keys():
        raise StaleError(
            f"the head {saved.name!r} was fitted on other folds than those of today",
            cause=f"{len(saved.keys)} then, {len(now)} now",
            remedy="run `mvp fit-head` again, or restore split.csv",
        )
    for fold, keys in saved.keys.items():
        for view, key in keys.items():
            if now[fold][view] != key:
                raise StaleError(
                    f"the head {saved.name!r} was fitted on other features than those of today",
                    view=view if fold == FOLD else f"{view}, {fold}",
                    cause="; ".join(key.differences(now[fold][view])) + " changed",
                    remedy="run `mvp fit-head` again, or import the former columns with --replace"
                    if now[fold][view].imported
                    else "run `mvp extract` and `mvp fit-head` again, or restore what changed",
                )
