"""Two symmetric classes and separators through the origin: rows 83, 84, 86 and 87 of the ledger.

Both classes are mirror images, so that a sample with its label is one vector, label times input. A separator then needs
no bias, and its error is the same under every class prior, imbalanced or not.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_lib.claims._ranks import rank_correlation, rank_correlations
from lt_lib.claims.core import Judgement, worst
from lt_lib.claims.rules import at_least, at_most, in_half_widths
from lt_lib.theory import margins

Array = npt.NDArray[np.float64]

# (dimension, distance of the two means in standard deviations, samples)
MARGIN_WORLDS = ((20, 5.0, 50), (100, 6.0, 50), (100, 6.0, 500))
NUM_SEPARATORS = 100
BOUND_DIM = 20
SEPARATIONS = (5.0, 6.0, 7.0, 8.0)
SAMPLES = (20, 50, 100, 200)
BOUND_DRAWS = 100
RESAMPLES = 200
DELTA = 0.05
MARGIN_GRID = np.geomspace(0.01, 0.5, 10)
LAST_DECADE = 100


def signed_gaussians(dim: int, separation: float, num_samples: int, rng: np.random.Generator) -> Array:
    r"""Samples times labels of two unit Gaussians at :math:`\pm` half the separation on the first axis."""
    z = rng.standard_normal((num_samples, dim))
    z[:, 0] += separation / 2
    return z


def hard_margin(z: npt.ArrayLike) -> Array:
    r"""Unit vector with the largest margin :math:`\min_i \langle w, z_i \rangle`.

    It points to the point of the convex hull of the samples that is nearest to the origin. Non-negative least squares
    of :math:`\|Z^\top a\|^2 + (1 - \sum_i a_i)^2` finds that point up to its length.

    Args:
        z: inputs times labels, shape (samples, dim).

    Raises:
        ValueError: no hyperplane through the origin separates the samples.

    Example:
        >>> hard_margin([[2.0, 0.0], [0.0, 2.0]]).round(3).tolist()
        [0.707, 0.707]
    """
    from scipy.optimize import nnls

    points = np.asarray(z, dtype=np.float64)
    system = np.vstack([points.T, np.ones(len(points))])
    weights, _ = nnls(system, np.r_[np.zeros(points.shape[1]), 1.0])
    nearest = points.T @ weights
    direction = nearest / max(float(np.linalg.norm(nearest)), 1e-300)
    if np.min(points @ direction) <= 0:
        raise ValueError("`z` must be separable by a hyperplane through the origin, got samples that are not.")
    return np.asarray(direction)


def gaussian_error(direction: Array, separation: float) -> float:
    """Exact test error of a unit vector on `signed_gaussians`."""
    from scipy.special import ndtr

    return float(ndtr(-separation / 2 * direction[0]))


# Row 83


def measure_margin_and_error(
    _profile: str, rng: np.random.Generator, *, score: Callable[[Array, Array], float] | None = None
) -> dict[tuple[int, float, int], dict[str, Array]]:
    """Margin over largest norm, and exact test error, of hard-margin separators over draws of the training set.

    Beside them: separators of one and the same training set, each the hard-margin solution after every sample has been
    stretched by its own random factor. All of them separate it, with different margins.

    Args:
        rng: source of randomness.
        score: margin of a unit vector on samples; None means the normalised margin.

    Returns:
        Per world the arrays "margin", "error", "margin_same_set" and "error_same_set".
    """
    of = score or (lambda w, z: float(np.min(z @ w) / np.linalg.norm(z, axis=1).max()))
    measured = {}
    for world in MARGIN_WORLDS:
        dim, separation, num_samples = world
        fixed = signed_gaussians(dim, separation, num_samples, rng)
        rows = []
        for _ in range(NUM_SEPARATORS):
            drawn = signed_gaussians(dim, separation, num_samples, rng)
            w = hard_margin(drawn)
            other = hard_margin(fixed * rng.lognormal(0.0, rng.uniform(0.0, 1.5), size=(num_samples, 1)))
            first = (of(w, drawn), gaussian_error(w, separation))
            rows.append((*first, of(other, fixed), gaussian_error(other, separation)))
        names = ("margin", "error", "margin_same_set", "error_same_set")
        measured[world] = dict(zip(names, np.array(rows).T, strict=True))
    return measured


def judge_margin_and_error(measured: dict[tuple[int, float, int], dict[str, Array]]) -> Judgement:
    """Row 83: rank correlation over draws below -0.5 in every world, by Fisher's one-sided 95 % bounds."""
    return worst(negative_rank_correlation(part["margin"], part["error"]) for part in measured.values())


def negative_rank_correlation(x: Array, y: Array, *, threshold: float = -0.5) -> Judgement:
    """Holds if the one-sided 95 % upper bound of the rank correlation is below `threshold`; refuted above it.

    The bounds are Fisher's, with the standard error of ranks (Fieller, Hartley and Pearson).
    """
    rho = rank_correlation(x, y)
    spread = 1.6449 * np.sqrt(1.06 / (len(x) - 3))
    centre = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    low, high = float(np.tanh(centre - spread)), float(np.tanh(centre + spread))
    verdict = "holds" if high < threshold else "refuted" if low > threshold else "inconclusive"
    text = f"rank correlation < {threshold:g}, one-sided 95 %, {len(x)} draws, worst of the worlds"
    return Judgement(verdict, rho, low, high, text, distance=in_half_widths(threshold - rho, high - rho))


# Row 84


def logistic_tail(margin: Array) -> Array:
    r"""Logarithm of minus the derivative of the logistic loss :math:`\log(1 + e^{-m})` by the margin m."""
    return -np.logaddexp(0.0, margin)


def angle_degrees(direction: Array, target: Array) -> Array:
    """Angle between 2-D vectors, last axis 2; exact for small angles, where the arc cosine is not."""
    cross = direction[..., 0] * target[..., 1] - direction[..., 1] * target[..., 0]
    return np.degrees(np.abs(np.arctan2(cross, np.sum(direction * target, axis=-1))))


def measure_gradient_descent(
    _profile: str,
    rng: np.random.Generator,
    *,
    tail: Callable[[Array], Array] = logistic_tail,
    num_draws: int = 10,
    num_steps: int = 100_000,
) -> dict[str, Array]:
    """Angle between gradient descent and the hard-margin direction, on separable 2-D draws of 40 samples.

    Beside the steps: the flow that they follow at a small rate, solved in the logarithm of time, where time is steps
    times rate. It reaches times that no loop of steps does.

    Args:
        rng: source of randomness.
        tail: logarithm of minus the derivative of the loss, by the margin.
        num_draws: training sets, all descended at once.
        num_steps: steps of full-batch gradient descent.

    Returns:
        Of the steps "time" and "angle" in degrees, of the flow "flow_decade" (exponent of 10) and "flow_angle": times
        (times, draws) or (times,), angles (times, draws).
    """
    from scipy.integrate import solve_ivp

    z = np.stack([signed_gaussians(2, 8.0, 40, rng) for _ in range(num_draws)])
    target = np.stack([hard_margin(draw) for draw in z])
    # The logistic loss has a quarter of this curvature, so the rate is safely stable.
    rate = (z.shape[1] / np.linalg.norm(z, ord=2, axis=(1, 2)) ** 2)[:, None]
    record = set(np.unique(np.geomspace(1, num_steps, 26).round().astype(int)).tolist())
    w, steps, angles = np.zeros((num_draws, 2)), [], []
    for step in range(1, num_steps + 1):
        force = np.exp(tail((z @ w[:, :, None])[:, :, 0]))
        w = w + rate * (force[:, None, :] @ z)[:, 0, :] / z.shape[1]
        if step in record:
            steps.append(step)
            angles.append(angle_degrees(w, target))
    decades = np.arange(LAST_DECADE + 1)
    flows = []
    for draw, goal in zip(z, target, strict=True):

        def velocity(log_time: float, w: Array, points: Array = draw) -> Array:
            return np.asarray(points.T @ np.exp(log_time + tail(points @ w)) / len(points))

        found = solve_ivp(
            velocity,
            (np.log(1e-3), np.log(10.0) * LAST_DECADE),
            1e-3 * velocity(0.0, np.zeros(2)),
            method="LSODA",
            t_eval=np.log(10.0) * decades,
            rtol=1e-8,
            atol=1e-8,
        )
        flows.append(angle_degrees(found.y.T, goal))
    return {
        "time": np.array(steps)[:, None] * rate.T,
        "angle": np.array(angles),
        "flow_decade": decades,
        "flow_angle": np.array(flows).T,
    }


def judge_gradient_descent(measured: dict[str, Array]) -> Judgement:
    """Row 84: doubling the exponent of time lowers the mean angle, which ends below 5 degrees in all draws."""
    angle = measured["flow_angle"]
    doublings = np.isin(measured["flow_decade"], [1, 2, 4, 8, 16, 32, 64])
    rise = float(np.diff(angle[doublings].mean(axis=1)).max())
    end = float(angle[-1].max())
    text = f"mean angle falls with log t; largest of {angle.shape[1]} draws at t = 1e{LAST_DECADE} < 5 degrees"
    return worst([at_most(end, 5.0), Judgement("holds" if rise < 0 else "refuted", end)], text)


# Row 86


def margin_bound(margin: float, num_samples: int, mean_square: float) -> float:
    r"""Leading term :math:`\sqrt{C/n} / \gamma_{\min}` for unit vectors, where C is the mean squared norm."""
    return float(np.sqrt(mean_square / num_samples) / margin)


def measure_bound_and_error(
    _profile: str, rng: np.random.Generator, *, bound: Callable[[float, int, float], float] = margin_bound
) -> dict[str, Array]:
    """Mean bound and mean exact error of hard-margin separators, `BOUND_DRAWS` per cell of samples times separation.

    Args:
        rng: source of randomness.
        bound: of smallest margin, number of samples and mean squared norm.

    Returns:
        "separation", "samples", "bound" and "error", (cells,); "bound_again" and "error_again", the means over as many
        draws picked with replacement, (`RESAMPLES`, cells): what other draws would have given.
    """
    cells, again = [], []
    for separation in SEPARATIONS:
        for num_samples in SAMPLES:
            draws = np.empty((BOUND_DRAWS, 2))
            for row in draws:
                z = signed_gaussians(BOUND_DIM, separation, num_samples, rng)
                w = hard_margin(z)
                mean_square = float(np.mean(np.sum(z**2, axis=1)))
                row[:] = bound(float(np.min(z @ w)), num_samples, mean_square), gaussian_error(w, separation)
            cells.append((separation, num_samples, *draws.mean(axis=0)))
            again.append(draws[rng.integers(BOUND_DRAWS, size=(RESAMPLES, BOUND_DRAWS))].mean(axis=1))
    table = dict(zip(("separation", "samples", "bound", "error"), np.array(cells).T, strict=True))
    bounds, errors = np.transpose(again, (2, 1, 0))
    return table | {"bound_again": bounds, "error_again": errors}


def order_along_lines(bound: Array, error: Array, separation: Array) -> Array:
    """Rank correlation of bound and error at each distance of the classes, where only the number of samples differs.

    Args:
        bound: shape (..., cells).
        error: the same.
        separation: distance of the classes in each cell, (cells,).

    Returns:
        Shape (..., distances).
    """
    lines = [separation == value for value in np.unique(separation)]
    return np.stack([rank_correlations(bound[..., line], error[..., line]) for line in lines], axis=-1)


def judge_bound_and_error(measured: dict[str, Array], *, threshold: float = 0.7) -> Judgement:
    """Row 86: rank correlation of bound and error over the cells, and over those of equal distance, both high enough.

    The distance of the classes alone orders the errors. The second half asks for what the bound says beyond it.
    """
    separation, samples = measured["separation"], measured["samples"]
    pairs = [(measured[f"bound{end}"], measured[f"error{end}"]) for end in ("", "_again")]
    lines = f"over {len(np.unique(samples))} sizes at equal distance, mean of {len(np.unique(separation))}"
    orders = {
        f"over all {len(samples)} cells": [rank_correlations(*pair) for pair in pairs],
        lines: [order_along_lines(*pair, separation).mean(axis=-1) for pair in pairs],
    }
    parts = []
    for name, (value, again) in orders.items():
        low, high = (float(end) for end in np.quantile(again, (0.05, 0.95)))
        verdict = "holds" if low >= threshold else "refuted" if high < threshold else "inconclusive"
        text = f"rank correlation {name}, >= {threshold:g}, one-sided 95 %, {len(again)} resamples of the draws"
        distance = in_half_widths(float(value) - threshold, (high - low) / 2)
        parts.append(Judgement(verdict, float(value), low, high, text, distance=distance))
    return worst(parts)


# Row 87


def sphere_error(direction: Array, shift: float) -> float:
    r"""Exact error of a unit vector w on inputs :math:`\pm\text{shift}\,e_1 + u`, u uniform on the unit sphere.

    :math:`(1 + \langle u, w \rangle)/2` has a Beta law with both parameters :math:`(d - 1)/2`.
    """
    from scipy.special import betainc

    half = (len(direction) - 1) / 2
    return float(betainc(half, half, np.clip((1 - shift * direction[0]) / 2, 0, 1)))


def measure_theorem_two(
    _profile: str,
    rng: np.random.Generator,
    *,
    total: Callable[[margins.MarginBound], float] = lambda bound: bound.total,
    num_draws: int = 40,
) -> dict[str, dict[str, Array]]:
    """Bound of theorem 2 and exact balanced error in two worlds, for several unit vectors and margins per draw.

    "large sample": 3 dimensions, 20,000 and 2,000 samples, the mean difference and the first axis. "interpolation":
    600 dimensions, 300 and 100 samples, the shortest vector that fits every label: no training error, a large test
    error.

    Args:
        rng: source of randomness.
        total: what is read from the bound; a formula with a part left out is the false world.
        num_draws: training sets per world.

    Returns:
        Per world "bound" (draws, vectors, margins), "error" (draws, vectors), and "parts", the mean over draws of
        empirical, complexity and confidence term of the first vector, (3, margins).
    """
    measured = {}
    for name, dim, sizes, shift in (
        ("large sample", 3, (20_000, 2_000), 0.8),
        ("interpolation", 600, (300, 100), 0.04),
    ):
        bounds, errors, parts = [], [], []
        labels = np.repeat([1.0, -1.0], sizes)
        for _ in range(num_draws):
            x = rng.standard_normal((sum(sizes), dim))
            x /= np.linalg.norm(x, axis=1, keepdims=True)
            x[:, 0] += shift * labels
            candidates = _candidates(x, labels)
            grid = [
                [
                    margins.linear_margin_bound(
                        x, (labels < 0).astype(int), w, (g, g), norm_bound=1.0, max_norm=1 + shift, delta=DELTA
                    )
                    for g in MARGIN_GRID
                ]
                for w in candidates
            ]
            bounds.append([[total(bound) for bound in row] for row in grid])
            errors.append([sphere_error(w, shift) for w in candidates])
            parts.append([[b.empirical.mean(), b.complexity.mean(), b.confidence.mean()] for b in grid[0]])
        measured[name] = {
            "bound": np.array(bounds),
            "error": np.array(errors),
            "parts": np.mean(parts, axis=0).T,
        }
    return measured


def judge_theorem_two(measured: dict[str, dict[str, Array]]) -> Judgement:
    """Row 87: share of draws in which the bound holds for all vectors and margins at once, in each world."""
    text = f"share of draws, worst of {len(measured)} worlds"
    shares = [np.mean((p["bound"] >= p["error"][:, :, None]).all(axis=(1, 2))) for p in measured.values()]
    return at_least(float(min(shares)), 1 - DELTA, name=text)


def _candidates(x: Array, labels: Any) -> list[Array]:
    """Unit vectors that a learner could return: mean difference, and first axis or shortest interpolator."""
    means = x[labels > 0].mean(axis=0) - x[labels < 0].mean(axis=0)
    if x.shape[1] < len(x):
        other = np.eye(x.shape[1])[0]
    else:
        other = x.T @ np.linalg.solve(x @ x.T, labels)
    return [vector / np.linalg.norm(vector) for vector in (other, means)]
