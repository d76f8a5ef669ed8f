"""From cells to labels: unknown stays unknown, and nothing is guessed."""

import numpy as np
import pytest

from mvp.config import LabelConfig
from mvp.data.tables.labels import merge_labels, overlooked, parse_labels, target_of
from mvp.errors import DataError

NAN = float("nan")


def parsed(cells, **settings):
    values = list(dict.fromkeys(cells))
    codes = np.array([values.index(cell) for cell in cells])
    return parse_labels(values, codes, "mass", LabelConfig(**settings), lambda r: r + 2).tolist()


def same(found, wanted):
    np.testing.assert_array_equal(found, wanted)


def test_the_usual_spellings_of_zero_and_one():
    same(parsed(["1", "1.0", "TRUE", "Yes", " 1 "]), [1, 1, 1, 1, 1])
    same(parsed(["0", "0.0", "false", "NO"]), [0, 0, 0, 0])


@pytest.mark.parametrize(("policy", "value"), [("unknown", NAN), ("negative", 0), ("positive", 1)])
def test_blank_and_minus_one_have_a_policy_each(policy, value):
    same(parsed(["", "nan", "N/A", "1", "0"], blank=policy), [value, value, value, 1, 0])
    same(parsed(["-1", "-1.0", "1", ""], uncertain=policy), [value, value, 1, NAN])


def test_by_default_blank_and_minus_one_are_unknown_not_negative():
    same(parsed(["", "-1", "-1.0"]), [NAN, NAN, NAN])


def test_an_explicit_rule_wins_over_the_meaning_of_a_blank_or_minus_one():
    same(parsed(["", "-1", "1"], negative=["", "-1"]), [0, 0, 1])


def test_a_cell_of_several_findings_is_positive_when_one_of_them_is():
    settings = {
        "positive": "Mass", "negative": "No Finding", "separator": "|", "other": "negative"
    }  # fmt: skip
    cells = ["Mass", "Nodule|mass", "Nodule | Mass ", "Massive", "No Finding", "", "Nodule"]
    same(parsed(cells, **settings), [1, 1, 1, 0, 0, NAN, 0])


def test_without_a_separator_a_cell_is_one_value():
    same(parsed(["A|B", "A"], positive="A", other="unknown"), [NAN, 1])


@pytest.mark.parametrize(("other", "value"), [("unknown", NAN), ("negative", 0)])
def test_what_no_rule_covers_follows_other(other, value):
    same(parsed(["perhaps", "1"], other=other), [value, 1])


def test_by_default_what_no_rule_covers_is_refused_with_line_and_remedy():
    with pytest.raises(DataError) as caught:
        parsed(["1", "0", "per\nhaps"])
    line = str(caught.value)
    assert "line 4" in line
    assert "labels.mass.other" in line
    assert line.isprintable()


def test_other_covers_no_minus_one():
    """A -1 is uncertain, whatever becomes of unforeseen values."""
    same(parsed(["-1"], other="negative"), [NAN])


def test_classes_become_their_index():
    settings = {"kind": "multiclass", "classes": ["A", "B", "C"]}
    same(parsed(["A", "c", " B ", "", "-1"], **settings), [0, 2, 1, NAN, NAN])
    same(parsed(["D", "A"], other="unknown", **settings), [NAN, 0])
    with pytest.raises(DataError, match="line 2 says 'D'"):
        parsed(["D"], **settings)


def test_targets_name_their_outputs():
    assert target_of("mass", LabelConfig()).outputs == ("mass",)
    many = LabelConfig(kind="multiclass", classes=["A", "B"])
    assert target_of("grade", many).outputs == ("grade=A", "grade=B")


def test_rows_of_a_study_agree_or_the_label_is_unknown():
    values = np.array([1, NAN, 0, 1, NAN, 0, 0], np.float32)
    codes = np.array([0, 0, 1, 1, 2, 3, 3])
    merged, conflicts = merge_labels(values, codes, 4)
    same(merged, [1, NAN, NAN, 0])
    assert conflicts.tolist() == [False, True, False, False]


@pytest.mark.parametrize("one", ["1", "1.0", "1.", "+1", "1.000", "1,0"])
def test_a_whole_number_is_the_same_in_every_spelling(one):
    same(parsed([one, "0.00", "-1.", "-1,0"], blank="positive"), [1, 0, NAN, NAN])
    same(parsed([one], kind="multiclass", classes=["0", "1.0"]), [1])
    same(parsed(["4.0", "4a"], kind="multiclass", classes=["4", "4A"]), [0, 1])


@pytest.mark.parametrize("other", ["01", "10", "1,000", "1e0", "1.5", "-1.5", "U", "1 0"])
def test_nothing_else_is_taken_for_a_number(other):
    with pytest.raises(DataError, match="which no rule covers"):
        parsed([other])


def test_a_rule_as_written_wins_over_the_same_number():
    same(parsed(["1.0", "1", "2"], positive=["1.0", "2.0"], negative=["1"]), [1, 0, 1])


def test_all_rows_that_no_rule_covers_are_counted_and_their_values_listed():
    with pytest.raises(DataError) as caught:
        parsed(["1", "x\u202ey", "B", "B", *(f"v{i}" for i in range(9))])
    line = str(caught.value)
    assert line.isprintable()
    assert "line 3 says 'x\\u202ey'" in line
    assert "in all 12 rows" in line
    assert "also 'B', 'v0'" in line
    assert "'v8'" not in line


LIST = {"positive": "Mass", "negative": "Benign", "separator": "|"}


def test_a_list_is_negative_only_where_all_of_it_is_known():
    same(parsed(["Benign|-1", "-1|Benign", "Benign", "Mass|-1"], **LIST), [NAN, NAN, 0, 1])
    same(parsed(["Benign|what"], other="unknown", **LIST), [NAN])
    same(parsed(["Benign|what", "what", "what|-1"], other="negative", **LIST), [0, 0, NAN])
    same(parsed(["Benign|-1"], uncertain="positive", **LIST), [1])
    with pytest.raises(DataError, match=r"'Benign\|what'"):
        parsed(["Benign|what"], **LIST)


@pytest.mark.parametrize("cell", ["|", " | ", "nan|", "|None|", "n/a"])
def test_a_list_of_nothing_is_blank_not_negative(cell):
    same(parsed([cell], other="negative", **LIST), [NAN])
    same(parsed([cell], blank="positive", **LIST), [1])


def test_a_blank_place_in_a_list_says_nothing_unless_a_rule_says_so():
    same(parsed(["Mass|", "Benign||nan", "|Benign"], **LIST), [1, 0, 0])
    same(parsed(["NA|Benign", "Benign"], positive="NA", negative="Benign", separator="|"), [1, 0])


def test_a_minus_sign_of_print_is_a_minus():
    same(parsed(["\u22121", "\u22121.0"], other="negative"), [NAN, NAN])


@pytest.mark.parametrize("separator", [None, "|"])
def test_a_positive_value_beside_another_separator_is_not_passed_over(separator):
    config = LabelConfig(positive="Mass", other="negative", separator=separator)
    cells = ["Mass", "Edema, mass", "Edema;Mass", "Massive, Edema", "Edema", "Edema / x"]
    assert overlooked(cells, config) == [1, 2]
    assert overlooked(["Edema|Mass"], config) == ([] if separator else [0])
    assert overlooked(cells, LabelConfig(positive="Mass", other="unknown")) == []
