"""Long-tailed and class-imbalanced learning, as a library behind a set of notebooks.

A tour, from what needs least to what needs most:

- `lt_lib.counts`: class-count profiles and all that follows from counts alone (ratios, weights, margins);
- `lt_lib.theory`: one module per toy model, with closed forms, bounds and Monte Carlo checks;
- `lt_lib.losses`: softmax, sigmoid, focal, class-balanced, margin and prior-adjusted losses;
- `lt_lib.samplers`: re-sampling probabilities, samplers, over- and under-sampling;
- `lt_lib.metrics`: per-class and per-group figures with intervals;
- `lt_lib.models`: small residual networks, cosine heads, stacks of models trained as one;
- `lt_lib.data`: data sets, and long-tailed splits as index lists;
- `lt_lib.training`: loops, schedules, checkpoints;
- `lt_lib.recipes`: `RunConfig` in, `RunResult` out; the only place where a name becomes an object;
- `lt_lib.claims`: what the papers claim, and the checks that judge it;
- `lt_lib.batch`: grids of notebook runs;
- `lt_lib.plotting`: figures from arrays;
- `lt_lib.cli`: the command `lt-lib`.

Submodules load on first use, so that `import lt_lib` costs nothing and `counts` or `theory` never load torch.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_SUBMODULES = (
    "batch",
    "claims",
    "cli",
    "counts",
    "data",
    "losses",
    "metrics",
    "models",
    "plotting",
    "recipes",
    "samplers",
    "theory",
    "training",
)

__all__ = ["__version__"]


def __getattr__(name: str) -> ModuleType:
    if name in _SUBMODULES:
        return importlib.import_module(f"lt_lib.{name}")
    raise AttributeError(f"module 'lt_lib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
