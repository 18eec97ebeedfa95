"""The effective number of samples: rows 11-18 and 79-81."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_lib import counts
from lt_lib.claims._covering import NUM_SEEDS, added_length, box_steps, circle_neighbours, digit_neighbours
from lt_lib.claims._covering import learning_curve as train_curve
from lt_lib.claims._worlds import WORLDS, worlds_in_words
from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.rules import at_most, positive_effect
from lt_lib.theory import effective_number as theory

Array = npt.NDArray[np.float64]
Formula = Callable[[int, float], float]
Simulation = Callable[[Any, int, int, np.random.Generator], Array]

# Volume and number of samples; the circle needs no whole volume.
BOXES = ((10, 5), (10, 20), (100, 30), (100, 100), (100, 300), (1000, 500))
ARCS = ((5.5, 12), (10.0, 30), (30.5, 60), (100.0, 100), (100.0, 300))
REPETITIONS = 10_000
ALLOWANCE = 4.0  # standard errors
NEIGHBOUR_SIZES = (4, 8, 16, 32, 64)
CURVE_SIZES = (16, 32, 64, 128)
INCREMENT_BETAS = (0.9, 0.99, 0.999)


def closed_form(num_samples: int, volume: float) -> float:
    """Effective number of one sample size, `theory.expected_volume`."""
    return float(theory.expected_volume([num_samples], volume)[0])


def effective_numbers(num_samples: npt.ArrayLike, beta: float) -> Array:
    """`counts.effective_number`, as the class-balanced weights use it."""
    return counts.effective_number(num_samples, beta)


def simulate_cells(
    space: str, simulation: Simulation, cells: Iterable[tuple[float, int]], rng: np.random.Generator, formula: Formula
) -> list[dict[str, Any]]:
    """Mean covered volume and its standard error beside a formula, one row per (volume, samples)."""
    rows = []
    for volume, samples in cells:
        covered = simulation(volume, samples, REPETITIONS, rng)
        error = covered.std(ddof=1) / np.sqrt(REPETITIONS)
        expected = formula(samples, volume)
        row = {"space": space, "volume": volume, "samples": samples, "mean": covered.mean(), "standard_error": error}
        rows.append({**row, "formula": expected, "distance": (covered.mean() - expected) / error})
    return rows


def measure_covering(
    _profile: str, rng: np.random.Generator, formula: Formula = closed_form
) -> dict[str, list[dict[str, Any]]]:
    """Rows 14, 15 and 79: boxes, circle and interval against the closed form.

    Args:
        rng: source of randomness.
        formula: (samples, volume) -> expected covered volume. Replaced by wrong ones in tests.

    Returns:
        By space, a list of rows as `simulate_cells` makes them.
    """
    return {
        "boxes": simulate_cells("boxes", theory.occupancy, BOXES, rng, formula),
        "circle": simulate_cells("circle", theory.circle_coverage, ARCS, rng, formula),
        "interval": simulate_cells("interval", theory.interval_coverage, ARCS, rng, formula),
    }


def judge_covering(measured: dict[str, list[dict[str, Any]]]) -> Judgement:
    """Rows 14 and 15: within 4 standard errors in every cell of boxes and circle."""
    rows = [row for space in ("boxes", "circle") for row in measured[space]]
    farthest = max(abs(row["distance"]) for row in rows)
    rule = f"every |simulation - formula| <= {ALLOWANCE:g} standard errors, {len(rows)} cells"
    return worst([at_most(farthest, ALLOWANCE)], threshold=rule)


def judge_definition(measured: dict[str, list[dict[str, Any]]]) -> Judgement:
    """Row 14: the definition on boxes, where a sample is wholly inside or outside as the text assumes."""
    return judge_covering({"boxes": measured["boxes"], "circle": []})


def judge_simplification(measured: dict[str, list[dict[str, Any]]]) -> Judgement:
    """Row 79: is the closed form off where overlaps are partial, on a space without boundary?

    The claim is that all-or-nothing overlap is needed. It holds if the formula misses the circle by more than 4
    standard errors, and is refuted if it meets every cell of it while the simulation resolves 1 %.
    """
    rows = measured["circle"]
    farthest = max(abs(row["distance"]) for row in rows)
    resolution = max(ALLOWANCE * row["standard_error"] / row["mean"] for row in rows)
    verdict = "holds" if farthest > ALLOWANCE else "refuted" if resolution < 0.01 else "inconclusive"
    return Judgement(verdict, farthest, threshold=f"formula off by > {ALLOWANCE:g} standard errors on a circle")


def measure_steps(
    _profile: str, rng: np.random.Generator, inside_probability: Callable[[Array, float], Array] = np.divide
) -> dict[str, Any]:
    """Row 13: how often a new sample is inside the covered volume V, against V / N, and what a circle does instead.

    Args:
        rng: source of randomness.
        inside_probability: (covered volume, volume) -> probability. Replaced by wrong ones in tests.

    Returns:
        "boxes": rows with volume, samples, share inside, expected share and distance in standard errors. "circle":
        rows with samples and the shares inside, partial and outside at circumference 20.
    """
    boxes = []
    for volume, samples in ((2, 2), (10, 5), (10, 20), (100, 50), (100, 200)):
        covered, inside = box_steps(volume, samples, REPETITIONS, rng)
        excess = inside - inside_probability(covered, volume)
        distance = excess.mean() / (excess.std(ddof=1) / np.sqrt(REPETITIONS))
        row = {"volume": volume, "samples": samples, "inside": inside.mean()}
        boxes.append({**row, "expected": inside.mean() - excess.mean(), "distance": distance})
    circle = []
    for samples in (1, 2, 5, 10, 20, 40, 80, 160):
        added = added_length(20.0, samples, REPETITIONS, rng)
        partial = ((added > 0) & (added < 1)).mean()
        circle.append(
            {"samples": samples, "inside": (added == 0).mean(), "partial": partial, "outside": (added == 1).mean()}
        )
    return {"boxes": boxes, "circle": circle}


def judge_steps(measured: dict[str, Any]) -> Judgement:
    """Row 13: within 4 standard errors at every integer volume, with boxes; the circle is reported, not judged.

    Equal boxes meet the description by construction. On the circle many samples are partly inside, so that the second
    half of the sentence is false there.
    """
    rows = measured["boxes"]
    rule = f"share inside = V/N within {ALLOWANCE:g} standard errors, {len(rows)} cells of equal boxes; not on a circle"
    return worst([at_most(max(abs(row["distance"]) for row in rows), ALLOWANCE)], threshold=rule)


def measure_neighbours(_profile: str, rng: np.random.Generator) -> dict[str, Array]:
    """Row 11: mean distance to the nearest other sample, (sizes, repetitions), on a circle and between real digits."""
    return {
        "circle": np.stack([circle_neighbours(size, NUM_SEEDS, rng) for size in NEIGHBOUR_SIZES]),
        "digits": np.stack([digit_neighbours(size, NUM_SEEDS, rng) for size in NEIGHBOUR_SIZES]),
    }


def judge_neighbours(measured: dict[str, Array]) -> Judgement:
    """Row 11: every doubling of the sample brings the nearest neighbour closer, one-sided 95 % t."""
    parts = [
        positive_effect(near - far) for part in measured.values() for near, far in zip(part, part[1:], strict=False)
    ]
    return worst(parts, threshold="distance falls at each doubling of n, one-sided 95% t, circle and digits")


def measure_benefit(
    _profile: str,
    _rng: np.random.Generator,
    *,
    increments: Callable[[int, float], Array] = theory.volume_increments,
    curve: Callable[[str, Iterable[int]], Array] = train_curve,
    worlds: Iterable[str] = WORLDS,
    sizes: tuple[int, ...] = CURVE_SIZES,
) -> dict[str, Any]:
    """Row 12: what the j-th sample adds to the covered volume, and what more samples do for a trained network.

    Args:
        increments: (samples, beta) -> gains. Replaced by a wrong formula in tests.
        curve: (world, samples per class) -> errors in percent (sizes, seeds). Replaced in tests.
        worlds: data sets.
        sizes: samples per class, each twice the one before.

    Returns:
        "increments": by beta, gains of 100 samples. "sizes" (sizes,). "errors": by world (sizes, seeds).
    """
    return {
        "increments": {beta: increments(100, beta) for beta in INCREMENT_BETAS},
        "sizes": np.array(sizes),
        "errors": {world: curve(world, sizes) for world in worlds},
    }


def marginal_gain(errors: Array, sizes: npt.ArrayLike) -> Array:
    """Error removed per added sample of each class, (sizes - 1, seeds).

    Example:
        >>> marginal_gain(np.array([[40.0], [30.0], [26.0]]), [10, 20, 40]).ravel()
        array([1. , 0.2])
    """
    return -np.diff(errors, axis=0) / np.diff(np.asarray(sizes, dtype=np.float64))[:, None]


def judge_benefit(measured: dict[str, Any]) -> Judgement:
    """Row 12: increments strictly decreasing, and less error removed per sample at each doubling in every world."""
    slope = max(float(np.diff(gains).max()) for gains in measured["increments"].values())
    formula = Judgement(
        "holds" if slope < 0 else "refuted", slope, threshold="largest change of beta^(j-1) from j to j + 1 < 0"
    )
    parts = []
    for errors in measured["errors"].values():
        gains = marginal_gain(errors, measured["sizes"])
        parts += [positive_effect(early - late) for early, late in zip(gains, gains[1:], strict=False)]
    if formula.verdict == "refuted":
        return formula
    words = worlds_in_words(measured["errors"])
    return worst(parts, threshold=f"gain per sample falls at each doubling, one-sided 95% t, {words}; increments fall")


def measure_growth(
    _profile: str, _rng: np.random.Generator, number: Callable[[npt.ArrayLike, float], Array] = effective_numbers
) -> dict[str, Array]:
    """Row 16: effective number on a grid of beta.

    Args:
        number: (samples, beta) -> effective number. Replaced by wrong formulas in tests.

    Returns:
        "beta" (betas,), "samples" (sizes,), "number" (betas, sizes).
    """
    samples = np.array([2, 5, 20, 100, 1000, 5000])
    beta = np.concatenate([np.linspace(0, 0.9, 10), 1 - np.geomspace(1e-1, 1e-8, 15)[1:], [1.0]])
    return {"beta": beta, "samples": samples, "number": np.stack([number(samples, b) for b in beta])}


def judge_growth(measured: dict[str, Array]) -> Judgement:
    """Row 16: strictly increasing in beta for every n >= 2."""
    steps = np.diff(measured["number"], axis=0) / measured["number"][:-1]
    verdict = "holds" if steps.min() > 0 else "refuted"
    text = "smallest relative step of E_n from one beta of the grid to the next > 0, every n >= 2"
    return Judgement(verdict, float(steps.min()), threshold=text)


def measure_induction(
    _profile: str, _rng: np.random.Generator, recursion: Callable[[int, float], Array] = theory.recursive_volume
) -> dict[str, float]:
    """Row 17: largest relative difference of recursion and closed form.

    Args:
        recursion: (samples, volume) -> expected volumes of 1 to `samples` samples. Replaced by wrong ones in tests.
    """
    differences = {}
    for volume in (1.0, 1.5, 2.0, 10.0, 123.4, 1e3, 1e6):
        exact = theory.expected_volume(np.arange(1, 2001), volume)
        differences[f"{volume:g}"] = float(np.abs(recursion(2000, volume) / exact - 1).max())
    return differences


def judge_induction(measured: dict[str, float]) -> Judgement:
    """Row 17: below 1e-12 at every volume."""
    largest = max(measured.values())
    # Below 1e-12 the value is rounding, which differs between processors.
    return at_most(0.0 if largest < 1e-12 else largest, 1e-12, name="largest relative difference")


def measure_limits(
    _profile: str, _rng: np.random.Generator, number: Callable[[npt.ArrayLike, float], Array] = effective_numbers
) -> dict[str, float]:
    """Row 18: distance from 1 at beta 0, and relative distance from n at beta = 1 - 1e-9, n up to 1000.

    Args:
        number: (samples, beta) -> effective number. Replaced by wrong formulas in tests.
    """
    samples = np.arange(1, 1001)
    return {
        "volume 1": float(np.abs(number(samples, 0.0) - 1).max()),
        "large volume": float(np.abs(number(samples, 1 - 1e-9) / samples - 1).max()),
    }


def judge_limits(measured: dict[str, float]) -> Judgement:
    """Row 18: 1 at N = 1, and n within 1e-6 at N = 1e9."""
    parts = [
        at_most(measured["large volume"], 1e-6, name="|E_n - n| / n at N = 1e9"),
        at_most(measured["volume 1"], 0.0, name="|E_n - 1| at N = 1"),
    ]
    return worst(parts)


def measure_proposition(
    profile: str, rng: np.random.Generator, formula: Formula = closed_form
) -> dict[str, dict[str, Any]]:
    """Row 80: the measurements of rows 15 and 18.

    Args:
        profile: handed on.
        rng: source of randomness.
        formula: (samples, volume) -> expected covered volume. Replaced by wrong ones in tests.
    """
    return {"covering": measure_covering(profile, rng, formula), "limits": measure_limits(profile, rng)}


def judge_proposition(measured: dict[str, dict[str, Any]]) -> Judgement:
    """Row 80: rows 15 and 18 both hold."""
    shown = worst([judge_covering(measured["covering"]), judge_limits(measured["limits"])])
    return replace(shown, threshold=f"rows 15 and 18; nearest: {shown.threshold}")


def measure_large_volume(
    _profile: str, _rng: np.random.Generator, formula: Formula = closed_form
) -> dict[str, npt.NDArray[Any]]:
    """Row 81: E_n / n against n / N.

    Args:
        formula: (samples, volume) -> expected covered volume. Replaced by wrong ones in tests.

    Returns:
        "volume", "samples" and "ratio", one entry per pair.
    """
    pairs = [
        (volume, round(volume * share))
        for volume in (1e3, 1e4, 1e5, 1e6)
        for share in (0.001, 0.005, 0.01, 0.019, 0.05, 0.2, 1.0, 5.0)
    ]
    volume, samples = (np.array(column) for column in zip(*pairs, strict=True))
    return {"volume": volume, "samples": samples, "ratio": np.array([formula(n, v) / n for v, n in pairs])}


def judge_large_volume(measured: dict[str, npt.NDArray[Any]]) -> Judgement:
    """Row 81: within 1 % of n wherever n < N / 50."""
    small = measured["samples"] < measured["volume"] / 50
    distance = float(np.abs(measured["ratio"][small] - 1).max())
    return at_most(distance, 0.01, name="|E_n / n - 1| where n < N/50")


_ALL = ("quick", "small", "paper")


def _check(number: int, source: str, kind: str, statement: str, rule: str, measure: Any, judge: Any) -> Check:
    profiles = ("quick",) if measure is measure_benefit else _ALL
    return Check(Claim(number, source, kind, statement, rule), measure, judge, profiles)


_CELLS = "4 standard errors"
CHECKS: tuple[Check, ...] = (
    _check(
        11, "S0 L149", "T", "Data overlap: the more samples, the closer the nearest one", "distance falls with n",
        measure_neighbours, judge_neighbours,
    ),
    _check(
        12, "S0 L150", "E", "Each further sample brings less than the one before", "gains fall",
        measure_benefit, judge_benefit,
    ),
    _check(
        13, "S0 L167-169", "D",
        "A new sample is inside the covered part with probability V/N, else outside",
        f"{_CELLS}, with equal boxes, where it is true by construction; not asked of a circle",
        measure_steps, judge_steps,
    ),
    _check(
        14, "S0 L177", "D", "The effective number is the expected volume of what was sampled", _CELLS,
        measure_covering, judge_definition,
    ),
    _check(
        15, "S0 L181", "T", "E_n = (1 - beta^n)/(1 - beta) with beta = (N - 1)/N", _CELLS,
        measure_covering, judge_covering,
    ),
    _check(
        16, "S0 L183", "T", "beta sets how fast the effective number grows with n", "monotone",
        measure_growth, judge_growth,
    ),
    _check(
        17, "S0 L185-195", "T", "The closed form follows by induction with p = E_(n-1)/N", "1e-12",
        measure_induction, judge_induction,
    ),
    _check(
        18, "S0 L198", "T", "E_n = 1 for N = 1, and E_n tends to n as N grows", "1e-6",
        measure_limits, judge_limits,
    ),
    _check(
        79, "S2 L128", "T", "The expected volume needs the simplification that overlaps are all or nothing",
        "formula off on a circle", measure_covering, judge_simplification,
    ),
    _check(
        80, "S2 L139-143", "T", "The proposition and its two limits", "rows 15 and 18",
        measure_proposition, judge_proposition,
    ),
    _check(
        81, "S2 L145", "T", "In a large space the effective number is the number of samples", "1 % where n < N/50",
        measure_large_volume, judge_large_volume,
    ),
)  # fmt: skip
