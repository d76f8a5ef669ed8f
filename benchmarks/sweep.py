"""Linear heads side by side in common passes, against fitting them one by one.

`python -m benchmarks.sweep [rows] [width]`; the default, 20,000 rows of three views of 1,024
features in all, 14 labels, 7 subsets of views and 6 penalties, is 588 heads. A sample of them is
fitted one by one, drawn evenly from every penalty, and the time of all is scaled up from it. Both
sides are measured in one run on one machine.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import torch

from benchmarks.timing import seconds
from mvp.features import FeatureTable, table_from_arrays
from mvp.learners import Head
from mvp.learners.many_linear import LinearHead, ManyLinear, fit_many_linear
from mvp.reports import grid
from mvp.stages._candidates import subsets_of
from mvp.stages.linear_sweep import STRENGTHS
from mvp.types import Labels, Target

ROWS, WIDTH, LABELS, VIEWS = 20_000, 1_024, 14, 3
# How many are fitted one by one of each penalty.
SAMPLE = 2


def made(rows: int, width: int) -> tuple[FeatureTable, Labels]:
    """Views of correlated features, 15 % missing, and labels that a few directions tell."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((rows, 32)).astype(np.float32)
    blocks = {}
    for view in range(VIEWS):
        own = width // VIEWS + (view < width % VIEWS)
        features = hidden @ rng.standard_normal((32, own)).astype(np.float32)
        features += rng.standard_normal((rows, own)).astype(np.float32) * 3
        features[rng.random(rows) < 0.15] = np.nan
        blocks[f"view{view}"] = features
    logits = hidden @ rng.standard_normal((32, LABELS)).astype(np.float32) / 3 - 1.5
    truth = (rng.random((rows, LABELS)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    truth[rng.random((rows, LABELS)) < 0.1] = np.nan
    table = table_from_arrays([str(i) for i in range(rows)], blocks)
    return table, Labels(tuple(Target(f"l{i}") for i in range(LABELS)), truth)


def alone(
    table: FeatureTable,
    labels: Labels,
    views: tuple[str, ...],
    head: LinearHead,
    tolerance: float | None = None,
) -> Head:
    own = table.only(views)
    known = own.presence.any(axis=1) & labels.known[:, head.target]
    target = (labels.targets[head.target],)
    truth = labels.values[known][:, [head.target]]
    name, options = "logistic", {"C": head.strength}
    if tolerance is not None:
        name = "sklearn.linear_model.LogisticRegression"
        options |= {"tol": tolerance, "max_iter": 10_000}
    return Head.fit(name, options, own.select(known), Labels(target, truth), seed=0)


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:]]
    rows, width = (*numbers, *(ROWS, WIDTH)[len(numbers) :])
    table, labels = made(rows, width)
    subsets = subsets_of(table.views, lambda _: True)
    heads = [
        LinearHead(t, s, c) for s in range(len(subsets)) for t in range(LABELS) for c in STRENGTHS
    ]
    found: list[ManyLinear] = []
    ours = seconds(lambda: found.append(fit_many_linear(table, labels, heads, subsets)))
    # And stopping where scikit-learn's default does.
    early = seconds(
        lambda: found.append(fit_many_linear(table, labels, heads, subsets, tolerance=1e-4))
    )
    many, rng = found[0], np.random.default_rng(1)
    picked = [
        int(number)
        for strength in STRENGTHS
        for number in rng.choice([i for i, h in enumerate(heads) if h.strength == strength], SAMPLE)
    ]
    fitted: list[Head] = []

    def one_by_one() -> None:
        for i in picked:
            fitted.append(alone(table, labels, subsets[heads[i].subset], heads[i]))

    theirs = seconds(one_by_one) * len(heads) / len(picked)
    said = many.predict(table)
    # Against a fit to the end too: scikit-learn's default tolerance leaves a difference of its own.
    away: dict[str, float] = {"to theirs": 0.0, "to theirs at 1e-7": 0.0}
    for i, head in zip(picked, fitted, strict=True):
        views = subsets[heads[i].subset]
        own = table.only(views)
        there = own.presence.any(axis=1)
        for how, other in (
            ("to theirs", head),
            ("to theirs at 1e-7", alone(table, labels, views, heads[i], 1e-7)),
        ):
            values = other.predict(own.select(there))[:, 0]
            away[how] = max(away[how], float(np.abs(said[there, i] - values).max()))
    print(
        f"{rows:,} rows, {width:,} features of {VIEWS} views, {len(heads)} heads, "
        f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    )
    lines = [["all heads", "passes", "together", "one by one*", "ratio", *away]]
    for what, one, taken in (("to the end", many, ours), ("to 1e-4, as theirs", found[1], early)):
        differences = [f"{value:.1e}" for value in away.values()] if one is many else ["", ""]
        times = [f"{taken:.1f} s", f"{theirs:.0f} s", f"{taken / theirs:.3f}"]
        lines.append([what, str(one.passes), *times, *differences])
    print(grid(lines))
    print(
        f"* scaled up from {len(picked)}; last columns: the greatest difference of a probability "
        "from theirs"
    )


if __name__ == "__main__":
    main()
