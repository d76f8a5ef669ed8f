"""CheXpert: ids out of paths, rows that contradict themselves, uncertain and blank labels."""

import csv

import pytest
from importing import import_and_check, manifest, refused
from published import as_text, known, published

from mvp.data.importers.chest import CHEXPERT_LABELS

HEADER = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_LABELS]


def line(patient, study, view, projection, name="view1", **labels):
    side = "frontal" if view == "Frontal" else "lateral"
    path = f"CheXpert-v1.0-small/train/patient{patient:05d}/study{study}/{name}_{side}.jpg"
    return [path, "Male", "60", view, projection, *(labels.get(x, "") for x in CHEXPERT_LABELS)]


def films(patients=12):
    """Two studies a patient, the second of one view; the last film's row contradicts itself."""
    rows = []
    for p in range(1, patients + 1):
        edema = {"Edema": ["1.0", "0.0", "-1.0", ""][p % 4], "Fracture": "1.0"}
        rows += [line(p, 1, "Frontal", "AP", **edema), line(p, 1, "Lateral", "", "view2", **edema)]
        rows += [line(p, 2, "Frontal", "PA", **{"No Finding": "1.0" if p % 2 else ""})]
    rows[-1][HEADER.index("AP/PA")] = "LL"
    return rows


def write(path, rows, header=HEADER):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def test_ids_come_from_the_path_and_a_lateral_is_one_whatever_its_row_says(tmp_path):
    table = write(tmp_path / "train.csv", films())
    out = tmp_path / "work"
    imported, checked = import_and_check("chexpert", table, out, "--root", tmp_path)
    assert imported["rows"] == imported["images"] == 36
    assert imported["views"] == {"frontal": 23, "lateral": 13}
    assert any(note.startswith("1 rows say Frontal, but LL or RL") for note in imported["notes"])
    assert (checked["patients"], checked["studies"]) == (12, 24)
    assert checked["studies_with_all_views"] == 12
    rows = manifest(out)
    assert rows[0]["study"] == "patient00001/study1"
    assert rows[0]["path"] == "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"
    assert rows[-1]["view"] == "lateral"


def test_uncertain_and_blank_are_unknown(tmp_path):
    table = write(tmp_path / "train.csv", films())
    out = tmp_path / "work"
    _, checked = import_and_check("chexpert", table, out, "--root", tmp_path)
    assert known(checked, "Edema") == (3, 3)
    toml = (out / "mvp.toml").read_text()
    assert 'uncertain = "unknown"\n# blank = "negative"' in toml


def test_a_blank_no_finding_is_negative_only_where_something_was_found(tmp_path):
    rows = films()
    for row in rows[:3]:
        row[HEADER.index("Fracture")] = row[HEADER.index("Edema")] = ""
        row[HEADER.index("Support Devices")] = "1.0"
    table = write(tmp_path / "train.csv", rows)
    imported, checked = import_and_check("chexpert", table, tmp_path / "work", "--root", tmp_path)
    # The first studies of all patients but one name a fracture; seconds are 1.0 or say nothing.
    assert known(checked, "No Finding") == (6, 11)
    assert imported["notes"][0].startswith("`No Finding` is blank in 22 rows that name")


def test_a_label_without_two_classes_is_left_out_and_named(tmp_path):
    table = write(tmp_path / "train.csv", films())
    imported, checked = import_and_check("chexpert", table, tmp_path / "work")
    assert list(checked["labels"]) == ["No Finding", "Edema"]
    assert "fewer than two classes" in imported["notes"][-1]
    assert "Fracture" in imported["notes"][-1]


def test_the_other_reading_of_blanks_is_switched_on_by_its_line(tmp_path):
    table = write(tmp_path / "train.csv", films())
    out = tmp_path / "work"
    import_and_check("chexpert", table, out, "--root", tmp_path)
    toml = (out / "mvp.toml").read_text().replace("# blank", "blank")
    (out / "mvp.toml").write_text(toml)
    from mvp import check

    checked = check(out, files=False, progress=False).to_json()
    assert known(checked, "Edema") == (3, 18)


def test_a_root_that_is_the_first_folder_of_the_paths_is_noticed(tmp_path):
    root = tmp_path / "CheXpert-v1.0-small"
    root.mkdir()
    table = write(root / "train.csv", films())
    imported, _ = import_and_check("chexpert", table, tmp_path / "work")
    assert manifest(tmp_path / "work")[0]["path"].startswith("train/patient00001/")
    assert any("is the root itself" in note for note in imported["notes"])


def test_a_missing_column_is_named_with_the_nearest(tmp_path):
    header = ["Path" if h == "Path" else "Edemas" if h == "Edema" else h for h in HEADER]
    table = write(tmp_path / "train.csv", films(), header)
    said = refused("chexpert", table, tmp_path / "work")
    assert "no column 'Edema'; did you mean 'Edemas'?" in said
    assert "train.csv" in said


@pytest.mark.parametrize(
    ("column", "cell", "what"),
    [
        ("Path", "images/0001.jpg", "without .../patientN/studyN/FILE"),
        ("Frontal/Lateral", "Oblique", "neither Frontal nor Lateral"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_by_its_line(tmp_path, column, cell, what):
    rows = films()
    rows[4][HEADER.index(column)] = cell
    said = refused("chexpert", write(tmp_path / "train.csv", rows), tmp_path / "work")
    assert what in said
    assert "the first on line 6" in said


@pytest.mark.slow
def test_the_whole_table(tmp_path):
    source = published("chexpert_train.csv.gz")
    imported, checked = import_and_check("chexpert", source, tmp_path / "work", "--root", tmp_path)
    table = as_text(source)
    assert imported["images"] == imported["rows"] == len(table) == 223_414
    # Another way: ids cut by slashes, views from the file's name.
    parts = table["Path"].str.split("/")
    patient, study = parts.str[2], parts.str[2] + parts.str[3]
    assert checked["studies"] == study.nunique() == 187_641
    assert checked["patients"] == patient.nunique()
    by_name = parts.str[-1].str.contains("lateral")
    by_column = table["Frontal/Lateral"] == "Lateral"
    assert (by_name == by_column).all()
    lateral = by_column | table["AP/PA"].isin(["LL", "RL"])
    assert lateral.sum() - by_column.sum() == 17
    assert imported["views"] == {"frontal": int((~lateral).sum()), "lateral": int(lateral.sum())}

    def both(side):
        return len(set(study[side]) & set(study[~side]))

    assert both(by_column) == 31_413
    assert checked["studies_with_all_views"] == both(lateral) == 31_415
    repeats = table.assign(s=study, v=by_column).duplicated(["s", "v"], keep="first")
    assert study[repeats].nunique() == 4_319
    for name, side in (("frontal", ~lateral), ("lateral", lateral)):
        times = study[side].value_counts()
        assert checked["views"][name]["studies"] == len(times)
        assert checked["views"][name]["studies_with_several"] == int((times > 1).sum())
    first = table.loc[~study.duplicated()]
    for label in CHEXPERT_LABELS:
        cells = first[label].value_counts()
        negative = cells.get("0.0", 0)
        if label == "No Finding":
            # 12 findings, neither this one nor devices; joined cells instead of a comparison.
            one, *others = (first[name] for name in CHEXPERT_LABELS[1:13])
            joined = one.str.cat(others)
            negative = joined.str.replace("0.0", "").str.contains("1").sum()
        assert known(checked, label) == (cells.get("1.0", 0), negative), label
    assert checked["problems"] == []
