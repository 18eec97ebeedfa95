"""Losses for imbalanced classification: a function for each formula, a thin Module where class counts enter.

Every function takes `logits` `(..., classes)` and `targets` `(...)`, int64 class indices, and computes in single
precision or wider: half-precision logits are widened first. All share one reduction contract:

- the loss of a sample is multiplied by `weight[target]` before anything is summed; weights are constants, and a tensor
  that requires a gradient is refused;
- `reduction="none"` returns these per-sample losses, `"sum"` their sum;
- `reduction="mean"` divides the sum by the number of samples (`normalization="batch"`, as Cui et al.) or by the sum of
  the weights in the batch (`normalization="weights"`, PyTorch's habit). With weights that sum to the number of classes
  the first makes the loss, and so the step, several times smaller at ratio 100.
"""

from lt_lib.losses._hinge import MarginHingeLoss, hinge_loss
from lt_lib.losses._ldam import LDAMLoss, ldam_loss
from lt_lib.losses._prior import (
    BalancedSoftmaxLoss,
    LogitAdjustedLoss,
    adjust_logits,
    balanced_softmax_loss,
    logit_adjusted_loss,
)
from lt_lib.losses._sigmoid import (
    ClassBalancedFocalLoss,
    ClassBalancedSigmoidLoss,
    focal_loss,
    sigmoid_loss,
)
from lt_lib.losses._softmax import (
    ClassBalancedSoftmaxFocalLoss,
    ClassBalancedSoftmaxLoss,
    softmax_focal_loss,
    softmax_loss,
)

__all__ = [
    "BalancedSoftmaxLoss",
    "ClassBalancedFocalLoss",
    "ClassBalancedSigmoidLoss",
    "ClassBalancedSoftmaxFocalLoss",
    "ClassBalancedSoftmaxLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "MarginHingeLoss",
    "adjust_logits",
    "balanced_softmax_loss",
    "focal_loss",
    "hinge_loss",
    "ldam_loss",
    "logit_adjusted_loss",
    "sigmoid_loss",
    "softmax_focal_loss",
    "softmax_loss",
]
