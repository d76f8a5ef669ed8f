"""What a person reads: comparison tables, pictures and the report page."""

from mvp.reports.page import write_page
from mvp.reports.pictures import draw_comparison, draw_roc
from mvp.reports.tables import (
    accuracy_text,
    comparison_text,
    grid,
    number,
    signed,
    with_interval,
    write_csv,
)

__all__ = [
    "accuracy_text",
    "comparison_text",
    "draw_comparison",
    "draw_roc",
    "grid",
    "number",
    "signed",
    "with_interval",
    "write_csv",
    "write_page",
]
