"""Measured cells beside the published ones and beside independent re-runs, orderings in paired seeds, and costs.

Which of our methods stands for which published one is said once, in `method_names.csv`. A cell is judged only where
data and protocol are the paper's: not on JPEG copies of a data set, not at reduced length, and not for a control that
is longer than the published run, where the difference is given and nothing else. Orderings are judged wherever two
seeds are paired of runs that differ in length as the printed ones do, and of equally long ones as a control. Where the
two runs of a seed differ in the number format, the difference is given and nothing is judged.
"""

import math
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from lt_lib.claims._tables import read_table
from lt_lib.claims.core import Judgement
from lt_lib.claims.measured import (
    COPY,
    FULL_CLASSES,
    MINIMUM_PAIRS,
    differences_by_seed,
    measured_rows,
    original,
    size_in_words,
)
from lt_lib.claims.published import published, published_tables
from lt_lib.claims.rules import positive_effect
from lt_lib.metrics import paired_interval

# A pandas table. Its stubs cannot follow rows picked by a mask, so it is not checked further.
Table = Any

MINIMUM_SEEDS = 3
PUBLISHED_EPOCHS = 200  # with labels, of every published run on CIFAR and SVHN
# What tells two cells of self-training apart, and how a label says it.
_POOL = {
    "base_method": "labels of {}",
    "pool_source": "pool {}",
    "pool_amount": "pool x {:g}",
    "pool_imbalance_ratio": "pool ratio {:g}",
    "relevance": "relevance {:g}",
    "outside": "outside {}",
    "omega": "omega {:g}",
}
_CELL = ("dataset", "profile", "model", "method", "imbalance_type", "imbalance_ratio", "n_max", "loss", "beta", "gamma",
         "protocol", "total_epochs", "pretrain_epochs", "student_epochs", *_POOL)  # fmt: skip
# Published metric -> what of a row it is compared with, as an error in percent.
_ERRORS = {
    "top1_error_percent": "accuracy_last",
    "accuracy_percent": "accuracy_last",
    "mean_error_percent": "accuracy_last",
    "error_positive_percent": "recall_1",
    "error_negative_percent": "recall_0",
}
_NAMES = {"error_positive_percent": "error on positives", "error_negative_percent": "error on negatives"}


@cache
def method_names() -> tuple[dict[str, str], ...]:
    """Which published method each of ours stands for: method, table, published_method, note; first choice first."""
    return tuple(read_table("method_names"))


def tolerance(imbalance_ratio: float) -> float:
    """Points by which a reproduced cell may differ from the printed one.

    Example:
        >>> tolerance(10), tolerance(100)
        (1.5, 2.0)
    """
    return 2.0 if imbalance_ratio >= 100 else 1.5


def compare(folder: str | os.PathLike[str] = "", *, datasets: Iterable[str] = (), profile: str = "") -> Table:
    """Every measured cell beside the published one and independent re-runs; errors in percent after the last epoch.

    Args:
        folder: where the measured tables are; `results/` of the source tree if empty.
        datasets: only rows of these, such as "cifar10-jpeg"; all if empty.
        profile: "small" or "paper"; both if empty.

    Returns:
        One row per cell and published metric: dataset, profile, model, method (with what else tells two cells apart),
        imbalance_type, imbalance_ratio, metric, seeds (how many), by_seed (their errors), ours (the mean), low and high
        (two-sided 95 % t interval over seeds, cut to 0 to 100, NaN for one seed), published, table (where it is
        printed), difference (ours - published), independent (smallest and largest error of re-runs by others and how
        many), verdict and why (reason where there is no verdict).
    """
    import pandas as pd

    rows = measured_rows(profile, folder)
    wanted = set(datasets)
    rows = rows[rows.dataset.isin(wanted)] if wanted else rows
    cells = [_compared(key, block) for key, block in _cells(rows)]
    columns = [*_COLUMNS]
    return pd.DataFrame([line for lines in cells for line in lines], columns=columns)


def orderings(folder: str | os.PathLike[str] = "", *, datasets: Iterable[str] = (), profile: str = "") -> Table:
    """Pairs of methods that one paper's tables order, and whether our paired seeds show the same order.

    Print adds what comes before the last model, pre-training or the labelling of a pool, to a run that stays as long as
    the one from scratch. So cells whose last models train equally long are paired, where lengths are recorded; and, as
    a stricter comparison than the printed one, such a cell with one from scratch of equally many epochs in all. Methods
    trained on labels alone for as long as with a pool are left out, and two methods from scratch that both are longer
    than the published runs. A pair of cells that a second table repeats counts once.

    Args:
        folder: as in `compare`.
        datasets: as in `compare`.
        profile: as in `compare`.

    Returns:
        One row per data set, profile, network, imbalance and pair: better and worse (in print), published (points
        between them), pairs, ours (mean difference in points, positive in the printed direction), low and high (two
        one-sided 95 % bounds), verdict, why, table (the name of the published file), and control: "equal length" for
        the stricter comparison, else empty.
    """
    import pandas as pd

    rows = measured_rows(profile, folder)
    wanted = set(datasets)
    rows = rows[rows.dataset.isin(wanted)] if wanted else rows
    world = ["dataset", "profile", "model", "imbalance_type", "imbalance_ratio"]
    groups: dict[tuple[Any, ...], list[tuple[Table, dict[str, Any]]]] = {}
    for key, block in _cells(rows):
        for cell in _published_cells(key):
            if cell["metric"] in ("error_positive_percent", "error_negative_percent"):
                continue
            groups.setdefault((*(key[name] for name in world), cell["file"]), []).append(
                (block, {"method": _label(key), "error": cell["error"], "key": key})
            )
    found = []
    for place, members in groups.items():
        members.sort(key=lambda member: member[1]["error"])
        for i, (block, better) in enumerate(members):
            for other, worse in members[i + 1 :]:
                gap = worse["error"] - better["error"]
                pairing = _pairing(better["key"], worse["key"])
                if gap > 0 and better["method"] != worse["method"] and pairing is not None:
                    line = _ordered(block, other)
                    found.append((*place[:-1], better["method"], worse["method"], gap, *line, place[-1], pairing))
    columns = ["better", "worse", "published", "pairs", "ours", "low", "high", "verdict", "why", "table", "control"]
    table = pd.DataFrame(found, columns=[*world, *columns])
    return table.drop_duplicates([*world, "better", "worse", "published", "control"], ignore_index=True)


def judged_order(better: Table, worse: Table) -> tuple[Table, Judgement]:
    """Paired differences of two cells in the claimed direction, and what they say.

    Args:
        better: rows of one cell, from `lt_lib.claims.measured.measured_rows`.
        worse: rows of another.

    Returns:
        Points by which `better` is more accurate after the last epoch, by seed, and their judgement. Where too few
        seeds are paired in one number format but enough in any, the differences are those, with their mean and bounds,
        and the verdict is "not judged" because "number formats differ".
    """
    differences, every = (
        100 * differences_by_seed(better, worse, "accuracy_last", any_format=mixed) for mixed in (False, True)
    )
    if len(differences) >= MINIMUM_PAIRS:
        return differences, positive_effect(differences)
    if len(every) >= MINIMUM_PAIRS:
        return every, replace(positive_effect(every), verdict="not judged", why="number formats differ")
    return every, Judgement("not judged", why=f"{len(every)} of {MINIMUM_PAIRS} pairs")


def row_orders(folder: str | os.PathLike[str] = "") -> Table:
    """For rows of the ledger that rest on an order of two methods: that order in print and in our paired seeds.

    The pair and the column of the published table that stand for a row are said in `row_orders.csv`. A row can need
    more than this one pair; its verdict is not made here.

    Args:
        folder: as in `compare`.

    Returns:
        One line per row and measured world, or one per row where nothing was measured: row, better, worse, setting
        (column of the published table), published (points between them), and of `orderings`, controls left out,
        dataset, profile, model, pairs, ours, low, high and verdict.
    """
    import pandas as pd

    measured = orderings(folder)
    names = ["dataset", "profile", "model", "pairs", "ours", "low", "high", "verdict"]
    found = []
    for entry in read_table("row_orders"):
        ratio = float(entry["imbalance_ratio"])
        gap = _printed_gap(entry, ratio)
        setting = f"{entry['dataset']}, {entry['imbalance_type'].replace('_', ' ')}, ratio {ratio:g}"
        known = [int(entry["row"]), entry["better"], entry["worse"], setting, gap]
        lines = measured[
            (measured.control == "")
            & (measured.dataset.map(original) == entry["dataset"])
            & (measured.imbalance_type == entry["imbalance_type"])
            & (measured.imbalance_ratio == ratio)
            & (measured.better.map(_method) == entry["better"])
            & (measured.worse.map(_method) == entry["worse"])
            & np.isclose(measured.published.astype(float), gap)
        ]
        found += [(*known, *line) for line in lines[names].itertuples(index=False)] or [(*known, *[None] * len(names))]
    return pd.DataFrame(found, columns=["row", "better", "worse", "setting", "published", *names])


def _printed_gap(entry: dict[str, str], ratio: float) -> float:
    """Points between the two methods of an entry, in the first file that prints both."""
    sides = []
    for method in (entry["worse"], entry["better"]):
        key: dict[str, Any] = dict.fromkeys(_CELL) | {"method": method, "imbalance_ratio": ratio}
        key |= {name: entry[name] for name in ("dataset", "imbalance_type")}
        # The cells of the grid are chosen by loss and beta; those of CReST by the protocol.
        key |= {"loss": "sigmoid" if "igmoid" in method else "softmax", "protocol": "crest (5000, 10 %)"}
        key |= {"beta": 0.9999} if method.startswith("CB") or method.endswith("DRW") else {}
        cells = [cell for cell in _published_cells(key) if _ERRORS[cell["metric"]] == "accuracy_last"]
        sides.append({cell["file"]: cell["error"] for cell in reversed(cells)})
    file = next(name for name in sides[0] if name in sides[1])
    return float(sides[0][file] - sides[1][file])


def _method(label: str) -> str:
    return label.split(", ")[0]


def costs(folder: str | os.PathLike[str] = "") -> Table:
    """What a measured run costs, by table, data set, profile, network and device.

    Args:
        folder: as in `compare`.

    Returns:
        Columns table, dataset, profile, model, device, runs, median and total (seconds of training; nothing else was
        counted out of it, so runs that shared a processor took longer).
    """
    import pandas as pd

    rows = measured_rows(folder=folder)
    keys = ["table", "dataset", "profile", "model", "device"]
    if rows.empty or not {"seconds", "device"} <= set(rows.columns):
        return pd.DataFrame(columns=[*keys, "runs", "median", "total"])
    grouped = rows.groupby(keys, dropna=False).seconds
    return grouped.agg(runs="size", median="median", total="sum").reset_index()


_COLUMNS = (
    "dataset", "profile", "model", "method", "imbalance_type", "imbalance_ratio", "metric", "seeds", "by_seed", "ours",
    "low", "high", "published", "table", "difference", "independent", "verdict", "why",
)  # fmt: skip


def _cells(rows: Table) -> list[tuple[dict[str, Any], Table]]:
    """Rows by cell: what is the same for all seeds, and the rows."""
    keys = [name for name in _CELL if name in rows.columns]
    found = []
    for values, block in rows.groupby(keys, dropna=False, sort=True):
        if block.seed.duplicated().any():
            described = ", ".join(str(value) for value in values if not _missing(value))
            raise ValueError(f"`folder` must hold every run once, got a seed twice in {described}.")
        found.append((dict.fromkeys(_CELL) | dict(zip(keys, values, strict=True)), block))
    return found


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _label(key: dict[str, Any]) -> str:
    """The method with what its name leaves out."""
    parts = [str(key["method"])]
    if not _missing(key["gamma"]):
        parts.append(f"gamma {key['gamma']:g}")
    if not _missing(key["beta"]) and parts[0].startswith("CB"):
        parts.append(f"beta {key['beta']:g}")
    if not _missing(key["total_epochs"]):
        parts.append(f"{key['total_epochs']:g} epochs in all")
    if key["pool_source"] != "none":
        parts += [text.format(key[name]) for name, text in _POOL.items() if not _missing(key[name])]
    # A protocol has its size in its name.
    size = size_in_words(key["n_max"] or 0) if _missing(key["protocol"]) else ""
    return ", ".join(parts) + size


def _same(value: Any, printed: Any) -> bool:
    """Whether a printed value, where there is one, is that of a cell."""
    if _missing(printed):
        return True
    if _missing(value):
        return False
    return value == printed if isinstance(printed, str) else math.isclose(float(value), float(printed))


@cache
def _all_published() -> Table:
    """All published cells, with the loss, beta and gamma of those whose table does not print them.

    The column "unlike" says what else a cell has that our method of the name it is compared with has not.
    """
    import pandas as pd

    cells = pd.concat([published(name).assign(file=name) for name in published_tables()], ignore_index=True)
    cells["unlike"] = ""
    settings = ("loss", "beta", "gamma", "unlike")
    for line in read_table("cell_settings"):
        fits = np.ones(len(cells), dtype=bool)
        for name, value in line.items():
            if value and name not in settings:
                fits &= cells[name] == (float(value) if name == "ratio" else value)
        for name in settings:
            if line[name]:
                cells.loc[fits, name] = float(line[name]) if name in ("beta", "gamma") else line[name]
    return cells


def _published_cells(key: dict[str, Any]) -> list[dict[str, Any]]:
    """Published cells of a measured cell, every table of the first choice to the last: table, metric, unlike, error."""
    found = []
    for name in method_names():
        if name["method"] != key["method"]:
            continue
        table = _all_published()
        table = table[(table.table == name["table"]) & (table.method == name["published_method"])]
        table = table[table.dataset == original(str(key["dataset"]))]
        for cell in table.to_dict("records"):
            if _fits(key, cell):
                error = 100 - cell["value"] if cell["metric"] == "accuracy_percent" else cell["value"]
                found.append(
                    {name: cell[name] for name in ("table", "file", "metric", "unlike")} | {"error": float(error)}
                )
    return found


def _fits(key: dict[str, Any], cell: dict[str, Any]) -> bool:
    if cell["metric"] not in _ERRORS or not math.isclose(float(cell["ratio"]), float(key["imbalance_ratio"])):
        return False
    # IMDB has one kind of imbalance, under another name in the paper; so have the natural ones.
    if cell["dataset"].startswith("cifar") and cell["imbalance_type"] not in (key["imbalance_type"], "balanced"):
        return False
    if not all(_same(key[name], cell[name]) for name in ("loss", "beta", "gamma")):
        return False
    if not _whole(key):
        return False
    return _missing(cell["setting"]) or str(cell["setting"]) in (_fraction(key), _pool(key), "ResNet-50")


def _whole(key: dict[str, Any]) -> bool:
    """Whether a cell is of a whole data set, as the published ones are; a protocol that is published has its size."""
    return not key["n_max"] or not _missing(key["protocol"])


def _pool(key: dict[str, Any]) -> str:
    """The setting of the published cells of self-training that a pool is, all of them of five times the labelled set.

    Empty for a pool of another size or weight, or with samples from outside, and where another method labels it.
    """
    published_at = {"pool_amount": 5.0, "relevance": 1.0, "omega": 1.0}
    if any(key[name] != value for name, value in published_at.items()):
        return ""
    own = _missing(key["base_method"]) or f"{key['base_method']} + pool" == key["method"]
    return f"rho_U={key['pool_imbalance_ratio']:g}" if own else ""


def _fraction(key: dict[str, Any]) -> str:
    """The setting of the published CReST cells that a protocol such as "crest (5000, 10 %)" is on CIFAR-10."""
    largest = FULL_CLASSES.get(original(str(key["dataset"])))
    if _missing(key["protocol"]) or not str(key["protocol"]).startswith(f"crest ({largest}, "):
        return ""
    return f"label_fraction={float(str(key['protocol']).split(', ')[1].split(' %')[0]) / 100:g}"


def _independent(key: dict[str, Any]) -> str:
    """Errors that others measured with the papers' network and recipe, smallest and largest; empty if none."""
    table = _all_published()
    table = table[(table.table == "independent") & (table.method == key["method"]) & table.setting.isna()]
    table = table[(table.dataset == original(str(key["dataset"]))) & (table.imbalance_type == key["imbalance_type"])]
    table = table[np.isclose(table.ratio, float(key["imbalance_ratio"]))]
    # Where somebody gives loss, beta or gamma, they must be ours.
    table = table[[all(_same(key[n], cell[n]) for n in ("loss", "beta", "gamma")) for cell in table.to_dict("records")]]
    if table.empty or not _missing(key["protocol"]) or not _whole(key):
        return ""
    low, high = table.value.min(), table.value.max()
    return f"{low:.1f} (1)" if len(table) == 1 else f"{low:.1f} to {high:.1f} ({len(table)})"


def _compared(key: dict[str, Any], block: Table) -> list[tuple[Any, ...]]:
    cells: dict[str, dict[str, Any]] = {}
    for cell in _published_cells(key):
        cells.setdefault(cell["metric"], cell)
    lines = []
    found: list[tuple[str, dict[str, Any] | None]] = [*cells.items()]
    for metric, beside in found or [("top1_error_percent", None)]:
        errors = 100 * (1 - block.sort_values("seed")[_ERRORS[metric]].to_numpy(dtype=np.float64))
        mean, low, high = paired_interval(errors, level=0.975) if len(errors) > 1 else (errors[0], np.nan, np.nan)
        low, high = np.clip((low, high), 0.0, 100.0)
        printed = beside["error"] if beside else float("nan")
        verdict, why = _cell_verdict(key, errors, printed, beside["unlike"] if beside else "")
        lines.append(
            (
                *(key[name] for name in ("dataset", "profile", "model")), _label(key), key["imbalance_type"],
                key["imbalance_ratio"], _NAMES.get(metric, "error"), len(errors), tuple(errors), mean, low, high,
                printed, beside["table"] if beside else "", mean - printed, _independent(key), verdict, why,
            )
        )  # fmt: skip
    return lines


def _longer(key: dict[str, Any]) -> bool:
    """Whether a cell is a control: on labels alone for as long as with a pool, or longer from scratch than in print."""
    method, epochs = str(key["method"]), key["total_epochs"]
    if method.endswith(" on labels alone"):
        return True
    return method.endswith(" from scratch") and not _missing(epochs) and float(epochs) > PUBLISHED_EPOCHS


def _pairing(first: dict[str, Any], second: dict[str, Any]) -> str | None:
    """How two cells are compared: "" as in print, "equal length" as a control; None if they are not."""
    if any(str(key["method"]).endswith(" on labels alone") for key in (first, second)):
        return None
    if _longer(first) and _longer(second):
        return None
    one, other = first["total_epochs"], second["total_epochs"]
    if _missing(one) or _missing(other):
        return "" if _missing(one) and _missing(other) else None
    lengths = [_last_model(key) for key in (first, second)]
    if lengths[0] == lengths[1]:
        return ""
    added = [length < float(key["total_epochs"]) for length, key in zip(lengths, (first, second), strict=True)]
    return "equal length" if float(one) == float(other) and added[0] != added[1] else None


def _last_model(key: dict[str, Any]) -> float:
    """Epochs of the model that is judged: all, less what came before it."""
    before, student = (
        0.0 if _missing(key[f"{k}_epochs"]) else float(key[f"{k}_epochs"]) for k in ("pretrain", "student")
    )
    return student or float(key["total_epochs"]) - before


def _cell_verdict(key: dict[str, Any], errors: Any, printed: float, unlike: str) -> tuple[str, str]:
    """Verdict on one cell, or the empty text and the reason why there is none."""
    if math.isnan(printed):
        return "", "nothing published"
    reasons = {
        "JPEG copy of the data": str(key["dataset"]).endswith(COPY),
        "pool of another source": not _missing(key["pool_source"]) and key["pool_source"] != "none",
        "reduced protocol": key["profile"] != "paper",
        "longer than the published run": key["profile"] == "paper" and _longer(key),
        f"{len(errors)} of {MINIMUM_SEEDS} seeds": len(errors) < MINIMUM_SEEDS,
        unlike: bool(unlike),
    }
    if any(reasons.values()):
        return "", ", ".join(reason for reason, so in reasons.items() if so)
    within = abs(float(errors.mean()) - printed) <= tolerance(float(key["imbalance_ratio"]))
    return "holds" if within else "refuted", ""


def _ordered(better: Table, worse: Table) -> tuple[Any, ...]:
    """Paired difference of two cells in the printed direction: pairs, mean, bounds, verdict, reason."""
    differences, outcome = judged_order(better, worse)
    return len(differences), outcome.statistic, outcome.low, outcome.high, outcome.verdict, outcome.why
