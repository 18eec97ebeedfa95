"""Stacked training of models whose sets differ in size, content and labels, with the same number of updates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lt_lib._checks import check_integer, check_real
from lt_lib.training.loop import History, Order
from lt_lib.training.stacked import Member, MemberLoss, fit_stacked


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What one member of a stack is trained on.

    Attributes:
        inputs: `(samples, ...)`, of any length.
        targets: class indices `(samples,)`.
        loss_at: as in `Member`.
        rng: as in `Member`; it also draws the noise, if there is any.
        order_at: (epoch, generator) -> positions in this set; whole random passes if None.
    """

    inputs: Tensor
    targets: Tensor
    loss_at: Callable[[int], MemberLoss]
    rng: torch.Generator
    order_at: Order | None = None


def whole_passes(size: int, epoch_size: int) -> Order:
    """Order of an epoch with a fixed number of samples: random passes over the whole set, the last one cut.

    Args:
        size: samples in the set, >= 1.
        epoch_size: positions per epoch, >= 0.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> order = whole_passes(3, 7)(0, torch.Generator().manual_seed(0))
        >>> len(order), torch.bincount(order[:6]).tolist()
        (7, [2, 2, 2])
    """
    check_integer(size, "size", minimum=1)
    check_integer(epoch_size, "epoch_size", minimum=0)

    def order(_epoch: int, rng: torch.Generator) -> Tensor:
        passes = max(1, -(-epoch_size // size))
        return torch.cat([torch.randperm(size, generator=rng, device=rng.device) for _ in range(passes)])[:epoch_size]

    return order


def fit_sets(
    model: Any,
    sets: Sequence[TrainingSet],
    *,
    epoch_size: int,
    learning_rate_at: Callable[[int], float],
    epochs: int,
    parameters: list[dict],
    batch_size: int = 128,
    momentum: float = 0.9,
    noise: float = 0.0,
) -> list[History]:
    r"""Train every member of a `StackedModel` on a set of its own.

    Each member computes what `fit` computes for it alone with the same order, and, with `noise`, with
    `augment=gaussian_noise(noise)`.

    Args:
        model: `lt_lib.models.StackedModel`, one member per entry of `sets`.
        sets: training sets with inputs of one shape and type.
        epoch_size: samples per member and epoch; an `order_at` of its own must give as many.
        learning_rate_at: epoch -> rate, for all members.
        epochs: length of the run.
        parameters: optimiser groups (`StackedModel.parameter_groups`).
        batch_size: samples per member and step.
        momentum: of SGD, in [0, 1).
        noise: standard deviation of fresh Gaussian noise on every training input, >= 0; the counterpart of random crops
            for vectors.

    Returns:
        One `History` per member.

    Raises:
        ValueError: the number of sets is not that of the models, `noise` < 0, or as `fit_stacked`.
    """
    check_real(noise, "noise", minimum=0.0)
    check_integer(epoch_size, "epoch_size", minimum=1)
    if not sets:
        raise ValueError("`sets` must hold at least one training set, got none.")
    sizes = [len(each.targets) for each in sets]
    starts = torch.tensor([0, *sizes]).cumsum(0).tolist()
    members = [
        Member(
            # A stack wants index lists of one length; positions past the end of a smaller set are never drawn.
            indices=start + torch.arange(max(sizes), device=each.inputs.device) % size,
            loss_at=each.loss_at,
            rng=each.rng,
            order_at=each.order_at or whole_passes(size, epoch_size),
        )
        for each, start, size in zip(sets, starts[:-1], sizes, strict=True)
    ]
    histories, _ = fit_stacked(
        _Jittered(model, noise, [each.rng for each in sets]) if noise else model,
        torch.cat([each.inputs for each in sets]),
        torch.cat([each.targets for each in sets]),
        members,
        learning_rate_at=learning_rate_at,
        epochs=epochs,
        parameters=parameters,
        batch_size=batch_size,
        momentum=momentum,
        evaluate_every=epochs,
    )
    return histories


def gaussian_noise(scale: float) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Batch function that adds fresh Gaussian noise, for the argument `augment` of `fit`.

    Args:
        scale: standard deviation, >= 0.
    """
    check_real(scale, "scale", minimum=0.0)

    def add(batch: Tensor, rng: torch.Generator) -> Tensor:
        return batch + scale * torch.randn(batch.shape, generator=rng, dtype=batch.dtype, device=batch.device)

    return add


class _Jittered:
    """A stacked model that sees every member's batch through noise from the member's own generator."""

    def __init__(self, model: Any, scale: float, rngs: Sequence[torch.Generator]) -> None:
        self.model, self.scale, self.rngs = model, scale, rngs

    def __len__(self) -> int:
        return len(self.model)

    def __call__(self, inputs: Tensor) -> Tensor:
        noise = torch.empty_like(inputs)
        for row, rng in zip(noise, self.rngs, strict=True):
            row.normal_(generator=rng)
        return self.model(noise.mul_(self.scale).add_(inputs))
