r"""What pseudo-labels are worth, class by class: on a balanced test set and on the pool they come from, kept apart.

The two can reverse. On a balanced test set the largest class has high recall and low precision, almost by arithmetic;
on the imbalanced pool its precision is usually the higher one. Every number here says which of the two it is from.

These functions look at true labels. They are for looking at a run from outside, and no part of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lt_lib._checks import check_class_indices, check_distributions, check_fraction, check_integer
from lt_lib.metrics import per_class_precision, per_class_recall
from lt_lib.training.crest import GenerationRecord, Selection


@dataclass(frozen=True, eq=False)
class PseudoLabelReport:
    """Quality of the predictions of one model; arrays are float64 `(classes,)`, NaN where there is nothing to judge.

    Attributes:
        test_recall: on the balanced test set.
        test_precision: on the balanced test set.
        pool_recall: share of the pool's samples of each true class that get its pseudo-label.
        pool_precision: share of the pool's pseudo-labels of each class that are right.
        predicted: share of the pool predicted as each class.
        confidence: mean confidence of the pool samples predicted as each class.
        mask_rate: share of the pool samples predicted as each class whose confidence reaches the threshold.
        mask_rate_all: the same share over the whole pool, one number.
        kl_to_prior: divergence of the pool's mean prediction from the prior, in nats, one number.
    """

    test_recall: np.ndarray
    test_precision: np.ndarray
    pool_recall: np.ndarray
    pool_precision: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    mask_rate: np.ndarray
    mask_rate_all: float
    kl_to_prior: float


def kl_divergence(model: ArrayLike, prior: ArrayLike) -> float:
    r"""Kullback-Leibler divergence between two class distributions.

    .. math:: \mathrm{KL}(p \,\|\, \pi) = \sum_c p_c \log \frac{p_c}{\pi_c}, \qquad 0 \log 0 = 0

    Args:
        model: p, non-negative with sum 1 `(classes,)`.
        prior: :math:`\pi`, the same.

    Returns:
        Nats, >= 0; infinite if the prior gives nothing to a class that p has.

    Raises:
        ValueError: an argument is no distribution, or the lengths differ.

    Example:
        >>> round(kl_divergence([0.5, 0.5], [0.9, 0.1]), 4)
        0.5108
    """
    p, q = (np.asarray(values, dtype=np.float64) for values in (model, prior))
    for name, values in (("model", p), ("prior", q)):
        if values.ndim != 1 or not (values >= 0).all() or abs(values.sum() - 1) > 1e-6:
            raise ValueError(f"`{name}` must be non-negative numbers with sum 1, got {values.tolist()}.")
    if p.shape != q.shape:
        raise ValueError(f"`prior` must have one entry per class ({len(p)}), got {len(q)}.")
    held = p > 0
    with np.errstate(divide="ignore"):
        return max(float((p[held] * np.log(p[held] / q[held])).sum()), 0.0)


def pseudo_label_report(
    *,
    test_probabilities: Any,
    test_targets: Any,
    pool_probabilities: Any,
    pool_targets: Any,
    prior: ArrayLike,
    threshold: float = 0.95,
) -> PseudoLabelReport:
    """Judge predictions on a balanced test set and on the unlabelled pool.

    Args:
        test_probabilities: `(test samples, classes)`, array or tensor; rows summing to 1 (tolerance 1e-2, half
            precision passes).
        test_targets: true classes of the test samples.
        pool_probabilities: `(pool samples, classes)`, the same.
        pool_targets: true classes of the pool.
        prior: class distribution that the mean prediction is compared with `(classes,)`.
        threshold: confidence that counts as high, in [0, 1].

    Returns:
        The report.

    Raises:
        ValueError: rows that are no distribution (such as logits), shapes that do not fit, a class or a threshold out
            of range.
        TypeError: classes that are no integers.
    """
    check_fraction(threshold, "threshold")
    test = check_distributions(test_probabilities, "test_probabilities")
    pool = check_distributions(pool_probabilities, "pool_probabilities")
    classes = test.shape[1]
    if pool.shape[1] != classes:
        raise ValueError(f"`pool_probabilities` must have {classes} classes, got {pool.shape[1]}.")
    labels, confidence = pool.argmax(axis=1), pool.max(axis=1)
    members = labels[:, None] == np.arange(classes)
    size = members.sum(axis=0)
    high = confidence >= threshold
    truth, guess = _labels(test_targets, "test_targets", len(test), classes), test.argmax(axis=1)
    pool_truth = _labels(pool_targets, "pool_targets", len(pool), classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_confidence = (members * confidence[:, None]).sum(axis=0) / size
        mask_rate = (members & high[:, None]).sum(axis=0) / size
    mean = pool.mean(axis=0)
    return PseudoLabelReport(
        test_recall=per_class_recall(truth, guess, classes),
        test_precision=per_class_precision(truth, guess, classes),
        pool_recall=per_class_recall(pool_truth, labels, classes),
        pool_precision=per_class_precision(pool_truth, labels, classes),
        predicted=size / len(pool),
        confidence=mean_confidence,
        mask_rate=mask_rate,
        mask_rate_all=float(high.mean()),
        kl_to_prior=kl_divergence(mean / mean.sum(), prior),
    )


def selection_precision(selection: Selection, candidate_targets: Any, num_classes: int) -> np.ndarray:
    """Share of the selected pseudo-labels of each class that are right.

    Args:
        selection: what was chosen.
        candidate_targets: true classes of all candidates, array or tensor.
        num_classes: number of classes, at least that of the selection.

    Returns:
        float64 `(classes,)`, NaN for a class that nothing was selected for.

    Raises:
        ValueError: another number of targets than of candidates, a target out of range, or too few classes.
        TypeError: targets or a number of classes that are no integers.

    Example:
        >>> chosen = Selection(np.array([0, 2]), np.array([0, 1]), np.array([2, 1]), np.array([1, 1]))
        >>> selection_precision(chosen, [0, 0, 0], 3).tolist()
        [1.0, 0.0, nan]
    """
    check_integer(num_classes, "num_classes", minimum=len(selection.predicted))
    truth = _labels(candidate_targets, "candidate_targets", int(selection.predicted.sum()), num_classes)
    right = truth[selection.indices] == selection.labels
    size = np.bincount(selection.labels, minlength=num_classes)
    hits = np.bincount(selection.labels[right], minlength=num_classes)
    return np.divide(hits, size, out=np.full(num_classes, np.nan), where=size > 0)


def generation_rows(records: Sequence[GenerationRecord], **labels: Any) -> list[dict[str, Any]]:
    """Tidy rows, one per generation and class, of every report entry that has one number per class.

    Args:
        records: the generations of one run.
        labels: further columns, the same in all rows, such as `method="crest"` and `seed=0`.

    Returns:
        Dictionaries with the keys of `labels`, `generation`, `class`, `predicted_count`, `selected_count`, and those
        of the reports.
    """
    rows = []
    for record in records:
        classes = len(record.selection.predicted)
        vectors = {name: value for name, value in record.report.items() if np.shape(value) == (classes,)}
        for label in range(classes):
            row = {**labels, "generation": record.generation, "class": label}
            row["predicted_count"] = int(record.selection.predicted[label])
            row["selected_count"] = int(record.selection.selected[label])
            row |= {name: float(value[label]) for name, value in vectors.items()}
            rows.append(row)
    return rows


def _labels(targets: Any, argument: str, samples: int, classes: int) -> np.ndarray:
    labels = check_class_indices(targets, argument, classes)
    if len(labels) != samples:
        raise ValueError(f"`{argument}` must have one entry per sample ({samples}), got {len(labels)}.")
    return labels
