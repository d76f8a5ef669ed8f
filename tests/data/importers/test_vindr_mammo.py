"""VinDr-Mammo: one breast is a study, the examination keeps both breasts together."""

import tomllib
from collections import Counter

import pytest
from importing import import_and_check, manifest, refused

HEADER = (
    "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,"
    "breast_density,split"
)


def rows(exams=12):
    """Two breasts of two views; the left one's category and density go round with the number."""
    found = []
    for n in range(exams):
        split = "test" if n % 3 == 2 else "training"
        for side in "LR":
            birads = n % 5 + 1 if side == "L" else 1
            for view in ("CC", "MLO"):
                found.append(
                    f"{n:032x},{n + 100:032x},{n:08x}{side}{view},{side},{view},3518,2800,"
                    f"BI-RADS {birads},DENSITY {'ABCD'[n % 4]},{split}"
                )
    return found


def write(path, lines, header=HEADER, encoding="utf-8", end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((end.join([header, *lines]) + end).encode(encoding))
    return path


def test_a_breast_is_a_study_and_an_examination_a_group(tmp_path):
    table = write(tmp_path / "vindr/breast-level_annotations.csv", rows())
    imported, checked = import_and_check("vindr-mammo", table, tmp_path / "work")
    assert (imported["rows"], imported["images"], imported["left_out"]) == (48, 48, {})
    assert (imported["studies"], imported["patients"]) == (24, 12)
    assert imported["views"] == {"cc": 24, "mlo": 24}
    assert checked["studies"] == 24
    found = manifest(tmp_path / "work")
    first = found[0]
    assert first["study"] == "0" * 32 + "/L"
    assert first["patient"] == "0" * 32
    assert first["path"] == f"images/{'0' * 32}/00000000LCC.dicom"
    assert Counter(r["split"] for r in found) == {"train": 32, "test": 16}
    wrote = tomllib.loads((tmp_path / "work/mvp.toml").read_text())
    assert wrote["views"]["cc"]["transform"] == {"crop": "breast", "intensity": "window"}
    assert wrote["data"]["root"].endswith("vindr")


def test_labels_mean_what_the_categories_say(tmp_path):
    from mvp.config import load_config
    from mvp.data.tables.manifest import load_manifest

    table = write(tmp_path / "vindr/table.csv", rows())
    import_and_check("vindr-mammo", table, tmp_path / "work")
    config = load_config(tmp_path / "work/mvp.toml")
    read = load_manifest(config, tmp_path / "work")
    names = [t.name for t in read.labels.targets]
    values = dict(zip(read.studies, read.labels.values, strict=True))
    for n in range(12):
        left = dict(zip(names, values[f"{n:032x}/L"], strict=True))
        assert left["suspicious"] == (n % 5 + 1 >= 4)
        assert left["birads"] == n % 5
        assert left["density"] == n % 4
        assert values[f"{n:032x}/R"][names.index("birads")] == 0


def test_dirt_is_read_or_counted(tmp_path):
    lines = rows()
    lines.append(lines[0])
    lines.append(lines[3].replace(",MLO,", ",ML,").replace("RMLO", "RML"))
    lines.append(lines[7].replace(",MLO,", ",,").replace("RMLO", "Rx"))
    table = write(
        tmp_path / "data/t.csv", lines, HEADER.replace(",", " , "), "utf-8-sig", end="\r\n"
    )
    imported, _ = import_and_check("vindr-mammo", table, tmp_path / "work")
    assert imported["rows"] == 51
    assert imported["images"] == 48
    assert imported["left_out"] == {
        "rows repeat an image": 1,
        "images of view 'ML', neither CC nor MLO": 1,
        "images without a view, neither CC nor MLO": 1,
    }


def test_a_category_that_is_not_known_is_unknown_and_said(tmp_path):
    lines = [line.replace("BI-RADS 5", "BI-RADS 0") for line in rows()]
    changed = sum("BI-RADS 0" in line for line in lines)
    table = write(tmp_path / "data/t.csv", lines)
    imported, _ = import_and_check("vindr-mammo", table, tmp_path / "work")
    said = [note for note in imported["notes"] if "breast_birads" in note]
    assert said == [
        f"{changed} images have a breast_birads that is none of BI-RADS 1 to BI-RADS 5 (the "
        "first: 'BI-RADS 0'); it is unknown there."
    ]


def test_the_root_may_be_the_folder_of_images_itself(tmp_path):
    table = write(tmp_path / "tables/t.csv", rows())
    (tmp_path / "images" / ("0" * 32)).mkdir(parents=True)
    import_and_check("vindr-mammo", table, tmp_path / "a", "--root", tmp_path)
    assert manifest(tmp_path / "a")[0]["path"].startswith("images/0")
    import_and_check("vindr-mammo", table, tmp_path / "b", "--root", tmp_path / "images")
    assert manifest(tmp_path / "b")[0]["path"].startswith("0")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",L,CC,", ",both,CC,", "rows say neither left nor right under 'laterality', the first"),
        (",training", ",extra", "rows are neither of split training nor test, the first on line 2"),
        ("0" * 32, "", "2 rows have no 'study_id', the first on line 2"),
    ],
)
def test_a_row_that_means_nothing_is_refused_by_its_line(tmp_path, old, new, said):
    lines = rows()
    lines[:2] = [line.replace(old, new, 1) for line in lines[:2]]
    table = write(tmp_path / "data/t.csv", lines)
    message = refused("vindr-mammo", table, tmp_path / "work")
    assert said in message
    assert "line 2" in message


def test_an_image_with_two_readings_is_refused(tmp_path):
    lines = rows()
    lines.append(lines[0].replace("BI-RADS 1", "BI-RADS 4"))
    table = write(tmp_path / "data/t.csv", lines)
    message = refused("vindr-mammo", table, tmp_path / "work")
    assert "1 rows name an image of an earlier row" in message
    assert "line 50" in message


def test_a_column_that_is_missing_is_named_with_the_nearest(tmp_path):
    header = HEADER.replace("view_position", "view_positions")
    table = write(tmp_path / "data/t.csv", rows(), header)
    message = refused("vindr-mammo", table, tmp_path / "work")
    assert "no column 'view_position'; did you mean 'view_positions'?" in message
    assert "t.csv" in message
