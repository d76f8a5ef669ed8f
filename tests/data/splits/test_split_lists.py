"""Lists that fix parts, and the file that a split is kept in."""

import numpy as np
import pytest

from mvp.data.splits.file import read_split, write_split
from mvp.data.splits.lists import fixed_by_lists
from mvp.data.splits.split import Split
from mvp.errors import DataError

STUDIES = ["a", "b", "c", "d"]
PATIENTS = ["p", "p", "q", "r"]


def wishes(folder, lists, *, studies=STUDIES, patients=PATIENTS, column=None):
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text)
    return fixed_by_lists(
        np.array(studies, object),
        np.array(patients, object),
        np.array(column or [""] * len(studies), object),
        {name: f"{name}.txt" for name in lists},
        folder,
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a\nc\n", ["test", "", "test", ""]),
        ("study\na\n", ["test", "", "", ""]),
        ("\ufeffpatient,x\np,1\nr,2\n", ["test", "test", "", "test"]),
        ("p\nd\n", ["test", "test", "", "test"]),
        ("study_id\tx\n\n  a \t7\n", ["test", "", "", ""]),
    ],
)
def test_a_list_names_studies_or_patients(tmp_path, text, parts):
    found = wishes(tmp_path, {"test": text})
    assert found.parts.tolist() == parts
    assert found.problems == ()


def test_unknown_ids_are_counted_and_named(tmp_path):
    (problem,) = wishes(tmp_path, {"test": "a\nx\ny\n"}).problems
    assert problem.count == 2
    assert "2 of 3 ids are not in the table: 'x' (line 2), 'y' (line 3)" in problem.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x\ny\n", "none of the 2 ids"),
        ("study\np\n", "none of the 1 ids"),
        ("patient\na\n", "none of the 1 ids"),
        ("study\n", "names no study"),
        ("", "names no study"),
    ],
)
def test_a_list_of_nothing_known_is_refused(tmp_path, text, reason):
    with pytest.raises(DataError, match=reason):
        wishes(tmp_path, {"test": text})


def test_an_id_of_a_study_and_of_another_patient_needs_a_header(tmp_path):
    own = {"studies": ["1", "2"], "patients": ["2", "1"]}
    with pytest.raises(DataError, match="line 1: '1' is the id of a study and of a patient"):
        wishes(tmp_path, {"test": "1\n"}, **own)
    assert wishes(tmp_path, {"test": "study\n1\n"}, **own).parts.tolist() == ["test", ""]
    assert wishes(tmp_path, {"test": "patient\n1\n"}, **own).parts.tolist() == ["", "test"]


def test_two_lists_that_contradict_each_other_are_both_named(tmp_path):
    with pytest.raises(DataError) as caught:
        wishes(tmp_path, {"test": "patient\np\n", "stage1": "b\n"})
    assert "test.txt line 2 says test and stage1.txt line 1 says stage1" in str(caught.value)
    with pytest.raises(DataError, match="the split column says train and"):
        wishes(tmp_path, {"test": "a\n"}, column=["train", "", "", ""])


def test_train_may_be_said_more_closely(tmp_path):
    found = wishes(tmp_path, {"stage1": "a\n", "train": "a\nb\n"}, column=["train", "", "", "x"])
    assert found.parts.tolist() == ["stage1", "train", "", "x"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_list_that_cannot_be_read_is_one_line(tmp_path, content):
    if content:
        (tmp_path / "ids").write_bytes(content)
    none = np.array([], object)
    with pytest.raises(DataError, match="cannot be read"):
        fixed_by_lists(none, none, none, {"test": "ids"}, tmp_path)


@pytest.mark.parametrize("folds", [{}, {"a": 0, "b,\n": 1}])
def test_a_split_is_read_as_it_was_written(tmp_path, folds):
    split = Split({"a": "stage1", "b,\n": "stage2", "c": "test"}, folds)
    write_split(tmp_path / "split.csv", split)
    assert read_split(tmp_path / "split.csv") == split
    first = (tmp_path / "split.csv").read_text().splitlines()[0]
    assert first == ("study,part,fold" if folds else "study,part")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("study,part,fold\na,stage1,x\n", "line 2 does not name a fold"),
        ("study,part,fold\na,stage1,-1\n", "line 2 does not name a fold"),
        ("study,part,fold\na,test,1\n", "of the test part a fold"),
        ("study,part,fold\na,stage1,1\na,stage1,2\n", "line 3 gives study a a second fold"),
        ("study,part,fold\na,stage1\n", "line 2 does not name a study and a part"),
        ("study,part\na,stage1,1\n", "line 2 does not name a study and a part"),
        ("", "its first line"),
    ],
)
def test_a_damaged_split_is_refused_with_its_line(tmp_path, text, reason):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DataError, match=reason):
        read_split(tmp_path / "split.csv")
