"""Softmax cross entropy and its focal form, plain and class-balanced."""

import torch

from lt_lib._checks import check_logits_targets, check_real
from lt_lib._typing import Logits, Loss, Normalization, PerClass, Reduction, Targets
from lt_lib.losses._class_balanced import ClassBalancedFocalModule, ClassBalancedModule
from lt_lib.losses._cross_entropy import reduced_cross_entropy
from lt_lib.losses._reduction import check_reduction, check_weight, sum_of_weights, widen


def softmax_loss(
    logits: Logits,
    targets: Targets,
    *,
    weight: PerClass | None = None,
    reduction: Reduction = "mean",
    normalization: Normalization = "batch",
) -> Loss:
    r"""Softmax cross entropy.

    .. math:: \ell(z, y) = -w_y \log \mathrm{softmax}(z)_y

    Args:
        logits: unnormalised scores, class axis last.
        targets: class indices.
        weight: $w$, non-negative, one per class; None means ones.
        reduction: "none", "mean" or "sum".
        normalization: what a mean divides by, the size of the "batch" or the sum of its "weights".

    Returns:
        Loss in nats; shape `(...)` of the targets for "none", else `()`.

    Raises:
        ValueError: shapes that do not fit, targets out of range, unknown reduction or normalization.
        TypeError: logits that are not floating point, targets that are not int64.

    Example:
        >>> softmax_loss(torch.zeros(4, 10), torch.tensor([0, 1, 2, 3]))
        tensor(2.3026)

    References:
        With `weight` and "weights" equal to `torch.nn.functional.cross_entropy`; with "batch" to the loss in the code
        of Cui et al., CVPR 2019.
    """
    classes = check_logits_targets(logits, targets)
    check_reduction(reduction, normalization)
    wide = widen(logits)
    if weight is not None:
        check_weight(weight, classes)
        weight = weight.to(wide.dtype)
    flat, index = wide.reshape(-1, classes), targets.reshape(-1)
    if reduction == "none":
        return torch.nn.functional.cross_entropy(flat, index, weight=weight, reduction="none").reshape(targets.shape)
    if weight is None:
        return torch.nn.functional.cross_entropy(flat, index, reduction=reduction)
    # PyTorch's own mean divides by the weights, and gives 0 / 0 where all of them are zero.
    total = torch.nn.functional.cross_entropy(flat, index, weight=weight, reduction="sum")
    if reduction == "sum":
        return total
    return total / (sum_of_weights(weight.index_select(0, index)) if normalization == "weights" else len(index))


def softmax_focal_loss(
    logits: Logits,
    targets: Targets,
    gamma: float = 1.0,
    *,
    weight: PerClass | None = None,
    reduction: Reduction = "mean",
    normalization: Normalization = "batch",
) -> Loss:
    r"""Focal loss on the softmax probability of the true class; not the sigmoid focal loss of `focal_loss`.

    .. math:: \ell(z, y) = -w_y (1 - p)^\gamma \log p, \quad p = \mathrm{softmax}(z)_y

    Args:
        logits: unnormalised scores, class axis last.
        targets: class indices.
        gamma: focal exponent $\gamma \ge 0$; 0 gives `softmax_loss`.
        weight: as in `softmax_loss`.
        reduction: as in `softmax_loss`.
        normalization: as in `softmax_loss`.

    Returns:
        Loss in nats; shape `(...)` of the targets for "none", else `()`.

    Raises:
        ValueError: a negative `gamma`, and as `softmax_loss`.
        TypeError: as `softmax_loss`.

    Example:
        >>> softmax_focal_loss(torch.zeros(1, 2), torch.tensor([0]), gamma=2.0)
        tensor(0.1733)

    References:
        The baseline "Focal" in the code of Cao et al., NeurIPS 2019. That code takes $p$ from the class-weighted cross
        entropy, which is no probability; here the weight multiplies afterwards.
    """
    check_logits_targets(logits, targets)
    gamma = check_real(gamma, "gamma", minimum=0.0)
    return reduced_cross_entropy(widen(logits), targets, weight, reduction, normalization, gamma=gamma)


class ClassBalancedSoftmaxLoss(ClassBalancedModule):
    r"""`softmax_loss` with the class-balanced weights of given class counts.

    Args:
        class_counts: training samples per class.
        beta: effective-number parameter in [0, 1]; 0 gives the plain loss, towards 1 inverse-frequency weights.
        reduction: as in `softmax_loss`.
        normalization: as in `softmax_loss`; "batch" is the authors' choice.
        empty: weight of a class without samples, as in `lt_lib.counts.class_balanced_weights`.
        on_ineffective_beta: "warn" or "ignore", as there.

    Example:
        >>> loss = ClassBalancedSoftmaxLoss([5000, 50], beta=0.999)
        >>> loss(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor(0.6931)

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. (9), with the minus sign
        and the weights scaled to sum to the number of classes.
    """

    def forward(self, logits: Logits, targets: Targets) -> Loss:
        """Loss of a batch, reduced as chosen at construction."""
        return softmax_loss(
            logits, targets, weight=self.weight, reduction=self.reduction, normalization=self.normalization
        )


class ClassBalancedSoftmaxFocalLoss(ClassBalancedFocalModule):
    r"""`softmax_focal_loss` with the class-balanced weights of given class counts.

    Args:
        class_counts: training samples per class.
        beta: effective-number parameter in [0, 1].
        gamma: focal exponent, at least 0; 0 gives `ClassBalancedSoftmaxLoss`.
        reduction: as in `softmax_loss`.
        normalization: as in `softmax_loss`.
        empty: as in `ClassBalancedSoftmaxLoss`.
        on_ineffective_beta: as in `ClassBalancedSoftmaxLoss`.

    Example:
        >>> loss = ClassBalancedSoftmaxFocalLoss([5000, 50], beta=0.999, gamma=2.0)
        >>> loss(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor(0.1733)
    """

    def forward(self, logits: Logits, targets: Targets) -> Loss:
        """Loss of a batch, reduced as chosen at construction."""
        return softmax_focal_loss(
            logits, targets, self.gamma, weight=self.weight, reduction=self.reduction, normalization=self.normalization
        )
