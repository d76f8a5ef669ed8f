"""MIMIC-CXR-JPG: three tables that are one, views that are none of the two, published splits."""

import csv
import gzip

import pytest
from importing import command, import_and_check, manifest, refused
from published import known

from mvp.data.importers.chest import CHEXPERT_LABELS

LABELS = sorted(CHEXPERT_LABELS)


def write(path, rows):
    with gzip.open(path, "wt", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def tables(folder, patients=12):
    """Twelve patients, two studies each: PA and LATERAL, then AP and LL, and an oblique film."""
    images = [["dicom_id", "subject_id", "study_id", "ViewPosition", "Rows"]]
    labels, splits = (
        [["subject_id", "study_id", *LABELS]],
        [["dicom_id", "study_id", "subject_id", "split"]],
    )
    for p in range(patients):
        subject, part = str(10_000_032 + p), ["train", "validate", "test"][p % 3]
        for s, views in enumerate((["PA", "LATERAL"], ["AP", "LL", "LPO", ""])):
            study = str(50_000_000 + 10 * p + s)
            for view in views:
                image = f"{p:02d}{s}-{view or 'blank'}"
                images.append([image, subject, study, view, "3056"])
                splits.append([image, study, subject, part])
            cells = {"Edema": ["1.0", "0.0", "-1.0", ""][p % 4]}
            cells |= {"No Finding": "1.0"} if cells["Edema"] == "0.0" else {}
            if study != "50000000":
                labels.append([subject, study, *(cells.get(name, "") for name in LABELS)])
    return {
        "metadata": write(folder / "mimic-cxr-2.0.0-metadata.csv.gz", images),
        "labels": write(folder / "mimic-cxr-2.0.0-chexpert.csv.gz", labels),
        "split": write(folder / "mimic-cxr-2.0.0-split.csv.gz", splits),
    }


def test_three_tables_become_one_manifest(tmp_path):
    t = tables(tmp_path)
    out = tmp_path / "work"
    imported, checked = import_and_check(
        "mimic-cxr", t["metadata"], out, "--labels", t["labels"], "--split", t["split"]
    )
    assert imported["rows"] == 72
    assert imported["left_out"] == {"of ViewPosition 'LPO'": 12, "with a blank ViewPosition": 12}
    assert imported["views"] == {"frontal": 24, "lateral": 24}
    assert (checked["patients"], checked["studies"]) == (12, 24)
    assert checked["studies_with_all_views"] == 24
    assert checked["parts"]["test"] == 8
    assert "1 studies stand not in the table of labels: unknown there" in imported["notes"]
    # Both studies of a patient share a cell; the first study of the first has no labels.
    assert known(checked, "Edema") == (5, 6)
    assert known(checked, "No Finding") == (6, 11)
    row = manifest(out)[0]
    assert row["path"] == "files/p10/p10000032/s50000000/000-PA.jpg"
    assert (row["study"], row["patient"], row["split"]) == ("50000000", "10000032", "train")
    assert {r["split"] for r in manifest(out)} == {"train", "test"}


def test_without_the_published_split_mvp_deals(tmp_path):
    t = tables(tmp_path)
    import_and_check("mimic-cxr", t["metadata"], tmp_path / "work", "--labels", t["labels"])
    assert "split" not in manifest(tmp_path / "work")[0]


def test_labels_of_another_patient_with_the_same_study_number_are_not_taken(tmp_path):
    t = tables(tmp_path)
    with gzip.open(t["labels"], "rt", newline="") as stream:
        rows = list(csv.reader(stream))
    for row in rows[2:]:
        row[0] = str(int(row[0]) + 500)
    rows[1][2:] = [""] * len(LABELS)
    write(t["labels"], rows)
    code, said, err = command(
        *("import", "mimic-cxr", t["metadata"], "--labels", t["labels"]),
        *("--out", tmp_path / "work", "--json"),
    )
    assert code == 0, err
    assert "23 studies stand not in the table of labels: unknown there" in said
    rows = manifest(tmp_path / "work")
    assert {row[name] for row in rows for name in LABELS} == {""}


def test_labels_are_needed_and_metadata_are_the_source(tmp_path):
    t = tables(tmp_path)
    assert "mimic-cxr needs --labels" in refused("mimic-cxr", t["metadata"], tmp_path / "work")
    said = refused(
        "mimic-cxr",
        t["metadata"],
        tmp_path / "work",
        "--labels",
        t["labels"],
        "--metadata",
        t["metadata"],
    )
    assert "takes no --metadata" in said


@pytest.mark.parametrize(
    ("name", "row", "what"),
    [
        ("metadata", ["x", "../../etc", "5", "PA", "1"], "a subject_id of other than digits"),
        ("metadata", ["", "10000032", "5", "PA", "1"], "no dicom_id"),
        ("metadata", ["../../x", "10000032", "5", "PA", "1"], "a dicom_id that is no file name"),
        ("labels", ["10000033", "50000010", *[""] * 14], "repeat a subject and study"),
        ("split", ["000-PA", "50000000", "10000032", "test"], "repeat a dicom_id"),
        ("split", ["new", "50000000", "10000032", "holdout"], "other than train, validate"),
    ],
)
def test_a_table_that_is_not_as_published_is_refused(tmp_path, name, row, what):
    t = tables(tmp_path)
    with gzip.open(t[name], "rt", newline="") as stream:
        rows = list(csv.reader(stream))
    write(t[name], [*rows, row])
    said = refused(
        "mimic-cxr",
        t["metadata"],
        tmp_path / "work",
        "--labels",
        t["labels"],
        "--split",
        t["split"],
    )
    assert what in said
    assert f"line {len(rows) + 1}" in said


@pytest.mark.parametrize(
    ("name", "columns", "what"),
    [("labels", (0, 1), "no study of the metadata"), ("split", (0,), "no image of the metadata")],
)
def test_a_table_that_has_nothing_in_common_with_the_images_is_refused(
    tmp_path, name, columns, what
):
    """Ids that went through a data frame match nothing: all labels, or the split, are lost."""
    t = tables(tmp_path)
    with gzip.open(t[name], "rt", newline="") as stream:
        head, *rows = csv.reader(stream)
    for row in rows:
        for column in columns:
            row[column] += ".0"
    write(t[name], [head, *rows])
    options = ["--labels", t["labels"], "--split", t["split"]]
    said = refused("mimic-cxr", t["metadata"], tmp_path / "work", *options)
    assert what in said
    assert t[name].name in said
    assert ".0" in said


def test_metadata_without_one_usable_view_say_so(tmp_path):
    t = tables(tmp_path)
    with gzip.open(t["metadata"], "rt", newline="") as stream:
        head, *rows = csv.reader(stream)
    write(t["metadata"], [head, *([*row[:3], "LPO", row[4]] for row in rows)])
    options = ["--labels", t["labels"], "--split", t["split"]]
    said = refused("mimic-cxr", t["metadata"], tmp_path / "work", *options)
    assert "no image is left to import" in said
