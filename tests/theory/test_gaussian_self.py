"""Two centred Gaussians: closed forms against drawn points, exact laws against drawn training sets and known cases."""

import itertools

import mpmath as mp
import numpy as np
import pytest
from scipy import integrate, optimize, stats

from lt_lib.theory import gaussian_self as theory


def rng(seed=0):
    return np.random.default_rng(seed)


# Linear classifiers


@pytest.mark.parametrize(
    ("offset", "v", "p", "distance"), [(0.7, 3.5, 0.3, 0), (-1.0, 9.0, 0.5, 0), (1.0, 5.0, 0.1, 3)]
)
def test_linear_error_is_the_sampled_error(offset, v, p, distance):
    value, se = theory.sample_linear_error(offset, v, p, 4, 100_000, rng(), mean_distance=distance)
    assert abs(value - theory.linear_error(offset, v, p, mean_shift=-distance)) < 4 * se
    assert abs(value - theory.linear_error(offset, v * 1.3, p, mean_shift=0.3 - distance)) > 4 * se


def test_linear_error_at_its_limits():
    assert theory.linear_error([-np.inf, 0, np.inf], 7.0, 0.2) == pytest.approx([0.2, 0.5, 0.8])


@pytest.mark.parametrize("v", [1.2, 3.5, 30.0, 1e4])
@pytest.mark.parametrize("p", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("distance", [0.0, 2.0, 6.0])
def test_linear_infimum_is_what_a_search_finds(v, p, distance):
    def error(a):
        return float(theory.linear_error(a, v, p, mean_shift=-distance))

    grid = np.r_[0, np.geomspace(1e-3, 60, 3000)]
    start = grid[np.argmin([error(a) for a in grid])]
    ends = (max(start / 1.1 - 1e-3, 0), start * 1.1 + 1e-3)
    found = optimize.minimize_scalar(error, bounds=ends, method="bounded", options={"xatol": 1e-12}).fun
    least = min(found, error(0.0), error(np.inf))
    assert theory.linear_infimum(v, p, mean_distance=distance) == pytest.approx(least, abs=1e-9)


def test_a_quarter_bounds_only_the_centred_model_with_b_above_zero():
    v, p = np.geomspace(1.01, 1e12, 60)[:, None], np.linspace(0.01, 0.5, 30)
    assert theory.linear_infimum(v, p).min() >= 0.25
    assert theory.linear_infimum(1e15, 0.5) == pytest.approx(0.25, abs=1e-6)
    assert theory.linear_infimum(5.0, 0.1, mean_distance=6.0) < 0.03
    assert theory.linear_error(-np.inf, 5.0, 0.1) == pytest.approx(0.1)


# The classifier on the squared norm


def test_feature_and_midpoint_equal_the_loop():
    x = rng().normal(size=(7, 3))
    naive = [2.5 * sum(value**2 for value in row) + 0.5 for row in x]
    np.testing.assert_allclose(theory.squared_norm_feature(x, 2.5, 0.5), naive)
    assert theory.midpoint(naive[:2], naive[2:]) == pytest.approx((sum(naive[:2]) / 2 + sum(naive[2:]) / 5) / 2)


def test_drawn_thresholds_have_the_law_of_drawn_points():
    v, d, n_pos, n_neg, draws = 3.5, 3, 2, 7, 20_000
    generator = rng(1)
    positives = np.sum(generator.standard_normal((draws, n_pos, d)) ** 2, axis=2).mean(axis=1)
    negatives = v * np.sum(generator.standard_normal((draws, n_neg, d)) ** 2, axis=2).mean(axis=1)
    naive, fast = (positives + negatives) / 2, theory.draw_thresholds(v, d, n_pos, n_neg, draws, rng(2))
    assert stats.ks_2samp(naive, fast).pvalue > 1e-3
    assert stats.ks_2samp(naive, theory.draw_thresholds(v, d, n_neg, n_pos, draws, rng(2))).pvalue < 1e-3


def test_draws_broadcast_with_the_draws_last():
    t = theory.draw_thresholds([[2.0], [8.0]], [5, 50, 500], 4, 40, 2000, rng())
    assert t.shape == (2, 3, 2000)
    np.testing.assert_allclose(t.mean(axis=-1), np.outer([1.5, 4.5], [5, 50, 500]), rtol=0.05)


def test_classifier_error_is_the_error_of_drawn_points():
    v, d, p, size = 4.0, 6, 0.3, 200_000
    generator = rng(3)
    positive = generator.random(size) < p
    x = generator.standard_normal((size, d)) * np.where(positive, 1.0, 2.0)[:, None]
    wrong = ((np.sum(x**2, axis=1) < 12.0) != positive).mean()
    exact = float(theory.classifier_error(12.0, v, d, p))
    assert abs(wrong - exact) < 4 * np.sqrt(exact * (1 - exact) / size)
    assert float(theory.classifier_error(0.0, v, d, p)) == p


@pytest.mark.parametrize(("v", "d", "p"), [(1.5, 10, 0.5), (5.0, 3, 0.1), (10.0, 200, 0.3), (1.2, 1, 0.05)])
def test_best_threshold_is_best(v, d, p):
    t = theory.best_threshold(v, d, p)
    around = np.r_[0.0, np.linspace(0.5, 1.5, 1001) * max(float(t), 1e-3)]
    assert theory.classifier_error(t, v, d, p) <= theory.classifier_error(around, v, d, p).min() + 1e-15
    if v == 1.2:
        assert t == 0


# Theorem 3


def test_bound_is_the_formula_and_continuous_at_the_switch():
    v, d, p = 7.0, 11, 0.2
    switch = float(theory.branch_switch(v))
    assert switch == pytest.approx(0.5)
    for delta, branch in ((switch - 1e-9, True), (switch + 1e-9, False)):
        bound = theory.error_bound(v, d, delta, p)
        assert bool(bound.exponential_branch) is branch
        assert bound.total == pytest.approx(p * np.exp(-d / 8) + 0.8 * np.exp(-d / (8 * 49)), rel=1e-6)
    g = 6 - 8 * 0.1
    below = theory.error_bound(v, d, 0.1, p)
    assert below.on_positives == pytest.approx(np.exp(-d * g / 16))
    assert below.on_negatives == pytest.approx(np.exp(-d * g**2 / (32 * 49)))
    g = 6 - 8 * 0.6
    assert theory.error_bound(v, d, 0.6, p).on_positives == pytest.approx(np.exp(-d * g**2 / 32))


@pytest.mark.parametrize("v", [1.1, 2.0, 3.5, 5.0, 10.0, 100.0])
def test_class_bounds_hold_over_the_whole_window(v):
    delta = np.linspace(0.001, 0.999, 200)[:, None] * theory.max_delta(v)
    d = np.array([1, 2, 10, 100, 1000])
    bound = theory.error_bound(v, d, delta, 0.3)
    low, high = theory.threshold_window(v, d, delta)
    assert np.all(theory.class_errors(low, v, d)[0] <= bound.on_positives)
    assert np.all(theory.class_errors(high, v, d)[1] <= bound.on_negatives)


def test_the_window_failure_is_bounded_and_is_what_draws_show():
    d, delta = np.array([1, 5, 50, 500])[:, None], np.linspace(0.01, 0.99, 50)
    assert np.all(theory.window_failure(d, delta, 3, 70) <= theory.failure_bound(d, delta, 3, 70))
    means = rng().chisquare(30, 100_000) / 30, rng(1).chisquare(80, 100_000) / 80
    drawn = np.mean((np.abs(means[0] - 1) > 0.2) | (np.abs(means[1] - 1) > 0.2))
    exact = float(theory.window_failure(10, 0.2, 3, 8))
    assert abs(drawn - exact) < 4 * np.sqrt(exact * (1 - exact) / 100_000)


def test_success_and_failure_bounds_add_up_and_the_flags_tell_where_nothing_is_said():
    values = theory.theorem_three(5.0, [5, 100, 5000], 0.1, 5, 500, 0.1)
    np.testing.assert_allclose(values.probability, 1 - theory.failure_bound([5, 100, 5000], 0.1, 5, 500))
    assert values.vacuous.tolist() == [True, True, False]
    assert values.beaten_by_majority.tolist() == [True, True, False]
    assert theory.theorem_three(5.0, [5, 5000], 0.1, [[1], [2], [3]], 9, 0.1).beaten_by_majority.shape == (3, 2)


@pytest.mark.parametrize(("d", "delta", "eta"), [(10, 1 / 3, 0.05), (100, 0.1, 0.2), (3, 0.5, 0.001)])
def test_the_required_count_reaches_the_failure_exactly(d, delta, eta):
    n = float(theory.required_samples(d, delta, eta))
    assert 4 * np.exp(-n * d * delta**2 / 8) == pytest.approx(eta)
    needed = theory.measured_samples(d, delta, eta)
    assert needed <= np.ceil(n)
    assert theory.window_failure(d, delta, needed, needed) <= eta
    assert needed == 1 or theory.window_failure(d, delta, needed - 1, needed - 1) > eta


def test_delta_for_failure_solves_its_equation():
    n_pos, n_neg = np.array([1, 5, 40]), np.array([[5], [40], [1000]])
    delta = theory.delta_for_failure(5000, n_pos, n_neg, 0.05)
    np.testing.assert_allclose(theory.failure_bound(5000, delta, n_pos, n_neg), 0.05, rtol=1e-9)


@pytest.mark.parametrize(("v", "d", "n_pos", "n_neg", "p"), [(5.0, 1000, 5, 500, 0.1), (10.0, 300, 30, 30, 0.5)])
def test_best_delta_is_a_minimum_and_its_value_a_bound(v, d, n_pos, n_neg, p):
    delta, value = theory.best_delta(v, d, n_pos, n_neg, p)
    grid = np.linspace(0.001, 0.999, 5000) * theory.max_delta(v)
    failure = np.minimum(theory.failure_bound(d, grid, n_pos, n_neg), 1)
    total = theory.error_bound(v, d, grid, p).total + (1 - p) * failure
    assert value <= total.min() * (1 + 1e-6)
    assert delta == pytest.approx(grid[np.argmin(total)], abs=1e-3)
    assert value >= theory.expected_error(v, d, n_pos, n_neg, p)


def test_best_delta_says_no_less_than_the_constant_classifiers():
    assert theory.best_delta(5.0, [1, 5, 30], 1, 1, 0.1)[1].tolist() == [0.9, 0.9, 0.9]


# Exact laws


@pytest.mark.parametrize("level", [0.5, 3.0, 8.0, 20.0])
def test_threshold_law_of_two_exponentials(level):
    a, b = 2.0, 2.0 * 3.5
    upper = (b * np.exp(-2 * level / b) - a * np.exp(-2 * level / a)) / (b - a)
    assert theory.threshold_tail(level, 3.5, 2, 1, 1, upper=True) == pytest.approx(upper, abs=1e-12)
    assert theory.threshold_tail(level, 3.5, 2, 1, 1) == pytest.approx(1 - upper, abs=1e-12)


@pytest.mark.parametrize(
    ("v", "d", "n_pos", "n_neg"), [(5.0, 1, 1, 1), (1.01, 1, 3, 1), (5.0, 20, 2, 300), (10.0, 50, 500, 5)]
)
def test_threshold_law_agrees_with_adaptive_integration(v, d, n_pos, n_neg):
    centre, spread = d * (1 + v) / 2, np.sqrt(d * (1 / n_pos + v**2 / n_neg) / 2)
    for shift in (-1.0, 0.3, 2.5):
        t = centre + shift * spread
        if t <= 0:
            continue

        # Over the quantile of the negatives' sum, which is another variable than the library's.
        def given(u, law, t=t):
            return law(n_pos * (2 * t - v * stats.chi2.ppf(u, n_neg * d) / n_neg), n_pos * d)

        stop = stats.chi2.cdf(2 * t * n_neg / v, n_neg * d)
        lower, upper = (
            integrate.quad(given, 0, stop, args=(law,), limit=400, epsabs=1e-11)[0]
            for law in (stats.chi2.cdf, stats.chi2.sf)
        )
        beyond = stats.chi2.sf(2 * t * n_neg / v, n_neg * d)
        assert theory.threshold_tail(t, v, d, n_pos, n_neg) == pytest.approx(lower, abs=1e-9)
        assert theory.threshold_tail(t, v, d, n_pos, n_neg, upper=True) == pytest.approx(upper + beyond, abs=1e-9)


def inverted_law(deviations, v, d, n_pos, n_neg):
    """A level so many deviations from the mean threshold, and the law there from the characteristic function."""
    with mp.workdps(40):
        parts = [(mp.mpf(n_pos) * d, mp.mpf(1) / (2 * n_pos)), (mp.mpf(n_neg) * d, mp.mpf(v) / (2 * n_neg))]
        mean, spread = sum(c * k for k, c in parts), mp.sqrt(sum(2 * k * c**2 for k, c in parts))
        level = float(mean + deviations * spread)
        # Trapezoid rule with sixty deviations as its period: it errs by the mass beyond half of that.
        step, total, size, j = 2 * mp.pi / (60 * spread), mp.mpf(0), mp.mpf(1), mp.mpf(1) / 2
        while size > 1e-22:
            turn = 1j * step * j
            value = mp.exp(sum(-k / 2 * mp.log(1 - 2 * turn * c) for k, c in parts) - turn * level)
            total, size, j = total + mp.im(value) / j, abs(value), j + 1
        return level, float(mp.mpf(1) / 2 - total / mp.pi), float(mp.mpf(1) / 2 + total / mp.pi)


@pytest.mark.parametrize(
    ("v", "d", "n_pos", "n_neg"),
    [
        (5.0, 20, 2, 300),
        (5.0, 3072, 5000, 5000),
        (5.0, 1000, 10**6, 10**6),
        (1.01, 50, 10**9, 7),
        (5.0, 50, 10**9, 10**9),
        (1000.0, 20, 10**9, 5 * 10**10),
    ],
)
def test_threshold_law_agrees_with_the_inversion_of_its_characteristic_function(v, d, n_pos, n_neg):
    for deviations in (-5.0, -0.5, 0.0, 1.0, 5.5):
        level, lower, upper = inverted_law(deviations, v, d, n_pos, n_neg)
        assert theory.threshold_tail(level, v, d, n_pos, n_neg) == pytest.approx(lower, rel=1e-9, abs=1e-9)
        assert theory.threshold_tail(level, v, d, n_pos, n_neg, upper=True) == pytest.approx(upper, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("samples", [10**12, 10**15])
def test_threshold_law_of_very_many_samples_errs_by_the_rounding_of_the_level(samples):
    for deviations in (-5.0, 0.0, 1.0):
        level, lower, _ = inverted_law(deviations, 5.0, 50, samples, samples)
        found = theory.threshold_tail(level, 5.0, 50, samples, samples)
        assert found == pytest.approx(lower, abs=1e-16 * np.sqrt(50 * samples))


def test_threshold_law_at_its_ends_and_in_the_tail():
    assert theory.threshold_tail([0.0, np.inf], 3.0, 5, 2, 2).tolist() == [0.0, 1.0]
    assert theory.threshold_tail([0.0, np.inf], 3.0, 5, 2, 2, upper=True).tolist() == [1.0, 0.0]
    coarse, fine = (theory.threshold_tail(100, 5.0, 20, 2, 10, upper=True, nodes=n) for n in (80, 300))
    assert coarse == pytest.approx(float(fine), rel=1e-9)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_exceedance_is_the_share_of_draws(p):
    v, d, n_pos, n_neg, draws = 5.0, 15, np.array([1, 5, 40]), 40, 100_000
    t = theory.draw_thresholds(v, d, n_pos, n_neg, draws, rng())
    errors = theory.classifier_error(t, v, d, p)
    for quantile in (0.2, 0.9, 0.99):
        level = np.quantile(errors, quantile, axis=1)
        exact = theory.exceedance(level, v, d, n_pos, n_neg, p)
        np.testing.assert_allclose(exact, 1 - quantile, atol=5 * np.sqrt(quantile * (1 - quantile) / draws))


def test_exceedance_at_impossible_and_at_certain_levels():
    best = float(theory.classifier_error(theory.best_threshold(5.0, 20, 0.1), 5.0, 20, 0.1))
    assert theory.exceedance([0.0, best * 0.99, 0.9, 1.0], 5.0, 20, 3, 30, 0.1).tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(("v", "d", "n_pos", "n_neg", "p"), [(5.0, 20, 5, 500, 0.1), (3.5, 100, 1, 20, 0.5)])
def test_expected_error_is_the_mean_over_draws(v, d, n_pos, n_neg, p):
    errors = theory.classifier_error(theory.draw_thresholds(v, d, n_pos, n_neg, 200_000, rng()), v, d, p)
    exact = float(theory.expected_error(v, d, n_pos, n_neg, p))
    assert abs(errors.mean() - exact) < 4 * errors.std() / np.sqrt(len(errors))


def raced_error(v, d, n_pos, n_neg, p):
    """Expected error of an even dimension by a race, with sixty digits.

    A chi-square number of even freedom exceeds t when a Poisson number of mean t/2 is below half the freedom. Over a
    threshold that is a sum of two gamma numbers the Poisson number is a sum of two negative binomial ones.
    """
    half = d // 2
    with mp.workdps(60):

        def negative_binomial(size, scale):
            masses = [(1 + scale) ** -size]
            for j in range(half - 1):
                masses.append(masses[-1] * (size + j) / (j + 1) * scale / (1 + scale))
            return masses

        def above(scale):
            first = negative_binomial(mp.mpf(n_pos) * half, scale / (2 * n_pos))
            second = negative_binomial(mp.mpf(n_neg) * half, scale * v / (2 * n_neg))
            cumulated = list(itertools.accumulate(second))
            return mp.fsum(mass * cumulated[half - 1 - j] for j, mass in enumerate(first))

        return float(p * above(mp.mpf(1)) + (1 - p) * (1 - above(1 / mp.mpf(v))))


@pytest.mark.parametrize(
    ("v", "d", "n_pos", "n_neg", "p"),
    [
        (5.0, 2, 1, 1, 0.1),
        (5.0, 6, 1, 3, 0.5),
        (3.5, 100, 1, 20, 0.5),
        (5.0, 20, 5, 500, 0.1),
        (1.2, 300, 4000, 30, 0.3),
        (5.0, 200, 10**6, 10**6, 0.1),
        (5.0, 1000, 5, 500, 0.1),
        (1.1, 1000, 10**9, 10**9, 0.1),
        (5.0, 50, 10**14, 10**14, 0.1),
    ],
)
def test_expected_error_is_that_of_a_race_of_poisson_numbers(v, d, n_pos, n_neg, p):
    raced = raced_error(v, d, n_pos, n_neg, p)
    assert theory.expected_error(v, d, n_pos, n_neg, p) == pytest.approx(raced, rel=1e-10)


def test_expected_error_of_very_many_samples_is_that_of_the_mean_threshold():
    many = theory.expected_error(5.0, [5, 20, 101], 10**15, 10**15, 0.1)
    np.testing.assert_allclose(
        many, theory.classifier_error(np.array([15, 60, 303]), 5.0, [5, 20, 101], 0.1), rtol=1e-9
    )


def test_recorded_values_of_the_expected_error_and_the_bound():
    d = [5, 20, 50, 100, 200]
    assert theory.expected_error(5.0, d, 5, 500, 0.1) == pytest.approx([0.27, 0.076, 0.010, 4.8e-4, 1.4e-6], rel=0.02)
    assert theory.error_bound(5.0, d, 0.1, 0.1).total == pytest.approx([0.87, 0.68, 0.44, 0.21, 0.05], rel=0.02)


def test_everything_broadcasts():
    v, d = np.array([2.0, 5.0])[:, None, None], np.array([3, 30])[:, None]
    n = np.array([1, 10, 100])
    for function in (theory.expected_error, lambda *a: theory.exceedance(0.3, *a), lambda *a: theory.best_delta(*a)[1]):
        grid = function(v, d, n, 50, 0.2)
        assert grid.shape == (2, 2, 3)
        assert grid[1, 0, 2] == pytest.approx(float(function(5.0, 3, 100, 50, 0.2)))


# Arguments


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: theory.linear_error(0.0, 1.0, 0.1), "`variance_ratio` must be > 1, got 1"),
        (lambda: theory.linear_error(0.0, 2.0, 0.6), r"`positive_prior` must be in \(0, 1/2\], got 0.6"),
        (lambda: theory.linear_error(np.nan, 2.0, 0.5), "`offset` must be numbers or infinite, got nan"),
        (lambda: theory.linear_infimum(2.0, 0.5, mean_distance=-1), "`mean_distance` must be >= 0, got -1"),
        (lambda: theory.squared_norm_feature([1.0], 0.0), "`k1` must be a number above 0, got 0.0"),
        (lambda: theory.squared_norm_feature([1.0], 1.0, -1.0), "`k2` must be a number above 0, got -1.0"),
        (lambda: theory.squared_norm_feature(3.0), "`inputs` must have shape"),
        (lambda: theory.squared_norm_feature([1.0, np.nan]), "`inputs` must be finite, got nan"),
        (lambda: theory.midpoint([1.0], [1.0, np.inf]), "`negative_features` must be finite, got inf"),
        (lambda: theory.midpoint([], [1.0]), "`positive_features` must be a vector with at least one entry"),
        (lambda: theory.draw_thresholds(2.0, 0, 1, 1, 1, rng()), "`dim` must be whole numbers >= 1, got 0"),
        (lambda: theory.draw_thresholds(2.0, 1, 0, 1, 1, rng()), "`positives` must be whole numbers >= 1, got 0"),
        (lambda: theory.draw_thresholds(2.0, 1, 1, 1.5, 1, rng()), "`negatives` must be whole numbers >= 1, got 1.5"),
        (lambda: theory.class_errors(-1.0, 2.0, 3), "`threshold` must be >= 0, got -1"),
        (lambda: theory.error_bound(3.0, 5, 0.5, 0.1), r"`delta` must be in .* = \(0, 0.5\), got 0.5"),
        (lambda: theory.error_bound([3.0, 9.0], 5, [0.4, 0.9], 0.1), r"`delta` must be in .* = \(0, 0.8\), got 0.9"),
        (lambda: theory.failure_bound(5, 1.0, 1, 1), r"`delta` must be in \(0, 1\), got 1"),
        (lambda: theory.required_samples(5, 0.5, 0.0), r"`failure` must be in \(0, 1\), got 0"),
        (lambda: theory.threshold_tail(-1.0, 2.0, 3, 1, 1), "`level` must be >= 0, got -1"),
        (lambda: theory.exceedance(1.5, 2.0, 3, 1, 1, 0.1), r"`level` must be in \[0, 1\]"),
        (lambda: theory.best_delta(2.0, 3, 1, 1, 0.1, points=2), "`points` must be an integer of at least 3, got 2"),
    ],
)
def test_wrong_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_counts_that_are_no_numbers_are_refused():
    with pytest.raises(TypeError, match="`positives` must be real numbers"):
        theory.failure_bound(5, 0.5, True, 1)


@pytest.mark.parametrize(("level", "d"), [(0.05, 30), (0.05, 60), (0.4, 3), (0.0012, 100)])
def test_samples_for_a_level_are_enough_and_one_fewer_is_not(level, d):
    n = theory.samples_for_level(level, 5.0, d, 0.1, 0.05)
    k = np.arange(1, n + 20)
    np.testing.assert_array_equal(theory.exceedance(level, 5.0, d, k, k, 0.1) <= 0.05, k >= n)


def test_samples_for_a_level_grow_with_the_inverse_square_of_its_distance_from_the_limit():
    limit = float(theory.classifier_error(90.0, 5.0, 30, 0.1))
    near, nearer = (theory.samples_for_level(limit * (1 + away), 5.0, 30, 0.1, 0.05) * away**2 for away in (1e-5, 1e-6))
    assert nearer == pytest.approx(near, rel=1e-4)


def test_counts_beyond_what_a_float_holds_are_refused_by_the_argument_that_asks_for_them():
    limit = float(theory.classifier_error(90.0, 5.0, 30, 0.1))
    with pytest.raises(ValueError, match=r"`level` must be within reach of 2\*\*53 samples of each class"):
        theory.samples_for_level(limit * (1 + 1e-12), 5.0, 30, 0.1, 0.05)
    with pytest.raises(ValueError, match=r"`delta` must be within reach of 2\*\*53 samples .* got 1e-10"):
        theory.measured_samples(3, 1e-10, 0.05)


def test_a_level_out_of_reach_is_refused():
    with pytest.raises(ValueError, match="`level` must be above the limit for many samples, 0.0755"):
        theory.samples_for_level(0.07, 5.0, 20, 0.1, 0.05)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: theory.error_bound("a", 10, 0.1, 0.1), "variance_ratio"),
        (lambda: theory.error_bound(5.0, 10, 0.1, "x"), "positive_prior"),
        (lambda: theory.linear_error("b", 5.0, 0.1), "offset"),
        (lambda: theory.error_bound(5.0, 10, "c", 0.1), "delta"),
    ],
)
def test_words_in_place_of_numbers_are_refused_by_name(call, argument):
    with pytest.raises(TypeError, match=f"`{argument}` must be real numbers"):
        call()
