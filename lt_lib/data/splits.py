"""Splits as frozen index lists: the long-tailed draw, the validation hold-out, and their hash."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from lt_lib._checks import (
    check_class_indices,
    check_counts,
    check_indices,
    check_integer,
    check_known,
    check_permutation,
)
from lt_lib.data.base import array_hash

Scheme = Literal["numpy", "ldam"]

# Second word of the seed, so that the draw and the hold-out of one seed are independent.
_HOLDOUT_STREAM = 1
_LARGEST_LEGACY_SEED = 2**32 - 1


def long_tail_indices(
    targets: ArrayLike,
    class_counts: ArrayLike,
    *,
    seed: int,
    class_order: ArrayLike | None = None,
    scheme: Scheme = "numpy",
) -> np.ndarray:
    r"""Draw a long-tailed subset without replacement: ``class_counts[rank]`` samples of class ``class_order[rank]``.

    Scheme ``"numpy"`` shuffles the members of class :math:`c` with a generator of its own, seeded by
    :math:`(\mathrm{seed}, c)`, and keeps a prefix. The draw of a class therefore depends neither on the other
    counts nor on the order, and with one seed the subsets of rising imbalance are nested.

    Scheme ``"ldam"`` reproduces the draw of the LDAM authors' published code, including its order: one legacy
    stream ``RandomState(seed)`` that shuffles class after class. Their code seeds NumPy's global generator; here
    the stream is local and the global one is left alone.

    Args:
        targets: class indices of the pool (samples,), non-negative integers.
        class_counts: samples to draw per rank (classes,), non-negative integers, not all zero.
        seed: non-negative integer that fixes the draw; below 2**32 for scheme ``"ldam"``.
        class_order: permutation (classes,); entry ``rank`` is the class that gets ``class_counts[rank]``, so with a
            decreasing profile entry 0 is the largest class. None keeps the native order.
        scheme: ``"numpy"`` or ``"ldam"``.

    Returns:
        Indices into ``targets``, int64 (sum of ``class_counts``,), rank after rank.

    Raises:
        ValueError: a class has fewer samples than asked, ``class_counts`` or ``class_order`` do not fit the
            classes in ``targets``, ``seed`` is out of range, or ``scheme`` is unknown.
        TypeError: ``targets``, ``class_counts``, ``class_order`` or ``seed`` are not integers.

    Example:
        >>> long_tail_indices([0, 0, 0, 1, 1, 1], [3, 1], seed=0, scheme="ldam")
        array([2, 1, 0, 5])

    References:
        K. Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019,
        section 4 (the draw itself is only in the authors' code).
    """
    check_known(scheme, "scheme", get_args(Scheme))
    labels = check_class_indices(targets, "targets")
    counts = check_counts(class_counts)
    order = (
        np.arange(len(counts)) if class_order is None else check_permutation(class_order, "class_order", len(counts))
    )
    check_integer(seed, "seed", minimum=0, maximum=_LARGEST_LEGACY_SEED if scheme == "ldam" else None)
    if labels.max() >= len(counts):
        raise ValueError(
            f"`class_counts` must have one entry per class, {labels.max() + 1} or more, got {len(counts)}."
        )
    available = np.bincount(labels, minlength=len(counts))
    for label, count in zip(order, counts, strict=True):
        if count > available[label]:
            raise ValueError(
                f"`class_counts` must not ask for more than class {label} has ({available[label]}), got {count}."
            )
    legacy = np.random.RandomState(seed) if scheme == "ldam" else None
    chosen = []
    for label, count in zip(order, counts, strict=True):
        members = np.flatnonzero(labels == label)
        if legacy is not None:
            legacy.shuffle(members)
        else:
            members = np.random.default_rng([seed, label]).permutation(members)
        chosen.append(members[:count])
    return np.concatenate(chosen).astype(np.int64)


def holdout_indices(
    targets: ArrayLike, train_indices: ArrayLike, per_class: int = 100, *, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Hold out a validation set, first from the samples that the long-tailed draw discarded.

    For a class with :math:`d` discarded samples the hold-out takes :math:`\min(d, m)` of them and the training set
    keeps all of its own. A class that uses all its samples (:math:`d = 0`) gives up :math:`m` training samples;
    ``class_counts`` records what is left.

    Args:
        targets: class indices of the whole pool (samples,).
        train_indices: indices of the training draw, each at most once.
        per_class: :math:`m`, images held out per class at most, at least 1.
        seed: non-negative integer that fixes the hold-out.

    Returns:
        ``(train_indices, validation_indices, class_counts)``: the training indices in their given order without
        those given up, the validation indices class by class, and the training samples left per class (classes,).

    Raises:
        ValueError: an index is repeated or outside the pool, ``per_class`` is below 1, or a class without
            discarded samples has no more than ``per_class`` and would be left empty.
        TypeError: ``targets``, ``train_indices``, ``per_class`` or ``seed`` are not integers.

    Example:
        >>> train, validation, counts = holdout_indices([0, 0, 0, 1, 1, 1], [0, 1, 2, 3], per_class=1, seed=0)
        >>> len(train), len(validation), counts
        (3, 2, array([2, 1]))
    """
    labels = check_class_indices(targets, "targets")
    train = check_indices(train_indices, "train_indices", len(labels))
    _check_distinct(train)
    check_integer(per_class, "per_class", minimum=1)
    check_integer(seed, "seed", minimum=0)
    used = np.zeros(len(labels), dtype=bool)
    used[train] = True
    held_out = []
    for label in range(int(labels.max()) + 1):
        members = labels == label
        candidates = np.flatnonzero(members & ~used)
        if not len(candidates):
            candidates = np.flatnonzero(members)
            # A label without any sample has nothing to give; every other class must keep at least one.
            if 0 < len(candidates) <= per_class:
                raise ValueError(
                    f"`per_class` must be below {len(candidates)}, all that class {label} has, got {per_class}."
                )
        rng = np.random.default_rng([seed, label, _HOLDOUT_STREAM])
        held_out.append(rng.permutation(candidates)[:per_class])
    validation = np.concatenate(held_out).astype(np.int64)
    remaining = train[~np.isin(train, validation)]
    class_counts = np.bincount(labels[remaining], minlength=int(labels.max()) + 1).astype(np.int64)
    return remaining, validation, class_counts


def split_hash(indices: ArrayLike) -> str:
    """SHA-256 of an index list; it changes with any index and with their order.

    Args:
        indices: integer indices (samples,).

    Returns:
        64 hexadecimal digits, the same on every platform.

    Raises:
        ValueError: ``indices`` is not one-dimensional.
        TypeError: ``indices`` is not integer.

    Example:
        >>> split_hash([0, 1, 2])[:12] == split_hash([0, 2, 1])[:12]
        False
    """
    return array_hash(check_indices(indices, "indices"))


def _check_distinct(train_indices: np.ndarray) -> None:
    values, repeats = np.unique(train_indices, return_counts=True)
    if len(values) != len(train_indices):
        raise ValueError(f"`train_indices` must not repeat an index, got {values[repeats > 1][0]} more than once.")
