"""Self-supervised Gaussian toy model: rows 123 to 127 of the ledger of claims."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.rules import at_least, at_most, equal
from lt_lib.theory import gaussian_self as model

Array = npt.NDArray[np.float64]
ALLOWANCE = 4.0  # standard errors granted to a Monte-Carlo mean
PROFILES = ("quick", "small", "paper")

SCALES = ((0.1, 0.001, 1.0), (1.0, 1.0, 0.1), (30.0, 1.0, 10.0), (1.0, 100.0, 1.0), (30.0, 100.0, 0.1))  # k1, k2, sigma
FEATURE_WORLDS = ((2, 3.5, 10, 100), (20, 5.0, 5, 200), (200, 1.5, 2, 2))  # d, v, N+, N-

OFFSETS = np.r_[0.0, np.geomspace(1e-3, 40.0, 4000), np.inf]
LINEAR_RATIOS = np.array([1.01, 1.5, 3.5, 5.0, 9.0, 30.0, 100.0, 1e4, 1e8])
LINEAR_PRIORS = np.array([0.001, 0.01, 0.1, 0.3, 0.45, 0.5])
LINEAR_SAMPLES = ((0.0, 5.0, 0.1, 10), (0.5, 3.5, 0.3, 2), (2.0, 30.0, 0.5, 50), (1.5, 9.0, 0.1, 5))  # a, v, p+, d

RATIOS = np.array([1.5, 3.5, 5.0, 10.0])
DIMS = np.array([10, 50, 200, 1000])
COUNTS = np.array([[5, 500], [20, 20], [1, 50]])  # N+, N-
FRACTIONS = np.array([0.1, 0.5, 0.9])  # of the largest delta
PRIOR = 0.1

DECAY_DIMS = np.arange(20, 501, 20)
DECAY_WORLDS = ((5.0, 5, 500, 0.1), (3.5, 20, 20, 0.5), (10.0, 2, 100, 0.02))  # v, N+, N-, p+

# v, d, N, p+, delta as a fraction of its maximum: few samples, so that failures are not lost among rounding errors
IMBALANCE_WORLDS = ((2.0, 100, 8, 0.1, 0.02), (3.5, 20, 8, 0.1, 0.02), (5.0, 20, 8, 0.5, 0.02), (5.0, 50, 12, 0.1, 0.1))
MOVED = 0.01  # relative change of a probability from which on something is said to affect it


# Row 123


def classify(positives: Array, negatives: Array, tests: Array, k1: float, k2: float) -> npt.NDArray[np.bool_]:
    """Decisions of the classifier on the squared norm, learned from raw samples; True is "positive"."""
    threshold = model.midpoint(
        model.squared_norm_feature(positives, k1, k2), model.squared_norm_feature(negatives, k1, k2)
    )
    return np.asarray(model.squared_norm_feature(tests, k1, k2) < threshold)


def measure_representation(
    _profile: str,
    rng: np.random.Generator,
    *,
    decide: Callable[..., npt.NDArray[np.bool_]] = classify,
    num_tests: int = 4000,
) -> dict[str, Any]:
    """Decisions under changes of k1, k2 and sigma, and the test error beside the closed form.

    Args:
        rng: source of randomness.
        decide: (positives, negatives, tests, k1, k2) -> decisions.
        num_tests: test points, half of each class.

    Returns:
        "changed": decisions that differ from those at k1 = k2 = sigma = 1, over all worlds; "decisions": how many were
        compared; "errors": per world (measured, standard error, closed form) of the balanced test error.
    """
    changed, errors = 0, []
    for dim, ratio, n_pos, n_neg in FEATURE_WORLDS:
        spread = np.sqrt(ratio)
        positives, negatives = rng.standard_normal((n_pos, dim)), spread * rng.standard_normal((n_neg, dim))
        tests = rng.standard_normal((num_tests, dim))
        is_positive = np.arange(num_tests) < num_tests // 2
        tests[~is_positive] *= spread
        base = decide(positives, negatives, tests, 1.0, 1.0)
        for k1, k2, sigma in SCALES:
            changed += int(np.sum(decide(sigma * positives, sigma * negatives, sigma * tests, k1, k2) != base))
        exact = float(model.classifier_error(_threshold(positives, negatives), ratio, dim, 0.5))
        wrong = base != is_positive
        errors.append((float(wrong.mean()), float(np.sqrt(exact * (1 - exact) / num_tests)), exact))
    return {"changed": changed, "decisions": num_tests * len(SCALES) * len(FEATURE_WORLDS), "errors": errors}


def _threshold(positives: Array, negatives: Array) -> float:
    return (float(np.mean(np.sum(positives**2, axis=1))) + float(np.mean(np.sum(negatives**2, axis=1)))) / 2


def judge_representation(measured: dict[str, Any]) -> Judgement:
    """Row 123: no decision changes; the test error is the closed form within 4 standard errors in every world."""
    same = f"decision of {measured['decisions']} that changes with k1, k2, sigma"
    parts = [at_most(measured["changed"], 0, name=same)]
    for value, se, exact in measured["errors"]:
        part = equal(value, se, exact, allowance=ALLOWANCE)
        parts.append(replace(part, threshold=f"test error within 4 standard errors of {exact:.3g}; no {same}"))
    return worst(parts)


# Row 124


def measure_linear(
    _profile: str,
    rng: np.random.Generator,
    *,
    error: Callable[..., Array] = model.linear_error,
    offsets: Array = OFFSETS,
    mean_distance: float = 0.0,
    num_samples: int = 40_000,
) -> dict[str, Any]:
    """Least error of linear classifiers over a grid of offsets, and the formula beside drawn points.

    Args:
        rng: source of randomness.
        error: (offset, variance ratio, prior, mean_shift=...) -> error.
        offsets: values of b / (norm of theta times sigma) that are tried; theorem 2 allows none below zero.
        mean_distance: distance of the negatives' mean from the origin; 0 in theorem 2.
        num_samples: points per sampled setting.

    Returns:
        "least" (ratios, priors); "closed" the infimum by formula; "sampled": (measured, standard error, formula).
    """
    ratios, priors = LINEAR_RATIOS[:, None, None], LINEAR_PRIORS[None, :, None]
    least = np.min(error(offsets, ratios, priors, mean_shift=-mean_distance), axis=-1)
    sampled = []
    for offset, ratio, prior, dim in LINEAR_SAMPLES:
        value, se = model.sample_linear_error(offset, ratio, prior, dim, num_samples, rng, mean_distance=mean_distance)
        sampled.append((value, se, float(error(offset, ratio, prior, mean_shift=-mean_distance))))
    closed = model.linear_infimum(ratios[..., 0], priors[..., 0], mean_distance=mean_distance)
    return {"least": least, "closed": closed, "sampled": sampled}


def linear_parts(measured: dict[str, Any]) -> dict[str, Judgement]:
    """The parts of row 124: the theorem; the grid search beside the closed form; the formula beside drawn points."""
    parts = {
        "theorem": at_least(float(np.min(measured["least"])), 0.25, name="least error over b >= 0"),
        "closed form": at_most(
            max(float(np.max(np.abs(measured["least"] - measured["closed"]))), 1e-6), 1e-4, name="grid - closed form"
        ),
    }
    for place, (value, se, exact) in enumerate(measured["sampled"]):
        parts[f"sample {place}"] = equal(value, se, exact, allowance=ALLOWANCE)
    return parts


def judge_linear(measured: dict[str, Any]) -> Judgement:
    """Row 124: the least error over b >= 0 is at least 1/4 everywhere, and the formula is the sampled error."""
    return worst(linear_parts(measured).values(), "least error over b >= 0 at least 1/4; formula = sample within 4 se")


# Row 125


def measure_theorem_three(
    _profile: str,
    rng: np.random.Generator,
    *,
    bound: Callable[..., model.ErrorBound] = model.error_bound,
    failure: Callable[..., Array] = model.failure_bound,
    num_draws: int = 2000,
) -> dict[str, Any]:
    """Theorem 3 beside drawn training sets and beside exact probabilities, on the grid of this module.

    The axes are variance ratio, dimension, pair of counts, delta.

    Args:
        rng: source of randomness.
        bound: (variance ratio, dim, delta, prior) -> `ErrorBound`.
        failure: (dim, delta, positives, negatives) -> bound on the probability of failure.
        num_draws: training sets per cell.

    Returns:
        "probability", the bound clipped to [0, 1]; "covered", shares of the draws by "total", "on_positives" and
        "on_negatives"; "tightest", ratio of the exact class error at the worse end of the threshold window to its
        bound, by class; "window", exact failure of the window over the failure bound; "draws".
    """
    v, d = RATIOS[:, None, None, None], DIMS[:, None, None]
    n_pos, n_neg = COUNTS[:, :1], COUNTS[:, 1:]
    delta = FRACTIONS * model.max_delta(v)
    limits = bound(v, d, delta, PRIOR)
    failing = failure(d, delta, n_pos, n_neg)
    t = model.draw_thresholds(v, d, n_pos, n_neg, num_draws, rng)
    on_positives, on_negatives = model.class_errors(t, v[..., None], d[..., None])
    total = PRIOR * on_positives + (1 - PRIOR) * on_negatives
    drawn = {"total": total, "on_positives": on_positives, "on_negatives": on_negatives}
    low, high = model.threshold_window(v, d, delta)
    ends = {"on_positives": model.class_errors(low, v, d)[0], "on_negatives": model.class_errors(high, v, d)[1]}
    return {
        "probability": np.clip(1 - failing, 0.0, 1.0) + np.zeros(total.shape[:-1]),
        "covered": {name: np.mean(e <= getattr(limits, name)[..., None], axis=-1) for name, e in drawn.items()},
        "tightest": {name: _ratio(e, getattr(limits, name)) for name, e in ends.items()},
        "window": _ratio(model.window_failure(d, delta, n_pos, n_neg), failing),
        "draws": num_draws,
    }


def _ratio(value: npt.ArrayLike, limit: npt.ArrayLike) -> Array:
    """Value over limit, and 0 for 0 over 0: both may be too small for a float."""
    a, b = np.broadcast_arrays(np.asarray(value, dtype=np.float64), np.asarray(limit, dtype=np.float64))
    return np.where(a > 0, a / np.where(b > 0, b, np.finfo(float).tiny), 0.0)


def theorem_three_parts(measured: dict[str, Any]) -> dict[str, Judgement]:
    """The parts of row 125: coverage in draws of the error and of each class, and the exact inequalities."""
    parts = {}
    for name in ("on_negatives", "on_positives"):
        ratio = float(np.max(measured["tightest"][name]))
        parts[f"tail, {name}"] = at_most(ratio, 1 + 1e-9, name=f"exact tail / bound, {name},")
    parts["window"] = at_most(float(np.max(measured["window"])), 1 + 1e-9, name="exact failure / bound of the window")
    probability = measured["probability"]
    # The spread is that of a frequency whose true value is the bound: where that is 1, nothing is granted.
    spread = np.sqrt(probability * (1 - probability) / measured["draws"])
    for name, covered in measured["covered"].items():
        surplus = float(np.min(covered - probability + ALLOWANCE * spread))
        parts[f"coverage, {name}"] = at_least(surplus, 0.0, name=f"coverage ({name}) - bound + 4 se")
    return parts


def judge_theorem_three(measured: dict[str, Any]) -> Judgement:
    """Row 125: coverage at least the bound less 4 standard errors, in total and per class; exact tails below bounds."""
    parts = theorem_three_parts(measured)
    cells = measured["probability"].size
    return worst(parts.values(), f"exact tails / bounds <= 1; coverage >= bound - 4 se, per class too; {cells} cells")


# Row 126


def measure_decay(
    _profile: str, _rng: np.random.Generator, *, error: Callable[..., Array] = model.expected_error
) -> dict[tuple[float, int, int, float], dict[str, Any]]:
    """Straight line through the logarithm of the expected error against the dimension, per world.

    Args:
        error: (variance ratio, dim, positives, negatives, prior) -> expected error.

    Returns:
        By world: "error" at `DECAY_DIMS`, "slope" and "r2" of the line.
    """
    measured = {}
    for world in DECAY_WORLDS:
        ratio, n_pos, n_neg, prior = world
        values = np.asarray(error(ratio, DECAY_DIMS, n_pos, n_neg, prior)) + np.zeros(len(DECAY_DIMS))
        logs = np.log(values)
        slope, intercept = np.polyfit(DECAY_DIMS, logs, 1)
        rest, spread = np.sum((logs - slope * DECAY_DIMS - intercept) ** 2), np.sum((logs - logs.mean()) ** 2)
        # A constant has no trend to explain.
        measured[world] = {"error": values, "slope": float(slope), "r2": float(1 - rest / spread) if spread else 0.0}
    return measured


def judge_decay(measured: dict[tuple[float, int, int, float], dict[str, Any]]) -> Judgement:
    """Row 126: in every world the slope is negative and the line explains 95 % of the variance or more."""
    rule = f"log error falls along d = {DECAY_DIMS[0]} .. {DECAY_DIMS[-1]}, {len(measured)} worlds"
    parts = []
    for part in measured.values():
        falls = "holds" if part["slope"] < 0 else "refuted"
        parts.append(Judgement(falls, part["slope"], threshold=rule))
        parts.append(at_least(part["r2"], 0.95, name=f"{rule}; R2 of the line"))
    return worst(parts)


# Row 127


def failure_bound(
    _ratio: npt.ArrayLike, dim: npt.ArrayLike, delta: npt.ArrayLike, n_pos: npt.ArrayLike, n_neg: npt.ArrayLike
) -> Array:
    """Theorem 3's bound on the failure; the variance ratio is an argument that it does not use."""
    return model.failure_bound(dim, delta, n_pos, n_neg)


def window_failure(
    _ratio: npt.ArrayLike, dim: npt.ArrayLike, delta: npt.ArrayLike, n_pos: npt.ArrayLike, n_neg: npt.ArrayLike
) -> Array:
    """Exact probability that a class mean leaves its window; the variance ratio is an argument that it does not use."""
    return model.window_failure(dim, delta, n_pos, n_neg)


def error_failure(
    ratio: float, dim: int, delta: float, n_pos: npt.ArrayLike, n_neg: npt.ArrayLike, *, prior: float = PRIOR
) -> Array:
    """Exact probability that the error exceeds theorem 3's bound."""
    level = model.error_bound(ratio, dim, delta, prior).total
    return model.exceedance(level, ratio, dim, n_pos, n_neg, prior)


def simulate_window(
    ratio: float, dim: int, delta: float, n_pos: int, n_neg: int, num_draws: int, rng: np.random.Generator
) -> Array:
    """Whether a class mean of the squared norm leaves its window, in training sets drawn point by point."""
    positives = rng.standard_normal((num_draws, n_pos, dim))
    negatives = np.sqrt(ratio) * rng.standard_normal((num_draws, n_neg, dim))
    means = np.sum(positives**2, axis=(1, 2)) / n_pos, np.sum(negatives**2, axis=(1, 2)) / n_neg
    expected = dim, ratio * dim
    outside = [np.abs(m / e - 1) > delta for m, e in zip(means, expected, strict=True)]
    return np.asarray(outside[0] | outside[1], dtype=np.float64)


def measure_imbalance(
    _profile: str,
    rng: np.random.Generator,
    *,
    bound: Callable[..., Array] = failure_bound,
    window: Callable[..., Array] = window_failure,
    conclusion: Callable[..., Array] = error_failure,
    simulate: Callable[..., Array] = simulate_window,
    num_draws: int = 4000,
) -> dict[str, Any]:
    """Three failures against N+ at fixed N+ + N-, up to balance, and two against the variance ratio at fixed counts.

    Args:
        rng: source of randomness.
        bound: (ratio, dim, delta, positives, negatives) -> theorem 3's bound on the failure.
        window: same arguments; exact probability that a class mean leaves its window.
        conclusion: same arguments and prior=...; exact probability that the error exceeds its bound.
        simulate: (ratio, dim, delta, positives, negatives, draws, rng) -> 1 where a drawn training set fails.
        num_draws: training sets per variance ratio.

    Returns:
        "positives" per world; "bound", "window", "conclusion": failures per world along it; "beta": per pair of counts
        and variance ratio (simulated failure, its standard error, exact window failure); "beta_bound": largest relative
        change of the failure bound over `RATIOS` at fixed counts and delta.
    """
    out: dict[str, Any] = {name: [] for name in ("positives", "bound", "window", "conclusion", "beta")}
    for ratio, dim, total, prior, fraction in IMBALANCE_WORLDS:
        positives = np.arange(1, total // 2 + 1)
        delta = fraction * float(model.max_delta(ratio))
        out["positives"].append(positives)
        # The bound and the window are informative at a wider window than the conclusion.
        wide = 0.5 * float(model.max_delta(ratio))
        out["bound"].append(bound(ratio, dim, wide, positives, total - positives))
        out["window"].append(window(ratio, dim, wide, positives, total - positives))
        out["conclusion"].append(conclusion(ratio, dim, delta, positives, total - positives, prior=prior))
    for n_pos, n_neg in ((2, 18), (10, 10)):
        exact = float(model.window_failure(10, 0.15, n_pos, n_neg))
        for ratio in RATIOS:
            failed = simulate(float(ratio), 10, 0.15, n_pos, n_neg, num_draws, rng)
            out["beta"].append((float(failed.mean()), float(np.sqrt(exact * (1 - exact) / num_draws)), exact))
    over_ratios = np.asarray(bound(RATIOS, 50, 0.15, 5, 500)) + np.zeros(len(RATIOS))
    out["beta_bound"] = float(np.ptp(over_ratios) / over_ratios.max())
    return out


FAILURES = {"bound": "failure bound", "window": "P(window left)", "conclusion": "P(error > bound)"}


def imbalance_parts(measured: dict[str, Any]) -> dict[str, Judgement]:
    """The parts of row 127: three failures move with N+ at fixed N, and two with beta at fixed counts."""
    parts = {}
    for name, label in FAILURES.items():
        moved = min(float(np.ptp(values) / np.max(values)) for values in measured[name])
        parts[f"N+, {name}"] = at_least(moved, MOVED, name=f"change of the {label} along N+ at fixed N, relative,")
    label = "change of the failure bound with beta at fixed counts, relative,"
    parts["beta, bound"] = at_least(measured["beta_bound"], MOVED, name=label)
    off = max(abs(value - exact) / se for value, se, exact in measured["beta"])
    label = "standard errors of drawn failures from the value without beta"
    parts["beta, drawn"] = at_least(off, ALLOWANCE, name=label)
    return parts


def judge_imbalance(measured: dict[str, Any]) -> Judgement:
    """Row 127: the failure moves with N+ at fixed N, and with beta, which the sentence calls the imbalance."""
    return worst(imbalance_parts(measured).values())


def falling_to_balance(measured: dict[str, Any]) -> dict[str, Judgement]:
    """Beside row 127: whether each failure falls with N+ at fixed N all the way up to balance."""
    parts = {}
    for name, label in FAILURES.items():
        steps = [float(np.max(np.asarray(values)[1:] / np.asarray(values)[:-1])) for values in measured[name]]
        verdict = "holds" if max(steps) < 1 else "refuted"
        parts[name] = Judgement(verdict, max(steps), threshold=f"{label}: factor per step of N+ at fixed N < 1")
    return parts


CHECKS: tuple[Check, ...] = (
    Check(
        Claim(
            123, "S3 L153-156", "D", "Model of two centred Gaussians and the feature k1 |X|^2 + k2",
            "no decision changes with k1, k2, sigma; test error = closed form within 4 standard errors",
        ),
        measure_representation, judge_representation, PROFILES,
    ),
    Check(
        Claim(
            124, "S3 L160-162", "T", "A linear classifier with b > 0 errs on at least a quarter of the points",
            "least error over b >= 0 at least 1/4; formula = sample within 4 standard errors",
        ),
        measure_linear, judge_linear, PROFILES,
    ),
    Check(
        Claim(
            125, "S3 L164-166", "T", "Theorem 3: on the squared norm the error is below its bound, in nearly every "
            "training set",
            "coverage >= bound - 4 standard errors, per class too; exact tails below their bounds",
        ),
        measure_theorem_three, judge_theorem_three, PROFILES,
    ),
    Check(
        Claim(
            126, "S3 L170", "T", "The error decays exponentially with the dimension",
            "slope of log error against d < 0, R2 >= 0.95 for d in 20 .. 500",
        ),
        measure_decay, judge_decay, PROFILES,
    ),
    Check(
        Claim(
            127, "S3 L171", "T", "Training imbalance (i.e. beta) affects the success probability",
            "failure moves by 1 % or more with N+ at fixed N (its bound, the event in the proof, error > bound) and "
            "with beta at fixed counts (bound; draws, beyond 4 standard errors)",
        ),
        measure_imbalance, judge_imbalance, PROFILES,
    ),
)  # fmt: skip
