"""Pictures of measured curves: precision over recall, calibration, confusion."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mvp.reports.pictures import colours, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Recall and precision, (point,) each; predicted, observed and count, (bin,) each.
Pairs = tuple[ArrayLike, ArrayLike]
Bins = tuple[ArrayLike, ArrayLike, ArrayLike]


def draw_precision_recall(
    path: Path, curves: Mapping[str, Mapping[str, Pairs | None]], prevalence: Mapping[str, float]
) -> None:
    """Precision over recall of every model, one panel per output.

    Args:
        path: of the PNG.
        curves: for each output, by model, recall and precision; None where undefined.
        prevalence: for each output the share of positives, drawn as what chance reaches; an
            output without one has no such line.
    """
    paint = colours(list(dict.fromkeys(m for models in curves.values() for m in models)))
    figure = _figure(len(curves))
    drawn = None
    for panel, (output, models) in zip(_panels(figure, len(curves)), curves.items(), strict=True):
        for model, points in models.items():
            if points is not None:
                # Between two thresholds precision is no straight line: steps, as its area is.
                panel.step(*points, where="pre", color=paint[model], lw=1.4, label=model)
                drawn = drawn or panel
        if output in prevalence:
            panel.axhline(prevalence[output], color="0.8", lw=1, ls=":")
        _square(panel, output, "recall (sensitivity)", "precision")
    if drawn is not None:
        drawn.legend(fontsize=7, frameon=False, loc="best")
    save(figure, path)


def draw_calibration(path: Path, curves: Mapping[str, Mapping[str, Bins | None]]) -> None:
    """Observed frequency over probability, a panel per output; its legend counts the rows.

    Args:
        path: of the PNG.
        curves: for each output, by series (a model, or one before and after calibration), mean
            probability, observed frequency and rows of every bin; None where undefined.
    """
    paint = colours(list(dict.fromkeys(s for lines in curves.values() for s in lines)))
    figure = _figure(len(curves))
    for panel, (output, lines) in zip(_panels(figure, len(curves)), curves.items(), strict=True):
        panel.plot([0, 1], [0, 1], color="0.8", lw=1, ls=":")
        drawn = {name: bins for name, bins in lines.items() if bins is not None}
        for name, bins in drawn.items():
            predicted, observed, count = (np.asarray(values) for values in bins)
            least, most = count.min(), count.max()
            each = f"{most}" if least == most else f"{least}–{most}"
            label = f"{name}: {len(count)} × {each}"
            panel.plot(predicted, observed, "o-", color=paint[name], lw=1.2, ms=3, label=label)
        _square(panel, output, "probability", "observed frequency")
        if drawn:
            panel.legend(fontsize=6, frameon=False, loc="best", title_fontsize=6, title="studies")
    save(figure, path)


def draw_confusion(path: Path, matrices: Mapping[str, tuple[ArrayLike, Sequence[str]]]) -> None:
    """Confusion matrices: counts, shaded by the share of the true class, one panel per label.

    Args:
        path: of the PNG.
        matrices: for each label (class, class) counts, true by called, and the classes' names.
    """
    widest = max((len(names) for _, names in matrices.values()), default=1)
    figure = _figure(len(matrices), width=max(2.6, 0.75 * widest), height=max(2.6, 0.75 * widest))
    for panel, (label, (matrix, names)) in zip(
        _panels(figure, len(matrices)), matrices.items(), strict=True
    ):
        counts = np.asarray(matrix)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            dark = share[row, column] > 0.5
            panel.text(
                column,
                row,
                f"{count}\n{share[row, column]:.0%}" if counts[row].sum() else "0",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
        ticks = list(range(len(names)))
        panel.set_xticks(ticks, names, rotation=45 if len(names) > 2 else 0, fontsize=7)
        panel.set_yticks(ticks, names)
        panel.set_title(label, fontsize=9)
        panel.set_xlabel("called", fontsize=8)
        panel.set_ylabel("true", fontsize=8)
        panel.tick_params(labelsize=7, length=0)
    save(figure, path)


def _figure(panels: int, width: float = 3.1, height: float = 3.1) -> Figure:
    from matplotlib.figure import Figure

    columns = max(1, min(3, panels))
    rows = max(1, math.ceil(panels / columns))
    return Figure(figsize=(width * columns, height * rows), layout="constrained")


def _panels(figure: Figure, count: int) -> Iterator[Axes]:
    columns = max(1, min(3, count))
    for i in range(count):
        yield figure.add_subplot(math.ceil(count / columns), columns, i + 1)


def _frame(panel: Axes, title: str, below: str, beside: str) -> None:
    panel.set_title(title, fontsize=9)
    panel.set_xlabel(below, fontsize=8)
    panel.set_ylabel(beside, fontsize=8)
    panel.tick_params(labelsize=7)


def _square(panel: Axes, title: str, below: str, beside: str) -> None:
    _frame(panel, title, below, beside)
    panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    panel.set_aspect("equal")
