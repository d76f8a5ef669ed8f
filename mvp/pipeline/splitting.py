"""The split of a workspace: from settings, lists and files to `split.csv`."""

from __future__ import annotations

from mvp.config import SplitConfig
from mvp.data.splits.file import write_split
from mvp.data.splits.leaks import near_leaks
from mvp.data.splits.lists import FixedParts, fixed_by_lists
from mvp.data.splits.split import TRAIN, Split, make_split
from mvp.pipeline.presence import view_presence
from mvp.pipeline.project import Project


def wishes(project: Project) -> FixedParts:
    """What the split column and the lists of the settings say."""
    manifest = project.manifest
    return fixed_by_lists(
        manifest.studies,
        manifest.patients,
        manifest.fixed_parts,
        {str(part): name for part, name in project.config.split.lists.items()},
        project.workspace.folder,
    )


def deal_split(
    project: Project,
    previous: Split | None,
    *,
    files: bool = True,
    config: SplitConfig | None = None,
) -> Split:
    """A split of the workspace's studies; nothing is written.

    Args:
        project: the workspace.
        previous: a split that stands, whose studies stay; None deals anew.
        files: also keep studies together that share an image's pixels, and with
            split.near = "link" those whose pixels are nearly the same.
        config: other settings than the workspace's.
    """
    manifest = project.manifest
    settings = config if config is not None else project.config.split
    # Only dealing needs the search: a split that stands is kept whatever it finds.
    new = previous is None or any(str(s) not in previous.parts for s in manifest.studies)
    links: list[tuple[int, int]] = []
    if files and new and settings.near == "link":
        found = near_leaks(manifest, project.contents)
        stands = {} if previous is None else previous.parts
        pairs = [(a.study, b.study) for a, b, _ in found.pairs]
        # Two that both stand stay where they are: the setting is for those who are dealt.
        links = [p for p in pairs if any(str(manifest.studies[s]) not in stands for s in p)]
    fixed = wishes(project)
    return make_split(
        manifest.studies,
        manifest.patients,
        manifest.labels,
        view_presence(project, manifest)[1],
        settings,
        fixed=fixed.parts,
        origins=fixed.origins,
        content=project.content() if files else None,
        links=links,
        previous=previous,
    )


def keep_split(project: Project, split: Split, previous: Split | None) -> bool:
    """Write a split where it differs from the one that stands; whether it did.

    Args:
        project: the workspace.
        split: of all its studies.
        previous: what it was dealt on; studies that are no longer in the table stay as they are
            there, and so do folds when none are wanted now.
    """
    if previous is not None:
        kept_out = {study for study, part in split.parts.items() if part not in TRAIN}
        folds = {s: f for s, f in {**previous.folds, **split.folds}.items() if s not in kept_out}
        split = Split({**previous.parts, **split.parts}, folds)
        if (dict(previous.parts), dict(previous.folds)) == (split.parts, split.folds):
            return False
    write_split(project.workspace.split, split)
    return True
