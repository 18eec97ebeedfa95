"""Shape types: one name per kind of array, with fixed axis names.

The tensor aliases are made on first access, so that a module which only needs the NumPy ones never loads torch.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float64, Int64

Counts = Int64[np.ndarray, "classes"]
"""Training samples per class."""
PerClassArray = Float64[np.ndarray, "classes"]
"""One real number per class, in double precision."""
Reduction = Literal["none", "mean", "sum"]
Normalization = Literal["batch", "weights"]

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    Logits = Float[Tensor, "*batch classes"]
    Targets = Int[Tensor, "*batch"]
    PerSample = Float[Tensor, "*batch"]
    PerClass = Float[Tensor, "classes"]
    Loss = Float[Tensor, "..."]


def __getattr__(name: str) -> Any:
    shapes = {
        "Logits": ("Float", "*batch classes"),
        "Targets": ("Int", "*batch"),
        "PerSample": ("Float", "*batch"),
        "PerClass": ("Float", "classes"),
        "Loss": ("Float", "..."),
    }
    if name not in shapes:
        raise AttributeError(f"module 'lt_lib._typing' has no attribute {name!r}")
    import jaxtyping
    from torch import Tensor

    kind, axes = shapes[name]
    return getattr(jaxtyping, kind)[Tensor, axes]
