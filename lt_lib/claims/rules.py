"""Decision rules shared by the checks. Each can end in "holds" and in "refuted"."""

import numpy as np
import numpy.typing as npt

from lt_lib.claims.core import Judgement
from lt_lib.metrics import paired_interval


def positive_effect(
    differences: npt.ArrayLike, *, minimum: float = 0.0, unit: str = "", level: float = 0.95
) -> Judgement:
    r"""Paired one-sided rule: is the mean of `differences` above `minimum`?

    Holds if the one-sided `level` lower bound of the paired t interval exceeds `minimum`; refuted if the upper bound
    lies below it; inconclusive otherwise.

    Args:
        differences: one value per paired seed, claimed to be positive, at least 2.
        minimum: what the mean must exceed.
        unit: unit of the values, for the printed rule.
        level: confidence of each one-sided bound, in (0.5, 1).

    Raises:
        ValueError: fewer than two differences, one that is not finite, or `level` outside (0.5, 1).
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size < 2 or not np.isfinite(values).all():
        raise ValueError(f"`differences` must be at least 2 finite numbers, got {values.tolist()}.")
    if not 0.5 < level < 1:
        raise ValueError(f"`level` must be in (0.5, 1), got {level}.")
    mean, low, high = paired_interval(values, level=level)
    verdict = "holds" if low > minimum else "refuted" if high < minimum else "inconclusive"
    return Judgement(
        verdict, mean, low, high, f"mean > {minimum:g}{_space(unit)}, one-sided {level:.0%} t, {values.size} pairs"
    )


def equal(value: float, standard_error: float, reference: float, *, allowance: float = 4.0) -> Judgement:
    """Two-sided rule for a Monte-Carlo mean: holds within `allowance` standard errors of `reference`, else refuted.

    Args:
        value: measured mean.
        standard_error: its standard error, > 0.
        reference: what theory says.
        allowance: standard errors granted, > 0.

    Raises:
        ValueError: `standard_error` or `allowance` is not positive, or `value` is NaN.
    """
    if np.isnan(value):
        raise ValueError("`value` must be a number, got NaN.")
    if not (standard_error > 0 and allowance > 0):
        raise ValueError(f"`standard_error` and `allowance` must be > 0, got {standard_error} and {allowance}.")
    distance = abs(value - reference) / standard_error
    verdict = "holds" if distance <= allowance else "refuted"
    spread = allowance * standard_error
    return Judgement(
        verdict, value, value - spread, value + spread, f"{reference:.6g} within {allowance:g} standard errors"
    )


def at_least(value: float, threshold: float, *, name: str = "value") -> Judgement:
    """Holds if `value >= threshold`, else refuted; NaN is refused.

    Raises:
        ValueError: `value` is NaN.
    """
    return _compare(value, threshold, value >= threshold, f"{name} >= {threshold:g}")


def at_most(value: float, threshold: float, *, name: str = "value") -> Judgement:
    """Holds if `value <= threshold`, else refuted; NaN is refused.

    Raises:
        ValueError: `value` is NaN.
    """
    return _compare(value, threshold, value <= threshold, f"{name} <= {threshold:g}")


def _compare(value: float, threshold: float, passed: bool, text: str) -> Judgement:
    if np.isnan(value):
        raise ValueError("`value` must be a number, got NaN.")
    return Judgement("holds" if passed else "refuted", float(value), threshold=text)


def _space(unit: str) -> str:
    return f" {unit}" if unit else ""
