"""What all losses share: the working precision, the weights of the classes, the reduction contract."""

from typing import Any

import torch
from torch import Tensor

from lt_lib._checks import check_known, check_per_class
from lt_lib._typing import Logits, PerClass, Targets

_REDUCTIONS = ("none", "mean", "sum")
_NORMALIZATIONS = ("batch", "weights")


def check_reduction(reduction: str, normalization: str) -> None:
    """Refuse unknown names, and a normalization that the reduction would ignore."""
    check_known(reduction, "reduction", _REDUCTIONS)
    check_known(normalization, "normalization", _NORMALIZATIONS)
    if reduction != "mean" and normalization != "batch":
        raise ValueError(
            f"`normalization` must be 'batch' unless `reduction` is 'mean', got {normalization!r} with {reduction!r}."
        )


def widen(logits: Logits) -> Logits:
    """Half-precision logits in single precision; wider ones as they are."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def check_weight(weight: PerClass, classes: int) -> None:
    """Refuse weights that do not fit the classes, and those that require a gradient: no loss gives them one."""
    check_per_class(weight, "weight", classes)
    if weight.requires_grad:
        raise ValueError("`weight` must be constant, got a tensor that requires a gradient.")


def reduction_terms(
    targets: Targets,
    weight: PerClass | None,
    reduction: str,
    normalization: str,
    *,
    classes: int,
    dtype: torch.dtype,
) -> tuple[Tensor | None, float | None]:
    """The contract as two numbers: what each sample is multiplied by, and what the sum is divided by.

    Returns:
        A coefficient per sample, flat, or None for ones; a divisor, or None for "none".
    """
    check_reduction(reduction, normalization)
    coefficient = None
    if weight is not None:
        check_weight(weight, classes)
        # Several times faster than weight[targets].
        coefficient = weight.to(dtype).index_select(0, targets.reshape(-1))
    if reduction == "none":
        return coefficient, None
    if reduction == "sum":
        return coefficient, 1.0
    if normalization == "batch" or coefficient is None:
        return coefficient, float(targets.numel())
    return coefficient / sum_of_weights(coefficient), 1.0


def sum_of_weights(coefficient: Tensor) -> Tensor:
    """Divisor that makes a batch in which every weight is zero give a loss of zero, not 0 / 0."""
    return coefficient.sum().clamp_min(torch.finfo(coefficient.dtype).tiny)


def apply_reduction(per_sample: Tensor, coefficient: Tensor | None, divisor: float | None) -> Tensor:
    """Flat per-sample losses, multiplied and divided by `reduction_terms`."""
    if coefficient is not None:
        per_sample = per_sample * coefficient
    return per_sample if divisor is None else per_sample.sum() / divisor


def per_class_buffer(values: Any, argument: str, num_classes: int | None = None) -> Tensor:
    """One number per class as a new double-precision tensor, checked once when a Module is built.

    Without `num_classes` there are as many classes as numbers.
    """
    try:
        buffer = torch.as_tensor(values, dtype=torch.float64).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`{argument}` must be one number per class, got {values!r}.") from error
    if num_classes is None and (buffer.ndim != 1 or len(buffer) == 0):
        raise ValueError(f"`{argument}` must be one number per class, got {values!r}.")
    check_per_class(buffer, argument, len(buffer) if num_classes is None else num_classes)
    return buffer


def reduction_in_words(module: Any) -> str:
    """How the `print` of a Module ends: the two arguments that decide the size of its loss."""
    return f"reduction={module.reduction!r}, normalization={module.normalization!r}"
