"""Effective number: closed form, recursion and simulations agree, and near-miss formulas do not."""

import subprocess
import sys
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest

from lt_lib.theory import effective_number as theory

WRONG = {
    "exponent n - 1": lambda n, volume: volume * (1 - (1 - 1 / volume) ** (n - 1)),
    "beta = N / (N + 1)": lambda n, volume: (volume + 1) * (1 - (volume / (volume + 1)) ** n),
    "no overlap, cut at N": lambda n, volume: min(n, volume),
    "exponential limit": lambda n, volume: volume * (1 - np.exp(-n / volume)),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def deviation(draws, expected):
    """Distance of the mean from the expectation, in standard errors."""
    standard_error = draws.std(ddof=1) / np.sqrt(len(draws))
    return abs(draws.mean() - expected) / standard_error


def closed_form(n, volume):
    return theory.expected_volume([n], volume)[0]


@pytest.mark.parametrize("volume", [1.0, 1.5, 2.0, 10.0, 137.3, 1000.0])
def test_closed_form_equals_the_recursion(volume):
    n = np.arange(1, 1501)
    closed = theory.expected_volume(n, volume)
    np.testing.assert_allclose(theory.recursive_volume(1500, volume), closed, rtol=1e-12)
    for name, formula in WRONG.items():
        wrong = np.array([formula(k, volume) for k in n])
        largest_error = np.abs(wrong / closed - 1).max()
        assert largest_error > 1e-4 or (volume == 1.0 and name == "no overlap, cut at N"), name


def test_recursion_equals_exact_fractions():
    volume, exact = Fraction(7, 2), [Fraction(1)]
    for _ in range(20):
        p = exact[-1] / volume
        exact.append(p * exact[-1] + (1 - p) * (exact[-1] + 1))
    np.testing.assert_allclose(theory.recursive_volume(21, 3.5), [float(value) for value in exact], rtol=1e-14)
    assert float(exact[-1]) == pytest.approx(closed_form(21, 3.5), rel=1e-14)


def test_limits():
    n = np.array([1, 2, 10, 1000])
    np.testing.assert_array_equal(theory.expected_volume(n, 1.0), 1.0)
    np.testing.assert_allclose(theory.expected_volume(n, 1e9), n, rtol=1e-6)
    np.testing.assert_allclose(theory.expected_volume([10**6], 50.0), 50.0, rtol=1e-12)
    # "About n" needs n well below N / 50.
    assert abs(closed_form(20, 1001.0) / 20 - 1) < 0.01 < abs(closed_form(200, 1001.0) / 200 - 1)


def test_volume_and_beta_are_inverse():
    for volume in (1.0, 2.5, 10.0, 1e4):
        assert theory.volume_of_beta(theory.beta_of_volume(volume)) == pytest.approx(volume, rel=1e-10)
    assert theory.beta_of_volume(4) == 0.75
    assert theory.volume_of_beta(1.0) == np.inf


def test_growth_is_bounded_and_monotone():
    n = np.arange(1, 300)
    previous = None
    for volume in (1.2, 3.0, 30.0, 500.0):
        covered = theory.expected_volume(n, volume)
        assert np.all(covered <= np.minimum(n, volume) + 1e-9)
        assert np.all(np.diff(covered) >= 0)
        assert previous is None or np.all(covered[1:] > previous[1:])
        previous = covered


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.99])
def test_increments_diminish_and_add_up(beta):
    steps = theory.volume_increments(40, beta)
    assert steps.dtype == np.float64
    assert np.all(np.diff(steps) < 0)
    covered = theory.expected_volume(np.arange(1, 41), theory.volume_of_beta(beta))
    np.testing.assert_allclose(np.cumsum(steps), covered, rtol=1e-10)
    shifted = beta ** np.arange(1, 41)  # beta^n instead of beta^(n-1)
    assert np.abs(np.cumsum(shifted) / covered - 1).max() > 0.005


def test_increments_at_the_ends_of_beta():
    assert theory.volume_increments(3, 1.0).tolist() == [1, 1, 1]
    assert theory.volume_increments(3, 0.0).tolist() == [1, 0, 0]


@pytest.mark.parametrize(("boxes", "n"), [(10, 5), (10, 30), (100, 100), (200, 320)])
def test_occupancy_mean_is_the_closed_form(boxes, n):
    draws = theory.occupancy(boxes, n, 20_000, rng(1))
    assert deviation(draws, closed_form(n, boxes)) < 4
    for name, formula in WRONG.items():
        assert deviation(draws, formula(n, boxes)) > 4, name


@pytest.mark.parametrize("simulate", [theory.occupancy, theory.occupancy_naive])
def test_both_occupancies_follow_the_exact_law(simulate):
    # Three samples in three boxes: 27 equally likely outcomes with 1, 2 or 3 distinct boxes.
    draws = simulate(3, 3, 6000, rng(2))
    for distinct, outcomes in ((1, 3), (2, 18), (3, 6)):
        assert deviation((draws == distinct).astype(float), outcomes / 27) < 4
        assert deviation((draws == distinct).astype(float), 9 / 27) > 4


@pytest.mark.parametrize(("volume", "n"), [(10.0, 30), (5.5, 12), (1.3, 2), (2.5, 10)])
def test_circle_mean_is_the_closed_form_for_real_volumes(volume, n):
    draws = theory.circle_coverage(volume, n, 40_000, rng(3))
    assert draws.max() <= volume + 1e-9
    assert deviation(draws, closed_form(n, volume)) < 4
    for name, formula in WRONG.items():
        assert deviation(draws, formula(n, volume)) > 4, name


def test_circle_with_two_arcs_overlaps_as_geometry_says():
    draws = theory.circle_coverage(5.0, 2, 40_000, rng(4))
    assert deviation((draws == 2.0).astype(float), 1 - 2 / 5) < 4  # disjoint unless the starts are within 1
    overlapping = draws[draws < 2.0]
    assert deviation(overlapping, 1.5) < 4  # the overlap is uniform
    assert overlapping.min() >= 1


@pytest.mark.parametrize(("volume", "n"), [(10.0, 30), (3.0, 4), (1.6, 3), (2.0, 5)])
def test_interval_mean_is_below_the_closed_form(volume, n):
    draws = theory.interval_coverage(volume, n, 40_000, rng(5))
    assert deviation(draws, theory.interval_volume(n, volume)) < 4
    assert deviation(draws, closed_form(n, volume)) > 4
    ends_forgotten = volume - (volume - 2.0) * (1 - 1 / (volume - 1)) ** n
    assert deviation(draws, ends_forgotten) > 4


def test_interval_formula_equals_the_integral():
    from scipy.integrate import quad

    for volume, n in ((10.0, 30), (2.7, 4), (1.4, 3)):

        def missed(x, volume=volume, n=n):
            return (1 - min(x, 1.0, volume - 1.0) / (volume - 1.0)) ** n

        kinks = sorted({min(1.0, volume - 1.0), volume / 2})
        integral = sum(quad(missed, a, b)[0] for a, b in zip([0.0, *kinks], kinks, strict=False))
        assert theory.interval_volume(n, volume) == pytest.approx(volume - 2 * integral, rel=1e-9)
    assert theory.interval_volume(1, 2.0) == pytest.approx(theory.interval_volume(1, 2.0 + 1e-12))


@pytest.mark.parametrize("volume", [1.3, 2.0, 2.0000001, 3.5, 1e4, 1e8, 1e12, 1e15])
@pytest.mark.parametrize("n", [1, 10, 5000, 10**6, 10**12])
def test_interval_formula_keeps_its_digits(volume, n):
    with mp.workdps(60):
        room = mp.mpf(volume) - 1
        reach = min(room, 1)
        # What is missed between an end and the reach, integrated by hand, and between the two reaches.
        missed = 2 * room / (n + 1) * (1 - (1 - reach / room) ** (n + 1))
        missed += (volume - 2 * reach) * (1 - 1 / room) ** n if volume > 2 else 0
        exact = float(volume - missed)
    assert theory.interval_volume(n, volume) == pytest.approx(exact, rel=1e-14)


def test_unequal_prototypes_are_fewer():
    p = theory.dirichlet_prototypes(50, 0.5, rng(6))
    draws = theory.prototype_occupancy(p, 30, 20_000, rng(7))
    expected = theory.prototype_volume(p, 30)
    assert deviation(draws, expected) < 4
    assert deviation(draws, closed_form(30, 50)) > 4
    assert deviation(draws, float(np.sum(1 - (1 - p) ** 29))) > 4
    assert expected < closed_form(30, 50)
    assert theory.prototype_volume(np.full(50, 0.02), 100) == pytest.approx(closed_form(100, 50), rel=1e-12)


def test_random_prototypes_average_to_the_beta_integral():
    from scipy.special import betaln

    # Each probability is Beta(a, 49 a), so the chance to miss it n times is a ratio of two Beta functions.
    a, n = 0.5, 100
    expected = 50 * (1 - np.exp(betaln(a, 49 * a + n) - betaln(a, 49 * a)))
    means = [theory.prototype_volume(theory.dirichlet_prototypes(50, a, rng(seed)), n) for seed in range(400)]
    assert deviation(np.array(means), expected) < 4
    assert deviation(np.array(means), closed_form(n, 50)) > 4
    assert expected == pytest.approx(27.9, abs=0.05)


def test_concentration_spreads_the_prototypes():
    even, uneven = (theory.dirichlet_prototypes(30, a, rng(8)) for a in (100.0, 0.1))
    assert even.sum() == pytest.approx(1)
    assert even.std() < uneven.std() / 5


def two_outcome_mean(volume, n):
    """Exact mean by the transition probabilities of the covered volume."""
    law = {1: 1.0}
    for _ in range(n - 1):
        after = {}
        for v, mass in law.items():
            inside = min(v / volume, 1.0)
            after[v] = after.get(v, 0.0) + mass * inside
            after[v + 1] = after.get(v + 1, 0.0) + mass * (1 - inside)
        law = after
    return sum(v * mass for v, mass in law.items()), sum(mass for v, mass in law.items() if v > volume)


def test_two_outcome_process_is_right_for_whole_volumes():
    draws = theory.two_outcome_process(10.0, 15, 20_000, rng(9))
    assert draws.max() <= 10
    assert two_outcome_mean(10, 15)[0] == pytest.approx(closed_form(15, 10))
    assert deviation(draws, closed_form(15, 10)) < 4
    assert deviation(draws, WRONG["exponent n - 1"](15, 10)) > 4


def test_two_outcome_process_overflows_a_fractional_volume():
    draws = theory.two_outcome_process(2.5, 10, 40_000, rng(10))
    mean, overflow = two_outcome_mean(2.5, 10)
    assert deviation(draws, mean) < 4
    assert deviation((draws > 2.5).astype(float), overflow) < 4
    assert mean == pytest.approx(2.80, abs=0.005)
    assert overflow == pytest.approx(0.80, abs=0.005)
    assert deviation(draws, closed_form(10, 2.5)) > 4


SIMULATIONS = [
    lambda repetitions, generator: theory.occupancy(20, 12, repetitions, generator),
    lambda repetitions, generator: theory.occupancy_naive(20, 12, repetitions, generator),
    lambda repetitions, generator: theory.prototype_occupancy(np.full(20, 0.05), 12, repetitions, generator),
    lambda repetitions, generator: theory.circle_coverage(20.5, 12, repetitions, generator),
    lambda repetitions, generator: theory.interval_coverage(20.5, 12, repetitions, generator),
    lambda repetitions, generator: theory.two_outcome_process(20.0, 12, repetitions, generator),
]


@pytest.mark.parametrize("simulate", SIMULATIONS)
def test_simulations_follow_the_generator(simulate):
    first, again, other = simulate(50, rng(1)), simulate(50, rng(1)), simulate(50, rng(2))
    assert first.shape == (50,)
    assert first.dtype == np.float64
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("simulate", SIMULATIONS)
def test_simulation_in_blocks_loses_no_repetition(simulate, monkeypatch):
    monkeypatch.setattr(theory, "_CHUNK", 70)  # a few repetitions per block, the last one shorter
    draws = simulate(2000, rng(3))
    assert draws.min() >= 1
    assert deviation(draws, closed_form(12, 20)) < 10  # volumes differ slightly between the models; garbage is far off


def test_large_boxes_use_wide_labels():
    draws = theory.occupancy(2**17, 5, 200, rng(0))
    assert draws.mean() > 4.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.expected_volume([1], 0.5), "`volume` must be"),
        (lambda: theory.beta_of_volume(float("inf")), "`volume` must be"),
        (lambda: theory.volume_of_beta(1.1), "`beta` must be"),
        (lambda: theory.recursive_volume(0, 2.0), "`num_samples` must be"),
        (lambda: theory.recursive_volume(3, 0.0), "`volume` must be"),
        (lambda: theory.volume_increments(0, 0.5), "`num_samples` must be"),
        (lambda: theory.volume_increments(3, -0.5), "`beta` must be"),
        (lambda: theory.occupancy(0, 5, 5, rng()), "`num_boxes` must be"),
        (lambda: theory.occupancy(5, 0, 5, rng()), "`num_samples` must be"),
        (lambda: theory.occupancy_naive(5, 5, 0, rng()), "`repetitions` must be"),
        (lambda: theory.occupancy_naive(0, 5, 5, rng()), "`num_boxes` must be"),
        (lambda: theory.circle_coverage(0.9, 5, 5, rng()), "`volume` must be"),
        (lambda: theory.interval_coverage(0.9, 5, 5, rng()), "`volume` must be"),
        (lambda: theory.interval_volume(0, 2.0), "`num_samples` must be"),
        (lambda: theory.two_outcome_process(0.9, 5, 5, rng()), "`volume` must be"),
        (lambda: theory.prototype_volume([0.5, 0.6], 3), "`probabilities` must be"),
        (lambda: theory.prototype_volume([1.5, -0.5], 3), "`probabilities` must be >= 0, got -0.5"),
        (lambda: theory.prototype_volume([1.5, np.nan], 3), "`probabilities` must be finite, got nan"),
        (lambda: theory.expected_volume(5, 10), r"`num_samples` must have shape \(k,\), got \(\)"),
        (lambda: theory.expected_volume([], 10), r"`num_samples` must have shape \(k,\), got \(0,\)"),
        (lambda: theory.expected_volume([3, 0], 10), "`num_samples` must be whole numbers >= 1, got 0"),
        (lambda: theory.expected_volume([1.5], 10), "`num_samples` must be whole numbers >= 1, got 1.5"),
        (lambda: theory.prototype_occupancy([[1.0]], 3, 3, rng()), "`probabilities` must be"),
        (lambda: theory.dirichlet_prototypes(0, 1.0, rng()), "`num_prototypes` must be"),
        (lambda: theory.dirichlet_prototypes(3, 0.0, rng()), "`concentration` must be"),
    ],
)
def test_domains(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_import_needs_numpy_only():
    probe = (
        "import sys, lt_lib.theory.effective_number, lt_lib.theory.margins;"
        "assert not {'torch', 'scipy', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", probe], check=True)
