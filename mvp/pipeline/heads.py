"""Heads on disk: fusion and single views together, checked against what lies in the workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mvp.errors import ConfigError, StaleError
from mvp.features import FeatureKey
from mvp.learners.comparison import HeadFamily
from mvp.learners.head import Head
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import read_provenance
from mvp.pipeline.workspace import Workspace


@dataclass(frozen=True, eq=False)
class SavedHead:
    """A head of the workspace: `provenance` says what it was made from."""

    name: str
    heads: HeadFamily
    provenance: Mapping[str, Any]

    @property
    def keys(self) -> dict[str, FeatureKey]:
        """The feature keys that it was fitted on, by view."""
        try:
            return {v: FeatureKey.from_json(k) for v, k in self.provenance["keys"].items()}
        except ValueError as error:
            raise StaleError(
                f"the head {self.name!r} was fitted on features of another kind of store",
                cause=str(error),
                remedy="run `mvp extract` and `mvp fit-head` again",
            ) from None


def head_name(learner: str) -> str:
    """A head's default name: the learner's, or a dotted path's last word."""
    word = learner.rpartition(".")[2].rpartition(":")[2]
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in word).strip("-_").lower()


def load_head(project: Project, name: str | None) -> SavedHead:
    """Read a head and those of its single views.

    Raises:
        ConfigError: there is none of that name.
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
    fusion = Head.load(workspace.head(found))
    singles = {
        view: Head.load(workspace.single(found, view)) for view in provenance.get("singles", ())
    }
    return SavedHead(found, HeadFamily(fusion, singles), provenance)


def save_heads(workspace: Workspace, name: str, heads: HeadFamily) -> None:
    """Write a family of heads; its provenance, written afterwards, makes it count."""
    workspace.provenance(workspace.head(name)).unlink(missing_ok=True)
    heads.fusion.save(workspace.head(name))
    for view, head in heads.singles.items():
        head.save(workspace.single(name, view))


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
    views = list(saved.heads.fusion.signature.views)
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


def require_current_keys(saved: SavedHead, now: Mapping[str, FeatureKey]) -> None:
    """Refuse features of another kind than the head was fitted on, naming what differs.

    Raises:
        StaleError: the weights, the preparation or anything else in a key has changed.
    """
    for view, key in saved.keys.items():
        if now[view] != key:
            raise StaleError(
                f"the head {saved.name!r} was fitted on other features than those of today",
                view=view,
                cause="; ".join(key.differences(now[view])) + " changed",
                remedy="run `mvp fit-head` again, or import the former columns with --replace"
                if now[view].imported
                else "run `mvp extract` and `mvp fit-head` again, or restore what changed",
            )
