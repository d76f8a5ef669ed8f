"""What a person reads says what it rests on."""

from mvp.reports import (
    accuracy_text,
    comparison_text,
    decisions_text,
    optimism_text,
    write_csv,
    write_page,
)


def record(model, n, positives, auroc=0.9):
    low, high = (None, None) if auroc is None else (auroc - 0.1, min(1.0, auroc + 0.1))
    return {
        "model": model,
        "label": "<b>x</b>",
        "auroc": auroc,
        "low": low,
        "high": high,
        "auprc": auroc,
        "auprc_low": low,
        "auprc_high": high,
        "n": n,
        "positives": positives,
        "negatives": n - positives,
        "patients": n,
    }


ROWS = [record("a", 3, 1, 1.0), record("b", 40, 40, None), record("fusion", 40, 20)]
GAINS = [
    {
        "label": "<b>x</b>",
        "other": "a",
        "chosen_on": "validation",
        "difference": -0.1,
        "low": None,
        "high": None,
        "n": 3,
        "positives": 1,
    }
]
RIGHT = [
    {
        "model": model,
        "label": "<b>y</b>",
        "accuracy": value,
        "low": value,
        "high": value,
        "majority": 0.25,
        "n": n,
        "correct": 3,
        "patients": n,
    }
    for model, value, n in (("a", None, 3), ("mean", 0.5, 40), ("fusion", 0.75, 40))
]
MORE_RIGHT = [
    {
        "label": "<b>y</b>",
        "other": other,
        "chosen_on": "validation",
        "difference": difference,
        "low": 0.125,
        "high": 0.375,
        "n": 40,
    }
    for other, difference in (("a", None), ("mean", 0.25))
]


INTERVALS = ("sensitivity", "specificity", "ppv", "npv", "coverage", "abstained", "ece")
NUMBERS = dict.fromkeys(INTERVALS, 0.75) | {
    f"{name}_{end}": 0.5 for name in INTERVALS for end in ("low", "high")
}
COMMON = {"label": "<b>x</b>", "pattern": "all patterns", "n": 40, "patients": 40, **NUMBERS}
CALLS = {
    **COMMON,
    "rule": "sensitivity 0.9",
    "threshold": 0.31,
    "npv": None,
    "false_negatives": 5,
    "false_positives": 7,
}
SETS = {**COMMON, "true_class": "all classes", "promised": 0.9, "empty": 0}
CALIBRATED = [
    {**COMMON, "calibration": "none", "ece": 0.2},
    {**COMMON, "calibration": "platt", "ece": 0.1},
]


def test_few_studies_and_missing_classes_show_in_the_comparison():
    line = comparison_text(ROWS, GAINS).splitlines()[2]
    assert "1.000 [0.900, 1.000] n=3" in line
    assert "undefined" in line
    assert "-0.100 [no interval] vs a" in line
    assert "n=40" not in line


def test_accuracy_says_what_it_rests_on_and_what_naming_one_class_would_reach():
    head, _, line = accuracy_text(RIGHT, MORE_RIGHT).splitlines()
    assert head.split()[:3] == ["label", "n", "majority"]
    assert line.split()[1:4] == ["40", "0.250", "undefined"]
    assert "undefined n=3" in line
    assert "0.750 [0.750, 0.750]" in line
    assert line.endswith("undefined  +0.250 [+0.125, +0.375]")
    assert "fusion - mean" not in accuracy_text(RIGHT, []).splitlines()[0]


def test_undefined_is_written_out_never_left_blank_or_half(tmp_path):
    write_csv(tmp_path / "m.csv", ROWS)
    cells = (tmp_path / "m.csv").read_text().splitlines()[2].split(",")
    assert cells[2:8] == ["undefined"] * 6


def test_the_page_escapes_what_strangers_wrote(tmp_path):
    (tmp_path / "p.png").write_bytes(b"png")
    report = {
        "head": "<script>",
        "learner": "mlp",
        "protocol": "holdout",
        "studies": 40,
        "level": 0.95,
        "draws": 100,
        "warnings": ["<i>"],
        "rows": ROWS,
        "differences": GAINS,
        "accuracy": RIGHT,
        "accuracy_differences": MORE_RIGHT,
        "labels": ["<b>x</b>"],
        "views": ["<b>v</b>"],
        "optimism": [],
        "patterns": [],
        "calibration": [],
        "decisions": [CALLS],
        "sets": [SETS],
        "confusion": [],
    }
    made = {"digest": "d", "split": "s", "seed": 0, "keys": {}, "versions": {"python": "3"}}
    write_page(tmp_path / "r.html", report, made, ["p.png"])
    page = (tmp_path / "r.html").read_text()
    assert "<script>" not in page
    assert "<b>x</b>" not in page
    assert "<b>y</b>" not in page
    assert "<b>v</b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "+0.250 [+0.125, +0.375]" in page
    assert "undefined" in page
    assert "0.310 (sensitivity 0.9)" in page
    order = ["What was asked", "told apart", "each view bring", "at the threshold", "abstain"]
    order += ["at its word", "which views a study has", "own rows", "made from"]
    places = [page.index(f"{words}") for words in order]
    assert places == sorted(places)
    assert "http" not in page.replace("</html>", "")


def gap_of(model, label="b"):
    return {
        "model": model,
        "label": label,
        "own": 0.9,
        "test": 0.7,
        "gap": 0.2,
        "difference": None,
    }


def test_the_optimism_gap_says_whose_rows_they_were():
    """Under the ablation by name the networks have seen the rows of the fusion itself."""
    both = [gap_of("fusion"), gap_of("fusion", "a"), gap_of("same-rows"), gap_of("same-rows", "a")]
    head, _, *lines = optimism_text(both, "holdout").splitlines()
    assert head.endswith("honest - same-rows on test")
    assert [line.split()[:3] for line in lines] == [
        [label, rows, "rows"] for label in ("b", "a") for rows in ("unseen", "same")
    ]
    head, _, line = optimism_text(both[:1], "same-rows").splitlines()
    assert line.split()[:3] == ["b", "same", "rows"]
    assert "honest" not in head


def test_the_line_of_a_label_says_what_it_decides():
    judged = {"calibration": CALIBRATED, "decisions": [CALLS], "sets": [SETS]}
    head, _, line = decisions_text(judged).splitlines()
    assert head.split() == [
        *("label", "threshold", "sensitivity", "specificity"),
        *("ECE", "ECE", "raw", "in", "the", "set", "abstains"),
    ]
    assert line.split()[1:4] == ["0.310", "0.750", "[0.500,"]
    assert "0.100" in line
    assert line.index("0.100") < line.index("0.200")


def test_a_label_without_threshold_or_sets_has_none():
    elsewhere = [{**row, "pattern": "a+b"} for row in (CALLS, SETS)]
    judged = {"calibration": CALIBRATED[:1], "decisions": elsewhere[:1], "sets": elsewhere[1:]}
    head, _, line = decisions_text(judged).splitlines()
    assert head.split() == ["label", "threshold", "sensitivity", "specificity", "ECE"]
    assert line.split() == ["<b>x</b>", "none", "0.200"]
