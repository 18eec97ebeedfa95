"""Rows of measured runs: the tables of `results/`, and differences between runs that share a seed.

A check that trains at the quick profile reads these rows at the others and hands them to the same rule. Two paired
seeds are the least on which anything is judged; every rule prints how many there were. A pair is two runs of one seed
in one number format: between bfloat16 and float32 more differs than the method.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_lib import counts
from lt_lib.claims._tables import results_folder
from lt_lib.claims.core import Judgement, worst

# A pandas table. Its stubs cannot follow rows picked by a mask, so it is not checked further.
Table = Any
Array = npt.NDArray[np.float64]

MINIMUM_PAIRS = 2
SAME_RESULT = 1e-9  # by which an accuracy may differ where a run stands in two tables: the last digit of a file
COPY = "-jpeg"  # ending of the name of a data set whose images are a JPEG copy
# Samples of every class of a whole training split, where all have equally many.
FULL_CLASSES = {"cifar10": 5000, "cifar100": 500}
SHARED_COLUMNS = ("dataset", "profile", "method", "imbalance_ratio", "seed", "accuracy_last")


def measured_rows(profile: str = "", folder: str | os.PathLike[str] = "") -> Table:
    """All rows of measured runs, of every table `*.csv` that has `SHARED_COLUMNS`.

    Args:
        profile: only rows of this profile; all if empty.
        folder: where the tables are; `results/` at the top of the source tree if empty.

    Returns:
        One row per run that has an accuracy, with the name of its file in column "table". What a table has no column
        for is NaN; columns model, imbalance_type, loss, beta and gamma are always there. So is number_format, such as
        "bfloat16", where a JSON file of the table's name says it of the run, else NaN. And n_max, the size of the
        largest class that was asked for, and it is always a number: 0 says as many samples as every class has, which
        is also what the full size of a CIFAR class becomes, and what a table says that has no such column, because
        those tables were made before there was a choice. A run that stands in two tables, the same configuration on the
        same data with the same accuracy and recalls, counts once. Empty without rows.

    Raises:
        ValueError: one configuration on the same data has different results in two rows.
    """
    import pandas as pd

    optional = ("table", "model", "imbalance_type", "loss", "beta", "gamma", "number_format")
    parts = []
    for path in sorted(results_folder(folder).glob("*.csv")):
        table = pd.read_csv(path, comment="#")
        if set(SHARED_COLUMNS) <= set(table.columns):
            # A run of a grid that is not done has a line without results.
            kept = table[table["accuracy_last"].notna() & ((table["profile"] == profile) | (not profile))]
            formats = pd.Series(_number_formats(path, kept), kept.index, name="number_format", dtype=object)
            parts.append(pd.concat([kept, pd.Series(path.name, kept.index, name="table"), formats], axis=1))
    parts = [part.dropna(axis=1, how="all") for part in parts if len(part)]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*SHARED_COLUMNS])
    rows = _once(rows.reindex(columns=list(dict.fromkeys([*rows.columns, *optional]))))
    # A new frame: with a hundred classes, one more column in the old one would be slow.
    return rows.copy().assign(n_max=_sizes(rows))


def _number_formats(path: Path, rows: Table) -> list[str | None]:
    """Number format of every run by the provenance beside its table; None where that does not say."""
    provenance = path.with_suffix(".json")
    if "config_hash" not in rows or not provenance.exists():
        return [None] * len(rows)
    known = json.loads(provenance.read_text(encoding="utf-8"))
    return [known.get(key, {}).get("precision") for key in rows["config_hash"]]


def original(dataset: str) -> str:
    """Name of the data set that another one is a copy of; its own name for no copy.

    Example:
        >>> original("cifar10-jpeg"), original("svhn")
        ('cifar10', 'svhn')
    """
    return dataset.removesuffix(COPY)


def _once(rows: Table) -> Table:
    hashes = ["config_hash", "data_hash"]
    if not set(hashes) <= set(rows.columns):
        return rows
    hashed = rows[hashes].notna().all(axis=1)
    again = hashed & rows.duplicated(hashes)
    results = ["accuracy_last", *recall_columns(rows)]
    for key, block in rows[hashed & rows.duplicated(hashes, keep=False)].groupby(hashes):
        values = block[results].astype(float)
        # What one table has no column for contradicts nothing.
        differs = values.columns[values.max() - values.min() > SAME_RESULT]
        if len(differs):
            least, most = (block.table[place] for place in (values[differs[0]].idxmin(), values[differs[0]].idxmax()))
            where = " and ".join(sorted((least, most)))
            raise ValueError(f"`folder` must hold one result per run, got two of configuration {key[0]} in {where}.")
    return rows[~again].reset_index(drop=True)


def _sizes(rows: Table) -> Table:
    asked = rows["n_max"].astype(float).fillna(0.0) if "n_max" in rows else rows["seed"].map(lambda _: 0.0)
    full = rows["dataset"].map(lambda name: FULL_CLASSES.get(original(str(name)), 0))
    return asked.where(asked != full, 0.0).astype(float)


def class_sizes(row: Table, classes: int) -> Array | None:
    """Training samples of every class of a run, largest first; None where the row does not say.

    Args:
        row: of `measured_rows`. Its column class_counts has them; without it they are the exponential profile that its
            n_max and ratio ask for, of a whole class of CIFAR where n_max is 0.
        classes: how many there are.
    """
    if isinstance(row.get("class_counts"), str):
        return -np.sort(-np.array(row["class_counts"].split(), dtype=np.float64))
    largest = int(row["n_max"] or FULL_CLASSES.get(original(str(row["dataset"])), 0))
    if not largest or row["imbalance_type"] != "exponential":
        return None
    return counts.exponential_counts(largest, classes, float(row["imbalance_ratio"])).astype(np.float64)


def recall_columns(rows: Table, prefix: str = "recall_") -> list[str]:
    """Names of the columns recall_0, recall_1, ... in the order of the labels; means over groups are left out.

    Args:
        rows: of `measured_rows`.
        prefix: what stands before the label.
    """
    labels = [name.removeprefix(prefix) for name in rows.columns if name.startswith(prefix)]
    return [f"{prefix}{label}" for label in sorted((text for text in labels if text.isdigit()), key=int)]


def recalls_by_count(rows: Table, prefix: str = "recall_") -> Array:
    """Recalls of the classes from the most frequent to the rarest, `(rows, classes)`.

    The order is that of the column class_counts, classes of equal size by label. A row without it has its classes in
    the order of their labels, as the draw without another order leaves them.

    Args:
        rows: of `measured_rows`.
        prefix: of the columns.

    Returns:
        NaN fills rows with fewer classes than others.
    """
    values = np.array(rows[recall_columns(rows.dropna(axis=1, how="all"), prefix)], dtype=np.float64)
    texts = rows["class_counts"] if "class_counts" in rows else [None] * len(rows)
    for line, text in zip(values, texts, strict=True):
        if isinstance(text, str):
            order = np.argsort(-np.array(text.split(), dtype=np.int64), kind="stable")
            line[: len(order)] = line[order]
    return values


def with_worlds(rows: Table) -> Table:
    """The rows with columns "world", such as "cifar10-jpeg, resnet32, ratio 100", and "error" in percent.

    A world of a reduced size says so: "..., 250 in the largest class".

    Args:
        rows: from `measured_rows`.
    """
    parts = zip(rows["dataset"], rows["model"], rows["imbalance_ratio"], rows["n_max"], strict=True)
    worlds = [
        f"{dataset}{f', {model}' if isinstance(model, str) else ''}, ratio {float(ratio):g}{size_in_words(size)}"
        for dataset, model, ratio, size in parts
    ]
    # One new frame: with a hundred classes, further columns one by one would be slow.
    error = 100 * (1 - rows["accuracy_last"].astype(float))
    return rows.copy().assign(world=worlds, error=error)


def size_in_words(n_max: float) -> str:
    """What a label adds for a reduced size; empty for 0.

    Example:
        >>> size_in_words(250), size_in_words(0)
        (', 250 in the largest class', '')
    """
    return f", {n_max:g} in the largest class" if n_max else ""


def shared_seeds(rows: Table, others: Table, *, any_format: bool = False) -> list[Any]:
    """Seeds that two sets of rows have in one number format, in their order; what is not known differs from nothing.

    Args:
        rows: of one configuration.
        others: of another one.
        any_format: also the seeds of which the two runs differ in the number format.
    """
    one, other = (
        dict(zip(side["seed"], side["number_format"] if "number_format" in side else [None] * len(side), strict=True))
        for side in (rows, others)
    )
    formats = {
        seed: {name for name in (one[seed], other[seed]) if isinstance(name, str)} for seed in one if seed in other
    }
    return [seed for seed in sorted(formats) if any_format or len(formats[seed]) < 2]


def differences_by_seed(rows: Table, others: Table, column: str = "error", *, any_format: bool = False) -> Table:
    """A column of some rows minus that of others, by seed, for the seeds that both have, in their order.

    Args:
        rows: of one configuration.
        others: of another one.
        column: what is compared.
        any_format: as in `shared_seeds`; what comes of it is described, never judged.

    Raises:
        ValueError: a seed occurs twice (then the rows are of more than one configuration).
    """
    sides = []
    for name, side in (("rows", rows), ("others", others)):
        if side["seed"].duplicated().any():
            raise ValueError(f"`{name}` must hold every seed once, got {side['method'].iloc[0]!r} with one twice.")
        sides.append(side.set_index("seed")[column].astype(float))
    differences = (sides[0] - sides[1]).dropna().sort_index()
    return differences[differences.index.isin(shared_seeds(rows, others, any_format=any_format))]


def paired_differences(table: Table, method: str, reference: str, column: str = "error") -> dict[str, Array]:
    """Values of `reference` minus those of `method`, by world, for the seeds that both have there in one number format.

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
        difference = differences_by_seed(rows[rows.method == reference], rows[rows.method == method], column)
        if len(difference) >= MINIMUM_PAIRS:
            found[str(world)] = difference.to_numpy(dtype=np.float64)
    return found


def lacking(first: str, second: str, where: str, pairs: int = 0, mixed: int = 0) -> Judgement:
    """The judgement that too few pairs have been measured.

    Args:
        first: a method.
        second: what it would be compared with.
        where: setting, for the reader.
        pairs: how many pairs there are.
        mixed: how many seeds there are besides whose two runs differ in the number format.

    Examples:
        >>> lacking("LDAM", "ERM", "at step", 1).why
        'needs 2 paired seeds of LDAM and ERM at step; there is 1'
        >>> lacking("LDAM", "ERM", "at step", mixed=2).why
        'needs 2 paired seeds of LDAM and ERM at step; there are none (number formats differ in 2)'
    """
    there = f"there {'is' if pairs == 1 else 'are'} {pairs or 'none'}"
    there += f" (number formats differ in {mixed})" if mixed else ""
    return Judgement("not judged", why=f"needs {MINIMUM_PAIRS} paired seeds of {first} and {second} {where}; {there}")


def number_of_pairs(table: Table, method: str, reference: str, *, any_format: bool = False) -> int:
    """Seeds that two methods share, see `shared_seeds`, in the world where they share most."""
    groups = table.groupby("world") if "world" in table else [("", table)]
    sides = [[rows[rows.method == name] for name in (method, reference)] for _, rows in groups]
    return max((len(shared_seeds(*pair, any_format=any_format)) for pair in sides), default=0)


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
