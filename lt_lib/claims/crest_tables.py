"""What CReST fixes before anything is trained, and arithmetic on its table: rows 34, 38-41, 47 and 48."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_lib import counts
from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.published import published
from lt_lib.claims.rules import at_least, at_most
from lt_lib.data.protocols import labelled_counts

Array = npt.NDArray[np.float64]
Table = Any  # a pandas table; its stubs cannot follow labels with several levels
Rates = Callable[[npt.ArrayLike, float], Array]
Split = Callable[[npt.NDArray[np.int64], float], npt.NDArray[np.int64]]
ALPHAS = (0.0, 0.1, 1 / 3, 0.5, 1.0, 2.0, 5.0)
# CIFAR-10-LT and CIFAR-100-LT as the table has them: largest class, classes, ratio.
SETS = ((5000, 10, 50), (5000, 10, 100), (5000, 10, 200), (500, 100, 50), (500, 100, 100))
FRACTIONS = (0.1, 0.3)


def measure_split(_profile: str, _rng: np.random.Generator, *, split: Split = labelled_counts) -> list[dict[str, Any]]:
    """Labelled and unlabelled counts of every set and fraction of the table.

    Args:
        split: (class counts, fraction) -> labelled counts. Replaced by wrong ones in tests.
    """
    rows = []
    for n_max, num_classes, ratio in SETS:
        sizes = counts.exponential_counts(n_max, num_classes, ratio)
        for fraction in FRACTIONS:
            labelled = split(sizes, fraction)
            rows.append({"fraction": fraction, "labelled": labelled, "unlabelled": sizes - labelled})
    return rows


def judge_notation(rows: list[dict[str, Any]]) -> Judgement:
    """Row 34: counts fall with the class, and the labelled share is the fraction up to one sample per class."""
    excess = []
    for row in rows:
        total, labelled = row["labelled"].sum() + row["unlabelled"].sum(), row["labelled"].sum()
        # Rounding up adds less than one sample per class and takes none away.
        allowed = len(row["labelled"]) / total
        beyond = labelled / total - row["fraction"]
        excess.append(max(beyond - allowed, -beyond, 0.0))
    rising = sum(int((np.diff(row["labelled"]) > 0).any()) for row in rows)
    return worst(
        [
            at_most(rising, 0, name="sets whose labelled counts rise"),
            at_most(round(max(excess), 12), 0, name="labelled share beyond rounding, largest,"),
        ]
    )


def judge_both_imbalanced(rows: list[dict[str, Any]]) -> Judgement:
    """Row 41: each class has the same labelled share, up to one sample: both parts have the same imbalance."""
    largest = 0.0
    for row in rows:
        sizes = row["labelled"] + row["unlabelled"]
        largest = max(largest, float(np.abs(row["labelled"] - row["fraction"] * sizes).max()))
    return at_most(round(largest, 9), 1.0, name="samples by which a class misses its share, largest,")


def measure_rates(_profile: str, rng: np.random.Generator, *, rates: Rates | None = None) -> dict[str, Any]:
    """The formula against its definition read index by index, the size of what it keeps, and its two ends.

    Args:
        rng: draws numbers of pseudo-labels per class.
        rates: the formula; `lt_lib.training.crest.inclusion_rates` if None. Replaced by wrong ones in tests.

    Returns:
        "deviation": largest from the definition, and from the code's reciprocal flag on an ideal profile. "kept":
        (alphas, draws) sizes of the kept set, first column of alpha 0; "pool": (draws,) sizes of all pseudo-labels.
        "ends": deviations of the first and last rate at ten classes and ratio 100.
    """
    from lt_lib.training.crest import inclusion_rates

    rates = rates or inclusion_rates
    sizes = counts.exponential_counts(5000, 10, 100)
    ideal = np.array([1000, 100, 10, 1])
    apart = []
    for alpha in ALPHAS:
        # One-based as printed: class l looks at class L + 1 - l.
        naive = [(sizes[(10 + 1 - place) - 1] / sizes[0]) ** alpha for place in range(1, 11)]
        apart.append(np.abs(rates(sizes, alpha) - naive).max())
        if alpha > 0:
            flag = 1 / alpha
            code = 0.001 ** ((4 - np.arange(1, 5)) / 3 / flag)
            apart.append(np.abs(rates(ideal, alpha) - code).max())
    pseudo = rng.integers(1, 10_000, size=(50, 10))
    # The small addition undoes what the power rounds down; a rate of 1 must keep every sample.
    kept = np.stack([np.floor(pseudo * rates(sizes, alpha) + 1e-9).sum(axis=1) for alpha in ALPHAS])
    ends = [max(abs(rates(sizes, a)[-1] - 1), abs(rates(sizes, a)[0] - 0.01**a)) for a in ALPHAS]
    return {"deviation": float(max(apart)), "kept": kept, "pool": pseudo.sum(axis=1), "ends": float(max(ends))}


def judge_rates(measured: dict[str, Any]) -> Judgement:
    """Row 38: equal to the definition within rounding."""
    return at_most(round(measured["deviation"], 12), 1e-9, name="largest deviation from the definition")


def judge_size(measured: dict[str, Any]) -> Judgement:
    """Row 39: alpha 0 keeps the whole pool, and every larger alpha keeps less."""
    kept = measured["kept"]
    whole = at_most(float(np.abs(kept[0] - measured["pool"]).max()), 0, name="samples missing at alpha = 0")
    return worst([whole, at_most(float(np.diff(kept, axis=0).max()), -1, name="largest step of the size along alpha")])


def judge_ends(measured: dict[str, Any]) -> Judgement:
    """Row 40: the last rate is 1 and the first 0.01 to the power alpha, at each alpha."""
    return at_most(round(measured["ends"], 12), 1e-9, name="deviation of either end from 1 and 0.01^alpha")


def measure_table(_profile: str, _rng: np.random.Generator, *, load: Callable[[str], Table] = published) -> Table:
    """Published accuracies: rows methods, columns (dataset, label fraction, ratio).

    Args:
        load: where the table comes from. Replaced by altered tables in tests.
    """
    cells = load("crest").query("table == 'crest'").copy()
    cells["fraction"] = cells.setting.str.removeprefix("label_fraction=").astype(float)
    return cells.pivot(index="method", columns=["dataset", "fraction", "ratio"], values="value")


def measure_teachers(*, load: Callable[[str], Table] = published) -> Array:
    """Gain in points of FixMatch over the labels alone, one per setting in which others measured both.

    Args:
        load: where the cells come from. Replaced by altered ones in tests.
    """
    cells = load("independent")
    where = ["source", "dataset", "ratio", "setting"]
    cells = cells[cells.method.isin(["supervised", "fixmatch"]) & cells.setting.notna()]
    both = cells.pivot(index=where, columns="method", values="value").dropna()
    return (both["supervised"] - both["fixmatch"]).to_numpy(dtype=np.float64)


def judge_monotone(table: Table) -> Judgement:
    """Row 47: in every comparable pair of cells the accuracy falls with the ratio and rises with the fraction."""
    right, pairs = 0, 0
    cells = {column: table[column] for column in table.columns}
    for (name, fraction, ratio), here in cells.items():
        for (other, share, more), there in cells.items():
            if name != other or (share == fraction) == (more == ratio) or share < fraction or more < ratio:
                continue
            falls = here - there if more > ratio else there - here
            right += int((falls > 0).sum())
            pairs += len(falls)
    return at_least(right / pairs, 1.0, name=f"share of {pairs} comparable pairs in the claimed order")


def judge_best_gain(table: Table) -> Judgement:
    """Row 48: the largest gains over FixMatch are 9.6 and 11.8 points, both on CIFAR-10 at ratio 100, 10 % labels."""
    gains = {name: (table.loc[name] - table.loc["FixMatch"]).round(6) for name in ("CReST", "CReST+")}
    named = sum(gain.idxmax() == ("cifar10", 0.1, 100) for gain in gains.values())
    apart = max(abs(gains[name].max() - value) for name, value in {"CReST": 9.6, "CReST+": 11.8}.items())
    return worst(
        [
            at_least(named, 2, name="methods of 2 with their largest gain in the named setting"),
            at_most(round(float(apart), 6), 0.05, name="deviation of either gain, half a printed unit allowed:"),
        ]
    )


def _check(row: int, source: str, kind: str, statement: str, rule: str, measure: Callable, judge: Callable) -> Check:
    return Check(Claim(row, source, kind, statement, rule), measure, judge, ("quick", "small", "paper"))


CHECKS: tuple[Check, ...] = (
    _check(
        34, "S0 L305-313", "D", "Classes are sorted by count, and the labelled share of all samples is one fraction.",
        "labelled counts never rise; share exact up to one sample per class", measure_split, judge_notation,
    ),
    _check(
        38, "S0 L336-338", "D", "Class l keeps the share (N_(L+1-l) / N_1)^alpha of its pseudo-labels.",
        "equal to the definition, and to the code's reciprocal flag", measure_rates, judge_rates,
    ),
    _check(
        39, "S0 L344", "T", "alpha >= 0 sets how much is kept: everything at 0, less and less above.",
        "exact at alpha 0; the kept set shrinks at every step", measure_rates, judge_size,
    ),
    _check(
        40, "S0 L346-350", "T",
        "With ten classes at ratio 100 the rarest class keeps all, the most frequent 0.01^alpha.",
        "exact", measure_rates, judge_ends,
    ),
    _check(
        41, "S0 L356", "D", "The labelled and the unlabelled part have the same imbalance.",
        "each class misses its share by at most one sample", measure_split, judge_both_imbalanced,
    ),
    _check(
        47, "S0 L362-366", "E", "Accuracy falls with the ratio and rises with the labelled fraction.",
        "in all comparable published cells", measure_table, judge_monotone,
    ),
    _check(
        48, "S0 L364-366", "E",
        "The largest gains over FixMatch, 9.6 and 11.8 points, are at ratio 100 with 10 % labels.",
        "published gains, half a printed unit allowed", measure_table, judge_best_gain,
    ),
)  # fmt: skip
