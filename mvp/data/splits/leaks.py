"""Leaks: one patient, or one image, in two places that must not know of each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mvp.data.reading.inventory import FileRecord
from mvp.data.splits.near import CROWD, near_pairs, shows_something
from mvp.data.tables.manifest import Manifest, Problem

SHOWN = 5


@dataclass(frozen=True)
class Place:
    """Where an image stands: index of its study, line of the table, path as written there."""

    study: int
    line: int
    path: str


@dataclass(frozen=True)
class NearLeaks:
    """Nearly identical images of different patients.

    Attributes:
        pairs: two places and the similarity of their images.
        blank: how many different images show nothing and were compared with none.
        crowded: how many are alike in groups too large to be one film.
    """

    pairs: tuple[tuple[Place, Place, float], ...]
    blank: int = 0
    crowded: int = 0


def places(manifest: Manifest, records: Mapping[str, FileRecord]) -> dict[str, list[Place]]:
    """Digest of pixels to the places of that image; files that could not be decoded are left out.

    Texts are left out as well: reports may say the same.
    """
    found: dict[str, list[Place]] = defaultdict(list)
    images = manifest.images
    rows = zip(images["study"], images["line"], images["path"], images["file"], strict=True)
    for study, line, path, file in rows:
        record = records.get(file)
        if record is not None and record.pixels and record.look:
            found[record.pixels].append(Place(int(study), int(line), str(path)))
    return found


def near_leaks(manifest: Manifest, records: Mapping[str, FileRecord]) -> NearLeaks:
    """Nearly identical images of different patients; identical ones are another matter."""
    where = places(manifest, records)
    looks = {r.pixels: bytes.fromhex(r.look) for r in records.values() if r.pixels and r.look}
    near = near_pairs({digest: looks[digest] for digest in where})
    pairs = []
    for pair in near.pairs:
        first, second = where[pair.first], where[pair.second]
        patients = {manifest.patients[p.study] for p in first}
        others = [p for p in second if manifest.patients[p.study] not in patients]
        if others:
            pairs.append((first[0], others[0], pair.similarity))
    return NearLeaks(tuple(pairs), near.blank, near.crowded)


def patient_problems(manifest: Manifest, parts: Mapping[str, str]) -> list[Problem]:
    """Patients that stand in two parts; by dealing there are none, but files can be edited."""
    first: dict[str, int] = {}
    apart: dict[str, tuple[int, int]] = {}
    for index, patient in enumerate(map(str, manifest.patients)):
        part = parts.get(str(manifest.studies[index]))
        if part is None:
            continue
        other = first.setdefault(patient, index)
        if parts[str(manifest.studies[other])] != part:
            apart.setdefault(patient, (other, index))
    if not apart:
        return []
    lines = _lines(manifest)
    told = [
        " and ".join(_told(manifest, Place(i, lines.get(i, 0), ""), parts) for i in pair)
        for pair in apart.values()
    ]
    text = f"{len(apart)} patients stand in two parts: {_some(told)}"
    return [Problem("patient-in-two-parts", "error", text, len(apart))]


def image_problems(
    manifest: Manifest, records: Mapping[str, FileRecord], parts: Mapping[str, str]
) -> list[Problem]:
    """Identical pixels in several places: across patients they would leak, so it is said."""
    torn: list[str] = []
    across: list[str] = []
    within = 0
    looks = {r.pixels: r.look for r in records.values()}
    blank = 0
    for digest, rows in places(manifest, records).items():
        if len(rows) < 2:
            continue
        patients = Counter(str(manifest.patients[row.study]) for row in rows)
        if len(patients) == 1:
            within += len(rows) - 1
            continue
        if not shows_something(looks[digest]):
            blank += len(rows)
            continue
        told = " = ".join(_told(manifest, row, parts) for row in rows[:SHOWN])
        told += f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        (torn if _parts_of(manifest, rows, parts) > 1 else across).append(told)
    problems = []
    if torn:
        text = f"{len(torn)} images stand in two parts of the split: {_some(torn)}"
        problems.append(Problem("same-image-two-parts", "error", text, len(torn)))
    if across:
        text = (
            f"{len(across)} images stand under two patients; the split keeps these patients "
            f"together: {_some(across)}"
        )
        problems.append(Problem("same-image-two-patients", "warning", text, len(across)))
    if blank:
        text = f"{blank} images are of one value throughout, and link no patients"
        problems.append(Problem("blank-image", "warning", text, blank))
    if within:
        text = (
            f"{within} images repeat another one of the same patient; each goes through the "
            "network once"
        )
        problems.append(Problem("same-image-twice", "warning", text, within))
    return problems


def near_problems(manifest: Manifest, found: NearLeaks, parts: Mapping[str, str]) -> list[Problem]:
    """Nearly identical images of two patients, those in two parts first."""
    torn: list[str] = []
    together: list[str] = []
    for first, second, similarity in found.pairs:
        told = " ~ ".join(_told(manifest, place, parts) for place in (first, second))
        apart = _parts_of(manifest, (first, second), parts) > 1
        (torn if apart else together).append(f"{told}, similarity {similarity:.2f}")
    problems = []
    if torn or together:
        where = f", {len(torn)} of them in two parts of the split" if parts else ""
        text = (
            f"{len(found.pairs)} pairs of images of two patients are nearly the same{where}: "
            f"{_some([*torn, *together])}. Look at them; if they are copies, correct the patient "
            'ids, or set split.near = "link" and run `mvp split --force`'
        )
        problems.append(Problem("near-image-two-patients", "warning", text, len(found.pairs)))
    if found.crowded:
        text = (
            f"{found.crowded} images look alike in groups of more than {CROWD}, as test patterns "
            "or black frames do; their pairs are not listed, and link no patients"
        )
        problems.append(Problem("crowded-images", "warning", text, found.crowded))
    return problems


def _parts_of(manifest: Manifest, rows: Sequence[Place], parts: Mapping[str, str]) -> int:
    found = {parts.get(str(manifest.studies[row.study])) for row in rows}
    return len(found - {None})


def _lines(manifest: Manifest) -> dict[int, int]:
    """Index of a study to the first line of its images."""
    images = manifest.images.drop_duplicates("study")
    return dict(zip(images["study"].tolist(), images["line"].tolist(), strict=True))


def _told(manifest: Manifest, place: Place, parts: Mapping[str, str]) -> str:
    study = str(manifest.studies[place.study])
    said = [f"study {study}", f"patient {manifest.patients[place.study]}"]
    if part := parts.get(study):
        said.append(f"part {part}")
    if place.path:
        said.insert(0, place.path)
    line = f"line {place.line} " if place.line else ""
    return f"{line}({', '.join(said)})"


def _some(told: Sequence[str]) -> str:
    return "; ".join(told[:SHOWN]) + ("; …" if len(told) > SHOWN else "")
