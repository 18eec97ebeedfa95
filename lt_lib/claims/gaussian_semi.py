"""Self-training on two Gaussians: rows 110 to 114 of the ledger of claims.

Monte Carlo is granted four standard errors everywhere.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_lib.claims._ranks import rank_correlation
from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.rules import at_least, at_most
from lt_lib.theory import gaussian_semi as theory
from lt_lib.theory.gaussian_semi import TwoGaussians

Array = npt.NDArray[np.float64]
ALLOWANCE = 4.0  # standard errors granted to every Monte-Carlo mean
DRAWS = 20_000

WORLDS = (TwoGaussians(), TwoGaussians(2.0, 0.0, 0.7), TwoGaussians(1.0, -3.0, 2.0), TwoGaussians(0.5, 0.3, 1.0))
STEP = 1e-3  # of the threshold grid, in standard deviations

# p, q, points labelled + and -, distance of the means in standard deviations
CONFIGURATIONS = (
    (0.95, 0.55, 2000, 2000, 2.0),
    (0.55, 0.95, 2000, 200, 2.0),
    (0.9, 0.7, 500, 500, 2.0),
    (0.7, 0.9, 900, 100, 2.0),
    (0.5, 0.5, 300, 300, 8**0.5),
    (0.5, 0.5, 3000, 30, 8**0.5),
    (0.6, 0.9, 5000, 50, 1.0),
    (0.99, 0.8, 50, 5000, 3.0),
    (1.0, 1.0, 400, 400, 2.0),
    (1.0, 1.0, 990, 10, 0.1),
    (0.5, 0.8, 200, 200, 30.0),
    (0.5, 0.5, 10, 10, 30.0),
    (0.8, 0.5, 3000, 30, 30.0),
)
LEVELS = (0.5, 0.9, 0.99, 0.999)
# Base thresholds on a balanced pool, of which the labels are counted and not assumed.
THRESHOLDS = (0.3, 0.6, 1.0, -0.8)
POOL = 4000

TRAINING_RATIOS = (1, 2, 5, 10, 20, 50, 100)
LABELLED = 2020
UNLABELLED = 4000
UNLABELLED_RATIOS = (1, 2, 5, 10, 20, 50, 100)
UNLABELLED_POINTS = 1000
PRECISIONS = (0.9, 0.8)
WIDTH, PROMISED_WIDTH = 0.13, 0.26  # the bound says nothing at the first, and misses are too rare at the second


def standard_errors(difference: npt.ArrayLike, variance: npt.ArrayLike, draws: int) -> Array:
    """Size of a Monte-Carlo mean's deviation in standard errors; an error below 1/draws counts as 1/draws."""
    return np.abs(difference) / np.maximum(np.sqrt(np.asarray(variance) / draws), 1 / draws)


# Row 110: the threshold


def midpoint_rule(x: Array, mu1: float, mu2: float) -> Array:
    r"""The Bayes rule of balanced classes, $\mathrm{sign}(x - (\mu_1 + \mu_2)/2)$."""
    return np.sign(x - (mu1 + mu2) / 2)


def product_rule(x: Array, mu1: float, mu2: float) -> Array:
    r"""The rule as the notes print it, $\mathrm{sign}(x (\mu_1 + \mu_2)/2)$ (erratum E57)."""
    return np.sign(x * (mu1 + mu2) / 2)


def measure_threshold(
    _profile: str, _rng: np.random.Generator, *, rule: Callable[[Array, float, float], Array] = midpoint_rule
) -> dict[str, Array]:
    """A rule in each of `WORLDS` beside the best of all thresholds on a grid, by the error alone.

    Args:
        rule: (x, mu1, mu2) -> +1 or -1 for each x.

    Returns:
        Per world: "error" of the rule, "best_error" and "best" of the grid, "switch" where the rule turns from - to +
        (infinite unless it does so exactly once), "step" of the grid.
    """
    from scipy.special import ndtr

    rows = []
    for world in WORLDS:
        step = STEP * world.sigma
        # Cells of width step, half of them shifted so that no edge is a midpoint by construction.
        edges = np.arange(world.mu2 - 9 * world.sigma - 0.37 * step, world.mu1 + 9 * world.sigma, step)
        sign = rule((edges[1:] + edges[:-1]) / 2, world.mu1, world.mu2)
        plus, minus = (np.diff(ndtr((edges - mean) / world.sigma)) for mean in (world.mu1, world.mu2))
        errors = theory.threshold_error(world, edges)
        turns = np.flatnonzero(sign[1:] != sign[:-1])
        clean = len(turns) == 1 and sign[0] == -1 and sign[-1] == 1
        error = (plus[sign != 1].sum() + minus[sign != -1].sum()) / 2
        rows.append((error, errors.min(), edges[errors.argmin()], edges[turns[0] + 1] if clean else np.inf, step))
    names = ("error", "best_error", "best", "switch", "step")
    return dict(zip(names, np.array(rows).T, strict=True))


def judge_threshold(measured: dict[str, Array]) -> Judgement:
    """Row 110: the rule turns within a grid step of the best threshold and costs no more than 1e-6 over it."""
    distance = np.abs(measured["switch"] - measured["best"]) / measured["step"]
    cost = float(np.max(measured["error"] - measured["best_error"]))
    steps = at_most(float(distance.max()), 1.5, name="grid steps from the best threshold of a world, at most,")
    # Without a distance: of two costs near zero the rounding would decide which part is shown.
    return worst([steps, replace(at_most(cost, 1e-6, name="error above the least"), distance=float("nan"))])


# Row 111: the estimator


def estimator_reference(inputs: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The estimator from its definition, one point at a time."""
    import math

    groups: dict[int, list[float]] = {1: [], -1: []}
    for x, label in zip(np.asarray(inputs).tolist(), np.asarray(labels).tolist(), strict=True):
        groups[label].append(x)
    return math.fsum(math.fsum(group) / len(group) for group in groups.values()) / 2


def measure_estimator(
    _profile: str, rng: np.random.Generator, *, estimator: Callable[[Array, Array], float] = theory.estimate_theta
) -> Array:
    """Deviation of an estimator from its definition on samples with groups of very unequal size `(samples,)`.

    Args:
        rng: source of randomness.
        estimator: (inputs, pseudo-labels) -> number.
    """
    deviations = []
    for plus, minus in ((1, 1), (3, 200), (500, 2), (100, 100)):
        labels = rng.permutation(np.repeat([1, -1], [plus, minus]))
        inputs = 5.0 + labels + rng.standard_normal(plus + minus)
        deviations.append(abs(estimator(inputs, labels) - estimator_reference(inputs, labels)))
    return np.array(deviations)


def judge_estimator(deviations: Array) -> Judgement:
    """Row 111: equal to the definition within 1e-12 on every sample."""
    # The deviation itself is what rounding leaves, and another number on every processor.
    other = int(np.sum(~(deviations <= 1e-12)))
    return at_most(other, 0, name=f"samples of {len(deviations)} more than 1e-12 off the definition")


# Row 112: the theorem


Bound = Callable[[TwoGaussians, Any, Any, Any], Any]


def library_bound(model: TwoGaussians, n_plus: Any, n_minus: Any, delta: Any) -> Any:
    """Value of `lt_lib.theory.gaussian_semi.probability_bound`."""
    return theory.probability_bound(model, n_plus, n_minus, delta).value


def width_of_level(bound: Bound, model: TwoGaussians, n_plus: int, n_minus: int, level: float) -> float:
    """Half-width at which a bound that grows with it reaches a level, by bisection on a logarithmic scale.

    Args:
        bound: (model, n_plus, n_minus, delta) -> probability.
        model: the two classes.
        n_plus: points labelled +.
        n_minus: points labelled -.
        level: in (0, 1).

    Example:
        >>> width = width_of_level(library_bound, TwoGaussians(), 500, 500, 0.9)
        >>> round(library_bound(TwoGaussians(), 500, 500, width), 6)
        0.9
    """
    low, high = -30.0, 15.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if bound(model, n_plus, n_minus, np.exp(middle)) >= level else (middle, high)
    return float(np.exp(high))


def precision_gap(quality: theory.LabelQuality) -> Any:
    """Difference of the precisions, the gap of the theorem."""
    return quality.precision_plus - quality.precision_minus


def recall_gap(quality: theory.LabelQuality) -> Any:
    """Difference of the recalls, which has the opposite sign and is not what the theorem means."""
    return quality.recall_plus - quality.recall_minus


def measure_theorem(
    _profile: str,
    rng: np.random.Generator,
    *,
    gap: Callable[[float, float], float] = lambda p, q: p - q,
    bound: Bound = library_bound,
    gap_of_quality: Callable[[theory.LabelQuality], float] = precision_gap,
) -> dict[str, Array]:
    """Coverage of the theorem's interval, exact and sampled, where its bound promises each of `LEVELS`.

    The first rows take the precisions as given. The others start from a threshold: a balanced pool is labelled by it,
    the right labels of each kind are counted, and only then are inputs drawn as the theorem's model wants them.

    Args:
        rng: source of randomness.
        gap: (p, q) -> Delta at which the interval is centred.
        bound: (model, n_plus, n_minus, delta) -> promised probability.
        gap_of_quality: the same gap for labels by threshold, from their `LabelQuality`.

    Returns:
        Arrays of one length: "bound", "sampled" and, for the first rows, "exact" coverage (elsewhere NaN).
    """
    rows: list[tuple[float, float, float]] = []
    for p, q, plus, minus, distance in CONFIGURATIONS:
        model = TwoGaussians(1.0 + distance / 2, 1.0 - distance / 2, 1.0)
        widths = np.array([width_of_level(bound, model, plus, minus, level) for level in LEVELS])
        centre = model.midpoint + gap(p, q) * model.half_distance
        theta = theory.sample_theta(model, plus, minus, p, q, DRAWS, rng)
        sampled = np.mean(np.abs(theta - centre)[:, None] <= widths, axis=0)
        exact = theory.coverage(model, plus, minus, p, q, widths, gap=gap(p, q))
        rows.extend(zip(bound(model, plus, minus, widths), sampled, exact, strict=True))
    for threshold in THRESHOLDS:
        rows.extend(_labelled_pool(threshold, bound, gap_of_quality, rng))
    return dict(zip(("bound", "sampled", "exact"), np.array(rows).T, strict=True))


def _labelled_pool(
    threshold: float, bound: Bound, gap_of_quality: Callable[[theory.LabelQuality], float], rng: np.random.Generator
) -> list[tuple[float, float, float]]:
    from scipy.special import ndtr

    model = TwoGaussians()
    up, down = ndtr(model.mu1 - threshold) / 2, ndtr(model.mu2 - threshold) / 2
    # Right +, wrong +, right -, wrong -: counts of one pool each, without Bayes' rule.
    cells = rng.multinomial(POOL, [up, down, 0.5 - down, 0.5 - up], size=DRAWS)
    plus, minus = cells[:, 0] + cells[:, 1], cells[:, 2] + cells[:, 3]
    noise = model.sigma / 2 * np.sqrt(1 / plus + 1 / minus) * rng.standard_normal(DRAWS)
    theta = model.midpoint + model.half_distance * (cells[:, 0] / plus - cells[:, 2] / minus) + noise
    centre = model.midpoint + gap_of_quality(theory.label_quality(model, threshold)) * model.half_distance
    rows = []
    for level in LEVELS:
        width = width_of_level(bound, model, POOL // 2, POOL // 2, level)
        promised = float(np.mean(bound(model, plus, minus, width)))
        rows.append((promised, float(np.mean(np.abs(theta - centre) <= width)), np.nan))
    return rows


def judge_theorem(measured: dict[str, Array]) -> Judgement:
    """Row 112: no coverage below its bound, exact nor sampled; sampled and exact coverage agree."""
    bound, sampled, exact = (measured[name] for name in ("bound", "sampled", "exact"))
    given = ~np.isnan(exact)
    allowed = ALLOWANCE * np.maximum(np.sqrt(bound * (1 - bound) / DRAWS), 1 / DRAWS)
    apart = standard_errors((sampled - exact)[given], (exact * (1 - exact))[given], DRAWS)
    consistent = at_most(float(apart.max()), ALLOWANCE, name="standard errors between sampled and exact")
    return worst(
        [
            at_least(float(np.min((exact - bound)[given])), 0.0, name="exact coverage - bound"),
            at_least(float(np.min(sampled + allowed - bound)), 0.0, name="sampled coverage + 4 s.e. - bound"),
            # Without a distance, for the theorem's own number to be the one that is shown where all hold.
            replace(consistent, distance=float("nan")),
        ]
    )


# Row 113: the imbalance of the training set


Learner = Callable[[TwoGaussians, int, int, int, np.random.Generator], Array]


def measure_training_imbalance(
    _profile: str,
    rng: np.random.Generator,
    *,
    learner: Learner = theory.sample_base_thresholds,
    gap_of_quality: Callable[[theory.LabelQuality], Any] = precision_gap,
) -> dict[str, Array]:
    """From imbalanced labels to the bias of the midpoint: base threshold, precisions, estimate.

    For each of `TRAINING_RATIOS` (class + the rare one) `DRAWS` labelled sets give as many thresholds; each labels a
    balanced pool, whose counts are drawn; then the estimate is drawn in the theorem's model. Beside it stands the
    estimate's expectation when the inputs are those that really carry the labels.

    Args:
        rng: source of randomness.
        learner: (model, n_plus, n_minus, draws, rng) -> thresholds.
        gap_of_quality: Delta of labels of a given quality.

    Returns:
        Per ratio: "threshold" mean, "gap" mean, "bias" mean and "bias_error" its standard error, "predicted" mean
        Delta times the half distance, "apart" the standard errors between the two, "real_bias" and "real_error".
    """
    model, rows = TwoGaussians(), []
    for ratio in TRAINING_RATIOS:
        rare = round(LABELLED / (1 + ratio))
        tau = learner(model, rare, LABELLED - rare, DRAWS, rng)
        quality = theory.label_quality(model, tau)
        plus = np.clip(rng.binomial(UNLABELLED, quality.labelled_plus), 1, UNLABELLED - 1)
        chances = (quality.precision_plus, quality.precision_minus)
        bias = theory.sample_theta(model, plus, UNLABELLED - plus, *chances, 1, rng)[0] - model.midpoint
        predicted = gap_of_quality(quality) * model.half_distance
        real = theory.expected_theta(model, tau) - model.midpoint
        off = bias - predicted
        rows.append(
            (
                tau.mean(), np.mean(gap_of_quality(quality)), bias.mean(), bias.std(ddof=1) / DRAWS**0.5,
                predicted.mean(), abs(off.mean()) / (off.std(ddof=1) / DRAWS**0.5),
                real.mean(), real.std(ddof=1) / DRAWS**0.5,
            )
        )  # fmt: skip
    names = ("threshold", "gap", "bias", "bias_error", "predicted", "apart", "real_bias", "real_error")
    return dict(zip(names, np.array(rows).T, strict=True))


def judge_training_imbalance(measured: dict[str, Array]) -> Judgement:
    """Row 113: size of the bias grows with the ratio, beyond its error, is Delta's, and so for the real labels."""
    parts = []
    for name, error, label in (("bias", "bias_error", "bias"), ("real_bias", "real_error", "bias with real labels")):
        size = np.abs(measured[name])
        noise = ALLOWANCE * float(np.hypot(measured[error][0], measured[error][-1]))
        parts.append(
            at_least(rank_correlation(TRAINING_RATIOS, size), 0.9, name=f"rank correlation of ratio and {label}")
        )
        parts.append(at_least(float(size[-1] - size[0]) - noise, 0.0, name=f"rise of the {label} - 4 s.e."))
    parts.append(at_most(float(measured["apart"].max()), ALLOWANCE, name="standard errors between bias and prediction"))
    return worst(parts)


# Row 114: the imbalance of the unlabelled set


def unlabelled_sizes() -> tuple[Array, Array]:
    """Points labelled + and - at each of `UNLABELLED_RATIOS`, of `UNLABELLED_POINTS` in all."""
    rare = np.round(UNLABELLED_POINTS / (1 + np.array(UNLABELLED_RATIOS)))
    return rare, UNLABELLED_POINTS - rare


def measure_unlabelled_imbalance(
    _profile: str,
    rng: np.random.Generator,
    *,
    pair_size: Callable[[Any, Any], Any] = theory.pair_size,
    bound: Bound = library_bound,
) -> dict[str, Array]:
    """Probability of a miss at a fixed number of unlabelled points, over how they are shared between the labels.

    Args:
        rng: source of randomness.
        pair_size: (n_plus, n_minus) -> what the two groups are worth; the variance of the estimate without wrong
            labels is sigma^2 over four times it.
        bound: (model, n_plus, n_minus, delta) -> promised probability.

    Returns:
        Per ratio: "failure" exact, "sampled_failure", "promised_failure" one minus the bound, "pair_size", "variance"
        of the estimate when all labels are right.
    """
    model, (plus, minus) = TwoGaussians(), unlabelled_sizes()
    centre = theory.theorem_centre(model, *PRECISIONS)
    theta = theory.sample_theta(model, plus, minus, *PRECISIONS, DRAWS, rng)
    return {
        "failure": 1 - theory.coverage(model, plus, minus, *PRECISIONS, WIDTH),
        "sampled_failure": np.mean(np.abs(theta - centre) > WIDTH, axis=0),
        "promised_failure": 1 - bound(model, plus, minus, PROMISED_WIDTH),
        "pair_size": pair_size(plus, minus),
        "variance": theory.sample_theta(model, plus, minus, 1.0, 1.0, DRAWS, rng).var(axis=0, ddof=1),
    }


def judge_unlabelled_imbalance(measured: dict[str, Array]) -> Judgement:
    """Row 114: the failure, exact, sampled and promised, grows with the ratio; the pair size explains the variance."""
    failure, sampled = measured["failure"], measured["sampled_failure"]
    apart = standard_errors(sampled - failure, failure * (1 - failure), DRAWS)
    # The variance of DRAWS normal numbers has the relative standard error sqrt(2 / DRAWS).
    explained = np.abs(measured["variance"] * 4 * measured["pair_size"] - 1) / np.sqrt(2 / DRAWS)
    rise = sampled[-1] - sampled[0] - ALLOWANCE * np.sqrt(np.sum((sampled * (1 - sampled))[[0, -1]]) / DRAWS)
    parts = []
    for name in ("failure", "promised_failure"):
        label = name.replace("_", " ")
        rank = rank_correlation(UNLABELLED_RATIOS, measured[name])
        parts.append(at_least(rank, 0.9, name=f"rank correlation of ratio and {label}"))
        parts.append(at_least(float(np.min(np.diff(measured[name]))), 0.0, name=f"smallest rise of {label}"))
    parts.append(at_least(float(rise), 0.0, name="rise of the sampled failure - 4 s.e."))
    parts.append(at_most(float(apart.max()), ALLOWANCE, name="standard errors between sampled and exact failure"))
    parts.append(at_most(float(explained.max()), ALLOWANCE, name="standard errors between variance and pair size"))
    return worst(parts)


PROFILES = ("quick", "small", "paper")
CHECKS: tuple[Check, ...] = (
    Check(
        Claim(
            110, "S3 L94", "T", "Balanced Gaussians of equal variance are best told apart at the midpoint of the means",
            "the minimiser of the error is within a grid step; the printed product form is rejected",
        ),
        measure_threshold, judge_threshold, PROFILES,
    ),
    Check(
        Claim(
            111, "S3 L103", "D", "theta: half the sum of the means of the two pseudo-labelled groups",
            "equal to its definition",
        ),
        measure_estimator, judge_estimator, PROFILES,
    ),
    Check(
        Claim(
            112, "S3 L105-110", "T", "theta lies within delta of midpoint + Delta (mu1-mu2)/2 with at least the stated "
            "probability",
            "coverage, exact and sampled (4 s.e.), is at least the bound",
        ),
        measure_theorem, judge_theorem, PROFILES,
    ),
    Check(
        Claim(
            113, "S3 L114", "T", "The imbalance of the training set affects the accuracy of theta, through Delta",
            "size of the bias grows with the training ratio, rank correlation >= 0.9",
        ),
        measure_training_imbalance, judge_training_imbalance, PROFILES,
    ),
    Check(
        Claim(
            114, "S3 L115", "T", "The imbalance of the unlabelled set affects the probability of a good theta",
            "failure at fixed n grows with the unlabelled ratio",
        ),
        measure_unlabelled_imbalance, judge_unlabelled_imbalance, PROFILES,
    ),
)  # fmt: skip
