"""Errata of the theorems on Gaussian worlds, shown by exact errors and by sampling."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_lib.claims import gaussian_semi
from lt_lib.claims._ranks import rank_correlation
from lt_lib.claims.errata import Demonstration
from lt_lib.theory import gaussian_self
from lt_lib.theory import gaussian_semi as theory

Array = npt.NDArray[np.float64]
RATIOS = (1, 2, 5, 10, 20, 50, 100)
POSITIVE_PRIOR = 0.1


def precision_order(positive_share: float, _rng: np.random.Generator) -> float:
    """Precision of the frequent class minus that of the rare one, for the best rule of training shares 9 to 1.

    Args:
        positive_share: share of the frequent class among the points on which the precision is taken.
    """
    model = theory.TwoGaussians()
    quality = theory.label_quality(model, theory.bayes_threshold(model, 0.9), positive_share)
    return quality.precision_plus - quality.precision_minus


def excess_error(rule: Callable[[Array, float, float], Array], rng: np.random.Generator) -> float:
    """Largest excess of a rule's error over the least error of any threshold."""
    measured = gaussian_semi.measure_threshold("quick", rng, rule=rule)
    return max(0.0, float(np.max(measured["error"] - measured["best_error"])) - 1e-6)


def misses_spread(count: Callable[[float, float, float], float], rng: np.random.Generator) -> float:
    """Relative distance of the estimate's spread from sigma/2 sqrt(1/n+ + 1/n-) with the counts that a reading gives.

    With close means the wrong labels hardly widen the estimate; the pool has 1,800 points labelled + at precision 0.6
    and 200 labelled - at precision 0.9.

    Args:
        count: (points labelled +, right ones among them, + points labelled -) -> n+.
        rng: source of randomness.
    """
    model, plus, minus, p, q = theory.TwoGaussians(0.01, -0.01), 1800, 200, 0.6, 0.9
    n = count(plus, plus * p, minus * (1 - q))
    claimed = model.sigma / 2 * math.sqrt(1 / n + 1 / (plus + minus - n))
    return abs(claimed / float(theory.sample_theta(model, plus, minus, p, q, 40_000, rng).std()) - 1)


def does_not_follow_imbalance(quantity: Callable[[Any, Any], float], _rng: np.random.Generator) -> float:
    """One minus the rank correlation of a quantity, taken after training at each ratio, with that ratio."""
    model = theory.TwoGaussians()
    values = []
    for ratio in RATIOS:
        # The rare class is the positive one; the best threshold of the training law labels a balanced pool.
        quality = theory.label_quality(model, theory.bayes_threshold(model, 1 / (1 + ratio)))
        values.append(quantity(model, quality))
    return 1 - rank_correlation(RATIOS, values)


def shortfall(gap: Callable[[Any], float], rng: np.random.Generator) -> float:
    """Largest amount by which theorem 1's sampled coverage falls below its bound, with Delta as `gap` of the labels."""
    measured = gaussian_semi.measure_theorem("quick", rng, gap_of_quality=gap)
    return float(np.max(measured["bound"] - measured["sampled"]))


def below_quarter(mean_distance: float, _rng: np.random.Generator) -> float:
    """How far the best linear classifier with b > 0 gets below error 1/4, negatives at a distance from the origin."""
    return 0.25 - float(gaussian_self.linear_infimum(4.0, POSITIVE_PRIOR, mean_distance=mean_distance))


def below_quarter_with(offsets: tuple[float, float], _rng: np.random.Generator) -> float:
    """How far linear classifiers with offsets between two ends get below error 1/4."""
    errors = gaussian_self.linear_error(np.linspace(*offsets, 2001), 4.0, POSITIVE_PRIOR)
    return 0.25 - float(np.min(errors))


def probability_unmoved(name: str, _rng: np.random.Generator) -> float:
    """One if theorem 3's probability stays as the quantity that is said to be the imbalance is varied, else zero."""
    swept: dict[str, Any] = {"variance_ratio": 5.0, "positives": 5, name: np.array([5, 10, 20, 40])}
    theorem = gaussian_self.theorem_three(swept["variance_ratio"], 50, 0.3, swept["positives"], 500, POSITIVE_PRIOR)
    return float(np.ptp(theorem.probability) == 0)


DEMONSTRATIONS: tuple[Demonstration, ...] = (
    Demonstration("E15", 0.9, 0.5, precision_order, 0, "precision of the frequent class minus that of the rare one"),
    Demonstration(
        "E57", gaussian_semi.product_rule, gaussian_semi.midpoint_rule, excess_error, 0, "error above the least error",
    ),
    Demonstration(
        "E59", lambda _labelled, right, missed: right + missed, lambda labelled, _right, _missed: labelled,
        misses_spread, 0.05, "relative distance from the spread of the estimate",
    ),
    Demonstration(
        "E60", lambda model, _quality: model.midpoint, lambda _model, quality: gaussian_semi.precision_gap(quality),
        does_not_follow_imbalance, 0.1, "1 - rank correlation with the training ratio",
    ),
    Demonstration(
        "E61", gaussian_semi.recall_gap, gaussian_semi.precision_gap, shortfall, 0.02,
        "coverage missing below the bound, Delta read as a difference of recalls,",
    ),
    Demonstration("E64", 6.0, 0.0, below_quarter, 0, "1/4 - least error, mean of the negatives as printed,"),
    Demonstration(
        "E67", "variance_ratio", "positives", probability_unmoved, 0, "1 if the probability of success does not move:",
    ),
    Demonstration("E68", (-10.0, 10.0), (0.0, 10.0), below_quarter_with, 0, "1/4 - least error over the offsets"),
)  # fmt: skip
