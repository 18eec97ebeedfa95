"""Rows of measured runs: the tables of `results/`, and differences between runs that share a seed.

A check that trains at the quick profile reads these rows at the others and hands them to the same rule. Two paired
seeds are the least on which anything is judged; every rule prints how many there were.
"""

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_lib.claims._tables import results_folder
from lt_lib.claims.core import Judgement, worst

# A pandas table. Its stubs cannot follow rows picked by a mask, so it is not checked further.
Table = Any
Array = npt.NDArray[np.float64]

MINIMUM_PAIRS = 2
SHARED_COLUMNS = ("dataset", "profile", "method", "imbalance_ratio", "seed", "accuracy_last")


def measured_rows(profile: str = "", folder: str | os.PathLike[str] = "") -> Table:
    """All rows of measured runs, of every table `*.csv` that has `SHARED_COLUMNS`.

    Args:
        profile: only rows of this profile; all if empty.
        folder: where the tables are; `results/` at the top of the source tree if empty.

    Returns:
        One row per run that has an accuracy, with the name of its file in column "table". What a table has no column
        for is NaN; columns model, imbalance_type, loss, beta and gamma are always there. Empty without rows.
    """
    import pandas as pd

    optional = ("table", "model", "imbalance_type", "loss", "beta", "gamma")
    parts = []
    for path in sorted(results_folder(folder).glob("*.csv")):
        table = pd.read_csv(path, comment="#")
        if set(SHARED_COLUMNS) <= set(table.columns):
            # A run of a grid that is not done has a line without results.
            kept = table[table["accuracy_last"].notna() & ((table["profile"] == profile) | (not profile))]
            parts.append(pd.concat([kept, pd.Series(path.name, kept.index, name="table")], axis=1))
    parts = [part.dropna(axis=1, how="all") for part in parts if len(part)]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*SHARED_COLUMNS])
    return rows.reindex(columns=list(dict.fromkeys([*rows.columns, *optional])))


def recall_columns(rows: Table) -> list[str]:
    """Names of the columns recall_0, recall_1, ... in the order of the classes."""
    return sorted((name for name in rows.columns if name.startswith("recall_")), key=lambda name: int(name[7:]))


def with_worlds(rows: Table) -> Table:
    """The rows with columns "world", such as "cifar10-jpeg, resnet32, ratio 100", and "error" in percent.

    Args:
        rows: from `measured_rows`.
    """
    parts = zip(rows["dataset"], rows["model"], rows["imbalance_ratio"], strict=True)
    worlds = [
        f"{dataset}{f', {model}' if isinstance(model, str) else ''}, ratio {float(ratio):g}"
        for dataset, model, ratio in parts
    ]
    # One new frame: with a hundred classes, further columns one by one would be slow.
    error = 100 * (1 - rows["accuracy_last"].astype(float))
    return rows.copy().assign(world=worlds, error=error)


def paired_differences(table: Table, method: str, reference: str, column: str = "error") -> dict[str, Array]:
    """Values of `reference` minus those of `method`, by world, for the seeds that both have there.

    Args:
        table: columns method, seed and `column`, and "world" where there is more than one.
        method: the method that is claimed to have the smaller value.
        reference: what it is compared with.
        column: what is compared.

    Returns:
        World -> differences in the order of the seeds; worlds with fewer than `MINIMUM_PAIRS` are absent. Without a
        column "world" the only key is the empty text.

    Raises:
        ValueError: a seed occurs twice for a method of one world (then the rows are of more than one configuration).
    """
    groups = table.groupby("world") if "world" in table else [("", table)]
    found = {}
    for world, rows in groups:
        difference = (_by_seed(rows, reference, column) - _by_seed(rows, method, column)).dropna().sort_index()
        if len(difference) >= MINIMUM_PAIRS:
            found[str(world)] = difference.to_numpy(dtype=np.float64)
    return found


def lacking(first: str, second: str, where: str, pairs: int = 0) -> Judgement:
    """The judgement that too few pairs have been measured.

    Args:
        first: a method.
        second: what it would be compared with.
        where: setting, for the reader.
        pairs: how many pairs there are.

    Example:
        >>> lacking("LDAM", "ERM", "at step", 1).why
        'needs 2 paired seeds of LDAM and ERM at step; there is 1'
    """
    there = f"there {'is' if pairs == 1 else 'are'} {pairs or 'none'}"
    return Judgement("not judged", why=f"needs {MINIMUM_PAIRS} paired seeds of {first} and {second} {where}; {there}")


def number_of_pairs(table: Table, method: str, reference: str) -> int:
    """Seeds that two methods share in the world where they share most."""
    groups = table.groupby("world") if "world" in table else [("", table)]
    seeds = [[set(rows.seed[rows.method == name]) for name in (method, reference)] for _, rows in groups]
    return max((len(one & other) for one, other in seeds), default=0)


def together(parts: Iterable[Judgement]) -> Judgement:
    """As `worst`, but a part that lacks runs does not hide what the other parts say.

    Where the lack decides, the numbers are those of the measured part nearest to failing, and the reason names both.

    Args:
        parts: at least one.

    Example:
        >>> done = Judgement("holds", 2.0, threshold="mean > 0 points")
        >>> together([lacking("LDAM", "ERM", "at step"), done]).why
        'needs 2 paired seeds of LDAM and ERM at step; there are none; measured so far, holds: mean > 0 points'
    """
    every = list(parts)
    outcome = worst(every)
    done = [part for part in every if part.verdict != "not judged"]
    if outcome.verdict != "not judged" or not done:
        return outcome
    shown = worst(done)
    why = f"{outcome.why}; measured so far, {shown.verdict}: {shown.threshold}"
    return replace(shown, verdict="not judged", why=why)


def _by_seed(rows: Table, method: str, column: str) -> Table:
    chosen = rows[rows.method == method].set_index("seed")[column].astype(float)
    if chosen.index.has_duplicates:
        raise ValueError(f"`table` must hold every seed once per world, got {method!r} with one twice.")
    return chosen
