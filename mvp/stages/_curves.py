"""The history of a fine-tuning as a table and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from mvp.files import replacing, write_bytes
from mvp.stages._checkpoint import Epoch


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """One line per epoch: phase, epoch, learning rate, losses, AUROC, seconds."""
    text = io.StringIO()
    table = csv.DictWriter(text, [f.name for f in fields(Epoch)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(entry) for entry in history)
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
