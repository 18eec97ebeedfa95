"""Errata shown by arithmetic on the published tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lt_lib.claims import _class_balanced_tables as balanced
from lt_lib.claims.errata import Demonstration
from lt_lib.claims.published import published

Pairs = Sequence[tuple[int, int]]


def _improved(dataset: str, beta: float, ratio: int = 50) -> np.ndarray:
    """Gain of each loss over its plain form, in points."""
    block = balanced.error_grid(published("cb_cifar_grid")).loc[(dataset, ratio)]
    return (block[0.0] - block[beta]).to_numpy()


def unhelpful_betas(betas: Sequence[float], _rng: np.random.Generator) -> float:
    """Listed values of beta that improve fewer than half of the losses on CIFAR-100 at ratio 50."""
    return float(sum((_improved("cifar100", beta) > 0).mean() < 0.5 for beta in betas))


def harmful_cells(betas: Sequence[float], _rng: np.random.Generator) -> float:
    """Cells of CIFAR-10 at ratio 50 in which a listed beta does not improve its loss."""
    return float(sum((_improved("cifar10", beta) <= 0).sum() for beta in betas))


def losses_behind_softmax(losses: Sequence[str], _rng: np.random.Generator) -> float:
    """Listed losses that beat softmax in half of the columns or fewer."""
    share = balanced.share_better(published("cb_cifar"))
    return float(sum(share[loss] <= 0.5 for loss in losses))


def margins_within_noise(ratios: Sequence[int], _rng: np.random.Generator) -> float:
    """Listed ratios of CIFAR-10 at which the best gain is below the root mean square change between two runs."""
    grid = balanced.error_grid(published("cb_cifar_grid"))
    again = balanced.error_grid(published("cb_cifar_rerun"))
    changes = (grid.loc[again.index, again.columns] - again).to_numpy()
    best = balanced.best_balanced(grid).set_index(["dataset", "ratio"]).margin
    return float(sum(best[("cifar10", ratio)] < np.sqrt(np.mean(np.square(changes))) for ratio in ratios))


def small_margins(datasets: Sequence[str], _rng: np.random.Generator) -> float:
    """Listed data sets on which some gain is below 1.5 points."""
    errors = balanced.large_pairs(published("cb_large"))
    gains = (errors[("plain", 224)] - errors[("class_balanced", 224)]).groupby(level="dataset").min()
    return float(sum(gains[name] < 1.5 for name in datasets))


def differs_from_rerun(source: str, _rng: np.random.Generator) -> float:
    """Largest difference of a table's accuracies, CIFAR-10 with 10 % labels, from the authors' re-run."""
    cells = published("crest")
    keys = ["method", "dataset", "ratio", "setting"]
    rerun = cells[cells.table == "crest_readme"].set_index(keys).value
    return float((cells[cells.table == source].set_index(keys).value - rerun).abs().max())


def losses_at_their_best(claimed: int, _rng: np.random.Generator) -> float:
    """Number of losses among the best cells of CIFAR-10 beyond the claimed number."""
    best = balanced.best_balanced(balanced.error_grid(published("cb_cifar_grid")))
    return float(best[best.dataset == "cifar10"].loss.nunique() - claimed)


def _softmax_cell(dataset: str, ratio: int) -> float:
    return float(balanced.error_grid(published("cb_cifar_grid")).loc[(dataset, ratio, "softmax"), 0.0])


def differs_from_softmax_cell(value: float, _rng: np.random.Generator) -> float:
    """Difference of a number from plain softmax on CIFAR-100 at ratio 10."""
    return abs(value - _softmax_cell("cifar100", 10))


def _long_tailed_row(method: str) -> Any:
    table = published("ldam_cifar")
    table = table[(table.table == "ldam_cifar") & (table.imbalance_type == "exponential") & (table.method == method)]
    return table.set_index(["dataset", "ratio"]).value


def above_best(row: Any, _rng: np.random.Generator) -> float:
    """Largest excess of a row over the best class-balanced cells of Cui et al.; None stands for those cells."""
    best = balanced.best_balanced(balanced.error_grid(published("cb_cifar_grid")))
    best = best.set_index(["dataset", "ratio"])["best CB"]
    printed = best if row is None else _long_tailed_row(row)
    return float((printed - best).max())


def copied_cells(claimed: int, _rng: np.random.Generator) -> float:
    """Long-tailed cells of the row Focal that equal sigmoid focal 1 of Cui et al., beyond the claimed number."""
    grid = balanced.error_grid(published("cb_cifar_grid"))[0.0]
    row = _long_tailed_row("Focal")
    return float(sum(value == grid[(*column, "focal 1")] for column, value in row.items()) - claimed)


def absent_data_sets(named: Sequence[str], _rng: np.random.Generator) -> float:
    """Named data sets of which the table of the notes has no cell."""
    cells = published("value_of_labels").query("table == 'value_of_labels_ssl'")
    return float(len(set(named) - set(cells.dataset)))


def _pools() -> Any:
    """Errors with five times as much unlabelled data: rows (method, ratio), columns the rank of the pool's ratio."""
    cells = published("value_of_labels").query("table == 'value_of_labels_ssl'").copy()
    cells["pool"] = cells.setting.str.removeprefix("rho_U=").astype(float)
    cells = cells[cells.pool.notna()].sort_values("pool")
    cells["place"] = cells.groupby(["method", "ratio"]).cumcount()
    return cells.pivot(index=["method", "ratio"], columns="place", values="value")


def unordered_pools(rows: Sequence[tuple[str, int]] | None, _rng: np.random.Generator) -> float:
    """Neighbouring pools of the listed rows in which the more balanced pool has the larger error; None lists all."""
    errors = _pools()
    listed = errors if rows is None else errors.loc[list(rows)]
    return float((listed.diff(axis=1).iloc[:, 1:] < 0).to_numpy().sum())


def unordered_spreads(pairs: Pairs, _rng: np.random.Generator) -> float:
    """Claimed pairs (more, less imbalanced) in which the spread over pools does not fall, over both losses."""
    errors = _pools()
    spread = (errors.max(axis=1) - errors.min(axis=1)).unstack("ratio")
    return float(sum((spread[more] <= spread[less]).sum() for more, less in pairs))


def unordered_gains(ratios: Sequence[int], _rng: np.random.Generator) -> float:
    """Steps along the listed ratios at which the gain from a balanced pool does not rise, over both losses."""
    cells = published("value_of_labels").query("table == 'value_of_labels_ssl'")
    plain = cells[cells.setting.isna()].set_index(["method", "ratio"]).value
    pools, wrong = _pools(), 0
    for method in ("CE", "LDAM-DRW"):
        gains = [plain[(method, ratio)] - pools.loc[(f"{method} + D_U@5x", ratio), 0] for ratio in ratios]
        wrong += int((np.diff(gains) <= 0).sum())
    return float(wrong)


def unordered_pretraining(pairs: Pairs, _rng: np.random.Generator) -> float:
    """Claimed pairs (more, less imbalanced) in which pre-training does not gain more: three methods, CIFAR-10."""
    cells = published("value_of_labels").query("dataset == 'cifar10'")
    ssl, ssp = (cells[cells.table == f"value_of_labels_{part}"] for part in ("ssl", "ssp"))
    plain = ssl[ssl.setting.isna()].set_index(["method", "ratio"]).value
    trained = ssp.set_index(["method", "ratio"]).value
    named = {
        "CE": (plain["CE"], trained["CE+SSP"]),
        "LDAM-DRW": (plain["LDAM-DRW"], trained["LDAM-DRW+SSP"]),
        "balanced CE": (trained["CB-CE"], trained["CE(balanced)+SSP"]),
    }
    gains = {name: before - after for name, (before, after) in named.items()}
    return float(sum(int(gain[more] <= gain[less]) for gain in gains.values() for more, less in pairs))


_ALL_POOLS_BUT_ONE = tuple(
    (f"{method} + D_U@5x", ratio)
    for method in ("CE", "LDAM-DRW")
    for ratio in (100, 50, 10)
    if (method, ratio) != ("LDAM-DRW", 10)
)
DEMONSTRATIONS: tuple[Demonstration, ...] = (
    Demonstration("E1", (0.99, 0.999), (0.9, 0.99), unhelpful_betas, 0, "betas said to help that help few losses"),
    Demonstration("E2", balanced.BETAS, (0.999, 0.9999), harmful_cells, 0, "cells hurt by a beta that is said to help"),
    Demonstration(
        "E3", ("sigmoid", "focal 0.5", "focal 1", "focal 2"), ("sigmoid", "focal 0.5", "focal 1"),
        losses_behind_softmax, 0, "losses that beat softmax in half of the columns at most",
    ),
    Demonstration(
        "E4", (200, 100, 50, 20, 10), (200, 100, 50), margins_within_noise, 0,
        "CIFAR-10 columns whose margin is below what a re-run changes",
    ),
    Demonstration(
        "E17", ("inaturalist2017", "inaturalist2018", "ilsvrc2012"), ("inaturalist2017", "inaturalist2018"),
        small_margins, 0, "data sets with a gain below 1.5 points",
    ),
    Demonstration("E19", "crest", "crest_readme", differs_from_rerun, 0.05, "largest change in a re-run, points"),
    Demonstration(
        "E24", ("sigmoid", "focal 0.5", "focal 1", "focal 2"), ("sigmoid", "focal 0.5", "focal 1"),
        losses_behind_softmax, 0, "losses that beat softmax in half of the columns at most",
    ),
    Demonstration("E25", 1, 4, losses_at_their_best, 0, "losses among the best cells beyond the claimed number"),
    Demonstration("E47", 44.30, 44.29, differs_from_softmax_cell, 0.005, "difference from the cell it copies, points"),
    Demonstration("E48", "CB-Focal", None, above_best, 0.005, "largest excess over the best cell, points"),
    Demonstration("E50", 0, 4, copied_cells, 0, "cells equal to sigmoid focal 1, beyond the claimed number"),
    Demonstration("E56", ("cifar10", "svhn"), ("cifar10",), absent_data_sets, 0, "named data sets without a cell"),
    Demonstration("E69", None, _ALL_POOLS_BUT_ONE, unordered_pools, 0, "neighbouring pools in the wrong order"),
    Demonstration("E70", ((100, 50), (50, 10)), ((50, 10),), unordered_spreads, 0, "spreads in the wrong order"),
    Demonstration("E71", (100, 50, 10), (10, 50, 100), unordered_gains, 0, "steps without a rise of the gain"),
    Demonstration("E73", ((100, 50), (50, 10)), ((50, 10), (100, 10)), unordered_pretraining, 0, "gains out of order"),
)  # fmt: skip
