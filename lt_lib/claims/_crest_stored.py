"""Measured rows behind the claims on FixMatch and CReST at the profiles that train for hours.

Two tables under `results/`: rows of runs with the accuracy and the recalls of the last generation, and, where there is
one, a table `*-generations.csv` with one row per run, generation and class, as `910_run_semi` writes them.
"""

import os
from dataclasses import fields
from typing import Any

import numpy as np

from lt_lib.claims import crest_tables
from lt_lib.claims._crest_runs import ARMS, FIXMATCH, Arm, Array, Measured, schedule_deviation
from lt_lib.claims._tables import results_folder
from lt_lib.claims.measured import measured_rows, recall_columns

# A pandas table. Its stubs cannot follow rows picked by a mask, so it is not checked further.
Table = Any
ALPHA = 1 / 3
MAIN = "crest (5000, 10 %)"
_WORLD = ["dataset", "model", "protocol", "imbalance_ratio"]


def stored_runs(profile: str, folder: str | os.PathLike[str] = "") -> Measured:
    """The arms that have rows, with the seeds that all of them have; no arm where there is no row.

    Of the settings of the published table, CIFAR-10 at ratio 100 with 10 % labels is taken where it was run.

    Diagnostics that the tables do not hold are NaN. Class counts are the ideal profile, of which the rules use the
    order.

    Args:
        profile: "small" or "paper".
        folder: of the tables; `results/` of the source tree if empty.

    Raises:
        ValueError: rows of several data sets, networks, protocols or ratios, or one run twice.
    """
    from lt_lib.training import crest

    rows = measured_rows(profile, folder)
    rows = rows[rows.method.isin([*ARMS, FIXMATCH]) & rows.get("protocol", rows.method.map(lambda _: np.nan)).notna()]
    ratio, classes = 100.0, 10
    arms: dict[str, Arm] = {}
    main = rows.dataset.astype(str).str.fullmatch("cifar10(-.*)?") & (rows.imbalance_ratio == ratio)
    main &= rows.protocol == MAIN if len(rows) else False
    rows = rows[main] if main.any() else rows
    if len(rows):
        _only_one(rows)
        ratio, recall = float(rows.imbalance_ratio.iloc[0]), recall_columns(rows.dropna(axis=1, how="all"))
        classes = len(recall)
        tables = dict(tuple(rows.groupby("method")))
        seeds = sorted(set.intersection(*(set(table.seed) for table in tables.values())))
        details = generation_table(profile, folder, of=rows.iloc[0])
        for name, table in tables.items():
            last = table.set_index("seed").loc[seeds, recall].to_numpy(dtype=np.float64)
            arms[str(name)] = _with_details(details[details.method == name], seeds, last)
    ideal = crest.exponential_profile(classes, ratio)
    return Measured(
        arms=arms,
        class_counts=np.asarray(ideal, dtype=np.float64),
        pool_counts=np.full(classes, np.nan),
        rates=crest.inclusion_rates(ideal, ALPHA),
        schedule=schedule_deviation(crest.alignment_temperature),
        cells=crest_tables.measure_table(profile, np.random.default_rng(0)),
        teachers=crest_tables.measure_teachers(),
        reduced=profile == "small",
    )


def generation_table(profile: str, folder: str | os.PathLike[str] = "", *, of: Table) -> Table:
    """All tables `*-generations.csv` of a profile: method, seed, generation, class and the diagnostics; may be empty.

    Args:
        profile: "small" or "paper".
        folder: of the tables; `results/` of the source tree if empty.
        of: a row of a run; only generations of its data set, network, protocol and ratio are kept.

    Raises:
        ValueError: a table that does not say of which data set, network, protocol or ratio it is.
    """
    import pandas as pd

    tables = []
    for path in sorted(results_folder(folder).glob("*-generations.csv")):
        table = pd.read_csv(path)
        lacks = [name for name in _WORLD if name not in table]
        if lacks:
            raise ValueError(
                f"`folder` must hold generations with the columns {_WORLD}, got {path.name} without {lacks}."
            )
        same = table["profile"] == profile
        for name in _WORLD:
            same &= table[name] == of[name]
        tables.append(table[same])
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["method", "seed"])


def _only_one(rows: Table) -> None:
    for name in _WORLD:
        if rows[name].nunique() > 1:
            raise ValueError(f"`folder` must hold rows of one {name}, got {sorted(map(str, rows[name].unique()))}.")
    twice = rows[rows.duplicated(["method", "seed"])]
    if len(twice):
        raise ValueError(f"`folder` must hold every run once, got {twice.method.iloc[0]} with one seed twice.")


def _with_details(table: Table, seeds: list[int], last: Array) -> Arm:
    """An arm from its rows by generation, or from the recalls of the last generation alone."""
    by_class = [each.name for each in fields(Arm)]
    parts = [table[table.seed == seed] for seed in seeds]
    whole = bool(parts) and all(len(part) and len(part) == len(parts[0]) for part in parts)
    shape = (
        (len(seeds), len(parts[0]) // last.shape[1], last.shape[1]) if whole else (*last.shape[:1], 1, last.shape[1])
    )
    missing = np.full(shape, np.nan)
    values = dict.fromkeys(by_class, missing)
    for name in ("mask_rate_all", "kl_to_prior", "training_size"):
        values[name] = missing[..., 0]
    if whole:
        parts = [part.sort_values(["generation", "class"]) for part in parts]
        stored = {"predicted_counts": "predicted_count", "selected_counts": "selected_count"}
        for name in by_class:
            column = stored.get(name, name)
            if column in table and values[name].ndim == 3:
                values[name] = np.stack([part[column].to_numpy(dtype=np.float64) for part in parts]).reshape(shape)
        if not np.allclose(values["test_recall"][:, -1], last, atol=1e-6):
            raise ValueError("`folder` must hold rows and generations of the same runs, got other recalls.")
    else:
        values["test_recall"] = last[:, None, :]
    return Arm(**values)
