"""The only validation helpers: each raises an error that names the argument, what was expected and what was given.

The value comes first, the name of the caller's argument second. Helpers that look at numbers return them in the type
that the caller computes with. Torch is imported only by the helpers that take tensors.
"""

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lt_lib._typing import Counts

if TYPE_CHECKING:
    from torch import Tensor


def nearest_names(name: str, options: Iterable[str], limit: int = 3) -> list[str]:
    """Return the options that look most like `name`, best first."""
    return difflib.get_close_matches(name, list(options), n=limit, cutoff=0.5)


def check_known(name: Any, argument: str, options: Iterable[str]) -> str:
    """Return `name` if it is one of `options`; otherwise list them all, the nearest first in the message."""
    known = list(options)
    if isinstance(name, str) and name in known:
        return name
    near = nearest_names(name, known) if isinstance(name, str) else []
    hint = f" Did you mean {' or '.join(repr(option) for option in near)}?" if near else ""
    error = ValueError if isinstance(name, str) else TypeError
    raise error(f"`{argument}` must be one of {', '.join(map(repr, known))}, got {name!r}.{hint}")


def check_integer(value: Any, argument: str, *, minimum: int | None = None, maximum: int | None = None) -> int:
    """Return `value` as an int within the inclusive limits; booleans and fractions are refused."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(f"`{argument}` must be an integer, got {value!r}.")
    number = int(value)
    if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
        raise ValueError(f"`{argument}` must be {_limits_in_words('an integer', minimum, maximum)}, got {number}.")
    return number


def check_real(value: Any, argument: str, *, minimum: float | None = None, maximum: float | None = None) -> float:
    """Return `value` as a finite float within the inclusive limits."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"`{argument}` must be a real number, got {value!r}.")
    number = float(value)
    inside = math.isfinite(number)
    inside = inside and (minimum is None or number >= minimum) and (maximum is None or number <= maximum)
    if not inside:
        raise ValueError(f"`{argument}` must be {_limits_in_words('a finite number', minimum, maximum)}, got {value}.")
    return number


def check_flag(value: Any, argument: str) -> bool:
    """Return `value` if it is True or False; other things that are true or false in a condition are refused."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{argument}` must be True or False, got {value!r}.")
    return bool(value)


def check_fraction(value: Any, argument: str) -> float:
    """Return `value` as a float in [0, 1]."""
    return check_real(value, argument, minimum=0.0, maximum=1.0)


def check_below_one(value: Any, argument: str) -> float:
    """Return `value` as a float in [0, 1)."""
    number = check_real(value, argument)
    if not 0 <= number < 1:
        raise ValueError(f"`{argument}` must be a number in [0, 1), got {value}.")
    return number


def check_positive(value: Any, argument: str) -> float:
    """Return `value` as a finite float above zero."""
    number = check_real(value, argument)
    if number <= 0:
        raise ValueError(f"`{argument}` must be a number above 0, got {value}.")
    return number


def check_counts(class_counts: Any, argument: str = "class_counts", *, allow_empty_classes: bool = True) -> Counts:
    """Return per-class counts as a new int64 vector.

    Args:
        class_counts: one non-negative whole number per class; not all zero. Whole-valued floats are accepted.
        argument: the caller's name for it.
        allow_empty_classes: whether single classes may have no sample.
    """
    counts = as_array(class_counts, argument, "a vector with one entry per class")
    if counts.dtype == bool or not (
        np.issubdtype(counts.dtype, np.integer) or np.issubdtype(counts.dtype, np.floating)
    ):
        raise TypeError(f"`{argument}` must be whole numbers, got an array of {_number_type(class_counts, counts)}.")
    if counts.ndim != 1 or counts.size == 0:
        raise ValueError(f"`{argument}` must be a vector with one entry per class, got shape {counts.shape}.")
    fractional = ~np.isfinite(counts) | (counts != np.floor(counts))
    if np.any(fractional):
        raise ValueError(f"`{argument}` must be whole numbers, got {_first_offender(counts, fractional)}.")
    if np.any(counts < 0):
        raise ValueError(f"`{argument}` must be non-negative, got {_first_offender(counts, counts < 0)}.")
    if not np.any(counts):
        raise ValueError(f"`{argument}` must have at least one sample, got all {counts.size} classes empty.")
    if not allow_empty_classes and np.any(counts == 0):
        raise ValueError(
            f"`{argument}` must have at least one sample in every class, got {_first_offender(counts, counts == 0)}."
        )
    too_many = counts >= 2.0**63
    if np.any(too_many):
        raise ValueError(f"`{argument}` must be below 2**63, got {_first_offender(counts, too_many)}.")
    return counts.astype(np.int64)


def check_permutation(order: Any, argument: str, length: int) -> Counts:
    """Return `order` as an int64 vector that holds each of 0 … length - 1 once."""
    positions = as_array(order, argument, "class indices")
    if positions.dtype.kind not in "iu":
        raise TypeError(f"`{argument}` must be class indices, got an array of {_number_type(order, positions)}.")
    if positions.shape != (length,) or not np.array_equal(np.sort(positions), np.arange(length)):
        raise ValueError(f"`{argument}` must hold each of 0 … {length - 1} once, got {positions.tolist()}.")
    return positions.astype(np.int64)


def check_class_indices(values: Any, argument: str, num_classes: int | None = None) -> npt.NDArray[np.int64]:
    """Return class indices, an array or a tensor of at least one, as an int64 vector.

    Args:
        values: one class per sample.
        argument: the caller's name for it.
        num_classes: all of them lie below it; None for no limit.
    """
    labels = as_array(values, argument, "integer class indices")
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"`{argument}` must be a non-empty vector of class indices, got shape {labels.shape}.")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"`{argument}` must be integer class indices, got {_number_type(values, labels)}.")
    low, high = int(labels.min()), int(labels.max())
    if num_classes is None and low < 0:
        raise ValueError(f"`{argument}` must be class indices >= 0, got {low}.")
    if num_classes is not None and (low < 0 or high >= num_classes):
        wrong = low if low < 0 else high
        raise ValueError(f"`{argument}` must be class indices in [0, {num_classes - 1}], got {wrong}.")
    return labels.astype(np.int64)


def check_indices(values: Any, argument: str, size: int | None = None) -> npt.NDArray[np.int64]:
    """Return positions, none or more, as an int64 vector; a mask, a fraction or a negative number is none.

    Args:
        values: positions in a list.
        argument: the caller's name for it.
        size: length of that list; None for no limit on either side.
    """
    indices = as_array(values, argument, "one-dimensional integers")
    if indices.ndim != 1:
        raise ValueError(f"`{argument}` must be one-dimensional integers, got shape {indices.shape}.")
    if indices.size and indices.dtype.kind not in "iu":
        raise TypeError(f"`{argument}` must be one-dimensional integers, got {_number_type(values, indices)}.")
    if size is not None and indices.size and not 0 <= indices.min() <= indices.max() < size:
        raise ValueError(
            f"`{argument}` must lie in 0 … {size - 1}, got values from {indices.min()} to {indices.max()}."
        )
    return indices.astype(np.int64)


def check_logits_targets(logits: "Tensor", targets: "Tensor") -> int:
    """Return the number of classes after checking that logits `(..., classes)` and class indices `(...)` fit.

    The range of the targets is read on the CPU only: on an accelerator the look would make the host wait for the
    device in every step, and the indexing that follows fails there by itself.
    """
    import torch

    if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
        raise TypeError(f"`logits` must be a floating-point tensor, got {_kind(logits)}.")
    if not isinstance(targets, torch.Tensor) or targets.dtype != torch.int64:
        raise TypeError(f"`targets` must be an int64 tensor of class indices, got {_kind(targets)}.")
    if logits.ndim == 0 or logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"`targets` must have the shape of `logits` without its last axis, "
            f"got {tuple(targets.shape)} beside {tuple(logits.shape)}."
        )
    if logits.numel() == 0:
        raise ValueError(f"`logits` must hold at least one sample and one class, got shape {tuple(logits.shape)}.")
    num_classes = logits.shape[-1]
    if targets.device.type == "cpu":
        low, high = (int(bound) for bound in torch.aminmax(targets))
        if low < 0 or high >= num_classes:
            raise ValueError(f"`targets` must be in 0 … {num_classes - 1}, got {low if low < 0 else high}.")
    return num_classes


def check_per_class(
    values: "Tensor", argument: str, num_classes: int, *, minimum: float = 0.0, inclusive: bool = True
) -> None:
    """Check a tensor with one finite number per class; its values are read on the CPU only, as for targets."""
    import torch

    if not isinstance(values, torch.Tensor) or not values.is_floating_point():
        raise TypeError(f"`{argument}` must be a floating-point tensor, got {_kind(values)}.")
    if values.shape != (num_classes,):
        raise ValueError(f"`{argument}` must have shape ({num_classes},), got {tuple(values.shape)}.")
    if values.device.type == "cpu":
        low, high = (float(bound) for bound in torch.aminmax(values.detach()))
        # Written so that NaN, which compares false with everything, is refused too.
        if not ((low >= minimum if inclusive else low > minimum) and high < math.inf):
            bound = f"at least {minimum:g}" if inclusive else f"above {minimum:g}"
            raise ValueError(f"`{argument}` must be finite and {bound}, got values from {low:g} to {high:g}.")


def check_real_array(values: Any, argument: str, *, finite: bool = True) -> np.ndarray:
    """Return numbers of any shape as float64; with `finite`, none of them NaN or infinite."""
    array = as_array(values, argument, "real numbers")
    if array.dtype.kind not in "iuf":
        raise TypeError(f"`{argument}` must be real numbers, got {values!r}.")
    array = array.astype(np.float64)
    if finite:
        check_all(np.isfinite(array), argument, "be finite", array)
    return array


def check_distributions(values: Any, argument: str) -> npt.NDArray[np.float64]:
    """Return predicted class distributions, an array or a tensor, as float64 `(samples, classes)`.

    The sums may miss 1 by 1e-2: a softmax in bfloat16 misses it by 3e-3, an alignment on top by 6e-3, logits by more.

    Args:
        values: one distribution per row; a row or more, two classes or more.
        argument: the caller's name for it.
    """
    table = check_real_array(values, argument)
    if table.ndim != 2 or len(table) == 0 or table.shape[1] < 2:
        raise ValueError(f"`{argument}` must have shape (samples >= 1, classes >= 2), got {table.shape}.")
    sums = table.sum(axis=1)
    if table.min() < 0 or np.abs(sums - 1).max() > 1e-2:
        raise ValueError(
            f"`{argument}` must be >= 0 with rows summing to 1, got minimum {table.min():.3g} and row sums "
            f"{sums.min():.3g} to {sums.max():.3g}; logits need a softmax first."
        )
    return table


def check_all(passed: Any, argument: str, condition: str, values: npt.ArrayLike) -> None:
    """Check that a condition, such as "be > 0", holds for every number; the first one that fails is named."""
    wrong = ~np.asarray(passed)
    if np.any(wrong):
        raise ValueError(f"`{argument}` must {condition}, got {np.asarray(values)[wrong].flat[0]:g}.")


def as_array(values: Any, argument: str, expected: str) -> np.ndarray:
    """Return numbers or a tensor as an array; rows of unequal length are refused by name.

    Of a tensor the values alone count: wherever it lies, whether it requires a gradient, and in bfloat16, which NumPy
    has no type for and which comes back as float32.
    """
    try:
        return np.asarray(_host_tensor(values) if hasattr(values, "detach") else values)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"`{argument}` must be {expected}, got {values!r}.") from error


def _host_tensor(values: Any) -> Any:
    """A tensor on the CPU, without its gradient, of a type that NumPy has."""
    import torch

    held = values.detach().cpu()
    lacking = held.is_floating_point() and held.dtype not in (torch.float16, torch.float32, torch.float64)
    return held.float() if lacking else held


def _number_type(values: Any, array: np.ndarray) -> Any:
    """What the caller gave, not what `as_array` made of it."""
    return getattr(values, "dtype", array.dtype)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"a NumPy array of {value.dtype} (use torch.as_tensor(...))"
    return f"a tensor of {value.dtype}" if hasattr(value, "dtype") else type(value).__name__


def _limits_in_words(noun: str, minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f"{noun} in [{minimum}, {maximum}]"
    if minimum is not None:
        return f"{noun} of at least {minimum}"
    if maximum is not None:
        return f"{noun} of at most {maximum}"
    return noun


def _first_offender(values: np.ndarray, wrong: np.ndarray) -> str:
    position = int(np.argmax(wrong))
    return f"{values[position]} for class {position}"
