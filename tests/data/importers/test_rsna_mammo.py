"""RSNA mammography: no study id, other projections, several images of one view."""

import tomllib

from importing import import_and_check, manifest, refused

HEADER = (
    "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,"
    "density,machine_id,difficult_negative_case"
)


def rows(patients=16):
    """Two breasts of two views; every fourth left breast has a cancer."""
    found = []
    for n in range(patients):
        for side in "LR":
            cancer = int(side == "L" and n % 4 == 0)
            for v, view in enumerate(("CC", "MLO")):
                image = n * 10 + v + 5 * (side == "R")
                found.append(
                    f"2,{n + 7:05d},{image:09d},{side},{view},{50 + n}.0,{cancer},{cancer},"
                    f"{cancer},,0,B,29,False"
                )
    return found


def write(path, lines, header=HEADER, end="\n", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((end.join([header, *lines]) + end).encode(encoding))
    return path


def test_a_breast_of_a_patient_is_a_study(tmp_path):
    table = write(tmp_path / "rsna/train.csv", rows())
    imported, checked = import_and_check("rsna-mammo", table, tmp_path / "work")
    assert (imported["rows"], imported["images"], imported["left_out"]) == (64, 64, {})
    assert (imported["studies"], imported["patients"]) == (32, 16)
    assert imported["views"] == {"cc": 32, "mlo": 32}
    assert checked["studies"] == 32
    first = manifest(tmp_path / "work")[0]
    assert first["study"] == "00007/L"
    assert first["path"] == "train_images/00007/000000000.dcm"
    sick = {r["study"] for r in manifest(tmp_path / "work") if r["cancer"] == "1"}
    assert sick == {"00007/L", "00011/L", "00015/L", "00019/L"}


def test_other_projections_are_left_out_and_a_second_image_of_a_view_is_kept(tmp_path):
    lines = rows()
    for n, view in enumerate(("ML", "LM", "AT", "AT", "LMO")):
        lines.append(f"1,00008,9{n},R,{view},51.0,0,0,0,1.0,0,,21,True")
    lines.append("1,00008,99,R,MLO,51.0,0,0,0,1.0,0,,21,True")
    lines.append(lines[0])
    table = write(tmp_path / "rsna/train.csv", lines, end="\r\n", encoding="utf-8-sig")
    imported, _ = import_and_check("rsna-mammo", table, tmp_path / "work")
    assert imported["rows"] == 71
    assert imported["left_out"] == {
        "rows repeat an image": 1,
        "images of view 'ML', neither CC nor MLO": 1,
        "images of view 'LM', neither CC nor MLO": 1,
        "images of view 'AT', neither CC nor MLO": 2,
        "images of view 'LMO', neither CC nor MLO": 1,
    }
    mine = [r["path"] for r in manifest(tmp_path / "work") if r["study"] == "00008/R"]
    assert "train_images/00008/99.dcm" in mine
    assert len(mine) == 3
    assert any(note.startswith("1 views of a breast have several") for note in imported["notes"])


def test_the_age_can_be_switched_on_as_a_view_of_the_table(tmp_path):
    from mvp.config import parse_config

    table = write(tmp_path / "rsna/train.csv", rows())
    import_and_check("rsna-mammo", table, tmp_path / "work")
    place = tmp_path / "work/mvp.toml"
    text = place.read_text()
    assert "age" not in tomllib.loads(text)["views"]
    for line in ("[views.age]", 'kind = "table"', 'numbers = ["age"]'):
        assert f"# {line}\n" in text
        text = text.replace(f"# {line}\n", f"{line}\n")
    assert parse_config(text, place).view("age").columns == ("age",)
    assert {r["age"] for r in manifest(tmp_path / "work")} == {f"{50 + n}.0" for n in range(16)}


def test_without_ages_no_view_of_them_is_offered(tmp_path):
    lines = [",".join(line.split(",")[:5] + line.split(",")[6:]) for line in rows()]
    table = write(tmp_path / "rsna/train.csv", lines, HEADER.replace("age,", ""))
    import_and_check("rsna-mammo", table, tmp_path / "work")
    assert "views.age" not in (tmp_path / "work/mvp.toml").read_text()


def test_what_is_no_training_table_is_refused(tmp_path):
    table = write(tmp_path / "rsna/test.csv", rows(), HEADER.replace("cancer", "prediction_id"))
    message = refused("rsna-mammo", table, tmp_path / "work")
    assert "the table has no column 'cancer'" in message
    lines = rows()
    lines[4] = lines[4].replace(",L,", ",?,")
    table = write(tmp_path / "rsna/train.csv", lines)
    message = refused("rsna-mammo", table, tmp_path / "work")
    assert "1 rows say neither left nor right under 'laterality', the first on line 6" in message
    lines = [*rows(), rows()[0].replace(",1,1,1,", ",0,0,0,")]
    table = write(tmp_path / "rsna/train.csv", lines)
    assert "line 66" in refused("rsna-mammo", table, tmp_path / "work")
