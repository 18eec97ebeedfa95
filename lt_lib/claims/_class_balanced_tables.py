"""Arithmetic on the published tables of the class-balanced losses (Cui et al., CVPR 2019)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lt_lib.claims.published import published

# A pandas table. Its stubs cannot follow labels with several levels, so it is not checked further.
Table = Any

BETAS = (0.9, 0.99, 0.999, 0.9999)
# The three losses of the slides' panels; the grid of the appendix also has focal exponents 1 and 2.
SLIDE_LOSSES = ("softmax", "sigmoid", "focal 0.5")
PLAIN_LOSSES = (*SLIDE_LOSSES, "focal 1", "focal 2")


def loss_label(loss: str, gamma: float | None = None) -> str:
    """Name of a loss in the tables: the focal exponent belongs to it.

    Example:
        >>> loss_label("focal", 0.5), loss_label("softmax")
        ('focal 0.5', 'softmax')
    """
    return f"{loss} {gamma:g}" if loss == "focal" and gamma is not None else loss


def measure_published(
    _profile: str, _rng: np.random.Generator, *, load: Callable[[str], Table] = published
) -> dict[str, Table]:
    """The published tables: "table" (notes), "grid" (appendix of the paper) and "large" (large data sets).

    Args:
        _profile: not used; printed numbers do not depend on it.
        _rng: not used.
        load: where the tables come from.
    """
    return {"table": load("cb_cifar"), "grid": load("cb_cifar_grid"), "large": load("cb_large")}


def error_grid(table: Table) -> Table:
    """Published CIFAR errors as a matrix: rows (dataset, ratio, loss), columns beta, 0 for the plain loss."""
    plain_or_balanced = table[table.method != "class_balanced_best"]
    labels = [
        loss_label(loss, gamma) for loss, gamma in zip(plain_or_balanced.loss, plain_or_balanced.gamma, strict=True)
    ]
    tidy = plain_or_balanced.assign(loss=labels, beta=plain_or_balanced.beta.fillna(0.0))
    return tidy.pivot(index=["dataset", "ratio", "loss"], columns="beta", values="value")


def best_balanced(grid: Table) -> Table:
    """Per column (dataset, ratio) of `error_grid`: lowest class-balanced error, where, and lowest plain error."""
    import pandas as pd

    rows = []
    for (dataset, ratio), block in grid.groupby(level=["dataset", "ratio"]):
        cells = block.drop(columns=0.0).stack()
        loss, beta = cells.idxmin()[-2:]
        plain = block[0.0].min()
        rows.append((dataset, ratio, loss, beta, cells.min(), plain, plain - cells.min()))
    return pd.DataFrame(rows, columns=["dataset", "ratio", "loss", "beta", "best CB", "best plain", "margin"])


def large_pairs(table: Table, metric: str = "top1_error_percent") -> Table:
    """Large data sets as a matrix: rows (dataset, depth), columns (method, pixels)."""
    tidy = table[table.metric == metric].copy()
    tidy["depth"] = tidy.setting.str.extract(r"ResNet-(\d+)", expand=False).astype(int)
    tidy["pixels"] = tidy.setting.str.extract(r"(\d+)×", expand=False).astype(int)
    return tidy.pivot(index=["dataset", "depth"], columns=["method", "pixels"], values="value")


def share_better(table: Table) -> Table:
    """Share of the columns of the CIFAR table in which each plain loss has a lower error than plain softmax."""
    plain = error_grid(table)[0.0].unstack("loss")
    return plain.drop(columns="softmax").lt(plain["softmax"], axis=0).mean()


def panel_gains(grid: Table, dataset: str) -> np.ndarray:
    """Gains at ratio 50, `(slide losses, betas)`."""
    block = error_grid(grid).loc[(dataset, 50)].loc[list(SLIDE_LOSSES)]
    return block[[0.0]].to_numpy() - block[list(BETAS)].to_numpy()
