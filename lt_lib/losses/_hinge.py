"""Multi-class hinge loss with a margin per class."""

import math
from typing import Any

import torch
from torch import nn

from lt_lib._checks import check_logits_targets, check_per_class, check_real
from lt_lib._typing import Logits, Loss, Normalization, PerClass, Reduction, Targets
from lt_lib.losses._reduction import (
    apply_reduction,
    check_reduction,
    per_class_buffer,
    reduction_in_words,
    reduction_terms,
    widen,
)


def hinge_loss(
    logits: Logits,
    targets: Targets,
    margins: PerClass | float = 1.0,
    *,
    weight: PerClass | None = None,
    reduction: Reduction = "mean",
    normalization: Normalization = "batch",
) -> Loss:
    r"""Hinge on the gap between the true class and its strongest rival.

    .. math:: \ell(z, y) = w_y \max\left(\max_{j \ne y} z_j - z_y + \Delta_y,\ 0\right)

    Args:
        logits: scores of at least two classes, class axis last.
        targets: class indices.
        margins: $\Delta \ge 0$, one per class or one for all, in units of the logits; 0 gives the perceptron loss.
        weight: $w$, non-negative, one per class; None means ones.
        reduction: "none", "mean" or "sum".
        normalization: what a mean divides by, the size of the "batch" or the sum of its "weights".

    Returns:
        Loss in units of the logits; shape `(...)` of the targets for "none", else `()`. Where several rivals are
        equally strong, the gradient goes to the first.

    Raises:
        ValueError: a single class, shapes that do not fit, targets out of range, a negative margin, unknown reduction
            or normalization.
        TypeError: logits that are not floating point, targets that are not int64.

    Example:
        >>> hinge_loss(torch.tensor([[2.0, 1.5, 0.0]]), torch.tensor([0]), margins=1.0)
        tensor(0.5000)

    References:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019, eq. (11),
        with label-distribution-aware margins (LDAM-HG) or one margin (HG).
    """
    classes = check_logits_targets(logits, targets)
    if classes < 2:
        raise ValueError(f"`logits` must have at least two classes for a hinge, got shape {tuple(logits.shape)}.")
    index = targets.unsqueeze(-1)
    # Which rival is strongest is looked up outside the graph; the gradient then touches two entries per sample.
    rival = logits.detach().scatter(-1, index, -math.inf).argmax(-1, keepdim=True)
    pair = widen(logits.gather(-1, torch.cat([rival, index], dim=-1)))
    gap = pair[..., 0] - pair[..., 1]
    if isinstance(margins, torch.Tensor):
        check_per_class(margins, "margins", classes)
        margin = margins.to(gap.dtype).index_select(0, targets.reshape(-1)).reshape(targets.shape)
        per_sample = (gap + margin).clamp_min(0.0)
    else:
        per_sample = (gap + check_real(margins, "margins", minimum=0.0)).clamp_min(0.0)
    coefficient, divisor = reduction_terms(targets, weight, reduction, normalization, classes=classes, dtype=gap.dtype)
    loss = apply_reduction(per_sample.reshape(-1), coefficient, divisor)
    return loss.reshape(targets.shape) if reduction == "none" else loss


class MarginHingeLoss(nn.Module):
    r"""`hinge_loss` with fixed margins.

    Args:
        margins: one per class, at least 0, such as `lt_lib.counts.ldam_margins` of the class counts, or equal ones. A
            single number is refused: it does not say how many classes there are.
        weight: class weights; None means ones.
        reduction: as in `hinge_loss`.
        normalization: as in `hinge_loss`.

    Raises:
        ValueError: margins that are not one per class or below 0, weights that do not fit them.
        TypeError: margins or weights that are not numbers.

    Example:
        >>> loss = MarginHingeLoss([0.1, 0.5])
        >>> loss(torch.tensor([[0.2, 0.4]]), torch.tensor([1]))
        tensor(0.3000)
    """

    margins: torch.Tensor
    weight: torch.Tensor | None

    def __init__(
        self,
        margins: Any,
        weight: Any = None,
        *,
        reduction: Reduction = "mean",
        normalization: Normalization = "batch",
    ) -> None:
        super().__init__()
        check_reduction(reduction, normalization)
        margins = per_class_buffer(margins, "margins")
        weight = None if weight is None else per_class_buffer(weight, "weight", len(margins))
        self.register_buffer("margins", margins, persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        self.reduction, self.normalization = reduction, normalization

    def forward(self, logits: Logits, targets: Targets) -> Loss:
        """Loss of a batch, reduced as chosen at construction."""
        return hinge_loss(
            logits,
            targets,
            self.margins,
            weight=self.weight,
            reduction=self.reduction,
            normalization=self.normalization,
        )

    def extra_repr(self) -> str:
        """Arguments shown by `print`."""
        weighted = self.weight is not None
        widest = float(self.margins.max())
        shown = f"classes={len(self.margins)}, max_margin={widest:g}, weighted={weighted}"
        return f"{shown}, {reduction_in_words(self)}"
