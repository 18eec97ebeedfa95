"""Checks of the claims about LDAM-DRW in practice (Cao et al., NeurIPS 2019), judged by notebook 060.

Two sources of evidence: arithmetic on the published tables, which are single runs, and paired trainings on Gaussian
worlds. A row that speaks of results in general needs both, see `rules.published_and_ours`: what the published cells
show and our worlds do not is inconclusive, for one world of small networks cannot overturn a published table.

At the other profiles the rows of measured runs on CIFAR and IMDB take the place of the Gaussian worlds, and the same
rules judge them. A row about every column of the table needs rows of both imbalance types.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lt_lib.claims._agreement import agreed
from lt_lib.claims._ldam_practice_runs import (
    FRACTIONS,
    METHODS,
    NUM_SEEDS,
    TYPES,
    Measurements,
    Table,
    chosen_margins,
    image_rows,
    measure_published,
    measure_reviews,
    measure_runs,
    plan,
    selection,
    stored_reviews,
    stored_runs,
    values_of,
    world_config,
)
from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.measured import (
    MINIMUM_PAIRS,
    differences_by_seed,
    lacking,
    number_of_pairs,
    paired_differences,
    together,
)
from lt_lib.claims.rules import at_least, at_most, positive_effect, published_and_ours
from lt_lib.metrics import paired_interval

__all__ = [
    "CHECKS",
    "FRACTIONS",
    "METHODS",
    "NUM_SEEDS",
    "TYPES",
    "chosen_margins",
    "error_table",
    "gain",
    "image_rows",
    "measure_published",
    "measure_reviews",
    "measure_runs",
    "paired_order",
    "plan",
    "quoted_cells",
    "reviews_table",
    "selection",
    "stored_reviews",
    "stored_runs",
    "values_of",
    "world_config",
]

_BALANCED = ("CB-RS", "CB-RW", "CB-Focal")
_INAT_ORDER = ("ERM-SGD", "CB Focal-SGD", "ERM-DRW", "LDAM-SGD", "LDAM-DRW")


def error_table(cells: Table) -> Table:
    """Published CIFAR errors as a matrix: rows methods as printed, columns (dataset, imbalance type, ratio)."""
    order = list(dict.fromkeys(cells.method))
    matrix = cells.pivot(index="method", columns=["dataset", "imbalance_type", "ratio"], values="value").loc[order]
    return matrix.sort_index(axis=1, ascending=[True, True, False])


def reviews_table(cells: Table) -> Table:
    """Published IMDB errors: rows methods, columns positive, negative, mean."""
    order = list(dict.fromkeys(cells.method))
    matrix = cells.pivot(index="method", columns="metric", values="value").loc[order]
    names = ["error_positive_percent", "error_negative_percent", "mean_error_percent"]
    return matrix[names].set_axis(["positive", "negative", "mean"], axis=1)


def quoted_cells(measured: Measurements) -> Table:
    """Where each long-tailed cell of the LDAM table is found in the grid of Cui et al.

    Returns:
        Columns method, dataset, ratio, printed, found ("softmax", "focal 1, beta 0.999", ...; several are joined by
        "; ", none is empty). Only methods that can have been copied are looked up.
    """
    import pandas as pd

    wanted = {"ERM": ("softmax", False), "Focal": ("focal", False), "CB-RW": ("softmax", True), "CB-Focal": ("", True)}
    rows = []
    for cell in measured["cifar"].query("imbalance_type == 'exponential'").itertuples():
        if cell.method not in wanted:
            continue
        loss, weighted = wanted[cell.method]
        grid = measured["grid"]
        grid = grid[(grid.dataset == cell.dataset) & (grid.ratio == cell.ratio) & (grid.beta.notna() == weighted)]
        hits = grid[np.isclose(grid.value, cell.value) & grid.loss.str.startswith(loss)]
        names = [
            row.loss + ("" if np.isnan(row.gamma) else f" {row.gamma:g}") + (f", beta {row.beta:g}" if weighted else "")
            for row in hits.itertuples()
        ]
        rows.append((cell.method, cell.dataset, cell.ratio, cell.value, "; ".join(names)))
    return pd.DataFrame(rows, columns=["method", "dataset", "ratio", "printed", "found"])


def gain(runs: Table, method: str, reference: str, imbalance_type: str, column: str = "error") -> np.ndarray:
    """Error of `reference` minus that of `method` in points, by seed: positive if `method` is better."""
    pick = {"column": column, "imbalance_type": imbalance_type}
    return values_of(runs, reference, **pick) - values_of(runs, method, **pick)


def _of_kind(measured: Measurements, kind: str) -> Table:
    return measured["runs"][measured["runs"].imbalance_type == kind]


def _gain_by_world(
    measured: Measurements, method: str, reference: str, kind: str, column: str = "error"
) -> dict[str, np.ndarray]:
    """What `gain` gives, for every world of the rows; its name with a comma before it, empty at the quick profile."""
    found = paired_differences(_of_kind(measured, kind), method, reference, column)
    return {f", {world}" if world else "": difference for world, difference in found.items()}


def _lacking(measured: Measurements, method: str, reference: str, kind: str) -> Judgement:
    pairs, every = (
        number_of_pairs(_of_kind(measured, kind), method, reference, any_format=each) for each in (False, True)
    )
    return lacking(method, reference, f"under {kind} imbalance", pairs, every - pairs)


def _gains(
    measured: Measurements, method: str, references: Sequence[str], kinds: Sequence[str] = TYPES
) -> list[Judgement]:
    """One judgement per reference, imbalance type and world; one that says so where there are no pairs."""
    parts = []
    for reference in references:
        for kind in kinds:
            found = _gain_by_world(measured, method, reference, kind)
            parts += [
                positive_effect(difference, unit=f"points ({reference} - {method}, {kind}{world})")
                for world, difference in found.items()
            ]
            if not found:
                parts.append(_lacking(measured, method, reference, kind))
    return parts


def _against_uniform(measured: Measurements, parts: Sequence[Judgement]) -> list[Judgement]:
    """A uniform margin of stored rows is not tuned: a better one might win, so nothing holds against it."""
    if "world" not in measured["runs"]:
        return [*parts]
    note = "uniform margin not tuned"
    return [
        replace(part, verdict="inconclusive", threshold=f"{part.threshold}; {note}")
        if part.verdict == "holds"
        else part
        for part in parts
    ]


def paired_order(table: Table, methods: Sequence[str], column: str = "error") -> list[Judgement]:
    """Falling errors: one paired judgement per neighbouring pair of methods."""
    pairs = zip(methods[:-1], methods[1:], strict=True)
    return [
        positive_effect(values_of(table, a, column) - values_of(table, b, column), unit=f"points ({a} - {b})")
        for a, b in pairs
    ]


def _columns_below(measured: Measurements, method: str, others: Sequence[str], minimum: int, **where: str) -> Judgement:
    """In how many published columns `method` has a lower error than every one of `others`."""
    matrix = error_table(measured["cifar"].query("table == 'ldam_cifar'"))
    if "dataset" in where:
        matrix = matrix[where["dataset"]]
    below = int((matrix.loc[[*others]] > matrix.loc[method]).all().sum())
    names = " and ".join(others) if len(others) < 3 else "all others"
    return at_least(below, minimum, name=f"columns of {matrix.shape[1]} in which {method} is below {names}")


def _judge_minority(measured: Measurements) -> Judgement:
    parts = []
    for reference in ("ERM", "uniform margin"):
        minority, majority = (
            _gain_by_world(measured, "LDAM", reference, "step", column) for column in ("minority", "majority")
        )
        for world, difference in minority.items():
            cost, _, high = paired_interval(-majority[world])
            won = positive_effect(difference, unit=f"points of minority error ({reference} - LDAM{world})")
            parts.append(won if reference == "ERM" else _against_uniform(measured, [won])[0])
            name = f"majority points lost against {reference}{world}"
            parts.append(at_most(cost, 2.0, name=name, half_width=high - cost))
        if not minority:
            parts.append(_lacking(measured, "LDAM", reference, "step"))
    return together(parts)


def _judge_deferred(measured: Measurements) -> Judgement:
    """At the quick profile in four settings; with measured rows, in every world and imbalance type that has pairs."""
    stored = "world" in measured["runs"]
    kinds = [kind for kind in TYPES if len(_of_kind(measured, kind))] or [TYPES[0]]
    settings = [(kind, "") for kind in kinds]
    if not stored:
        settings += [("exponential", ", twice the rate"), ("step", ", twice the batch")]
    parts = {}
    for kind, suffix in settings:
        for world, won in _gain_by_world(measured, f"DRW{suffix}", f"CB RW{suffix}", kind).items():
            label = f"{kind}{suffix}{world}"
            parts[label] = positive_effect(won, unit=f"points (CB RW - DRW, {label})")
    common = agreed(parts) if parts else _lacking(measured, "DRW", "CB RW", kinds[0])
    return together([common, *_gains(measured, "DRW", ["ERM"], kinds)])


def _at_each_length(measured: Measurements, judge: Callable[[Table], Judgement]) -> Judgement:
    """The common verdict over lengths of training, each with the seeds that all of its methods have."""
    names, parts = ("ERM", "RS", "RW", "LDAM-DRW"), {}
    for epochs, table in measured["reviews"].groupby("epochs"):
        seeds = set.intersection(*(set(table.seed[table.method == name]) for name in names))
        if "number_format" in table:
            formats = table[table.method.isin(names)].groupby("seed").number_format.nunique()
            seeds -= {*formats.index[formats > 1]}
        if len(seeds) >= MINIMUM_PAIRS:
            parts[f"{epochs} epochs"] = judge(table[table.seed.isin(seeds)])
    return agreed(parts) if parts else lacking("ERM, RS, RW", "LDAM-DRW", "on IMDB")


def _judge_reviews_order(measured: Measurements) -> Judgement:
    names = ["ERM", "RS", "RW", "LDAM-DRW"]
    printed = reviews_table(measured["imdb"])["mean"].loc[names]

    def ours(table: Table) -> Judgement:
        means = [values_of(table, name, "mean").mean() for name in names]
        order = at_most(float(np.diff(means).max()), 0.0, name="largest rise along ERM, RS, RW, LDAM-DRW, points")
        return worst([*paired_order(table, ["ERM", "LDAM-DRW"], "mean"), order])

    published = at_most(float(printed.diff().max()), 0.0, name="largest rise along ERM, RS, RW, LDAM-DRW")
    return published_and_ours(published, _at_each_length(measured, ours))


def _judge_reviews_trade(measured: Measurements) -> Judgement:
    printed = reviews_table(measured["imdb"])
    moved = printed - printed.loc["ERM"]
    signs = int(((moved.positive > 0) & (moved.negative < 0)).sum())

    def ours(table: Table) -> Judgement:
        parts = []
        for name in ("RS", "RW", "LDAM-DRW"):
            saved = values_of(table, "ERM", "negative") - values_of(table, name, "negative")
            paid = values_of(table, name, "positive") - values_of(table, "ERM", "positive")
            parts += [positive_effect(saved, unit=f"points of negative error saved by {name}")]
            parts += [positive_effect(paid, unit=f"points of positive error paid by {name}")]
        return worst(parts)

    published = at_least(signs, len(printed) - 1, name="methods that trade")
    return published_and_ours(published, _at_each_length(measured, ours))


def _judge_reviews_mean(measured: Measurements) -> Judgement:
    printed = reviews_table(measured["imdb"])
    rest = (printed["mean"] - (printed.positive + printed.negative) / 2).abs().max()
    return at_most(round(float(rest), 6), 0.005, name="largest deviation, half a printed unit allowed:")


def _judge_best(measured: Measurements) -> Judgement:
    """LDAM-RW is in no printed table, so it is no rival; where it is better, the threshold says so.

    Where M-DRW is the best rival of stored rows, whose margin is not tuned, nothing holds against it. Nor does anything
    hold in a world where a method of the printed table was not run.
    """
    others = [name for name in METHODS if name not in ("LDAM-DRW", "LDAM-RW")]
    runs = measured["runs"]
    matrix = error_table(measured["cifar"].query("table == 'ldam_cifar'"))
    printed = [name for name in matrix.index if name != "LDAM-DRW" and not matrix.loc[name].isna().any()]
    published = [_columns_below(measured, "LDAM-DRW", names, least) for names, least in ((["ERM"], 8), (printed, 6))]
    # Print has CB-RS and CB-Focal where the recipes have CB RS and CB-focal.
    in_table = [name for name in others if name.replace(" ", "-").lower() in {each.lower() for each in printed}]
    parts = _gains(measured, "LDAM-DRW", ["ERM"])
    better = []
    for kind in TYPES:
        rows = _of_kind(measured, kind)
        for world, table in rows.groupby("world") if "world" in rows else [("", rows)]:
            errors = table[table.method.isin(others)].groupby("method").error.mean().sort_values()
            # The best rival that shares seeds; at the quick profile all do. In another number format it is no pair, but
            # a weaker rival does not take its place.
            rivals = [
                str(name)
                for name in errors.index
                if number_of_pairs(table, "LDAM-DRW", name, any_format=True) >= MINIMUM_PAIRS
            ]
            absent = [name for name in in_table if name not in errors.index]
            parts += [_lacking({"runs": table}, "LDAM-DRW", name, kind) for name in absent]
            if rivals:
                label = f"{kind}, {world}" if world else kind
                won = paired_differences(table, "LDAM-DRW", rivals[0])
                ahead = [positive_effect(d, unit=f"points ({rivals[0]} - LDAM-DRW, {label})") for d in won.values()]
                parts += _against_uniform(measured, ahead) if rivals[0] == "M-DRW" else ahead
                if not won:
                    parts.append(_lacking({"runs": table}, "LDAM-DRW", rivals[0], kind))
            beside = paired_differences(table, "LDAM-DRW", "LDAM-RW").values()
            if any(positive_effect(-difference).verdict == "holds" for difference in beside):
                better.append(kind)
    combined = published_and_ours(worst(published), together(parts))
    tried = (runs.method == "LDAM-RW").any()
    beaten = f"beats it ({', '.join(better)})" if better else "does not beat it" if tried else "was not run"
    return replace(combined, threshold=f"{combined.threshold}; LDAM-RW, not in the printed table, {beaten}")


def _judge_alone(measured: Measurements) -> Judgement:
    published = _columns_below(measured, "LDAM", ["ERM", "Focal"], 6)
    return published_and_ours(published, together(_gains(measured, "LDAM", ["ERM", "Focal"])))


def _judge_hard_columns(measured: Measurements) -> Judgement:
    matrix = error_table(measured["cifar"].query("table == 'ldam_cifar'"))
    hard = matrix[[("cifar10", "step", 100), ("cifar100", "exponential", 100), ("cifar100", "step", 100)]]
    share = float((hard.loc[[*_BALANCED]] > hard.loc["ERM"]).to_numpy().mean())
    parts = [part for name in ("CB RS", "CB RW", "CB-focal") for part in _gains(measured, "ERM", [name], ["step"])]
    return published_and_ours(at_least(share, 0.75, name="share of 9 cells above ERM"), together(parts))


def _judge_hinge(measured: Measurements) -> Judgement:
    published = _columns_below(measured, "LDAM-HG-DRS", ["HG-DRS"], 4, dataset="cifar10")
    return published_and_ours(published, together(_gains(measured, "LDAM-HG-DRS", ["HG-DRS"])))


def _judge_label_dependent(measured: Measurements) -> Judgement:
    published = _columns_below(measured, "LDAM-DRW", ["M-DRW"], 6)
    parts = _against_uniform(measured, _gains(measured, "LDAM-DRW", ["M-DRW"]))
    return published_and_ours(published, together(parts))


def _judge_step(measured: Measurements) -> Judgement:
    matrix = error_table(measured["cifar"].query("table == 'ldam_cifar'"))
    printed = (matrix.loc["ERM"] - matrix.loc["LDAM-DRW"])["cifar10"]
    more = printed[("step", 100)] - printed[("exponential", 100)]
    published = at_least(float(more), 0.01, name="points gained more at step")
    return published_and_ours(published, _more_at_step(measured))


def _more_at_step(measured: Measurements) -> Judgement:
    """By world, the gain at step less that at exponential imbalance, for the seeds that both types have."""
    import pandas as pd

    parts = []
    runs = measured["runs"]
    for world, table in runs.groupby("world") if "world" in runs else [("", runs)]:
        kinds = [table[table.imbalance_type == kind] for kind in TYPES]
        gains = [differences_by_seed(rows[rows.method == "ERM"], rows[rows.method == "LDAM-DRW"]) for rows in kinds]
        more = (gains[1] - gains[0]).dropna() if all(map(len, gains)) else pd.Series(dtype=float)
        if len(more) >= MINIMUM_PAIRS:
            parts.append(positive_effect(more, unit=f"points gained more at step{', ' if world else ''}{world}"))
    return worst(parts) if parts else lacking("LDAM-DRW", "ERM", "under both imbalance types")


def _judge_strange(measured: Measurements) -> Judgement:
    cells = measured["inat"].query("metric == 'top1_error_percent'").set_index("method").value
    printed = at_most(float(np.diff(cells.loc[[*_INAT_ORDER]]).max()), -0.01, name="largest step of the order")
    names = ["ERM", "CB-focal", "DRW", "LDAM", "LDAM-DRW"]
    parts = [
        part
        for before, after in zip(names[:-1], names[1:], strict=True)
        for part in _gains(measured, after, [before], ["exponential"])
    ]
    return published_and_ours(printed, together(parts))


def _check(row: int, source: str, kind: str, statement: str, rule: str, measure: Callable, judge: Callable) -> Check:
    return Check(
        Claim(row, source, kind, statement, rule), measure, judge, _ALL, recorded=measure is not measure_published
    )


_ALL = ("quick", "small", "paper")


CHECKS: tuple[Check, ...] = (
    _check(
        85, "S2 L178", "E",
        "A larger margin for minority classes lowers their error without sacrificing the frequent ones.",
        "LDAM against ERM and against a uniform margin chosen on validation, step: minority gain, majority loses at "
        "most 2 points",
        measure_runs, _judge_minority,
    ),
    _check(
        91, "S2 L208", "E", "Re-balancing deferred to a second stage beats re-balancing from the start.",
        "DRW gains over ERM, and over CB RW in each of four settings", measure_runs, _judge_deferred,
    ),
    _check(
        92, "S2 L212-216", "E", "IMDB: mean error falls in the order ERM, RS, RW, LDAM-DRW.",
        "order of the means, published and on two Gaussian classes at each length; LDAM-DRW gains over ERM",
        measure_reviews, _judge_reviews_order,
    ),
    _check(
        93, "S2 L213-216", "E",
        "IMDB: re-balancing lowers the error on the rare class and raises it on the frequent one.",
        "both signs for RS, RW and LDAM-DRW, published and on two Gaussian classes at each length",
        measure_reviews, _judge_reviews_trade,
    ),
    _check(
        94, "S2 L213-216", "D", "IMDB: the mean error is the average of the two columns.",
        "to half a printed unit", measure_published, _judge_reviews_mean,
    ),
    _check(
        95, "S2 L223-232", "E", "LDAM-DRW has the lowest error in all eight columns.",
        "the methods of the printed table. Published: below ERM in 8, below all in 6; ours: gain over ERM and over the "
        "best rival under both imbalance types. LDAM-RW, which that table lacks, is reported beside it",
        measure_runs, _judge_best,
    ),
    _check(
        96, "S2 L223-225", "E", "LDAM without re-balancing beats ERM and focal loss in all eight columns.",
        "published in 6; ours under both imbalance types", measure_runs, _judge_alone,
    ),
    _check(
        97, "S2 L226-228", "E", "Re-balancing from the start is worse than ERM where the task is hard.",
        "published: 75 % of 9 hard cells; ours: CB RS, CB RW and CB-focal at step", measure_runs, _judge_hard_columns,
    ),
    _check(
        98, "S2 L229-230", "E", "Label-dependent margins improve the hinge loss (HG-DRS).",
        "published in 4 of 4 columns; ours under both imbalance types", measure_runs, _judge_hinge,
    ),
    _check(
        99, "S2 L231-232", "E", "Label-dependent margins beat a uniform margin (M-DRW).",
        "published in 6 of 8 columns; ours under both imbalance types, where M-DRW's margin was chosen on validation",
        measure_runs, _judge_label_dependent,
    ),
    _check(
        100, "S2 L223, L231-232", "E", "LDAM-DRW gains more over ERM under step than under exponential imbalance.",
        "CIFAR-10 at ratio 100 published; ours paired by seed", measure_runs, _judge_step,
    ),
    _check(
        101, "S2 L236-243", "E", "Error falls in the order ERM, CB focal, DRW, LDAM, LDAM-DRW (iNaturalist 2018).",
        "published order; the same order with paired gains under exponential imbalance", measure_runs, _judge_strange,
    ),
)  # fmt: skip
