"""The reports of OpenI: XML of strangers, read out of an archive or a folder within bounds."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from mvp.errors import DataError

MAX_REPORT_BYTES = 1_000_000
MAX_ARCHIVE_BYTES = 1_000_000_000
# Heads that name a place: what is found there stands among their qualifiers.
_PLACES = frozenset(
    {
        "aorta",
        "aorta, thoracic",
        "cardiac shadow",
        "cervical vertebrae",
        "costophrenic angle",
        "diaphragm",
        "heart",
        "lumbar vertebrae",
        "lung",
        "mediastinum",
        "pulmonary artery",
        "shoulder",
        "spine",
        "thoracic vertebrae",
    }
)
_CHANGES = frozenset(
    {
        "blunted",
        "degenerative",
        "elevated",
        "enlarged",
        "flattened",
        "hyperdistention",
        "hypoinflation",
        "obscured",
        "prominent",
        "tortuous",
    }
)
_NOTHING = "no indexing"


@dataclass(frozen=True)
class Report:
    """One study: its id, its images, its findings and the sections of its report.

    `two_views` where a caption speaks of a lateral film among several images.
    """

    study: str
    images: tuple[str, ...]
    findings: tuple[str, ...]
    sections: dict[str, str]
    two_views: bool


def read_reports(source: Path) -> Iterator[Report]:
    """Every report of a folder of XML files, or of a tar archive, in the order of names.

    Nothing is unpacked to disk, and nothing but plain files is looked at.

    Raises:
        DataError: no archive, a file over the bounds, or one that is no report; it is named.
    """
    found: dict[str, str] = {}
    for name, content in sorted(_files(source)):
        report = parse_report(content, name)
        if report.study in found:
            raise DataError(
                "two reports are of one study",
                study=report.study,
                path=name,
                cause=f"{found[report.study]} is of it too",
            )
        found[report.study] = name
        yield report
    if not found:
        raise DataError(
            "there are no XML files",
            path=source,
            remedy="openi is given NLMCXR_reports.tgz, or the folder of its XML files",
        )


def parse_report(content: bytes, name: str) -> Report:
    """What one XML file says.

    Args:
        content: the file.
        name: for errors.

    Raises:
        DataError: it is no report, or declares entities.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("the report is not UTF-8", path=name) from None
    # Without a document type there are no entities to expand and nothing to fetch; the text is
    # decoded first, so that no other encoding can hide one.
    if "<!doctype" in text.casefold() or "<!entity" in text.casefold():
        raise DataError(
            "the report declares a document type, which may expand without end",
            path=name,
            remedy="take it out of the folder",
        )
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError("the report is no XML", path=name, cause=str(error)) from None
    uid = root.find("uId")
    study = "" if uid is None else uid.get("id", "").strip()
    if not study:
        raise DataError("the report has no uId", path=name, remedy="take it out of the folder")
    sections = {
        (part.get("Label") or "").casefold(): " ".join((part.text or "").split())
        for part in root.iter("AbstractText")
    }
    images = tuple(
        dict.fromkeys(i for p in root.iter("parentImage") if (i := p.get("id", "").strip()))
    )
    captions = " ".join(part.text or "" for part in root.iter("caption")).casefold()
    two_views = len(images) > 1 and "lateral" in captions
    return Report(study, images, _findings(root), sections, two_views)


def _findings(root: ElementTree.Element) -> tuple[str, ...]:
    """Heads of the MeSH terms that a person gave: `Opacity/lung/base` is `Opacity`."""
    found = []
    for term in root.findall("MeSH/major"):
        head, *qualifiers = [part.strip() for part in (term.text or "").split("/")]
        changes = [q for q in qualifiers if q.casefold() in _CHANGES]
        if head.casefold() in _PLACES and changes:
            found += [f"{head}/{change}" for change in changes]
        elif head and head.casefold() != _NOTHING:
            found.append(head)
    return tuple(dict.fromkeys(f for f in found if "|" not in f))


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        for path in source.rglob("*.xml"):
            if path.is_file():
                with path.open("rb") as stream:
                    yield (
                        str(path.relative_to(source)),
                        _bounded(stream.read(MAX_REPORT_BYTES + 1), str(path)),
                    )
        return
    try:
        total = 0
        with tarfile.open(source) as archive:
            for member in archive:
                total += member.size
                if total > MAX_ARCHIVE_BYTES:
                    raise DataError(
                        f"the archive unpacks to more than {MAX_ARCHIVE_BYTES:,} bytes",
                        path=source,
                        remedy="give NLMCXR_reports.tgz, the reports without images",
                    )
                packed = archive.extractfile(member) if member.isreg() else None
                if packed is not None and member.name.endswith(".xml"):
                    yield member.name, _bounded(packed.read(MAX_REPORT_BYTES + 1), member.name)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(
            "the source is no readable archive", path=source, cause=str(error)
        ) from None


def _bounded(content: bytes, name: str) -> bytes:
    if len(content) > MAX_REPORT_BYTES:
        raise DataError(f"a report has more than {MAX_REPORT_BYTES:,} bytes", path=name)
    return content
