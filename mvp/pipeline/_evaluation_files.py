"""What `mvp evaluate` leaves in a run's folder: figures, tables, pictures and the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mvp.files import write_json
from mvp.learners.comparison import FUSION
from mvp.reports import (
    draw_calibration,
    draw_comparison,
    draw_confusion,
    draw_precision_recall,
    draw_roc,
    write_csv,
    write_page,
)
from mvp.stages.evaluate import Evaluation
from mvp.statistics.curves import (
    binary_confusion,
    calibration_curve,
    confusion_matrix,
    precision_recall_curve,
)
from mvp.types import output_slices

_NAMES = {"accuracy_differences": "accuracy-differences", "rows": "metrics"}
_TABLES = ("rows", "differences", "optimism", "accuracy", "accuracy_differences")
_ALWAYS = {"rows", "differences", "optimism"}


def write_evaluation(
    folder: Path, result: Evaluation, report: Mapping[str, Any], made: Mapping[str, Any]
) -> None:
    """Write `metrics.json`, a CSV for every kind of row, the pictures and `report.html`.

    Args:
        folder: of the run.
        result: what was measured.
        report: the same as plain values.
        made: the head's provenance.
    """
    write_json(folder / "metrics.json", report)
    for name in (*_TABLES, *result.judged.records()):
        if report[name] or name in _ALWAYS:
            write_csv(folder / f"{_NAMES.get(name, name)}.csv", report[name])
    draw_comparison(folder / "comparison.png", result.records())
    draw_roc(folder / "roc.png", result.truth, result.curves, result.outputs)
    _draw_precision_recall(folder / "precision-recall.png", result)
    _draw_calibration(folder / "calibration.png", result)
    pictures = ["comparison.png", "roc.png", "precision-recall.png", "calibration.png"]
    if _draw_confusion(folder / "confusion.png", result):
        pictures.append("confusion.png")
    write_page(folder / "report.html", report, made, pictures)


def _draw_precision_recall(path: Path, result: Evaluation) -> None:
    curves: dict[str, dict[str, Any]] = {}
    prevalence = {}
    for i, output in enumerate(result.outputs):
        truth = result.truth[:, i]
        curves[output] = {}
        for model, values in result.curves.items():
            curve = precision_recall_curve(truth, values[:, i])
            curves[output][model] = None if curve is None else (curve.recall, curve.precision)
        if not np.isnan(truth).all():
            prevalence[output] = float(np.nanmean(truth))
    draw_precision_recall(path, curves, prevalence)


def _draw_calibration(path: Path, result: Evaluation) -> None:
    curves: dict[str, dict[str, Any]] = {}
    places = output_slices([label.target for label in result.decisions.labels])
    for column, (label, own) in enumerate(zip(result.decisions.labels, places, strict=True)):
        series = {"raw": result.curves[FUSION]}
        if label.corrects:
            series["calibrated"] = result.calibrated
        lines: dict[str, Any] = {}
        for name, values in series.items():
            said = values[:, own] if label.target.multiclass else values[:, own.start]
            curve = calibration_curve(result.labels.values[:, column], said)
            lines[name] = None if curve is None else (curve.predicted, curve.observed, curve.count)
        curves[label.target.name] = lines
    draw_calibration(path, curves)


def _draw_confusion(path: Path, result: Evaluation) -> bool:
    """Draw what is called; whether anything is."""
    matrices: dict[str, Any] = {}
    places = output_slices([label.target for label in result.decisions.labels])
    for column, (label, own) in enumerate(zip(result.decisions.labels, places, strict=True)):
        truth, said = result.labels.values[:, column], result.calibrated[:, own]
        if label.target.multiclass:
            matrices[label.target.name] = confusion_matrix(truth, said), label.classes
        elif label.threshold is not None and label.threshold.value is not None:
            counts = binary_confusion(truth, said[:, 0], label.threshold.value)
            matrices[label.target.name] = counts.matrix(), ("negative", "positive")
    if matrices:
        draw_confusion(path, matrices)
    return bool(matrices)
