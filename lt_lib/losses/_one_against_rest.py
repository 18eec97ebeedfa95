"""The binary cross entropies behind the sigmoid losses, in as few passes over the logits as possible."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_lib._typing import Logits, Loss, PerClass, Targets
from lt_lib.losses._reduction import apply_reduction, reduction_terms


def reduced_one_against_rest(
    logits: Logits,
    targets: Targets,
    weight: PerClass | None,
    reduction: str,
    normalization: str,
    *,
    gamma: float = 0.0,
) -> Loss:
    r"""Focal binary cross entropies summed over the classes, reduced by the contract of the package.

    .. math:: -w_y \sum_i (1 - p_i)^\gamma \log p_i, \quad p_i = \sigma(\pm z_i), \text{ plus for } i = y

    Args:
        logits: in single precision or wider, class axis last.
        targets: class indices.
        weight: one per class, or None for ones.
        reduction: "none", "mean" or "sum".
        normalization: "batch" or "weights".
        gamma: $\gamma \ge 0$.
    """
    classes = logits.shape[-1]
    coefficient, divisor = reduction_terms(
        targets, weight, reduction, normalization, classes=classes, dtype=logits.dtype
    )
    flat = logits.reshape(-1, classes)
    loss: Tensor = _OneAgainstRest.apply(flat, targets.reshape(-1, 1), coefficient, gamma, divisor)
    return loss.reshape(targets.shape) if reduction == "none" else loss


class _OneAgainstRest(torch.autograd.Function):
    """Forward and backward by hand: half the passes of the same formula built from separate operations."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, index: Tensor, coefficient: Tensor | None, gamma: float, divisor: float | None
    ) -> Tensor:
        signs = _signs(logits, index)
        signed = logits * signs
        log_p = F.logsigmoid(signed)
        factor = _factor(log_p, signed, gamma) if gamma > 0 else None
        ctx.save_for_backward(logits, index, coefficient, signs, log_p, factor)
        ctx.constants = gamma, divisor
        terms = log_p if factor is None else factor * log_p
        if divisor is None:
            return apply_reduction(-terms.sum(-1), coefficient, None)
        # One sum over everything: a sum over a short last axis first would cost as much as the loss itself.
        terms = terms if coefficient is None else terms * coefficient.unsqueeze(-1)
        return terms.sum() / -divisor

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        logits, index, coefficient, signs, log_p, factor = ctx.saved_tensors
        gamma, divisor = ctx.constants
        if torch.is_grad_enabled():
            # Asked for a second derivative: what was saved is cut off from the graph, so rebuild it from the inputs.
            signed = logits * signs
            terms = F.logsigmoid(signed)
            terms = terms * _factor(terms, signed, gamma) if gamma > 0 else terms
            loss = apply_reduction(-terms.sum(-1), coefficient, divisor)
            return *torch.autograd.grad(loss, [logits], grad_output, create_graph=True), None, None, None, None
        per_sample = grad_output if divisor is None else grad_output / divisor
        per_sample = per_sample if coefficient is None else per_sample * coefficient
        per_sample = per_sample.unsqueeze(-1) if per_sample.ndim else per_sample
        if factor is None:
            grad = torch.sigmoid(logits).scatter_add_(-1, index, torch.full_like(index, -1.0, dtype=logits.dtype))
            return grad.mul_(per_sample), None, None, None, None
        p = log_p.exp()
        slope = (gamma * log_p).add_(1.0).mul_(p).sub_(1.0).mul_(factor)
        return slope.mul_(signs).mul_(per_sample), None, None, None, None


def _signs(logits: Tensor, index: Tensor) -> Tensor:
    """Plus one for the true class, minus one for the others: all terms become -log sigmoid of the signed logits.

    Subtracting the true logit from a sum of softplus terms would be shorter, and lose the digits of a sure prediction.
    """
    return torch.full_like(logits, -1.0).scatter_(-1, index, 1.0)


def _factor(log_p: Tensor, signed: Tensor, gamma: float) -> Tensor:
    """The focal factor, from log(1 - p) = log p - z; unlike a power it has a finite slope where 1 - p underflows."""
    return torch.exp((log_p - signed) * gamma)
