"""Pictures of a comparison: AUROC with intervals per label, and ROC curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mvp.files import replacing
from mvp.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#999999")
_FUSION = "#D55E00"
_MEAN = "#000000"


def colours(models: Sequence[str]) -> dict[str, str]:
    """A colour per model, the fusion's and the mean's always the same."""
    views = [m for m in models if m not in ("fusion", "mean")]
    chosen = {v: _COLOURS[i % len(_COLOURS)] for i, v in enumerate(views)}
    return {m: _FUSION if m == "fusion" else _MEAN if m == "mean" else chosen[m] for m in models}


def save(figure: Figure, path: Path) -> None:
    """Publish a figure as a PNG of some tens of kilobytes."""
    with replacing(path) as partial:
        figure.savefig(partial, dpi=130, bbox_inches="tight", format="png")


def draw_comparison(path: Path, metrics: Sequence[Mapping[str, Any]]) -> None:
    """A dot with its interval for every model, label by label."""
    from matplotlib.figure import Figure

    models = list(dict.fromkeys(row["model"] for row in metrics))
    labels = list(dict.fromkeys(row["label"] for row in metrics))
    paint = colours(models)
    figure = Figure(figsize=(7.5, 0.9 + 0.2 * len(labels) * (len(models) + 1)))
    axes = figure.add_subplot()
    for row in metrics:
        if row["auroc"] is None:
            continue
        position = labels.index(row["label"]) * (len(models) + 1) + models.index(row["model"])
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [position] * 2, color=paint[row["model"]], lw=2)
        axes.plot(row["auroc"], position, "o", color=paint[row["model"]], ms=5)
    for model in models:
        axes.plot([], [], "o-", color=paint[model], label=model)
    middle = (len(models) - 1) / 2
    axes.set_yticks([i * (len(models) + 1) + middle for i in range(len(labels))], labels)
    axes.invert_yaxis()
    axes.axvline(0.5, color="0.7", lw=1, ls=":")
    axes.set_xlabel("test AUROC with patient-bootstrap interval")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def draw_roc(
    path: Path, truth: FloatArray, curves: Mapping[str, FloatArray], outputs: Sequence[str]
) -> None:
    """ROC curves of every model, one panel per output.

    Args:
        path: of the PNG.
        truth: (study, output) 0, 1 or NaN.
        curves: for each model (study, output) probabilities, NaN where it says nothing.
        outputs: names of the panels.
    """
    from matplotlib.figure import Figure

    columns = min(3, len(outputs))
    rows = math.ceil(len(outputs) / columns)
    figure = Figure(figsize=(3.1 * columns, 3.1 * rows), layout="constrained")
    paint = colours(list(curves))
    panels = figure.subplots(rows, columns, squeeze=False)
    for i, panel in enumerate(panels.flat):
        panel.set_visible(i < len(outputs))
        if i >= len(outputs):
            continue
        for model, values in curves.items():
            points = roc_points(truth[:, i], values[:, i])
            if points is not None:
                panel.plot(*points, color=paint[model], lw=1.6, label=model)
        panel.plot([0, 1], [0, 1], color="0.8", lw=1, ls=":")
        panel.set_title(outputs[i], fontsize=9)
        panel.set_aspect("equal")
        panel.set_xlabel("1 - specificity", fontsize=8)
        panel.set_ylabel("sensitivity", fontsize=8)
        panel.tick_params(labelsize=7)
    # A label with a class missing has an empty panel, whose legend would be empty as well.
    drawn = next((p for p in panels.flat if p.get_legend_handles_labels()[0]), None)
    if drawn is not None:
        drawn.legend(fontsize=7, frameon=False, loc="lower right")
    save(figure, path)


def roc_points(y: FloatArray, p: FloatArray) -> tuple[np.ndarray, np.ndarray] | None:
    """False- and true-positive rates from (0, 0) to (1, 1); None where a class is missing."""
    rows = ~np.isnan(y) & ~np.isnan(p)
    order = np.argsort(-p[rows], kind="stable")
    positive, scores = y[rows][order] == 1, p[rows][order]
    if not positive.any() or positive.all():
        return None
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    hits, misses = np.cumsum(positive)[ends], np.cumsum(~positive)[ends]
    return np.append(0, misses / misses[-1]), np.append(0, hits / hits[-1])
