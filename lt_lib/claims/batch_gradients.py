"""Batch gradients under re-sampling and re-weighting: the same mean, another spread."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lt_lib import counts

Array = np.ndarray
WeightFormula = Callable[[Array, float], Array]

THREE_CLASSES = np.array([1000, 100, 10])


def balancing_weights(class_counts: Array, power: float = 1.0) -> Array:
    r"""Class weights with which a uniformly drawn sample has mean weight 1: $n/(C n_c)$ at power 1.

    .. math:: w_c = n_c^{-p} \, \frac{n}{\sum_k n_k^{1-p}}

    Args:
        class_counts: samples per class, all positive.
        power: $p \ge 0$.

    Returns:
        float64 `(classes,)` with $\sum_c n_c w_c = n$.

    Example:
        >>> balancing_weights(np.array([90, 10])).round(3)
        array([0.556, 5.   ])
    """
    weights = counts.inverse_frequency_weights(class_counts, power)
    return weights * np.sum(class_counts) / (weights @ class_counts)


def batch_moments(gradients: Array, probabilities: Array, weights: Array, batch_size: int) -> tuple[float, float]:
    r"""Mean and deviation of the batch gradient $\frac1B \sum_b w_{i_b} g_{i_b}$, samples drawn with replacement.

    .. math:: \mathbb E = \sum_i p_i w_i g_i, \qquad
              \mathrm{std}^2 = \frac1B \Bigl(\sum_i p_i (w_i g_i)^2 - \mathbb E^2\Bigr)

    Args:
        gradients: one number per sample.
        probabilities: $p_i$, summing to 1.
        weights: $w_i$.
        batch_size: $B \ge 1$.

    Example:
        >>> batch_moments(np.array([1.0, -1.0]), np.array([0.5, 0.5]), np.ones(2), 4)
        (0.0, 0.5)
    """
    weighted = weights * gradients
    mean = float(probabilities @ weighted)
    return mean, math.sqrt(float(probabilities @ weighted**2 - mean**2) / batch_size)


def batch_moments_naive(
    gradients: Sequence[float], probabilities: Sequence[float], weights: Sequence[float], batch_size: int
) -> tuple[float, float]:
    """The same moments by listing every batch that can be drawn; for a handful of samples."""
    means, second = [], []
    for batch in itertools.product(range(len(gradients)), repeat=batch_size):
        chance = math.prod(probabilities[i] for i in batch)
        value = sum(weights[i] * gradients[i] for i in batch) / batch_size
        means.append(chance * value)
        second.append(chance * value**2)
    mean = math.fsum(means)
    return mean, math.sqrt(math.fsum(second) - mean**2)


def schemes(targets: Array, weight_formula: WeightFormula = balancing_weights) -> dict[str, tuple[Array, Array]]:
    """Probabilities and weights per sample: "re-sampling" draws classes equally, "re-weighting" samples equally."""
    class_counts = np.bincount(targets)
    size, num_classes = len(targets), len(class_counts)
    drawn = 1.0 / (num_classes * class_counts[targets])
    return {
        "re-sampling": (drawn, np.ones(size)),
        "re-weighting": (np.full(size, 1.0 / size), weight_formula(class_counts, 1.0)[targets]),
    }


@dataclass(frozen=True)
class Gradient:
    """Batch gradients under both schemes.

    Attributes:
        enumerated: scheme -> mean and deviation over all batches of three from six samples.
        closed: the same by `batch_moments`.
        spread: scheme -> deviation of the gradient on the rarest class's bias at uniform predictions, batch 32,
            counts 1,000/100/10.
    """

    enumerated: dict[str, tuple[float, float]]
    closed: dict[str, tuple[float, float]]
    spread: dict[str, float]

    @property
    def variance_ratio(self) -> float:
        """Variance under re-weighting over variance under re-sampling."""
        return (self.spread["re-weighting"] / self.spread["re-sampling"]) ** 2


def tail_bias_gradient(targets: Array) -> Array:
    """Softmax gradient on the bias of the last class while all classes are predicted alike: 1/C minus the label."""
    num_classes = int(targets.max()) + 1
    return 1.0 / num_classes - (targets == num_classes - 1)


def measure_gradient(
    profile: str, rng: np.random.Generator, weight_formula: WeightFormula = balancing_weights
) -> Gradient:
    """Moments of the batch gradient under re-sampling and re-weighting, by enumeration and in closed form."""
    few = np.array([0, 0, 0, 1, 1, 2])
    values = rng.normal(size=len(few))
    enumerated, closed = {}, {}
    for name, (probabilities, weights) in schemes(few, weight_formula).items():
        enumerated[name] = batch_moments_naive(values.tolist(), probabilities.tolist(), weights.tolist(), 3)
        closed[name] = batch_moments(values, probabilities, weights, 3)
    targets = np.repeat(np.arange(3), THREE_CLASSES)
    many = schemes(targets, weight_formula)
    spread = {name: batch_moments(tail_bias_gradient(targets), *pair, 32)[1] for name, pair in many.items()}
    return Gradient(enumerated, closed, spread)
