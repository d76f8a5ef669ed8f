"""The history of a fine-tuning as a table and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from mvp.files import replacing, safe_cell, write_bytes
from mvp.training.checkpoint import Epoch
from mvp.training.range_test import RangeTest

UNDEFINED = "undefined"


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """One line per epoch, the fields of `Epoch` and each output's AUROC on the inner rows."""
    text = io.StringIO()
    # A label that has no AUROC in one epoch has a column all the same.
    outputs = list(dict.fromkeys(name for entry in history for name in entry.inner_aurocs))
    table = csv.writer(text, lineterminator="\n")
    plain = [f.name for f in fields(Epoch) if f.name != "inner_aurocs"]
    table.writerow([*plain, *(safe_cell(f"auroc_{name}") for name in outputs)])
    for entry in history:
        values = [getattr(entry, name) for name in plain]
        values += [entry.inner_aurocs.get(name) for name in outputs]
        table.writerow([UNDEFINED if value is None else value for value in values])
    write_bytes(path, text.getvalue().encode())


def draw_curve(path: Path, title: str, history: Sequence[Epoch], best_epoch: int) -> None:
    """Losses and AUROC by epoch, the best epoch and the change of phase marked."""
    # Not pyplot: its figures are global state and may want a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    losses, aurocs = figure.subplots(1, 2)
    epochs = range(1, len(history) + 1)
    losses.plot(epochs, [e.train_loss for e in history], label="training rows")
    losses.plot(epochs, [e.inner_loss for e in history], label="inner rows")
    losses.legend()
    # A label without both classes has no AUROC: a gap, not a zero.
    values = [float("nan") if e.inner_auroc is None else e.inner_auroc for e in history]
    aurocs.plot(epochs, values, color="C1")
    losses.set_ylabel("loss")
    aurocs.set_ylabel("mean AUROC, inner rows")
    head_epochs = sum(e.phase == "head" for e in history)
    for axes in (losses, aurocs):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if best_epoch:
            axes.axvline(best_epoch, color="0.4", linestyle=":")
        if 0 < head_epochs < len(history):
            axes.axvline(head_epochs + 0.5, color="0.7", linestyle="--")
    figure.suptitle(f"{title}: head only until the dashed line, best epoch dotted", fontsize=10)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120)


def write_range_test(path: Path, found: RangeTest) -> None:
    """One line per step: learning rate, loss, smoothed loss."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["learning_rate", "loss", "smoothed_loss"])
    table.writerows(zip(found.rates, found.losses, found.smoothed, strict=True))
    write_bytes(path, text.getvalue().encode())


def draw_range_test(path: Path, title: str, found: RangeTest) -> None:
    """The loss over the learning rate, the suggestion marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(found.rates, found.losses, color="0.75", linewidth=0.8, label="each step")
    axes.plot(found.rates, found.smoothed, color="C0", label="smoothed")
    axes.set_xscale("log")
    # A single exploding step would flatten all the rest.
    low, high = min(found.smoothed), max(found.smoothed)
    axes.set_ylim(low - 0.1 * (high - low) - 1e-9, high + 0.3 * (high - low) + 1e-9)
    axes.axvline(found.suggestion, color="C3", linestyle="--")
    axes.annotate(
        f"{found.suggestion:.1e}",
        (found.suggestion, axes.get_ylim()[1]),
        xytext=(4, -12),
        textcoords="offset points",
        color="C3",
    )
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss, training rows")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    axes.set_title(title, fontsize=10)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120)
