import math

import numpy as np
import pytest

from lt_lib.claims import Judgement, at_least, at_most, equal, positive_effect, published_and_ours, within, worst

DIFFERENCES = np.array([0.03, 0.01, 0.02, 0.04, 0.02])


def test_a_clear_effect_holds_and_reports_its_bounds():
    judged = positive_effect(DIFFERENCES, unit="accuracy")
    # Student's t for 4 degrees of freedom at 95 %, one-sided, from a printed table.
    half = 2.131847 * DIFFERENCES.std(ddof=1) / math.sqrt(5)
    assert judged.verdict == "holds"
    assert (judged.statistic, judged.low, judged.high) == pytest.approx((0.024, 0.024 - half, 0.024 + half), rel=1e-5)
    assert judged.threshold == "mean > 0 accuracy, one-sided 95% t, 5 pairs"


def test_reversed_and_zero_effects_do_not_hold():
    assert positive_effect(-DIFFERENCES).verdict == "refuted"
    assert positive_effect(DIFFERENCES - DIFFERENCES.mean()).verdict == "inconclusive"
    assert positive_effect(np.zeros(5)).verdict == "inconclusive"


def test_the_effect_must_exceed_the_minimum_at_the_level():
    assert positive_effect(DIFFERENCES, minimum=0.02).verdict == "inconclusive"
    assert positive_effect(DIFFERENCES, minimum=0.1).verdict == "refuted"
    assert positive_effect(DIFFERENCES, level=0.9999).verdict == "inconclusive"


@pytest.mark.parametrize("differences", [[0.1], [0.1, math.nan], [0.1, math.inf]])
def test_effects_need_two_finite_numbers(differences):
    with pytest.raises(ValueError, match="`differences` must be at least 2 finite numbers, got"):
        positive_effect(differences)


@pytest.mark.parametrize("level", [0.5, 0.05, 1.0])
def test_a_level_that_turns_the_bounds_around_is_refused(level):
    with pytest.raises(ValueError, match=r"`level` must be in \(0\.5, 1\), got"):
        positive_effect(DIFFERENCES, level=level)


@pytest.mark.parametrize("side", [-1, 1])
def test_equality_holds_within_the_allowance_on_both_sides(side):
    assert equal(1.0 + side * 0.039, 0.01, 1.0).verdict == "holds"
    judged = equal(1.0 + side * 0.041, 0.01, 1.0)
    assert judged.verdict == "refuted"
    assert (judged.low, judged.high) == pytest.approx((judged.statistic - 0.04, judged.statistic + 0.04))
    assert equal(1.0 + side * 0.041, 0.01, 1.0, allowance=5).verdict == "holds"
    assert judged.threshold == "1 within 4 standard errors"


def test_equality_needs_an_error_and_a_number():
    with pytest.raises(ValueError, match="`standard_error` and `allowance` must be > 0, got 0.0 and 4.0"):
        equal(1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="`standard_error` and `allowance` must be > 0, got 1.0 and 0.0"):
        equal(1.0, 1.0, 1.0, allowance=0.0)
    with pytest.raises(ValueError, match="`standard_error` and `allowance` must be > 0, got nan"):
        equal(1.0, math.nan, 1.0)
    with pytest.raises(ValueError, match="`value` must be a number, got NaN"):
        equal(math.nan, 1.0, 1.0)


@pytest.mark.parametrize(
    ("rule", "value", "verdict"),
    [
        (at_least, 1.0, "holds"),
        (at_least, 0.999, "refuted"),
        (at_most, 1.0, "holds"),
        (at_most, 1.001, "refuted"),
    ],
)
def test_thresholds_belong_to_the_claim(rule, value, verdict):
    judged = rule(value, 1.0, name="ratio")
    assert (judged.verdict, judged.statistic) == (verdict, value)
    assert judged.threshold == f"ratio {'>=' if rule is at_least else '<='} 1"


@pytest.mark.parametrize("rule", [at_least, at_most])
def test_nan_is_no_verdict(rule):
    with pytest.raises(ValueError, match="`value` must be a number, got NaN"):
        rule(math.nan, 1.0)


def test_distance_of_an_effect_is_in_half_widths_of_its_interval():
    judged = positive_effect(DIFFERENCES, minimum=0.01)
    assert judged.distance == pytest.approx((judged.statistic - 0.01) / (judged.high - judged.statistic))
    assert judged.distance > 1  # just so it holds
    assert positive_effect(DIFFERENCES, minimum=judged.low).distance == pytest.approx(1)
    assert positive_effect(DIFFERENCES, minimum=judged.high).distance == pytest.approx(-1)
    assert positive_effect(-DIFFERENCES).distance == pytest.approx(-positive_effect(DIFFERENCES).distance)
    assert [positive_effect([d, d]).distance for d in (1.0, 0.0, -1.0)] == [math.inf, 0.0, -math.inf]
    assert equal(1.03, 0.01, 1.0).distance == pytest.approx(0.25)
    assert equal(0.95, 0.01, 1.0).distance == pytest.approx(-0.25)


@pytest.mark.parametrize(
    ("rule", "value", "distance"),
    [(at_least, 9.0, 2.0), (at_least, 1.0, -2.0), (at_least, 3.0, 0.0), (at_most, 1.0, 2.0), (at_most, 9.0, -2.0),
     (at_most, 0.0, math.inf), (at_least, 0.0, -math.inf)],
)  # fmt: skip
def test_distance_from_a_threshold_is_relative_to_the_smaller_of_both(rule, value, distance):
    assert rule(value, 3.0).distance == distance
    assert math.isnan(rule(value, 0.0).distance)
    assert rule(value, 0.0, half_width=2.0).distance == (value if rule is at_least else -value) / 2


def test_parts_of_different_scale_are_compared_by_their_distance():
    sure, close = positive_effect(100 + DIFFERENCES), positive_effect(DIFFERENCES)
    assert worst([sure, close]) == worst([close, sure]) == close
    assert worst([at_most(1e-7, 1e-6), at_least(3.1, 3.0)]).statistic == 3.1


@pytest.mark.parametrize(
    ("shift", "verdict", "sign"),
    [(0.0, "holds", 1), (1.0, "refuted", -1), (-1.0, "refuted", -1), (0.05, "inconclusive", 1)],
)
def test_equivalence_needs_the_whole_interval_inside(shift, verdict, sign):
    judged = within(DIFFERENCES - DIFFERENCES.mean() + shift, 0.06, unit="points")
    assert judged.verdict == verdict
    assert np.sign(judged.distance) == sign
    assert judged.threshold == "mean within 0.06 points, two one-sided 95% t, 5 pairs"


@pytest.mark.parametrize(
    ("table", "ours", "combined"),
    [
        ("holds", "holds", "holds"),
        ("holds", "inconclusive", "inconclusive"),
        ("holds", "refuted", "inconclusive"),  # a small world cannot overturn a published table
        ("refuted", "holds", "refuted"),
        ("refuted", "inconclusive", "refuted"),
        ("refuted", "refuted", "refuted"),
        ("not judged", "refuted", "not judged"),
        ("holds", "not judged", "not judged"),
    ],
)
def test_published_cells_can_refute_and_small_worlds_cannot(table, ours, combined):
    def half(verdict, name, number):
        return Judgement(verdict, number, threshold=name, why="reason" if verdict == "not judged" else "")

    judged = published_and_ours(half(table, "columns", 1.0), half(ours, "gain", 2.0))
    assert judged.verdict == combined
    assert judged.threshold == f"published, {table}: columns; ours, {ours}: gain"
    assert judged.statistic == (1.0 if table != "holds" else 2.0)
