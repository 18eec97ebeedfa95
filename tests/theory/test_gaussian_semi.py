"""Two Gaussians: closed forms against quadrature and sums, sampling against a loop over points."""

import mpmath as mp
import numpy as np
import pytest
from scipy import integrate, optimize, stats

from lt_lib.theory import gaussian_semi as theory
from lt_lib.theory.gaussian_semi import TwoGaussians

MODELS = [TwoGaussians(), TwoGaussians(2.5, 1.0, 0.6), TwoGaussians(0.0, -6.0, 2.0)]


def mixture(model, share):
    def density(x):
        plus, minus = (stats.norm.pdf(x, mean, model.sigma) for mean in (model.mu1, model.mu2))
        return share * plus + (1 - share) * minus

    return density


def integral(function, low, high):
    return integrate.quad(function, low, high, epsabs=1e-13, epsrel=1e-12, limit=400)[0]


# The model and its threshold


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 1.0, 1.0), "`mu1` must be above `mu2`, got 1"),
        ((-1.0, 1.0, 1.0), "`mu1` must be above `mu2`, got -1"),
        ((1.0, -1.0, 0.0), "`sigma` must be > 0, got 0"),
        ((1.0, -1.0, [1.0, -2.0]), "`sigma` must be > 0, got -2"),
        ((np.nan, -1.0, 1.0), "`mu1` must be finite, got nan"),
        ((1.0, -np.inf, 1.0), "`mu2` must be finite, got -inf"),
    ],
)
def test_a_model_outside_its_domain_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TwoGaussians(*arguments)


def test_text_in_place_of_numbers_is_refused():
    with pytest.raises(TypeError, match="`sigma` must be real numbers, got 'wide'"):
        TwoGaussians(1.0, 0.0, "wide")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("share", [0.5, 0.1, 0.97])
def test_threshold_minimises_the_error(model, share):
    bounds = (model.mu2 - 9 * model.sigma, model.mu1 + 9 * model.sigma)
    found = optimize.minimize_scalar(
        lambda tau: theory.threshold_error(model, tau, share), bounds=bounds, method="bounded", options={"xatol": 1e-10}
    )
    assert theory.bayes_threshold(model, share) == pytest.approx(found.x, abs=1e-5 * model.sigma)


@pytest.mark.parametrize("share", [0.5, 0.03])
def test_error_is_the_integral_of_the_wrong_density(share):
    model, tau = MODELS[1], 1.4
    wrong = share * integral(lambda x: stats.norm.pdf(x, model.mu1, model.sigma), -10, tau)
    wrong += (1 - share) * integral(lambda x: stats.norm.pdf(x, model.mu2, model.sigma), tau, 12)
    assert theory.threshold_error(model, tau, share) == pytest.approx(wrong, rel=1e-9)


def test_threshold_at_the_ends_of_the_share():
    model, share = TwoGaussians(), np.array([0.0, 1.0])
    assert theory.bayes_threshold(model, share).tolist() == [np.inf, -np.inf]
    assert theory.threshold_error(model, theory.bayes_threshold(model, share), share).tolist() == [0.0, 0.0]
    assert theory.threshold_error(model, [-np.inf, np.inf], 0.2).tolist() == [0.8, 0.2]
    with pytest.raises(ValueError, match="`threshold` must be numbers or infinite, got nan"):
        theory.threshold_error(model, [0.0, np.nan])


def test_small_errors_keep_their_digits():
    with mp.workdps(30):
        exact = [float(mp.ncdf(-distance)) for distance in (9, 20, 37)]
    model = TwoGaussians([9.0, 20.0, 37.0], [-9.0, -20.0, -37.0], 1.0)
    np.testing.assert_allclose(theory.threshold_error(model, 0.0), exact, rtol=1e-12)


# Precision and recall


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_quality_against_counting(share, rng):
    model, tau, n = MODELS[1], 1.9, 400_000
    positive = rng.random(n) < share
    x = np.where(positive, model.mu1, model.mu2) + model.sigma * rng.standard_normal(n)
    labelled, quality = x > tau, theory.label_quality(model, tau, share)
    counted = [
        (positive[labelled].mean(), labelled.sum()),
        ((~positive)[~labelled].mean(), (~labelled).sum()),
        (labelled[positive].mean(), positive.sum()),
        ((~labelled)[~positive].mean(), (~positive).sum()),
        (labelled.mean(), n),
    ]
    for exact, (value, size) in zip(quality, counted, strict=True):
        assert exact == pytest.approx(value, abs=4.5 * np.sqrt(exact * (1 - exact) / size))


def test_gaps_of_precision_and_recall_have_opposite_signs():
    tau = np.array([-2.0, -0.5, 0.3, 0.6, 1.0, 4.0])
    p, q, recall_plus, recall_minus, _ = theory.label_quality(TwoGaussians(), tau)
    assert np.all(np.sign(p - q) == np.sign(tau))
    assert np.all(np.sign(recall_plus - recall_minus) == -np.sign(tau))
    # The numbers that the notebook sets beside those of the notes' readers.
    assert (p - q)[2:5] == pytest.approx([0.098, 0.190, 0.295], abs=6e-4)
    assert (recall_plus - recall_minus)[3] == pytest.approx(-0.290, abs=6e-4)


def test_quality_far_out_is_finite_and_right():
    quality = theory.label_quality(TwoGaussians(), [-60.0, 60.0])
    assert quality.precision_plus == pytest.approx([0.5, 1.0])
    assert quality.precision_minus == pytest.approx([1.0, 0.5])
    all_positive = theory.label_quality(TwoGaussians(), 0.3, 1.0)
    assert (all_positive.precision_plus, all_positive.precision_minus) == (1.0, 0.0)


# The estimator


def test_theta_is_a_pure_function_of_both_groups(rng):
    x, y = rng.standard_normal(9), np.array([1, -1, -1, 1, -1, -1, -1, -1, -1])
    kept = x.copy()
    value = theory.estimate_theta(x, y)
    assert value == pytest.approx((sum(x[y == 1]) / 2 + sum(x[y == -1]) / 7) / 2)
    assert theory.estimate_theta(3 * x + 2, -y) == pytest.approx(3 * value + 2)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("labels", [[1, 1, 1], [1, 0, 1], [1, -1], [-1, -1, -1], [1.0, 0.5, -1.0]])
def test_labels_that_are_not_both_signs_are_refused(labels):
    with pytest.raises(ValueError, match="`pseudo_labels` must hold -1 and \\+1"):
        theory.estimate_theta([0.1, 0.2, 0.3], labels)
    with pytest.raises(ValueError, match="`inputs` must have shape"):
        theory.estimate_theta([[0.1, 0.2, 0.3]], labels)


def naive_theta(model, n_plus, n_minus, p, q, rng):
    """One estimate in the theorem's model, point by point."""
    groups = []
    for n, right, own, other in ((n_plus, p, model.mu1, model.mu2), (n_minus, q, model.mu2, model.mu1)):
        points = []
        for _ in range(n):
            mean = own if rng.random() < right else other
            points.append(rng.normal(mean, model.sigma))
        groups.append(sum(points) / n)
    return sum(groups) / 2


@pytest.mark.parametrize("case", [(TwoGaussians(), 7, 3, 0.9, 0.6), (TwoGaussians(5.0, 1.0, 0.5), 2, 9, 0.3, 1.0)])
def test_sufficient_statistics_have_the_law_of_the_points(case, rng):
    fast = theory.sample_theta(*case, 4000, rng)
    naive = [naive_theta(*case, rng) for _ in range(4000)]
    assert stats.ks_2samp(fast, naive).pvalue > 1e-3
    # The same, with labels or groups swapped, is told apart.
    model, a, b, p, q = case
    assert stats.ks_2samp(theory.sample_theta(model, a, b, q, p, 4000, rng), naive).pvalue < 1e-6


def test_samples_have_the_mean_and_variance_of_the_model(rng):
    n_plus, n_minus, p, q = np.array([10, 300]), 40, 0.8, np.array([[0.9], [0.5]])
    model = TwoGaussians(3.0, 1.0, 0.7)
    theta = theory.sample_theta(model, n_plus, n_minus, p, q, 20_000, rng)
    assert theta.shape == (20_000, 2, 2)
    variance = model.sigma**2 / (4 * theory.pair_size(n_plus, n_minus))
    variance = variance + model.half_distance**2 * (p * (1 - p) / n_plus + q * (1 - q) / n_minus)
    off = theta.mean(axis=0) - theory.theorem_centre(model, p, q)
    assert np.all(np.abs(off) < 4.5 * np.sqrt(variance / 20_000))
    assert np.all(np.abs(theta.var(axis=0) / variance - 1) < 4.5 * np.sqrt(2 / 20_000))


# Bound and coverage


def test_bound_is_the_sum_of_its_terms_over_a_grid():
    model = TwoGaussians(4.0, 1.0, 0.5)
    n, m, delta = np.array([10, 1000]), np.array([[20], [3000], [7]]), 0.4
    bound = theory.probability_bound(model, n, m, delta)
    assert bound.value.shape == bound.vacuous.shape == bound.plus.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            a, b = n[j], m[i, 0]
            terms = [
                2 * np.exp(-2 * delta**2 / (9 * 0.25) * a * b / (a + b)),
                2 * np.exp(-8 * a * delta**2 / (9 * 9)),
                2 * np.exp(-8 * b * delta**2 / (9 * 9)),
            ]
            got = (bound.gaussian[i, j], bound.plus[i, j], bound.minus[i, j])
            assert got == pytest.approx(terms, rel=1e-12)
            assert bound.value[i, j] == pytest.approx(1 - sum(terms), rel=1e-12)
    np.testing.assert_array_equal(bound.vacuous, bound.value <= 0)
    assert bound.vacuous.any()
    assert not bound.vacuous.all()


def test_bound_never_exceeds_one_and_starts_at_minus_five():
    assert theory.probability_bound(TwoGaussians(), 10**6, 10**6, 100.0).value == 1.0
    assert theory.probability_bound(TwoGaussians(), 1, 1, 1e-9).value == pytest.approx(-5.0)


CASES = [
    (TwoGaussians(), 30, 50, 0.9, 0.6, 0.2),
    (TwoGaussians(), 1, 1, 0.5, 0.5, 0.7),
    (TwoGaussians(9.0, -9.0, 0.3), 3, 400, 0.5, 0.99, 1.0),  # a lattice of peaks, hardly blurred
    (TwoGaussians(0.1, 0.0, 5.0), 200, 2, 0.0, 1.0, 0.5),
    (TwoGaussians(2.0, 0.0, 1.0), 700, 300, 0.95, 0.55, 1e-4),
    (TwoGaussians(2.0, 0.0, 1.0), 700, 300, 0.95, 0.55, 50.0),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("gap", [None, 0.0, -0.3])
def test_coverage_by_inversion_is_the_sum_over_all_counts(case, gap):
    assert theory.coverage(*case, gap=gap) == pytest.approx(theory.coverage_by_sum(*case, gap=gap), abs=1e-12)


def test_the_sum_is_the_naive_double_loop():
    model, a, b, p, q, delta = CASES[0]
    total, spread = 0.0, model.sigma / 2 * np.sqrt(1 / a + 1 / b)
    for i in range(a + 1):
        for j in range(b + 1):
            mean = model.half_distance * (i / a - j / b - (p - q))
            inside = stats.norm.cdf(delta, mean, spread) - stats.norm.cdf(-delta, mean, spread)
            total += stats.binom.pmf(i, a, p) * stats.binom.pmf(j, b, q) * inside
    assert theory.coverage_by_sum(*CASES[0]) == pytest.approx(total, abs=1e-13)


def test_coverage_without_wrong_labels_is_a_normal_probability():
    n, delta = np.array([4, 10**4, 10**9]), np.array([[0.01], [0.3]])
    spread = 0.5 * np.sqrt(1 / n + 1 / 10)
    exact = 2 * stats.norm.cdf(delta / spread) - 1
    np.testing.assert_allclose(theory.coverage(TwoGaussians(), n, 10, 1.0, 1.0, delta), exact, atol=1e-12)


def test_coverage_of_very_many_points_is_that_of_the_normal_limit():
    n, p, q = 10**8, 0.9, 0.7
    spread = np.sqrt(0.5 / n + (p * (1 - p) + q * (1 - q)) / n)
    exact = 2 * stats.norm.cdf(1.0) - 1
    assert theory.coverage(TwoGaussians(), n, n, p, q, spread) == pytest.approx(exact, abs=1e-6)


def test_coverage_broadcasts_over_every_argument():
    model = TwoGaussians([1.0, 2.0], -1.0, 1.0)
    grid = theory.coverage(model, np.array([[5], [80]]), 20, 0.9, 0.6, 0.3, gap=np.array([[[0.3]], [[0.0]]]))
    assert grid.shape == (2, 2, 2)
    one = theory.coverage_by_sum(TwoGaussians(2.0, -1.0, 1.0), 80, 20, 0.9, 0.6, 0.3, gap=0.0)
    assert grid[1, 1, 1] == pytest.approx(one, abs=1e-12)


def test_coverage_agrees_with_samples(rng):
    case = (TwoGaussians(), 300, 60, 0.9, 0.7)
    theta = theory.sample_theta(*case, 20_000, rng)
    for delta in (0.05, 0.15):
        exact = theory.coverage(*case, delta)
        hits = np.mean(np.abs(theta - theory.theorem_centre(TwoGaussians(), 0.9, 0.7)) <= delta)
        assert hits == pytest.approx(exact, abs=4.5 * np.sqrt(exact * (1 - exact) / 20_000))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (1, 0, "`n_plus` must be .*>= 1, got 0"),
        (2, 2.5, "`n_minus` must be whole numbers >= 1, got 2.5"),
        (3, 1.2, r"`p` must be in \[0, 1\], got 1.2"),
        (4, -0.1, r"`q` must be in \[0, 1\], got -0.1"),
        (5, 0.0, "`delta` must be > 0, got 0"),
        (5, -1.0, "`delta` must be > 0, got -1"),
    ],
)
def test_arguments_outside_the_domain_are_refused(position, value, message, rng):
    arguments = [TwoGaussians(), 10, 10, 0.9, 0.9, 0.5]
    arguments[position] = value
    with pytest.raises(ValueError, match=message):
        theory.coverage(*arguments)
    if position != 5:
        with pytest.raises(ValueError, match=message):
            theory.sample_theta(*arguments[:5], 3, rng)
    if position == 5 or value == 0:
        with pytest.raises(ValueError, match=message):
            theory.probability_bound(*arguments[:3], arguments[5])


# Labels that really come from a threshold


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("share", [0.5, 0.1])
@pytest.mark.parametrize("place", [-1.3, 0.0, 0.8])
def test_one_step_is_half_the_sum_of_the_conditional_means(model, share, place):
    tau, density = model.midpoint + place * model.sigma, mixture(model, share)
    low, high = model.mu2 - 12 * model.sigma, model.mu1 + 12 * model.sigma
    means = [integral(lambda x: x * density(x), *ends) / integral(density, *ends) for ends in ((low, tau), (tau, high))]
    assert theory.expected_theta(model, tau, share) == pytest.approx(sum(means) / 2, abs=1e-9)


def test_one_step_is_the_mean_of_the_estimator(rng):
    model, tau, share, n = TwoGaussians(), 0.6, 0.3, 200
    values = []
    for _ in range(1500):
        x = np.where(rng.random(n) < share, model.mu1, model.mu2) + rng.standard_normal(n)
        values.append(theory.estimate_theta(x, np.where(x > tau, 1, -1)))
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert np.mean(values) == pytest.approx(theory.expected_theta(model, tau, share), abs=4.5 * error)
    assert abs(np.mean(values) - 0.6) > 20 * error


def test_one_step_far_out_follows_the_threshold():
    # The group above holds next to nothing beyond the threshold itself, the other one everything.
    assert theory.expected_theta(TwoGaussians(), 50.0) == pytest.approx(25.0, abs=0.02)
    assert theory.expected_theta(TwoGaussians(), -50.0) == pytest.approx(-25.0, abs=0.02)


def test_balanced_self_training_shrinks_towards_the_midpoint():
    start = np.array([-3.0, -0.2, 0.5, 2.5])
    path = theory.self_training_path(TwoGaussians(), start, 60)
    assert path.shape == (61, 4)
    assert np.all(np.abs(path[1:]) < np.abs(path[:-1]))
    assert np.all(np.abs(path[-1]) < 1e-9)
    np.testing.assert_array_equal(path[0], start)
    assert theory.self_training_path(TwoGaussians(), 0.7, 0).tolist() == [0.7]


def test_a_path_broadcasts_over_the_model_the_start_and_the_share():
    for model in (TwoGaussians(1.0, -1.0, [0.5, 1.0, 2.0]), TwoGaussians([1.0, 2.0, 3.0], -1.0, 1.0)):
        path = theory.self_training_path(model, [[1.0], [0.2]], 2, 0.3)
        assert path.shape == (3, 2, 3)
        for i in range(3):
            one = TwoGaussians(*(np.broadcast_to(v, 3)[i] for v in (model.mu1, model.mu2, model.sigma)))
            np.testing.assert_allclose(path[:, 1, i], theory.self_training_path(one, 0.2, 2, 0.3), rtol=1e-14)


@pytest.mark.parametrize(("distance", "share"), [(2.0, 0.1), (1.0, 0.02), (6.0, 0.1)])
def test_repetition_ends_at_the_only_limit(distance, share):
    model = TwoGaussians(distance / 2, -distance / 2, 1.0)
    (limit,) = theory.self_training_limits(model, share)
    path = theory.self_training_path(model, [-2.5, 0.0, 2.5], 2000, share)
    assert path[-1] == pytest.approx(np.full(3, limit), abs=1e-6)


def test_limits_of_far_classes_of_very_unequal_share_attract_and_repel_in_turn():
    model = TwoGaussians(3.0, -3.0, 1.0)
    limits = theory.self_training_limits(model, 0.02)
    assert len(limits) == 3
    ends = theory.self_training_path(model, [limits[1] - 0.01, limits[1] + 0.01], 5000, 0.02)[-1]
    assert ends == pytest.approx(limits[[0, 2]], abs=1e-6)


def test_limit_is_the_two_means_split_of_a_sample(rng):
    from scipy.cluster.vq import kmeans2

    x = np.where(rng.random(200_000) < 0.2, 1.0, -1.0) + rng.standard_normal(200_000)
    centres = kmeans2(x, np.array([-1.0, 1.0]), iter=100, minit="matrix", missing="raise")[0]
    (limit,) = theory.self_training_limits(TwoGaussians(), 0.2)
    assert centres.mean() == pytest.approx(limit, abs=0.02)


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5])
def test_limits_need_both_classes(share):
    with pytest.raises(ValueError, match="`positive_share` must be in"):
        theory.self_training_limits(TwoGaussians(), share)


# The base classifier


def test_base_threshold_is_linear_discriminant_analysis(rng):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    y = np.repeat([1, -1], [12, 300])
    x = y + rng.standard_normal(len(y))
    fitted = LinearDiscriminantAnalysis().fit(x[:, None], y)
    expected = -fitted.intercept_[0] / fitted.coef_[0, 0]
    # scikit-learn divides the scatter by n, we by n - 2.
    mid = (x[y > 0].mean() + x[y < 0].mean()) / 2
    ours = theory.base_threshold(x, y)
    assert (ours - mid) * (len(y) - 2) / len(y) + mid == pytest.approx(expected, rel=1e-6)


def test_base_thresholds_have_the_law_of_the_labelled_sets(rng):
    model, y = TwoGaussians(2.0, 0.0, 0.7), np.repeat([1, -1], [6, 60])
    naive = [theory.base_threshold(np.where(y > 0, 2.0, 0.0) + 0.7 * rng.standard_normal(66), y) for _ in range(3000)]
    fast = theory.sample_base_thresholds(model, 6, 60, 3000, rng)
    assert stats.ks_2samp(fast, naive).pvalue > 1e-3
    assert stats.ks_2samp(theory.sample_base_thresholds(model, 60, 6, 3000, rng), naive).pvalue < 1e-6


def test_base_thresholds_of_tiny_sets_vary_by_their_degrees_of_freedom(rng):
    draws, model = 200_000, TwoGaussians(6.0, 0.0, 1.0)
    plus, minus = 6.0 + rng.standard_normal(draws), rng.standard_normal((draws, 3))
    lower = minus.mean(axis=1)
    naive = (plus + lower) / 2 + minus.var(axis=1) * 3 / 2 / (plus - lower) * np.log(3)
    one = theory.base_threshold(np.r_[plus[0], minus[0]], [1, -1, -1, -1])
    assert one == pytest.approx(naive[0])
    fast = theory.sample_base_thresholds(model, 1, 3, draws, rng)
    assert fast.mean() == pytest.approx(naive.mean(), abs=4.5 * np.sqrt(2 / draws) * naive.std())
    # A fourth degree of freedom would take 4.5 % off the variance.
    assert fast.var() / naive.var() == pytest.approx(1.0, abs=4.5 * np.sqrt(2 * 2 / draws))


@pytest.mark.parametrize("ratio", [1, 10, 100])
def test_three_learners_share_the_limit_of_the_training_share(ratio, rng):
    from sklearn.linear_model import LogisticRegression

    n = 200_000
    rare = n // (1 + ratio)
    y = np.repeat([1, -1], [rare, n - rare])
    x = y + rng.standard_normal(n)
    limit = theory.bayes_threshold(TwoGaussians(), rare / n)
    assert theory.base_threshold(x, y) == pytest.approx(limit, abs=0.05)
    logistic = LogisticRegression(C=np.inf).fit(x[:, None], y)
    assert -logistic.intercept_[0] / logistic.coef_[0, 0] == pytest.approx(limit, abs=0.06)
    order = np.argsort(x)
    errors = np.cumsum(y[order] > 0) + np.sum(y < 0) - np.cumsum(y[order] < 0)
    assert x[order][np.argmin(errors)] == pytest.approx(limit, abs=0.35)


def test_means_in_the_wrong_order_give_no_threshold(rng):
    with pytest.raises(ValueError, match=r"`targets` must give class \+1 the larger mean, got -1 against 1"):
        theory.base_threshold([-1.0, -1.0, 1.0], [1, 1, -1])
    with pytest.raises(ValueError, match="`inputs` must hold at least 3 points, got 2"):
        theory.base_threshold([1.0, -1.0], [1, -1])
    drawn = theory.sample_base_thresholds(TwoGaussians(0.1, 0.0, 1.0), 2, 2, 2000, rng)
    assert 0.3 < np.isnan(drawn).mean() < 0.5
    with pytest.raises(ValueError, match="`n_plus` must give at least 3 points together with `n_minus`, got 2"):
        theory.sample_base_thresholds(TwoGaussians(), 1, 1, 5, rng)


def test_pair_size_is_half_the_harmonic_mean():
    assert theory.pair_size([500, 990.0], [500, 10]).tolist() == pytest.approx([250.0, 9.9])
    assert theory.pair_size(3, 10**12) == pytest.approx(3.0)
    assert [round(theory.pair_size(1000 * r / (1 + r), 1000 / (1 + r)), 1) for r in (1, 10, 50, 100)] == [
        250.0,
        82.6,
        19.2,
        9.8,
    ]
