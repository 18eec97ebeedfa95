"""What the toy models ask of arguments that are numbers or arrays: each returns float64 and refuses by name."""

import numpy as np
import numpy.typing as npt

from lt_lib._checks import check_all, check_real_array

Array = npt.NDArray[np.float64]


def check_above(values: npt.ArrayLike, argument: str, bound: float = 0.0, *, inclusive: bool = False) -> Array:
    """Return finite numbers above a bound; with `inclusive`, the bound itself is allowed."""
    array = check_real_array(values, argument)
    passed, sign = (array >= bound, ">=") if inclusive else (array > bound, ">")
    check_all(passed, argument, f"be {sign} {bound:g}", array)
    return array


def check_whole(values: npt.ArrayLike, argument: str) -> Array:
    """Return whole numbers from 1 upwards."""
    array = check_real_array(values, argument)
    check_all((array >= 1) & (array == np.floor(array)), argument, "be whole numbers >= 1", array)
    return array


def check_shares(values: npt.ArrayLike, argument: str) -> Array:
    """Return numbers in [0, 1]."""
    array = check_real_array(values, argument)
    check_all((array >= 0) & (array <= 1), argument, "be in [0, 1]", array)
    return array


def check_open_shares(values: npt.ArrayLike, argument: str) -> Array:
    """Return numbers in (0, 1)."""
    array = check_real_array(values, argument)
    check_all((array > 0) & (array < 1), argument, "be in (0, 1)", array)
    return array


def check_extended(values: npt.ArrayLike, argument: str) -> Array:
    """Return numbers, infinite ones included; NaN is refused."""
    array = check_real_array(values, argument, finite=False)
    check_all(~np.isnan(array), argument, "be numbers or infinite", array)
    return array
