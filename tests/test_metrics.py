"""Metrics against naive loops and other libraries; intervals against exact enumerations and coverage."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from lt_lib import metrics

CLASSES = 5


def labels(seed=0, size=400):
    """Long-tailed labels without class 4, predictions without class 3."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(4, size=size, p=[0.6, 0.25, 0.1, 0.05])
    wrong = rng.random(size) < 0.4
    predictions = np.where(wrong, rng.choice([0, 1, 2, 4], size=size), np.where(targets == 3, 0, targets))
    return targets, predictions


def distributions(seed=0, size=300, classes=3):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(size, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return p, rng.integers(classes, size=size)


def test_confusion_matrix_counts_pairs():
    targets, predictions = labels()
    naive = np.zeros((CLASSES, CLASSES), dtype=int)
    for t, p in zip(targets, predictions, strict=True):
        naive[t, p] += 1
    given = metrics.confusion_matrix(targets, predictions, CLASSES)
    assert given.dtype == np.int64
    np.testing.assert_array_equal(given, naive)


def test_recall_and_precision_count_hits_and_leave_unscored_classes_out():
    targets, predictions = labels()
    for c in range(CLASSES):
        hits = sum(t == p == c for t, p in zip(targets, predictions, strict=True))
        recall = metrics.per_class_recall(targets, predictions, CLASSES)[c]
        precision = metrics.per_class_precision(targets, predictions, CLASSES)[c]
        assert math.isnan(recall) if c == 4 else recall == pytest.approx(hits / sum(targets == c))
        assert math.isnan(precision) if c == 3 else precision == pytest.approx(hits / sum(predictions == c))
    assert metrics.per_class_precision(targets, predictions, CLASSES)[4] == 0
    assert metrics.per_class_recall(targets, predictions, CLASSES)[3] == 0


def test_balanced_accuracy_agrees_with_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score

    targets, predictions = labels()
    predictions = np.where(predictions == 4, 0, predictions)  # scikit-learn warns of a class that is only predicted
    expected = balanced_accuracy_score(targets, predictions)
    assert metrics.balanced_accuracy(targets, predictions, 4) == pytest.approx(expected)
    assert metrics.balanced_accuracy(targets, predictions, CLASSES) == pytest.approx(expected)
    assert abs(expected - np.mean(targets == predictions)) > 0.05


def test_accuracy_can_hide_a_class_that_is_never_found():
    targets, predictions = np.repeat([0, 1], [995, 5]), np.zeros(1000, dtype=int)
    assert np.mean(targets == predictions) == 0.995
    assert metrics.balanced_accuracy(targets, predictions, 2) == 0.5
    assert metrics.g_mean(targets, predictions, 2) == 0.0
    assert metrics.worst_class(targets, predictions, 2) == (1, 0.0)


def test_g_mean_is_the_root_of_the_product():
    from imblearn.metrics import geometric_mean_score

    rng = np.random.default_rng(1)
    targets = rng.integers(3, size=200)
    predictions = np.where(rng.random(200) < 0.5, targets, rng.integers(3, size=200))
    assert metrics.g_mean(targets, predictions, 3) == pytest.approx(geometric_mean_score(targets, predictions))
    # A class without test samples must not change the root.
    assert metrics.g_mean(targets, predictions, 4) == pytest.approx(metrics.g_mean(targets, predictions, 3))
    many = np.arange(2000)
    half_right = np.concatenate([many, np.zeros(2000, dtype=int)])
    assert metrics.g_mean(np.concatenate([many, many]), half_right, 2000) == pytest.approx(
        0.5 ** (1999 / 2000), rel=1e-9
    )


def test_worst_class_skips_unscored_classes_and_takes_the_first_of_a_tie():
    targets, predictions = labels()
    assert metrics.worst_class(targets, predictions, CLASSES) == (3, 0.0)
    assert metrics.worst_class([1, 1, 2, 2], [1, 0, 2, 0], 3) == (1, 0.5)


def test_group_recall_averages_classes_not_samples():
    targets = np.repeat([0, 1, 2, 3], [10, 2, 4, 4])
    predictions = targets.copy()
    predictions[:5] = 1  # class 0: recall 0.5
    predictions[12:15] = 0  # class 2: recall 0.25
    groups = metrics.group_recall(targets, predictions, [500, 101, 100, 19])
    assert groups == {"many": 0.75, "medium": 0.25, "few": 1.0}


def test_group_recall_says_not_available_instead_of_zero():
    predictions = np.array([0, 1])
    assert metrics.group_recall([0, 1], predictions, [500, 400])["few"] == "n/a"
    # The only few-shot class has no test sample.
    assert metrics.group_recall([0, 1], predictions, [500, 400, 3]) == {"many": 1.0, "medium": "n/a", "few": "n/a"}
    thresholds = metrics.group_recall([0, 1], predictions, [500, 400], many=450, few=410)
    assert thresholds == {"many": 1.0, "medium": "n/a", "few": 1.0}


def naive_calibration_error(probabilities, targets, num_bins):
    """Walk through the bins and the samples one by one."""
    total = 0.0
    for b in range(num_bins):
        confidences, hits = [], []
        for row, target in zip(probabilities, targets, strict=True):
            top = max(range(len(row)), key=lambda j: row[j])
            last = b == num_bins - 1 and row[top] == 1
            if b / num_bins <= row[top] < (b + 1) / num_bins or last:
                confidences.append(row[top])
                hits.append(top == target)
        if confidences:
            total += abs(sum(hits) / len(hits) - sum(confidences) / len(hits)) * len(hits) / len(targets)
    return total


@pytest.mark.parametrize("num_bins", [1, 4, 15])
def test_calibration_error_equals_the_loop(num_bins):
    probabilities, targets = distributions()
    given = metrics.expected_calibration_error(probabilities, targets, num_bins=num_bins)
    assert given == pytest.approx(naive_calibration_error(probabilities, targets, num_bins), abs=1e-12)
    # Squared gaps, the nearest wrong formula, must be told apart.
    bins = metrics.calibration_bins(probabilities, targets, num_bins=num_bins)
    squared = np.sqrt(np.nansum((bins.accuracy - bins.confidence) ** 2 * bins.counts) / len(targets))
    assert num_bins == 1 or abs(given - squared) > 1e-3


def test_confidence_of_one_belongs_to_the_last_bin():
    probabilities = np.array([[1.0, 0.0], [0.95, 0.05]])
    bins = metrics.calibration_bins(probabilities, [1, 0], num_bins=10)
    assert bins.counts.tolist() == [0] * 9 + [2]
    assert bins.accuracy[-1] == 0.5
    assert bins.confidence[-1] == pytest.approx(0.975)
    assert np.isnan(bins.accuracy[:9]).all()


@pytest.mark.parametrize("num_bins", [10, 15, 50, 100])
def test_a_confidence_on_an_edge_belongs_to_the_bin_above(num_bins):
    lower = [b for b in range(num_bins) if 2 * b >= num_bins]
    confidence = np.array([b / num_bins for b in lower])
    bins = metrics.calibration_bins(np.stack([confidence, 1 - confidence], axis=1), [0] * len(lower), num_bins=num_bins)
    assert np.flatnonzero(bins.counts).tolist() == lower
    if num_bins in (50, 100):  # the nearest wrong formula must be told apart
        assert (confidence * num_bins).astype(int).tolist() != lower


def test_group_calibration_error_splits_by_true_class():
    probabilities, targets = distributions()
    groups = metrics.group_calibration_error(probabilities, targets, [500, 50, 5], num_bins=7)
    for c, name in enumerate(["many", "medium", "few"]):
        inside = targets == c
        expected = naive_calibration_error(probabilities[inside], targets[inside], 7)
        assert groups[name] == pytest.approx(expected, abs=1e-12)
    assert metrics.group_calibration_error(probabilities, targets, [500, 500, 500])["few"] == "n/a"
    moved = metrics.group_calibration_error(probabilities, targets, [500, 50, 5], many=600, few=5)
    assert moved["many"] == "n/a"
    assert moved["few"] == "n/a"


def test_tensors_give_the_same_numbers_in_any_precision():
    targets, predictions = labels()
    as_tensors = torch.from_numpy(targets), torch.from_numpy(predictions)
    assert metrics.g_mean(*as_tensors, 4 + 1) == metrics.g_mean(targets, predictions, CLASSES)
    probabilities, y = distributions()
    exact = metrics.expected_calibration_error(probabilities, y)
    tensor = torch.from_numpy(probabilities).requires_grad_()
    assert metrics.expected_calibration_error(tensor, torch.from_numpy(y)) == exact
    for dtype in (torch.float16, torch.bfloat16):
        assert metrics.expected_calibration_error(tensor.to(dtype), y) == pytest.approx(exact, abs=0.05)


def test_import_leaves_torch_out():
    probe = "import sys, lt_lib.metrics; assert not {'torch', 'sklearn', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], check=True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.confusion_matrix([0, 1], [0], 2), ValueError, "`predictions` must have one entry per target"),
        (
            lambda: metrics.confusion_matrix([0, 2], [0, 0], 2),
            ValueError,
            r"`targets` must be class indices in \[0, 1\]",
        ),
        (lambda: metrics.confusion_matrix([0], [-1], 2), ValueError, "`predictions` must be class indices"),
        (lambda: metrics.confusion_matrix([], [], 2), ValueError, "`targets` must be a non-empty vector"),
        (lambda: metrics.confusion_matrix([0.0], [0], 2), TypeError, "`targets` must be integer class indices"),
        (lambda: metrics.per_class_recall([0], [0], 1), ValueError, "`num_classes` must be an integer of at least 2"),
        (lambda: metrics.per_class_precision([0], [0], 2.0), TypeError, "`num_classes` must be an integer"),
        (lambda: metrics.expected_calibration_error([[3.0, -1.0]], [0]), ValueError, "`probabilities`.*softmax"),
        (lambda: metrics.expected_calibration_error([[0.7, 0.7]], [0]), ValueError, "rows summing to 1"),
        (lambda: metrics.expected_calibration_error([0.5, 0.5], [0]), ValueError, "`probabilities` must have shape"),
        (lambda: metrics.expected_calibration_error([[0.5, 0.5]], [0, 1]), ValueError, "`targets` must have one entry"),
        (lambda: metrics.calibration_bins([[0.5, 0.5]], [0], num_bins=0), ValueError, "`num_bins` must be"),
        (lambda: metrics.group_calibration_error([[0.5, 0.5]], [0], [1, 2, 3]), ValueError, "`class_counts` must have"),
        (lambda: metrics.wilson_interval(3, 2), ValueError, r"`successes` must be in \[0, trials\]"),
        (lambda: metrics.wilson_interval(0.25, 0.5), ValueError, "`successes` must be whole numbers, got 0.25"),
        (lambda: metrics.wilson_interval(0, 0.5), ValueError, "`trials` must be whole numbers, got 0.5"),
        (lambda: metrics.wilson_interval(1, float("nan")), ValueError, "`trials` must be finite, got nan"),
        (lambda: metrics.group_recall([0], [0], [5]), ValueError, "`class_counts` must have at least 2 classes, got 1"),
        (lambda: metrics.wilson_interval(1, 2, level=1.0), ValueError, r"`level` must be in \(0, 1\), got 1.0"),
        (lambda: metrics.paired_interval([1.0]), ValueError, "`differences` must be at least 2 finite numbers"),
        (lambda: metrics.paired_interval([1.0, float("nan")]), ValueError, "`differences` must be at least 2 finite"),
        (lambda: metrics.paired_interval([1.0, 2.0], level=0), ValueError, "`level` must be in"),
        (
            lambda: metrics.bootstrap_interval([1.0], np.mean, np.random.default_rng(0)),
            ValueError,
            "`values` must be at least 2 finite numbers",
        ),
        (
            lambda: metrics.bootstrap_interval([1.0, 2.0], np.mean, np.random.default_rng(0), num_resamples=0),
            ValueError,
            "`num_resamples` must be",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_interval_equals_scipy(level):
    from scipy import stats

    successes, trials = np.array([0, 1, 7, 50, 50]), np.array([5, 5, 20, 50, 999])
    low, high = metrics.wilson_interval(successes, trials, level=level)
    for i, (s, n) in enumerate(zip(successes, trials, strict=True)):
        expected = stats.binomtest(int(s), int(n)).proportion_ci(confidence_level=level, method="wilson")
        assert low[i] == pytest.approx(expected.low, abs=1e-12)
        assert high[i] == pytest.approx(expected.high, abs=1e-12)


def test_wilson_interval_without_trials_is_everything():
    low, high = metrics.wilson_interval(0, 0)
    assert (float(low), float(high)) == (0.0, 1.0)


def test_bootstrap_interval_finds_the_exact_quantiles():
    values = [0.0, 1.0, 5.0, 20.0]
    means = [np.mean(resample) for resample in itertools.product(values, repeat=4)]  # all 256 equally likely
    low, high = metrics.bootstrap_interval(values, np.mean, np.random.default_rng(0), level=0.9, num_resamples=20_000)
    # The distribution is discrete: an end may fall on a neighbouring atom, but not further.
    assert np.quantile(means, 0.04) <= low <= np.quantile(means, 0.06)
    assert np.quantile(means, 0.94) <= high <= np.quantile(means, 0.96)


def test_bootstrap_interval_uses_every_argument():
    values = np.random.default_rng(1).normal(size=30)

    def interval(seed=0, statistic=np.mean, **options):
        return metrics.bootstrap_interval(values, statistic, np.random.default_rng(seed), **options)

    base = interval()
    assert base == interval()
    assert base != interval(seed=1)
    assert base != interval(statistic=np.median)
    assert base != interval(num_resamples=100)
    narrow = interval(level=0.5)
    assert base[0] < narrow[0] < narrow[1] < base[1]


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_paired_interval_agrees_with_the_t_test(level):
    from scipy import stats

    first, second = np.random.default_rng(2).normal(size=(2, 12))
    interval = metrics.paired_interval(first - second, level)
    expected = stats.ttest_rel(first, second, alternative="greater").confidence_interval(level)
    assert interval.lower == pytest.approx(expected.low)
    expected = stats.ttest_rel(first, second, alternative="less").confidence_interval(level)
    assert interval.upper == pytest.approx(expected.high)
    assert interval.mean == pytest.approx(np.mean(first) - np.mean(second))


def test_paired_interval_covers_as_stated_and_a_normal_quantile_would_not():
    rng = np.random.default_rng(3)
    draws = 2000
    covered = normal_covered = 0
    for sample in rng.normal(loc=1.0, size=(draws, 4)):
        covered += metrics.paired_interval(sample).lower <= 1.0
        normal_covered += sample.mean() - 1.6449 * sample.std(ddof=1) / 2 <= 1.0
    standard_error = math.sqrt(0.95 * 0.05 / draws)
    assert abs(covered / draws - 0.95) < 4 * standard_error
    assert abs(normal_covered / draws - 0.95) > 4 * standard_error


def test_paired_interval_of_equal_differences_is_a_point():
    assert metrics.paired_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)
