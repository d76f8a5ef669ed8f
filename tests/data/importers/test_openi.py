"""OpenI: one XML per study, headers that do not know their view, XML of strangers."""

import csv
import io
import re
import tarfile

import pytest
from importing import command, import_and_check, manifest, refused
from published import as_text, known, published

from mvp.data.importers import openi_reports
from mvp.data.importers.openi_reports import parse_report, read_reports
from mvp.errors import DataError


def report(n, images, terms, caption="Xray Chest PA and Lateral"):
    parents = "".join(
        f'<parentImage id="{image}"><caption>{caption}</caption></parentImage>' for image in images
    )
    majors = "".join(f"<major>{term}</major>" for term in terms)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation><uId id="CXR{n}"/><MedlineCitation>'
        '<Abstract><AbstractText Label="INDICATION">Chest\n   pain</AbstractText>'
        '<AbstractText Label="FINDINGS"/><AbstractText Label="IMPRESSION">= normal, "clear"'
        f"</AbstractText></Abstract></MedlineCitation><MeSH>{majors}</MeSH>{parents}</eCitation>"
    )


def collection(folder, studies=12):
    """Frontal and lateral of each study; the header of some knows no view, or the wrong one."""
    reports, rows = folder / "reports", [["imageid", "View Position", "Patient's Name"]]
    reports.mkdir()
    for n in range(1, studies + 1):
        ids = [f"CXR{n}_{n}_IM-{n:04d}-1001", f"CXR{n}_IM-{n:04d}-2001"]
        terms = [
            ["normal"],
            ["Opacity/lung/base", "Lung/hypoinflation", "Opacity/lung/apex"],
            ["No Indexing"],
        ][n % 3]
        (reports / f"{n}.xml").write_text(report(n, ids, terms))
        views = {1: ("PA", ""), 2: ("PA", "PA"), 3: ("PA", None)}.get(n, ("PA", "LL"))
        short = [f"CXR{n}_IM-{n:04d}-{i}001" for i in (1, 2)]
        rows += [[i, v, "X"] for i, v in zip(short, views, strict=True) if v is not None]
    metadata = folder / "metadata.csv"
    with metadata.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return reports, metadata


def packed(reports, path, *, link=False, extra=()):
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(reports.glob("*.xml")):
            archive.add(file, f"../../ecgen/{file.name}")
        if link:
            entry = tarfile.TarInfo("evil.xml")
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(entry)
        for name, content in extra:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_reports_are_joined_with_the_views_of_the_headers(tmp_path):
    reports, metadata = collection(tmp_path)
    out = tmp_path / "work"
    imported, checked = import_and_check("openi", reports, out, "--metadata", metadata)
    assert imported["rows"] == 24
    assert imported["left_out"] == {
        "with a blank view in the metadata": 1,
        "not in the metadata": 1,
        "of studies captioned as frontal and lateral whose headers say frontal only": 2,
    }
    assert imported["views"] == {"frontal": 11, "lateral": 9}
    assert checked["studies"] == checked["patients"] == 11
    rows = {r["path"]: r for r in manifest(out)}
    first = rows["CXR1_1_IM-0001-1001.png"]
    assert first["findings"] == "Opacity|Lung/hypoinflation"
    assert first["text_indication"] == "Chest pain"
    assert first["text_impression"] == '= normal, "clear"'
    assert rows["CXR5_5_IM-0005-1001.png"]["findings"] == ""
    # Of the 11 studies, 3 have no indexing.
    assert known(checked, "normal") == (4, 4)
    assert known(checked, "Opacity") == (4, 4)
    assert "Patient's Name" not in first


def test_an_archive_says_the_same_and_nothing_is_unpacked(tmp_path):
    reports, metadata = collection(tmp_path)
    archive = packed(reports, tmp_path / "NLMCXR_reports.tgz", link=True)
    before = sorted(tmp_path.rglob("*"))
    assert list(read_reports(archive)) == list(read_reports(reports))
    assert sorted(tmp_path.rglob("*")) == before
    import_and_check("openi", archive, tmp_path / "a", "--metadata", metadata)
    import_and_check("openi", reports, tmp_path / "b", "--metadata", metadata)
    assert manifest(tmp_path / "a") == manifest(tmp_path / "b")


def test_views_read_by_eye_are_believed(tmp_path):
    reports, _ = collection(tmp_path)
    table = tmp_path / "indiana_projections.csv"
    lines = [f"{n},{n}_IM-{n:04d}-1001.dcm.png,Frontal" for n in range(1, 13)]
    lines += [f"{n},{n}_IM-{n:04d}-2001.dcm.png,Lateral" for n in range(1, 13)]
    table.write_text("\n".join(["uid,filename,projection", *lines]) + "\n")
    imported, checked = import_and_check("openi", reports, tmp_path / "w", "--metadata", table)
    assert imported["left_out"] == {}
    assert checked["studies_with_all_views"] == 12
    assert manifest(tmp_path / "w")[0]["path"] == "1_IM-0001-1001.dcm.png"


def test_dicom_files_are_found_where_they_lie(tmp_path):
    reports, metadata = collection(tmp_path)
    (tmp_path / "dcm" / "1").mkdir(parents=True)
    (tmp_path / "dcm" / "1" / "1_IM-0001-1001.dcm").touch()
    import_and_check(
        *("openi", reports, tmp_path / "w", "--metadata", metadata, "--root", tmp_path / "dcm")
    )
    assert manifest(tmp_path / "w")[0]["path"] == "1/1_IM-0001-1001.dcm"


BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><eCitation><uId id="&b;"/></eCitation>'


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (BOMB.encode(), "declares a document type"),
        (BOMB.encode("utf-16"), "not UTF-8"),
        (b"<?xml version='1.0' encoding='utf-7'?>" + BOMB.replace("<", "+ADw-").encode(), "no XML"),
        (b"<eCitation><uId", "no XML"),
        (b"<eCitation/>", "no uId"),
    ],
)
def test_xml_that_would_expand_or_is_no_report_is_refused(content, what):
    with pytest.raises(DataError, match=what):
        parse_report(content, "1.xml")


def test_deep_nesting_is_no_crash():
    deep = b"<uId id='CXR1'>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</uId>"
    assert parse_report(b"<eCitation>" + deep + b"</eCitation>", "1.xml").study == "CXR1"


def test_what_is_too_large_is_not_read(tmp_path, monkeypatch):
    reports, metadata = collection(tmp_path)
    monkeypatch.setattr(openi_reports, "MAX_REPORT_BYTES", 5_000)
    large = packed(reports, tmp_path / "a.tgz", extra=[("large.xml", b" " * 5_001)])
    said = refused("openi", large, tmp_path / "w", "--metadata", metadata)
    assert "a report has more than 5,000 bytes (file large.xml)" in said
    monkeypatch.setattr(openi_reports, "MAX_ARCHIVE_BYTES", 100_000)
    bomb = packed(reports, tmp_path / "b.tgz", extra=[("image.png", b"\0" * 100_000)])
    said = refused("openi", bomb, tmp_path / "w", "--metadata", metadata)
    assert "unpacks to more than 100,000 bytes" in said


def test_sources_that_are_none_are_refused_in_one_line(tmp_path):
    reports, metadata = collection(tmp_path)
    assert "openi needs --metadata" in refused("openi", reports, tmp_path / "w")
    empty = tmp_path / "empty"
    empty.mkdir()
    said = refused("openi", empty, tmp_path / "w", "--metadata", metadata)
    assert "there are no XML files" in said
    said = refused("openi", metadata, tmp_path / "w", "--metadata", metadata)
    assert "no readable archive" in said
    whole = packed(reports, tmp_path / "whole.tgz").read_bytes()
    (tmp_path / "cut.tgz").write_bytes(whole[: len(whole) // 2])
    said = refused("openi", tmp_path / "cut.tgz", tmp_path / "w", "--metadata", metadata)
    assert "no readable archive" in said
    (reports / "copy.xml").write_text((reports / "1.xml").read_text())
    said = refused("openi", reports, tmp_path / "w", "--metadata", metadata)
    assert "two reports are of one study (study CXR1" in said


@pytest.mark.slow
def test_the_whole_collection(tmp_path):
    archive = published("NLMCXR_reports.tgz")
    headers = published("nlmcxr_dicom_metadata.csv.gz")
    imported, checked = import_and_check(
        "openi", archive, tmp_path / "w", "--metadata", headers, "--root", tmp_path
    )
    # By searching the text of the files instead of parsing it.
    studies = {}
    with tarfile.open(archive) as files:
        for member in files:
            if member.isfile():
                text = files.extractfile(member).read().decode()
                studies[re.search(r'<uId id="(\w+)"', text)[1]] = text
    assert len(studies) == 3_955
    table = as_text(headers)
    assert (table["View Position"] == "").sum() == 2_586
    views = dict(zip(table["filename"].str[2:-4], table["View Position"], strict=True))
    counts, both, kept, alike = {"frontal": 0, "lateral": 0}, 0, set(), 0
    total = 0
    for study, text in studies.items():
        ids = re.findall(r'<parentImage id="CXR[\w-]*?(\d+_IM-[\d-]+)"', text)
        total += len(ids)
        found = [views.get(i, "") for i in ids]
        frontal = sum(v in ("PA", "AP") for v in found)
        lateral = sum(v not in ("", "PA", "AP") for v in found)
        captions = "".join(re.findall(r"<caption>(.*?)</caption>", text, re.S)).lower()
        if frontal > 1 and not lateral and "lateral" in captions:
            alike += frontal
            continue
        counts["frontal"] += frontal
        counts["lateral"] += lateral
        both += bool(frontal and lateral)
        kept |= {study} if frontal or lateral else set()
    assert imported["rows"] == total == 7_470
    assert imported["views"] == counts
    assert imported["left_out"] == {
        "with a blank view in the metadata": 2_586,
        "not in the metadata": 1,
        "of studies captioned as frontal and lateral whose headers say frontal only": alike,
    }
    assert checked["studies"] == len(kept)
    assert checked["studies_with_all_views"] == both
    indexed = [s for s in kept if "<major>No Indexing</major>" not in studies[s]]
    for label in ("normal", "Opacity", "Cardiomegaly", "Pleural Effusion"):
        positive = sum(bool(re.search(rf"<major>{label} ?[/<]", studies[s])) for s in indexed)
        assert known(checked, label) == (positive, len(indexed) - positive), label
    code, said, _ = command("import", "openi", archive, "--metadata", headers, "--out", tmp_path)
    assert code == 0
    assert "104 of 3955 reports have no image" in said
