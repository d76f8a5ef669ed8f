"""`mvp check`: look at everything before anything is computed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvp.data.inventory import FileRecord
from mvp.data.manifest import Manifest, Problem
from mvp.data.splits import PARTS, Split
from mvp.data.summary import summarise, summary_text
from mvp.errors import DataError, MvpError
from mvp.pipeline.imported import import_problems, imported_presence, read_import
from mvp.pipeline.project import Project
from mvp.reports import grid

SHOWN = 5


@dataclass
class CheckOutcome:
    """What the data are and what is wrong with them."""

    table: str
    patients: int
    studies: int
    images: int
    views: dict[str, dict[str, Any]]
    studies_with_all_views: int
    studies_without_views: int
    parts: dict[str, int]
    labels: dict[str, dict[str, Any]]
    problems: list[Problem]
    files_read: bool

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
            *[summary_text(name, v["files"]) for name, v in self.views.items() if "files" in v],
            *([""] if self.files_read else []),
            self._label_table(),
            "",
        ]
        if not self.problems:
            lines.append("no problems found" + ("" if self.files_read else " (files not read)"))
        lines += [f"{p.severity}: {p.text}" for p in self.problems]
        return "\n".join(lines)

    def _label_table(self) -> str:
        parts = [part for part in PARTS if part in self.parts]
        rows = [["label (positive/known)", "all", *parts]]
        for name, label in self.labels.items():
            cells = [label["all"], *(label["parts"][part] for part in parts)]
            rows.append([name, *(f"{c['positive']}/{c['known']}" for c in cells)])
        rows.append(["studies", str(self.studies), *(str(self.parts[p]) for p in parts)])
        return grid(rows)


def run_check(
    workspace: str | Path = ".", *, files: bool = True, progress: bool = True
) -> CheckOutcome:
    """Check manifest, files, views, labels and splits; nothing is changed.

    Args:
        workspace: its folder.
        files: open every image, which finds damaged files and identical images; without it
            only the table is looked at.
        progress: show bars.
    """
    project = Project(workspace, progress=progress)
    manifest = project.quiet_manifest()
    problems = [*manifest.problems, *import_problems(project, manifest)]
    views = {name: _view(project, manifest, name) for name in project.config.views}
    if files:
        records = project.contents
        problems += _file_problems(manifest, records)
        problems += _shared_images(manifest, records)
        for name, view in views.items():
            if not project.config.views[name].imported:
                view["files"] = summarise(_records_of(project, manifest, name, records))
    parts: dict[str, int] = {}
    labels = _labels(manifest, None)
    try:
        split = project.deal(files=files)
        parts, labels = split.counts(), _labels(manifest, split)
        problems += _label_problems(labels)
    except MvpError as error:
        problems.append(Problem("split", "error", str(error)))
    problems += _repeated_images(project, manifest)
    presence = np.hstack([manifest.presence(project.sources), imported_presence(project, manifest)])
    if (~presence.any(axis=1)).any():
        count = int((~presence.any(axis=1)).sum())
        problems.append(
            Problem("no-view", "error", f"{count} studies have an image of no view", count)
        )
    return CheckOutcome(
        table=str(project.workspace.folder / project.config.data.table),
        patients=len(set(manifest.patients.tolist())),
        studies=len(manifest),
        images=len(manifest.images),
        views=views,
        studies_with_all_views=int(presence.all(axis=1).sum()),
        studies_without_views=int((~presence.any(axis=1)).sum()),
        parts=parts,
        labels=labels,
        problems=problems,
        files_read=files,
    )


def _repeated_images(project: Project, manifest: Manifest) -> list[Problem]:
    problems = []
    for name in project.config.views:
        try:
            project.view_images(manifest, project.view(name))
        except MvpError as error:
            problems.append(Problem("several-images", "error", str(error)))
    return problems


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
    source = project.view(name).source
    studies = manifest.images.loc[manifest.images["view"] == source, "study"]
    return {
        "images": len(studies),
        "studies": int(studies.nunique()),
        "studies_with_several": int((studies.value_counts() > 1).sum()),
    }


def _labels(manifest: Manifest, split: Split | None) -> dict[str, dict[str, Any]]:
    result = {}
    everything = np.ones(len(manifest), bool)
    masks = {p: split.mask(manifest.studies, [p]) for p in PARTS} if split else {}
    for column, target in enumerate(manifest.labels.targets):
        values = manifest.labels.values[:, column]

        def count(
            mask: np.ndarray, values: np.ndarray = values, classes: tuple[str, ...] = target.classes
        ) -> dict[str, Any]:
            known = values[mask & ~np.isnan(values)]
            counted: dict[str, Any] = {
                "known": len(known),
                "unknown": int(mask.sum()) - len(known),
                "positive": int((known > 0).sum()),
                "negative": int((known == 0).sum()),
            }
            names = classes or ("negative", "positive")
            found = {c: int((known == i).sum()) for i, c in enumerate(names)}
            if classes:
                counted["classes"] = found
            counted["missing"] = [c for c, n in found.items() if not n]
            counted["found"] = sum(n > 0 for n in found.values())
            return counted

        result[target.name] = {
            "all": count(everything),
            "parts": {part: count(mask) for part, mask in masks.items()},
        }
    return result


def _label_problems(labels: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    problems = []
    for name, label in labels.items():
        whole = label["all"]
        if whole["found"] < 2:
            problems.append(
                Problem(
                    "one-class",
                    "error",
                    f"label {name!r} has fewer than two classes ({whole['known']} known, none is "
                    f"{', '.join(whole['missing'])}): it cannot be learnt; correct its rules in "
                    "mvp.toml or take it out",
                )
            )
            continue
        for part, counts in label["parts"].items():
            if counts["missing"]:
                missing = ", ".join(counts["missing"])
                problems.append(
                    Problem(
                        "one-class-in-part",
                        "warning",
                        f"label {name!r}: no study of part {part} is {missing}; what is measured "
                        "there is undefined",
                    )
                )
    return problems


def _file_problems(manifest: Manifest, records: Mapping[str, FileRecord]) -> list[Problem]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in manifest.images.itertuples():
        record = records.get(row.file)
        if record is not None and record.error:
            where = f"line {row.line}, study {manifest.studies[row.study]}, {row.view}: {row.path}"
            reasons[record.error.split(":")[0]].append(f"{where} ({record.error})")
    return [
        Problem(
            "file",
            "error",
            f"{len(rows)} images: {reason}; {'; '.join(rows[:SHOWN])}"
            + ("; …" if len(rows) > SHOWN else ""),
            len(rows),
        )
        for reason, rows in reasons.items()
    ]


def _shared_images(manifest: Manifest, records: Mapping[str, FileRecord]) -> list[Problem]:
    """Identical pixels in several places: across patients they would leak, so it is said."""
    places: dict[str, list[Any]] = defaultdict(list)
    for row in manifest.images.itertuples():
        record = records.get(row.file)
        if record is not None and record.pixels:
            places[record.pixels].append(row)
    across, within = [], 0
    for rows in places.values():
        if len(rows) < 2:
            continue
        patients = Counter(str(manifest.patients[row.study]) for row in rows)
        if len(patients) > 1:
            across.append(
                " = ".join(
                    f"line {row.line} ({row.path}, study {manifest.studies[row.study]}, patient "
                    f"{manifest.patients[row.study]})"
                    for row in rows
                )
            )
        else:
            within += len(rows) - 1
    problems = []
    if across:
        problems.append(
            Problem(
                "same-image-two-patients",
                "warning",
                f"{len(across)} images stand under two patients; the split keeps these patients "
                f"together: {'; '.join(across[:SHOWN])}" + ("; …" if len(across) > SHOWN else ""),
                len(across),
            )
        )
    if within:
        problems.append(
            Problem(
                "same-image-twice",
                "warning",
                f"{within} images repeat another one of the same patient; each goes through the "
                "network once",
                within,
            )
        )
    return problems
