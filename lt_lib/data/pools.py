r"""Unlabelled pools as data objects: how large, how imbalanced, how relevant, and from where.

A pool keeps the classes of its samples, because somebody chose it by them and because a diagnosis needs them. A method
that learns from it is given `Pool.inputs` and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lt_lib._checks import (
    check_fraction,
    check_indices,
    check_integer,
    check_permutation,
    check_positive,
    check_real,
)
from lt_lib.data.base import Split, array_hash, check_stored_targets
from lt_lib.data.gaussian import GaussianWorld
from lt_lib.data.splits import long_tail_indices

OUTSIDE = -1  # class of a sample that belongs to none of the classes of the task


@dataclass(frozen=True)
class PoolSpec:
    r"""What pool is wanted.

    Attributes:
        amount: size as a multiple of the labelled set, > 0; published amounts are 0.5, 1, 5 and 10.
        imbalance_ratio: :math:`\rho_U \ge 1` of the samples that belong to the task.
        relevance: share of the pool that belongs to the classes of the task, in [0, 1].

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> PoolSpec(amount=5.0, relevance=0.6).sizes(2000, 10)
        (array([600, 600, 600, 600, 600, 600, 600, 600, 600, 600]), 4000)
    """

    amount: float = 5.0
    imbalance_ratio: float = 1.0
    relevance: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self.amount, "amount")
        check_real(self.imbalance_ratio, "imbalance_ratio", minimum=1.0)
        check_fraction(self.relevance, "relevance")

    def sizes(self, labelled: int, num_classes: int) -> tuple[np.ndarray, int]:
        """Samples of each class of the task, int64 `(classes,)`, largest first, and samples from outside.

        Args:
            labelled: size of the labelled set, >= 1.
            num_classes: classes of the task, >= 2.

        Raises:
            ValueError: the pool would be empty, or has fewer relevant samples than there are classes.
        """
        check_integer(labelled, "labelled", minimum=1)
        check_integer(num_classes, "num_classes", minimum=2)
        total = round(self.amount * labelled)
        if total == 0:
            raise ValueError(
                f"`amount` must leave at least one sample in the pool, got {self.amount:g} times {labelled} labelled."
            )
        relevant = round(self.relevance * total)
        if relevant == 0:
            return np.zeros(num_classes, dtype=np.int64), total
        if relevant < num_classes:
            raise ValueError(
                f"`relevance` must leave at least one sample per class ({num_classes}) or none, "
                f"got {self.relevance:g} of a pool of {total}. A larger `amount` fits."
            )
        return pool_counts(relevant, num_classes, self.imbalance_ratio), total - relevant


def pool_counts(total: int, num_classes: int, imbalance_ratio: float) -> np.ndarray:
    r"""Exponential profile of a given total, as the released code of Yang and Xu makes it.

    .. math:: n_i = \Bigl\lfloor r_i\, \frac{T}{\sum_j r_j} \Bigr\rfloor, \qquad
              r_i = \bigl\lfloor \lfloor T / C \rfloor\; \rho_U^{-i/(C-1)} \bigr\rfloor

    Both floors lose samples: up to C of the total, and the rarest class is somewhat rarer than :math:`\rho_U` says. A
    class whose :math:`r_i` is 0 stays empty.

    Status: exact (authors' code), but for one point: a value that is a whole number up to rounding, as 49 samples at
    ratio 49, is not cut to the number below.

    Args:
        total: T, samples wanted, >= 1.
        num_classes: C, >= 2.
        imbalance_ratio: :math:`\rho_U \ge 1`.

    Returns:
        int64 `(classes,)`, largest first, with a sum of at most T.

    Raises:
        ValueError: an argument is out of range, or fewer samples than classes are wanted (all :math:`r_i` would be 0).

    Example:
        The pool of the published table at ratio 50, five times 13,996 labelled images:

        >>> pool_counts(69980, 10, 50.0)
        array([24999, 16186, 10477,  6784,  4390,  2843,  1839,  1189,   771,
                 496])
    """
    check_integer(total, "total", minimum=1)
    check_integer(num_classes, "num_classes", minimum=2)
    check_real(imbalance_ratio, "imbalance_ratio", minimum=1.0)
    first = total // num_classes
    if first == 0:
        raise ValueError(f"`total` must be at least one sample per class ({num_classes}), got {total}.")
    # 1e-9 keeps a power such as 50^(-9/9) * 50 from falling just below its whole value.
    raw = np.floor(first * imbalance_ratio ** (-np.arange(num_classes) / (num_classes - 1)) + 1e-9)
    return np.floor(raw * total / raw.sum() + 1e-9).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Pool:
    """Unlabelled samples, and what only their owner knows about them.

    Attributes:
        inputs: all that a method may see, `(samples, ...)`.
        targets: true classes, `OUTSIDE` for samples from outside the task, int64 `(samples,)`; for diagnosis only.
        num_classes: classes of the task.
        source: where the samples come from, in words.

    Raises:
        ValueError: the pool is empty, the lengths differ, the targets are not one-dimensional int64, or a class is out
            of range.
    """

    inputs: np.ndarray
    targets: np.ndarray
    num_classes: int
    source: str

    def __post_init__(self) -> None:
        check_stored_targets(self.targets)
        if len(self.inputs) != len(self.targets) or len(self.targets) == 0:
            raise ValueError(
                "`inputs` and `targets` must be equally long, not empty, "
                f"got {len(self.inputs)} and {len(self.targets)}."
            )
        if self.targets.min() < OUTSIDE or self.targets.max() >= self.num_classes:
            raise ValueError(
                f"`targets` must lie in {OUTSIDE} ... {self.num_classes - 1}, "
                f"got values from {self.targets.min()} to {self.targets.max()}."
            )

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def class_counts(self) -> np.ndarray:
        """Samples of each class of the task, int64 `(classes,)`."""
        return np.bincount(self.targets[self.targets != OUTSIDE], minlength=self.num_classes)

    @property
    def relevance(self) -> float:
        """Share of the samples that belong to the task."""
        return float(np.mean(self.targets != OUTSIDE))

    def hash(self) -> str:
        """SHA-256 of inputs and classes, in order."""
        return array_hash(np.asarray(self.inputs), self.targets)


def gaussian_pool(
    world: GaussianWorld, num_classes: int, labelled: int, spec: PoolSpec, rng: np.random.Generator
) -> Pool:
    """Draw a fresh pool from a Gaussian world whose further classes are the outside of the task.

    Args:
        world: the first `num_classes` classes are those of the task, all others lie outside.
        num_classes: classes of the task, at most those of the world.
        labelled: size of the labelled set.
        spec: size, imbalance and relevance. Samples from outside are shared equally among the outside classes.
        rng: source of randomness.

    Returns:
        The pool, class after class, the outside last.

    Raises:
        ValueError: `spec` wants samples from outside and the world has no further class, or an argument is out of
            range.

    Example:
        >>> from lt_lib.data import gaussian_world
        >>> world = gaussian_world(num_classes=6, separation=1.0, clusters=1)
        >>> pool = gaussian_pool(world, 4, 100, PoolSpec(amount=2.0, relevance=0.5), np.random.default_rng(0))
        >>> pool.class_counts, len(pool), pool.relevance
        (array([25, 25, 25, 25]), 200, 0.5)
    """
    check_integer(num_classes, "num_classes", minimum=2, maximum=world.num_classes)
    counts, outside = spec.sizes(labelled, num_classes)
    others = world.num_classes - num_classes
    if outside and not others:
        raise ValueError(f"`spec.relevance` must be 1 in a world without outside classes, got {spec.relevance:g}.")
    shares = np.diff(np.linspace(0, outside, others + 1).round().astype(np.int64))
    split = world.sample(np.concatenate([counts, shares]), rng)
    targets = np.where(split.targets < num_classes, split.targets, OUTSIDE)
    return Pool(np.asarray(split.inputs), targets, num_classes, "Gaussian world")


def drawn_pool(
    relevant: Split,
    num_classes: int,
    labelled: int,
    spec: PoolSpec,
    *,
    seed: int,
    source: str,
    outside: np.ndarray | None = None,
    exclude: Iterable[int] = (),
    class_order: ArrayLike | None = None,
) -> Pool:
    """Draw a pool from recorded data: what the labelled draw left over, or another data set with the same classes.

    The draw reads the classes of `relevant`: somebody has to know them to make a pool of a wanted profile.

    Args:
        relevant: samples of the task, such as the training split of the labelled set, SVHN's extra split or CINIC-10.
        num_classes: classes of the task.
        labelled: size of the labelled set.
        spec: size, imbalance and relevance.
        seed: fixes the draw, >= 0.
        source: name for `Pool.source`.
        outside: inputs from outside the task, `(samples, ...)`; needed for a relevance below 1.
        exclude: indices into `relevant` that must not be drawn, not a mask: the labelled set and the hold-out, if both
            come from the same split.
        class_order: permutation of the classes, the largest of the pool first; None keeps the native order.

    Returns:
        The pool, relevant samples first.

    Raises:
        ValueError: there are fewer samples than asked, in a class or outside; or an argument is out of range.
        TypeError: `exclude`, `class_order` or `seed` are not integers.

    Example:
        >>> split = Split(np.arange(8.0)[:, None], np.repeat(np.arange(2), 4))
        >>> pool = drawn_pool(split, 2, 2, PoolSpec(amount=2.0), seed=0, source="rest", exclude=[0, 4])
        >>> sorted(set(pool.inputs[:, 0]) & {0.0, 4.0}), pool.class_counts
        ([], array([2, 2]))
    """
    counts, wanted = spec.sizes(labelled, num_classes)
    check_integer(seed, "seed", minimum=0)
    order = np.arange(num_classes)
    if class_order is not None:
        order = check_permutation(class_order, "class_order", num_classes)
    listed = exclude if hasattr(exclude, "__array__") else list(exclude)
    inputs = np.asarray(relevant.inputs)
    free = np.setdiff1d(np.arange(len(relevant)), check_indices(listed, "exclude", len(relevant)))
    rows = np.empty(0, dtype=np.int64)
    if counts.any():
        targets = relevant.targets[free]
        available = np.bincount(targets, minlength=num_classes)
        for label, count in zip(order, counts, strict=True):
            if count > available[label]:
                raise ValueError(
                    f"`spec` must ask for no more than is left: class {label} has {available[label]} free samples "
                    f"in {source!r}, got {count}. A smaller `amount` or another `imbalance_ratio` fits."
                )
        rows = free[long_tail_indices(targets, counts, seed=seed, class_order=order)]
    parts, classes = [inputs[rows]], [relevant.targets[rows]]
    if wanted:
        found = 0 if outside is None else len(outside)
        if outside is None or found < wanted:
            raise ValueError(f"`outside` must hold at least {wanted} samples for this relevance, got {found}.")
        if outside.shape[1:] != inputs.shape[1:]:
            raise ValueError(
                f"`outside` must have samples of shape {inputs.shape[1:]}, as `relevant`, got {outside.shape[1:]}."
            )
        # A stream of its own: the outside samples do not depend on the relevant ones.
        picked = np.random.default_rng([seed, 1]).permutation(found)[:wanted]
        parts.append(outside[picked])
        classes.append(np.full(wanted, OUTSIDE, dtype=np.int64))
    return Pool(np.concatenate(parts), np.concatenate(classes), num_classes, source)
