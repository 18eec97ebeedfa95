"""Drawing functions: each takes arrays and an ``ax``, draws one kind of mark, and returns the ``ax``."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lt_lib.plotting.styles import PALETTE, LineStyle

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
        y: Shape (points,), between ``low`` and ``high``.
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
    below, above = centre - np.asarray(low), np.asarray(high) - centre
    if (below < 0).any() or (above < 0).any():
        raise ValueError("`y` must lie between `low` and `high` at every point.")
    ax.errorbar(
        np.asarray(x),
        centre,
        yerr=[below, above],
        color=style.color,
        marker=style.marker,
        ls="",
        capsize=3,
        label=label,
    )
    return ax


def plain_ticks(ax: "Axes", *, axis: str = "y") -> "Axes":
    """Numbers such as 0.5, 1, 2, 5, 10 in place of powers of ten, for a logarithmic axis of a few decades at most.

    Args:
        ax: Where the axis is, logarithmic already.
        axis: "x" or "y".

    Returns:
        ``ax``.

    Raises:
        ValueError: If ``axis`` is neither, or is not logarithmic.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    if axis not in ("x", "y"):
        raise ValueError(f"`axis` must be 'x' or 'y', got {axis!r}.")
    line = ax.xaxis if axis == "x" else ax.yaxis
    if line.get_scale() != "log":
        raise ValueError(f"`axis` must be logarithmic, got {axis!r} with scale {line.get_scale()!r}.")
    line.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
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
        ValueError: If there is no series, or the series differ in length.
    """
    arrays = {name: np.asarray(series, dtype=float) for name, series in values.items()}
    if len({array.shape for array in arrays.values()}) != 1:
        raise ValueError(f"`values` must hold series of one length, got {[a.shape for a in arrays.values()]}.")
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
