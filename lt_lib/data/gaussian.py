"""Gaussian worlds: mixtures with a known Bayes rule, unlimited data and a chosen difficulty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lt_lib._checks import check_all, check_counts, check_integer, check_positive, check_real, check_real_array
from lt_lib.data.base import Dataset, Split, array_hash

TRAIN_PER_CLASS = 1000
TEST_PER_CLASS = 1000

# What `find_separation` finds, to four decimals, for seed 0, 10 classes, 32 dimensions and 3 clusters, by Bayes error.
FROZEN_SEPARATIONS = {0.05: 0.7613, 0.1: 0.6707, 0.2: 0.5629}
# `GaussianWorld.hash()` of the worlds above.
FROZEN_HASHES = {
    0.05: "91dba8b090919e203180e6e81f5fcaea82cb36e29f420f7382db25dc71c158e6",
    0.10: "722bc11e8f039f6cce234352199ba8a9927f6814d0c18f925b9a67aeefd15003",
    0.20: "7d4da04dcfa631ea21679c9a3fa49cf46d49476f33885893723c35264652dafc",
}
_FROZEN_SHAPE = (0, 10, 32, 3)

_SEARCH_SAMPLES = 10_000
_SEARCH_STEPS = 16
_SEARCH_RANGE = (1e-3, 1e2)
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class GaussianWorld:
    r"""Classes as equal mixtures of unit-covariance Gaussians with known means.

    .. math:: p(x \mid y) = \frac{1}{M} \sum_{k=1}^{M} \mathcal N(x;\, \mu_{yk},\, I_d)

    Args:
        means: cluster means, float64 (classes, clusters, dim), finite.

    Raises:
        ValueError: ``means`` has another number of axes, or a number that is not finite.

    Example:
        >>> world = gaussian_world(separation=5.0, num_classes=3, dim=4)
        >>> split = world.sample([5, 3, 1], np.random.default_rng(0))
        >>> world.bayes_predict(split.inputs)
        array([0, 0, 0, 0, 0, 1, 1, 1, 2])
    """

    means: np.ndarray

    def __post_init__(self) -> None:
        means = check_real_array(self.means, "means")
        if means.ndim != 3 or means.size == 0:
            raise ValueError(f"`means` must have shape (classes, clusters, dim), got {means.shape}.")
        object.__setattr__(self, "means", means)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.means)

    @property
    def dim(self) -> int:
        """Length of an input vector."""
        return self.means.shape[-1]

    def sample(self, class_counts: ArrayLike, rng: np.random.Generator) -> Split:
        """Draw fresh samples, class after class.

        Args:
            class_counts: samples per class (classes,), or one number for all classes.
            rng: source of randomness.

        Returns:
            Split with ``float32`` vectors (samples, dim).

        Raises:
            ValueError: ``class_counts`` is negative, not integer, all zero, or has another length than the classes.
        """
        counts = check_counts(
            np.broadcast_to(class_counts, self.num_classes) if np.ndim(class_counts) == 0 else class_counts
        )
        if len(counts) != self.num_classes:
            raise ValueError(f"`class_counts` must have one entry per class ({self.num_classes}), got {len(counts)}.")
        targets = np.repeat(np.arange(self.num_classes, dtype=np.int64), counts)
        clusters = rng.integers(self.means.shape[1], size=len(targets))
        noise = rng.standard_normal((len(targets), self.dim))
        return Split((self.means[targets, clusters] + noise).astype(np.float32), targets)

    def log_likelihoods(self, inputs: np.ndarray) -> np.ndarray:
        r"""Return :math:`\log p(x \mid y)` up to a term that depends on :math:`x` alone.

        Args:
            inputs: vectors (samples, dim), finite.

        Returns:
            float64 (samples, classes), equal to
            :math:`\log \sum_k \exp(x^\top \mu_{yk} - \|\mu_{yk}\|^2/2)`.

        Raises:
            ValueError: ``inputs`` has another shape than (samples, dim), or a number that is not finite.
        """
        points = np.asarray(inputs, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != self.dim:
            raise ValueError(f"`inputs` must have shape (samples, {self.dim}), got {points.shape}.")
        check_all(np.isfinite(points), "inputs", "be finite", points)
        flat = self.means.reshape(-1, self.dim)
        half_norms = (flat**2).sum(axis=1) / 2
        result = np.empty((len(points), self.num_classes))
        for start in range(0, len(points), _CHUNK):
            chunk = points[start : start + _CHUNK]
            exponents = (chunk @ flat.T - half_norms).reshape(len(chunk), *self.means.shape[:2])
            highest = exponents.max(axis=2)
            result[start : start + _CHUNK] = highest + np.log(np.exp(exponents - highest[..., None]).sum(axis=2))
        return result

    def bayes_predict(self, inputs: np.ndarray, class_prior: ArrayLike | None = None) -> np.ndarray:
        r"""Classify by the Bayes rule :math:`\arg\max_y \, \pi_y\, p(x \mid y)`.

        Args:
            inputs: vectors (samples, dim), finite.
            class_prior: :math:`\pi` (classes,), non-negative with sum 1; None means balanced.

        Returns:
            Class indices, int64 (samples,).

        Raises:
            ValueError: ``inputs`` or ``class_prior`` do not fit the world, or are not finite.
        """
        return (self.log_likelihoods(inputs) + self._log_prior(class_prior)).argmax(axis=1)

    def bayes_error(
        self, rng: np.random.Generator, *, samples_per_class: int = 10_000, class_prior: ArrayLike | None = None
    ) -> tuple[float, float]:
        r"""Estimate the Bayes error :math:`\mathbb E\,[1 - \max_y p(y \mid x)]` by Monte Carlo.

        Averaging the posterior instead of counting mistakes leaves the mean alone and lowers the variance.

        Args:
            rng: source of randomness.
            samples_per_class: samples drawn from each class, at least 2; classes are weighted by the prior afterwards.
            class_prior: (classes,), None means balanced.

        Returns:
            The estimate and its standard error.

        Raises:
            ValueError: ``samples_per_class`` is below 2, or ``class_prior`` does not fit the world.
        """
        check_integer(samples_per_class, "samples_per_class", minimum=2)
        log_prior = self._log_prior(class_prior)
        split = self.sample(samples_per_class, rng)
        joint = self.log_likelihoods(np.asarray(split.inputs)) + log_prior
        error = _posterior_error(joint).reshape(self.num_classes, samples_per_class)
        prior = np.exp(log_prior)
        variance = (prior**2 * error.var(axis=1, ddof=1) / samples_per_class).sum()
        return float(prior @ error.mean(axis=1)), float(np.sqrt(variance))

    def hash(self) -> str:
        """SHA-256 of the means, rounded to 1e-9 so that the last bit of a platform does not show."""
        return array_hash(np.round(self.means * 1e9).astype(np.int64))

    def _log_prior(self, class_prior: ArrayLike | None) -> np.ndarray:
        if class_prior is None:
            return np.full(self.num_classes, -np.log(self.num_classes))
        prior = np.asarray(class_prior, dtype=np.float64)
        if prior.shape != (self.num_classes,) or not (prior >= 0).all() or not np.isclose(prior.sum(), 1.0):
            raise ValueError(
                f"`class_prior` must be {self.num_classes} non-negative numbers with sum 1, got {prior.tolist()}."
            )
        with np.errstate(divide="ignore"):
            return np.log(prior)


def gaussian_world(
    seed: int = 0,
    num_classes: int = 10,
    dim: int = 32,
    bayes_error: float = 0.10,
    *,
    clusters: int = 3,
    separation: float | None = None,
) -> GaussianWorld:
    r"""Make a world: cluster means :math:`\mu_{yk} \sim \mathcal N(0, s^2 I_d)`, scaled to a balanced Bayes error.

    The directions come from ``seed`` alone; :math:`s` only stretches them, so worlds of different difficulty are
    the same constellation. The first classes of a world point where those of any smaller one with the same ``dim`` and
    ``clusters`` do. With ``separation`` given they are the same; the search finds another :math:`s` for each number of
    classes.

    Args:
        seed: world seed.
        num_classes: number of classes, at least 2.
        dim: dimension :math:`d`, at least 1.
        bayes_error: balanced Bayes error to aim at, in (0, 1 − 1/classes); met within ±1 % absolute. Ignored when
            ``separation`` is given.
        clusters: sub-clusters per class, at least 1.
        separation: :math:`s` itself, positive, instead of the search.

    Returns:
        The world.

    Raises:
        ValueError: an argument is out of range, or no separation reaches the error.

    Example:
        >>> gaussian_world().means.shape
        (10, 3, 32)
    """
    check_integer(seed, "seed", minimum=0)
    check_integer(num_classes, "num_classes", minimum=2)
    check_integer(dim, "dim", minimum=1)
    check_integer(clusters, "clusters", minimum=1)
    directions = np.random.default_rng(seed).standard_normal((num_classes, clusters, dim))
    if separation is None:
        if (seed, num_classes, dim, clusters) == _FROZEN_SHAPE and bayes_error in FROZEN_SEPARATIONS:
            separation = FROZEN_SEPARATIONS[bayes_error]
        else:
            separation = find_separation(directions, bayes_error)
    return GaussianWorld(check_positive(separation, "separation") * directions)


def find_separation(directions: np.ndarray, bayes_error: float) -> float:
    r"""Find the scale :math:`s` at which a constellation has a given balanced Bayes error.

    Bisection on :math:`\log s` with the same noise at every step, so that the answer is deterministic. The error is
    :math:`\mathbb E\,[1 - \max_y p(y \mid x)]` over 10,000 points, known within about 0.4 % absolute.

    Args:
        directions: unscaled means (classes, clusters, dim).
        bayes_error: target, in (0, 1 − 1/classes).

    Returns:
        :math:`s`, between 0.001 and 100.

    Raises:
        ValueError: ``bayes_error`` is out of range or out of reach.
    """
    num_classes, clusters, dim = directions.shape
    if not 0 < check_real(bayes_error, "bayes_error") < 1 - 1 / num_classes:
        raise ValueError(f"`bayes_error` must lie in (0, {1 - 1 / num_classes:g}), got {bayes_error}.")
    rng = np.random.default_rng(0)
    targets = np.arange(_SEARCH_SAMPLES) % num_classes
    chosen = directions[targets, rng.integers(clusters, size=_SEARCH_SAMPLES)]
    noise = rng.standard_normal((_SEARCH_SAMPLES, dim))

    def error_at(scale: float) -> float:
        world = GaussianWorld(scale * directions)
        return float(_posterior_error(world.log_likelihoods(scale * chosen + noise)).mean())

    low, high = np.log(_SEARCH_RANGE)
    for _ in range(_SEARCH_STEPS):
        middle = (low + high) / 2
        if error_at(np.exp(middle)) > bayes_error:
            low = middle
        else:
            high = middle
    found = float(np.exp((low + high) / 2))
    reached = error_at(found)
    if abs(reached - bayes_error) > 0.005:
        raise ValueError(
            f"`bayes_error` must be within reach of these means, got {bayes_error}, nearest {reached:.3g}."
        )
    return found


def load_gaussian(name: str, bayes_error: float) -> Dataset:
    """Make the default world's training pool (1,000 a class) and balanced test set (1,000 a class).

    Args:
        name: label of the data set.
        bayes_error: balanced Bayes error of the world.

    Returns:
        Data set with ``float32`` vectors (samples, 32).
    """
    world = gaussian_world(bayes_error=bayes_error)
    return Dataset(
        name=name,
        train=world.sample(TRAIN_PER_CLASS, np.random.default_rng([0, 1])),
        test=world.sample(TEST_PER_CLASS, np.random.default_rng([0, 2])),
        num_classes=world.num_classes,
        class_names=tuple(f"class {label}" for label in range(world.num_classes)),
    )


def _posterior_error(joint: np.ndarray) -> np.ndarray:
    # 1 − max posterior, from unnormalised log joint densities (samples, classes).
    shifted = joint - joint.max(axis=1, keepdims=True)
    return 1 - 1 / np.exp(shifted).sum(axis=1)
