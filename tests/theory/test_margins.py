"""Margins: optimum against search, bound against drawn test errors, bias shift against a second solver."""

import numpy as np
import pytest
from scipy import optimize, stats

from lt_lib.counts import ldam_margins
from lt_lib.theory import margins as theory


def rng(seed=0):
    return np.random.default_rng(seed)


def test_example_and_class_margins_equal_the_loop():
    scores, targets = rng().normal(size=(30, 4)), np.arange(30) % 4
    naive = [row[y] - max(row[j] for j in range(4) if j != y) for row, y in zip(scores, targets, strict=True)]
    given = theory.example_margins(scores, targets)
    np.testing.assert_allclose(given, naive)
    np.testing.assert_array_equal(given > 0, scores.argmax(axis=1) == targets)
    per_class = theory.class_margins(scores, targets)
    assert per_class.tolist() == [min(m for m, y in zip(naive, targets, strict=True) if y == j) for j in range(4)]


def test_margins_leave_the_scores_alone():
    scores = rng().normal(size=(5, 3))
    kept = scores.copy()
    theory.example_margins(scores, [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(scores, kept)


def test_bound_is_the_mean_of_the_class_terms():
    margins, n = [0.3, 0.7, 1.1], [1000, 50, 4]
    expected = sum(3.0 / (g * size**0.5) for g, size in zip(margins, n, strict=True)) / 3
    assert theory.generalisation_bound(margins, n, complexity=9.0) == pytest.approx(expected)
    fast = sum(1.0 / (g**2 * size) for g, size in zip(margins, n, strict=True)) / 3
    assert theory.generalisation_bound(margins, n, margin_power=2, count_power=1) == pytest.approx(fast)


SPLITS = [(1000, 10), (5000, 50), (10, 1000), (7, 7), (10**6, 1)]


def searched_split(n1, n2, total):
    def bound(first):
        return 1 / (first * n1**0.5) + 1 / ((total - first) * n2**0.5)

    return optimize.minimize_scalar(bound, bounds=(0, total), method="bounded", options={"xatol": 1e-12}).x


@pytest.mark.parametrize(("n1", "n2"), SPLITS)
def test_split_minimises_the_bound_and_wrong_exponents_do_not(n1, n2):
    total = 1.7
    first, second = theory.optimal_split(n1, n2, total)
    assert first + second == pytest.approx(total)
    best = searched_split(n1, n2, total)
    assert first == pytest.approx(best, rel=1e-5)
    if n1 != n2:
        for exponent in (-0.5, -1 / 3, 0.25):  # too steep, the fast rate, swapped classes
            wrong = total * n1**exponent / (n1**exponent + n2**exponent)
            assert abs(wrong / best - 1) > 0.05


@pytest.mark.parametrize("n", [[5000, 2997, 1796, 50], [1000, 100, 10], list(range(1, 41)), [10**6, 1]])
@pytest.mark.parametrize(("a", "b", "rate"), [(1.0, 0.5, 1 / 4), (2.0, 1.0, 1 / 3), (1.0, 1.0, 1 / 2)])
def test_optimal_margins_equal_the_numeric_optimum(n, a, b, rate):
    closed = theory.optimal_margins(n, 2.0, margin_power=a, count_power=b)
    assert closed.sum() == pytest.approx(2.0)
    numeric = theory.numeric_optimal_margins(n, 2.0, margin_power=a, count_power=b)
    np.testing.assert_allclose(numeric, closed, rtol=1e-5)
    shape = np.asarray(n, dtype=float) ** -rate
    np.testing.assert_allclose(closed, 2.0 * shape / shape.sum(), rtol=1e-12)
    for wrong_rate in {1 / 4, 1 / 3, 1 / 2, -rate} - {rate}:
        wrong = np.asarray(n, dtype=float) ** -wrong_rate
        wrong *= 2.0 / wrong.sum()
        assert np.abs(wrong / numeric - 1).max() > 0.02
        options = {"margin_power": a, "count_power": b}
        assert theory.generalisation_bound(wrong, n, **options) > theory.generalisation_bound(closed, n, **options)


@pytest.mark.parametrize("n", [[10**6, 1], [10**7, 1], [10**9, 10**6, 1, 1, 50], [3, 2], list(range(1, 400, 7))])
@pytest.mark.parametrize(("a", "b"), [(1.0, 0.5), (1.0, 2.0), (0.1, 1.0), (0.1, 2.0), (8.0, 0.3)])
def test_the_numeric_optimum_is_right_for_very_small_margins_too(n, a, b):
    numeric = theory.numeric_optimal_margins(n, 2.0, margin_power=a, count_power=b)
    shares = (np.asarray(n, dtype=float) / min(n)) ** (-b / (1 + a))
    np.testing.assert_allclose(numeric, 2.0 * shares / shares.sum(), rtol=1e-9)


def test_a_search_that_does_not_settle_is_an_error(monkeypatch):
    monkeypatch.setattr(theory, "_NEWTON_STEPS", 1)
    with pytest.raises(RuntimeError, match="numeric_optimal_margins did not settle within 1 Newton steps"):
        theory.numeric_optimal_margins([10**7, 1], 1.0, margin_power=0.1, count_power=2.0)


def test_optimal_margins_match_the_loss_margins_up_to_scale():
    n = [5000, 500, 50]
    ratio = theory.optimal_margins(n, 1.0) / ldam_margins(n, 0.5)
    np.testing.assert_allclose(ratio, ratio[0])


def test_bias_shift_moves_the_margins_to_the_optimum():
    scores = np.array([[2.0, 0.0], [1.5, -0.5], [0.0, 1.0]])
    targets = [0, 0, 1]
    now = tuple(theory.class_margins(scores, targets))
    wanted = theory.optimal_split(1000, 10, sum(now))
    shifted = scores + theory.bias_shift(now, wanted)
    np.testing.assert_allclose(theory.class_margins(shifted, targets), wanted)
    swapped = scores - np.asarray(theory.bias_shift(now, wanted))
    assert np.abs(theory.class_margins(swapped, targets) - wanted).max() > 0.1


def test_confidence_term_displays():
    options = {"max_score": 4.0, "num_classes": 3, "delta": 0.1}
    peeling, union = np.log(np.log2(16)), np.log(60)
    joint = theory.confidence_term(0.5, 200, **options)
    separate = theory.confidence_term(0.5, 200, **options, display="separate")
    assert joint == pytest.approx(np.sqrt((peeling + union) / 200))
    assert separate == pytest.approx(np.sqrt(peeling / 200) + np.sqrt(union / 200))
    assert joint < separate <= np.sqrt(2) * joint
    assert theory.confidence_term(4.0, 200, **options) == pytest.approx(np.sqrt(union / 200))  # no peeling at g = M


def test_rademacher_bound_is_above_the_estimate_and_tight():
    x = rng(1).normal(size=(60, 8))
    estimate, standard_error = theory.linear_rademacher(x, 2.0, 4000, rng(2))
    bound = theory.linear_rademacher_bound(x, 2.0)
    assert bound == pytest.approx(2.0 * np.sqrt(sum(float(row @ row) for row in x)) / 60)
    assert estimate - 4 * standard_error < bound < np.sqrt(2) * (estimate + 4 * standard_error)
    too_small = 2.0 * np.linalg.norm(x, axis=1).max() / 60  # one sample's norm instead of the root of the sum
    assert estimate - 4 * standard_error > too_small
    # One dimension, two equal samples: |s1 + s2| is 2 or 0, so the mean is 1 and the bound sqrt(2).
    estimate, standard_error = theory.linear_rademacher([[1.0], [1.0]], 1.0, 4000, rng(3))
    assert abs(estimate - 0.5) < 4 * standard_error
    assert theory.linear_rademacher_bound([[1.0], [1.0]], 1.0) == pytest.approx(np.sqrt(2) / 2)
    assert theory.linear_rademacher(x, 2.0, 50, rng(2)) != theory.linear_rademacher(x, 2.0, 50, rng(3))


def ball_world(n1, n2, generator, dim=3):
    """Two clusters inside the unit ball that overlap slightly along the first axis."""
    y = np.repeat([0, 1], [n1, n2])
    x = generator.uniform(-0.5, 0.5, size=(n1 + n2, dim)) / np.sqrt(dim)
    x[:, 0] = np.where(y == 0, 1, -1) * generator.uniform(-0.02, 0.9, size=n1 + n2)
    return x * min(1.0, 1.0 / np.linalg.norm(x, axis=1).max()), y


def true_error(w, dim=3):
    x, y = ball_world(20_000, 20_000, rng(99), dim)
    wrong = np.where(y == 0, x @ w <= 0, x @ w >= 0)
    return (wrong[y == 0].mean() + wrong[y == 1].mean()) / 2


def test_margin_bound_holds_over_draws_and_the_empirical_part_alone_does_not():
    options = {"norm_bound": 1.0, "max_norm": 1.0, "delta": 0.1}
    held = empirical_held = 0
    draws = 40
    for seed in range(draws):
        x, y = ball_world(4000, 400, rng(seed))
        w = x[y == 0].mean(axis=0) - x[y == 1].mean(axis=0)
        w /= np.linalg.norm(w)
        error = true_error(w)
        bound = theory.linear_margin_bound(x, y, w, (0.4, 0.4), **options)
        training_error = theory.linear_margin_bound(x, y, w, (1e-12, 1e-12), **options).empirical.mean()
        assert bound.total == pytest.approx(np.mean(bound.empirical + bound.complexity + bound.confidence))
        held += error <= bound.total
        empirical_held += error <= training_error
    assert held >= 0.9 * draws
    assert empirical_held < 0.9 * draws


def test_margin_bound_parts():
    x, y = ball_world(4000, 400, rng(0))
    w = np.array([0.8, 0.0, 0.0])
    options = {"norm_bound": 1.0, "max_norm": 1.0}
    bound = theory.linear_margin_bound(x, y, w, (0.2, 0.4), **options)
    sides = [(x[y == 0], 1, 0.2), (x[y == 1], -1, 0.4)]
    for j, (side, sign, g) in enumerate(sides):
        assert bound.empirical[j] == pytest.approx(np.mean(sign * side @ w < g))
        assert bound.complexity[j] == pytest.approx(4 / g * np.sqrt((side**2).sum()) / len(side))
        # The loss of precision grows with M / g, and M is half of B R because the two scores share the weight vector.
        peeling, union = np.log(np.log2(2 * 0.5 / g)), np.log(4 / 0.05)
        assert bound.confidence[j] == pytest.approx((np.sqrt(peeling) + np.sqrt(union)) / np.sqrt(len(side)))
    joint = theory.linear_margin_bound(x, y, w, (0.2, 0.4), **options, display="joint")
    assert joint.total < bound.total
    assert theory.linear_margin_bound(x, y, w, (0.2, 0.4), **options, delta=0.5).total < bound.total
    assert theory.linear_margin_bound(x, y, w, (0.2, 0.4), norm_bound=2.0, max_norm=1.0).total > bound.total
    assert theory.linear_margin_bound(x, y, w, (0.2, 0.4), norm_bound=1.0, max_norm=9.0).total > bound.total


def drawn_world(dim, separation, n1, n2, generator):
    x = generator.standard_normal((n1 + n2, dim))
    y = np.repeat([1, -1], [n1, n2])
    x[:, 0] += y * separation / 2
    return x, y


def test_experiment_equals_a_second_solver_and_a_sampled_test_set():
    fractions = [0.0, 0.25, 0.5, 1.0]
    shift = theory.bias_shift_experiment(3, 5.0, 20, 6, fractions, rng(2))
    x, y = drawn_world(3, 5.0, 20, 6, rng(2))

    def norm(parameters):
        return parameters[:3] @ parameters[:3]

    separated = {"type": "ineq", "fun": lambda parameters: y * (x @ parameters[:3] + parameters[3]) - 1}
    found = optimize.minimize(norm, np.array([2.0, 0, 0, 0]), constraints=separated, options={"ftol": 1e-12})
    w = found.x[:3] / np.linalg.norm(found.x[:3])
    assert shift.margin_sum == pytest.approx(2 / np.sqrt(found.fun), rel=1e-3)
    ends = (x[y == 1] @ w).min(), (x[y == -1] @ w).max()
    test_x, test_y = drawn_world(3, 5.0, 100_000, 100_000, rng(5))
    for fraction, error in zip(fractions, shift.errors, strict=True):
        threshold = ends[0] - fraction * (ends[0] - ends[1])
        sampled = np.mean((test_x @ w > threshold) != (test_y == 1))
        assert error == pytest.approx(sampled, abs=4 * np.sqrt(sampled / 200_000) + 1e-4)
    # Fraction 0 gives class 1 no margin, so it must be the worse end for class 1.
    assert stats.norm.cdf(ends[0] - 2.5 * w[0]) > stats.norm.cdf(ends[1] - 2.5 * w[0])


def averaged_errors(setting, fractions, draws):
    generator = rng(0)
    return np.mean([theory.bias_shift_experiment(*setting, fractions, generator).errors for _ in range(draws)], axis=0)


@pytest.mark.parametrize("setting", [(50, 8.0, 1000, 100), (100, 8.0, 1000, 10)])
def test_optimal_split_is_near_the_best_bias_and_beats_the_middle(setting):
    grid = np.arange(0.05, 0.6, 0.01)
    n1, n2 = setting[2:]
    quarter = theory.optimal_split(n1, n2, 1.0)[0]
    swapped = 1 - quarter
    errors = averaged_errors(setting, [*grid, quarter, 0.5, swapped], draws=6)
    best, at_quarter, at_middle, at_swapped = errors[: len(grid)].min(), *errors[len(grid) :]
    assert at_quarter <= 1.5 * best
    assert at_quarter < 0.6 * at_middle
    assert at_swapped > at_middle


def test_experiment_follows_the_generator():
    first, again, other = (theory.bias_shift_experiment(5, 8.0, 30, 5, [0.5], rng(seed)) for seed in (1, 1, 2))
    assert first.margin_sum == again.margin_sum != other.margin_sum
    assert first.errors[0] == again.errors[0] != other.errors[0]


BOUND = {"norm_bound": 1.0, "max_norm": 1.0}
PAIR = ([[0.5], [-0.5]], [0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.example_margins([[1.0]], [0]), "`scores` must have shape"),
        (lambda: theory.example_margins([[1.0, 2.0]], [2]), r"`targets` must be 1 class indices in \[0, 1\]"),
        (lambda: theory.class_margins([[1.0, 2.0]], [1]), r"`targets` must hold every class.*got none of \[0\]"),
        (lambda: theory.generalisation_bound([0.5, 0.0], [3, 4]), "`margins` must be a vector of positive"),
        (lambda: theory.generalisation_bound([0.5], [3, 4]), "`margins` must have one entry per class"),
        (lambda: theory.generalisation_bound([0.5, 1], [3, 0]), "`class_counts` must"),
        (lambda: theory.generalisation_bound([0.5, 1], [3, 4], complexity=0), "`complexity` must be"),
        (lambda: theory.optimal_split(10, 0, 1.0), "`class_counts` must"),
        (lambda: theory.optimal_split(10, 5, 0.0), "`margin_sum` must be"),
        (lambda: theory.optimal_margins([5, 5], 1.0, margin_power=0), "`margin_power` must be"),
        (lambda: theory.numeric_optimal_margins([5, 5], 1.0, count_power=-1), "`count_power` must be"),
        (lambda: theory.bias_shift((1.0, 1.0), (1.0, 2.0)), "`target_margins` must have the sum"),
        (
            lambda: theory.confidence_term(2.0, 5, max_score=1, num_classes=2, delta=0.1),
            r"`margin` must be in \(0, 1\]",
        ),
        (lambda: theory.confidence_term(0.5, 0, max_score=1, num_classes=2, delta=0.1), "`num_samples` must be"),
        (lambda: theory.confidence_term(0.5, 5, max_score=1, num_classes=2, delta=1.0), "`delta` must be"),
        (lambda: theory.confidence_term(0.5, 5, max_score=1, num_classes=1, delta=0.1), "`num_classes` must be"),
        (
            lambda: theory.confidence_term(0.5, 5, max_score=1, num_classes=2, delta=0.1, display="both"),
            "`display` must be one of",
        ),
        (lambda: theory.linear_rademacher_bound([1.0, 2.0], 1.0), "`inputs` must have shape"),
        (lambda: theory.linear_rademacher_bound([[1.0]], 0.0), "`norm_bound` must be"),
        (lambda: theory.linear_rademacher([[1.0]], 1.0, 1, rng()), "`num_draws` must be"),
        (
            lambda: theory.linear_margin_bound(PAIR[0], [0, 0], [1.0], (0.1, 0.1), **BOUND),
            "`targets` must hold 0 and 1",
        ),
        (lambda: theory.linear_margin_bound(*PAIR, [2.0], (0.1, 0.1), **BOUND), "`weights` must have shape"),
        (
            lambda: theory.linear_margin_bound(*PAIR, [1.0], (0.1, 0.1), norm_bound=1.0, max_norm=0.2),
            "`max_norm` must be at least",
        ),
        (lambda: theory.example_margins([[1.0, np.nan]], [0]), "`scores` must be finite, got nan"),
        (lambda: theory.linear_rademacher_bound([[1.0, np.inf]], 1.0), "`inputs` must be finite, got inf"),
        (lambda: theory.generalisation_bound([0.5, np.nan], [3, 4]), "`margins` must be a vector of positive"),
        (lambda: theory.linear_margin_bound(*PAIR, [np.nan], (0.1, 0.1), **BOUND), "`weights` must be finite, got nan"),
        (
            lambda: theory.linear_margin_bound([[np.nan], [0.5]], [0, 1], [1.0], (0.1, 0.1), **BOUND),
            "`inputs` must be finite, got nan",
        ),
        (
            lambda: theory.linear_margin_bound(*PAIR, [1.0], (0.0, 0.5), **BOUND),
            r"`margins` must be two numbers in \(0, 0.5\], got \[0.0, 0.5\]",
        ),
        (
            lambda: theory.linear_margin_bound(*PAIR, [1.0], (0.1, 0.6), **BOUND),
            r"`margins` must be two numbers in \(0, 0.5\], got \[0.1, 0.6\]",
        ),
        (
            lambda: theory.linear_margin_bound(*PAIR, [1.0], (0.1, 0.2, 0.3), **BOUND),
            r"`margins` must be two numbers in \(0, 0.5\], got \[0.1, 0.2, 0.3\]",
        ),
        (
            lambda: theory.linear_margin_bound(*PAIR, [1.0], (0.1, 0.1), norm_bound=np.nan, max_norm=1.0),
            "`norm_bound` must be a finite number, got nan",
        ),
        (
            lambda: theory.linear_margin_bound(*PAIR, [1.0], (0.1, 0.1), norm_bound=1.0, max_norm=-1.0),
            "`max_norm` must be a number above 0, got -1",
        ),
        (lambda: theory.bias_shift((1.0, np.nan), (1.0, 2.0)), "`margins` must be finite, got nan"),
        (lambda: theory.bias_shift((1.0, 1.0), (1.0, 0.5, 0.5)), "`target_margins` must be two numbers, got"),
        (lambda: theory.bias_shift_experiment(0, 6.0, 5, 5, [0.5], rng()), "`dim` must be"),
        (lambda: theory.bias_shift_experiment(2, -1.0, 5, 5, [0.5], rng()), "`separation` must be a number above 0"),
        (lambda: theory.bias_shift_experiment(2, 6.0, 0, 5, [0.5], rng()), "`n1` must be"),
        (lambda: theory.bias_shift_experiment(2, 6.0, 5, 0, [0.5], rng()), "`n2` must be"),
        (lambda: theory.bias_shift_experiment(2, 6.0, 5, 5, [1.5], rng()), "`fractions` must be"),
        (lambda: theory.bias_shift_experiment(1, 0.1, 50, 50, [0.5], rng()), "`separation` must be large enough"),
    ],
)
def test_domains(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("total", "vacuous"), [(0.4, False), (1.0, True), (1.8, True)])
def test_a_bound_of_one_or_more_says_nothing(total, vacuous):
    part = np.zeros(2)
    assert theory.MarginBound(total, part, part, part).vacuous is vacuous
