"""MRNet: header-less labels, ids with leading zeros, a plane that is missing."""

import shutil

import numpy as np
import pytest
from importing import import_and_check, manifest, refused

PLANES = ("axial", "coronal", "sagittal")


def knees(folder, train=12, valid=6):
    """A tree like MRNet-v1.0; `0003` lacks its sagittal plane."""
    for part, numbers in (("train", range(train)), ("valid", range(train, train + valid))):
        for plane in PLANES:
            (folder / part / plane).mkdir(parents=True)
            for n in numbers:
                if (plane, n) != ("sagittal", 3):
                    stack = np.full((2, 8, 8), n, np.uint8)
                    np.save(folder / part / plane / f"{n:04d}.npy", stack)
        for label, step in (("abnormal", 2), ("acl", 3), ("meniscus", 4)):
            lines = [f"{n:04d},{int(n % step == 0)}" for n in numbers]
            (folder / f"{part}-{label}.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_every_plane_is_a_view_and_every_id_keeps_its_zeros(tmp_path):
    root = knees(tmp_path / "MRNet-v1.0")
    imported, checked = import_and_check("mrnet", root, tmp_path / "work")
    assert imported["images"] == 18 * 3 - 1
    assert imported["left_out"] == {"planes of a listed examination without a file": 1}
    assert imported["views"] == {"axial": 18, "coronal": 18, "sagittal": 17}
    assert checked["studies"] == 18
    rows = manifest(tmp_path / "work")
    assert {r["study"] for r in rows} == {f"{n:04d}" for n in range(18)}
    third = [r for r in rows if r["study"] == "0003"]
    assert [r["view"] for r in third] == ["axial", "coronal"]
    assert third[0]["path"] == "train/axial/0003.npy"
    assert {(r["split"], int(r["study"]) >= 12) for r in rows} == {("train", False), ("test", True)}
    for row in rows:
        n = int(row["study"])
        assert [row[x] for x in ("abnormal", "acl", "meniscus")] == [
            str(int(n % step == 0)) for step in (2, 3, 4)
        ]
    assert any("1 examinations lack a plane" in note for note in imported["notes"])


def test_the_settings_are_the_published_network_with_a_maximum_over_slices(tmp_path):
    import tomllib

    root = knees(tmp_path / "data")
    import_and_check("mrnet", root, tmp_path / "work")
    wrote = tomllib.loads((tmp_path / "work/mvp.toml").read_text())
    assert wrote["network"] == {"name": "alexnet", "weights": "DEFAULT"}
    assert wrote["training"]["slices"] == "max"
    assert wrote["head"]["instances"] == wrote["extract"]["instances"] == "max"


def test_byte_order_marks_windows_lines_and_a_label_twice(tmp_path):
    root = knees(tmp_path / "data")
    table = root / "train-acl.csv"
    lines = table.read_text().split()
    table.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines, "", lines[0]]).encode() + b"\r\n")
    import_and_check("mrnet", root, tmp_path / "work")
    acl = {r["study"]: r["acl"] for r in manifest(tmp_path / "work")}
    assert acl["0000"] == "1"
    assert acl["0001"] == "0"


def test_what_has_a_label_and_no_file_is_counted_and_what_has_a_file_and_no_label_is_kept(tmp_path):
    root = knees(tmp_path / "data")
    for plane in PLANES:
        (root / "train" / plane / "0005.npy").unlink()
        np.save(root / "train" / plane / "0900.npy", np.zeros((2, 8, 8), np.uint8))
        (root / "train" / plane / "._0001.npy").write_bytes(b"\0")
    (root / "train/axial/readme.txt").write_text("x")
    imported, _ = import_and_check("mrnet", root, tmp_path / "work")
    assert imported["left_out"] == {
        "planes of a listed examination without a file": 4,
        "hidden files and folders": 3,
        "files that are no .npy of a plane": 1,
    }
    assert imported["images"] == 19 * 3 - 4
    unlabelled = [r for r in manifest(tmp_path / "work") if r["study"] == "0900"]
    assert [r["abnormal"] for r in unlabelled] == ["", "", ""]
    said = " ".join(imported["notes"])
    assert "1 examinations of train have labels and no file at all" in said
    assert "1 examinations of train have files and no label" in said


def test_a_label_table_that_is_not_there_is_said(tmp_path):
    root = knees(tmp_path / "data")
    (root / "valid-acl.csv").unlink()
    for part in ("train", "valid"):
        (root / f"{part}-meniscus.csv").unlink()
    imported, _ = import_and_check("mrnet", root, tmp_path / "work")
    said = next(note for note in imported["notes"] if "Not there" in note)
    assert all(n in said for n in ("valid-acl", "train-meniscus", "valid-meniscus"))
    assert "[labels.meniscus]" not in (tmp_path / "work/mvp.toml").read_text()


def test_images_may_lie_elsewhere_than_the_labels(tmp_path):
    root = knees(tmp_path / "data")
    tables = tmp_path / "tables"
    tables.mkdir()
    for table in root.glob("*.csv"):
        table.rename(tables / table.name)
    imported, _ = import_and_check("mrnet", tables, tmp_path / "work", "--root", root)
    assert imported["images"] == 53


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("id,label", "line 1 is no id with 0 or 1: 'id,label'"),
        ("0000,2", "line 1 is no id with 0 or 1: '0000,2'"),
        ("0000", "line 1 is no id with 0 or 1: '0000'"),
        ("0001,1", "line 3 gives another label than an earlier line"),
    ],
)
def test_a_damaged_label_table_is_refused_by_its_line(tmp_path, line, said):
    root = knees(tmp_path / "data")
    table = root / "train-acl.csv"
    table.write_text(line + "\n" + table.read_text())
    message = refused("mrnet", root, tmp_path / "work")
    assert said in message
    assert "train-acl.csv" in message


def test_ids_that_a_spreadsheet_shortened_are_refused(tmp_path):
    root = knees(tmp_path / "data")
    table = root / "train-acl.csv"
    table.write_text("\n".join(f"{n},0" for n in range(12)))
    message = refused("mrnet", root, tmp_path / "work")
    assert "write the id '0', the files '0000'" in message


def test_one_id_in_both_parts_is_refused(tmp_path):
    root = knees(tmp_path / "data")
    shutil.copy(root / "train/axial/0002.npy", root / "valid/axial/0002.npy")
    message = refused("mrnet", root, tmp_path / "work")
    assert "1 ids stand in train and in valid, the first '0002'" in message


def test_a_folder_that_is_not_mrnets_is_refused(tmp_path):
    root = knees(tmp_path / "data")
    assert "name the folder MRNet-v1.0 itself" in refused("mrnet", tmp_path, tmp_path / "work")
    for table in root.glob("*.csv"):
        table.unlink()
    assert "no examination has a label" in refused("mrnet", root, tmp_path / "work")
    table = tmp_path / "labels.csv"
    table.write_text("0000,1\n")
    assert "this is no folder" in refused("mrnet", table, tmp_path / "work")
