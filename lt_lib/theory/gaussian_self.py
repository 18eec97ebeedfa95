r"""Two centred Gaussians that differ only in spread: what no linear classifier can do, and a learned feature can.

Model: $Y = +1$ with probability $p_+ \le 1/2$, else $-1$; $X \mid +1 \sim N(0, \sigma^2 I_d)$ and
$X \mid -1 \sim N(0, v \sigma^2 I_d)$ with the same $\sigma$ and $v > 1$. The feature is $Z = k_1 \|X\|^2 + k_2$ with
$k_1, k_2 > 0$; the classifier is $\operatorname{sign}(b - Z)$ with $b$ halfway between the class means of $Z$ in the
training set, which holds $N_+$ and $N_-$ samples. The ratio of variances $v$ is written $\beta$ in the paper.

Nothing depends on $k_1$, $k_2$ and $\sigma$, so thresholds are given as $t = (b - k_2)/(k_1 \sigma^2)$. The training
set enters only by two sums of squares, $Q_\pm \sim \chi^2_{N_\pm d}$:

.. math:: t = \frac12 \Bigl( \frac{Q_+}{N_+} + v\, \frac{Q_-}{N_-} \Bigr)

Arguments that are called "number or array" broadcast against each other.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lt_lib._checks import check_all, check_integer, check_positive, check_real, check_real_array
from lt_lib.theory._arguments import check_above, check_extended, check_open_shares, check_shares, check_whole
from lt_lib.theory._chi_square import above, below, root_density

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


# A linear classifier


def linear_error(
    offset: npt.ArrayLike,
    variance_ratio: npt.ArrayLike,
    positive_prior: npt.ArrayLike,
    *,
    mean_shift: npt.ArrayLike = 0.0,
) -> Array:
    r"""Error of $\operatorname{sign}(\langle\theta, X\rangle + b)$.

    .. math:: p_+ \Phi(-a) + p_- \Phi\Bigl(\frac{a + m}{\sqrt v}\Bigr), \qquad
              a = \frac{b}{\|\theta\| \sigma}, \; m = \frac{\langle\theta, \mu_-\rangle}{\|\theta\| \sigma}

    Model: that of the module for $m = 0$; else the negatives have the mean $\mu_-$.
    Status: exact.
    Source: Yang & Xu, "Rethinking the value of labels for improving class-imbalanced learning", NeurIPS 2020,
        theorem 2. Erratum E64: the slides print negatives with a mean $\mu_2$ of their own; the theorem then fails.

    Args:
        offset: $a$, number or array; infinite values are the two constant classifiers.
        variance_ratio: $v > 1$, number or array.
        positive_prior: $p_+$ in (0, 1/2], number or array.
        mean_shift: $m$, number or array.

    Returns:
        Shape of the arguments together. 1/2 at $a = m = 0$; $p_+$ for $a \to -\infty$, $p_-$ for $a \to \infty$.

    Example:
        >>> linear_error([-np.inf, 0.0, np.inf], 5.0, 0.1)
        array([0.1, 0.5, 0.9])
    """
    from scipy.special import ndtr

    a, m = check_extended(offset, "offset"), check_real_array(mean_shift, "mean_shift")
    v, p = _variance_ratio(variance_ratio), _prior(positive_prior)
    return np.asarray(p * ndtr(-a) + (1 - p) * ndtr((a + m) / np.sqrt(v)))


def linear_infimum(
    variance_ratio: npt.ArrayLike, positive_prior: npt.ArrayLike, *, mean_distance: npt.ArrayLike = 0.0
) -> Array:
    r"""Least error of a linear classifier with $b \ge 0$.

    .. math:: \inf_{a \ge 0}\; p_+ \Phi(-a) + p_- \Phi\Bigl(\frac{a - D}{\sqrt v}\Bigr)

    The derivative vanishes where the two weighted densities cross, at the roots of a quadratic in $a$; for $D = 0$ at
    $a^2 = 2 \ln(p_+ \sqrt v / p_-) / (1 - 1/v)$ if $p_+ \sqrt v > p_-$, and otherwise the infimum is 1/2 at $a = 0$.

    Model: as `linear_error`; $D = \|\mu_-\|/\sigma$, and $\theta$ points away from $\mu_-$, which is best.
    Status: exact. At least 1/4 for $D = 0$ and $p_+ \le 1/2$ (theorem 2), reached only for $p_+ = 1/2$, $v \to \infty$.
        Without the sign condition the infimum is at most $p_+$, that of the majority classifier $b \to -\infty$.
    Source: Yang & Xu, NeurIPS 2020, theorem 2, whose proof bounds the second term by $p_-/2$.

    Args:
        variance_ratio: $v > 1$, number or array.
        positive_prior: $p_+$ in (0, 1/2], number or array.
        mean_distance: $D \ge 0$, number or array.

    Returns:
        Shape of the arguments together.

    Example:
        >>> linear_infimum([3.5, 100.0, 1e12], [0.1, 0.1, 0.5]).round(3)
        array([0.5  , 0.499, 0.25 ])
    """
    v, p = _variance_ratio(variance_ratio), _prior(positive_prior)
    distance = check_above(mean_distance, "mean_distance", inclusive=True)
    v, p, distance = np.broadcast_arrays(v, p, distance)
    # log p+ - a^2/2 = log p- - log(v)/2 - (a - D)^2/(2v), ordered as q2 a^2 + q1 a + q0 = 0
    q2, q1 = (1 - 1 / v) / 2, distance / v
    q0 = np.log((1 - p) / p) - np.log(v) / 2 - distance**2 / (2 * v)
    root = np.sqrt(np.maximum(q1**2 - 4 * q2 * q0, 0.0))
    candidates = [np.zeros(v.shape), np.maximum((-q1 + root) / (2 * q2), 0.0), np.maximum((-q1 - root) / (2 * q2), 0.0)]
    candidates.append(np.full(v.shape, np.inf))
    errors = [linear_error(a, v, p, mean_shift=-distance) for a in candidates]
    return np.asarray(np.min(errors, axis=0))


def sample_linear_error(
    offset: float,
    variance_ratio: float,
    positive_prior: float,
    dim: int,
    num_samples: int,
    rng: np.random.Generator,
    *,
    mean_distance: float = 0.0,
) -> tuple[float, float]:
    r"""Error of a linear classifier on drawn points, without any formula.

    Model: as `linear_error`; $\theta$ is a random direction, and $\mu_-$ lies at distance $D$ opposite to it.
    Status: Monte Carlo.

    Args:
        offset: $a$.
        variance_ratio: $v > 1$.
        positive_prior: $p_+$ in (0, 1/2].
        dim: $d \ge 1$.
        num_samples: points, >= 2.
        rng: generator.
        mean_distance: $D \ge 0$.

    Returns:
        Error and its standard error.

    Example:
        >>> error, _ = sample_linear_error(1.0, 5.0, 0.1, 3, 10_000, np.random.default_rng(0))
        >>> abs(error - linear_error(1.0, 5.0, 0.1)) < 0.02
        np.True_
    """
    v, p = float(_variance_ratio(variance_ratio)), float(_prior(positive_prior))
    check_integer(dim, "dim", minimum=1)
    check_integer(num_samples, "num_samples", minimum=2)
    theta = rng.standard_normal(dim)
    theta /= np.linalg.norm(theta)
    positive = rng.random(num_samples) < p
    x = rng.standard_normal((num_samples, dim)) * np.where(positive, 1.0, np.sqrt(v))[:, None]
    x[~positive] -= check_real(mean_distance, "mean_distance", minimum=0.0) * theta
    wrong = (x @ theta + check_real(offset, "offset") >= 0) != positive
    return float(wrong.mean()), float(max(wrong.std(ddof=1), 1 / num_samples) / np.sqrt(num_samples))


# The classifier on the squared norm


def squared_norm_feature(inputs: npt.ArrayLike, k1: float = 1.0, k2: float = 1.0) -> Array:
    r"""The learned representation, $Z = k_1 \|X\|^2 + k_2$.

    Source: Yang & Xu, NeurIPS 2020, section 3.1; a stand-in for what a pretext task would find.

    Args:
        inputs: shape `(..., dim)`.
        k1: $> 0$.
        k2: $> 0$.

    Returns:
        Shape `(...)`.

    Example:
        >>> squared_norm_feature([[3.0, 4.0], [0.0, 1.0]], 2.0, 1.0)
        array([51.,  3.])
    """
    x = check_real_array(inputs, "inputs")
    if x.ndim == 0:
        raise ValueError("`inputs` must have shape (..., dim), got a number.")
    return np.asarray(check_positive(k1, "k1") * np.sum(x**2, axis=-1) + check_positive(k2, "k2"))


def midpoint(positive_features: npt.ArrayLike, negative_features: npt.ArrayLike) -> float:
    r"""Learned threshold $b = \frac12 (\bar Z_+ + \bar Z_-)$; a point is called positive when $Z < b$.

    Source: Yang & Xu, NeurIPS 2020, section 3.1.

    Args:
        positive_features: $Z$ of the positives in the training set, at least one.
        negative_features: $Z$ of the negatives, at least one.

    Example:
        >>> midpoint([1.0, 3.0], [10.0])
        6.0
    """
    features = {"positive_features": positive_features, "negative_features": negative_features}
    parts = [check_real_array(values, name) for name, values in features.items()]
    for name, part in zip(features, parts, strict=True):
        if part.ndim != 1 or part.size == 0:
            raise ValueError(f"`{name}` must be a vector with at least one entry, got shape {part.shape}.")
    return float((parts[0].mean() + parts[1].mean()) / 2)


def draw_thresholds(
    variance_ratio: npt.ArrayLike,
    dim: npt.ArrayLike,
    positives: npt.ArrayLike,
    negatives: npt.ArrayLike,
    num_draws: int,
    rng: np.random.Generator,
) -> Array:
    r"""Thresholds $t$ learned from independent training sets.

    Model: that of the module. Two chi-square sums per training set, however many samples and dimensions it has.
    Status: exact law; random.

    Args:
        variance_ratio: $v > 1$, number or array.
        dim: $d \ge 1$, number or array.
        positives: $N_+ \ge 1$, number or array.
        negatives: $N_- \ge 1$, number or array.
        num_draws: training sets, >= 1.
        rng: generator.

    Returns:
        Shape of the arguments together, with a last axis of length `num_draws`.

    Example:
        >>> t = draw_thresholds(5.0, 50, 5, 500, 1000, np.random.default_rng(0))
        >>> t.shape, round(float(t.mean()))  # d (1 + v)/2
        ((1000,), 150)
    """
    v, d = _variance_ratio(variance_ratio), check_whole(dim, "dim")
    n_pos, n_neg = check_whole(positives, "positives"), check_whole(negatives, "negatives")
    v, d, n_pos, n_neg = (a[..., None] for a in np.broadcast_arrays(v, d, n_pos, n_neg))
    shape = (*v.shape[:-1], check_integer(num_draws, "num_draws", minimum=1))
    means = rng.chisquare(n_pos * d, shape) / n_pos, rng.chisquare(n_neg * d, shape) / n_neg
    return np.asarray((means[0] + v * means[1]) / 2)


def class_errors(threshold: npt.ArrayLike, variance_ratio: npt.ArrayLike, dim: npt.ArrayLike) -> tuple[Array, Array]:
    r"""Share of the positives and of the negatives that a threshold puts on the wrong side.

    .. math:: P(\chi^2_d > t), \qquad P(\chi^2_d < t/v)

    Status: exact.

    Args:
        threshold: $t \ge 0$, number or array.
        variance_ratio: $v > 1$, number or array.
        dim: $d \ge 1$, number or array.

    Returns:
        Two arrays of the shape of the arguments together.

    Example:
        >>> [float(e.round(4)) for e in class_errors(4.0, 2.0, 2)]  # exp(-t/2), 1 - exp(-t/2v)
        [0.1353, 0.6321]
    """
    t = check_above(threshold, "threshold", inclusive=True)
    v, d = _variance_ratio(variance_ratio), check_whole(dim, "dim")
    return above(d, t), below(d, t / v)


def classifier_error(
    threshold: npt.ArrayLike, variance_ratio: npt.ArrayLike, dim: npt.ArrayLike, positive_prior: npt.ArrayLike
) -> Array:
    r"""Test error at a threshold, $p_+ P(\chi^2_d > t) + p_- P(\chi^2_d < t/v)$.

    Status: exact. Falls in $t$ up to `best_threshold`, rises beyond.

    Args:
        threshold: $t \ge 0$, number or array.
        variance_ratio: $v > 1$, number or array.
        dim: $d \ge 1$, number or array.
        positive_prior: $p_+$ in (0, 1/2], number or array.

    Example:
        >>> classifier_error([0.0, 12.0], 5.0, 4, 0.1).round(4)
        array([0.1   , 0.3054])
    """
    p = _prior(positive_prior)
    on_positives, on_negatives = class_errors(threshold, variance_ratio, dim)
    return np.asarray(p * on_positives + (1 - p) * on_negatives)


def best_threshold(variance_ratio: npt.ArrayLike, dim: npt.ArrayLike, positive_prior: npt.ArrayLike) -> Array:
    r"""Threshold of the Bayes rule, where the two weighted densities cross.

    .. math:: t^* = \max\Bigl(0,\; \frac{v}{v - 1} \bigl( d \ln v + 2 \ln (p_+/p_-) \bigr) \Bigr)

    Status: exact. The midpoint tends to $d (1 + v)/2$ instead: it knows nothing of the prior.
    Source: likelihood ratio of the model; not in the paper.

    Args:
        variance_ratio: $v > 1$, number or array.
        dim: $d \ge 1$, number or array.
        positive_prior: $p_+$ in (0, 1/2], number or array.

    Example:
        >>> best_threshold(5.0, [1, 100], 0.5).round(2)
        array([  2.01, 201.18])
    """
    v, d, p = _variance_ratio(variance_ratio), check_whole(dim, "dim"), _prior(positive_prior)
    return np.asarray(np.maximum(v / (v - 1) * (d * np.log(v) + 2 * np.log(p / (1 - p))), 0.0))


# Theorem 3


def branch_switch(variance_ratio: npt.ArrayLike) -> Array:
    r"""$(v - 3)/(v + 1)$: below this $\delta$ the positive class has the exponential branch; negative for $v < 3$.

    Example:
        >>> branch_switch([2.0, 3.0, 7.0]).round(3)
        array([-0.333,  0.   ,  0.5  ])
    """
    v = _variance_ratio(variance_ratio)
    return np.asarray((v - 3) / (v + 1))


def max_delta(variance_ratio: npt.ArrayLike) -> Array:
    r"""$(v - 1)/(v + 1)$: theorem 3 speaks about $\delta$ below this, where the threshold window excludes both means.

    Example:
        >>> max_delta([2.0, 3.0, 7.0]).round(3)
        array([0.333, 0.5  , 0.75 ])
    """
    v = _variance_ratio(variance_ratio)
    return np.asarray((v - 1) / (v + 1))


def threshold_window(variance_ratio: npt.ArrayLike, dim: npt.ArrayLike, delta: npt.ArrayLike) -> tuple[Array, Array]:
    r"""Ends of the window $t \in (1 \mp \delta)\, d\, (1 + v)/2$.

    Status: holds whenever both class means of $\|X\|^2$ are within the factor $1 \pm \delta$ of their expectation.
    Source: Yang & Xu, NeurIPS 2020, first step of the proof of theorem 3.

    Args:
        variance_ratio: $v > 1$, number or array.
        dim: $d \ge 1$, number or array.
        delta: in $(0, (v - 1)/(v + 1))$, number or array.

    Example:
        >>> [float(end) for end in threshold_window(5.0, 10, 0.5)]
        [15.0, 45.0]
    """
    v, d = _variance_ratio(variance_ratio), check_whole(dim, "dim")
    half = _delta(delta, v)
    centre = d * (1 + v) / 2
    return np.asarray((1 - half) * centre), np.asarray((1 + half) * centre)


class ErrorBound(NamedTuple):
    """Theorem 3's bound on the error and its parts: `total` is the prior-weighted sum of the two class bounds."""

    total: Array
    on_positives: Array
    on_negatives: Array
    exponential_branch: Bools


def error_bound(
    variance_ratio: npt.ArrayLike, dim: npt.ArrayLike, delta: npt.ArrayLike, positive_prior: npt.ArrayLike
) -> ErrorBound:
    r"""Theorem 3's bound on the test error.

    .. math:: p_+ e^{-d g^2/32} + p_- e^{-d g^2/(32 v^2)} \quad \text{if } \delta \ge \tfrac{v - 3}{v + 1}, \qquad
              p_+ e^{-d g/16} + p_- e^{-d g^2/(32 v^2)} \quad \text{below}, \qquad g = v - 1 - (1 + v)\delta

    Model: that of the module; $v > 3$ makes the second branch non-empty, the first needs only $v > 1$.
    Assumptions: the threshold lies in `threshold_window`.
    Status: bound. The branches meet continuously at $g = 2$: a positive is lost when $\chi^2_d/d > 1 + g/2$, and the
        chi-square tail changes from $e^{-d e^2/8}$ to $e^{-d e/8}$ at $e = g/2 = 1$. Always below 1, but often above
        $p_+$, the error of always answering "negative".
    Source: Yang & Xu, NeurIPS 2020, theorem 3.

    Args:
        variance_ratio: $v > 1$, number or array.
        dim: $d \ge 1$, number or array.
        delta: in $(0, (v - 1)/(v + 1))$, number or array.
        positive_prior: $p_+$ in (0, 1/2], number or array.

    Returns:
        `total`; `on_positives` and `on_negatives`, bounds on the conditional errors; `exponential_branch`, where the
        branch linear in $g$ applies.

    Example:
        >>> bound = error_bound(5.0, [20, 200], 0.1, 0.1)
        >>> bound.total.round(2), bound.exponential_branch.tolist()
        (array([0.68, 0.05]), [True, True])
    """
    v, d, p = _variance_ratio(variance_ratio), check_whole(dim, "dim"), _prior(positive_prior)
    g = v - 1 - (1 + v) * _delta(delta, v)
    linear = g > 2
    on_positives = np.where(linear, np.exp(-d * g / 16), np.exp(-d * g**2 / 32))
    on_negatives = np.exp(-d * g**2 / (32 * v**2)) + np.zeros_like(on_positives)
    total = p * on_positives + (1 - p) * on_negatives
    return ErrorBound(total, on_positives, on_negatives, np.broadcast_to(linear, on_positives.shape))


def failure_bound(
    dim: npt.ArrayLike, delta: npt.ArrayLike, positives: npt.ArrayLike, negatives: npt.ArrayLike
) -> Array:
    r"""Bound on the probability that `error_bound` does not cover the error.

    .. math:: 2 e^{-N_- d \delta^2/8} + 2 e^{-N_+ d \delta^2/8}

    Assumptions: $\delta < 1$; the ratio of variances does not enter.
    Status: bound; vacuous from 1 upwards. Kept apart from `success_bound` because 1 minus it loses what is below 1e-16.
    Source: Yang & Xu, NeurIPS 2020, theorem 3.

    Args:
        dim: $d \ge 1$, number or array.
        delta: in (0, 1), number or array.
        positives: $N_+ \ge 1$, number or array.
        negatives: $N_- \ge 1$, number or array.

    Example:
        >>> failure_bound(100, 0.5, [1, 4], 40).round(6)
        array([8.7874e-02, 7.0000e-06])
    """
    rate = check_whole(dim, "dim") * check_open_shares(delta, "delta") ** 2 / 8
    n_pos, n_neg = check_whole(positives, "positives"), check_whole(negatives, "negatives")
    return np.asarray(2 * np.exp(-n_neg * rate) + 2 * np.exp(-n_pos * rate))


def success_bound(
    dim: npt.ArrayLike, delta: npt.ArrayLike, positives: npt.ArrayLike, negatives: npt.ArrayLike
) -> Array:
    r"""Theorem 3's bound on the probability that `error_bound` covers the error, 1 minus `failure_bound`.

    Status: bound; vacuous where not positive (`theorem_three` flags it).
    Source: Yang & Xu, NeurIPS 2020, theorem 3.

    Args:
        dim: $d \ge 1$, number or array.
        delta: in (0, 1), number or array.
        positives: $N_+ \ge 1$, number or array.
        negatives: $N_- \ge 1$, number or array.

    Example:
        >>> success_bound(100, 0.5, [1, 4], 40).round(3)
        array([0.912, 1.   ])
    """
    return np.asarray(1 - failure_bound(dim, delta, positives, negatives))


class TheoremThree(NamedTuple):
    """Both halves of theorem 3, and where they say nothing."""

    error: ErrorBound
    probability: Array
    vacuous: Bools
    beaten_by_majority: Bools


def theorem_three(
    variance_ratio: npt.ArrayLike,
    dim: npt.ArrayLike,
    delta: npt.ArrayLike,
    positives: npt.ArrayLike,
    negatives: npt.ArrayLike,
    positive_prior: npt.ArrayLike,
) -> TheoremThree:
    r"""`error_bound` and `success_bound` on one grid, with flags.

    Status: bound.
    Source: Yang & Xu, NeurIPS 2020, theorem 3.

    Args:
        variance_ratio: $v > 1$, number or array.
        dim: $d \ge 1$, number or array.
        delta: in $(0, (v - 1)/(v + 1))$, number or array.
        positives: $N_+ \ge 1$, number or array.
        negatives: $N_- \ge 1$, number or array.
        positive_prior: $p_+$ in (0, 1/2], number or array.

    Returns:
        `vacuous`: the probability is not above 0, or the error bound not below 1; `beaten_by_majority`: the error bound
        is not below $p_+$, so that the constant answer "negative" is certified to be at least as good.

    Example:
        >>> theorem_three(5.0, [5, 2000], 0.1, 5, 500, 0.1).vacuous.tolist()
        [True, False]
    """
    error = error_bound(variance_ratio, dim, delta, positive_prior)
    probability = success_bound(dim, delta, positives, negatives)
    vacuous = (probability <= 0) | (error.total >= 1)
    beaten = (error.total >= _prior(positive_prior)) | np.zeros_like(vacuous)
    return TheoremThree(error, probability, vacuous, beaten)


def required_samples(dim: npt.ArrayLike, delta: npt.ArrayLike, failure: npt.ArrayLike) -> Array:
    r"""Samples of each class that make theorem 3 fail with probability at most $\eta$.

    .. math:: N_\pm \ge \frac{8 \ln (4/\eta)}{d\, \delta^2}

    Status: sufficient, not necessary: solves `success_bound` $= 1 - \eta$ for $N_+ = N_-$. Round up for a count.
    Source: follows from Yang & Xu, NeurIPS 2020, theorem 3.

    Args:
        dim: $d \ge 1$, number or array.
        delta: in (0, 1), number or array.
        failure: $\eta$ in (0, 1), number or array.

    Example:
        >>> np.ceil(required_samples([10, 100, 1000], 1 / 3, 0.05))
        array([32.,  4.,  1.])
    """
    eta = check_open_shares(failure, "failure")
    return np.asarray(8 * np.log(4 / eta) / (check_whole(dim, "dim") * check_open_shares(delta, "delta") ** 2))


def delta_for_failure(
    dim: npt.ArrayLike, positives: npt.ArrayLike, negatives: npt.ArrayLike, failure: npt.ArrayLike
) -> Array:
    r"""Smallest $\delta$ at which the failure bound of theorem 3 is $\eta$, by bisection.

    .. math:: 2 e^{-N_- d \delta^2/8} + 2 e^{-N_+ d \delta^2/8} = \eta

    Status: numerical, to 1e-12 relative. The best $\delta$ for given counts and a given confidence, because the error
        bound rises with $\delta$. May exceed `max_delta`; then the counts are too small for this confidence.

    Args:
        dim: $d \ge 1$, number or array.
        positives: $N_+ \ge 1$, number or array.
        negatives: $N_- \ge 1$, number or array.
        failure: $\eta$ in (0, 1), number or array.

    Example:
        >>> delta_for_failure(100, [4, 400], 400, 0.05).round(3)
        array([0.272, 0.03 ])
    """
    d, eta = check_whole(dim, "dim"), check_open_shares(failure, "failure")
    d, n_pos, n_neg, eta = np.broadcast_arrays(
        d, check_whole(positives, "positives"), check_whole(negatives, "negatives"), eta
    )
    few = np.minimum(n_pos, n_neg)
    # The rarer class alone gives the lower end, both classes as rare as it the upper one.
    low, high = (np.sqrt(8 * np.log(c / eta) / (few * d)) for c in (2.0, 4.0))
    for _ in range(50):
        middle = (low + high) / 2
        fails = 2 * np.exp(-n_neg * d * middle**2 / 8) + 2 * np.exp(-n_pos * d * middle**2 / 8) > eta
        low, high = np.where(fails, middle, low), np.where(fails, high, middle)
    return np.asarray(high)


def best_delta(
    variance_ratio: npt.ArrayLike,
    dim: npt.ArrayLike,
    positives: npt.ArrayLike,
    negatives: npt.ArrayLike,
    positive_prior: npt.ArrayLike,
    *,
    points: int = 200,
) -> tuple[Array, Array]:
    r"""The $\delta$ that makes theorem 3 say most about the expected error.

    .. math:: \mathbb E[\mathrm{err}] \le \min\Bigl( p_-,\; \min_\delta \Bigl[ \text{error bound}(\delta)
              + p_-\,\min(1, \text{failure bound}(\delta)) \Bigr] \Bigr)

    as no threshold $t \ge 0$ errs with probability above $p_- \ge p_+$.

    Status: numerical minimum over a grid of `points`, refined twice; the value is a bound for every $\delta$.
    Source: follows from Yang & Xu, NeurIPS 2020, theorem 3; the paper leaves $\delta$ free.

    Args:
        variance_ratio: $v > 1$, number or array.
        dim: $d \ge 1$, number or array.
        positives: $N_+ \ge 1$, number or array.
        negatives: $N_- \ge 1$, number or array.
        positive_prior: $p_+$ in (0, 1/2], number or array.
        points: of each grid, >= 3.

    Returns:
        $\delta$ of the inner minimum, and the bound on the expected error; where that is $p_-$, theorem 3 says nothing.

    Example:
        >>> [round(float(value), 3) for value in best_delta(5.0, 1000, 5, 500, 0.1)]
        [0.15, 0.0]
    """
    check_integer(points, "points", minimum=3)
    v, d, p = _variance_ratio(variance_ratio), check_whole(dim, "dim"), _prior(positive_prior)
    n_pos, n_neg = check_whole(positives, "positives"), check_whole(negatives, "negatives")
    v, d, n_pos, n_neg, p = (a[..., None] for a in np.broadcast_arrays(v, d, n_pos, n_neg, p))
    low, high = np.zeros(v.shape), max_delta(v)
    for _ in range(3):
        grid = low + (high - low) * np.arange(1, points + 1) / (points + 1)
        failure = np.minimum(failure_bound(d, grid, n_pos, n_neg), 1.0)
        value = error_bound(v, d, grid, p).total + (1 - p) * failure
        place = np.argmin(value, axis=-1, keepdims=True)
        best, step = np.take_along_axis(grid, place, -1), (high - low) / (points + 1)
        # A cell to each side keeps the refined grid inside the open interval.
        low, high = best - step, best + step
    least = np.minimum(np.take_along_axis(value, place, -1), 1 - p)
    return np.asarray(best[..., 0]), np.asarray(least[..., 0])


# What the bounds are about, exactly


def window_failure(
    dim: npt.ArrayLike, delta: npt.ArrayLike, positives: npt.ArrayLike, negatives: npt.ArrayLike
) -> Array:
    r"""Probability that a class mean of $\|X\|^2$ leaves $(1 \pm \delta)$ of its expectation.

    .. math:: 1 - (1 - u_+)(1 - u_-), \qquad
              u_\pm = P\Bigl( \Bigl| \frac{\chi^2_{N_\pm d}}{N_\pm d} - 1 \Bigr| > \delta \Bigr)

    Status: exact; the event whose probability `success_bound` bounds in the proof of theorem 3. Symmetric in the two
        classes and free of $v$.

    Args:
        dim: $d \ge 1$, number or array.
        delta: in (0, 1), number or array.
        positives: $N_+ \ge 1$, number or array.
        negatives: $N_- \ge 1$, number or array.

    Example:
        >>> round(float(window_failure(2, 0.5, 1, 1)), 3)  # exponential law: 1 - (e^-0.5 - e^-1.5)^2
        0.853
    """
    d, half = check_whole(dim, "dim"), check_open_shares(delta, "delta")
    outside = []
    for n in (check_whole(positives, "positives"), check_whole(negatives, "negatives")):
        freedom = n * d
        outside.append(below(freedom, freedom * (1 - half)) + above(freedom, freedom * (1 + half)))
    return np.asarray(outside[0] + outside[1] - outside[0] * outside[1])


def threshold_tail(
    level: npt.ArrayLike,
    variance_ratio: npt.ArrayLike,
    dim: npt.ArrayLike,
    positives: npt.ArrayLike,
    negatives: npt.ArrayLike,
    *,
    upper: bool = False,
    nodes: int = 120,
) -> Array:
    r"""Law of the learned threshold: $P(t \le \text{level})$, or $P(t > \text{level})$.

    With $A$ the class mean of smaller spread and $B$ the other, $P(A + B \le 2 \ell) = \mathbb E_A[F_B(2 \ell - A)]$ by
    Gauss-Legendre quadrature over $\sqrt{w_1 - w}$, where $w$ is the root of the sum of squares in $A$ and $w_1$ the
    upper end: in this variable the integrand is smooth, even where $A$ alone reaches the level at $w_1$.

    Model: that of the module.
    Status: exact up to quadrature and rounding; absolute error below 1e-9 for $N_\pm d \le 10^{12}$ (tests). Beyond it
        grows like $10^{-16} \sqrt{N_\pm d}$, as the level itself is rounded by that part of the spread.

    Args:
        level: $\ell \ge 0$, number or array; may be infinite.
        variance_ratio: $v > 1$, number or array.
        dim: $d \ge 1$, number or array.
        positives: $N_+ \ge 1$, number or array.
        negatives: $N_- \ge 1$, number or array.
        upper: whether the upper tail is wanted, computed without subtracting from 1.
        nodes: of the quadrature, >= 8.

    Example:
        >>> round(float(threshold_tail(3.0, 2.0, 2, 1, 1)), 6)  # exponentials of means 1 and 2: (1 - e^-1.5)^2
        0.603527
    """
    t = check_real_array(level, "level", finite=False)
    check_all(t >= 0, "level", "be >= 0", t)
    v, d = _variance_ratio(variance_ratio), check_whole(dim, "dim")
    n_pos, n_neg = check_whole(positives, "positives"), check_whole(negatives, "negatives")
    t, v, d, n_pos, n_neg = np.broadcast_arrays(t, v, d, n_pos, n_neg)
    positive_is_outer = 1 / n_pos <= v**2 / n_neg
    unit_pos, unit_neg = 1 / n_pos, v / n_neg
    unit, inner_unit = (np.where(flag, unit_pos, unit_neg) for flag in (positive_is_outer, ~positive_is_outer))
    freedom, inner_freedom = (np.where(flag, n_pos, n_neg) * d for flag in (positive_is_outer, ~positive_is_outer))
    finite = np.where(np.isfinite(t), t, 1.0)
    # The root w of the outer sum is counted from its centre; beyond the edge, it is above the level by itself.
    centre = np.sqrt(freedom)
    edge = np.sqrt(2 * finite / unit) - centre
    high = np.minimum(edge, 8.0)
    low = np.minimum(np.maximum(-centre, -8.0), high)
    x, weight = np.polynomial.legendre.leggauss(check_integer(nodes, "nodes", minimum=8))
    y, width = (1 + x) / 2, (high - low)[..., None]
    shift = high[..., None] - width * y**2
    density = root_density(shift, freedom[..., None]) * width * y * weight  # y dy is half of d(y^2): 2 y dy = y dx
    room = (edge - high)[..., None] + width * y**2  # up to the edge
    remainder = room * (room + 2 * (centre[..., None] + shift)) * (unit / inner_unit)[..., None]
    inner = (above if upper else below)(inner_freedom[..., None], remainder)
    inside = np.sum(density * inner, axis=-1)
    value = inside + above(freedom, 2 * finite / unit) if upper else inside
    at_zero, at_infinity = (1.0, 0.0) if upper else (0.0, 1.0)
    value = np.where(t > 0, np.clip(value, 0.0, 1.0), at_zero)
    return np.asarray(np.where(np.isfinite(t), value, at_infinity))


def exceedance(
    level: npt.ArrayLike,
    variance_ratio: npt.ArrayLike,
    dim: npt.ArrayLike,
    positives: npt.ArrayLike,
    negatives: npt.ArrayLike,
    positive_prior: npt.ArrayLike,
) -> Array:
    r"""Probability over training sets that the test error exceeds a level, $P(\mathrm{err} > \ell)$.

    The error falls, then rises with the threshold, so the event is that the threshold leaves an interval; its ends come
    from bisection, its probability from `threshold_tail`. At $\ell =$ `error_bound` it is the failure of theorem 3.

    Model: that of the module.
    Status: exact up to quadrature and bisection.

    Args:
        level: $\ell$ in [0, 1], number or array.
        variance_ratio: $v > 1$, number or array.
        dim: $d \ge 1$, number or array.
        positives: $N_+ \ge 1$, number or array.
        negatives: $N_- \ge 1$, number or array.
        positive_prior: $p_+$ in (0, 1/2], number or array.

    Returns:
        1 where even `best_threshold` errs more often than the level.

    Example:
        >>> exceedance([0.0, 0.011, 1.0], 5.0, 50, 5, 500, 0.1).round(2)
        array([1.  , 0.31, 0.  ])
    """
    goal = check_shares(level, "level")
    v, d, p = _variance_ratio(variance_ratio), check_whole(dim, "dim"), _prior(positive_prior)
    n_pos, n_neg = check_whole(positives, "positives"), check_whole(negatives, "negatives")
    goal, v, d, n_pos, n_neg, p = np.broadcast_arrays(goal, v, d, n_pos, n_neg, p)
    left, right = _ends_for_level(goal, v, d, p)
    return _outside(left, right, v, d, n_pos, n_neg)


def expected_error(
    variance_ratio: npt.ArrayLike,
    dim: npt.ArrayLike,
    positives: npt.ArrayLike,
    negatives: npt.ArrayLike,
    positive_prior: npt.ArrayLike,
    *,
    nodes: int = 100,
) -> Array:
    r"""Test error averaged over training sets, by quadrature over both sums of squares.

    Model: that of the module.
    Status: exact up to quadrature; relative error below 1e-10 for $N_\pm d \ge 2$ and $v \le 5$ (tests), 2e-7 for one
        sample of one dimension per class at $v = 1000$.

    Args:
        variance_ratio: $v > 1$, number or array.
        dim: $d \ge 1$, number or array.
        positives: $N_+ \ge 1$, number or array.
        negatives: $N_- \ge 1$, number or array.
        positive_prior: $p_+$ in (0, 1/2], number or array.
        nodes: of the quadrature per sum, >= 8.

    Example:
        >>> expected_error(5.0, [5, 50], 5, 500, 0.1).round(3)
        array([0.271, 0.01 ])
    """
    v, d, p = _variance_ratio(variance_ratio), check_whole(dim, "dim"), _prior(positive_prior)
    n_pos, n_neg = check_whole(positives, "positives"), check_whole(negatives, "negatives")
    v, d, n_pos, n_neg, p = (a[..., None] for a in np.broadcast_arrays(v, d, n_pos, n_neg, p))
    x, weight = np.polynomial.legendre.leggauss(check_integer(nodes, "nodes", minimum=8))
    values, masses = [], []
    for n in (n_pos, n_neg):
        centre = np.sqrt(n * d)
        low, high = np.maximum(-centre, -14.0), 14.0
        shift = low + (high - low) * (1 + x) / 2
        values.append((centre + shift) ** 2 / n)
        masses.append(root_density(shift, n * d) * weight * (high - low) / 2)
    t = (values[0][..., :, None] + v[..., None] * values[1][..., None, :]) / 2
    errors = classifier_error(t, v[..., None], d[..., None], p[..., None])
    return np.asarray(np.einsum("...i,...j,...ij->...", masses[0], masses[1], errors))


def measured_samples(dim: int, delta: float, failure: float) -> int:
    r"""Fewest samples of each class for which `window_failure` is at most $\eta$, by doubling and bisection.

    Status: exact; what `required_samples` bounds from above.

    Args:
        dim: $d \ge 1$.
        delta: in (0, 1).
        failure: $\eta$ in (0, 1).

    Example:
        >>> [measured_samples(d, 1 / 3, 0.05) for d in (10, 100, 1000)]
        [9, 1, 1]
    """
    check_integer(dim, "dim", minimum=1)
    eta = float(check_open_shares(failure, "failure"))
    return _fewest(lambda n: bool(window_failure(dim, delta, n, n) <= eta), "delta", delta)


def samples_for_level(level: float, variance_ratio: float, dim: int, positive_prior: float, failure: float) -> int:
    r"""Fewest samples of each class for which `exceedance` of a level is at most $\eta$, by doubling and bisection.

    Status: exact up to quadrature, relative error of the count below 1e-4 down to a level $10^{-6}$ above its limit
        (tests: the count times the squared distance of the level from the limit tends to a constant). What one may want
        to know in place of `measured_samples`: unlike there, the window does not matter, only the error does.

    Args:
        level: of the error; above its limit for many samples, `classifier_error` at $t = d (1 + v)/2$.
        variance_ratio: $v > 1$.
        dim: $d \ge 1$.
        positive_prior: $p_+$ in (0, 1/2].
        failure: $\eta$ in (0, 1).

    Raises:
        ValueError: if not even infinitely many samples reach the level, or more than $2^{53}$ would be needed.

    Example:
        >>> [samples_for_level(0.05, 5.0, d, 0.1, 0.05) for d in (30, 50, 100)]
        [71, 3, 1]
    """
    check_integer(dim, "dim", minimum=1)
    eta, goal = float(check_open_shares(failure, "failure")), check_shares(level, "level")
    limit = float(classifier_error(dim * (1 + variance_ratio) / 2, variance_ratio, dim, positive_prior))
    if not goal > limit:
        raise ValueError(f"`level` must be above the limit for many samples, {limit:.4g}, got {level}.")
    v, d, p = _variance_ratio(variance_ratio), check_whole(dim, "dim"), _prior(positive_prior)
    left, right = _ends_for_level(goal, v, d, p)
    return _fewest(lambda n: bool(_outside(left, right, v, d, n, n) <= eta), "level", level)


def _ends_for_level(goal: Array, v: Array, d: Array, p: Array) -> tuple[Array, Array]:
    """Thresholds between which the error is at most a level; both infinite where it never is."""
    best = best_threshold(v, d, p)
    top = v * (d + 20 * np.sqrt(2 * d) + 200)  # P(chi2_d > top / v) is below 1e-20
    left = _bisect(np.zeros(best.shape), best, lambda t: classifier_error(t, v, d, p) > goal)
    right = _bisect(best, np.asarray(np.maximum(top, best)), lambda t: classifier_error(t, v, d, p) <= goal)
    hopeless = classifier_error(best, v, d, p) > goal
    left = np.where(goal >= p, 0.0, np.where(hopeless, np.inf, left))
    return left, np.where((goal >= 1 - p) | hopeless, np.inf, right)


def _outside(
    left: Array, right: Array, v: Array, d: Array, positives: npt.ArrayLike, negatives: npt.ArrayLike
) -> Array:
    """Probability that the learned threshold is not between two ends."""
    lower = threshold_tail(left, v, d, positives, negatives)
    upper = threshold_tail(right, v, d, positives, negatives, upper=True)
    return np.asarray(np.minimum(lower + upper, 1.0))


def _fewest(enough: Callable[[int], bool], argument: str, value: float) -> int:
    """Least count from which on the condition holds, if it holds from some count on and not below.

    An argument for which that count is beyond what a float counts exactly is refused by its name.
    """
    high = 1
    while not enough(high):
        high *= 2
        if high > 2**53:
            raise ValueError(f"`{argument}` must be within reach of 2**53 samples of each class, got {value}.")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _bisect(low: Array, high: Array, go_right: Callable[[Array], Bools]) -> Array:
    """Where the condition turns from true to false between two ends."""
    for _ in range(80):
        middle = (low + high) / 2
        right = go_right(middle)
        low, high = np.where(right, middle, low), np.where(right, high, middle)
    return np.asarray((low + high) / 2)


def _variance_ratio(value: npt.ArrayLike) -> Array:
    return check_above(value, "variance_ratio", 1.0)


def _prior(value: npt.ArrayLike) -> Array:
    array = check_real_array(value, "positive_prior", finite=False)
    check_all((array > 0) & (array <= 0.5), "positive_prior", "be in (0, 1/2]", array)
    return array


def _delta(value: npt.ArrayLike, variance_ratio: Array) -> Array:
    array, ends = np.broadcast_arrays(check_real_array(value, "delta", finite=False), max_delta(variance_ratio))
    wrong = ~((array > 0) & (array < ends))
    if wrong.any():
        raise ValueError(
            f"`delta` must be in (0, (v - 1)/(v + 1)) = (0, {ends[wrong].flat[0]:.4g}), got {array[wrong].flat[0]:g}."
        )
    return array
