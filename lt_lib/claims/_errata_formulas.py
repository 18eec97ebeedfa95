"""Errata shown by evaluating a formula as printed beside what it should be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_lib import counts, metrics
from lt_lib.claims import class_balanced, class_gradients, effective_number, ldam_theory, long_tail
from lt_lib.claims.batch_gradients import THREE_CLASSES, measure_gradient, tail_bias_gradient
from lt_lib.claims.errata import Demonstration
from lt_lib.theory import margins

Array = npt.NDArray[np.float64]
Formula = Callable[..., Any]
BETA = 0.999


def _cifar10_lt() -> npt.NDArray[np.int64]:
    return counts.exponential_counts(5000, 10, 100)


def differs_from_library_loss(formula: Formula, rng: np.random.Generator) -> float:
    """Largest difference of formula(weight, loss) from the class-balanced softmax loss, sample by sample."""
    import torch

    from lt_lib import losses

    logits, targets = torch.from_numpy(rng.standard_normal((20, 10))), torch.from_numpy(rng.integers(10, size=20))
    module = losses.ClassBalancedSoftmaxLoss(_cifar10_lt(), BETA, reduction="none")
    plain = losses.softmax_loss(logits, targets, reduction="none").numpy()
    weight = counts.class_balanced_weights(_cifar10_lt(), BETA)[targets.numpy()]
    return float(np.abs(formula(weight, plain) - module(logits, targets).numpy()).max())


def misses_sum(formula: Formula, _rng: np.random.Generator) -> float:
    """Distance of the sum of the weights from the number of classes."""
    return abs(float(np.sum(formula(_cifar10_lt(), BETA))) - 10)


def inverse_effective_number(sizes: npt.ArrayLike, beta: float) -> Array:
    """Weights as the slide has them, without a scale."""
    return 1 / counts.effective_number(sizes, beta)


def misses_first_rate(formula: Formula, _rng: np.random.Generator) -> float:
    """Distance of formula(N_10 / N_1, alpha) from the first rate, at ratio 100 and alpha 1/3."""
    from lt_lib.training.crest import inclusion_rates

    return abs(formula(0.01, 1 / 3) - inclusion_rates(_cifar10_lt(), 1 / 3)[0])


def lowest_focal(formula: Formula, rng: np.random.Generator) -> float:
    """How far the formula's values, said to be a loss, fall below zero."""
    return -class_balanced.measure_focal_descent("quick", rng, focal=formula, steps=1)["lowest"]


def right_focal(logits: Any, targets: Any) -> Any:
    """The focal loss with its minus."""
    return -class_balanced.printed_focal(logits, targets)


def not_inverse_to_number(formula: Formula, rng: np.random.Generator) -> float:
    """Relative spread of weight times effective number, the largest over the usual beta."""
    return float(class_balanced.measure_weights("quick", rng, weights=formula)["deviation"])


def by_count(sizes: npt.ArrayLike, _beta: float, **_options: Any) -> Array:
    """Weights inverse to the class count."""
    return counts.inverse_frequency_weights(sizes)


def differs_from_prior(formula: Formula, _rng: np.random.Generator) -> float:
    """Largest distance of formula(counts) from the shares of the classes of CIFAR-10-LT."""
    sizes = _cifar10_lt()
    return float(np.abs(formula(sizes) - counts.class_prior(sizes)).max())


def uniform_prior(sizes: npt.ArrayLike) -> Array:
    """One over the number of classes."""
    return np.full(np.size(sizes), 1 / np.size(sizes))


def majority_kept(method: str, _rng: np.random.Generator) -> float:
    """Share of the most frequent class that a named sampler keeps, though it is said to throw samples away."""
    from lt_lib import samplers

    targets = np.repeat([0, 1], [100, 10])
    _, labels = getattr(samplers, method)(np.arange(110)[:, None], targets, seed=0)
    return float((labels == 0).sum() / 100)


def along_input(which: str, rng: np.random.Generator) -> float:
    """Share of class weights said to have a gradient against the input whose gradient points along it.

    Args:
        which: "every" class or only the "true" one.
        rng: draws weights, inputs and targets.
    """
    measured = class_gradients.measure_softmax_gradient("quick", rng)
    along = measured["along"] if which == "every" else measured["along"][measured["true_class"]]
    return float((along > 0).mean())


def misses_best_split(formula: Formula, _rng: np.random.Generator) -> float:
    """Largest relative distance of formula(n1, n2, sum)[0] from the first margin that a grid finds best."""
    pairs = ldam_theory.PAIRS
    return max(abs(formula(a, b, 1.0)[0] / ldam_theory.grid_split(a, b, 1.0) - 1) for a, b in pairs)


def other_index(n1: int, n2: int, margin_sum: float) -> tuple[float, float]:
    """The margins with the count of the other class, which n_i reads as where j is taken."""
    first, second = margins.optimal_split(n1, n2, margin_sum)
    return second, first


def loss_left(scale: float, _rng: np.random.Generator) -> float:
    """Loss at perfect cosines, in nats."""
    return ldam_theory.loss_floor(10, scale)


def moved_sum(num_classes: int, rng: np.random.Generator) -> float:
    """Largest change of the sum of the class margins when a bias is added to every score.

    Args:
        num_classes: classes for which the sum is said to be fixed.
        rng: draws scores and biases.
    """
    targets = np.arange(60) % num_classes
    scores = rng.standard_normal((60, num_classes)) + 8 * np.eye(num_classes)[targets]
    before = margins.class_margins(scores, targets).sum()
    shifts = rng.standard_normal((20, num_classes))
    return float(max(abs(margins.class_margins(scores + shift, targets).sum() - before) for shift in shifts))


def depends_on_unit(formula: Formula, _rng: np.random.Generator) -> float:
    """Relative change of the bound formula(C, n) / margin when all scores are doubled, which changes no prediction.

    Doubled scores double the margin and multiply C, the squared norm bound of a linear class, by four.
    """
    once, twice = formula(1.0, 100) / 1.0, formula(4.0, 100) / 2.0
    return abs(twice / once - 1)


def misses_spread_ratio(claimed: float, rng: np.random.Generator) -> float:
    """Relative distance of a claimed ratio of spreads, re-weighting over re-sampling, from the exact one."""
    return abs(claimed / measure_gradient("quick", rng).variance_ratio ** 0.5 - 1)


def spread_ratio() -> float:
    r"""Ratio of the spreads of the gradient g on the last bias, :math:`\sqrt{\overline{n g^2 / n_c} / \overline{g^2}}`.

    The means go over the classes; both gradients have mean zero.
    """
    squares = tail_bias_gradient(np.arange(len(THREE_CLASSES))) ** 2
    weights = THREE_CLASSES.sum() / (len(THREE_CLASSES) * THREE_CLASSES)
    return float(np.sqrt((weights * squares).mean() / squares.mean()))


def not_the_count(share: float, rng: np.random.Generator) -> float:
    """Largest relative distance of the effective number from n where n / N is at most `share`."""
    measured = effective_number.measure_large_volume("quick", rng)
    listed = measured["samples"] <= share * measured["volume"]
    return float(np.abs(measured["ratio"][listed] - 1).max())


def credit_for_nothing(score: Formula, rng: np.random.Generator) -> float:
    """What a classifier that never says "rare" scores above one half."""
    return 0.5 - long_tail.measure_constant_classifier("quick", rng, score=score)["balanced_error"]


def plain_accuracy(targets: npt.ArrayLike, predictions: npt.ArrayLike, _num_classes: int) -> float:
    """Share of right answers."""
    return float(np.mean(np.asarray(targets) == np.asarray(predictions)))


DEMONSTRATIONS: tuple[Demonstration, ...] = (
    Demonstration(
        "E5", lambda weight, _loss: weight, lambda weight, loss: weight * loss, differs_from_library_loss, 1e-9,
        "largest difference from the class-balanced loss",
    ),
    Demonstration(
        "E6", inverse_effective_number, counts.class_balanced_weights, misses_sum, 1e-9,
        "distance of the weights' sum from the number of classes",
    ),
    Demonstration(
        "E11", lambda ratio, _alpha: ratio, lambda ratio, alpha: ratio**alpha, misses_first_rate, 1e-9,
        "distance from the rate of the most frequent class",
    ),
    Demonstration("E22", class_balanced.printed_focal, right_focal, lowest_focal, 0, "least value below zero, nats,"),
    Demonstration(
        "E23", by_count, counts.class_balanced_weights, not_inverse_to_number, 1e-6,
        "relative spread of weight x effective number",
    ),
    Demonstration(
        "E27", uniform_prior, counts.class_prior, differs_from_prior, 1e-9, "largest distance from the class prior",
    ),
    Demonstration(
        "E28", "oversample", "undersample", majority_kept, 0.99, "share of the majority kept by what throws it away",
    ),
    Demonstration("E29", "every", "true", along_input, 0, "share of gradients along the input"),
    Demonstration("E30", "every", "true", along_input, 0, "share of updates against the input"),
    Demonstration(
        "E34", other_index, margins.optimal_split, misses_best_split, 1e-5, "relative distance from the best margin",
    ),
    Demonstration("E35", 1.0, 30.0, loss_left, 0.01, "loss at perfect scores, nats,"),
    Demonstration("E36", 3, 2, moved_sum, 1e-9, "change of the sum of margins under a bias"),
    Demonstration(
        "E38", lambda c, n: c / np.sqrt(n), lambda c, n: np.sqrt(c / n), depends_on_unit, 1e-9,
        "relative change of the bound with the unit of the scores",
    ),
    Demonstration(
        "E42", 1.0, spread_ratio(), misses_spread_ratio, 1e-9, "relative distance from the ratio of the spreads",
    ),
    Demonstration("E44", np.inf, 0.019, not_the_count, 0.01, "relative distance of the effective number from n"),
    Demonstration(
        "E51", plain_accuracy, metrics.balanced_accuracy, credit_for_nothing, 0.01,
        "credit above 0.5 for a constant answer",
    ),
)  # fmt: skip
