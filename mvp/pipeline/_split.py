"""`mvp split`: deal patients to parts, look at the parts, and write them down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mvp.data.splits.file import read_split
from mvp.data.splits.split import Split
from mvp.data.tables.manifest import Problem
from mvp.errors import ConfigError, DataError
from mvp.pipeline._check_problems import label_problems, leak_problems
from mvp.pipeline.counting import label_counts, pattern_counts
from mvp.pipeline.presence import view_presence
from mvp.pipeline.project import Project
from mvp.pipeline.splitting import deal_split, keep_split, wishes
from mvp.reports import grid


@dataclass
class SplitOutcome:
    """A split, how it was come by, and what is in each part."""

    split: str
    written: bool
    dry_run: bool
    stale: list[str]
    parts: dict[str, dict[str, Any]]
    folds: list[int]
    moved: int
    new: int
    problems: list[Problem]

    @property
    def exit_code(self) -> int:
        """0, or 3 when a patient or an image stands in two parts."""
        return DataError.exit_code if any(p.severity == "error" for p in self.problems) else 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {**self.__dict__, "problems": [asdict(p) for p in self.problems]}

    @property
    def text(self) -> str:
        """For a person."""
        rows = [["", *self.parts]]
        rows += [[w, *(str(part[w]) for part in self.parts.values())] for w in _COUNTS]
        for kind, write in _TABLES.items():
            first: dict[str, Any] = next(iter(self.parts.values()))[kind]
            rows += [
                [name, *(write(part[kind][name]) for part in self.parts.values())] for name in first
            ]
        lines = [self._said(), "", grid(rows)]
        if self.folds:
            lines.append(f"folds: {' '.join(map(str, self.folds))} studies")
        if self.stale:
            when = "would be stale" if self.dry_run else "stale now"
            lines += ["", f"{when}, to be made anew: {', '.join(self.stale)}"]
        lines += [f"{p.severity}: {p.text}" for p in self.problems]
        return "\n".join(lines)

    def _said(self) -> str:
        if self.dry_run:
            return f"{self.split} is as it was: {self.new} studies would be new in it, " + (
                f"{self.moved} would change their part"
            )
        if not self.written:
            return f"{self.split} stands, nothing is new"
        return f"{self.split}: {self.new} studies are new in it, {self.moved} changed their part"


_COUNTS = ("patients", "studies")
_TABLES: dict[str, Callable[[Any], str]] = {
    "labels": lambda counts: f"{counts['positive']}/{counts['known']}",
    "patterns": str,
}


def run_split(
    workspace: str | Path = ".",
    *,
    dry_run: bool = False,
    force: bool = False,
    seed: int | None = None,
    link_near: bool = False,
    new_folds: bool = False,
    progress: bool = True,
) -> SplitOutcome:
    """Deal the studies of a workspace to parts and write `split.csv`.

    Studies that stand in it stay where they are.

    Args:
        workspace: its folder.
        dry_run: show what would be dealt, and write nothing.
        force: deal all of them anew, which makes what was trained stale.
        seed: of this dealing, instead of split.seed.
        link_near: keep patients together whose images are nearly the same, as with
            split.near = "link".
        new_folds: deal the folds anew, and leave the parts.
        progress: show bars.

    Raises:
        ConfigError: an option that would have no effect.
        DataError: who belongs together is wanted in two parts.
    """
    project = Project(workspace, progress=progress)
    path = project.workspace.split
    before = _or_none(path) if force else read_split(path)
    config = project.config.split
    if before is not None and not force:
        _require_effect(seed is not None, "--seed")
        _require_effect(link_near, "--link-near")
    if new_folds and not config.folds:
        raise ConfigError("--new-folds deals folds, and split.folds is 0", remedy="set split.folds")
    updates: dict[str, Any] = {} if seed is None else {"seed": seed}
    updates |= {"near": "link"} if link_near else {}
    previous = None if force else before
    if previous is not None and new_folds:
        previous = Split(previous.parts)
    split = deal_split(project, previous, config=config.model_copy(update=updates))
    old = before.parts if before is not None else {}
    moved = sum(study in old and old[study] != part for study, part in split.parts.items())
    dealt_anew = before is not None and any(
        before.folds.get(study, fold) != fold for study, fold in split.folds.items()
    )
    written = False
    if not dry_run:
        written = keep_split(project, split, previous)
    return SplitOutcome(
        split=path.name,
        written=written,
        dry_run=dry_run,
        stale=_trained(project, moved > 0, dealt_anew),
        parts=_parts(project, split),
        folds=split.fold_counts(),
        moved=moved,
        new=sum(s not in old for s in split.parts),
        problems=[
            *wishes(project).problems,
            *label_problems(label_counts(project.manifest, split)),
            *leak_problems(project, split.parts, project.contents),
        ],
    )


def _require_effect(given: bool, option: str) -> None:
    if given:
        raise ConfigError(
            f"{option} has no effect on a split that stands",
            remedy="add --force to deal anew, which makes trained networks stale",
        )


def _or_none(path: Path) -> Split | None:
    try:
        return read_split(path)
    except DataError:
        return None  # a damaged one is what --force is to replace


def _trained(project: Project, parts: bool, folds: bool) -> list[str]:
    """What was fitted on the parts, or without folds, that are others now."""
    space, views = project.workspace, project.config.views
    stale = [f"network {v}" for v in views if parts and space.provenance(space.stage1(v)).exists()]
    if parts or folds:
        stale += [f"network {view} {fold}" for view in views for fold in space.trained_folds(view)]
    return [*stale, *(f"head {name}" for name in space.head_names() if parts)]


def _parts(project: Project, split: Split) -> dict[str, dict[str, Any]]:
    manifest = project.manifest
    names, presence = view_presence(project, manifest)
    labels = label_counts(manifest, split)
    result = {}
    for part in split.used:
        mask = split.mask(manifest.studies, [part])
        result[part] = {
            "patients": len(set(manifest.patients[mask].tolist())),
            "studies": int(mask.sum()),
            "labels": {name: counts["parts"][part] for name, counts in labels.items()},
            "patterns": pattern_counts(names, presence, mask),
        }
    return result
