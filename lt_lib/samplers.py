r"""Re-sampling: which class the next training sample comes from, and which sample of that class.

Every scheme is one per-sample weight $w_c$ that depends on the class only. Drawing samples with replacement in
proportion to $w_{y_i}$ means drawing class $c$ with probability $p_c \propto n_c w_c$ and then a sample of that class
uniformly. The functions that follow from counts alone return NumPy float64; the drawing itself is torch, on any device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Sampler

from lt_lib import _checks, counts

Scheme = Literal["uniform", "inverse", "sqrt", "effective_number", "progressive"]
SmallClass = Literal["raise", "shrink"]
Arrays = tuple[npt.NDArray[Any], npt.NDArray[np.int64]]

SCHEMES: tuple[Scheme, ...] = ("uniform", "inverse", "sqrt", "effective_number", "progressive")


def sampling_probabilities(
    class_counts: npt.ArrayLike, scheme: Scheme, *, beta: float | None = None, progress: float | None = None
) -> npt.NDArray[np.float64]:
    r"""Probability of each class under a re-sampling scheme.

    .. math:: p_c \propto n_c w_c, \qquad
              w_c = 1,\; 1/n_c,\; 1/\sqrt{n_c},\; 1/E_{n_c}(\beta)

    for "uniform" (over samples), "inverse", "sqrt" and "effective_number". With progress $t$,

    .. math:: p_c^{\text{progressive}}(t) = (1 - t)\,\frac{n_c}{\sum_j n_j} + t\,\frac{1}{C'} ,

    with $C'$ the number of classes that have samples. A class without samples has probability 0 in every scheme.

    Args:
        class_counts: samples per class, >= 0 and not all zero.
        scheme: one of "uniform", "inverse", "sqrt", "effective_number", "progressive".
        beta: effective-number parameter in [0, 1]; needed by "effective_number" and refused elsewhere.
            0 gives "uniform", 1 gives "inverse".
        progress: position $t$ in [0, 1]; needed by "progressive" and refused elsewhere. 0 gives "uniform", 1 "inverse".

    Returns:
        Probabilities that sum to 1, shape `(classes,)`.

    Raises:
        ValueError: unknown scheme, parameter missing, out of range, or given to a scheme that has none.

    Example:
        >>> sampling_probabilities([90, 10], "inverse").tolist()
        [0.5, 0.5]
        >>> sampling_probabilities([90, 10], "sqrt").round(2).tolist()
        [0.75, 0.25]
        >>> sampling_probabilities([90, 10], "progressive", progress=0.5).round(2).tolist()
        [0.7, 0.3]

    References:
        Kang et al., "Decoupling representation and classifier for long-tailed recognition", ICLR 2020, eq. (1)-(2):
        their q = 1, 0, 1/2 are our "uniform", "inverse", "sqrt". Cao et al., "Learning imbalanced datasets with
        label-distribution-aware margin loss", NeurIPS 2019: their code's class-balanced re-sampling is
        "effective_number" with beta 0.9999.
    """
    n = _checks.check_counts(class_counts).astype(np.float64)
    _checks.check_known(scheme, "scheme", SCHEMES)
    _check_parameter("progress", progress, scheme, needed_by="progressive")
    _check_parameter("beta", beta, scheme, needed_by="effective_number")
    present = n > 0
    by_sample = n / n.sum()
    by_class = present / present.sum()
    if progress is not None:
        return (1.0 - progress) * by_sample + progress * by_class
    if beta is not None:
        mass = np.zeros_like(n)
        mass[present] = n[present] / counts.effective_number(n[present].astype(np.int64), beta)
    elif scheme == "uniform":
        return by_sample
    elif scheme == "inverse":
        return by_class
    else:
        mass = np.sqrt(n)
    return mass / mass.sum()


def sample_probabilities(
    targets: Tensor | npt.ArrayLike,
    class_counts: npt.ArrayLike,
    scheme: Scheme,
    *,
    beta: float | None = None,
    progress: float | None = None,
) -> npt.NDArray[np.float64]:
    r"""Probability of each sample: its class's sampling probability shared out among the class.

    .. math:: q_i = \frac{p_{y_i} / n_{y_i}}{\sum_j p_{y_j} / n_{y_j}}

    Args:
        targets: class indices, shape `(samples,)`; may be a subset of the samples that were counted.
        class_counts: samples per class of the training set on which the scheme is defined.
        scheme: as in `sampling_probabilities`.
        beta: as in `sampling_probabilities`.
        progress: as in `sampling_probabilities`.

    Returns:
        Probabilities over the given samples, summing to 1, shape `(samples,)`.

    Raises:
        ValueError: a target outside the classes, or one whose class has count 0.

    Example:
        >>> sample_probabilities([0, 0, 0, 1], [3, 1], "inverse").round(3).tolist()
        [0.167, 0.167, 0.167, 0.5]
    """
    n = _checks.check_counts(class_counts)
    y = _checks.check_class_indices(targets, "targets", len(n))
    if np.any(n[y] == 0):
        empty = int(y[n[y] == 0][0])
        raise ValueError(f"`class_counts` must be positive for every class in `targets`, got 0 for class {empty}.")
    per_class = sampling_probabilities(n, scheme, beta=beta, progress=progress)
    per_sample = per_class[y] / n[y]
    return per_sample / per_sample.sum()


def draw_indices(
    targets: Tensor, class_probabilities: Tensor | npt.ArrayLike, num_samples: int, rng: torch.Generator
) -> Tensor:
    """Draw sample indices with replacement: first the class, then a sample of that class uniformly.

    Vectorised, on the device of `targets`. Unlike `torch.multinomial` over samples there is no limit of 2^24 samples.

    Args:
        targets: class indices, integer tensor `(samples,)`.
        class_probabilities: non-negative, not all zero, shape `(classes,)`; normalised here.
        num_samples: how many indices to draw, >= 1.
        rng: generator on the same device as `targets`.

    Returns:
        int64 indices into `targets`, shape `(num_samples,)`, on the device of `targets`.

    Raises:
        ValueError: probabilities negative, not finite or all zero; positive for a class without samples; targets
            out of range or empty; `rng` on another device; `num_samples` < 1.

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> picked = draw_indices(torch.tensor([0, 0, 0, 1]), [0.0, 1.0], 3, rng)
        >>> picked.tolist()
        [3, 3, 3]
    """
    _check_target_tensor(targets)
    _checks.check_integer(num_samples, "num_samples", minimum=1)
    if rng.device.type != targets.device.type:
        raise ValueError(f"`rng` must be a generator on {targets.device.type}, got one on {rng.device.type}.")
    # float32 because not every accelerator has float64; multinomial is exact far beyond what a histogram can tell.
    probabilities = torch.as_tensor(class_probabilities, dtype=torch.float32, device=targets.device)
    _check_probabilities(probabilities)
    num_classes = len(probabilities)
    if int(targets.min()) < 0 or int(targets.max()) >= num_classes:
        low, high = int(targets.min()), int(targets.max())
        raise ValueError(f"`targets` must be class indices in [0, {num_classes - 1}], got {low} to {high}.")
    order = torch.argsort(targets, stable=True)
    class_counts = torch.bincount(targets, minlength=num_classes)
    unreachable = (probabilities > 0) & (class_counts == 0)
    if bool(unreachable.any()):
        names = torch.nonzero(unreachable).flatten().tolist()
        raise ValueError(f"`class_probabilities` must be 0 for classes without samples, got positive for {names}.")
    first = torch.cumsum(class_counts, 0) - class_counts
    classes = torch.multinomial(probabilities, num_samples, replacement=True, generator=rng)
    # A 62-bit integer modulo n: uniform to n / 2^62, without the 24 bits of a float32 uniform.
    position = torch.randint(2**62, (num_samples,), generator=rng, device=targets.device) % class_counts[classes]
    return order[first[classes] + position]


class ClassSampler(Sampler[int]):
    """Sampler for a `DataLoader` that re-samples by class with its own generator.

    Each iteration is a new draw of `num_samples` indices with replacement; the global generator is never touched.

    Args:
        targets: class indices of the data set, shape `(samples,)`; classes are 0 to their maximum.
        scheme: as in `sampling_probabilities`.
        num_samples: length of one epoch.
        rng: CPU generator; its state moves on with every epoch, so save it with a checkpoint.
        beta: effective-number parameter, for "effective_number" only.
        progress: start value of the progress, for "progressive" only; `set_progress` moves it between epochs.

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> sampler = ClassSampler(torch.tensor([0] * 90 + [1] * 10), "inverse", 1000, rng=rng)
        >>> sampler.class_probabilities.tolist(), len(list(sampler))
        ([0.5, 0.5], 1000)
    """

    def __init__(
        self,
        targets: Tensor | npt.ArrayLike,
        scheme: Scheme,
        num_samples: int,
        *,
        rng: torch.Generator,
        beta: float | None = None,
        progress: float | None = None,
    ) -> None:
        self.targets = torch.from_numpy(_checks.check_class_indices(targets, "targets"))
        if rng.device.type != "cpu":
            raise ValueError(f"`rng` must be a generator on cpu, got one on {rng.device.type}.")
        _checks.check_integer(num_samples, "num_samples", minimum=1)
        self.class_counts = torch.bincount(self.targets).numpy()
        self.scheme: Scheme = scheme
        self.num_samples = num_samples
        self.rng = rng
        self.class_probabilities = sampling_probabilities(self.class_counts, scheme, beta=beta, progress=progress)

    def set_progress(self, progress: float) -> None:
        """Move a progressively balanced sampler to `progress` in [0, 1]; other schemes refuse."""
        self.class_probabilities = sampling_probabilities(self.class_counts, self.scheme, progress=progress)

    def __iter__(self) -> Iterator[int]:
        yield from draw_indices(self.targets, self.class_probabilities, self.num_samples, self.rng).tolist()

    def __len__(self) -> int:
        return self.num_samples


def oversample(inputs: Tensor | npt.ArrayLike, targets: Tensor | npt.ArrayLike, *, seed: int) -> Arrays:
    """Repeat random samples of the smaller classes until every class is as large as the largest.

    The original samples come first and all stay. Any input type that NumPy has and any shape works, since only indices
    are drawn.

    Args:
        inputs: samples along the first axis; a bfloat16 tensor, which NumPy has no type for, comes back as float32.
        targets: class indices, shape `(samples,)`.
        seed: seed of the draw, 0 to 2^32 - 1; the global generators are not touched.

    Returns:
        Inputs and int64 targets of the balanced set.

    Raises:
        ValueError: fewer than two classes, lengths that differ, or `seed` out of range.
        TypeError: `inputs` of a type that NumPy does not have, or targets that are not integers.

    Example:
        >>> inputs, targets = oversample([[0.0], [1.0], [2.0]], [0, 0, 1], seed=0)
        >>> targets.tolist(), inputs[:, 0].tolist()
        ([0, 0, 1, 1], [0.0, 1.0, 2.0, 2.0])
    """
    from imblearn.over_sampling import RandomOverSampler

    return _resample_by_index(RandomOverSampler(random_state=_legacy_seed(seed)), inputs, targets)


def undersample(inputs: Tensor | npt.ArrayLike, targets: Tensor | npt.ArrayLike, *, seed: int) -> Arrays:
    """Keep a random subset of the larger classes so that every class is as small as the smallest.

    Args:
        inputs: as in `oversample`.
        targets: class indices, shape `(samples,)`.
        seed: seed of the draw, 0 to 2^32 - 1; the global generators are not touched.

    Returns:
        Inputs and int64 targets of the balanced set, grouped by class; no sample occurs twice.

    Raises:
        ValueError: as `oversample`.
        TypeError: as `oversample`.

    Example:
        >>> inputs, targets = undersample([[0.0], [1.0], [2.0]], [0, 0, 1], seed=0)
        >>> targets.tolist()
        [0, 1]
    """
    from imblearn.under_sampling import RandomUnderSampler

    return _resample_by_index(RandomUnderSampler(random_state=_legacy_seed(seed)), inputs, targets)


def smote(
    inputs: Tensor | npt.ArrayLike,
    targets: Tensor | npt.ArrayLike,
    *,
    seed: int,
    k_neighbors: int = 5,
    small_class: SmallClass = "raise",
) -> Arrays:
    r"""Fill up the smaller classes with points on segments between neighbours of the same class (SMOTE).

    .. math:: \tilde x = x + u\,(x' - x), \quad u \sim U[0, 1], \; x' \text{ one of the } k \text{ nearest of its class}

    The original samples come first and all stay; inputs of any shape are flattened for the distances and shaped back.

    Args:
        inputs: floating-point samples along the first axis. Integers are refused: in uint8 the difference
            $x' - x$ wraps around and nearly half the synthetic pixels leave the segment. bfloat16 as in `oversample`.
        targets: class indices, shape `(samples,)`.
        seed: seed of the draw, 0 to 2^32 - 1; the global generators are not touched.
        k_neighbors: $k \ge 1$; every class that is filled up needs more than $k$ samples.
        small_class: "raise" refuses a class with $n \le k$; "shrink" lowers $k$ to $n - 1$ of the smallest class,
            for the whole data set. A class with one sample is refused in both cases: there is no segment to
            interpolate on, and a hidden copy would not be SMOTE. Use `oversample` for such a set.

    Returns:
        Inputs and int64 targets of the balanced set.

    Raises:
        TypeError: inputs that are not floating point, and as `oversample`.
        ValueError: a class too small for $k$, and as `oversample`.

    Example:
        >>> inputs, targets = smote([[0.0], [1.0], [2.0], [8.0], [9.0]], [0, 0, 0, 1, 1], seed=0, k_neighbors=1)
        >>> targets.tolist(), bool(8.0 <= inputs[-1, 0] <= 9.0)
        ([0, 0, 0, 1, 1, 1], True)

    References:
        Chawla et al., "SMOTE: synthetic minority over-sampling technique", JAIR 16 (2002), section 4.2.
    """
    from imblearn.over_sampling import SMOTE

    _checks.check_known(small_class, "small_class", ("raise", "shrink"))
    _checks.check_integer(k_neighbors, "k_neighbors", minimum=1)
    seed = _legacy_seed(seed)
    x, y = _paired_arrays(inputs, targets)
    if not np.issubdtype(x.dtype, np.floating):
        raise TypeError(
            f"`inputs` must be floating point for SMOTE, got {x.dtype}: integer differences wrap or are cut off. "
            "Convert first, e.g. `inputs.astype(np.float32) / 255`."
        )
    classes, sizes = np.unique(y, return_counts=True)
    growing = sizes < sizes.max()
    if growing.any():
        smallest = int(np.argmin(sizes))
        label, n = int(classes[smallest]), int(sizes[smallest])
        if n == 1:
            raise ValueError(f"`targets` must have at least 2 samples per class for SMOTE, got n=1 for class {label}.")
        if n <= k_neighbors and small_class == "raise":
            raise ValueError(
                f"`k_neighbors` must be smaller than the smallest class, got k={k_neighbors} with n={n} for class "
                f'{label}; lower it or pass small_class="shrink".'
            )
        k_neighbors = min(k_neighbors, n - 1)
    flat, balanced = SMOTE(random_state=seed, k_neighbors=k_neighbors).fit_resample(x.reshape(len(x), -1), y)
    return flat.reshape(-1, *x.shape[1:]), balanced.astype(np.int64)


def _resample_by_index(sampler: Any, inputs: Tensor | npt.ArrayLike, targets: Tensor | npt.ArrayLike) -> Arrays:
    x, y = _paired_arrays(inputs, targets)
    picked, balanced = sampler.fit_resample(np.arange(len(y)).reshape(-1, 1), y)
    return x[picked[:, 0]], balanced.astype(np.int64)


def _paired_arrays(inputs: Tensor | npt.ArrayLike, targets: Tensor | npt.ArrayLike) -> Arrays:
    x = _checks.as_array(inputs, "inputs", "samples along the first axis")
    y = _checks.check_class_indices(targets, "targets")
    if x.ndim == 0 or len(x) != len(y):
        raise ValueError(f"`inputs` must have one row per target ({len(y)}), got shape {x.shape}.")
    if y.min() == y.max():
        raise ValueError(f"`targets` must hold at least two classes, got only class {y.min()}.")
    return x, y


def _legacy_seed(seed: int) -> int:
    """The seed within the range of NumPy's legacy generator, which imbalanced-learn draws from."""
    return _checks.check_integer(seed, "seed", minimum=0, maximum=2**32 - 1)


def _check_target_tensor(targets: Tensor) -> None:
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.dtype == torch.bool:
        given = targets.dtype if isinstance(targets, Tensor) else type(targets).__name__
        raise TypeError(f"`targets` must be an integer tensor, got {given}.")
    if targets.ndim != 1 or targets.numel() == 0:
        raise ValueError(f"`targets` must be a non-empty vector of class indices, got shape {tuple(targets.shape)}.")


def _check_probabilities(probabilities: Tensor) -> None:
    if probabilities.ndim != 1 or probabilities.numel() == 0:
        raise ValueError(f"`class_probabilities` must be a non-empty vector, got shape {tuple(probabilities.shape)}.")
    total = float(probabilities.sum())
    if not np.isfinite(total) or total <= 0 or float(probabilities.min()) < 0:
        raise ValueError(f"`class_probabilities` must be >= 0, finite and not all zero, got {probabilities.tolist()}.")


def _check_parameter(name: str, value: float | None, scheme: str, *, needed_by: str) -> None:
    if scheme == needed_by:
        if value is None:
            raise ValueError(f'`{name}` must be given with scheme "{scheme}", got None.')
        _checks.check_fraction(value, name)
    elif value is not None:
        raise ValueError(f'`{name}` must be None with scheme "{scheme}", got {value}.')
