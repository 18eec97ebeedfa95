"""Styles, drawing functions, and the files and outputs of `show_figure`."""

import base64
import io
import os
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lt_lib import _paths, plotting
from lt_lib.plotting import _drawings


@pytest.fixture(autouse=True)
def no_open_figures():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return plt.subplots()[1]


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame({"method": ["a", "a", "b", "b"], "n": [1, 2, 1, 2], "error": [0.1235, 0.2, 0.3, 0.45]})


def draw(table: pd.DataFrame, name: str = "figure", alt: str = "Errors rise.", **options) -> None:
    with plotting.style():
        fig, ax = plt.subplots()
        ax.plot(table["error"])
    plotting.show_figure(fig, name, table, alt, **options)


# Files


def test_axes_are_placed_once_and_alike_in_both_files(table, tmp_path, monkeypatch):
    with plotting.style():
        fig, ax = plt.subplots()
        ax.set_ylabel("three\nlines of\nlabel")
    engine, calls, places = fig.get_layout_engine(), [], []
    execute, savefig = engine.execute, fig.savefig
    monkeypatch.setattr(engine, "execute", lambda figure: (calls.append(figure), execute(figure)))

    def save(*args, **options):
        savefig(*args, **options)
        places.append(ax.get_position().bounds)

    monkeypatch.setattr(fig, "savefig", save)
    before = ax.get_position().bounds
    with plt.rc_context({"figure.autolayout": True}):
        plotting.show_figure(fig, "placed", table, "Errors rise.", out_dir=tmp_path)
    assert calls == [fig]
    assert places[0] == places[1] != before


# Styles


def test_style_changes_settings_only_inside_the_block():
    before = dict(mpl.rcParams)
    with plotting.style():
        assert not mpl.rcParams["axes.spines.top"]
    assert dict(mpl.rcParams) == before


def test_no_two_methods_share_colour_and_marker_or_colour_and_dashes():
    styles = list(plotting.METHODS.values())
    assert len({(s.color, s.marker) for s in styles}) == len(styles)
    assert len({(s.color, s.marker, s.linestyle) for s in styles}) == len(styles)
    assert {s.color for s in styles} <= set(plotting.PALETTE.values())


def test_series_differ_in_colour_and_in_marker():
    styles = [plotting.series_style(i) for i in range(8)]
    assert len({s.color for s in styles}) == len({s.marker for s in styles}) == 8


def test_unknown_method_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"`method` must be one of .* got 'ldam_dwr'\. Nearest: ldam_drw"):
        plotting.method_style("ldam_dwr")


@pytest.mark.parametrize("index", [-1, 8])
def test_series_outside_the_range_are_refused(index):
    with pytest.raises(ValueError, match="`index` must be between 0 and 7"):
        plotting.series_style(index)


# Drawing functions


def test_count_bars_have_the_heights_of_the_counts_on_a_log_axis(ax):
    assert plotting.count_bars(ax, [100, 10, 0], color="#123456", label="train") is ax
    assert ax.get_yscale() == "log"
    np.testing.assert_array_equal([bar.get_height() for bar in ax.patches], [100, 10, np.nan])
    assert mpl.colors.to_hex(ax.patches[0].get_facecolor()) == "#123456"
    assert ax.get_legend_handles_labels()[1] == ["train"]
    assert "most frequent first" in ax.get_xlabel()


def test_count_bars_claim_no_order_that_is_not_there(ax):
    assert plotting.count_bars(ax, [1, 100]).get_xlabel() == "class"


@pytest.mark.parametrize("counts", [[0, 0], [[1, 2]], []])
def test_count_bars_refuse_what_has_no_bars(ax, counts):
    with pytest.raises(ValueError, match="`class_counts` must be one-dimensional with a positive entry"):
        plotting.count_bars(ax, counts)


def test_line_band_draws_line_and_interval_in_the_style(ax):
    style = plotting.method_style("ldam")
    assert plotting.line_band(ax, [0, 1], [1, 2], low=[0, 1], high=[2, 3], style=style, label="LDAM") is ax
    (line,) = ax.lines
    assert (line.get_color(), line.get_marker(), line.get_linestyle(), line.get_label()) == (*style, "LDAM")
    corners = ax.collections[0].get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (0, 3)


def test_line_band_without_interval_draws_only_the_line(ax):
    plotting.line_band(ax, [0, 1], [1, 2], style=plotting.series_style(0))
    assert len(ax.collections) == 0


def test_line_band_needs_both_ends(ax):
    with pytest.raises(ValueError, match="`low` and `high` must be given together"):
        plotting.line_band(ax, [0], [0], low=[0], style=plotting.series_style(0))


def test_error_bars_reach_from_low_to_high(ax):
    plotting.error_bars(ax, [1], [2], [1.5], [4], style=plotting.series_style(1), label="a")
    segment = ax.collections[0].get_segments()[0]
    np.testing.assert_allclose(segment, [[1, 1.5], [1, 4]])
    assert ax.lines[0].get_marker() == "s"
    assert ax.get_legend_handles_labels()[1] == ["a"]


def test_error_bars_take_an_end_that_is_the_point_but_for_rounding(ax):
    plotting.error_bars(ax, [1], [1.0], [0.8], [1 - 1.2e-16], style=plotting.series_style(0))
    np.testing.assert_allclose(ax.collections[0].get_segments()[0], [[1, 0.8], [1, 1]])


@pytest.mark.parametrize(("low", "high"), [([3], [4]), ([0], [1]), ([0], [1.999999])])
def test_error_bars_refuse_points_outside_their_interval(ax, low, high):
    with pytest.raises(ValueError, match="`y` must lie between `low` and `high`"):
        plotting.error_bars(ax, [1], [2], low, high, style=plotting.series_style(0))


@pytest.fixture
def long_table() -> pd.DataFrame:
    """Two series out of alphabetical order, the second without an interval."""
    return pd.DataFrame(
        {"loss": ["b", "b", "a", "a"], "n": [1, 2, 1, 2], "error": [5.0, 4.0, 3.0, 2.0],
         "low": [4.0, 3.5, np.nan, np.nan], "high": [7.0, 5.0, np.nan, np.nan]}
    )  # fmt: skip


def test_draw_series_draws_one_curve_per_value_in_order_of_appearance(ax, long_table):
    assert plotting.draw_series(ax, long_table, "n", "error", "loss") is ax
    assert [line.get_label() for line in ax.lines] == ["b", "a"]
    for k, (line, values) in enumerate(zip(ax.lines, ([5, 4], [3, 2]), strict=True)):
        assert list(line.get_xdata()) == [1, 2]
        assert list(line.get_ydata()) == values
        assert (line.get_color(), line.get_marker(), line.get_linestyle()) == plotting.series_style(k)
    corners = ax.collections[0].get_paths()[0].vertices
    assert (len(ax.collections), corners[:, 1].min(), corners[:, 1].max()) == (1, 3.5, 7)


def test_draw_series_draws_points_with_bars_set_apart(ax, long_table):
    styles = {"a": plotting.method_style("ce"), "b": plotting.method_style("ldam")}
    plotting.draw_series(ax, long_table, "n", "error", "loss", styles=styles, marks="points", dodge=0.2)
    segments = ax.collections[0].get_segments()
    np.testing.assert_allclose(segments, [[[0.9, 4], [0.9, 7]], [[1.9, 3.5], [1.9, 5]]])
    points = [line for line in ax.lines if line.get_marker() in "os"]
    assert [line.get_marker() for line in points] == [styles["b"].marker, styles["a"].marker]
    assert {line.get_linestyle() for line in points} == {"None"}
    np.testing.assert_allclose(points[1].get_xdata(), [1.1, 2.1])
    assert ax.get_legend_handles_labels()[1] == ["b", "a"]


def test_draw_series_draws_curves_without_marks_and_without_intervals(ax, long_table):
    plotting.draw_series(ax, long_table, "n", "error", "loss", marks="curve", interval=None)
    assert {line.get_marker() for line in ax.lines} == {""}
    assert len(ax.collections) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"marks": "bars"}, "`marks` must be 'line', 'curve' or 'points', got 'bars'"),
        ({"styles": {"a": plotting.series_style(0)}}, "`styles` must hold every value of 'loss', got none for 'b'"),
        ({"y": "errors"}, r"`table` must have the columns .*, got none of \['errors'\]"),
        ({"interval": ("half", "high")}, "`interval` must be known for all points of a series or for none"),
    ],
)
def test_draw_series_names_what_is_wrong(ax, long_table, options, message):
    long_table["half"] = [np.nan, 3.5, np.nan, np.nan]
    with pytest.raises(ValueError, match=message):
        plotting.draw_series(ax, long_table, **{"x": "n", "y": "error", "by": "loss"} | options)


def test_interval_rows_stand_below_each_other_with_their_names(ax, long_table):
    part = long_table[long_table.n == 1]
    assert plotting.interval_rows(ax, part, "error", "loss") is ax
    ax.figure.draw_without_rendering()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "a"]
    np.testing.assert_allclose(ax.collections[0].get_segments(), [[[4, 0], [7, 0]]])
    assert ax.yaxis_inverted()
    assert ax.get_legend_handles_labels()[1] == []
    assert {line.get_color() for line in ax.lines} == {plotting.series_style(0).color}


def test_interval_rows_take_an_end_that_is_the_point_but_for_rounding(ax):
    table = pd.DataFrame({"share": [1.0], "who": ["a"], "low": [0.8], "high": [1 - 1.2e-16]})
    plotting.interval_rows(ax, table, "share", "who")
    with pytest.raises(ValueError, match="`value` must lie between `low` and `high`"):
        plotting.interval_rows(ax, table.assign(high=0.9), "share", "who")


def test_misspelt_columns_of_an_interval_are_refused(ax, long_table):
    with pytest.raises(ValueError, match=r"`interval` must name columns of the table, got none of \['hi', 'lo'\]"):
        plotting.draw_series(ax, long_table, "n", "error", "loss", interval=("lo", "hi"))


def test_interval_rows_keep_a_given_order_and_styles(ax, long_table):
    styles = {"a": plotting.method_style("ce"), "b": plotting.method_style("ldam")}
    plotting.interval_rows(ax, long_table[long_table.n == 1], "error", "loss", styles=styles, order=["a", "b"])
    place = {line.get_marker(): list(line.get_ydata()) for line in ax.lines}
    assert place[styles["a"].marker] == [0]
    assert place[styles["b"].marker] == [1]


def test_interval_rows_set_the_points_of_a_row_apart(ax, long_table):
    plotting.interval_rows(ax, long_table, "error", "n", by="loss", order=[1, 2])
    np.testing.assert_allclose([seg[0][1] for seg in ax.collections[0].get_segments()], [-0.15, 0.85])
    assert ax.get_legend_handles_labels()[1] == ["b", "a"]
    with pytest.raises(ValueError, match=r"`order` must hold every row of the table, got none of \[2\]"):
        plotting.interval_rows(ax, long_table, "error", "n", by="loss", order=[1])


def test_plain_ticks_stand_where_they_are_asked_for(ax):
    ax.plot([0.3, 30], [1, 2])
    ax.set_xscale("log")
    plotting.plain_ticks(ax, [0.5, 3, 20], axis="x")
    ax.figure.draw_without_rendering()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.5", "3", "20"]
    assert list(ax.xaxis.get_minorticklocs()) == []


@pytest.mark.parametrize(("axis", "data"), [("y", "get_ydata"), ("x", "get_xdata")])
def test_reference_line_stands_at_its_value_with_its_name(ax, axis, data):
    plotting.reference_line(ax, 0.7, "chance", axis=axis, color="#010203")
    assert list(getattr(ax.lines[0], data)()) == [0.7, 0.7]
    assert ax.texts[0].get_text() == "chance"
    assert ax.lines[0].get_color() == ax.texts[0].get_color() == "#010203"


@pytest.mark.parametrize("axis", ["x", "y"])
def test_plain_ticks_are_numbers_within_a_decade(ax, axis):
    ax.plot([0.3, 30], [0.3, 30])
    ax.set(xscale="log", yscale="log")
    assert plotting.plain_ticks(ax, axis=axis) is ax
    ax.figure.draw_without_rendering()
    texts = {name: [label.get_text() for label in getattr(ax, f"get_{name}ticklabels")()] for name in "xy"}
    assert {"0.5", "1", "2", "5", "10", "20"} <= set(texts.pop(axis))
    assert "1" not in next(iter(texts.values()))


def test_plain_ticks_refuse_what_is_not_logarithmic(ax):
    with pytest.raises(ValueError, match="`axis` must be logarithmic, got 'y' with scale 'linear'"):
        plotting.plain_ticks(ax)
    with pytest.raises(ValueError, match="`axis` must be 'x' or 'y', got 'z'"):
        plotting.plain_ticks(ax, axis="z")


def test_reference_line_refuses_another_axis(ax):
    with pytest.raises(ValueError, match="`axis` must be 'x' or 'y', got 'z'"):
        plotting.reference_line(ax, 0, "", axis="z")


def test_class_bars_are_grouped_and_told_apart_without_colour(ax):
    styles = {"a": plotting.series_style(0), "b": plotting.series_style(1)}
    values = {"a": [1, 2], "b": [3, 4]}
    plotting.class_bars(ax, values, styles=styles, errors={"a": [0.1, 0.1], "b": [0.5, 0.5]}, class_names=["x", "y"])
    bars = ax.patches
    assert [bar.get_height() for bar in bars] == [1, 2, 3, 4]
    assert bars[0].get_hatch() != bars[2].get_hatch()
    np.testing.assert_allclose([bar.get_x() + bar.get_width() / 2 for bar in bars], [-0.2, 0.8, 0.2, 1.2])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["x", "y"]
    ends = np.concatenate([c.get_segments()[0][:, 1] for c in ax.collections])
    np.testing.assert_allclose(ends, [0.9, 1.1, 2.5, 3.5])


@pytest.mark.parametrize(("argument", "given"), [("styles", {"styles": {}}), ("errors", {"errors": {"b": [1, 1]}})])
def test_class_bars_name_the_series_that_lacks_a_style_or_errors(ax, argument, given):
    options = {"styles": {"a": plotting.series_style(0)}} | given
    with pytest.raises(ValueError, match=rf"`{argument}` must hold every series, got none for \['a'\]"):
        plotting.class_bars(ax, {"a": [1, 2]}, **options)


@pytest.mark.parametrize("values", [{}, {"a": [1], "b": [1, 2]}])
def test_class_bars_refuse_series_of_different_lengths(ax, values):
    with pytest.raises(ValueError, match="`values` must hold series of one length"):
        plotting.class_bars(ax, values, styles={})


# Digest


def test_digest_passes_noise_and_notices_a_shift(table, rng):
    noisy = table.assign(error=table["error"] + 1e-9 * rng.standard_normal(4))
    assert plotting.data_digest(noisy) == plotting.data_digest(table)
    assert plotting.data_digest(table.assign(error=table["error"] + 0.1)) != plotting.data_digest(table)


def test_digest_passes_noise_on_many_tables(rng):
    for _ in range(100):
        # Short decimals lie exactly on rounding edges, which a single rounding would not survive.
        table = pd.DataFrame({"x": rng.integers(0, 2000, size=7) / 2000})
        noisy = table + 1e-9 * rng.standard_normal((7, 1))
        assert plotting.data_digest(noisy) == plotting.data_digest(table)


def test_digest_ignores_what_cancels_to_nothing():
    exact = pd.DataFrame({"gradient": [0.3, -0.1, -0.2], "zero": [0.0, 0.0, -0.0]})
    inexact = pd.DataFrame({"gradient": [0.3, -0.1, 0.1 - 0.3], "zero": [1e-17, -3e-12, 0.0]})
    assert plotting.data_digest(exact) == plotting.data_digest(inexact)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.iloc[::-1],
        lambda t: t.assign(error=t["error"].to_numpy()[[2, 3, 0, 1]]),
        lambda t: t.assign(method=["b", "b", "a", "a"]),
        lambda t: t.rename(columns={"n": "m"}),
        lambda t: t.iloc[:3],
        lambda t: t.assign(error=t["error"].where(t["n"] == 1)),
        lambda t: t.assign(error=[np.inf, 0.2, 0.3, 0.45]),
        lambda t: t.assign(extra=True),
    ],
    ids=["reversed", "swapped", "relabelled", "renamed", "shortened", "missing", "infinite", "widened"],
)
def test_digest_notices(table, change):
    assert plotting.data_digest(change(table)) != plotting.data_digest(table)


def test_digest_notices_moves_that_leave_the_moments_of_a_column():
    # The same number of entries, extremes, sum, and sum weighted by place.
    one, two = (pd.DataFrame({"y": values}) for values in ([0.0, 5, 5, 5, 10], [0.0, 7, 1, 7, 10]))
    assert plotting.data_digest(one) != plotting.data_digest(two)


@pytest.mark.parametrize("digits", [2, 3])
def test_digest_sees_every_move_of_the_promised_size(rng, digits):
    table = pd.DataFrame({"y": rng.uniform(-1, 1, size=300)})
    table.loc[0, "y"], table.loc[1, "y"] = 1.0, -1.0  # the extremes stay where they are
    digest = plotting.data_digest(table, digits=digits)
    for row in range(2, 300):
        moved = table.copy()
        # Towards the middle, so that the extremes stay.
        moved.loc[row, "y"] -= np.sign(table.loc[row, "y"]) * 8.1 * 10.0 ** (1 - digits)
        assert plotting.data_digest(moved, digits=digits) != digest, row


def test_digest_of_a_stored_figure_sees_one_mark_moved():
    folder = _paths.source_tree() / "figures"
    for path in sorted(folder.glob("*.csv")):
        provenance, data = plotting.read_figure_data(path)
        digits = int(provenance["digest_digits"])
        column = next((name for name in data.columns[::-1] if data[name].dtype.kind == "f" and data[name].any()), None)
        if digits < 3 or column is None:
            continue
        largest, middle = data[column].abs().max(), data.index[data[column].notna()][data[column].notna().sum() // 2]
        moved = data.copy()
        moved.loc[middle, column] += (1 if data.loc[middle, column] < 0 else -1) * 0.09 * largest
        assert plotting.data_digest(moved, digits=digits) != plotting.data_digest(data, digits=digits), path.name


def test_digest_ignores_the_index(table):
    assert plotting.data_digest(table.set_index(np.arange(4) + 7)) == plotting.data_digest(table)


def test_digits_set_how_much_the_digest_sees(table):
    moved = table.assign(error=table["error"] * 1.002)
    assert plotting.data_digest(moved, digits=1) == plotting.data_digest(table, digits=1)
    assert plotting.data_digest(moved, digits=4) != plotting.data_digest(table, digits=4)
    assert plotting.data_digest(table.assign(error=9.0), digits=0) == plotting.data_digest(table, digits=0)


@pytest.mark.parametrize("digits", [-1, 7])
def test_digits_outside_the_range_are_refused(table, digits):
    with pytest.raises(ValueError, match="`digits` must be between 0 and 6"):
        plotting.data_digest(table, digits=digits)


# Files


def test_csv_reads_back_with_the_same_digest_whatever_the_types(tmp_path):
    table = pd.DataFrame(
        {
            "text": ["n/a", "None", "10"],
            "digits": ["1", "2", "3"],
            "flag": [True, False, True],
            "float": [1 / 3, np.nan, np.inf],
            "empty": ["", "a", "b"],
            "int": [1, 2, 3],
        }
    )
    draw(table.assign(error=0.5), out_dir=tmp_path)
    provenance, back = plotting.read_figure_data(tmp_path / "figure.csv")
    assert plotting.data_digest(back) == provenance["digest"] == plotting.data_digest(table.assign(error=0.5))
    assert list(back["text"]) == ["n/a", "None", "10"]
    assert back["float"].iloc[0] == 0.333333


@pytest.mark.parametrize("text", ["#1", "a\nb", "a\rb"])
def test_texts_that_would_not_read_back_are_refused(table, text):
    with pytest.raises(ValueError, match="`data` must hold no '#' and no line break"):
        plotting.data_csv(table.assign(method=text), {})
    with pytest.raises(ValueError, match="`data` must hold no '#' and no line break"):
        plotting.data_csv(table.rename(columns={"n": text}), {})


def test_a_table_from_elsewhere_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="`path` must be a table written by show_figure"):
        plotting.read_figure_data(tmp_path / "x.csv")


def test_show_figure_writes_three_files_that_know_where_they_come_from(tmp_path, table, capsys):
    draw(table, out_dir=tmp_path, notebook="030", profile="small", seeds=[0, 1], dataset="digits", alt="A ≤ B & C.")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figure.csv", "figure.png", "figure.svg"]
    provenance, back = plotting.read_figure_data(tmp_path / "figure.csv")
    pd.testing.assert_frame_equal(back, table)
    digest = plotting.data_digest(table)
    assert provenance == {
        "figure": "figure",
        "notebook": "030",
        "profile": "small",
        "seeds": "0 1",
        "dataset": "digits",
        "lt_lib": provenance["lt_lib"],
        "digest_digits": "3",
        "digest": digest,
        "alt": "A ≤ B & C.",
    }
    with Image.open(tmp_path / "figure.png") as image:
        assert provenance.items() <= image.text.items()
        assert "Software" not in image.text
    svg = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert f"<dc:identifier>{digest}</dc:identifier>" in svg
    assert "<dc:description>A ≤ B &amp; C.</dc:description>" in svg
    assert "<dc:date>" not in svg
    assert not re.search(r"[ \t]$", svg, flags=re.MULTILINE)
    assert capsys.readouterr().out == f"[figure] A ≤ B & C. (data {digest})\n"


def test_digits_of_show_figure_reach_the_digest(tmp_path, table):
    draw(table, out_dir=tmp_path, digits=1)
    provenance, _ = plotting.read_figure_data(tmp_path / "figure.csv")
    assert (provenance["digest_digits"], provenance["digest"]) == ("1", plotting.data_digest(table, digits=1))


def test_the_same_figure_gives_the_same_bytes(tmp_path, table):
    for folder in ("a", "b"):
        with plotting.style():
            fig, ax = plt.subplots()
            # Hatches, clips and markers are what gets random identifiers in an SVG.
            ax.bar([0, 1], [1, 2], hatch="//")
            ax.plot([0, 1], [0, 1], marker="o")
        plotting.show_figure(fig, "figure", table, "Bars.", out_dir=tmp_path / folder)
    for suffix in ("svg", "png", "csv"):
        assert (tmp_path / "a" / f"figure.{suffix}").read_bytes() == (tmp_path / "b" / f"figure.{suffix}").read_bytes()


PATH = """<g id="a1" style="fill: #1f77b4; opacity: 0.5"><path d="M 10.000001 20 L 5 1.5e-06" clip-path="url(#p7)"/>
<text transform="translate(3 4) scale(0.1)">p = 0.046</text></g>"""


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (("10.000001", "10.000004"), True),
        (("1.5e-06", "0"), True),
        (('"a1"', '"b2"'), True),
        (("url(#p7)", "url(#q9)"), True),
        (("10.000001", "10.1"), False),
        (("#1f77b4", "#1f77b5"), False),
        (("fill", "stroke"), False),
        (("</g>", "<path/></g>"), False),
        (("L 5", "L -5"), False),
        (("p = 0.046", "p = 0.047"), False),
        (("scale(0.1)", "scale(0.101)"), False),
        (("opacity: 0.5", "opacity: 0.501"), False),
        (("translate(3 4)", "translate(3.000001 4)"), True),
        (("translate(3 4)", "translate(3.1 4)"), False),
    ],
)
def test_only_rounding_and_names_of_parts_leave_a_drawing_the_same(change, same):
    assert _drawings.same_drawing(PATH, PATH.replace(*change)) is same


def test_parts_that_trade_places_are_another_drawing():
    text = '<path id="a"/><path id="b"/><use href="#{}"/>'
    assert _drawings.same_drawing(text.format("a"), text.format("a").replace('"a"', '"c"').replace("#a", "#c"))
    assert not _drawings.same_drawing(text.format("a"), text.format("b"))


@pytest.mark.parametrize(("levels", "same"), [(1, True), (40, False)])
def test_a_picture_within_a_drawing_counts(levels, same):
    def drawing(value: int) -> str:
        content = io.BytesIO()
        Image.fromarray(np.full((4, 4, 3), value, dtype=np.uint8)).save(content, format="png")
        return f'<image href="data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"/>'

    assert _drawings.same_drawing(drawing(100), drawing(100 + levels)) is same


def test_a_damaged_picture_within_a_drawing_is_another_one():
    text = '<image href="data:image/png;base64,{}"/>'
    assert not _drawings.same_drawing(text.format("AAAA"), text.format("BBBB"))


@pytest.mark.parametrize(
    ("shift", "colour", "kept"), [(1e-7, "tab:blue", True), (0.0, "tab:red", False), (0.02, "tab:blue", False)]
)
def test_files_stay_where_only_rounding_differs(tmp_path, table, shift, colour, kept):
    def draw_line(shift: float, colour: str) -> dict[str, bytes]:
        fig, ax = plt.subplots()
        ax.plot(table["error"] + shift * np.arange(4), color=colour)
        plotting.show_figure(fig, "figure", table, "Errors rise.", out_dir=tmp_path)
        return {path.suffix: path.read_bytes() for path in tmp_path.iterdir()}

    before, after = draw_line(0.0, "tab:blue"), draw_line(shift, colour)
    for suffix in (".svg", ".png"):
        assert (before[suffix] == after[suffix]) is kept


@pytest.mark.parametrize(("error", "kept"), [(1e-16, True), (0.4500001, True), (0.4501, False), (np.nan, False)])
def test_a_table_stays_where_only_rounding_differs(tmp_path, table, error, kept):
    old = table.assign(error=[0.1235, 0.2, 0.3, 2e-16 if error == 1e-16 else 0.45])
    draw(old, out_dir=tmp_path)
    before = (tmp_path / "figure.csv").read_bytes()
    draw(table.assign(error=[0.1235, 0.2, 0.3, error]), out_dir=tmp_path)
    assert ((tmp_path / "figure.csv").read_bytes() == before) is kept


def test_another_number_in_a_title_is_drawn_anew(tmp_path, table):
    def titled(text: str) -> str:
        fig, ax = plt.subplots()
        ax.plot(table["error"])
        ax.set_title(text)
        with mpl.rc_context({"svg.fonttype": "none"}):
            plotting.show_figure(fig, "figure", table, "Errors rise.", out_dir=tmp_path)
        return (tmp_path / "figure.svg").read_text(encoding="utf-8")

    assert "p = 0.046" in titled("p = 0.046")
    assert "p = 0.047" in titled("p = 0.047")


@pytest.mark.parametrize("suffix", ["svg", "png", "csv"])
def test_a_damaged_or_missing_file_is_written_anew(tmp_path, table, suffix):
    draw(table, out_dir=tmp_path)
    path = tmp_path / f"figure.{suffix}"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    draw(table, out_dir=tmp_path)
    assert path.read_bytes() == whole
    path.unlink()
    draw(table, out_dir=tmp_path)
    assert path.read_bytes() == whole


def test_show_figure_closes_the_figure_and_leaves_settings_alone(tmp_path, table):
    before = dict(mpl.rcParams)
    draw(table, out_dir=tmp_path)
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_out_dir_wins_over_the_environment_which_wins_over_the_tree(tmp_path, monkeypatch):
    monkeypatch.setenv("LT_OUT", str(tmp_path / "environment"))
    assert plotting.figure_folder(tmp_path / "chosen") == tmp_path / "chosen"
    assert plotting.figure_folder() == tmp_path / "environment"
    monkeypatch.delenv("LT_OUT")
    tree = tmp_path / "tree"
    (tree / "lt_lib").mkdir(parents=True)
    (tree / "notebooks").mkdir()
    (tree / "pyproject.toml").touch()
    monkeypatch.chdir(tree / "notebooks")
    assert plotting.figure_folder() == tree / "figures"
    assert plotting.figure_folder("here") == tree / "notebooks" / "here"


def test_outside_any_tree_the_package_or_the_working_directory_decides(tmp_path, monkeypatch, repository):
    monkeypatch.delenv("LT_OUT")
    monkeypatch.chdir(tmp_path)
    assert plotting.figure_folder() == repository / "figures"
    monkeypatch.setattr(_paths, "__file__", str(tmp_path / "site-packages" / "lt_lib" / "_paths.py"))
    assert plotting.figure_folder() == tmp_path / "figures"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, table, monkeypatch):
    draw(table, out_dir=tmp_path)
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(_descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)  # when the new content has been written, beside the old file
    with pytest.raises(OSError, match="no space left"):
        draw(table.assign(error=0.0), out_dir=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_another_notebook_may_not_take_the_name(tmp_path, table):
    draw(table, out_dir=tmp_path, notebook="030")
    draw(table, out_dir=tmp_path, notebook="030")
    with pytest.raises(
        ValueError, match="`name` must be unique among notebooks, got 'figure', which notebook 030 has drawn"
    ):
        draw(table, out_dir=tmp_path, notebook="040")


@pytest.mark.parametrize("name", ["", "Big", "a b", "../a", "a/b", "a.b", "_a", "a-", 3])
def test_bad_names_are_refused(tmp_path, table, name):
    with pytest.raises(ValueError, match="`name` must be lower-case words"):
        draw(table, name=name, out_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("alt", ["", "  ", "two\nlines", None])
def test_bad_sentences_are_refused(tmp_path, table, alt):
    with pytest.raises(ValueError, match="`alt` must be one sentence on one line"):
        draw(table, alt=alt, out_dir=tmp_path)


def test_unknown_profile_is_refused(tmp_path, table):
    with pytest.raises(ValueError, match="`profile` must be 'quick', 'small' or 'paper', got 'large'"):
        draw(table, profile="large", out_dir=tmp_path)


def test_data_without_rows_or_of_another_type_are_refused(tmp_path, table):
    with pytest.raises(ValueError, match=r"`data` must have rows and columns, got shape \(0, 3\)"):
        draw(table.iloc[:0], out_dir=tmp_path)
    fig = plt.figure()
    with pytest.raises(TypeError, match="`data` must be a pandas DataFrame, got dict"):
        plotting.show_figure(fig, "figure", {"a": [1]}, "A.", out_dir=tmp_path)


def test_in_a_kernel_the_picture_comes_with_its_sentence(tmp_path, table, monkeypatch, capsys):
    import IPython
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: object())
    monkeypatch.setattr(IPython.display, "display", lambda *args, **options: shown.append((args, options)))
    draw(table, out_dir=tmp_path)
    (((bundle,), options),) = shown
    assert bundle["text/plain"] == f"[figure] Errors rise. (data {plotting.data_digest(table)})"
    assert bundle["image/png"] == (tmp_path / "figure.png").read_bytes()
    assert options == {"raw": True, "metadata": {"image/png": {"alt": "Errors rise."}}}
    assert capsys.readouterr().out == ""
