"""Stochastic gradient descent for stacks of small networks, without the second that `torch.optim.SGD` takes to load."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from lt_lib._checks import check_below_one, check_real


class Descent:
    r"""Descent with momentum, step by step as `torch.optim.SGD` with `foreach=True`.

    .. math:: v \leftarrow m v + g + \lambda w, \qquad w \leftarrow w - \eta v, \quad
        \text{with Nesterov's } w \leftarrow w - \eta\,(g + \lambda w + m v)

    The first optimiser of PyTorch's classes that a process makes loads the compiler, 2 s on an old processor; the
    function behind it does not. A quick training of a stack takes hardly longer than that.

    Args:
        groups: dictionaries with `params` and, if their weights decay, `weight_decay`.
        momentum: m in [0, 1).
        nesterov: whether the gradient looks ahead along the momentum, which must be there.

    Raises:
        TypeError: `params` is a single tensor.
        ValueError: another entry in a group, a parameter that is there twice, or a number out of range.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> descent = Descent([{"params": [weight]}], momentum=0.9)
        >>> for _ in range(2):
        ...     weight.sum().backward()
        ...     descent.step(0.1)
        >>> round(weight.item(), 3), weight.grad is None
        (0.71, True)
    """

    def __init__(self, groups: Sequence[dict[str, Any]], *, momentum: float, nesterov: bool = False) -> None:
        self.momentum, self.nesterov = check_momentum(momentum, nesterov=nesterov), nesterov
        self._groups = [_group(**group) for group in groups]
        everything = [parameter for parameters, _ in self._groups for parameter in parameters]
        if len(set(everything)) != len(everything):
            raise ValueError("`groups` must hold every parameter once, got one that is there twice.")
        self._velocity: dict[Tensor, Tensor | None] = {}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every parameter that has a gradient, and take the gradients away.

        Args:
            rate: step length.
        """
        for parameters, decay in self._groups:
            moved = [parameter for parameter in parameters if parameter.grad is not None]
            gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
            velocities = [self._velocity.get(parameter) for parameter in moved]
            sgd(
                moved,
                gradients,
                velocities,
                has_sparse_grad=False,
                foreach=True,
                weight_decay=decay,
                momentum=self.momentum,
                lr=rate,
                dampening=0.0,
                nesterov=self.nesterov,
                maximize=False,
            )
            self._velocity.update(zip(moved, velocities, strict=True))
            for parameter in moved:
                parameter.grad = None


def check_momentum(momentum: Any, *, nesterov: bool) -> float:
    """Return the momentum of SGD as a float in [0, 1); Nesterov's look ahead needs one above 0."""
    number = check_below_one(momentum, "momentum")
    if nesterov and number == 0:
        raise ValueError("`nesterov` must be False without momentum, got True.")
    return number


def _group(params: Any, weight_decay: float = 0.0, **others: Any) -> tuple[list[Tensor], float]:
    if others:
        raise ValueError(f"`groups` must hold `params` and `weight_decay`, got {', '.join(sorted(others))}.")
    if isinstance(params, Tensor):
        raise TypeError("`params` must be a sequence of tensors, got a tensor.")
    return list(params), check_real(weight_decay, "weight_decay", minimum=0.0)
