"""Logits corrected by the class prior: balanced softmax, logit-adjusted training, post-hoc adjustment."""

from typing import Any

import torch
from torch import Tensor, nn

from lt_lib._checks import check_counts, check_per_class, check_real
from lt_lib._typing import Logits, Loss, Normalization, PerClass, Reduction, Targets
from lt_lib.counts import class_prior as prior_of_counts
from lt_lib.losses._reduction import check_reduction, per_class_buffer, reduction_in_words, widen
from lt_lib.losses._softmax import softmax_loss

_COUNT_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def balanced_softmax_loss(
    logits: Logits,
    targets: Targets,
    class_prior: PerClass,
    *,
    weight: PerClass | None = None,
    reduction: Reduction = "mean",
    normalization: Normalization = "batch",
) -> Loss:
    r"""Cross entropy of a softmax that carries the class counts; trains logits fit for a balanced test set.

    .. math:: \ell(z, y) = -w_y \log \frac{n_y e^{z_y}}{\sum_j n_j e^{z_j}}

    Args:
        logits: unnormalised scores, class axis last; used as they are at test time.
        targets: class indices.
        class_prior: shares or counts of the training classes, all above 0, integers too; a common factor cancels.
        weight: as in `softmax_loss`.
        reduction: as in `softmax_loss`.
        normalization: as in `softmax_loss`.

    Returns:
        Loss in nats; shape `(...)` of the targets for "none", else `()`. `softmax_loss` for equal counts.

    Raises:
        ValueError: an entry of `class_prior` not above 0, and as `softmax_loss`.
        TypeError: `class_prior` that is no tensor of real numbers, and as `softmax_loss`.

    Example:
        >>> balanced_softmax_loss(torch.zeros(1, 2), torch.tensor([1]), torch.tensor([0.9, 0.1]))
        tensor(2.3026)

    References:
        Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, eq. (4). Equal to
        `logit_adjusted_loss` with `tau` = 1.
    """
    if isinstance(class_prior, torch.Tensor) and class_prior.dtype in _COUNT_TYPES:
        class_prior = class_prior.double()  # holds every count up to 2^53
    return logit_adjusted_loss(
        logits, targets, class_prior, tau=1.0, weight=weight, reduction=reduction, normalization=normalization
    )


def logit_adjusted_loss(
    logits: Logits,
    targets: Targets,
    class_prior: PerClass,
    *,
    tau: float = 1.0,
    weight: PerClass | None = None,
    reduction: Reduction = "mean",
    normalization: Normalization = "batch",
) -> Loss:
    r"""Cross entropy on logits raised by the log class prior.

    .. math:: \ell(z, y) = -w_y \log \mathrm{softmax}(z + \tau \log \pi)_y

    Args:
        logits: unnormalised scores, class axis last; used as they are at test time.
        targets: class indices.
        class_prior: $\pi$, shares of the training classes, all above 0.
        tau: strength $\tau \ge 0$; 0 gives `softmax_loss`.
        weight: as in `softmax_loss`.
        reduction: as in `softmax_loss`.
        normalization: as in `softmax_loss`.

    Returns:
        Loss in nats; shape `(...)` of the targets for "none", else `()`.

    Raises:
        ValueError: an entry of `class_prior` not above 0, a negative `tau`, and as `softmax_loss`.
        TypeError: as `softmax_loss`.

    Example:
        >>> logit_adjusted_loss(torch.zeros(1, 2), torch.tensor([1]), torch.tensor([0.8, 0.2]), tau=0.5)
        tensor(1.0986)

    References:
        Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, eq. (10).
    """
    raised = _add_log_prior(logits, class_prior, check_real(tau, "tau", minimum=0.0))
    return softmax_loss(raised, targets, weight=weight, reduction=reduction, normalization=normalization)


def adjust_logits(logits: Logits, class_prior: PerClass, *, tau: float = 1.0) -> Logits:
    r"""Lower the logits of a finished, plainly trained model by the log class prior.

    .. math:: z - \tau \log \pi

    Args:
        logits: unnormalised scores of a model trained with plain cross entropy, class axis last.
        class_prior: $\pi$, shares of the training classes, all above 0.
        tau: strength $\tau \ge 0$; 0 changes nothing, 1 is right for calibrated logits and a balanced test set.

    Returns:
        New logits, in single precision or wider.

    Raises:
        ValueError: an entry of `class_prior` not above 0, a shape that does not fit, a negative `tau`.
        TypeError: logits or prior that are not floating point.

    Example:
        >>> adjust_logits(torch.tensor([[1.0, 0.0]]), torch.tensor([0.9, 0.1])).argmax().item()
        1

    References:
        Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, eq. (9).
    """
    return _add_log_prior(logits, class_prior, -check_real(tau, "tau", minimum=0.0))


class BalancedSoftmaxLoss(nn.Module):
    r"""`balanced_softmax_loss` with the prior of given class counts.

    Args:
        class_counts: training samples per class, none empty.
        weight: class weights; None means ones.
        reduction: as in `softmax_loss`.
        normalization: as in `softmax_loss`.

    Example:
        >>> BalancedSoftmaxLoss([90, 10])(torch.zeros(1, 2), torch.tensor([1]))
        tensor(2.3026)
    """

    class_prior: torch.Tensor
    weight: torch.Tensor | None

    def __init__(
        self,
        class_counts: Any,
        weight: Any = None,
        *,
        reduction: Reduction = "mean",
        normalization: Normalization = "batch",
    ) -> None:
        super().__init__()
        check_reduction(reduction, normalization)
        prior = _prior_buffer(class_counts)
        self.register_buffer("class_prior", prior, persistent=False)
        weight = None if weight is None else per_class_buffer(weight, "weight", len(prior))
        self.register_buffer("weight", weight, persistent=False)
        self.reduction, self.normalization = reduction, normalization

    def forward(self, logits: Logits, targets: Targets) -> Loss:
        """Loss of a batch, reduced as chosen at construction."""
        return balanced_softmax_loss(
            logits,
            targets,
            self.class_prior,
            weight=self.weight,
            reduction=self.reduction,
            normalization=self.normalization,
        )

    def extra_repr(self) -> str:
        """Arguments shown by `print`."""
        return f"classes={len(self.class_prior)}, weighted={self.weight is not None}, {reduction_in_words(self)}"


class LogitAdjustedLoss(nn.Module):
    r"""`logit_adjusted_loss` with the prior of given class counts.

    Args:
        class_counts: training samples per class, none empty.
        tau: strength, at least 0; 0 gives plain cross entropy.
        weight: class weights; None means ones.
        reduction: as in `softmax_loss`.
        normalization: as in `softmax_loss`.

    Example:
        >>> LogitAdjustedLoss([80, 20], tau=0.5)(torch.zeros(1, 2), torch.tensor([1]))
        tensor(1.0986)
    """

    class_prior: torch.Tensor
    weight: torch.Tensor | None

    def __init__(
        self,
        class_counts: Any,
        tau: float = 1.0,
        weight: Any = None,
        *,
        reduction: Reduction = "mean",
        normalization: Normalization = "batch",
    ) -> None:
        super().__init__()
        check_reduction(reduction, normalization)
        prior = _prior_buffer(class_counts)
        self.register_buffer("class_prior", prior, persistent=False)
        weight = None if weight is None else per_class_buffer(weight, "weight", len(prior))
        self.register_buffer("weight", weight, persistent=False)
        self.tau = check_real(tau, "tau", minimum=0.0)
        self.reduction, self.normalization = reduction, normalization

    def forward(self, logits: Logits, targets: Targets) -> Loss:
        """Loss of a batch, reduced as chosen at construction."""
        return logit_adjusted_loss(
            logits,
            targets,
            self.class_prior,
            tau=self.tau,
            weight=self.weight,
            reduction=self.reduction,
            normalization=self.normalization,
        )

    def extra_repr(self) -> str:
        """Arguments shown by `print`."""
        weighted = self.weight is not None
        return f"classes={len(self.class_prior)}, tau={self.tau:g}, weighted={weighted}, {reduction_in_words(self)}"


def _prior_buffer(class_counts: Any) -> Tensor:
    prior = prior_of_counts(check_counts(class_counts, allow_empty_classes=False))
    return per_class_buffer(prior, "class_prior", prior.size)


def _add_log_prior(logits: Logits, class_prior: PerClass, tau: float) -> Logits:
    if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
        raise TypeError(f"`logits` must be a floating-point tensor, got {getattr(logits, 'dtype', type(logits))}.")
    check_per_class(class_prior, "class_prior", logits.shape[-1] if logits.ndim else 0, inclusive=False)
    wide = widen(logits)
    # The logarithm is taken in the precision the prior came in, then rounded once.
    return wide + (tau * class_prior.log()).to(wide.dtype)
