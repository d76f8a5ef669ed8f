"""What a person reads says what it rests on."""

from mvp.reports import comparison_text, write_csv, write_page


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


def test_few_studies_and_missing_classes_show_in_the_comparison():
    line = comparison_text(ROWS, GAINS).splitlines()[2]
    assert "1.000 [0.900, 1.000] n=3" in line
    assert "undefined" in line
    assert "-0.100 [no interval] vs a" in line
    assert "n=40" not in line


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
    }
    made = {"digest": "d", "split": "s", "seed": 0, "keys": {}, "versions": {"python": "3"}}
    write_page(tmp_path / "r.html", report, made, ["p.png"])
    page = (tmp_path / "r.html").read_text()
    assert "<script>" not in page
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "undefined" in page
    assert "http" not in page.replace("</html>", "")
