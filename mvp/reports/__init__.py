"""What a person reads: comparison tables, pictures and the report page."""

from mvp.reports.page import write_page
from mvp.reports.pictures import draw_comparison, draw_roc
from mvp.reports.tables import comparison_text, grid, number, signed, write_csv

__all__ = [
    "comparison_text",
    "draw_comparison",
    "draw_roc",
    "grid",
    "number",
    "signed",
    "write_csv",
    "write_page",
]
