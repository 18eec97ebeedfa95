r"""Metrics that do not let the large classes hide the small ones, and intervals that say how sure they are.

Arrays or tensors in, NumPy float64 out. Two rules hold throughout: a class that cannot be scored (no test sample for
recall, no prediction for precision) is `nan` and never 0, and a group of classes without a scored class is `"n/a"`.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lt_lib import _checks, counts

Array = npt.NDArray[np.float64]
GroupValue = float | Literal["n/a"]


def confusion_matrix(targets: Any, predictions: Any, num_classes: int) -> npt.NDArray[np.int64]:
    """Count of samples of each true class (rows) predicted as each class (columns).

    Args:
        targets: true class indices, shape `(samples,)`.
        predictions: predicted class indices, shape `(samples,)`.
        num_classes: number of classes, >= 2.

    Returns:
        Counts, shape `(classes, classes)`.

    Raises:
        ValueError: empty or unequal inputs, or an index outside `[0, num_classes - 1]`.

    Example:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
        [[1, 1], [0, 1]]
    """
    from sklearn import metrics

    y, y_hat = _label_pair(targets, predictions, num_classes)
    return metrics.confusion_matrix(y, y_hat, labels=np.arange(num_classes)).astype(np.int64)


def per_class_recall(targets: Any, predictions: Any, num_classes: int) -> Array:
    r"""Share of each true class that is predicted correctly, $M_{cc} / \sum_j M_{cj}$; `nan` without test samples.

    Args:
        targets: true class indices, shape `(samples,)`.
        predictions: predicted class indices, shape `(samples,)`.
        num_classes: number of classes, >= 2.

    Returns:
        Recall in [0, 1] or `nan`, shape `(classes,)`.

    Example:
        >>> per_class_recall([0, 0, 1], [0, 1, 1], 3).tolist()
        [0.5, 1.0, nan]
    """
    from sklearn import metrics

    y, y_hat = _label_pair(targets, predictions, num_classes)
    recall = metrics.recall_score(y, y_hat, labels=np.arange(num_classes), average=None, zero_division=np.nan)
    return np.asarray(recall, dtype=np.float64)


def per_class_precision(targets: Any, predictions: Any, num_classes: int) -> Array:
    r"""Share of the predictions of each class that are right, $M_{cc} / \sum_i M_{ic}$; `nan` without predictions.

    Args:
        targets: true class indices, shape `(samples,)`.
        predictions: predicted class indices, shape `(samples,)`.
        num_classes: number of classes, >= 2.

    Returns:
        Precision in [0, 1] or `nan`, shape `(classes,)`.

    Example:
        >>> per_class_precision([0, 0, 1], [0, 1, 1], 3).tolist()
        [1.0, 0.5, nan]
    """
    from sklearn import metrics

    y, y_hat = _label_pair(targets, predictions, num_classes)
    precision = metrics.precision_score(y, y_hat, labels=np.arange(num_classes), average=None, zero_division=np.nan)
    return np.asarray(precision, dtype=np.float64)


def balanced_accuracy(targets: Any, predictions: Any, num_classes: int) -> float:
    """Mean recall over the classes that have test samples: the accuracy under a uniform class prior.

    Example:
        >>> balanced_accuracy([0] * 995 + [1] * 5, [0] * 1000, 2)
        0.5
    """
    return float(np.nanmean(per_class_recall(targets, predictions, num_classes)))


def g_mean(targets: Any, predictions: Any, num_classes: int) -> float:
    """Geometric mean of the recalls of the classes that have test samples; 0 as soon as one class is never hit.

    Example:
        >>> g_mean([0, 0, 1, 1], [0, 0, 0, 1], 2) ** 2
        0.5000000000000001
    """
    recall = per_class_recall(targets, predictions, num_classes)
    recall = recall[~np.isnan(recall)]
    # Logarithms, because a plain product of a thousand recalls underflows.
    return float(np.exp(np.log(recall).mean())) if np.all(recall > 0) else 0.0


def worst_class(targets: Any, predictions: Any, num_classes: int) -> tuple[int, float]:
    """Index and recall of the class with the lowest recall among those with test samples; the first one in a tie.

    Example:
        >>> worst_class([0, 0, 1, 1], [0, 0, 0, 1], 2)
        (1, 0.5)
    """
    recall = per_class_recall(targets, predictions, num_classes)
    index = int(np.nanargmin(recall))
    return index, float(recall[index])


def group_recall(
    targets: Any, predictions: Any, class_counts: npt.ArrayLike, *, many: int = 100, few: int = 20
) -> dict[str, GroupValue]:
    """Mean recall of the classes with many, medium and few training samples.

    Args:
        targets: true class indices of the test set, shape `(samples,)`.
        predictions: predicted class indices, shape `(samples,)`.
        class_counts: training samples per class, which define the groups.
        many: classes with more training samples than this are "many".
        few: classes with fewer training samples than this are "few"; the rest are "medium".

    Returns:
        "many", "medium", "few" -> mean recall, or "n/a" for a group without a class that has test samples. An empty
        group is not 0: that would punish every data set whose rarest class is not rare.

    Raises:
        ValueError: fewer than two classes are counted, `few` is not between 0 and `many`, or as `per_class_recall`.

    Example:
        >>> group_recall([0, 0, 1, 1], [0, 0, 0, 1], [500, 50])
        {'many': 1.0, 'medium': 0.5, 'few': 'n/a'}

    References:
        Liu et al., "Large-scale long-tailed recognition in an open world", CVPR 2019, section 4 (the three groups).
    """
    n = _checks.check_counts(class_counts)
    if len(n) < 2:
        raise ValueError(f"`class_counts` must have at least 2 classes, got {len(n)}.")
    recall = per_class_recall(targets, predictions, len(n))
    result: dict[str, GroupValue] = {}
    for name, classes in counts.shot_groups(n, many=many, few=few).items():
        scored = recall[classes][~np.isnan(recall[classes])]
        result[name] = float(scored.mean()) if scored.size else "n/a"
    return result


class CalibrationBins(NamedTuple):
    """What a reliability diagram shows; empty bins have `nan` accuracy and confidence. Each of shape `(bins,)`."""

    counts: npt.NDArray[np.int64]
    accuracy: Array
    confidence: Array


def calibration_bins(probabilities: Any, targets: Any, *, num_bins: int = 15) -> CalibrationBins:
    r"""Accuracy and mean confidence in bins of equal width.

    Bin $b$ of $B$ holds the samples with confidence $\max_j p_{ij} \in [b/B, (b+1)/B)$; the last bin includes 1.

    Args:
        probabilities: predicted class probabilities, rows summing to 1 (tolerance 1e-2, half precision passes),
            shape `(samples, classes)`.
        targets: true class indices, shape `(samples,)`.
        num_bins: $B \ge 1$.

    Returns:
        Counts, accuracy and mean confidence per bin.

    Raises:
        ValueError: rows that are no distribution, targets out of range, or `num_bins` < 1.

    Example:
        >>> calibration_bins([[0.9, 0.1], [0.7, 0.3]], [0, 1], num_bins=2).counts.tolist()
        [0, 2]
    """
    confidence, correct, _ = _confidence(probabilities, targets)
    _checks.check_integer(num_bins, "num_bins", minimum=1)
    # Compared with the edges themselves: 29/50 * 50 is rounded to below 29. There is no upper edge, so 1 goes last.
    index = np.searchsorted(np.arange(num_bins) / num_bins, confidence, side="right") - 1
    size = np.bincount(index, minlength=num_bins)
    divisor = np.where(size > 0, size, np.nan)
    accuracy = np.bincount(index, weights=correct, minlength=num_bins) / divisor
    mean_confidence = np.bincount(index, weights=confidence, minlength=num_bins) / divisor
    return CalibrationBins(size, accuracy, mean_confidence)


def expected_calibration_error(probabilities: Any, targets: Any, *, num_bins: int = 15) -> float:
    r"""Expected calibration error over bins of equal width.

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n} \, \bigl| \mathrm{acc}_b - \mathrm{conf}_b \bigr|

    Args:
        probabilities: predicted class probabilities, shape `(samples, classes)`.
        targets: true class indices, shape `(samples,)`.
        num_bins: number of bins, >= 1; 1 gives |accuracy - mean confidence|.

    Returns:
        Error in [0, 1].

    Example:
        >>> round(expected_calibration_error([[0.9, 0.1], [0.8, 0.2]], [0, 0]), 12)
        0.15

    References:
        Guo et al., "On calibration of modern neural networks", ICML 2017, eq. (3). A confidence of
        exactly 1 belongs to the last bin; libraries that give it a bin of its own report another number for saturated
        float32 softmax outputs. Computed here in float64.
    """
    bins = calibration_bins(probabilities, targets, num_bins=num_bins)
    filled = bins.counts > 0
    gap = np.abs(bins.accuracy[filled] - bins.confidence[filled])
    return float(np.sum(gap * bins.counts[filled]) / bins.counts.sum())


def group_calibration_error(
    probabilities: Any,
    targets: Any,
    class_counts: npt.ArrayLike,
    *,
    num_bins: int = 15,
    many: int = 100,
    few: int = 20,
) -> dict[str, GroupValue]:
    """Expected calibration error of the test samples whose true class has many, medium and few training samples.

    Args:
        probabilities: predicted class probabilities, shape `(samples, classes)`.
        targets: true class indices, shape `(samples,)`.
        class_counts: training samples per class, which define the groups.
        num_bins: as in `expected_calibration_error`.
        many: as in `group_recall`.
        few: as in `group_recall`.

    Returns:
        "many", "medium", "few" -> error, or "n/a" for a group without test samples. The classes of a group are pooled,
        so a class counts as much as it has test samples.

    Example:
        >>> group_calibration_error([[0.9, 0.1], [0.8, 0.2]], [0, 1], [500, 5], num_bins=1)
        {'many': 0.09999999999999998, 'medium': 'n/a', 'few': 0.8}
    """
    n = _checks.check_counts(class_counts)
    p = _checks.check_distributions(probabilities, "probabilities")
    _, _, y = _confidence(p, targets)
    if p.shape[1] != len(n):
        raise ValueError(f"`class_counts` must have one entry per class ({p.shape[1]}), got {len(n)}.")
    result: dict[str, GroupValue] = {}
    for name, classes in counts.shot_groups(n, many=many, few=few).items():
        inside = np.isin(y, classes)
        result[name] = expected_calibration_error(p[inside], y[inside], num_bins=num_bins) if inside.any() else "n/a"
    return result


def wilson_interval(successes: npt.ArrayLike, trials: npt.ArrayLike, *, level: float = 0.95) -> tuple[Array, Array]:
    r"""Two-sided Wilson score interval of a binomial proportion.

    .. math:: \frac{s + z^2/2}{n + z^2} \pm \frac{z}{n + z^2} \sqrt{\frac{s (n - s)}{n} + \frac{z^2}{4}}

    Args:
        successes: $s$, whole numbers, 0 <= s <= n; any shape.
        trials: $n \ge 0$, whole numbers; 0 gives the interval [0, 1], the formula's limit: nothing is known.
        level: coverage in (0, 1).

    Returns:
        Lower and upper ends, each of the broadcast shape.

    Raises:
        ValueError: successes outside [0, trials], a fraction of a success or trial, or level outside (0, 1).

    Example:
        >>> low, high = wilson_interval(9, 10)
        >>> round(float(low), 3), round(float(high), 3)
        (0.596, 0.982)

    References:
        Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    s, n = np.broadcast_arrays(_whole("successes", successes), _whole("trials", trials))
    if not np.all((s >= 0) & (s <= n)):
        raise ValueError(f"`successes` must be in [0, trials], got {s.tolist()} of {n.tolist()}.")
    z = NormalDist().inv_cdf(0.5 + _check_level(level) / 2)
    spread = z * np.sqrt(s * (n - s) / np.maximum(n, 1.0) + z**2 / 4)
    # The ends are in [0, 1] exactly; clipping removes the last rounding only.
    ends = ((s + z**2 / 2 + side * spread) / (n + z**2) for side in (-1, 1))
    low, high = (np.asarray(np.clip(end, 0, 1)) for end in ends)
    return low, high


def bootstrap_interval(
    values: npt.ArrayLike,
    statistic: Callable[[Array], float],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    num_resamples: int = 2000,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of one sample.

    Args:
        values: sample, shape `(n,)`, n >= 2.
        statistic: function of a resample of shape `(n,)` to a number, such as `np.median`.
        rng: generator of the resamples.
        level: coverage in (0, 1).
        num_resamples: resamples with replacement, >= 1.

    Returns:
        Lower and upper end: the (1 - level)/2 and (1 + level)/2 quantiles of the resampled statistic. For a handful
        of seeds it is too narrow (by about sqrt(1 - 1/n)); prefer `paired_interval` there.

    Example:
        >>> bootstrap_interval([3.0, 3.0, 3.0], np.mean, np.random.default_rng(0))
        (3.0, 3.0)

    References:
        Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
    """
    x = _check_sample("values", values)
    _checks.check_integer(num_resamples, "num_resamples", minimum=1)
    tail = (1 - _check_level(level)) / 2
    resampled = [statistic(rng.choice(x, size=len(x))) for _ in range(num_resamples)]
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


class PairedInterval(NamedTuple):
    """Mean of paired differences with one-sided bounds: each bound holds on its own with the stated level."""

    mean: float
    lower: float
    upper: float


def paired_interval(differences: npt.ArrayLike, level: float = 0.95) -> PairedInterval:
    r"""Mean of paired differences with a one-sided lower and a one-sided upper bound by Student's t.

    .. math:: \bar d \mp t_{\text{level},\, n - 1} \, \frac{s}{\sqrt n}

    A positive effect is shown when `lower` > 0, a negative one when `upper` < 0. The two bounds together cover
    with $2 \cdot \text{level} - 1$ (90 % at the default).

    Args:
        differences: one difference per pair, shape `(n,)`, n >= 2.
        level: one-sided level in (0, 1).

    Returns:
        Mean, lower and upper bound. Equal differences give a bound equal to the mean.

    Raises:
        ValueError: fewer than two differences, a non-finite one, or level outside (0, 1).

    Example:
        >>> interval = paired_interval([1.0, 2.0, 3.0])
        >>> interval.mean, round(interval.lower, 3), round(interval.upper, 3)
        (2.0, 0.314, 3.686)
    """
    from scipy import stats

    d = _check_sample("differences", differences)
    half_width = stats.t.ppf(_check_level(level), len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    mean = float(d.mean())
    return PairedInterval(mean, float(mean - half_width), float(mean + half_width))


def _whole(name: str, values: npt.ArrayLike) -> Array:
    numbers = _checks.check_real_array(values, name)
    _checks.check_all(numbers == np.floor(numbers), name, "be whole numbers", numbers)
    return numbers


def _label_pair(
    targets: Any, predictions: Any, num_classes: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    _checks.check_integer(num_classes, "num_classes", minimum=2)
    y = _checks.check_class_indices(targets, "targets", num_classes)
    y_hat = _checks.check_class_indices(predictions, "predictions", num_classes)
    if len(y) != len(y_hat):
        raise ValueError(f"`predictions` must have one entry per target ({len(y)}), got {len(y_hat)}.")
    return y, y_hat


def _confidence(probabilities: Any, targets: Any) -> tuple[Array, npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    p = _checks.check_distributions(probabilities, "probabilities")
    y = _checks.check_class_indices(targets, "targets", p.shape[1])
    if len(y) != len(p):
        raise ValueError(f"`targets` must have one entry per row of `probabilities` ({len(p)}), got {len(y)}.")
    return p.max(axis=1), p.argmax(axis=1) == y, y


def _check_level(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"`level` must be in (0, 1), got {level}.")
    return level


def _check_sample(name: str, values: npt.ArrayLike) -> Array:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or not np.all(np.isfinite(x)):
        raise ValueError(f"`{name}` must be at least 2 finite numbers in a vector, got {x.tolist()}.")
    return x
