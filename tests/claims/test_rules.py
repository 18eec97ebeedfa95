import math

import numpy as np
import pytest

from lt_lib.claims import at_least, at_most, equal, positive_effect

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
