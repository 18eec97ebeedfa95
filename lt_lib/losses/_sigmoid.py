"""One-against-all sigmoid losses, summed over classes: binary cross entropy and its focal form."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_lib._checks import check_logits_targets, check_real
from lt_lib._typing import Logits, Loss, Normalization, PerClass, Reduction, Targets
from lt_lib.losses._class_balanced import ClassBalancedFocalModule, ClassBalancedModule
from lt_lib.losses._reduction import reduction_terms, widen


def sigmoid_loss(
    logits: Logits,
    targets: Targets,
    *,
    weight: PerClass | None = None,
    reduction: Reduction = "mean",
    normalization: Normalization = "batch",
) -> Loss:
    r"""Binary cross entropy of every class against the rest, summed over the classes.

    .. math:: \ell(z, y) = -w_y \sum_i \log \sigma(z_i^t), \quad z_i^t = z_i \text{ if } i = y \text{ else } -z_i

    Args:
        logits: unnormalised scores, class axis last. Start the last layer's bias at $-\log(C-1)$ and keep weight decay
            off it, or the first steps are spent on pushing $C - 1$ scores down.
        targets: class indices.
        weight: $w$, non-negative, one per class; None means ones. All terms of a sample share the weight of its target.
        reduction: "none", "mean" or "sum".
        normalization: what a mean divides by, the size of the "batch" or the sum of its "weights".

    Returns:
        Loss in nats; shape `(...)` of the targets for "none", else `()`. $C \log 2$ at zero logits.

    Raises:
        ValueError: shapes that do not fit, targets out of range, unknown reduction or normalization.
        TypeError: logits that are not floating point, targets that are not int64.

    Example:
        >>> sigmoid_loss(torch.zeros(3, 10), torch.tensor([0, 5, 9]))
        tensor(6.9315)

    References:
        Cui et al., CVPR 2019, eq. (10). A mean over samples *and* classes, as in other libraries, is $C$ times smaller.
    """
    check_logits_targets(logits, targets)
    log_p = F.logsigmoid(_signed(widen(logits), targets))
    return _reduced(log_p, targets, weight, reduction, normalization)


def focal_loss(
    logits: Logits,
    targets: Targets,
    gamma: float = 1.0,
    *,
    weight: PerClass | None = None,
    reduction: Reduction = "mean",
    normalization: Normalization = "batch",
) -> Loss:
    r"""Sigmoid focal loss, summed over the classes; the softmax form is `softmax_focal_loss`.

    .. math:: \ell(z, y) = -w_y \sum_i (1 - p_i^t)^\gamma \log p_i^t, \quad p_i^t = \sigma(z_i^t)

    Args:
        logits: as in `sigmoid_loss`.
        targets: class indices.
        gamma: focal exponent $\gamma \ge 0$; 0 gives `sigmoid_loss`.
        weight: as in `sigmoid_loss`.
        reduction: as in `sigmoid_loss`.
        normalization: as in `sigmoid_loss`.

    Returns:
        Loss in nats; shape `(...)` of the targets for "none", else `()`.

    Raises:
        ValueError: a negative `gamma`, and as `sigmoid_loss`.
        TypeError: as `sigmoid_loss`.

    Example:
        >>> focal_loss(torch.zeros(1, 2), torch.tensor([0]), gamma=2.0)
        tensor(0.3466)

    References:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. (4); Cui et al., CVPR 2019, eq. (13), whose
        leading minus some retellings drop. The authors' code writes the factor as
        $\exp(-\gamma y z - \gamma \log(1 + e^{-z}))$, which overflows from $z = -89$ on in single precision.
    """
    check_logits_targets(logits, targets)
    gamma = check_real(gamma, "gamma", minimum=0.0)
    signed = _signed(widen(logits), targets)
    log_p = F.logsigmoid(signed)
    if gamma > 0:
        # log(1 - p) = log p - z; as an exponential it has no infinite slope where 1 - p underflows, unlike a power.
        log_p = torch.exp((log_p - signed) * gamma) * log_p
    return _reduced(log_p, targets, weight, reduction, normalization)


class ClassBalancedSigmoidLoss(ClassBalancedModule):
    r"""`sigmoid_loss` with the class-balanced weights of given class counts.

    Args:
        class_counts: training samples per class.
        beta: effective-number parameter in [0, 1]; 0 gives the plain loss, towards 1 inverse-frequency weights.
        reduction: as in `sigmoid_loss`.
        normalization: as in `sigmoid_loss`; "batch" is the authors' choice.
        empty: weight of a class without samples, as in `lt_lib.counts.class_balanced_weights`.
        on_ineffective_beta: "warn" or "ignore", as there.

    Example:
        >>> loss = ClassBalancedSigmoidLoss([5000, 50], beta=0.999)
        >>> loss(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor(1.3863)

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. (11).
    """

    def forward(self, logits: Logits, targets: Targets) -> Loss:
        """Loss of a batch, reduced as chosen at construction."""
        return sigmoid_loss(
            logits, targets, weight=self.weight, reduction=self.reduction, normalization=self.normalization
        )


class ClassBalancedFocalLoss(ClassBalancedFocalModule):
    r"""`focal_loss` (sigmoid) with the class-balanced weights of given class counts.

    Args:
        class_counts: training samples per class.
        beta: effective-number parameter in [0, 1].
        gamma: focal exponent, at least 0; 0 gives `ClassBalancedSigmoidLoss`. Cui et al. try 0.5, 1 and 2.
        reduction: as in `sigmoid_loss`.
        normalization: as in `sigmoid_loss`; "batch" is the authors' choice.
        empty: as in `ClassBalancedSigmoidLoss`.
        on_ineffective_beta: as in `ClassBalancedSigmoidLoss`.

    Example:
        >>> loss = ClassBalancedFocalLoss([5000, 50], beta=0.999, gamma=2.0)
        >>> loss(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor(0.3466)

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, eq. (13).
    """

    def forward(self, logits: Logits, targets: Targets) -> Loss:
        """Loss of a batch, reduced as chosen at construction."""
        return focal_loss(
            logits, targets, self.gamma, weight=self.weight, reduction=self.reduction, normalization=self.normalization
        )


def _signed(logits: Logits, targets: Targets) -> Tensor:
    """Logits with the sign flipped for every class but the true one: all terms become -log sigmoid of this.

    Subtracting the true logit from a sum of softplus terms would be shorter, and lose the digits of a sure prediction.
    """
    signs = torch.full_like(logits, -1.0).scatter_(-1, targets.unsqueeze(-1), 1.0)
    return logits * signs


def _reduced(
    log_p: Tensor, targets: Targets, weight: PerClass | None, reduction: Reduction, normalization: Normalization
) -> Loss:
    """Losses from (focal) log probabilities, one per sample and class."""
    coefficient, divisor = reduction_terms(
        targets, weight, reduction, normalization, classes=log_p.shape[-1], dtype=log_p.dtype
    )
    if divisor is None:
        per_sample = -log_p.sum(-1)
        return per_sample if coefficient is None else per_sample * coefficient.reshape(targets.shape)
    # One sum over everything: a sum over a short last axis first would cost as much as the loss itself.
    if coefficient is not None:
        log_p = log_p * coefficient.reshape(targets.shape).unsqueeze(-1)
    return log_p.sum() / -divisor
