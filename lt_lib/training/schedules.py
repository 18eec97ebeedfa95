"""Schedules as functions of the 0-based epoch. Every change point is a fraction of the run, never a fixed epoch."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from lt_lib._checks import check_fraction, check_integer, check_positive, check_real

Value = TypeVar("Value")


def change_epoch(epochs: int, fraction: float) -> int:
    """0-based epoch that lies at `fraction` of a run, `round(fraction * epochs)`.

    Args:
        epochs: length of the run, >= 1.
        fraction: position in the run, in [0, 1].

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> change_epoch(200, 0.8), change_epoch(40, 0.8)
        (160, 32)
    """
    return _change_epoch(epochs, fraction, "fraction")


def _change_epoch(epochs: int, fraction: float, argument: str) -> int:
    """`change_epoch` of a fraction that the caller knows as `argument`."""
    check_integer(epochs, "epochs", minimum=1)
    check_fraction(fraction, argument)
    return round(fraction * epochs)


def _change_epochs(epochs: int, milestones: Sequence[float], decay: float) -> list[int]:
    """The epochs at which a rate is multiplied by `decay`."""
    if not 0 < check_real(decay, "decay") <= 1:
        raise ValueError(f"`decay` must be in (0, 1], got {decay}.")
    changes = [_change_epoch(epochs, fraction, "milestones") for fraction in milestones]
    if list(milestones) != sorted(milestones):
        raise ValueError(f"`milestones` must increase, got {tuple(milestones)}.")
    return changes


def step_learning_rate(
    epochs: int,
    base: float,
    *,
    warmup: float = 5 / 200,
    milestones: Sequence[float] = (0.8, 0.9),
    decay: float = 0.01,
) -> Callable[[int], float]:
    r"""Linear warm-up, then a constant rate that is multiplied by `decay` at every milestone.

    .. math::
        \eta(e) = \begin{cases} \eta_0 (e+1)/W & e < W \\
        \eta_0\, d^{\,\#\{m : e \ge m\}} & e \ge W \end{cases}
        \qquad W = \mathrm{round}(w E),\; m = \mathrm{round}(f E)

    With the defaults and 200 epochs: 0.02, 0.04, 0.06, 0.08, 0.1 times `base`/0.1, then constant, x0.01 from epoch 160
    and x0.0001 from epoch 180: the recipe of both CIFAR tables.

    Args:
        epochs: length of the run E.
        base: rate after warm-up, > 0.
        warmup: fraction of the run spent warming up, in whole epochs W; 0 for none. The ramp starts at `base` / W, so
            that one epoch of warm-up is none: with 0.025, a run of fewer than 60 epochs starts at the full rate.
        milestones: fractions of the run, increasing.
        decay: factor at each milestone, in (0, 1].

    Returns:
        A function epoch -> learning rate.

    Raises:
        ValueError: an argument is out of range.

    References:
        Cao et al. 2019, section 4 and their code (per-epoch warm-up). Cui et al. ramp per step from 0 over the same
        epochs.

    Example:
        >>> rate = step_learning_rate(200, 0.1)
        >>> [round(rate(epoch), 6) for epoch in (0, 4, 159, 160, 180)]
        [0.02, 0.1, 0.1, 0.001, 1e-05]
    """
    check_positive(base, "base")
    warmup_epochs = _change_epoch(epochs, warmup, "warmup")
    change_epochs = _change_epochs(epochs, milestones, decay)

    def rate(epoch: int) -> float:
        if epoch < warmup_epochs:
            return base * (epoch + 1) / warmup_epochs
        return base * decay ** sum(epoch >= change for change in change_epochs)

    return rate


def deferred(epochs: int, start: float, before: Value, after: Value) -> Callable[[int], Value]:
    """`before` until the fraction `start` of the run, `after` from then on: deferred re-weighting or re-sampling.

    Args:
        epochs: length of the run.
        start: fraction in [0, 1]; 0 gives `after` from the first epoch, 1 gives `before` throughout.
        before: what the first stage uses, for example an unweighted loss.
        after: what the second stage uses.

    Returns:
        A function epoch -> `before` or `after`.

    References:
        Cao et al. 2019, Algorithm 1; their code switches at 0-based epoch 160 of 200 (`start=0.8`), whatever the run's
        length.

    Example:
        >>> stage = deferred(40, 0.8, "plain", "re-weighted")
        >>> stage(31), stage(32)
        ('plain', 're-weighted')
    """
    change = _change_epoch(epochs, start, "start")

    def value(epoch: int) -> Value:
        return after if epoch >= change else before

    return value


def progress_learning_rate(
    epochs: int,
    base: float,
    *,
    warmup: float = 5 / 90,
    milestones: Sequence[float] | None = (1 / 3, 2 / 3, 8 / 9),
    decay: float = 0.1,
) -> Callable[[float], float]:
    r"""Rate as a function of the progress within the run, for loops that set it in every step.

    .. math::
        \eta(t) = \begin{cases} \eta_0\, t/W & t < W \\
        \eta_0\, d^{\,\#\{m : t \ge m\}} \quad\text{or}\quad \eta_0 \tfrac{1}{2}(1+\cos(\pi t/E)) & t \ge W \end{cases}
        \qquad W = \mathrm{round}(w E),\; m = \mathrm{round}(f E)

    With the defaults and 90 epochs: up from 0 in five epochs, a tenth from epochs 30, 60 and 80.

    Args:
        epochs: length of the run E.
        base: rate after warm-up, > 0.
        warmup: fraction of the run with a rising rate; 0 for none.
        milestones: fractions of the run at which the rate is multiplied by `decay`, increasing; None for half a cosine.
        decay: factor at each milestone, in (0, 1].

    Returns:
        A function of the progress t in epochs, such as 3.25 after a quarter of the fourth epoch.

    Raises:
        ValueError: an argument is out of range.

    References:
        Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.2: gradual warm-up; here from 0, as in the code
        of Cui et al.

    Example:
        >>> rate = progress_learning_rate(90, 0.4)
        >>> [round(rate(t), 6) for t in (2.5, 5, 29.99, 30, 60, 80)]
        [0.2, 0.4, 0.4, 0.04, 0.004, 0.0004]
    """
    check_positive(base, "base")
    warmup_epochs = _change_epoch(epochs, warmup, "warmup")
    change_epochs = _change_epochs(epochs, milestones or (), decay)

    def rate(progress: float) -> float:
        if progress < warmup_epochs:
            return base * progress / warmup_epochs
        if milestones is None:
            return base * (1 + math.cos(math.pi * progress / epochs)) / 2
        return base * decay ** sum(progress >= change for change in change_epochs)

    return rate
