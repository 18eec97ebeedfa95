"""What the Modules with class-balanced weights share: their arguments, their buffer and how they are printed."""

from typing import Any, Literal

import torch
from torch import nn

from lt_lib._checks import check_real
from lt_lib._typing import Normalization, Reduction
from lt_lib.counts import EmptyPolicy, class_balanced_weights
from lt_lib.losses._reduction import check_reduction, per_class_buffer, reduction_in_words


class ClassBalancedModule(nn.Module):
    """Weights of given class counts and the reduction of a loss; the arguments are those of its subclasses."""

    weight: torch.Tensor

    def __init__(
        self,
        class_counts: Any,
        beta: float,
        *,
        reduction: Reduction = "mean",
        normalization: Normalization = "batch",
        empty: EmptyPolicy = "raise",
        on_ineffective_beta: Literal["warn", "ignore"] = "warn",
    ) -> None:
        super().__init__()
        check_reduction(reduction, normalization)
        weight = class_balanced_weights(class_counts, beta, empty=empty, on_ineffective_beta=on_ineffective_beta)
        self.register_buffer("weight", per_class_buffer(weight, "weight", weight.size), persistent=False)
        self.beta, self.reduction, self.normalization = beta, reduction, normalization

    def extra_repr(self) -> str:
        """Arguments shown by `print`."""
        return f"classes={len(self.weight)}, beta={self.beta}, {reduction_in_words(self)}"


class ClassBalancedFocalModule(ClassBalancedModule):
    """The same with a focal exponent."""

    def __init__(
        self,
        class_counts: Any,
        beta: float,
        gamma: float = 1.0,
        *,
        reduction: Reduction = "mean",
        normalization: Normalization = "batch",
        empty: EmptyPolicy = "raise",
        on_ineffective_beta: Literal["warn", "ignore"] = "warn",
    ) -> None:
        super().__init__(
            class_counts,
            beta,
            reduction=reduction,
            normalization=normalization,
            empty=empty,
            on_ineffective_beta=on_ineffective_beta,
        )
        self.gamma = check_real(gamma, "gamma", minimum=0.0)

    def extra_repr(self) -> str:
        """Arguments shown by `print`."""
        return f"classes={len(self.weight)}, beta={self.beta}, gamma={self.gamma}, {reduction_in_words(self)}"
