"""Chi-square laws of any freedom against integrals of many digits."""

import mpmath as mp
import numpy as np
import pytest
from scipy.special import chdtr, chdtrc

from lt_lib.theory import _chi_square as chi_square

FREEDOMS = [1, 2, 7, 29, 31, 300, 10**5, 10**7, 10**12, 10**16]


def log_density(x, freedom):
    """Logarithm of the density of a chi-square number, with forty digits."""
    half = mp.mpf(freedom) / 2
    return (half - 1) * mp.log(x) - x / 2 - half * mp.log(2) - mp.loggamma(half)


def tail_by_integral(x, freedom, side):
    """Mass below (side -1) or above (side 1) an argument, by integration over fifteen deviations."""
    deviation = mp.sqrt(2 * mp.mpf(freedom))
    ends = [mp.mpf(x) + side * step * deviation for step in range(16)]
    return abs(mp.quad(lambda u: mp.exp(log_density(u, freedom)), [end for end in ends if end > 0]))


@pytest.mark.parametrize("freedom", FREEDOMS)
def test_root_density_has_many_right_digits_at_every_freedom(freedom):
    with mp.workdps(40):
        for shift in (-7.5, -0.9, -1e-3, 0.0, 0.4, 3.0, 7.5):
            w = mp.sqrt(freedom) + mp.mpf(shift)
            if w <= 0:
                continue
            exact = 2 * w * mp.exp(log_density(w**2, freedom))
            assert float(chi_square.root_density(shift, freedom)) == pytest.approx(float(exact), rel=1e-12), shift


@pytest.mark.parametrize("freedom", [10**5 + 1, 10**8, 10**15])
@pytest.mark.parametrize("distance", [-9.0, -6.5, 0.0, 4.0])
def test_mass_at_freedoms_where_scipy_stops_too_early(freedom, distance):
    x = freedom + distance * np.sqrt(2.0 * freedom)
    with mp.workdps(25):
        tail = tail_by_integral(x, freedom, -1 if distance <= 0 else 1)
        lower, upper = (tail, 1 - tail) if distance <= 0 else (1 - tail, tail)
    assert float(chi_square.below(freedom, x)) == pytest.approx(float(lower), rel=1e-10)
    assert float(chi_square.above(freedom, x)) == pytest.approx(float(upper), rel=1e-10)
    if distance < -5 and freedom >= 10**8:
        assert abs(chdtr(freedom, x) / float(lower) - 1) > 0.05


def test_masses_are_scipys_elsewhere_and_broadcast():
    freedom, x = np.array([[1.0], [50.0], [2e5]]), np.array([0.0, 3.0, 1.5e5, 4e5, np.inf])
    np.testing.assert_array_equal(chi_square.below(freedom, x), chdtr(freedom, x))
    np.testing.assert_array_equal(chi_square.above(freedom, x), chdtrc(freedom, x))


def test_root_density_at_zero_is_that_of_an_absolute_normal_number():
    assert chi_square.root_density(-1.0, 1) == pytest.approx(np.sqrt(2 / np.pi))
    assert chi_square.root_density(-np.sqrt(5), 5) < 1e-50
