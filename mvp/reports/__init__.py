"""What a person reads: comparison tables, pictures and the report page."""

from mvp.reports.page import write_page
from mvp.reports.pictures import draw_comparison, draw_roc
from mvp.reports.pictures_curves import (
    draw_calibration,
    draw_confusion,
    draw_precision_recall,
)
from mvp.reports.tables import (
    accuracy_text,
    comparison_text,
    decisions_text,
    grid,
    number,
    optimism_text,
    signed,
    with_interval,
    write_csv,
)

__all__ = [
    "accuracy_text",
    "comparison_text",
    "decisions_text",
    "draw_calibration",
    "draw_comparison",
    "draw_confusion",
    "draw_precision_recall",
    "draw_roc",
    "grid",
    "number",
    "optimism_text",
    "signed",
    "with_interval",
    "write_csv",
    "write_page",
]
