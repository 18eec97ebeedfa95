"""What the toy models ask of numbers and arrays: float64 comes back, the first offender is named."""

import numpy as np
import pytest

from lt_lib.theory import _arguments as arguments

CHECKS = [
    (arguments.check_above, [1, 2.5], [0.0, -1.0], "be > 0, got"),
    (arguments.check_whole, [1, 3.0, 10**9], [0, 1.5, -2], "be whole numbers >= 1, got"),
    (arguments.check_shares, [0, 0.5, 1], [-0.1, 1.1], r"be in \[0, 1\], got"),
    (arguments.check_open_shares, [0.1, 0.9], [0.0, 1.0], r"be in \(0, 1\), got"),
    (arguments.check_extended, [-np.inf, 0.0, np.inf], [np.nan], "be numbers or infinite, got"),
]


@pytest.mark.parametrize(("check", "allowed", "refused", "message"), CHECKS)
def test_values_pass_or_are_named(check, allowed, refused, message):
    passed = check(allowed, "x")
    assert passed.dtype == np.float64
    assert passed.tolist() == allowed
    assert check(allowed[0], "x").shape == ()
    for wrong in refused:
        with pytest.raises(ValueError, match=f"`x` must {message} {wrong:g}"):
            check([allowed[0], wrong], "x")
    with pytest.raises(TypeError, match="`x` must be real numbers, got 'a'"):
        check("a", "x")
    if check is not arguments.check_extended:
        for wrong in (np.nan, np.inf):
            with pytest.raises(ValueError, match=f"`x` must be finite, got {wrong}"):
                check([allowed[0], wrong], "x")


def test_a_bound_can_be_moved_and_included():
    assert arguments.check_above([1.0], "x", 1.0, inclusive=True).tolist() == [1.0]
    with pytest.raises(ValueError, match="`x` must be > 1, got 1"):
        arguments.check_above([1.0], "x", 1.0)
    with pytest.raises(ValueError, match="`x` must be >= 2, got 1"):
        arguments.check_above([3.0, 1.0], "x", 2.0, inclusive=True)
