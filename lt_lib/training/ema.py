"""Exponential moving average of a model's weights: the teacher, and the model that is evaluated."""

import copy

import torch
from torch import Tensor, nn

from lt_lib._checks import check_fraction


class WeightAverage:
    r"""A second model whose parameters trail those of the first.

    .. math:: \bar\theta \leftarrow d\,\bar\theta + (1-d)\,\theta

    The average starts at the model's weights, without correction for the start. Buffers, such as the running
    statistics of batch normalisation, are copied and not averaged, as in FixMatch's and CReST's code.

    Args:
        model: module to follow; it is deep-copied, its optimiser is not involved. A stacked model works too.
        decay: :math:`d` in [0, 1]; 0 follows the model exactly, 1 never moves.

    Attributes:
        model: the averaged module, in evaluation mode and without gradients.

    Raises:
        ValueError: `decay` is outside [0, 1].

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> average = WeightAverage(nn.Linear(1, 1, bias=False), 0.9)
        >>> _ = [nn.init.constant_(m.weight, v) for m, v in ((layer, 1.0), (average.model, 0.0))]
        >>> average.update(layer)
        >>> round(average.model.weight.item(), 6)
        0.1
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        check_fraction(decay, "decay")
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards `model`, and copy its buffers."""
        averaged: list[Tensor] = list(self.model.parameters())
        # foreach: two kernels for all parameters instead of two per parameter.
        torch._foreach_mul_(averaged, self.decay)
        followed: list[Tensor] = list(model.parameters())
        torch._foreach_add_(averaged, followed, alpha=1 - self.decay)
        mine, its = (list(module.buffers()) for module in (self.model, model))
        for floating in (True, False):  # the batched copy takes one type at a time
            copies, sources = ([b for b in buffers if b.is_floating_point() == floating] for buffers in (mine, its))
            if copies:
                torch._foreach_copy_(copies, sources)
