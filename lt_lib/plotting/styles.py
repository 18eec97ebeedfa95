"""One style for all figures, and one colour, marker and dash pattern per method."""

import contextlib
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, NamedTuple

import matplotlib.pyplot as plt

PALETTE: dict[str, str] = {
    # Okabe and Ito's colours: told apart by readers with the common kinds of colour blindness.
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#7F7F7F",
}


class LineStyle(NamedTuple):
    """Colour, marker and dash pattern of one series: any one of the three alone tells most series apart."""

    color: str
    marker: str
    linestyle: str


METHODS: dict[str, LineStyle] = {
    "ce": LineStyle(PALETTE["black"], "o", "-"),
    "sigmoid": LineStyle(PALETTE["grey"], "v", "--"),
    "focal": LineStyle(PALETTE["yellow"], "^", "-."),
    "softmax_focal": LineStyle(PALETTE["yellow"], "<", ":"),
    "rs": LineStyle(PALETTE["sky"], "s", "--"),
    "rw": LineStyle(PALETTE["sky"], "D", "-"),
    "smote": LineStyle(PALETTE["sky"], "p", ":"),
    "cb_softmax": LineStyle(PALETTE["orange"], "o", "-"),
    "cb_sigmoid": LineStyle(PALETTE["orange"], "v", "--"),
    "cb_focal": LineStyle(PALETTE["orange"], "^", "-."),
    "ce_drw": LineStyle(PALETTE["purple"], "P", "-"),
    "ce_drs": LineStyle(PALETTE["purple"], "X", "--"),
    "m_drw": LineStyle(PALETTE["green"], "h", ":"),
    "hg_drs": LineStyle(PALETTE["green"], "d", "-."),
    "ldam": LineStyle(PALETTE["blue"], "s", "--"),
    "ldam_hg_drs": LineStyle(PALETTE["blue"], "d", "-."),
    "ldam_drw": LineStyle(PALETTE["vermilion"], "*", "-"),
    "balanced_softmax": LineStyle(PALETTE["green"], "<", "-"),
    "logit_adjustment": LineStyle(PALETTE["green"], ">", "--"),
    "fixmatch": LineStyle(PALETTE["grey"], "s", "-."),
    "crest": LineStyle(PALETTE["blue"], "D", "--"),
    "crest_plus": LineStyle(PALETTE["vermilion"], "P", "-"),
    "self_training": LineStyle(PALETTE["purple"], "v", ":"),
    "pretraining": LineStyle(PALETTE["green"], "p", "-"),
}

_SERIES: tuple[LineStyle, ...] = tuple(
    LineStyle(PALETTE[color], marker, linestyle)
    for color, marker, linestyle in [
        ("blue", "o", "-"),
        ("vermilion", "s", "--"),
        ("green", "^", "-."),
        ("orange", "D", ":"),
        ("purple", "v", "-"),
        ("sky", "P", "--"),
        ("black", "X", "-."),
        ("grey", "*", ":"),
    ]
)

# `Any`, because matplotlib's own stubs accept only a literal here.
_RC: Any = {
    "figure.figsize": (6.4, 3.8),
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#D9D9D9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "svg.fonttype": "none",  # text stays text: smaller files, readable by screen readers and by search
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Apply the style of all figures inside the ``with`` block, and leave matplotlib's settings as they were.

    Examples:
        >>> with style():
        ...     fig, ax = plt.subplots()
        >>> plt.close(fig)
    """
    with plt.rc_context(_RC):
        yield


def method_style(method: str) -> LineStyle:
    """The fixed colour, marker and dash pattern of a method, the same in every figure.

    Args:
        method: A key of `METHODS`.

    Returns:
        Its `LineStyle`.

    Raises:
        ValueError: If the method is unknown; the message gives the nearest names.

    Examples:
        >>> method_style("ce").marker
        'o'
    """
    if method not in METHODS:
        near = get_close_matches(str(method), METHODS, n=3) or sorted(METHODS)
        raise ValueError(f"`method` must be one of {sorted(METHODS)}, got {method!r}. Nearest: {', '.join(near)}.")
    return METHODS[method]


def series_style(index: int) -> LineStyle:
    """The style of the ``index``-th curve of a family that is no method (values of β, of γ, …).

    Args:
        index: 0 to 7.

    Returns:
        A `LineStyle`; no two of the eight share a colour or a marker.

    Raises:
        ValueError: If the index is outside 0 … 7. More curves than that are not readable in one panel.

    Examples:
        >>> series_style(0).linestyle
        '-'
    """
    if not 0 <= index < len(_SERIES):
        raise ValueError(f"`index` must be between 0 and {len(_SERIES) - 1}, got {index}.")
    return _SERIES[index]
