"""PadChest: lists of findings as text, spaces in their names, views to leave out."""

import csv

import pytest
from importing import import_and_check, manifest, refused
from published import as_text, known, published

HEADER = ["", "ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "Report", "Labels"]
WORDS = {
    0: "['normal']",
    1: "['pneumonia', ' pneumonia', 'nodule']",
    2: "[' pneumonia', '']",
    3: "nan",
    4: "['unchanged', 'exclude']",
    5: "[]",
}


def films(patients=18):
    rows = []
    for p in range(patients):
        for view in ("PA", "L") if p % 3 else ("AP_horizontal", "COSTAL", "UNK"):
            report = "a quoted\nline break"
            row = [f"{p}_{view}.png", p % 5, f"s{p}", f"p{p}", view, report, WORDS[p % 6]]
            rows.append([len(rows), *row])
    return rows


def write(path, rows):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *rows])
    return path


def test_findings_become_labels_and_other_projections_are_left_out(tmp_path):
    table = write(tmp_path / "padchest.csv", films())
    out = tmp_path / "work"
    imported, checked = import_and_check("padchest", table, out)
    assert imported["rows"] == 42
    assert imported["left_out"] == {"of Projection 'COSTAL'": 6, "of Projection 'UNK'": 6}
    assert imported["views"] == {"frontal": 18, "lateral": 12}
    assert list(checked["labels"]) == ["pneumonia", "normal", "nodule"]
    # Lists that say nothing are unknown: nan, an empty one, and "unchanged" or "exclude" alone.
    assert known(checked, "pneumonia") == (6, 3)
    assert known(checked, "nodule") == (3, 6)
    assert "9 studies have no usable findings: unknown there" in imported["notes"]
    rows = manifest(out)
    assert rows[0]["path"] == "0/0_AP_horizontal.png"
    assert next(r["findings"] for r in rows if r["study"] == "s1") == "pneumonia|nodule"


def test_named_findings_and_nothing_else(tmp_path):
    table = write(tmp_path / "padchest.csv", films())
    _, checked = import_and_check("padchest", table, tmp_path / "a", "--finding", "Nodule")
    assert list(checked["labels"]) == ["nodule"]
    said = refused("padchest", table, tmp_path / "b", "--finding", "nodules")
    assert "no study has the finding 'nodules'; did you mean 'nodule'?" in said


def test_images_in_one_folder_are_found_there(tmp_path):
    table = write(tmp_path / "padchest.csv", films())
    (tmp_path / "0_AP_horizontal.png").touch()
    import_and_check("padchest", table, tmp_path / "work")
    assert manifest(tmp_path / "work")[0]["path"] == "0_AP_horizontal.png"


def test_a_name_that_no_disk_can_have_is_no_crash(tmp_path):
    rows = films()
    rows[0][1] = "x" * 300 + ".png"
    imported, _ = import_and_check("padchest", write(tmp_path / "t.csv", rows), tmp_path / "work")
    assert imported["images"] == 30


def test_a_study_of_two_patients_is_left_out(tmp_path):
    rows = films()
    rows[3][HEADER.index("PatientID")] = "somebody"
    imported, checked = import_and_check(
        "padchest", write(tmp_path / "padchest.csv", rows), tmp_path / "work"
    )
    assert imported["left_out"]["of a StudyID with two PatientIDs"] == 2
    assert checked["studies"] == 17


@pytest.mark.parametrize(
    "cell",
    [
        "normal",
        "['normal'",
        "[1, 2]",
        "{'normal'}",
        "['a|b']",
        "__import__('os').system('true')",
        "[" * 4000 + "]" * 4000,
        "['" + "a" * 10_000 + "']",
    ],
)
def test_a_cell_that_is_no_list_of_words_is_refused(tmp_path, cell):
    rows = films()
    rows[2][-1] = cell
    said = refused("padchest", write(tmp_path / "padchest.csv", rows), tmp_path / "work")
    assert "1 rows have Labels that are no list of words" in said
    # Each of the two rows before it has a line break in its report.
    assert "the first on line 6" in said


@pytest.mark.slow
def test_the_whole_table(tmp_path):
    source = published("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz")
    imported, checked = import_and_check("padchest", source, tmp_path / "w", "--root", tmp_path)
    table = as_text(source)
    assert imported["rows"] == len(table) == 160_861
    assert imported["left_out"] == {
        "of Projection 'COSTAL'": 630,
        "of Projection 'EXCLUDE'": 11,
        "of Projection 'UNK'": 8,
        "of a StudyID with two PatientIDs": 3,
    }
    views = table["Projection"].map(lambda p: p[0])  # PA and AP begin otherwise than L
    used = table["Projection"].isin(["PA", "AP", "AP_horizontal", "L"])
    patients = table.groupby("StudyID")["PatientID"].transform("nunique")
    kept = table[used & (patients == 1)]
    assert checked["studies"] == kept["StudyID"].nunique()
    assert checked["patients"] == kept["PatientID"].nunique()
    assert checked["images"] == len(kept)
    side = views[kept.index] == "L"
    for name, rows in (("lateral", kept[side]), ("frontal", kept[~side])):
        times = rows["StudyID"].value_counts()
        assert checked["views"][name]["studies"] == len(times)
        assert checked["views"][name]["studies_with_several"] == int((times > 1).sum())
    both = set(kept.loc[side, "StudyID"]) & set(kept.loc[~side, "StudyID"])
    assert checked["studies_with_all_views"] == len(both)
    # By searching the text of the list instead of reading it.
    cells = kept.drop_duplicates("StudyID")["Labels"].str.replace("' ", "'", regex=False)
    says = cells.str.replace(r"'(unchanged|exclude|suboptimal study|)'", "", regex=True)
    says = says.str.contains("[a-z]", regex=True) & (cells != "nan")
    assert len(checked["labels"]) > 30
    for label in checked["labels"]:
        positive = int(cells[says].str.contains(f"'{label}'", regex=False).sum())
        assert known(checked, label) == (positive, int(says.sum()) - positive), label
    assert checked["problems"] == []
