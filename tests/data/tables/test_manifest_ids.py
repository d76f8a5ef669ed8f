"""Ids stay what they are, or their rows are refused aloud; nothing that hides gets in."""

import sys

import pytest

from mvp.data.tables import ids
from mvp.data.tables.manifest import load_manifest
from mvp.errors import DataError
from tests.data.tables.test_manifest import HEADER, kinds, load, refused, workspace

GOOD = "S1,P1,PA,a.png,1"


HIDING = ["\0", "\x1b[31m", "\x7f", "\x85", "\u202e", "\u2066", "\u200e", "\u200b", "\ufeff", "\t"]


@pytest.mark.parametrize(
    "bad", ['"S\nT"', "x" * 513, "a\U000e0041b", *(f"a{hidden}b" for hidden in HIDING)]
)
@pytest.mark.parametrize("column", ["study", "patient"])
def test_rows_with_ids_that_hide_something_are_refused_and_counted(tmp_path, bad, column):
    row = f"{bad},P2,PA,b.png,1" if column == "study" else f"S2,{bad},PA,b.png,1"
    m = load(tmp_path, GOOD, row)
    assert m.studies.tolist() == ["S1"]
    assert m.images["path"].tolist() == ["a.png"]
    (problem,) = m.problems
    assert (problem.kind, problem.severity, problem.count) == ("bad-id", "error", 1)
    assert problem.text.isprintable()
    assert "line 3" in problem.text
    assert column in problem.text
    (row,) = m.refused
    assert row.line == 3
    assert row.study.isprintable()
    assert len(row.study) <= 513
    assert row.reason.startswith(f"the {column} id")
    assert m.rows == 2


@pytest.mark.parametrize("good", ["x" * 512, "Müller", "患者1", "=1+1", "<b>", "a b", "-01"])
def test_ids_that_only_look_strange_stay(tmp_path, good):
    m = load(tmp_path, f"{good},{good},PA,b.png,1")
    assert m.studies.tolist() == [good]
    assert m.patients.tolist() == [good]
    assert not m.problems


def test_lines_are_right_after_a_refused_row(tmp_path):
    m = load(tmp_path, "S\x011,P1,PA,a.png,1", GOOD, "S2,P2,PA,b.png,1")
    assert m.images["line"].tolist() == [3, 4]
    assert m.images["study"].tolist() == [0, 1]
    assert m.labels.values.tolist() == [[1], [1]]


def test_a_table_without_one_usable_id_is_refused(tmp_path):
    line = refused(DataError, tmp_path, "S\x1b1,P1,PA,a.png,1", "S\x1b2,P1,PA,a.png,1")
    assert "no row has a usable id" in line
    assert "line 2" in line


def test_a_composite_id_without_its_first_part_is_none(tmp_path):
    data = 'study = ["patient", "study"]'
    line = refused(DataError, tmp_path, GOOD, "S2,,PA,b.png,1", "S3,nan,PA,c.png,1", data=data)
    assert "2 rows have no study id, the first on line 3" in line


def test_rows_whose_study_is_named_in_part_are_one_and_it_is_said(tmp_path):
    data = 'study = ["patient", "study"]'
    m = load(tmp_path, GOOD, ",P1,PA,b.png,1", ",P1,PA,c.png,1", data=data)
    assert m.studies.tolist() == ["P1/S1", "P1/"]
    (problem,) = [p for p in m.problems if p.kind == "half-study"]
    assert problem.text.startswith("2 rows fill data.study")
    assert "first: line 3" in problem.text


def test_a_patient_that_is_named_in_part_is_nobody(tmp_path):
    m = load(tmp_path, GOOD, "S2,,PA,b.png,1", data='patient = ["patient", "study"]')
    assert m.patients.tolist() == ["P1/S1", "study S2"]
    assert kinds(m) == {"no-patient": 1}


def test_a_study_of_two_patients_names_both_lines_and_how_many_there_are(tmp_path):
    rows = [
        "S1,,PA,0.png,1",
        GOOD,
        "S1,P2,PA,b.png,1",
        "S2,P1,PA,c.png,1",
        "S2,P\u00e92,PA,d.png,1",
    ]
    line = refused(DataError, tmp_path, *rows)
    assert "line 4 says 'P2', line 3 'P1'" in line
    assert "and 1 further studies" in line


def test_a_blank_in_the_split_column_says_nothing_against_other_rows(tmp_path):
    rows = ["S1,P1,PA,a.png,1,", "S1,P1,LL,b.png,1,TEST", "S2,P2,PA,c.png,1,nan"]
    m = load(tmp_path, *rows, header=HEADER + ",set", data='split = "set"')
    assert m.fixed_parts.tolist() == ["test", ""]


def test_scoring_refuses_the_same_rows(tmp_path):
    config = workspace(tmp_path, GOOD, "S\u202e2,P2,PA,b.png,1")
    m = load_manifest(config, tmp_path, scoring=True)
    assert m.studies.tolist() == ["S1"]
    assert [r.line for r in m.refused] == [3]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("p1", "P1"),
        ("Smith John", "Smith  John"),
        ("Smith John", "Smith\u00a0John"),
        ("M\u00fcller", "Mu\u0308ller"),
        ("\uff11\uff12", "12"),
        ("0012", "12"),
        ("12.0", "12"),
    ],
)
def test_patients_who_differ_in_writing_only_are_told_not_joined(tmp_path, one, two):
    m = load(tmp_path, f"S1,{one},PA,a.png,1", f"S2,{two},PA,b.png,1", "S3,P3,PA,c.png,1")
    assert m.patients.tolist() == [one, two, "P3"]
    (problem,) = m.problems
    assert (problem.kind, problem.severity, problem.count) == ("alike-patient", "warning", 1)
    assert "on line 3" in problem.text
    assert problem.text.isprintable()
    scored = load(tmp_path, f"S1,{one},PA,a.png,1", f"S2,{two},PA,b.png,1", scoring=True)
    assert kinds(scored) == {"alike-patient": 1}


@pytest.mark.parametrize("two", ["1.20", "120", "1.2.0", "P12", "-12", "12/0"])
def test_other_patients_are_not_alike(tmp_path, two):
    assert not load(tmp_path, "S1,12,PA,a.png,1", f"S2,{two},PA,b.png,1").problems


def test_alike_studies_are_told_where_they_are_of_one_patient(tmp_path):
    m = load(tmp_path, "s1,P1,PA,a.png,1", "S1,P1,LL,b.png,1", "x,P2,PA,c.png,1", "X,P3,PA,d.png,1")
    assert len(m) == 4
    assert kinds(m) == {"alike-study": 1}


def test_parts_of_a_joined_id_are_compared_one_by_one(tmp_path):
    header, data = "site," + HEADER, 'patient = ["site", "patient"]'
    m = load(
        tmp_path, "A,S1,007,PA,a.png,1", "a,S2,7,PA,b.png,1", "A,S3,70,PA,b.png,1",
        header=header, data=data,
    )  # fmt: skip
    assert kinds(m)["alike-patient"] == 1


def test_a_blank_part_of_a_study_is_one_whatever_its_word(tmp_path):
    data = 'study = ["patient", "study"]'
    m = load(tmp_path, "nan,P1,PA,a.png,1", ",P1,LL,b.png,1", "None,P1,LL,c.png,1", data=data)
    assert m.studies.tolist() == ["P1/"]
    assert kinds(m) == {"half-study": 3}


def test_one_id_of_different_cells_is_refused_whatever_a_blank_is_called(tmp_path):
    data = 'study = ["patient", "study"]'
    line = refused(DataError, tmp_path, "nan,P1/,PA,a.png,1", "/,P1,LL,b.png,1", data=data)
    assert "makes one id, 'P1//', of different cells on line 2 and line 3" in line


def test_no_character_that_is_refused_can_be_printed():
    # Printable ids are not looked into any further.
    every = map(chr, range(sys.maxunicode + 1))
    assert not [c for c in every if c.isprintable() and ids._UNSAFE.match(c)]
