"""Classification heads and the parameter groups that their losses ask for."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_lib._checks import check_integer, check_known, check_real


class CosineHead(nn.Module):
    r"""Linear map between unit vectors: the logits are cosines.

    .. math:: z_j = \frac{w_j^\top x}{\lVert w_j\rVert\,\lVert x\rVert} \in [-1, 1]

    There is no bias and no temperature: the scale belongs to the loss (`lt_lib.losses.ldam_loss`).
    Without a scale, cross entropy on cosines cannot fall below :math:`\log(1 + (C-1)e^{-2})`,
    0.80 for ten classes.

    Args:
        in_features: length of the feature vector, >= 1.
        num_classes: number of classes, >= 2.

    Raises:
        ValueError: a size is out of range.

    Example:
        >>> head = CosineHead(4, 3)
        >>> bool((head(torch.randn(5, 4)).abs() <= 1 + 1e-6).all())
        True

    References:
        Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss",
        NeurIPS 2019, section 3.2: last activation and last weights are normalised. The authors' code calls
        this layer `NormedLinear` and starts it from columns of unit length, as here.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        _check_sizes(in_features, num_classes)
        directions = torch.empty(num_classes, in_features).uniform_(-1, 1)
        self.weight = nn.Parameter(F.normalize(directions, dim=1))

    def forward(self, features: Tensor) -> Tensor:
        """Cosines between `features` `(..., in_features)` and the class directions, `(..., num_classes)`."""
        return F.linear(unit_vectors(features), unit_vectors(self.weight))


def unit_vectors(values: Tensor) -> Tensor:
    """Vectors along the last axis divided by their length, in the type they came in; zero stays zero.

    The length of half-precision vectors is in single precision, as automatic mixed precision has it on a GPU: float16
    holds neither the square of 5000 nor the small number that keeps 0 / 0 away, nor the huge gradient at zero.
    """
    if values.dtype not in (torch.float16, torch.bfloat16):
        return F.normalize(values, dim=-1)
    length = torch.linalg.vector_norm(values, dim=-1, keepdim=True, dtype=torch.float32)
    return (values / length.clamp_min(1e-12)).to(values.dtype)


def make_head(kind: str, in_features: int, num_classes: int) -> nn.Module:
    """Build the last layer.

    Args:
        kind: "linear" (weights and bias, He initialised) or "cosine" (`CosineHead`).
        in_features: length of the feature vector, >= 1.
        num_classes: number of classes, >= 2.

    Raises:
        ValueError: `kind` is neither of the two, or a size is out of range.
    """
    check_known(kind, "kind", ("linear", "cosine"))
    if kind == "cosine":
        return CosineHead(in_features, num_classes)
    _check_sizes(in_features, num_classes)
    head = nn.Linear(in_features, num_classes)
    nn.init.kaiming_normal_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _check_sizes(in_features: int, num_classes: int) -> None:
    check_integer(in_features, "in_features", minimum=1)
    check_integer(num_classes, "num_classes", minimum=2)


def initialise_prior_bias(head: nn.Linear, num_classes: int) -> None:
    r"""Set the bias so that every sigmoid starts at probability :math:`\pi = 1/C`.

    .. math:: b = -\log\frac{1-\pi}{\pi} = -\log(C-1)

    With zero logits the summed sigmoid loss starts at :math:`C\log 2` (69.3 for 100 classes); with this bias at 5.6.

    Args:
        head: a linear layer with a bias; changed in place.
        num_classes: C, >= 2, the outputs of the layer.

    Raises:
        ValueError: `head` has no bias or another number of outputs, or `num_classes` < 2.

    References:
        Cui et al., CVPR 2019, section 5.2; Lin et al., ICCV 2017, section 4.1.
    """
    if getattr(head, "bias", None) is None:
        raise ValueError(f"`head` must be a linear layer with a bias, got {head}.")
    if check_integer(num_classes, "num_classes", minimum=2) != len(head.bias):
        raise ValueError(f"`num_classes` must be the {len(head.bias)} outputs of `head`, got {num_classes}.")
    nn.init.constant_(head.bias, -math.log(num_classes - 1))


def parameter_groups(model: nn.Module, weight_decay: float, *, decay_on: str = "all") -> list[dict]:
    """Split the parameters of `model` into groups for an optimiser.

    Args:
        model: a model whose last layer is the attribute `head`.
        weight_decay: decay of every parameter, >= 0 (batch-norm parameters included, as both papers' code does).
        decay_on: "all"; "all_but_head_bias" takes the decay off the bias of the last layer and off nothing else, what
            Cui et al. do for the sigmoid and focal losses; "head_bias_only" does the opposite, which one of the notes
            describes by mistake and a notebook shows to be worse.

    Returns:
        One or two dictionaries for `torch.optim.SGD`; together they hold every parameter once.

    Raises:
        ValueError: `weight_decay` negative or not finite, unknown `decay_on`, or a head without bias where one is
            needed.
    """
    return split_by_decay(dict(model.named_parameters()), weight_decay, decay_on)


def split_by_decay(named: Mapping[str, nn.Parameter], weight_decay: float, decay_on: str) -> list[dict]:
    """Optimiser groups for named parameters, the last layer's bias being `head.bias`; see `parameter_groups`."""
    check_real(weight_decay, "weight_decay", minimum=0.0)
    check_known(decay_on, "decay_on", ("all", "all_but_head_bias", "head_bias_only"))
    if decay_on == "all":
        return [{"params": list(named.values()), "weight_decay": weight_decay}]
    if "head.bias" not in named:
        raise ValueError(f"`decay_on={decay_on!r}` needs a model whose `head` has a bias, got none.")
    rest = [value for name, value in named.items() if name != "head.bias"]
    of_rest, of_bias = (weight_decay, 0.0) if decay_on == "all_but_head_bias" else (0.0, weight_decay)
    return [{"params": rest, "weight_decay": of_rest}, {"params": [named["head.bias"]], "weight_decay": of_bias}]
