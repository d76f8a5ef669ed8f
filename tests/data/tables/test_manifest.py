"""From a table to studies: ids, views, paths, and everything that is refused or counted."""

import numpy as np
import pytest

from mvp.config import parse_config
from mvp.data.reading.readers import Limits, read_image
from mvp.data.tables.manifest import Problem, load_manifest
from mvp.errors import ConfigError, DataError, ImageError

HEADER = "study,patient,view,path,mass"
VIEWS = """
[views.frontal]
aliases = ["PA", "AP Supine"]
[views.lateral]
aliases = "LL"
"""
LABELS = "[labels.mass]\n"


def workspace(folder, *lines, header=HEADER, data="", more=""):
    """Settings over a table with these lines."""
    (folder / "t.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    text = f'[data]\ntable = "t.csv"\n{data}\n{VIEWS}\n{LABELS}\n{more}'
    return parse_config(text, folder / "mvp.toml")


def load(folder, *lines, scoring=False, root=None, **settings):
    config = workspace(folder, *lines, **settings)
    return load_manifest(config, folder, scoring=scoring, root=root)


def kinds(manifest):
    return {p.kind: p.count for p in manifest.problems}


def refused(error, folder, *lines, **settings):
    with pytest.raises(error) as caught:
        load(folder, *lines, **settings)
    line = str(caught.value)
    assert line.isprintable()
    return line


def test_ids_are_strings_and_studies_keep_the_order_of_their_first_row(tmp_path):
    m = load(
        tmp_path,
        "0012,007,PA,b.png,1",
        "12,7,PA,c.png,0",
        "0012,007,LL,a.png,1",
    )
    assert m.studies.tolist() == ["0012", "12"]
    assert m.patients.tolist() == ["007", "7"]
    assert m.rows == 3
    assert m.images["study"].tolist() == [0, 1, 0]
    assert m.images["view"].tolist() == ["frontal", "frontal", "lateral"]
    assert m.images["file"].tolist() == [str(tmp_path / f) for f in ("b.png", "c.png", "a.png")]
    assert m.images["line"].tolist() == [2, 3, 4]
    assert m.labels.values.tolist() == [[1], [0]]
    assert [p.kind for p in m.problems] == ["alike-patient"]


def test_the_same_from_every_kind_of_table(tmp_path):
    lines = ["0012,007,PA,a.png,1", "0013,008,LL,b.png,0"]
    config = workspace(tmp_path, *lines)
    wanted = load_manifest(config, tmp_path)
    text = "\n".join([HEADER, *lines]) + "\n"
    for name, raw in {
        "semicolon.csv": text.replace(",", ";").encode(),
        "tabs.tsv": text.replace(",", "\t").encode(),
        "bom.csv": b"\xef\xbb\xbf" + text.encode(),
    }.items():
        (tmp_path / name).write_bytes(raw)
        found = load_manifest(config, tmp_path, table=tmp_path / name)
        assert found.studies.tolist() == wanted.studies.tolist(), name
        assert found.patients.tolist() == wanted.patients.tolist(), name
        assert found.images.equals(wanted.images), name


def test_a_missing_column_is_named_with_its_nearest_and_its_setting(tmp_path):
    line = refused(ConfigError, tmp_path, "x", header="studdy,patient,view,path,mass")
    assert "'study'" in line
    assert "did you mean 'studdy'?" in line
    assert "data.study" in line
    line = refused(ConfigError, tmp_path, "x", header="study,patient,view,path,mas")
    assert "labels.mass.column" in line


@pytest.mark.parametrize("blank", ["", "  ", "nan", "None"])
def test_rows_without_a_study_id_are_refused_with_their_line(tmp_path, blank):
    """Left alone, all rows without an id would be one study."""
    line = refused(DataError, tmp_path, "S1,P1,PA,a.png,1", "", f"{blank},P1,PA,b.png,1")
    assert "line 4" in line
    assert "1 rows" in line
    assert "data.study" in line


def test_rows_without_a_patient_are_patients_of_their_own_and_counted(tmp_path):
    m = load(tmp_path, "S1,,PA,a.png,1", "S2,nan,PA,b.png,1", "S3,P3,PA,c.png,1")
    assert len(set(m.patients)) == 3
    assert kinds(m) == {"no-patient": 2}
    assert "line 2" in m.problems[0].text


def test_a_patient_that_stands_on_one_row_of_a_study_holds_for_the_study(tmp_path):
    m = load(tmp_path, "S1,,PA,a.png,1", "S1,P1,LL,b.png,1", "S2,P1,PA,c.png,1")
    assert m.patients.tolist() == ["P1", "P1"]


def test_a_study_of_two_patients_is_refused(tmp_path):
    line = refused(DataError, tmp_path, "S1,P1,PA,a.png,1", "S1,P2,LL,b.png,1")
    assert "study S1" in line
    assert "'P1'" in line
    assert "'P2'" in line
    assert "line 3" in line


def test_composite_ids(tmp_path):
    data = 'study = ["patient", "study"]'
    m = load(tmp_path, "1,007,PA,a.png,1", "1,008,PA,b.png,0", "1,007,LL,c.png,1", data=data)
    assert m.studies.tolist() == ["007/1", "008/1"]
    rows = ["c,a,PA,0.png,1", "b/c,a,PA,a.png,1", "b/c,a,LL,x.png,1", "c,a/b,PA,b.png,1"]
    line = refused(DataError, tmp_path, *rows, data=data)
    assert "'/'" in line
    assert "'a/b/c'" in line
    assert "line 3 and line 5" in line
    line = refused(DataError, tmp_path, "1,,PA,a.png,1", "2,,PA,b.png,1", data=data)
    assert "no study id" in line


def test_views_go_by_their_aliases_whatever_the_case(tmp_path):
    cells = ["PA", "pa", "AP supine", "FRONTAL", " ll ", "Lateral"]
    m = load(tmp_path, *(f"S{i},P{i},{c},{i}.png,1" for i, c in enumerate(cells)))
    assert m.images["view"].tolist() == ["frontal"] * 4 + ["lateral"] * 2


def test_unknown_views_are_listed_with_their_counts_and_never_guessed(tmp_path):
    cells = ["PA", "PA2", "PA2", "", "pa l"]
    m = load(tmp_path, *(f"S{i},P{i},{c},{i}.png,1" for i, c in enumerate(cells)))
    assert m.images["line"].tolist() == [2]
    texts = [p.text for p in m.problems]
    assert any("2 rows are of the view 'PA2'" in t for t in texts)
    assert any("(blank)" in t for t in texts)
    assert sum(p.count for p in m.problems) == 4
    assert len(m.studies) == 5


def test_unknown_views_add_up_however_many_there_are(tmp_path):
    m = load(tmp_path, *(f"S{i},P{i},V{i},{i}.png,1" for i in range(50)))
    assert sum(p.count for p in m.problems if p.kind == "unknown-view") == 50


@pytest.mark.parametrize("policy", ["all", "first", "error"])
def test_several_images_of_a_study_and_view(tmp_path, policy):
    m = load(
        tmp_path,
        "S1,P1,PA,a.png,1",
        "S1,P1,LL,b.png,1",
        "S1,P1,PA,c.png,1",
        "S2,P2,PA,d.png,1",
    )
    if policy == "error":
        with pytest.raises(DataError) as caught:
            m.images_of("frontal", policy)
        assert caught.value.study == "S1"
        assert caught.value.path == "c.png"
        assert m.images_of("lateral", policy)["path"].tolist() == ["b.png"]
    else:
        wanted = {"all": ["a.png", "c.png", "d.png"], "first": ["a.png", "d.png"]}
        assert m.images_of("frontal", policy)["path"].tolist() == wanted[policy]


def test_a_repeated_row_is_used_once_and_counted(tmp_path):
    lines = ["S1,P1,PA,a.png,1", "S1,P1,frontal,./x/../a.png,1", "S2,P1,PA,b.png,1"]
    m = load(tmp_path, *lines)
    assert m.images["path"].tolist() == ["a.png", "b.png"]
    assert kinds(m) == {"repeated-row": 1}
    assert "line 2 and line 3" in m.problems[0].text
    line = refused(DataError, tmp_path, *lines, data='duplicates = "error"')
    assert "line 2 and line 3" in line
    assert "data.duplicates" in line


def test_a_file_under_two_views_of_a_study_is_refused_with_both_lines(tmp_path):
    m = load(tmp_path, "S1,P1,PA,b.png,1", "S1,P1,PA,a.png,1", "S1,P1,LL,./a.png,1")
    assert [bool(e) for e in m.images["error"]] == [False, True, True]
    (problem,) = m.problems
    assert (problem.kind, problem.severity, problem.count) == ("two-views", "error", 2)
    assert "line 3 (frontal) and line 4 (lateral)" in problem.text


def test_a_file_under_two_studies_is_told_and_kept(tmp_path):
    rows = ["S1,P1,PA,a.png,1", "S2,P1,PA,a.png,1", "S3,P3,LL,b.png,1", "S4,P4,LL,b.png,1"]
    m = load(tmp_path, *rows)
    assert not m.images["error"].any()
    texts = [p.text for p in m.problems]
    assert any("of one patient (first: line 2 and line 3" in t for t in texts)
    assert any("of different patients (first: line 4 and line 5" in t for t in texts)
    assert [p.count for p in m.problems] == [1, 1]


def test_presence_and_selection(tmp_path):
    m = load(tmp_path, "S1,P1,PA,a.png,1", "S2,P2,LL,b.png,0", "S3,P3,PA,,", "S3,P3,LL,c.png,")
    assert m.presence(["lateral", "frontal"]).tolist() == [
        [False, True],
        [True, False],
        [True, False],
    ]
    assert kinds(m) == {"blank-path": 1}
    chosen = m.select(np.array([2, 0]))
    assert chosen.studies.tolist() == ["S3", "S1"]
    assert chosen.images["study"].tolist() == [1, 0]
    assert chosen.images["path"].tolist() == ["a.png", "c.png"]
    np.testing.assert_array_equal(chosen.labels.values, [[np.nan], [1]])


def test_labels_that_contradict_each_other_are_unknown_and_said_so(tmp_path):
    m = load(tmp_path, "S1,P1,PA,a.png,1", "S1,P1,LL,b.png,0", "S2,P2,PA,c.png,1", "S2,P2,LL,d,")
    np.testing.assert_array_equal(m.labels.values, [[np.nan], [1]])
    assert kinds(m) == {"label-conflict": 1}


@pytest.mark.parametrize("scoring", [False, True])
def test_a_label_among_the_inputs_is_said(tmp_path, scoring):
    values = '[views.values]\nkind = "table"\nnumbers = ["age", "mass"]\n'
    m = load(
        tmp_path,
        "S1,P1,PA,a.png,1,40",
        "S2,P2,PA,b.png,0,41",
        header=f"{HEADER},age",
        more=values,
        scoring=scoring,
    )
    # Where new studies are scored nobody reads labels.
    assert kinds(m) == ({} if scoring else {"label-input": 1})


def test_a_label_that_no_rule_covers_names_the_line_of_the_file(tmp_path):
    line = refused(DataError, tmp_path, "S1,P1,PA,a.png,1", "", "S2,P2,PA,b.png,maybe")
    assert "line 4" in line


@pytest.mark.parametrize(
    "path",
    [
        "../a.png",
        "x/../../a.png",
        "/etc/passwd",
        "..",
        "http://example.org/a.png",
        "s3://bucket/a.png",
        "file:///etc/passwd",
        "a\0.png",
        "a" * 5000,
    ],
)
def test_paths_that_lead_out_are_refused_as_rows(tmp_path, path):
    root = tmp_path / "root"
    root.mkdir()
    m = load(tmp_path, f"S1,P1,PA,{path},1", "S2,P2,PA,ok.png,1", root=root)
    assert m.images["error"].iloc[0]
    assert not m.images["error"].iloc[1]
    (problem,) = m.problems
    assert (problem.kind, problem.severity, problem.count) == ("path-refused", "error", 1)
    assert "line 2" in problem.text


def test_a_folder_beside_the_root_with_its_name_as_prefix_is_outside(tmp_path):
    root = tmp_path / "base"
    m = load(tmp_path, "S1,P1,PA,../base2/a.png,1", "S2,P2,PA,../base/a.png,1", root=root)
    assert [bool(e) for e in m.images["error"]] == [True, False]


def test_paths_out_of_the_root_can_be_allowed(tmp_path):
    data = "allow_outside_root = true"
    m = load(tmp_path, "S1,P1,PA,../a.png,1", data=data, root=tmp_path / "root")
    assert m.images["file"].tolist() == [str(tmp_path / "a.png")]
    assert not m.problems


def test_a_link_out_of_the_root_is_refused_when_the_file_is_opened(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    outside = tmp_path / "outside.npy"
    np.save(outside, np.zeros((4, 4), np.uint8))
    (root / "in.npy").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    for name in ("in.npy", "folder/outside.npy"):
        m = load(tmp_path, f"S1,P1,PA,{name},1", root=root)
        (file,) = m.images["file"]
        with pytest.raises(ImageError, match="leads out of data"):
            read_image(file, Limits(root=str(root)))
        assert read_image(file).shape == (4, 4)


def test_scoring_needs_neither_labels_nor_patients(tmp_path):
    m = load(tmp_path, "0012,PA,a.png", header="study,view,path", scoring=True)
    assert m.studies.tolist() == ["0012"]
    assert m.patients.tolist() == ["0012"]
    assert np.isnan(m.labels.values).all()
    refused(ConfigError, tmp_path, "0012,PA,a.png", header="study,view,path")


def test_the_split_column_is_read_and_must_agree_within_a_study(tmp_path):
    header, data = HEADER + ",set", 'split = "set"'
    lines = ["S1,P1,PA,a.png,1,Test", "S2,P2,PA,b.png,1,", "S3,P3,PA,c.png,1,train"]
    m = load(tmp_path, *lines, header=header, data=data)
    assert m.fixed_parts.tolist() == ["test", "", "train"]
    line = refused(DataError, tmp_path, *lines, "S1,P1,LL,d.png,1,train", header=header, data=data)
    assert "study S1" in line


def test_a_problem_prints_as_one_line_whatever_it_quotes():
    assert Problem("kind", "warning", "a\nb\x1b\u202ec\0").text == "a b  c "


def test_cells_with_line_breaks_and_markup_print_as_one_line(tmp_path):
    m = load(tmp_path, 'S1,P1,"P\nA <b>",a.png,1')
    assert all(p.text.isprintable() for p in m.problems)
    line = refused(DataError, tmp_path, '"S\n1",P1,PA,a.png,1', '"S\n1",P2,LL,b.png,1')
    assert "'S\\n1'" in line
    assert "line 2" in line


@pytest.mark.parametrize("separator", ["", 'separator = "|"'])
def test_a_positive_value_that_a_separator_hides_is_told(tmp_path, separator):
    more = 'positive = "mass"\nother = "negative"\n' + separator
    m = load(tmp_path, "S1,P1,PA,a.png,edema", "S2,P2,PA,b.png,edema; Mass", more=more)
    assert m.labels.values.tolist() == [[0], [0]]
    (problem,) = m.problems
    assert (problem.kind, problem.severity, problem.count) == ("label-separator", "warning", 1)
    assert "line 3, 'edema; Mass'" in problem.text
    assert "labels.mass.separator" in problem.text
