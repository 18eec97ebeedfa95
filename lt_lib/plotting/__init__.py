"""Figures: one style, one colour per method, drawing functions, and one way to show, save and guard a figure.

Drawing functions take arrays and an ``ax`` and return the ``ax``; they know no model, run or data set. The one function
with side effects is `show_figure`: it writes the image and the tidy data behind it, and displays both.
"""

from lt_lib.plotting.figures import data_csv, data_digest, figure_folder, read_figure_data, show_figure
from lt_lib.plotting.panels import (
    class_bars,
    count_bars,
    draw_series,
    error_bars,
    interval_rows,
    line_band,
    plain_ticks,
    reference_line,
)
from lt_lib.plotting.sliders import explore
from lt_lib.plotting.styles import METHODS, PALETTE, LineStyle, method_style, series_style, style

__all__ = [
    "METHODS",
    "PALETTE",
    "LineStyle",
    "class_bars",
    "count_bars",
    "data_csv",
    "data_digest",
    "draw_series",
    "error_bars",
    "explore",
    "figure_folder",
    "interval_rows",
    "line_band",
    "method_style",
    "plain_ticks",
    "read_figure_data",
    "reference_line",
    "series_style",
    "show_figure",
    "style",
]
