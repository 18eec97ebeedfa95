r"""Class-count profiles, and all that follows from the counts alone: ratios, priors, weights, margins.

The vector of class counts is the currency of the library. Everything here is NumPy in double precision; weights and
margins are computed once, here, and never again in the precision of a training step.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from lt_lib._checks import (
    check_counts,
    check_fraction,
    check_integer,
    check_known,
    check_permutation,
    check_real,
)
from lt_lib._typing import Counts, PerClassArray

EmptyPolicy = Literal["raise", "zero", "one"]
WeightScheme = Literal["none", "inverse", "inverse_sqrt", "effective_number"]

_EMPTY_POLICIES = ("raise", "zero", "one")
_BETA_POLICIES = ("warn", "ignore")
_WEIGHT_SCHEMES = ("none", "inverse", "inverse_sqrt", "effective_number")


class BetaWarning(UserWarning):
    """The effective-number parameter does nothing for these counts, or nothing beyond inverse frequency."""


def exponential_counts(n_max: int, num_classes: int, imbalance_ratio: float) -> Counts:
    r"""Long-tailed profile: counts that fall geometrically from class 0 to the last class.

    .. math:: n_i = \lfloor n_{\max}\, \rho^{-i/(C-1)} \rfloor, \quad i = 0, \dots, C-1

    Args:
        n_max: samples of class 0, the largest.
        num_classes: number of classes $C$, at least 2.
        imbalance_ratio: nominal $\rho = \max/\min \ge 1$. The cut to whole samples can make the realised ratio larger
            (CIFAR-100 at 200 realises 250); `imbalance_ratio` the function gives that.

    Returns:
        Whole counts, largest first.

    Raises:
        ValueError: a ratio below 1, or one so large that the last class would keep no sample.

    Example:
        >>> exponential_counts(5000, 10, 100)
        array([5000, 2997, 1796, 1077,  645,  387,  232,  139,   83,   50])

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, section 5.1; same numbers as
        the code of that paper and of Cao et al., NeurIPS 2019. Departs in one point: a value that is a whole number up
        to rounding (49 samples at ratio 49) is not cut to the number below.
    """
    n_max, num_classes, imbalance_ratio = _check_profile(n_max, num_classes, imbalance_ratio)
    exponents = np.arange(num_classes) / (num_classes - 1)
    return _truncate(n_max * (1.0 / imbalance_ratio) ** exponents)


def step_counts(n_max: int, num_classes: int, imbalance_ratio: float, minority_fraction: float = 0.5) -> Counts:
    r"""Step profile: majority classes with `n_max` samples each, then minority classes with `n_max` / ratio.

    Args:
        n_max: samples of every majority class.
        num_classes: number of classes $C$, at least 2.
        imbalance_ratio: nominal $\rho \ge 1$; minority classes get $\lfloor n_{\max}/\rho \rfloor$.
        minority_fraction: $\mu$ in (0, 1), share of minority classes. $\mu C$ is rounded up, so an odd number of
            classes has one more minority class, and there are always `num_classes` entries.

    Raises:
        ValueError: a fraction that leaves no minority or no majority class, or a ratio that empties the minority.

    Example:
        >>> step_counts(5000, 5, 100)
        array([5000, 5000,   50,   50,   50])

    References:
        Buda et al., "A systematic study of the class imbalance problem", Neural Networks 2018; Cao et al., NeurIPS
        2019, section 4. Their code drops a class when the number of classes is odd.
    """
    n_max, num_classes, imbalance_ratio = _check_profile(n_max, num_classes, imbalance_ratio)
    check_fraction(minority_fraction, "minority_fraction")
    # The small slack undoes products such as 0.07 * 100 = 7.000000000000001, which must not add a class.
    num_minority = int(np.ceil(minority_fraction * num_classes - 1e-9))
    if not 0 < num_minority < num_classes:
        raise ValueError(
            f"`minority_fraction` must leave at least one minority and one majority class of {num_classes}, "
            f"got {minority_fraction}."
        )
    sizes = np.full(num_classes, float(n_max))
    sizes[num_classes - num_minority :] = n_max * (1.0 / imbalance_ratio)
    return _truncate(sizes)


def listed_counts(class_counts: Sequence[int] | np.ndarray) -> Counts:
    """Profile given as a list: the same numbers, checked, as an int64 vector.

    Raises:
        ValueError: an empty list, a negative or fractional count, or counts that are all zero.
        TypeError: something other than numbers.

    Example:
        >>> listed_counts([30, 20, 0])
        array([30, 20,  0])
    """
    return check_counts(class_counts)


def permute_counts(class_counts: Any, class_order: Any) -> Counts:
    """Hand the counts out to classes in another order: class `class_order[rank]` gets `class_counts[rank]`.

    Args:
        class_counts: counts by rank.
        class_order: each class once; with largest-first counts, the classes from head to tail.

    Raises:
        ValueError: `class_order` is not a permutation of the classes.

    Example:
        >>> permute_counts([100, 10, 1], [2, 0, 1])
        array([ 10,   1, 100])
    """
    counts = check_counts(class_counts)
    order = check_permutation(class_order, "class_order", counts.size)
    permuted = np.empty_like(counts)
    permuted[order] = counts
    return permuted


def imbalance_ratio(class_counts: Any) -> float:
    """Realised ratio of the largest to the smallest class, at least 1.

    Raises:
        ValueError: a class without samples (the ratio would be infinite).

    Example:
        >>> imbalance_ratio(exponential_counts(500, 100, 200))
        250.0
    """
    counts = check_counts(class_counts, allow_empty_classes=False)
    return float(counts.max() / counts.min())


def class_prior(class_counts: Any) -> PerClassArray:
    """Share of each class among the samples; sums to 1.

    Example:
        >>> class_prior([6, 3, 1])
        array([0.6, 0.3, 0.1])
    """
    counts = check_counts(class_counts)
    # Summed as floats: the whole numbers can add up to more than int64 holds.
    return counts / counts.sum(dtype=np.float64)


def shot_groups(class_counts: Any, many: int = 100, few: int = 20) -> dict[str, np.ndarray]:
    """Classes by number of training samples: many (> `many`), medium (`few` to `many`), few (< `few`).

    Returns:
        Class indices under "many", "medium" and "few", each sorted; a group without classes is an empty array.

    Raises:
        ValueError: `few` is not between 0 and `many`.

    Example:
        >>> {group: classes.tolist() for group, classes in shot_groups([500, 100, 20, 19]).items()}
        {'many': [0], 'medium': [1, 2], 'few': [3]}

    References:
        Liu et al., "Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019, section 4.1.
    """
    counts = check_counts(class_counts)
    check_integer(many, "many", minimum=0)
    check_integer(few, "few", minimum=0, maximum=many)
    return {
        "many": np.flatnonzero(counts > many),
        "medium": np.flatnonzero((counts >= few) & (counts <= many)),
        "few": np.flatnonzero(counts < few),
    }


def effective_number(class_counts: Any, beta: float, *, empty: EmptyPolicy = "raise") -> PerClassArray:
    r"""Expected volume covered by $n$ samples of unit volume in a space of volume $N = 1/(1-\beta)$.

    .. math:: E_n = \frac{1-\beta^n}{1-\beta} = \frac{-\mathrm{expm1}(n \log \beta)}{1-\beta}

    Args:
        class_counts: $n$, whole numbers.
        beta: $\beta$ in [0, 1]. 0 gives 1 for every class; 1 gives $n$, the limit.
        empty: a class without samples "raise"s an error, or gets the formula's own value "zero", or counts as "one"
            sample.

    Returns:
        $E_n$ with a relative error of some 1e-16 for every $\beta$ and $n$; at most $\min(n, N)$ up to rounding.

    Raises:
        ValueError: `beta` outside [0, 1], or an empty class under "raise".

    Example:
        >>> effective_number([1, 10, 1000], 0.9).round(4)
        array([ 1.    ,  6.5132, 10.    ])

    References:
        Cui et al., CVPR 2019, proposition 1. The authors' code evaluates the first form, which is 0/0 at $\beta = 1$
        and loses digits near it; here $1-\beta$ is exact (Sterbenz) and nothing cancels.
    """
    filled = _fill_empty(check_counts(class_counts), empty)
    return _effective_number(filled, check_fraction(beta, "beta"))


def class_balanced_weights(
    class_counts: Any,
    beta: float,
    *,
    empty: EmptyPolicy = "raise",
    on_ineffective_beta: Literal["warn", "ignore"] = "warn",
) -> PerClassArray:
    r"""Weights inversely proportional to the effective number, scaled to sum to the number of classes.

    .. math:: w_c = C\, \frac{1/E_{n_c}}{\sum_k 1/E_{n_k}}

    Args:
        class_counts: training samples per class.
        beta: $\beta$ in [0, 1]. 0 gives all ones; towards 1 the weights become inverse frequency.
        empty: as in `effective_number`; under "zero" an empty class gets weight 0 and the others share the sum.
        on_ineffective_beta: what to do when `beta` does nothing for these counts.

    Raises:
        ValueError: `beta` outside [0, 1], or an empty class under "raise".

    Warns:
        BetaWarning: the ratio of the counts exceeds 2, and the weights are flat (largest over smallest below 1.01) or
            within 1 % of inverse frequency.

    Example:
        >>> class_balanced_weights([5000, 500, 50], 0.999).round(3)
        array([0.126, 0.317, 2.557])

    References:
        Cui et al., CVPR 2019, section 4. With this scale the mean weight of a *sample* is far below 1, and the loss
        shrinks with it; see the normalisation argument of the losses.
    """
    check_known(on_ineffective_beta, "on_ineffective_beta", _BETA_POLICIES)
    counts = check_counts(class_counts)
    beta = check_fraction(beta, "beta")
    filled = _fill_empty(counts, empty)
    weights = _inverse_scaled(_effective_number(filled, beta))
    if on_ineffective_beta == "warn":
        _warn_if_ineffective(filled, weights, beta)
    return weights


def inverse_frequency_weights(class_counts: Any, power: float = 1.0, *, empty: EmptyPolicy = "raise") -> PerClassArray:
    r"""Weights proportional to $n_c^{-\mathrm{power}}$, scaled to sum to the number of classes.

    Args:
        class_counts: training samples per class.
        power: at least 0; 0 gives all ones, 0.5 the square-root rule, 1 inverse frequency.
        empty: as in `class_balanced_weights`.

    Raises:
        ValueError: a negative `power`, or an empty class under "raise".

    Example:
        >>> inverse_frequency_weights([100, 25], power=0.5).round(3)
        array([0.667, 1.333])
    """
    power = check_real(power, "power", minimum=0.0)
    filled = _fill_empty(check_counts(class_counts), empty)
    # Relative to the smallest class, so that a large power cannot underflow everywhere at once.
    present = filled > 0
    sizes = np.zeros_like(filled)
    sizes[present] = (filled[present] / filled[present].min()) ** power
    return _inverse_scaled(sizes)


def class_weights(
    class_counts: Any,
    scheme: WeightScheme,
    *,
    beta: float | None = None,
    empty: EmptyPolicy = "raise",
    on_ineffective_beta: Literal["warn", "ignore"] = "warn",
) -> PerClassArray:
    """Loss weights by name; every scheme sums to the number of classes.

    Args:
        class_counts: training samples per class.
        scheme: "none" (all ones), "inverse", "inverse_sqrt" or "effective_number".
        beta: effective-number parameter, required by that scheme and refused by the others.
        empty: as in `class_balanced_weights`; "none" gives empty classes a one like all others.
        on_ineffective_beta: as in `class_balanced_weights`; only that scheme has a beta.

    Raises:
        ValueError: unknown scheme, `empty` or `on_ineffective_beta`, missing or superfluous `beta`.

    Example:
        >>> class_weights([90, 10], "inverse")
        array([0.2, 1.8])
    """
    check_known(scheme, "scheme", _WEIGHT_SCHEMES)
    check_known(empty, "empty", _EMPTY_POLICIES)
    check_known(on_ineffective_beta, "on_ineffective_beta", _BETA_POLICIES)
    if scheme == "effective_number":
        if beta is None:
            raise ValueError("`beta` must be given for the scheme 'effective_number', got None.")
        return class_balanced_weights(class_counts, beta, empty=empty, on_ineffective_beta=on_ineffective_beta)
    if beta is not None:
        raise ValueError(f"`beta` must be None for the scheme {scheme!r}, got {beta}.")
    if scheme == "none":
        return np.ones(check_counts(class_counts).size)
    return inverse_frequency_weights(class_counts, power=1.0 if scheme == "inverse" else 0.5, empty=empty)


def ldam_margins(class_counts: Any, max_margin: float = 0.5) -> PerClassArray:
    r"""Label-distribution-aware margins: the rarer the class, the wider.

    .. math:: \Delta_c = \Delta_{\max} \left(\frac{\min_k n_k}{n_c}\right)^{1/4}

    Args:
        class_counts: training samples per class, none empty.
        max_margin: $\Delta_{\max} \ge 0$, margin of the rarest class, in units of the (cosine) logits; 0 gives no
            margins.

    Raises:
        ValueError: an empty class, or a negative `max_margin`.

    Example:
        >>> ldam_margins([10_000, 16, 1])
        array([0.05, 0.25, 0.5 ])

    References:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019, eq. (13);
        the scale to a largest margin is the authors' practice. Matches their code.
    """
    counts = check_counts(class_counts, allow_empty_classes=False)
    max_margin = check_real(max_margin, "max_margin", minimum=0.0)
    return max_margin * (counts.min() / counts) ** 0.25


def _check_profile(n_max: Any, num_classes: Any, ratio: Any) -> tuple[int, int, float]:
    n_max = check_integer(n_max, "n_max", minimum=1)
    num_classes = check_integer(num_classes, "num_classes", minimum=2)
    ratio = check_real(ratio, "imbalance_ratio", minimum=1.0)
    if ratio > n_max:
        raise ValueError(
            f"`imbalance_ratio` must be at most `n_max` = {n_max}, so that every class keeps a sample, got {ratio:g}."
        )
    return n_max, num_classes, ratio


def _truncate(sizes: np.ndarray) -> Counts:
    nearest = np.rint(sizes)
    whole = np.abs(sizes - nearest) <= 1e-12 * nearest
    return np.where(whole, nearest, np.floor(sizes)).astype(np.int64)


def _fill_empty(counts: Counts, empty: str) -> PerClassArray:
    check_known(empty, "empty", _EMPTY_POLICIES)
    if empty == "raise":
        counts = check_counts(counts, allow_empty_classes=False)
    elif empty == "one":
        counts = np.maximum(counts, 1)
    return counts.astype(np.float64)


def _effective_number(sizes: PerClassArray, beta: float) -> PerClassArray:
    if beta == 1.0:
        return sizes.copy()
    if beta == 0.0:
        return np.minimum(sizes, 1.0)
    return -np.expm1(sizes * np.log(beta)) / (1.0 - beta)


def _inverse_scaled(sizes: PerClassArray) -> PerClassArray:
    """Inverse sizes that sum to the number of classes; size 0 gets weight 0."""
    inverse = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0)
    return inverse * (sizes.size / inverse.sum())


def _warn_if_ineffective(sizes: PerClassArray, weights: PerClassArray, beta: float) -> None:
    present = sizes > 0
    sizes, weights = sizes[present], weights[present]
    ratio = sizes.max() / sizes.min()
    if ratio <= 2.0:
        return
    span = f"counts from {sizes.min():g} to {sizes.max():g}"
    if weights.max() / weights.min() < 1.01:
        told = f"flat for {span}; only a larger beta tells these classes apart."
    elif np.all(np.abs(weights * sizes / (weights * sizes).mean() - 1.0) < 0.01):
        told = f"within 1 % of inverse frequency for {span}; only a smaller beta differs from it."
    else:
        return
    warnings.warn(
        f"`beta` = {beta!r} leaves the class-balanced weights {told}",
        BetaWarning,
        stacklevel=3,
    )
