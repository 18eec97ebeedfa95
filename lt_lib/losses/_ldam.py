"""Cross entropy with a margin on the true class: label-distribution-aware margins (LDAM)."""

from typing import Any

import torch
from torch import nn

from lt_lib._checks import check_logits_targets, check_per_class, check_positive
from lt_lib._typing import Logits, Loss, Normalization, PerClass, Reduction, Targets
from lt_lib.counts import ldam_margins
from lt_lib.losses._cross_entropy import reduced_cross_entropy
from lt_lib.losses._reduction import check_reduction, per_class_buffer, reduction_in_words, widen


def ldam_loss(
    logits: Logits,
    targets: Targets,
    margins: PerClass,
    *,
    scale: float = 30.0,
    weight: PerClass | None = None,
    reduction: Reduction = "mean",
    normalization: Normalization = "batch",
) -> Loss:
    r"""Cross entropy of scaled cosine logits, the true class lowered by its margin.

    .. math::
        \ell(z, y) = -w_y \log \frac{e^{s (z_y - \Delta_y)}}{e^{s (z_y - \Delta_y)} + \sum_{j \ne y} e^{s z_j}}

    Args:
        logits: cosines between normalised features and class weights, in [-1, 1], class axis last. Unnormalised logits
            are computed as given, but a margin then means nothing.
        targets: class indices.
        margins: $\Delta \ge 0$, one per class, in units of the cosine; all zero gives cross entropy of scaled logits.
        scale: $s > 0$, inverse temperature; without it cosines cannot bring the loss near zero.
        weight: $w$, non-negative, one per class; None means ones.
        reduction: "none", "mean" or "sum".
        normalization: what a mean divides by, the size of the "batch" or the sum of its "weights".

    Returns:
        Loss in nats; shape `(...)` of the targets for "none", else `()`.

    Raises:
        ValueError: shapes that do not fit, targets out of range, a negative margin, `scale` not above 0, unknown
            reduction or normalization.
        TypeError: logits or margins that are not floating point, targets that are not int64.

    Example:
        >>> margins = torch.tensor([0.1, 0.5])
        >>> ldam_loss(torch.tensor([[0.2, 0.1]]), torch.tensor([0]), margins, scale=30.0)
        tensor(0.6931)

    References:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019, eq. (12).
        The scale is in the authors' code only.
    """
    classes = check_logits_targets(logits, targets)
    check_per_class(margins, "margins", classes)
    scale = check_positive(scale, "scale")
    wide = widen(logits)
    lowered = (margins * -scale).to(wide.dtype).index_select(0, targets.reshape(-1))
    return reduced_cross_entropy(wide, targets, weight, reduction, normalization, scale=scale, shift=lowered)


class LDAMLoss(nn.Module):
    r"""`ldam_loss` with the margins of given class counts.

    Its logits are cosines: end the network in `lt_lib.models.CosineHead`, not in `torch.nn.Linear`. On the free logits
    of a linear layer the scale of 30 makes every step 30 times larger, and training may end where it began.

    Args:
        class_counts: training samples per class, none empty.
        max_margin: margin of the rarest class, at least 0, as in `lt_lib.counts.ldam_margins`.
        scale: $s > 0$.
        weight: class weights, such as those of the second stage of deferred re-weighting; None means ones.
        reduction: as in `ldam_loss`.
        normalization: as in `ldam_loss`; "weights" is the authors' choice.

    Example:
        >>> loss = LDAMLoss([5000, 50], max_margin=0.5)
        >>> loss(torch.tensor([[0.9, -0.9], [0.2, 0.7]]), torch.tensor([0, 1]))
        tensor(0.3466)
        >>> from lt_lib.models import CosineHead
        >>> network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), CosineHead(16, 2))
        >>> loss(network(torch.zeros(4, 8)), torch.tensor([0, 0, 0, 1])).shape
        torch.Size([])

    References:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019, eq. (13).
    """

    margins: torch.Tensor
    weight: torch.Tensor | None

    def __init__(
        self,
        class_counts: Any,
        max_margin: float = 0.5,
        scale: float = 30.0,
        weight: Any = None,
        *,
        reduction: Reduction = "mean",
        normalization: Normalization = "batch",
    ) -> None:
        super().__init__()
        check_reduction(reduction, normalization)
        margins = ldam_margins(class_counts, max_margin)
        weight = None if weight is None else per_class_buffer(weight, "weight", margins.size)
        self.register_buffer("margins", per_class_buffer(margins, "margins", margins.size), persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        self.scale = check_positive(scale, "scale")
        self.reduction, self.normalization = reduction, normalization

    def forward(self, logits: Logits, targets: Targets) -> Loss:
        """Loss of a batch, reduced as chosen at construction."""
        return ldam_loss(
            logits,
            targets,
            self.margins,
            scale=self.scale,
            weight=self.weight,
            reduction=self.reduction,
            normalization=self.normalization,
        )

    def extra_repr(self) -> str:
        """Arguments shown by `print`."""
        widest = float(self.margins.max())
        weighted = self.weight is not None
        shown = f"classes={len(self.margins)}, max_margin={widest:g}, scale={self.scale:g}, weighted={weighted}"
        return f"{shown}, {reduction_in_words(self)}"
