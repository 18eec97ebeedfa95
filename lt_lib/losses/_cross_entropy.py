"""The cross entropy behind the losses with a margin or a focal factor, in as few passes over the logits as possible."""

import math
from typing import Any

import torch
from torch import Tensor

from lt_lib._typing import Logits, Loss, PerClass, PerSample, Targets
from lt_lib.losses._reduction import reduction_terms


def reduced_cross_entropy(
    logits: Logits,
    targets: Targets,
    weight: PerClass | None,
    reduction: str,
    normalization: str,
    *,
    scale: float = 1.0,
    shift: PerSample | None = None,
    gamma: float = 0.0,
) -> Loss:
    r"""Focal cross entropy of scaled logits with a shift on the true class, reduced by the contract of the package.

    .. math:: -w_y (1 - p)^\gamma \log p, \quad p = \mathrm{softmax}(s z + \delta e_y)_y

    Args:
        logits: in single precision or wider, class axis last.
        targets: class indices.
        weight: one per class, or None for ones.
        reduction: "none", "mean" or "sum".
        normalization: "batch" or "weights".
        scale: $s > 0$.
        shift: $\delta$, one per sample, or None for zeros; may require a gradient.
        gamma: $\gamma \ge 0$.
    """
    classes = logits.shape[-1]
    coefficient, divisor = reduction_terms(
        targets, weight, reduction, normalization, classes=classes, dtype=logits.dtype
    )
    # A reshape to the shape it has would still add a step to the backward pass.
    flat = logits if logits.ndim == 2 else logits.reshape(-1, classes)
    column = None if shift is None else shift.reshape(-1, 1)
    if coefficient is not None:
        coefficient = coefficient.unsqueeze(-1)
    loss: Tensor = _CrossEntropy.apply(flat, targets.reshape(-1, 1), column, coefficient, scale, gamma, divisor)
    return loss.reshape(targets.shape) if reduction == "none" else loss


class _CrossEntropy(torch.autograd.Function):
    """Forward and backward by hand.

    Built from separate operations, the scale and the shift each copy the logits, forward and backward, and at a
    thousand classes the pages of those copies cost more than the arithmetic. The obvious short cut, to correct a plain
    cross entropy afterwards by the margin, is wrong in single precision: the sum over the other classes is lost beside
    a true class that stands `scale * margin` = 15 nats higher.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        index: Tensor,
        shift: Tensor | None,
        coefficient: Tensor | None,
        scale: float,
        gamma: float,
        divisor: float | None,
    ) -> Tensor:
        log_p = _scores(logits, index, shift, scale).log_softmax(-1)
        terms = log_p.gather(-1, index)
        slope = coefficient
        if gamma > 0:
            error = _error(terms)
            factor = error.pow(gamma)
            focal = factor * terms
            # Derivative of the focal term by log p: factor - gamma * factor * log p * p / error.
            slope = torch.addcmul(factor, focal, error.reciprocal().sub_(1.0), value=-gamma)
            slope = slope if coefficient is None else slope.mul_(coefficient)
            terms = focal
        ctx.save_for_backward(logits, index, shift, coefficient, log_p, slope)
        ctx.constants = scale, gamma, divisor
        return _reduced(terms, coefficient, divisor)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        logits, index, shift, coefficient, log_p, slope = ctx.saved_tensors
        scale, gamma, divisor = ctx.constants
        wanted = ctx.needs_input_grad[0], ctx.needs_input_grad[2]
        if torch.is_grad_enabled():
            # Asked for a second derivative: what was saved is cut off from the graph, so rebuild it from the inputs.
            terms = _scores(logits, index, shift, scale).log_softmax(-1).gather(-1, index)
            terms = _error(terms).pow(gamma) * terms if gamma > 0 else terms
            loss = _reduced(terms, coefficient, divisor)
            inputs = [tensor for tensor, needed in zip((logits, shift), wanted, strict=True) if needed]
            grads = iter(torch.autograd.grad(loss, inputs, grad_output, create_graph=True))
            return next(grads) if wanted[0] else None, None, next(grads) if wanted[1] else None, None, None, None, None
        # One number for the whole batch stays one number: rows times a column would take twice as long.
        factor = grad_output.unsqueeze(-1) if divisor is None else grad_output
        factor = factor * (scale if divisor is None else scale / divisor)
        factor = factor if slope is None else slope * factor
        # Probabilities below the smallest normal number are raised to it: subnormal ones make exp 20 times slower.
        floor = 0.9 * math.log(torch.finfo(log_p.dtype).tiny)
        grad = log_p.clamp_min(floor).exp_().mul_(factor).scatter_add_(-1, index, factor.neg().expand_as(index))
        return grad, None, grad.gather(-1, index) / scale if wanted[1] else None, None, None, None, None


def _scores(logits: Tensor, index: Tensor, shift: Tensor | None, scale: float) -> Tensor:
    if shift is None:
        return logits if scale == 1.0 else logits * scale
    # In place on the product, which is ours even at scale 1: the caller's logits stay as they are.
    return (logits * scale).scatter_add_(-1, index, shift)


def _error(log_p: Tensor) -> Tensor:
    """One minus the probability; above zero, so that the slope of a power below one stays finite."""
    return torch.expm1(log_p).neg().clamp_min(torch.finfo(log_p.dtype).tiny)


def _reduced(terms: Tensor, coefficient: Tensor | None, divisor: float | None) -> Tensor:
    """Losses from a column of (focal) log probabilities: one per sample without a divisor, else their sum over it."""
    if coefficient is not None:
        terms = terms * coefficient
    return -terms.squeeze(-1) if divisor is None else terms.sum() / -divisor
