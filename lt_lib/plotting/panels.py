"""Drawing functions: each takes arrays and an ``ax``, draws one kind of mark, and returns the ``ax``."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lt_lib.plotting.styles import PALETTE, LineStyle, series_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

INTERVAL = ("low", "high")


def count_bars(
    ax: "Axes", class_counts: ArrayLike, *, color: str = PALETTE["blue"], label: str | None = None
) -> "Axes":
    """Bars of the number of samples per class on a logarithmic axis.

    Args:
        ax: Where to draw.
        class_counts: Shape (classes,). A class without samples shows no bar.
        color: Colour of the bars.
        label: Legend entry.

    Returns:
        ``ax``.

    Raises:
        ValueError: If no count is positive, since a logarithmic axis then has no range.
    """
    counts = np.asarray(class_counts)
    if counts.ndim != 1 or not (counts > 0).any():
        raise ValueError(f"`class_counts` must be one-dimensional with a positive entry, got {class_counts!r}.")
    ax.bar(np.arange(counts.size), np.where(counts > 0, counts, np.nan), color=color, label=label)
    ax.set_yscale("log")
    ax.set_xlabel("class, most frequent first" if (np.diff(counts) <= 0).all() else "class")
    ax.set_ylabel("training samples")
    return ax


def line_band(
    ax: "Axes",
    x: ArrayLike,
    y: ArrayLike,
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    style: LineStyle,
    label: str | None = None,
) -> "Axes":
    """A line, with a shaded interval when ``low`` and ``high`` are given.

    Args:
        ax: Where to draw.
        x: Shape (points,).
        y: Shape (points,).
        low: Lower end of the interval, shape (points,).
        high: Upper end of the interval, shape (points,).
        style: From `method_style` or `series_style`.
        label: Legend entry.

    Returns:
        ``ax``.

    Raises:
        ValueError: If only one end of the interval is given.
    """
    if (low is None) != (high is None):
        raise ValueError(f"`low` and `high` must be given together, got {low!r} and {high!r}.")
    x_values = np.asarray(x)
    # A marker on each of very many points is a smear: at most about a dozen are drawn.
    every = max(1, x_values.size // 12)
    ax.plot(x_values, np.asarray(y), **style._asdict(), label=label, markevery=every)
    if low is not None and high is not None:
        ax.fill_between(x_values, np.asarray(low), np.asarray(high), color=style.color, alpha=0.2, linewidth=0)
    return ax


def error_bars(
    ax: "Axes",
    x: ArrayLike,
    y: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    style: LineStyle,
    label: str | None = None,
) -> "Axes":
    """Points with an interval each.

    Args:
        ax: Where to draw.
        x: Shape (points,).
        y: Shape (points,), between ``low`` and ``high`` but for rounding.
        low: Lower ends, shape (points,).
        high: Upper ends, shape (points,).
        style: From `method_style` or `series_style`; its dash pattern is not used.
        label: Legend entry.

    Returns:
        ``ax``.

    Raises:
        ValueError: If a point lies outside its interval.
    """
    centre = np.asarray(y, dtype=float)
    ax.errorbar(
        np.asarray(x),
        centre,
        yerr=_lengths(centre, np.asarray(low), np.asarray(high), "y"),
        color=style.color,
        marker=style.marker,
        ls="",
        capsize=3,
        label=label,
    )
    return ax


def draw_series(
    ax: "Axes",
    table: "pd.DataFrame",
    x: str,
    y: str,
    by: str,
    *,
    styles: Mapping[Hashable, LineStyle] | None = None,
    marks: str = "line",
    interval: tuple[str, str] | None = INTERVAL,
    dodge: float = 0.0,
) -> "Axes":
    """One curve, or one set of points, for each value of a column of a tidy table, in order of appearance.

    Args:
        ax: Where to draw.
        table: One row per point.
        x: Column with the positions.
        y: Column with the values.
        by: Column that tells the series apart; its values are the legend's entries.
        styles: Value of ``by`` → `LineStyle`; `series_style` in order of appearance when absent.
        marks: ``"line"`` for curves with markers, ``"curve"`` for curves without, ``"points"`` for markers alone.
        interval: Columns with the ends of an interval, drawn as a band (as bars at ``"points"``) for each series that
            has them; ``None`` draws none, nor does a table without the two columns of the default.
        dodge: Distance along x by which neighbouring series are set apart, in data units, centred on x.

    Returns:
        ``ax``.

    Raises:
        ValueError: If a column is missing, ``marks`` is unknown, a series has no style, or only a part of the points
            of a series has an interval.

    Examples:
        >>> import pandas as pd
        >>> import matplotlib.pyplot as plt
        >>> table = pd.DataFrame({"n": [1, 2, 1, 2], "error": [9, 5, 8, 3], "loss": ["CE", "CE", "LDAM", "LDAM"]})
        >>> fig, ax = plt.subplots()
        >>> draw_series(ax, table, "n", "error", "loss").get_legend_handles_labels()[1]
        ['CE', 'LDAM']
        >>> plt.close(fig)
    """
    if marks not in ("line", "curve", "points"):
        raise ValueError(f"`marks` must be 'line', 'curve' or 'points', got {marks!r}.")
    groups = list(_series(table, (x, y, by), by, styles))
    for k, (name, part, style) in enumerate(groups):
        where = part[x].to_numpy() + dodge * (k - (len(groups) - 1) / 2) if dodge else part[x].to_numpy()
        ends = _ends(part, interval, name)
        look = style if marks == "line" else style._replace(marker="")
        if marks != "points":
            low, high = ends if ends else (None, None)
            line_band(ax, where, part[y], low=low, high=high, style=look, label=str(name))
        elif ends:
            error_bars(ax, where, part[y], *ends, style=style, label=str(name))
        else:
            # Not `plot`: a legend lists lines before error bars, whatever the order in which they were drawn.
            ax.errorbar(where, part[y], ls="", marker=style.marker, color=style.color, label=str(name))
    return ax


def interval_rows(
    ax: "Axes",
    table: "pd.DataFrame",
    value: str,
    row: str,
    *,
    by: str | None = None,
    styles: Mapping[Hashable, LineStyle] | None = None,
    interval: tuple[str, str] | None = INTERVAL,
    order: Sequence[str] | None = None,
) -> "Axes":
    """One line of text per row with a point and its interval beside it, the first row on top.

    Args:
        ax: Where to draw.
        table: One row per point.
        value: Column drawn along x.
        row: Column with the names written at the y axis.
        by: Column that tells several points of a row apart, drawn one below the other with a legend entry each. Without
            it, ``styles`` are those of the rows.
        styles: Value of ``by`` (of ``row`` without it) → `LineStyle`. When absent: `series_style` in order of
            appearance, the first for all where ``by`` is absent.
        interval: Columns with the ends of the interval; ``None``, or a table without the two columns of the default,
            draws points alone.
        order: The rows from top to bottom; order of appearance when absent.

    Returns:
        ``ax``.

    Raises:
        ValueError: If a column is missing, ``order`` lacks a row, a series has no style, or only a part of a series
            has an interval.
    """
    names = list(dict.fromkeys(table[row] if row in table else ())) if order is None else list(order)
    if by is None and styles is None:
        styles = dict.fromkeys(names, series_style(0))
    groups = list(_series(table, (value, row), by or row, styles))
    lost = [name for name in dict.fromkeys(table[row]) if name not in names]
    if lost:
        raise ValueError(f"`order` must hold every row of the table, got none of {lost}.")
    for k, (name, part, style) in enumerate(groups):
        shift = 0.3 * (k - (len(groups) - 1) / 2) / max(1, len(groups) - 1) if by else 0.0
        place = np.array([names.index(each) for each in part[row]]) + shift
        centre, ends = part[value].to_numpy(dtype=float), _ends(part, interval, name)
        errors = None if ends is None else _lengths(centre, *ends, "value")
        label = str(name) if by else None
        ax.errorbar(centre, place, xerr=errors, color=style.color, marker=style.marker, ls="", capsize=3, label=label)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    return ax


def _lengths(centre: np.ndarray, low: np.ndarray, high: np.ndarray, name: str) -> np.ndarray:
    """Lengths of the bars below and above points, shape (2, points)."""
    below, above = centre - low, high - centre
    # The end of an interval may be the point itself, computed in another way: a share of 1 and its Wilson interval.
    rounding = 1e-9 * np.abs(centre)
    if (below < -rounding).any() or (above < -rounding).any():
        raise ValueError(f"`{name}` must lie between `low` and `high` at every point.")
    return np.maximum([below, above], 0)


def _series(
    table: "pd.DataFrame", columns: Sequence[str], by: str, styles: Mapping[Hashable, LineStyle] | None
) -> Iterator[tuple[Hashable, "pd.DataFrame", LineStyle]]:
    absent = [column for column in columns if column not in table]
    if absent:
        raise ValueError(f"`table` must have the columns {list(columns)}, got none of {absent}; it has {list(table)}.")
    for k, (name, part) in enumerate(table.groupby(by, sort=False)):
        if styles is not None and name not in styles:
            raise ValueError(f"`styles` must hold every value of {by!r}, got none for {name!r}.")
        yield name, part, series_style(k) if styles is None else styles[name]


def _ends(
    part: "pd.DataFrame", interval: tuple[str, str] | None, name: Hashable
) -> tuple[np.ndarray, np.ndarray] | None:
    absent = set(interval or ()) - set(part)
    if absent and interval != INTERVAL:
        raise ValueError(f"`interval` must name columns of the table, got none of {sorted(absent)}.")
    if interval is None or absent:
        return None
    low, high = (part[column].to_numpy(dtype=float) for column in interval)
    known = np.isfinite(low) & np.isfinite(high)
    if known.any() and not known.all():
        raise ValueError(f"`interval` must be known for all points of a series or for none, got {known} for {name!r}.")
    return (low, high) if known.all() else None


def plain_ticks(ax: "Axes", values: Sequence[float] | None = None, *, axis: str = "y") -> "Axes":
    """Numbers such as 0.5, 1, 2, 5, 10 in place of powers of ten, for a logarithmic axis of a few decades at most.

    Args:
        ax: Where the axis is, logarithmic already.
        values: Where the ticks are; at 1, 2 and 5 times the powers of ten when absent.
        axis: "x" or "y".

    Returns:
        ``ax``.

    Raises:
        ValueError: If ``axis`` is neither, or is not logarithmic.
    """
    from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

    if axis not in ("x", "y"):
        raise ValueError(f"`axis` must be 'x' or 'y', got {axis!r}.")
    line = ax.xaxis if axis == "x" else ax.yaxis
    if line.get_scale() not in ("log", "symlog"):
        raise ValueError(f"`axis` must be logarithmic, got {axis!r} with scale {line.get_scale()!r}.")
    if values is None:
        line.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    else:
        line.set_major_locator(FixedLocator(list(values)))
        line.set_minor_locator(NullLocator())
    line.set_major_formatter("{x:g}")
    line.set_minor_formatter(NullFormatter())
    return ax


def reference_line(ax: "Axes", value: float, label: str, *, axis: str = "y", color: str = PALETTE["grey"]) -> "Axes":
    """A thin dashed line at a value that others are compared with, named beside the line.

    Args:
        ax: Where to draw.
        value: Position.
        label: Text written at the line.
        axis: ``"y"`` for a horizontal line at y = value, ``"x"`` for a vertical one.
        color: Colour of the line and its text.

    Returns:
        ``ax``.

    Raises:
        ValueError: If ``axis`` is neither.
    """
    if axis not in ("x", "y"):
        raise ValueError(f"`axis` must be 'x' or 'y', got {axis!r}.")
    if axis == "y":
        ax.axhline(value, color=color, linestyle=(0, (4, 2)), linewidth=1)
        ax.annotate(label, (0.99, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=color)
    else:
        ax.axvline(value, color=color, linestyle=(0, (4, 2)), linewidth=1)
        ax.annotate(label, (value, 0.99), xycoords=("data", "axes fraction"), rotation=90, va="top", color=color)
    return ax


def class_bars(
    ax: "Axes",
    values: Mapping[str, ArrayLike],
    *,
    styles: Mapping[str, LineStyle],
    errors: Mapping[str, ArrayLike] | None = None,
    class_names: Sequence[str] | None = None,
) -> "Axes":
    """Grouped bars: one group per class, one bar per series, told apart by colour and hatching.

    Args:
        ax: Where to draw.
        values: Series name → values, shape (classes,).
        styles: Series name → `LineStyle`, of which the colour is used.
        errors: Series name → half-length of the error bar, shape (classes,).
        class_names: Tick labels; class indices when absent.

    Returns:
        ``ax``.

    Raises:
        ValueError: If there is no series, the series differ in length, or one has no style or no errors.
    """
    arrays = {name: np.asarray(series, dtype=float) for name, series in values.items()}
    if len({array.shape for array in arrays.values()}) != 1:
        raise ValueError(f"`values` must hold series of one length, got {[a.shape for a in arrays.values()]}.")
    for argument, given in (("styles", styles), ("errors", values if errors is None else errors)):
        if absent := [name for name in arrays if name not in given]:
            raise ValueError(f"`{argument}` must hold every series, got none for {absent}.")
    num_classes = next(iter(arrays.values())).size
    width = 0.8 / len(arrays)
    hatches = ("", "///", "...", "\\\\\\", "xxx", "++", "oo", "--")
    for i, (name, array) in enumerate(arrays.items()):
        ax.bar(
            np.arange(num_classes) + (i - (len(arrays) - 1) / 2) * width,
            array,
            width,
            yerr=None if errors is None else np.asarray(errors[name]),
            color=styles[name].color,
            edgecolor="white",
            hatch=hatches[i % len(hatches)],
            linewidth=0.5,
            label=name,
        )
    ax.set_xticks(np.arange(num_classes), list(class_names) if class_names is not None else None)
    ax.set_xlabel("class")
    return ax
