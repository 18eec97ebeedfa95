"""Decision rules shared by the checks. Each can end in "holds" and in "refuted"."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lt_lib.claims.core import Judgement, worst
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
    text = f"mean > {minimum:g}{_space(unit)}, one-sided {level:.0%} t, {values.size} pairs"
    return Judgement(verdict, mean, low, high, text, distance=in_half_widths(mean - minimum, high - mean))


def within(differences: npt.ArrayLike, bound: float, *, unit: str = "", level: float = 0.95) -> Judgement:
    r"""Equivalence of paired values: is the mean of `differences` between -`bound` and `bound`?

    Holds if both one-sided `level` bounds of the paired t interval lie inside, refuted if the interval lies outside,
    inconclusive otherwise.

    Args:
        differences: one value per paired seed, at least 2.
        bound: largest difference that counts as none, > 0.
        unit: unit of the values, for the printed rule.
        level: confidence of each one-sided bound, in (0.5, 1).
    """
    values = np.asarray(differences, dtype=np.float64)
    mean, low, high = paired_interval(values, level=level)
    inside, outside = low > -bound and high < bound, low > bound or high < -bound
    verdict = "holds" if inside else "refuted" if outside else "inconclusive"
    text = f"mean within {bound:g}{_space(unit)}, two one-sided {level:.0%} t, {values.size} pairs"
    return Judgement(verdict, mean, low, high, text, distance=in_half_widths(bound - abs(mean), high - mean))


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
    text = f"{reference:.6g} within {allowance:g} standard errors"
    return Judgement(verdict, value, value - spread, value + spread, text, distance=1 - distance / allowance)


def at_least(value: float, threshold: float, *, name: str = "value", half_width: float = float("nan")) -> Judgement:
    """Holds if `value >= threshold`, else refuted; NaN is refused.

    Args:
        value: measured.
        threshold: what it is compared with.
        name: of the value, for the printed rule.
        half_width: of an interval of the value, if there is one; unit of the distance and nothing else.

    Raises:
        ValueError: `value` is NaN.
    """
    return _compare(value, threshold, 1.0, f"{name} >= {threshold:g}", half_width)


def at_most(value: float, threshold: float, *, name: str = "value", half_width: float = float("nan")) -> Judgement:
    """Holds if `value <= threshold`, else refuted; NaN is refused.

    Args:
        value: measured.
        threshold: what it is compared with.
        name: of the value, for the printed rule.
        half_width: of an interval of the value, if there is one; unit of the distance and nothing else.

    Raises:
        ValueError: `value` is NaN.
    """
    return _compare(value, threshold, -1.0, f"{name} <= {threshold:g}", half_width)


def published_and_ours(published: Judgement, ours: Judgement) -> Judgement:
    """Combine published cells with paired runs of small networks, whose world is not the published one.

    Published cells can refute a claim. Our runs cannot: a small world that shows the opposite of a published table
    makes the claim inconclusive. It holds only where both do.

    Args:
        published: verdict of the published cells.
        ours: verdict of our runs.

    Returns:
        The combined verdict, with a threshold that names both halves, and the numbers of our runs unless the published
        cells decide.

    Example:
        >>> table = at_least(4, 4, name="columns won")
        >>> published_and_ours(table, at_least(-2, 0, name="gain")).verdict
        'inconclusive'
    """
    text = f"published, {published.verdict}: {published.threshold}; ours, {ours.verdict}: {ours.threshold}"
    weakened = replace(ours, verdict="inconclusive") if ours.verdict == "refuted" else ours
    verdict = worst([published, weakened]).verdict
    return replace(weakened if weakened.verdict == verdict else published, threshold=text)


def in_half_widths(distance: float, half_width: float) -> float:
    """A distance in units of the half-width of an interval; infinite, or 0 for 0, where the interval is a point."""
    if half_width > 0:
        return float(distance / half_width)
    return float(np.copysign(np.inf, distance)) if distance else 0.0


def _compare(value: float, threshold: float, sign: float, text: str, half_width: float) -> Judgement:
    """Holds if `sign` times the excess of value over threshold is not negative."""
    if np.isnan(value):
        raise ValueError("`value` must be a number, got NaN.")
    excess = sign * (value - threshold) if value != threshold else 0.0
    if not np.isnan(half_width):
        distance = in_half_widths(excess, half_width)
    else:
        # Nothing is relative to a threshold of zero.
        distance = in_half_widths(excess, min(abs(value), abs(threshold))) if threshold else float("nan")
    return Judgement("holds" if excess >= 0 else "refuted", float(value), threshold=text, distance=distance)


def _space(unit: str) -> str:
    return f" {unit}" if unit else ""
