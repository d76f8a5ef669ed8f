"""Tables and pictures of a comparison of learners, views and protocols."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mvp.reports.pictures import colours, save
from mvp.reports.tables import grid, number, signed, with_interval

Record = Mapping[str, Any]
MEAN = "mean over labels"


def ranking_text(rows: Sequence[Record]) -> str:
    """One line per candidate: rank, learner, views, protocol, validation, test.

    Args:
        rows: of every candidate the mean over labels, in order.
    """
    table = [["candidate", "rank", "protocol", "validation", "n", "test", "n"]]
    for row in rows:
        ablation = row["rank"] is None
        table.append(
            [
                f"{row['learner']} {row['views']}",
                "ablation" if ablation else str(row["rank"]),
                row["protocol"],
                "not ranked" if ablation else number(row["validation"]),
                "" if ablation else str(row["validation_n"]),
                with_interval(row["test"], row["low"], row["high"]),
                str(row["n"]),
            ]
        )
    return grid(table)


def candidates_text(rows: Sequence[Record]) -> str:
    """One line per candidate, one column per label: test AUROC, with n where it differs.

    Args:
        rows: of every candidate and label.
    """
    labels = list(dict.fromkeys(row["label"] for row in rows if row["label"] != MEAN))
    most = {label: max(r["n"] for r in rows if r["label"] == label) for label in labels}
    table = [["candidate", *labels]]
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["label"] == MEAN:
            continue
        flag = " (ablation)" if row["ablation"] else ""
        name = f"{row['learner']} {row['views']}, {row['protocol']}{flag}"
        few = "" if row["n"] == most[row["label"]] else f" n={row['n']}"
        lines.setdefault(name, {})[row["label"]] = number(row["test"]) + few
    table += [[name, *(cells[label] for label in labels)] for name, cells in lines.items()]
    return grid(table)


def gaps_text(rows: Sequence[Record]) -> str:
    """One line per candidate that the winner is held against, one column per label."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    table = [["winner minus", "n", *labels]]
    lines: dict[tuple[str, str], dict[str, Record]] = {}
    for row in rows:
        lines.setdefault((row["other"], row["why"]), {})[row["label"]] = row
    for (other, why), cells in lines.items():
        said = ["undefined" if r["difference"] is None else signed(r) for r in cells.values()]
        table.append([f"{other} ({why})", str(cells[MEAN]["n"]), *said])
    return grid(table)


def values_text(values: Sequence[Record], gains: Sequence[Record]) -> str:
    """One line per label: the value of every view, what they add up to, AUROC of all views."""
    views = list(dict.fromkeys(row["view"] for row in values))
    cells = {(row["label"], row["view"]): row for row in values}
    table = [["label", "n", *views, "sum", "AUROC of all"]]
    for gain in gains:
        label, own = gain["label"], [cells[gain["label"], view] for view in views]
        said = ["undefined" if r["value"] is None else signed(_as_gap(r)) for r in own]
        total = None if gain["gain"] is None else f"{gain['gain']:+.3f}"
        table.append([label, str(gain["n"]), *said, total or "undefined", number(gain["auroc"])])
    return grid(table)


def draw_candidates(path: Path, rows: Sequence[Record], values: Sequence[Record]) -> None:
    """Test AUROC of every candidate with its interval; below, the value of every view by label.

    Args:
        path: of the PNG.
        rows: of every candidate the mean over labels, in order.
        values: Shapley values; none for no second panel.
    """
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(row["label"] for row in values))
    views = list(dict.fromkeys(row["view"] for row in values))
    heights = [0.8 + 0.24 * len(rows), *([0.8 + 0.2 * len(labels) * len(views)] if labels else [])]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for place, row in enumerate(rows):
        colour = "0.6" if row["rank"] is None else "#D55E00" if row["rank"] == 1 else "#0072B2"
        if row["test"] is None:
            continue
        if row["low"] is not None:
            panels[0].plot([row["low"], row["high"]], [place] * 2, color=colour, lw=2)
        panels[0].plot(row["test"], place, "o", color=colour, ms=5)
        if row["validation"] is not None:
            panels[0].plot(row["validation"], place, "|", color="black", ms=8)
    names = [
        f"{row['rank'] or 'ablation'}  {row['learner']} {row['views']}, {row['protocol']}"
        for row in rows
    ]
    panels[0].set_yticks(range(len(rows)), names, fontsize=8)
    panels[0].set_xlabel("mean AUROC: test with patient-bootstrap interval; | validation")
    if labels:
        _draw_values(panels[1], values, labels, views)
    for panel in panels:
        panel.invert_yaxis()
        panel.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def _draw_values(panel: Any, rows: Sequence[Record], labels: list[str], views: list[str]) -> None:
    paint = colours(views)
    for row in rows:
        if row["value"] is None:
            continue
        place = labels.index(row["label"]) + (views.index(row["view"]) + 0.5) / len(views) * 0.8
        panel.barh(place, row["value"], 0.7 / len(views), color=paint[row["view"]])
        if row["low"] is not None and not math.isnan(row["low"]):
            panel.plot([row["low"], row["high"]], [place] * 2, color="black", lw=1)
    for view in views:
        panel.barh(0, 0, 0, color=paint[view], label=view)
    panel.axvline(0, color="0.7", lw=1)
    panel.set_yticks([i + 0.4 for i in range(len(labels))], labels, fontsize=8)
    panel.set_xlabel("what a view is worth: Shapley value of test AUROC")
    panel.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _as_gap(row: Record) -> Record:
    return {"difference": row["value"], "low": row["low"], "high": row["high"]}
