"""What `mvp check` finds wrong: with labels, views, files, and between patients and parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from mvp.data.ahead import work_ahead
from mvp.data.reading.decoding import says_burned_in
from mvp.data.reading.inventory import FileRecord
from mvp.data.reading.readers import SUFFIXES
from mvp.data.splits.leaks import image_problems, near_leaks, near_problems, patient_problems
from mvp.data.tables.manifest import Manifest, Problem
from mvp.errors import MvpError
from mvp.pipeline.items import view_items
from mvp.pipeline.project import Project

SHOWN = 5
_DICOM = tuple(suffix for suffix in SUFFIXES if suffix in (".dcm", ".dicom"))


def leak_problems(
    project: Project, parts: Mapping[str, str], records: Mapping[str, FileRecord] | None
) -> list[Problem]:
    """Patients and images in two places; without records only patients are looked at."""
    manifest = project.manifest
    problems = patient_problems(manifest, parts)
    if records is not None:
        problems += image_problems(manifest, records, parts)
        problems += near_problems(manifest, near_leaks(manifest, records), parts)
    return problems


def label_problems(labels: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """Labels with a class missing, altogether or in a part."""
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


def repeated_images(project: Project, manifest: Manifest) -> list[Problem]:
    """Views that refuse several images of one study, and have them."""
    problems = []
    for name in project.config.views:
        try:
            project.view_images(manifest, project.view(name))
        except MvpError as error:
            problems.append(Problem("several-images", "error", str(error)))
    return problems


def file_problems(manifest: Manifest, records: Mapping[str, FileRecord]) -> list[Problem]:
    """Files that cannot be used, by reason."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in manifest.images.itertuples():
        record = records.get(row.file)
        if record is not None and record.error:
            reasons[record.error.split(":")[0]].append(f"{_place(manifest, row)} ({record.error})")
    return [
        Problem("file", "error", f"{len(rows)} images: {reason}; {_some(rows)}", len(rows))
        for reason, rows in reasons.items()
    ]


def input_problems(
    project: Project, manifest: Manifest, records: Mapping[str, FileRecord] | None
) -> list[Problem]:
    """Cells that are no numbers, and files of another kind than their view; by view.

    Args:
        project: the workspace.
        manifest: its studies.
        records: what the files are; without it only cells are looked at.
    """
    problems = []
    for name, settings in project.config.views.items():
        if settings.imported or not (settings.columns or records):
            continue
        view = project.view(name)
        try:
            items = view_items(project, manifest, view, records or {})
        except MvpError:
            continue  # several images where one is allowed: told elsewhere
        # Readable files only: the others are told by reason.
        wrong = [i for i in items if i.error and (not i.path or (i.record and i.record.pixels))]
        if wrong:
            told = [
                f"study {manifest.studies[i.study]}{f', {i.path}' if i.path else ''} ({i.error})"
                for i in wrong
            ]
            text = f"{len(wrong)} inputs of view {name} cannot be used: {_some(told)}"
            problems.append(Problem("input", "error", text, len(wrong)))
    return problems


def burned_in_problems(project: Project) -> tuple[dict[str, int], list[Problem]]:
    """DICOM files by what they say of names and numbers in their picture (BurnedInAnnotation).

    Returns:
        Counts of `yes`, `no` and `unsaid`, and the rows that say yes.
    """
    manifest, limits = project.manifest, project.limits()
    counts = {"yes": 0, "no": 0, "unsaid": 0}
    images = manifest.images[manifest.images["error"] == ""]
    files = list(dict.fromkeys(images["file"]))
    answers = work_ahead(
        lambda file: [says_burned_in(file, limits)],
        files,
        lambda _: 1,
        project.workers,
        16 * project.workers,
    )
    told = dict(zip(files, answers, strict=True))
    rows = []
    for row in images.itertuples():
        said = told[row.file]
        if said == "unsaid" and not row.file.lower().endswith(_DICOM):
            continue  # no DICOM file, most likely: it has no such tag
        counts[said] += 1
        if said == "yes":
            rows.append(_place(manifest, row))
    problems = []
    if rows:
        text = (
            f"{len(rows)} images say that names or numbers are part of their picture "
            f"(BurnedInAnnotation), and {counts['unsaid']} do not say: {_some(rows)}"
        )
        problems.append(Problem("burned-in", "warning", text, len(rows)))
    elif counts["unsaid"]:
        text = (
            f"{counts['unsaid']} DICOM images do not say whether names or numbers are part of "
            "their picture (BurnedInAnnotation)"
        )
        problems.append(Problem("burned-in-unsaid", "warning", text, counts["unsaid"]))
    return counts, problems


def _place(manifest: Manifest, row: Any) -> str:
    return f"line {row.line}, study {manifest.studies[row.study]}, {row.view}: {row.path}"


def _some(rows: list[str]) -> str:
    return "; ".join(rows[:SHOWN]) + ("; …" if len(rows) > SHOWN else "")
