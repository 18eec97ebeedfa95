"""What the checks of the effective number simulate and train, apart from the covering models in `lt_lib.theory`."""

import re
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from lt_lib import counts
from lt_lib._checks import check_integer

Array = npt.NDArray[np.float64]
NUM_SEEDS = 10
STEPS, BATCH = 100, 128


def box_steps(
    num_boxes: int, num_samples: int, repetitions: int, rng: np.random.Generator
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Covered volume of equally likely boxes, and whether one more sample falls inside it.

    Args:
        num_boxes: integer volume, >= 1.
        num_samples: samples before the new one, >= 1.
        repetitions: independent repetitions.
        rng: source of randomness.

    Returns:
        Volume before the new sample, and "inside", each (repetitions,).
    """
    draws = rng.integers(num_boxes, size=(repetitions, num_samples + 1))
    hit = np.zeros((repetitions, num_boxes), dtype=bool)
    np.put_along_axis(hit, draws[:, :-1], True, axis=1)
    inside = np.take_along_axis(hit, draws[:, -1:], axis=1)[:, 0]
    return hit.sum(axis=1).astype(np.float64), inside


def added_length(volume: float, num_samples: int, repetitions: int, rng: np.random.Generator) -> Array:
    r"""New length that one more unit arc covers on a circle which holds some already.

    With :math:`x` and :math:`y` the ways to the previous and to the next start, the new arc adds
    :math:`\min(x, 1) + \min(y, 1) - \min(x + y, 1)`.

    Args:
        volume: circumference, >= 1.
        num_samples: arcs before the new one, >= 1.
        repetitions: independent repetitions.
        rng: source of randomness.

    Returns:
        0 (wholly inside) to 1 (wholly outside), shape (repetitions,).
    """
    ahead = np.mod(rng.random((repetitions, num_samples)) * volume, volume)  # starts as seen from the new arc's start
    following, previous = ahead.min(axis=1), volume - ahead.max(axis=1)
    added = np.minimum(previous, 1.0) + np.minimum(following, 1.0) - np.minimum(previous + following, 1.0)
    # Below one millionth the value is rounding of a zero or of a one.
    return np.where(added < 1e-9, 0.0, np.where(added > 1 - 1e-9, 1.0, added))


def circle_neighbours(num_samples: int, repetitions: int, rng: np.random.Generator) -> Array:
    """Mean way to the nearest other sample on a circle of length 1; its expectation is 1 / (2 n).

    Args:
        num_samples: n >= 2.
        repetitions: independent repetitions.
        rng: source of randomness.

    Returns:
        One mean per repetition.
    """
    check_integer(num_samples, "num_samples", minimum=2)
    points = np.sort(rng.random((repetitions, num_samples)), axis=1)
    gaps = np.diff(points, axis=1, append=points[:, :1] + 1.0)
    return np.minimum(gaps, np.roll(gaps, 1, axis=1)).mean(axis=1)


def digit_neighbours(num_samples: int, repetitions: int, rng: np.random.Generator) -> Array:
    """Mean distance to the nearest other image of the same class, scikit-learn's digits with pixels from 0 to 1.

    Args:
        num_samples: images per class, drawn afresh in each repetition, >= 2.
        repetitions: independent draws.
        rng: source of randomness.

    Returns:
        One mean per repetition.
    """
    from lt_lib import data

    check_integer(num_samples, "num_samples", minimum=2)
    train = data.load("digits").train
    pixels = np.asarray(train.inputs, dtype=np.float64).reshape(len(train.targets), -1)
    pixels /= pixels.max()
    means = np.zeros(repetitions)
    classes = np.unique(train.targets)
    for repetition in range(repetitions):
        for label in classes:
            images = pixels[rng.choice(np.flatnonzero(train.targets == label), num_samples, replace=False)]
            norms = (images**2).sum(axis=1)
            squares = norms[:, None] + norms - 2 * images @ images.T
            np.fill_diagonal(squares, np.inf)
            means[repetition] += np.sqrt(np.maximum(squares.min(axis=1), 0.0)).mean() / len(classes)
    return means


def learning_curve(world: str, sizes: Iterable[int], num_seeds: int = NUM_SEEDS, steps: int = STEPS) -> Array:
    """Balanced test error of a network trained on n samples of every class, the same number of steps for every n.

    Args:
        world: data set.
        sizes: samples per class.
        num_seeds: subsets and initial weights.
        steps: steps of gradient descent, rounded to whole epochs.

    Returns:
        Errors in percent (sizes, seeds).
    """
    from lt_lib import recipes

    rows = []
    for size in sizes:
        epochs = max(1, round(steps / np.ceil(10 * size / BATCH)))
        base = recipes.preset(
            "gaussian-quick", dataset=world, imbalance_type="balanced", imbalance_ratio=1, n_max=int(size)
        ).changed(epochs=epochs, evaluate_every=epochs, batch_size=BATCH)
        results = recipes.run_many([base.changed(seed=k, split_seed=k) for k in range(num_seeds)])
        rows.append([100 * (1 - float(np.mean(result.recall))) for result in results])
    return np.array(rows)


def parse_counts(text: str) -> counts.Counts:
    """Class counts typed as text: whole numbers separated by commas or blanks.

    Args:
        text: such as "5000, 300, 12".

    Raises:
        ValueError: something else than positive whole numbers.

    Example:
        >>> parse_counts("5000, 300 12")
        array([5000,  300,   12])
    """
    parts = [part for part in re.split(r"[,\s]+", text.strip(" ,[]()")) if part]
    if not parts or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"`class_counts` must be positive whole numbers separated by commas, got {text!r}.")
    return counts.listed_counts([int(part) for part in parts])


def weight_span(class_counts: Sequence[int] | npt.NDArray[np.int64], beta: float) -> tuple[float, str]:
    """Largest over smallest class-balanced weight, and what the library warns of at this beta.

    Args:
        class_counts: samples per class, all positive.
        beta: in [0, 1].

    Returns:
        The ratio, and "flat", "inverse frequency" or "" without a warning.

    Example:
        >>> ratio, warning = weight_span([1000, 10], 0.5)
        >>> round(ratio, 3), warning
        (1.001, 'flat')
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        weights = counts.class_balanced_weights(class_counts, beta)
    told = [str(warning.message) for warning in caught if issubclass(warning.category, counts.BetaWarning)]
    kind = "" if not told else "flat" if "flat" in told[0] else "inverse frequency"
    return float(weights.max() / weights.min()), kind
