"""Plain-text and CSV tables."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mvp.files import replacing
from mvp.types import EVERY_CLASS, EVERY_PATTERN

Record = Mapping[str, Any]


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or "undefined": never 0.5 for what could not be measured."""
    return "undefined" if value is None else f"{value:.{digits}f}"


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """A figure with its interval, `.912 [.880, .941]` in full digits."""
    if value is None:
        return "undefined"
    if low is None or high is None:
        return f"{value:.3f} [no interval]"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells in aligned columns, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def comparison_text(metrics: Sequence[Record], differences: Sequence[Record]) -> str:
    """One line per label: n, each model's AUROC with interval, the fusion's paired gain.

    n and positives are those of the fusion; a single view is measured on the studies that have
    it, with their number beside it, and the paired difference on the studies that both can score.
    """
    models = list(dict.fromkeys(row["model"] for row in metrics))
    labels = list(dict.fromkeys(row["label"] for row in metrics))
    cells = {(row["label"], row["model"]): row for row in metrics}
    gains = {row["label"]: row for row in differences if row["other"] != "mean"}
    head = ["label", "n", "pos", *models]
    if gains:
        head.append("fusion - best view")
    rows = [head]
    for label in labels:
        last = cells[label, models[-1]]
        row = [label, str(last["n"]), str(last["positives"])]
        for model in models:
            cell = cells[label, model]
            text = with_interval(cell["auroc"], cell["low"], cell["high"])
            # A perfect score on three studies must not look like one on three hundred.
            row.append(text if cell["n"] == last["n"] else f"{text} n={cell['n']}")
        if gains:
            gain = gains.get(label)
            row.append(
                "undefined"
                if gain is None or gain["difference"] is None
                else f"{signed(gain)} vs {gain['other']}"
            )
        rows.append(row)
    return grid(rows)


def accuracy_text(rows: Sequence[Record], differences: Sequence[Record]) -> str:
    """One line per label with several classes: n, accuracies, and what the fusion adds.

    n is that of the fusion; a model that was measured on other studies has their number beside
    it. `majority` is what naming the most frequent class would reach.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    cells = {(row["label"], row["model"]): row for row in rows}
    others = {(row["label"], row["other"] == "mean"): row for row in differences}
    gains = {"fusion - best view": False, "fusion - mean": True} if others else {}
    table = [["label", "n", "majority", *models, *gains]]
    for label in dict.fromkeys(row["label"] for row in rows):
        last = cells[label, models[-1]]
        line = [label, str(last["n"]), number(last["majority"])]
        for model in models:
            cell = cells[label, model]
            text = with_interval(cell["accuracy"], cell["low"], cell["high"])
            line.append(text if cell["n"] == last["n"] else f"{text} n={cell['n']}")
        for of_mean in gains.values():
            gain = others.get((label, of_mean))
            if gain is None or gain["difference"] is None:
                line.append("undefined")
            else:
                line.append(signed(gain) + ("" if of_mean else f" vs {gain['other']}"))
        table.append(line)
    return grid(table)


def optimism_text(rows: Sequence[Record], protocol: str = "holdout") -> str:
    """One line per label and fusion: AUROC on its own rows, on test, their difference.

    Beside the ablation: what the honest protocol gains over it on test.

    Args:
        rows: of the fusion, and of the ablation where there is one.
        protocol: of the head; under `same-rows` its networks have seen the fusion's rows too.
    """
    table = [["label", "fitted on", "own rows", "test", "gap", "honest - same-rows on test"]]
    order = {label: i for i, label in enumerate(dict.fromkeys(row["label"] for row in rows))}
    rows = sorted(rows, key=lambda row: order[row["label"]])
    for row in rows:
        honest = row["model"] != "same-rows"
        gap = "undefined" if row["gap"] is None else f"{row['gap']:+.3f}"
        gain = "" if honest else "undefined" if row["difference"] is None else signed(row)
        rows_of = (
            "unseen rows" if honest and protocol not in ("same-rows", "joint") else "same rows"
        )
        table.append([row["label"], rows_of, number(row["own"]), number(row["test"]), gap, gain])
    if all(row["model"] != "same-rows" for row in rows):
        table = [line[:-1] for line in table]
    return grid(table)


def decisions_text(judged: Mapping[str, Sequence[Record]]) -> str:
    """One line per label: what its calls, its probabilities and its sets are worth on test.

    Args:
        judged: rows of `calibration`, `decisions` and `sets`, of all patterns and of each.
    """
    rows = {kind: overall(judged[kind]) for kind in ("calibration", "decisions", "sets")}
    corrected = any(row["calibration"] != "none" for row in rows["calibration"])
    head = ["label", "threshold", "sensitivity", "specificity", "ECE"]
    head += ["ECE raw"] if corrected else []
    head += ["in the set", "abstains"] if rows["sets"] else []
    table = [head]
    for label in dict.fromkeys(row["label"] for row in rows["calibration"]):
        call = next((r for r in rows["decisions"] if r["label"] == label), None)
        errors = [r["ece"] for r in rows["calibration"] if r["label"] == label]
        line = [label, "none", "", ""]
        if call is not None:
            line = [label, f"{call['threshold']:.3f}"]
            line += [estimated(call, share) for share in ("sensitivity", "specificity")]
        # What the heads say comes first, what is given out last.
        line += [number(errors[-1])] + ([number(errors[0])] if corrected else [])
        for own in rows["sets"]:
            if own["label"] == label:
                line += [estimated(own, "coverage"), number(own["abstained"])]
        table.append(line)
    return grid(table)


def overall(rows: Sequence[Record]) -> list[Record]:
    """Those rows that are of all patterns of views and of all classes."""
    return [
        row
        for row in rows
        if row["pattern"] == EVERY_PATTERN and row.get("true_class", EVERY_CLASS) == EVERY_CLASS
    ]


def estimated(row: Record, name: str) -> str:
    """A figure of a row with its interval."""
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


def in_hundred(share: float | None, *, other: bool = False) -> str:
    """How many of a hundred a share is, or what it leaves of them."""
    if share is None:
        return "undefined"
    return f"{100 * (1 - share if other else share):.0f}"


def signed(gain: Record) -> str:
    """A difference with its sign and interval."""
    text = f"{gain['difference']:+.3f}"
    if gain["low"] is None:
        return f"{text} [no interval]"
    return f"{text} [{gain['low']:+.3f}, {gain['high']:+.3f}]"


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """Write records as CSV; None is written as "undefined"."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        if records:
            writer.writerow(list(records[0]))
        for record in records:
            writer.writerow(["undefined" if v is None else v for v in record.values()])
