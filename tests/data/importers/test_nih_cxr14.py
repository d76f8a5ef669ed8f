"""NIH ChestX-ray14: a header that splits a field, findings joined by a bar, one view."""

import pytest
from importing import import_and_check, manifest, refused
from published import as_text, known, published

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
CELLS = ["No Finding", "Mass", "Mass|Hernia", "Hernia"]


def lines(patients=12):
    return [
        f"{p:08d}_{n:03d}.png,{CELLS[(p + n) % 4]},{n},{p},50,F,{'PA' if n else 'AP'},"
        "2682,2749,0.143,0.143,"
        for p in range(patients)
        for n in range(2)
    ]


def write(folder, rows):
    path = folder / "Data_Entry_2017_v2020.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_every_film_is_a_frontal_study(tmp_path):
    out = tmp_path / "work"
    imported, checked = import_and_check("nih-cxr14", write(tmp_path, lines()), out)
    assert imported["views"] == {"frontal": 24}
    assert (checked["patients"], checked["studies"]) == (12, 24)
    assert known(checked, "Mass") == (12, 12)
    assert known(checked, "Hernia") == (12, 12)
    assert list(checked["labels"]) == ["Mass", "Hernia"]
    assert any("there is one view" in note for note in imported["notes"])
    row = manifest(out)[1]
    assert (row["study"], row["patient"], row["view"]) == ("0/1", "0", "PA")
    assert row["path"] == "00000000_001.png"


def test_the_official_test_set_is_kept(tmp_path):
    table = write(tmp_path, lines())
    official = tmp_path / "test_list.txt"
    official.write_text("".join(f"{p:08d}_{n:03d}.png\n" for p in range(4) for n in range(2)))
    _, checked = import_and_check("nih-cxr14", table, tmp_path / "a", "--split", official)
    assert checked["parts"]["test"] == 8
    wrong = official.rename(tmp_path / "train_val_list.txt")
    assert "would become the test set" in refused(
        "nih-cxr14", table, tmp_path / "b", "--split", wrong
    )
    other = tmp_path / "test_names.txt"
    other.write_text("nothing.png\n")
    assert "names no image" in refused("nih-cxr14", table, tmp_path / "c", "--split", other)


def test_images_are_looked_up_in_the_folders_of_the_archives(tmp_path):
    table = write(tmp_path, lines())
    for name, p in (("images_001", 0), ("images_012", 1)):
        (tmp_path / name / "images").mkdir(parents=True)
        (tmp_path / name / "images" / f"{p:08d}_000.png").touch()
    imported, _ = import_and_check("nih-cxr14", table, tmp_path / "work")
    paths = [row["path"] for row in manifest(tmp_path / "work")]
    assert paths[0] == "images_001/images/00000000_000.png"
    assert paths[2] == "images_012/images/00000001_000.png"
    assert paths[4] == "00000002_000.png"
    assert any("22 are not there" in note for note in imported["notes"])


def test_two_films_of_one_follow_up_are_refused(tmp_path):
    said = refused("nih-cxr14", write(tmp_path, [*lines(), lines()[0]]), tmp_path / "work")
    assert "repeat a Patient ID and Follow-up #, the first on line 26" in said


@pytest.mark.slow
def test_the_whole_table(tmp_path):
    source = published("Data_Entry_2017_v2020.csv.gz")
    imported, checked = import_and_check("nih-cxr14", source, tmp_path / "w", "--root", tmp_path)
    table = as_text(source)
    assert imported["rows"] == imported["images"] == len(table) == 112_120
    assert checked["studies"] == table["Image Index"].nunique()
    assert checked["patients"] == table["Image Index"].str[:8].nunique()
    flags = table["Finding Labels"].str.get_dummies("|")
    assert set(checked["labels"]) == set(flags.columns) - {"No Finding"}
    for label in checked["labels"]:
        positive = int(flags[label].sum())
        assert known(checked, label) == (positive, len(table) - positive)
    assert checked["problems"] == []
