"""`mvp check`: look at everything before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mvp.data.reading.inventory import FileRecord
from mvp.data.reading.summary import summarise, summary_text
from mvp.data.splits.file import read_split
from mvp.data.splits.split import PARTS
from mvp.data.tables.manifest import Manifest, Problem
from mvp.errors import DataError, MvpError
from mvp.pipeline._check_problems import (
    burned_in_problems,
    file_problems,
    input_problems,
    label_problems,
    leak_problems,
    repeated_images,
)
from mvp.pipeline.counting import label_counts, pattern_counts
from mvp.pipeline.imported import import_problems, read_import
from mvp.pipeline.presence import view_presence
from mvp.pipeline.project import Project
from mvp.pipeline.splitting import deal_split, wishes
from mvp.reports import grid


@dataclass
class CheckOutcome:
    """What the data are and what is wrong with them."""

    table: str
    read_as: str
    patients: int
    studies: int
    images: int
    views: dict[str, dict[str, Any]]
    patterns: dict[str, int]
    studies_with_all_views: int
    studies_without_views: int
    parts: dict[str, int]
    folds: list[int]
    labels: dict[str, dict[str, Any]]
    problems: list[Problem]
    files_read: bool
    burned_in: dict[str, int] | None = None

    @property
    def exit_code(self) -> int:
        """0, or 3 when a problem costs images or studies."""
        return DataError.exit_code if any(p.severity == "error" for p in self.problems) else 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {**self.__dict__, "problems": [asdict(p) for p in self.problems]}

    @property
    def text(self) -> str:
        """For a person."""
        lines = [
            f"{self.table} ({self.read_as})",
            f"{self.patients} patients, {self.studies} studies, {self.images} images",
            f"{self.studies_with_all_views} studies have all {len(self.views)} views, "
            f"{self.studies_without_views} have none",
            "",
            grid(
                [
                    ["view", "images", "studies", "several images"],
                    *[
                        [name, str(v["images"]), str(v["studies"]), str(v["studies_with_several"])]
                        for name, v in self.views.items()
                    ],
                ]
            ),
            "",
            grid([["views", "studies"], *[[p, str(n)] for p, n in self.patterns.items()]]),
            "",
            *[summary_text(name, v["files"]) for name, v in self.views.items() if "files" in v],
            *([""] if self.files_read else []),
            self._label_table(),
            *([f"folds: {' '.join(map(str, self.folds))} studies"] if self.folds else []),
            *([self._burned_text(self.burned_in)] if self.burned_in is not None else []),
            "",
        ]
        if not self.problems:
            lines.append("no problems found" + ("" if self.files_read else " (files not read)"))
        lines += [f"{p.severity}: {p.text}" for p in self.problems]
        return "\n".join(lines)

    @staticmethod
    def _burned_text(counts: Mapping[str, int]) -> str:
        return "names or numbers in the picture: " + ", ".join(
            f"{said} {n}" for said, n in counts.items()
        )

    def _label_table(self) -> str:
        parts = [part for part in PARTS if part in self.parts]
        rows = [["label (positive/known)", "all", *parts]]
        for name, label in self.labels.items():
            cells = [label["all"], *(label["parts"][part] for part in parts)]
            rows.append([name, *(f"{c['positive']}/{c['known']}" for c in cells)])
        rows.append(["studies", str(self.studies), *(str(self.parts[p]) for p in parts)])
        return grid(rows)


def run_check(
    workspace: str | Path = ".",
    *,
    files: bool = True,
    burned_in: bool = False,
    progress: bool = True,
) -> CheckOutcome:
    """Check manifest, files, views, labels and splits; nothing is changed.

    Args:
        workspace: its folder.
        files: open every image, which finds damaged files and identical images; without it
            only the table is looked at.
        burned_in: ask every DICOM file whether names or numbers are part of its picture.
        progress: show bars.
    """
    project = Project(workspace, progress=progress)
    manifest = project.quiet_manifest()
    problems = [*manifest.problems, *import_problems(project, manifest)]
    views = {name: _view(project, manifest, name) for name in project.config.views}
    records = project.contents if files else None
    if records is not None:
        problems += file_problems(manifest, records)
        for name, view in views.items():
            if project.view(name).source in project.sources:
                view["files"] = summarise(_records_of(project, manifest, name, records))
    problems += input_problems(project, manifest, records)
    parts: dict[str, int] = {}
    folds: list[int] = []
    stands: Mapping[str, str] = {}
    labels = label_counts(manifest, None)
    try:
        previous = read_split(project.workspace.split)
        stands = previous.parts if previous is not None else {}
        problems += wishes(project).problems
        split = deal_split(project, previous, files=files)
        parts, labels, stands = split.counts(), label_counts(manifest, split), split.parts
        folds = split.fold_counts()
        problems += label_problems(labels)
    except MvpError as error:
        problems.append(Problem("split", "error", str(error)))
    problems += leak_problems(project, stands, records)
    problems += repeated_images(project, manifest)
    burned = None
    if burned_in:
        burned, said = burned_in_problems(project)
        problems += said
    names, presence = view_presence(project, manifest)
    if count := int((~presence.any(axis=1)).sum()):
        problems.append(
            Problem("no-view", "error", f"{count} studies have an image of no view", count)
        )
    return CheckOutcome(
        table=str(project.workspace.folder / project.config.data.table),
        read_as=manifest.source,
        patients=len(set(manifest.patients.tolist())),
        studies=len(manifest),
        images=len(manifest.images),
        views=views,
        patterns=pattern_counts(names, presence),
        studies_with_all_views=int(presence.all(axis=1).sum()),
        studies_without_views=count,
        parts=parts,
        folds=folds,
        labels=labels,
        problems=problems,
        files_read=files,
        burned_in=burned,
    )


def _records_of(
    project: Project, manifest: Manifest, name: str, records: Mapping[str, FileRecord]
) -> list[FileRecord]:
    """Of every file that belongs to a view, once."""
    images = manifest.images
    files = images.loc[images["view"] == project.view(name).source, "file"].unique()
    return [records[file] for file in files if file in records]


def _view(project: Project, manifest: Manifest, name: str) -> dict[str, Any]:
    if project.config.views[name].imported:
        found = read_import(project.workspace, name)
        present = int(found.present(manifest.studies).sum()) if found is not None else 0
        return {"images": 0, "studies": present, "studies_with_several": 0, "imported": True}
    if project.config.views[name].columns:
        filled = int(manifest.filled(name).sum())
        return {"images": 0, "studies": filled, "studies_with_several": 0}
    source = project.view(name).source
    studies = manifest.images.loc[manifest.images["view"] == source, "study"]
    return {
        "images": len(studies),
        "studies": int(studies.nunique()),
        "studies_with_several": int((studies.value_counts() > 1).sum()),
    }
