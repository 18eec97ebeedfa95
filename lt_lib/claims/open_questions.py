r"""The notes' two open questions and their last opinion: rows 136 to 138 of the ledger of claims.

Gains are points of balanced error against labels alone from random weights, trained for as many updates as
pre-training and training together.

The size that pre-training needs is read off a surface, fitted to the gains of every seed,

.. math:: g(n, \rho) = a + b \ln n + c \ln \rho + h \ln n \ln \rho, \qquad
          g = 0 \iff \ln n^*(\rho) = -\frac{a + c \ln \rho}{b + h \ln \rho}

with n samples in the largest class. Theorem 3 of Yang and Xu asks for :math:`N_\pm \ge 8 \ln(4/\eta) / (d \delta^2)`,
a number of *rare* samples: then :math:`n^* \propto \rho`, slope 1 in logarithms, and the gain lies above the contour.

At the other profiles the rows of `run_pretrain` on labelled sets of several sizes take the place of the toy worlds for
row 138; every data set and network is a world of its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lt_lib.claims import _open_question_runs as runs_of
from lt_lib.claims import pretraining
from lt_lib.claims._open_question_runs import LABELLED, POOL, RANDOM, Arm, Array, Runs
from lt_lib.claims._self_training_runs import Setting
from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.measured import class_sizes
from lt_lib.claims.rules import at_least, in_half_widths, positive_effect
from lt_lib.metrics import paired_interval

if TYPE_CHECKING:
    import pandas as pd

GOOD, BAD = Setting(pool_ratio=1.0), Setting(relevance=0.2)
DIGITS = Setting(ratio=20.0, labelled=0.25, amount=2.0, pool_ratio=1.0)
# World -> where self-training and pre-training are combined: pools that are worth having.
TOGETHER = {"gaussian": GOOD, "digits": DIGITS}
# Start of the network that labels the pool -> name.
TEACHERS = {RANDOM: "plain", LABELLED: "pre-trained"}
RANDOM_POOLS = 2  # per seed
TOLERATED = 1.0  # points of loss that "not worse" leaves open


class Grid(NamedTuple):
    """Labelled sets of several sizes and ratios.

    Attributes:
        world: "gaussian" or "digits".
        largest: samples of the largest class at fraction 1.
        fractions: of it.
        ratios: imbalance ratios.
        length: updates as a multiple of the usual number.
    """

    world: str
    largest: int
    fractions: tuple[float, ...]
    ratios: tuple[float, ...]
    length: float = 1.0


SHORTER = "gaussian, half as long"
GRIDS = {
    "gaussian": Grid("gaussian", 1000, (0.05, 0.25, 1.0), (1.0, 10.0, 50.0)),
    SHORTER: Grid("gaussian", 1000, (0.05, 1.0), (1.0, 50.0), 0.5),
    "digits": Grid("digits", 120, (0.05, 0.25, 1.0), (1.0, 20.0)),
}
RESAMPLES = 2000
MINIMUM_SEEDS = 3  # of measured rows: the contour has its interval from resampled seeds


def alone(world: str) -> Arm:
    """Labels alone, from random weights."""
    return Arm(world, TOGETHER[world]).baseline


def pretrained(world: str) -> Arm:
    """Pre-training on the labelled samples."""
    return Arm(world, TOGETHER[world].base, LABELLED)


def self_trained(world: str) -> Arm:
    """Self-training without pre-training."""
    return Arm(world, TOGETHER[world], RANDOM, RANDOM)


def both(world: str, teacher: str) -> Arm:
    """Self-training of a pre-trained network.

    Args:
        world: "gaussian" or "digits".
        teacher: start of the network that labels the pool.
    """
    return Arm(world, TOGETHER[world], LABELLED, teacher)


def labels_only(world: str) -> Arm:
    """Self-training from random weights on the labels of a pre-trained network."""
    return Arm(world, TOGETHER[world], RANDOM, LABELLED)


def preferred() -> list[Arm]:
    """Every pre-training beside row 136: on the labelled samples, and on these and each pool."""
    pools = [("gaussian", GOOD), ("gaussian", BAD), ("digits", DIGITS)]
    return [pretrained("gaussian"), pretrained("digits"), *(task_on_pool(world, pool) for world, pool in pools)]


def task_on_pool(world: str, pool: Setting) -> Arm:
    """Pre-training on the labelled samples and on a given pool."""
    return Arm(world, pool, POOL)


def on_pool(world: str, pool: Setting) -> Arm:
    """Self-training without pre-training on a given pool."""
    return Arm(world, pool, RANDOM, RANDOM)


def random_arms() -> list[tuple[Arm, Arm]]:
    """Self-training and pre-training on the same pools of random quality."""
    pools = [Setting(draw=draw) for draw in range(1, RANDOM_POOLS + 1)]
    return [(on_pool("gaussian", pool), task_on_pool("gaussian", pool)) for pool in pools]


def together_arms() -> list[Arm]:
    """All arms of rows 136 and 137."""
    found = [*preferred(), on_pool("gaussian", BAD)]
    for world in TOGETHER:
        found += [self_trained(world), labels_only(world), *(both(world, teacher) for teacher in TEACHERS)]
    return [*found, *(arm for pair in random_arms() for arm in pair)]


def measure_together(profile: str, rng: np.random.Generator) -> Runs:
    """Train all arms with seeds 0 to 9, whatever `profile` and `rng`."""
    return runs_of.run_arms(together_arms())


def complementary(runs: Runs, world: str, teacher: str) -> Judgement:
    """Whether both together have a lower error than self-training and than pre-training.

    Args:
        runs: with the arms of the world.
        world: "gaussian" or "digits".
        teacher: start of the network that labels the pool.
    """
    error = runs.error(both(world, teacher))
    routes = {"SSL": self_trained, "SSP": pretrained}
    parts = [
        positive_effect(runs.error(arm(world)) - error, unit=f"points ({name} - both)") for name, arm in routes.items()
    ]
    found = worst(parts)
    return replace(found, threshold=f"{found.threshold} ({world}, {TEACHERS[teacher]} teacher)")


def interaction(runs: Runs, world: str, teacher: str) -> Array:
    """Gain of both minus the sum of the two gains, in points, `(seeds,)`; below 0 is sub-additive.

    Args:
        runs: with the arms of the world.
        world: "gaussian" or "digits".
        teacher: start of the network that labels the pool.
    """
    return runs.gain(both(world, teacher)) - runs.gain(self_trained(world)) - runs.gain(pretrained(world))


def judge_together(runs: Runs) -> Judgement:
    """Row 137: together they beat the better one, in both worlds and whichever network labels the pool."""
    return worst(complementary(runs, world, teacher) for world in TOGETHER for teacher in TEACHERS)


def never_worse(gain: Array) -> Judgement:
    """Refuted where a loss is shown, held where one of `TOLERATED` points is ruled out, else inconclusive.

    Args:
        gain: points, `(seeds,)`.
    """
    mean, low, high = paired_interval(gain)
    verdict = "refuted" if high < 0 else "holds" if low > -TOLERATED else "inconclusive"
    text = f"no loss shown, {TOLERATED:g} point ruled out, one-sided 95% t, {len(gain)} pairs"
    edge = high if verdict == "refuted" else low + TOLERATED
    return Judgement(verdict, mean, low, high, text, distance=in_half_widths(edge, high - mean))


def over_self_training(runs: Runs, world: str, pool: Setting) -> Array:
    """Points that pre-training on a pool is better than self-training on the same one, `(seeds,)`.

    Args:
        runs: with both arms.
        world: "gaussian" or "digits".
        pool: given to both.
    """
    return runs.gain(task_on_pool(world, pool)) - runs.gain(on_pool(world, pool))


def preference_parts(runs: Runs) -> dict[str, Judgement]:
    """Row 136 part by part, in the world that has a bad pool."""
    bad, good = (over_self_training(runs, "gaussian", pool) for pool in (BAD, GOOD))
    return {
        "bad pool": positive_effect(bad, unit="points (SSP - SSL, bad pool)"),
        "bad pool - good pool": positive_effect(bad - good, unit="points (SSP - SSL, bad pool less good pool)"),
    }


def judge_preference(runs: Runs) -> Judgement:
    """Row 136: on the bad pool pre-training is better than self-training, and it is the pool that makes it so."""
    return worst(preference_parts(runs).values())


def beside_preference(runs: Runs) -> dict[str, Judgement]:
    """What row 136 does not say: pre-training against labels alone wherever it was tried; self-training by pool."""
    parts = {f"{arm.world}: pre-training on {_seen(arm)}": never_worse(runs.gain(arm)) for arm in preferred()}
    harm = -runs.gain(on_pool("gaussian", BAD))
    parts["gaussian: self-training harms on the bad pool"] = positive_effect(harm, unit="points")
    for world in TOGETHER:
        gain = runs.gain(self_trained(world))
        parts[f"{world}: self-training gains on the good pool"] = positive_effect(gain, unit="points")
    return parts


def _seen(arm: Arm) -> str:
    if arm.start == LABELLED:
        return "the labelled samples"
    return f"these and the {'bad' if arm.data == BAD else 'good'} pool"


@dataclass(frozen=True)
class Sizes:
    """Gains of pre-training over size and imbalance, in one world.

    Attributes:
        largest: samples of the largest class, `(cells,)`.
        rarest: samples of the rarest class, `(cells,)`.
        ratio: nominal imbalance ratio, `(cells,)`.
        gain: points, `(seeds, cells)`.
        error: balanced error in percent of labels alone, `(seeds, cells)`.
    """

    largest: Array
    rarest: Array
    ratio: Array
    gain: Array
    error: Array

    @property
    def coefficients(self) -> Array:
        """a, b, c, h of the surface of every seed by least squares, `(seeds, 4)`."""
        size, ratio = np.log(self.largest), np.log(self.ratio)
        design = np.column_stack([np.ones(len(size)), size, ratio, size * ratio])
        return self.gain @ np.linalg.pinv(design).T

    def range(self, ratio: float) -> tuple[float, float]:
        """Smallest and largest size measured at a ratio."""
        sizes = self.largest[self.ratio == ratio]
        return float(sizes.min()), float(sizes.max())


def size_arms(grid: Grid) -> list[Arm]:
    """Pre-training on labelled sets of all sizes and ratios that leave every class a sample.

    Args:
        grid: one of `GRIDS`.
    """
    unit = grid.largest / runs_of.LARGEST[grid.world]
    sets = [
        replace(Setting(ratio=ratio, labelled=unit * fraction).base, length=grid.length)
        for ratio in grid.ratios
        for fraction in grid.fractions
        if round(grid.largest * fraction) >= ratio
    ]
    return [Arm(grid.world, each, LABELLED) for each in sets]


def measure_sizes(profile: str, rng: np.random.Generator, *, folder: str | os.PathLike[str] = "") -> dict[str, Sizes]:
    """Name of a grid -> gains. Seeds 0 to 9 at quick, whatever `rng`; measured rows at small and paper.

    Args:
        profile: "quick", "small" or "paper".
        rng: not used; trainings are seeded by number.
        folder: of the rows; `results/` of the source tree if empty.
    """
    if profile != "quick":
        return recorded_sizes(pretraining.recorded_rows(folder), profile)
    runs = runs_of.run_arms([arm for grid in GRIDS.values() for arm in size_arms(grid)])
    return {name: gathered(runs, size_arms(grid)) for name, grid in GRIDS.items()}


def recorded_sizes(table: pd.DataFrame, profile: str) -> dict[str, Sizes]:
    """The gains of rotation before cross entropy, by data set and network, over all sizes and ratios with enough seeds.

    A gain is that over training from scratch for as many epochs in all. Cells with `MINIMUM_SEEDS` seeds or more are
    kept, and of those the seeds that all share. The sizes are those that the rows were trained on, see
    `measured.class_sizes`; where a row does not say, it is left out.

    Args:
        table: from `pretraining.recorded_rows`.
        profile: "small" or "paper".

    Returns:
        Name such as "cifar10-jpeg, resnet8" -> gains; worlds without two sizes at each of two ratios are absent.

    Raises:
        ValueError: a run occurs twice.
    """
    found = {}
    for (dataset, model), rows in table[table.profile == profile].groupby(["dataset", "model"]):
        measured = _recorded_errors(rows, profile)
        ratios = [ratio for ratio, _, _ in measured]
        if sum(ratios.count(ratio) >= 2 for ratio in set(ratios)) < 2:
            continue
        seeds = sorted(set.intersection(*(set(errors) for errors in measured.values())))
        if len(seeds) >= MINIMUM_SEEDS:
            places = sorted(measured)
            errors = np.array([[measured[place][seed] for place in places] for seed in seeds])
            ratio, largest, rarest = np.array(places).T
            gain = errors[..., 0] - errors[..., 1]
            found[f"{dataset}, {model}"] = Sizes(largest, rarest, ratio, gain, errors[..., 0])
    return found


def _recorded_errors(
    rows: pd.DataFrame, profile: str
) -> dict[tuple[float, float, float], dict[int, tuple[float, float]]]:
    """(ratio, largest, rarest class) -> seed -> errors in percent of the control and after rotation."""
    cells = pretraining.recorded_cells(rows, profile)
    trained = pretraining.trained_rows(rows, profile)
    measured = {}
    for (size, (ratio, base, start)), cell in cells.items():
        control = cells.get((size, (ratio, base, pretraining.CONTROL)), {})
        seeds = set(cell) & set(control)
        if (base, start) != ("CE", pretraining.MAIN) or len(seeds) < MINIMUM_SEEDS:
            continue
        alike = (trained.n_max == size) & (trained.imbalance_ratio == ratio)
        row = trained[alike & (trained.pretext == start)].iloc[0]
        classes = class_sizes(row, len(next(iter(cell.values()))))
        if classes is not None:
            means = {seed: (float(control[seed].mean()), float(cell[seed].mean())) for seed in seeds}
            errors = {seed: (100 * (1 - alone), 100 * (1 - after)) for seed, (alone, after) in means.items()}
            measured[ratio, float(classes[0]), float(classes[-1])] = errors
    return measured


def gathered(runs: Runs, arms: Sequence[Arm]) -> Sizes:
    """The gains of arms of one world.

    Args:
        runs: with the arms.
        arms: of `size_arms`.
    """
    class_counts = [runs_of.class_counts(arm.world, arm.data) for arm in arms]
    return Sizes(
        np.array([float(each[0]) for each in class_counts]),
        np.array([float(each[-1]) for each in class_counts]),
        np.array([arm.data.ratio for arm in arms]),
        np.stack([runs.gain(arm) for arm in arms], axis=1),
        np.stack([runs.error(arm.baseline) for arm in arms], axis=1),
    )


@dataclass(frozen=True)
class Contour:
    """Where the fitted gain is zero at one ratio.

    Attributes:
        size: samples of the largest class.
        low: lower end of its 90 % bootstrap interval over the seeds.
        high: upper end.
        inside: share of resamples with a contour within the measured range, the gain on the same side of it.
    """

    size: float
    low: float
    high: float
    inside: float


def contour(sizes: Sizes, ratio: float) -> Contour:
    """The contour at a ratio, with its bootstrap interval.

    Args:
        sizes: measured gains.
        ratio: one of those measured.
    """
    mean = sizes.coefficients.mean(axis=0)
    drawn = _resampled(sizes)
    point, found = (_zero(each, ratio) for each in (mean, drawn))
    first, last = sizes.range(ratio)
    same_side = np.sign(_rise(drawn, ratio)) == np.sign(_rise(mean, ratio))
    inside = (found >= first) & (found <= last) & same_side
    low, high = np.quantile(found, [0.05, 0.95], method="nearest")
    return Contour(float(point), float(low), float(high), float(inside.mean()))


def contour_slope(sizes: Sizes) -> tuple[float, float, float]:
    r"""Mean slope of :math:`\ln n^*` on :math:`\ln \rho` over the ratios measured, with its 90 % bootstrap interval."""
    first, last = float(sizes.ratio.min()), float(sizes.ratio.max())

    def slope(coefficients: Array) -> Array:
        ends = (np.log(_zero(coefficients, ratio)) for ratio in (last, first))
        return np.subtract(*ends) / np.log(last / first)

    low, high = np.quantile(slope(_resampled(sizes)), [0.05, 0.95], method="nearest")
    return float(slope(sizes.coefficients.mean(axis=0))), float(low), float(high)


def rise(sizes: Sizes) -> Array:
    """Points by which the gain rises per factor e of the size, at the mean logarithm of the ratios, `(seeds,)`."""
    return _rise(sizes.coefficients, float(np.exp(np.log(sizes.ratio).mean())))


def judge_side(sizes: Sizes) -> Judgement:
    """Whether the gain rises with the number of samples."""
    return positive_effect(rise(sizes), unit="points per factor e")


def judge_shape(sizes: Sizes) -> Judgement:
    """Whether the contour lies at a fixed number of rare samples: a slope of 1, up to a half."""
    slope, low, high = contour_slope(sizes)
    inside, outside = low > 0.5 and high < 1.5, high < 0.5 or low > 1.5
    verdict = "holds" if inside else "refuted" if outside else "inconclusive"
    distance = in_half_widths(min(slope - 0.5, 1.5 - slope), (high - low) / 2)
    text = "slope of ln n* on ln rho in [0.5, 1.5], 90 % bootstrap interval"
    return Judgement(verdict, slope, low, high, text, distance=distance)


def judge_crossing(sizes: Sizes) -> Judgement:
    """Whether the gain is zero within the range, in 95 % of resamples at two ratios or more; open if not."""
    shares = sorted((contour(sizes, float(ratio)).inside for ratio in np.unique(sizes.ratio)), reverse=True)
    second = shares[1]
    reached = at_least(second, 0.95)
    verdict = "holds" if reached.verdict == "holds" else "inconclusive"
    text = "open: no crossing in range" if second <= 0.05 else "crossing in range"
    return replace(reached, verdict=verdict, threshold=f"{text}; share of resamples >= 0.95 at two ratios")


def judge_world(sizes: Sizes, name: str) -> Judgement:
    """The contour of one world: open without a crossing in range, else side and shape against the theory.

    Args:
        sizes: measured gains.
        name: of the world.
    """
    crossing = judge_crossing(sizes)
    found = crossing if crossing.verdict != "holds" else worst([judge_side(sizes), judge_shape(sizes)])
    return replace(found, threshold=f"{found.threshold} ({name})")


def judge_sizes(measured: dict[str, Sizes]) -> Judgement:
    """Row 138: in every world the gain is zero at a fixed number of rare samples, and positive above it.

    The verdict on the Gaussian world counts only if half as many updates give the same one.
    """
    if not measured:
        why = f"needs {MINIMUM_SEEDS} measured seeds of rotation and of its control at two sizes n_max for each of two "
        return Judgement("not judged", why=f"{why}imbalance ratios, which 920_run_pretrain makes; there are none")
    found = {name: judge_world(sizes, name) for name, sizes in measured.items()}
    if SHORTER in found:
        shorter, usual = found.pop(SHORTER), found["gaussian"]
        if shorter.verdict != usual.verdict:
            text = f"{usual.threshold}; half as long {shorter.verdict}"
            found["gaussian"] = replace(usual, verdict="inconclusive", threshold=text)
    return worst(found.values())


def _resampled(sizes: Sizes) -> Array:
    """Mean coefficients of resampled seeds, `(resamples, 4)`."""
    coefficients = sizes.coefficients
    rows = np.random.default_rng(0).integers(len(coefficients), size=(RESAMPLES, len(coefficients)))
    return coefficients[rows].mean(axis=1)


def _rise(coefficients: Array, ratio: float) -> Array:
    """Slope of the surface in the logarithm of the size; coefficients in the last axis."""
    return coefficients[..., 1] + coefficients[..., 3] * np.log(ratio)


def _zero(coefficients: Array, ratio: float) -> Array:
    """Size at which the surface is zero, cut to what a float can hold; coefficients in the last axis."""
    level = coefficients[..., 0] + coefficients[..., 2] * np.log(ratio)
    return np.exp(np.clip(-level / _rise(coefficients, ratio), -700, 700))


CHECKS: tuple[Check, ...] = (
    Check(
        Claim(136, "S3 L202", "Q", "Self-supervision may be preferred where unlabelled data are inconvenient or "
              "constrained.", "pre-training better than self-training on a bad pool, and more so than on a good one; "
              "paired one-sided 95 % t"),
        measure_together, judge_preference,
    ),
    Check(
        Claim(137, "S3 L206", "O", "Self-training and pre-training together: better than the better one?",
              "both together below self-training and below pre-training, two worlds, either teacher, paired one-sided "
              "95 % t"),
        measure_together, judge_together,
    ),
    Check(
        Claim(138, "S3 L207", "O", "What must the data have for pre-training to pay? By the theory, a number of rare "
              "samples.", "zero gain within the range at two ratios (95 % of resamples), positive above it, slope of "
              "ln n* on ln rho 1, up to 0.5"),
        measure_sizes, judge_sizes, ("quick", "small", "paper"), recorded=True,
    ),
)  # fmt: skip
