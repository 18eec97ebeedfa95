"""Measured rows of `run_self_train` as the settings that the claims on self-training compare.

Each row holds two models: the final one, and the base model that labelled its pool, which is the setting without a
pool. The final model has more updates than its base model, because its epochs pass over the pool too; rows on labels
alone with as many updates as both are the control. A setting of which one seed has no control has none.
"""

import os
from typing import Any

import numpy as np

from lt_lib.claims._self_training_runs import Array, Runs, Setting
from lt_lib.claims.measured import class_sizes, measured_rows, recalls_by_count

# A pandas table. Its stubs cannot follow rows picked by a mask, so it is not checked further.
Table = Any
MINIMUM_SEEDS = 3
TOLERANCE = 0.05  # by which the updates of a control may differ: it has whole epochs
LOSSES = {"ERM": "CE", "LDAM-DRW": "LDAM-DRW"}
# Columns that no row with a pool leaves empty. (One that all rows leave empty is not read.)
_COLUMNS = {
    "base", "base_method", "pretext", "pool_source", "pool_amount", "pool_imbalance_ratio", "relevance", "omega",
    "counts_from", "epochs", "student_epochs", "updates",
}  # fmt: skip
_EMPTY = ("outside", "pool_error")
_BASE = "base_recall_"


def stored_runs(profile: str, folder: str | os.PathLike[str] = "") -> Runs | None:
    """The runs of a profile, of every table that has the columns of `run_self_train`; None if there are too few.

    Of several data sets SVHN is taken, whose pool anyone can get; of several kinds of samples from outside the task
    the images. Left out are rows with pre-training, with another loss than those of the published table, with a base
    model of another method than the final one, and with class counts of the labelled set alone. The size of the
    labelled set and the numbers of epochs that most rows with a pool have are the default ones of `Setting`; other
    sizes are its `labelled`, and both numbers of epochs in the same proportion its `length`.

    Only settings that at least three seeds have are kept, and of those the seeds that all settings share. Recalls are
    in the order of the class counts. The base models of one setting and seed, one per pool, are averaged: they are the
    same training.

    Args:
        profile: "small" or "paper".
        folder: of the tables; `results/` at the top of the source tree if empty.

    Raises:
        ValueError: rows of several data sets other than SVHN, of several networks, pools or outsides; a run twice; or
            two controls as long as one row.
    """
    rows = measured_rows(profile, folder)
    if not _COLUMNS <= set(rows.columns):
        return None
    rows = rows.reindex(columns=list(dict.fromkeys([*rows.columns, *_EMPTY])))
    rows = rows[rows.base.isin(LOSSES) & (rows.pretext == "none") & (rows.imbalance_type == "exponential")]
    rows = rows[rows.dataset == "svhn"] if (rows.dataset == "svhn").any() else rows
    pooled = rows[rows.pool_source.notna() & (rows.pool_source != "none")]
    pooled = pooled[(pooled.base_method == pooled.base) & (pooled.counts_from == "joined")]
    pooled = _one_outside(pooled)
    pooled = pooled.copy().assign(size=[_size(row) for _, row in pooled.iterrows()])
    pooled = pooled[pooled["size"].notna()]
    if pooled.empty:
        return None
    for name in ("dataset", "model", "pool_source"):
        if pooled[name].nunique() > 1:
            raise ValueError(f"`folder` must hold rows of one {name}, got {sorted(map(str, pooled[name].unique()))}.")
    alone = rows[(rows.pool_source == "none") & (rows.dataset == pooled.dataset.iloc[0])]
    alone = alone[alone.model == pooled.model.iloc[0]]
    cells = _cells(pooled, _default(pooled))
    cells = {setting: by_seed for setting, by_seed in cells.items() if len(by_seed) >= MINIMUM_SEEDS}
    seeds = sorted(set.intersection(*map(set, cells.values()))) if cells else []
    if len(seeds) < MINIMUM_SEEDS:
        return None
    runs = Runs({})
    labelled = recalls_by_count(pooled, _BASE)
    recalls = recalls_by_count(pooled)
    for setting, by_seed in cells.items():
        runs.recall[setting] = np.stack([recalls[by_seed[seed]] for seed in seeds])
        runs.pool_error[setting] = pooled.pool_error.to_numpy(dtype=np.float64)[[by_seed[seed] for seed in seeds]]
        control = _control(alone, pooled.iloc[[by_seed[seed] for seed in seeds]], seeds)
        if control is not None:
            runs.control[setting] = control
    for base in {setting.base for setting in cells}:
        own = [by_seed for setting, by_seed in cells.items() if setting.base == base]
        runs.recall[base] = np.stack([labelled[[by_seed[seed] for by_seed in own]].mean(axis=0) for seed in seeds])
    return runs


def _one_outside(pooled: Table) -> Table:
    """Rows whose samples from outside the task are of one kind: images rather than noise."""
    mixed = pooled.relevance < 1
    kinds = {*pooled.outside[mixed]} - {"noise"} or {*pooled.outside[mixed]}
    if len(kinds) > 1:
        raise ValueError(f"`folder` must hold rows of one outside, got {sorted(map(str, kinds))}.")
    return pooled[~mixed | pooled.outside.isin(kinds)]


def _size(row: Table) -> float:
    """Samples of the largest class that were asked for, counted where that was all; NaN where nobody says."""
    sizes = class_sizes(row, 2)
    return float(row.n_max or (np.nan if sizes is None else sizes[0]))


def _default(pooled: Table) -> tuple[float, float, float]:
    """Size of the labelled set, epochs and epochs of the final model that most rows have; the largest of equals."""
    frequent = pooled.groupby(["size", "epochs", "student_epochs"]).size()
    return max(frequent.index, key=lambda key: (frequent[key], key))


def _cells(pooled: Table, default: tuple[float, float, float]) -> dict[Setting, dict[int, int]]:
    """Setting -> seed -> position of its row."""
    found: dict[Setting, dict[int, int]] = {}
    for position, (_, row) in enumerate(pooled.iterrows()):
        length = row.epochs / default[1]
        if not np.isclose(row.student_epochs, length * default[2]):
            continue
        setting = Setting(
            LOSSES[row.base],
            ratio=float(row.imbalance_ratio),
            amount=float(row.pool_amount),
            # Without relevant samples there is no imbalance.
            pool_ratio=float(row.pool_imbalance_ratio) if row.relevance > 0 else 1.0,
            relevance=float(row.relevance),
            omega=float(row.omega),
            labelled=float(row["size"] / default[0]),
            length=float(length),
        )
        cell = found.setdefault(setting, {})
        if int(row.seed) in cell:
            raise ValueError(f"`folder` must hold every run once, got seed {row.seed} twice for {setting}.")
        cell[int(row.seed)] = position
    return found


def _control(alone: Table, pooled: Table, seeds: list[int]) -> Array | None:
    """Recall on labels alone with as many updates as the rows of one setting, by seed; None where a seed has none."""
    found = []
    recalls = recalls_by_count(alone)
    for seed, (_, row) in zip(seeds, pooled.iterrows(), strict=True):
        same = (alone.base == row.base) & (alone.imbalance_ratio == row.imbalance_ratio) & (alone.n_max == row.n_max)
        same &= (alone.seed == seed) & (abs(alone.updates / row.updates - 1) <= TOLERANCE)
        if same.sum() > 1:
            raise ValueError(
                f"`folder` must hold one control of a seed within {TOLERANCE:.0%} of {row.updates:g} updates, "
                f"got {[float(each) for each in alone.updates[same]]} for {row.base}, ratio {row.imbalance_ratio:g}, "
                f"seed {seed}."
            )
        if not same.any():
            return None
        found.append(recalls[int(np.argmax(same.to_numpy()))])
    return np.stack(found)
