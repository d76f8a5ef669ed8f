"""What a report says, in the order of a reader's questions: paragraphs, tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence

from mvp.reports.section import Section, Table
from mvp.reports.tables import (
    Record,
    estimated,
    in_hundred,
    number,
    overall,
    signed,
    with_interval,
)
from mvp.types import EVERY_PATTERN


def sections(report: Record) -> list[Section]:
    """The sections of a report on an evaluation, given as plain values."""
    found = [_ranking(report), _views(report)]
    if report["decisions"] or report["confusion"]:
        found.append(_calls(report))
    if report["sets"]:
        found.append(_sets(report))
    return [*found, _calibration(report), _patterns(report), _optimism(report)]


def _ranking(report: Record) -> Section:
    rows = [
        [
            *(r["label"], r["model"]),
            with_interval(r["auroc"], r["low"], r["high"]),
            with_interval(r["auprc"], r["auprc_low"], r["auprc_high"]),
            *(r["n"], r["positives"], r["negatives"], r["patients"]),
        ]
        for r in report["rows"]
    ]
    right = [
        [
            *(r["label"], r["model"]),
            with_interval(r["accuracy"], r["low"], r["high"]),
            *(number(r["majority"]), r["n"], r["correct"], r["patients"]),
        ]
        for r in report["accuracy"]
    ]
    return Section(
        "How well are studies told apart?",
        "AUROC: how often a study with the finding has the higher probability than one without it; "
        "0.5 is chance. AUPRC: mean precision over all thresholds; chance is the share of "
        "positives. A single view is measured on the studies that have it.",
        [
            Table(
                "Area under the ROC curve (AUROC) and precision–recall curve (AUPRC)",
                ["label", "model", "AUROC", "AUPRC", "studies", "positive", "negative", "patients"],
                rows,
                _of_fusion(report["rows"]),
            ),
            Table(
                "Accuracy: how often the most probable class is the true one",
                [
                    *("label", "model", "accuracy", "most frequent class"),
                    *("studies", "correct", "patients"),
                ],
                right,
                _of_fusion(report["accuracy"]),
            ),
        ],
        ["comparison.png"],
    )


def _views(report: Record) -> Section:
    tables = []
    for what, name in (("AUROC", "differences"), ("Accuracy", "accuracy_differences")):
        rows = [
            [
                *(r["label"], r["other"], r["chosen_on"]),
                "undefined" if r["difference"] is None else signed(r),
                r["n"],
            ]
            for r in report[name]
        ]
        names = ["label", "compared with", "chosen on", "difference", "studies"]
        tables.append(Table(f"{what} of the fusion minus that of another model", names, rows))
    return Section(
        "What does each view bring?",
        "Differences are paired, on the studies that both models can score. An interval that "
        "holds 0 leaves open which of the two is better.",
        tables,
        ["roc.png", "precision-recall.png"],
    )


def _calls(report: Record) -> Section:
    rows = overall(report["decisions"])
    hundreds = [
        [
            *(r["label"], f"{r['threshold']:.3f} ({r['rule']})"),
            in_hundred(r["sensitivity"], other=True),
            in_hundred(r["specificity"], other=True),
            *(in_hundred(r["ppv"]), in_hundred(r["npv"])),
            *(r["false_negatives"], r["false_positives"]),
        ]
        for r in rows
    ]
    return Section(
        "What happens at the threshold?",
        "Thresholds were chosen on other studies than these. A study at or above its "
        "threshold is called positive; of several classes the most probable one is called.",
        [
            Table(
                "Missed findings and false alarms",
                [
                    *("label", "threshold", "missed, of 100 with it"),
                    *("false alarms, of 100 without it", "right, of 100 called positive"),
                    *("right, of 100 called negative", "missed here", "false alarms here"),
                ],
                hundreds,
            ),
            Table(
                "The same as shares",
                ["label", "sensitivity", "specificity", "PPV", "NPV", "studies"],
                [[r["label"], *_shares(r), r["n"]] for r in rows],
            ),
        ],
        ["confusion.png"],
    )


def _sets(report: Record) -> Section:
    rows = [r for r in report["sets"] if r["pattern"] == EVERY_PATTERN]
    return Section(
        "When does it abstain?",
        "A prediction set holds every class that cannot be ruled out. One class alone is an "
        "answer; several, or none, is an abstention. The share promised is promised for every "
        "true class, and in every pattern of views with enough calibration patients.",
        [
            Table(
                "Prediction sets",
                [
                    *("label", "true class", "promised", "true class in the set", "abstains"),
                    *("empty sets", "studies"),
                ],
                [
                    [
                        *(r["label"], r["true_class"], number(r["promised"], 2)),
                        *(estimated(r, "coverage"), estimated(r, "abstained")),
                        *(r["empty"], r["n"]),
                    ]
                    for r in rows
                ],
            )
        ],
    )


def _calibration(report: Record) -> Section:
    rows = [
        [
            *(r["label"], r["calibration"]),
            *(estimated(r, name) for name in ("ece", "brier", "log_loss")),
            r["n"],
        ]
        for r in overall(report["calibration"])
    ]
    return Section(
        "Can a probability be taken at its word?",
        "Expected calibration error (ECE): how far, on average, a probability is from how often it "
        "comes true; on few studies even a perfect model is above 0, and its interval lies "
        "somewhat too high. Brier score and log loss "
        "judge calibration and ranking together; lower is better. Calibration “none” is what the "
        "heads say.",
        [
            Table(
                "Calibration of the fusion",
                ["label", "calibration", "ECE", "Brier score", "log loss", "studies"],
                rows,
            )
        ],
        ["calibration.png"],
    )


def _patterns(report: Record) -> Section:
    by_auroc = [
        [
            *(r["label"], r["pattern"], r["model"], estimated(r, "auroc")),
            *(r["n"], r["positives"], r["negatives"]),
        ]
        for r in report["patterns"]
    ]
    errors = [
        [
            *(r["label"], r["pattern"], r["calibration"]),
            *(estimated(r, "ece"), estimated(r, "brier"), r["n"]),
        ]
        for r in report["calibration"]
    ]
    sets = [
        [
            *(r["label"], r["pattern"], r["true_class"], number(r["promised"], 2)),
            *(estimated(r, "coverage"), estimated(r, "abstained"), r["n"]),
        ]
        for r in report["sets"]
        if r["pattern"] != EVERY_PATTERN
    ]
    return Section(
        "Does it depend on which views a study has?",
        "The same figures for the studies with exactly these views.",
        [
            Table(
                "AUROC by pattern of present views",
                ["label", "views", "model", "AUROC", "studies", "positive", "negative"],
                by_auroc,
                _of_fusion(report["patterns"]),
            ),
            Table(
                "Calls by pattern of present views",
                ["label", "views", "sensitivity", "specificity", "PPV", "NPV", "studies"],
                [[r["label"], r["pattern"], *_shares(r), r["n"]] for r in report["decisions"]],
            ),
            Table(
                "Calibration by pattern of present views",
                ["label", "views", "calibration", "ECE", "Brier score", "studies"],
                errors,
            ),
            Table(
                "Prediction sets by pattern of present views",
                [
                    *("label", "views", "true class", "promised", "true class in the set"),
                    *("abstains", "studies"),
                ],
                sets,
            ),
        ],
    )


def _optimism(report: Record) -> Section:
    rows = [
        [
            *(r["label"], r["model"], number(r["own"]), number(r["test"]), number(r["gap"])),
            ""
            if r["model"] != "same-rows"
            else "undefined"
            if r["difference"] is None
            else signed(r),
        ]
        for r in report["optimism"]
    ]
    words = "The optimism gap is AUROC on the rows that a head was fitted on, minus that on test."
    columns = ["label", "model", "own rows", "test", "gap", "honest minus same-rows, on test"]
    if any(r["model"] == "same-rows" for r in report["optimism"]):
        words += (
            " “same-rows” is fitted on rows that its networks have seen, as a warning: what the "
            "honest protocol gains over it stands last."
        )
    else:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Section(
        "How much better does it look on its own rows?",
        words,
        [Table("Optimism gap of the fusion", columns, rows)],
    )


def _shares(row: Record) -> list[str]:
    return [estimated(row, name) for name in ("sensitivity", "specificity", "ppv", "npv")]


def _of_fusion(rows: Sequence[Record]) -> frozenset[int]:
    return frozenset(i for i, row in enumerate(rows) if row["model"] == "fusion")
