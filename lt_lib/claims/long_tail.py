"""Where long tails come from, what collecting the tail costs, and why accuracy hides it: rows 1-4, 52, 62 and 103."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_lib import counts, metrics
from lt_lib._checks import check_fraction
from lt_lib.claims._tables import results_folder
from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.published import published
from lt_lib.claims.rules import at_least, at_most

Array = npt.NDArray[np.float64]
ZIPF_RANKS = (10, 1000)
POOL_CLASSES = 100
SAMPLES_WANTED = 10


def power_law_slope(rank: npt.ArrayLike, frequency: npt.ArrayLike) -> tuple[float, float]:
    r"""Exponent and factor of :math:`f(r) = A\,r^{a}` by least squares on logarithms, one point per rank.

    Args:
        rank: positive ranks, shape (points,).
        frequency: positive frequencies, shape (points,).

    Returns:
        :math:`a` and :math:`A`.

    Example:
        >>> a, factor = power_law_slope([1, 2, 4], [8.0, 4.0, 2.0])
        >>> round(a, 6), round(factor, 6)
        (-1.0, 8.0)
    """
    x, y = np.log(np.asarray(rank, dtype=float)), np.log(np.asarray(frequency, dtype=float))
    slope = np.mean((x - x.mean()) * (y - y.mean())) / x.var()
    return float(slope), float(np.exp(y.mean() - slope * x.mean()))


def concentration_curve(class_counts: npt.ArrayLike) -> tuple[Array, Array]:
    """Share of all samples held by the most frequent classes.

    Args:
        class_counts: non-negative, not all zero, shape (classes,).

    Returns:
        Share of the classes and share of the samples, both from 0 to 1, shape (classes + 1,).
    """
    sizes = np.sort(np.asarray(class_counts, dtype=np.float64))[::-1]
    share = np.concatenate([[0.0], np.cumsum(sizes) / sizes.sum()])
    return np.linspace(0, 1, len(share)), share


def top_share(class_counts: npt.ArrayLike, fraction: float = 0.2) -> float:
    """Share of the samples in the most frequent `fraction` of the classes, between classes by interpolation.

    Args:
        class_counts: shape (classes,).
        fraction: of the classes, in [0, 1].

    Example:
        >>> top_share([8, 1, 1, 0, 0])
        0.8
    """
    classes, samples = concentration_curve(class_counts)
    return float(np.interp(check_fraction(fraction, "fraction"), classes, samples))


def zipf_prior(num_classes: int, exponent: float = 1.0) -> Array:
    """Class probabilities proportional to rank to the power of minus `exponent`, shape (classes,)."""
    weights = np.arange(1, num_classes + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def draws_needed(probability: npt.ArrayLike, samples: int, rng: np.random.Generator, repetitions: int = 400) -> Array:
    """Mean number of random draws from a pool until a class has enough samples.

    The draws until the m-th success are m plus a negative binomial number of failures, so nothing is drawn one by one.

    Args:
        probability: share of each class in the pool, in (0, 1], shape (classes,).
        samples: m, samples wanted of the class, >= 1.
        rng: source of randomness.
        repetitions: simulated collections, >= 1.

    Returns:
        Mean over the repetitions, shape (classes,); its expectation is m / probability.
    """
    p = np.asarray(probability, dtype=np.float64)
    return samples + rng.negative_binomial(samples, p, size=(repetitions, *p.shape)).mean(axis=0)


def measure_ratios(_profile: str, _rng: np.random.Generator) -> dict[str, float]:
    """Published imbalance ratio of each large data set; a data set whose counts are not published here is absent."""
    table = published("cb_large").groupby("dataset")["ratio"].first()
    return {str(name): float(ratio) for name, ratio in table.items()}


def judge_balanced_benchmarks(ratios: dict[str, float]) -> Judgement:
    """Row 1: both benchmarks named by the slides must have a ratio below 2."""
    parts = [at_most(ratios["ilsvrc2012"], 2, name="ILSVRC ratio")]
    if "coco" in ratios:
        parts.append(at_most(ratios["coco"], 2, name="COCO ratio"))
    else:
        why = f"ILSVRC has ratio {ratios['ilsvrc2012']:g}, below 2; COCO needs its annotation counts"
        parts.append(Judgement("not judged", statistic=ratios["ilsvrc2012"], why=why))
    return worst(parts)


def judge_natural_tails(ratios: dict[str, float]) -> Judgement:
    """Row 52: the natural data sets must have a ratio of 100 or more."""
    return worst(
        at_least(ratios[f"inaturalist{year}"], 100, name=f"ratio of iNaturalist {year}") for year in (2018, 2017)
    )


def judge_causes(ratios: dict[str, float]) -> Judgement:
    """Row 103: the long-tail half is row 52; the causes are words that no measurement here reaches."""
    tails = judge_natural_tails(ratios)
    why = f"privacy and rarity as causes are words; the tail itself (row 52) {tails.verdict}"
    return tails if tails.verdict == "refuted" else Judgement("not judged", statistic=tails.statistic, why=why)


def measure_collection_cost(
    profile: str,
    rng: np.random.Generator,
    cost: Callable[[Array, int, np.random.Generator], Array] = draws_needed,
) -> dict[str, Any]:
    """Draws that fill each class of a Zipf pool, their slope against the class's share, and the published ratios.

    Args:
        profile: handed on; the simulation is the same at every profile.
        rng: source of randomness.
        cost: (probabilities, samples wanted, rng) -> draws per class. Replaced by a wrong law in tests.
    """
    prior = zipf_prior(POOL_CLASSES)
    draws = cost(prior, SAMPLES_WANTED, rng)
    slope, _ = power_law_slope(prior, draws)
    return {"prior": prior, "draws": draws, "slope": slope, "ratios": measure_ratios(profile, rng)}


def judge_collection_cost(measured: dict[str, Any]) -> Judgement:
    """Row 2: iNaturalist 2018 at ratio 100 or more, and draws proportional to one over the class's share."""
    cost = at_most(abs(measured["slope"] + 1), 0.05, name="distance of the cost slope from -1")
    rule = "cost slope within 0.05 of -1, and iNaturalist 2018 ratio >= 100"
    ratio = at_least(measured["ratios"]["inaturalist2018"], 100, name="iNaturalist 2018 ratio")
    return worst([cost, ratio], threshold="" if cost.verdict == "refuted" else rule)


def measure_zipf(_profile: str, _rng: np.random.Generator, folder: Path | None = None) -> dict[str, Any]:
    """Rank and frequency of the words of the IMDB reviews, and the slope over ranks 10 to 1,000.

    Args:
        folder: where `imdb-zipf.csv` lies; the source tree's `results/` if None. Without the file, the slope is NaN.
    """
    path = (folder or results_folder()) / "imdb-zipf.csv"
    if not path.is_file():
        return {"slope": float("nan")}
    rank, frequency = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 2), unpack=True)
    words = np.loadtxt(path, delimiter=",", skiprows=1, usecols=1, dtype=str, encoding="utf-8")
    low, high = ZIPF_RANKS
    window = (rank >= low) & (rank <= high)
    slope, factor = power_law_slope(rank[window], frequency[window])
    return {"rank": rank.astype(int), "word": words, "frequency": frequency, "slope": slope, "factor": factor}


def judge_zipf(measured: dict[str, Any]) -> Judgement:
    """Row 3: slope between -1.3 and -0.7."""
    slope = measured["slope"]
    if np.isnan(slope):
        return Judgement("not judged", why="results/imdb-zipf.csv is not there; python -m tools.zipf makes it")
    verdict = "holds" if -1.3 <= slope <= -0.7 else "refuted"
    return Judgement(verdict, slope, threshold="slope in [-1.3, -0.7] over ranks 10 to 1000")


def pareto_profiles() -> dict[str, Array]:
    """Class counts (or shares) of the profiles that row 4 looks at."""
    exponential = counts.exponential_counts
    return {
        "CIFAR-10-LT, ratio 100": exponential(5000, 10, 100).astype(np.float64),
        "CIFAR-100-LT, ratio 100": exponential(500, 100, 100).astype(np.float64),
        "CIFAR-100-LT, ratio 200": exponential(500, 100, 200).astype(np.float64),
        "Zipf, 100 classes": zipf_prior(100),
        "Zipf, 1,000 classes": zipf_prior(1000),
        "Zipf, 10,000 classes": zipf_prior(10_000),
    }


def measure_pareto(
    _profile: str, _rng: np.random.Generator, share: Callable[[Array], float] = top_share
) -> dict[str, float]:
    """Share of the samples in the most frequent fifth of the classes, by profile.

    Args:
        share: class counts -> share. Replaced by a wrong formula in tests.
    """
    return {name: share(profile) for name, profile in pareto_profiles().items()}


def judge_pareto(shares: dict[str, float]) -> Judgement:
    """Row 4: the profile that most tables use must put 80 % of its samples into 20 % of its classes."""
    return at_least(shares["CIFAR-10-LT, ratio 100"], 0.8, name="share of the top 20 % (CIFAR-10-LT, ratio 100)")


def measure_constant_classifier(
    _profile: str,
    _rng: np.random.Generator,
    score: Callable[[npt.ArrayLike, npt.ArrayLike, int], float] = metrics.balanced_accuracy,
) -> dict[str, float]:
    """A classifier that never says "rare", on 995 common and 5 rare samples.

    Args:
        score: balanced accuracy of (targets, predictions, classes). Replaced by a wrong formula in tests.
    """
    targets = np.repeat([0, 1], [995, 5])
    predictions = np.zeros_like(targets)
    return {
        "accuracy": float((targets == predictions).mean()),
        "balanced_error": 1 - score(targets, predictions, 2),
        "rare_recall": float(metrics.per_class_recall(targets, predictions, 2)[1]),
    }


def judge_constant_classifier(measured: dict[str, float]) -> Judgement:
    """Row 62: accuracy .995, balanced error .5, recall 0 on the rare class."""
    exact = {"accuracy": 0.995, "balanced_error": 0.5, "rare_recall": 0.0}
    passed = all(abs(measured[name] - value) < 1e-12 for name, value in exact.items())
    rule = "accuracy 0.995, rare recall 0, balanced error 0.5"
    return Judgement("holds" if passed else "refuted", measured["balanced_error"], threshold=rule)


_ALL = ("quick", "small", "paper")
CHECKS: tuple[Check, ...] = (
    Check(
        Claim(1, "S0 L21-40", "Q", "Standard benchmarks look balanced: ILSVRC and COCO", "both ratios below 2"),
        measure_ratios,
        judge_balanced_benchmarks,
        _ALL,
    ),
    Check(
        Claim(
            2,
            "S0 L45-57",
            "Q",
            "Natural data are long-tailed, and a sample costs more the rarer its class",
            "cost slope within 0.05 of -1, and iNaturalist 2018 ratio >= 100",
        ),
        measure_collection_cost,
        judge_collection_cost,
        _ALL,
    ),
    Check(
        Claim(3, "S0 L65", "E", "Words follow Zipf's law", "slope in [-1.3, -0.7] over ranks 10 to 1000"),
        measure_zipf,
        judge_zipf,
        _ALL,
    ),
    Check(
        Claim(4, "S0 L66", "E", "Long tails obey the Pareto principle: 80 % in the top 20 %", "share >= 0.8"),
        measure_pareto,
        judge_pareto,
        _ALL,
    ),
    Check(
        Claim(52, "S1 L16", "E", "Real data sets are often long-tailed", "iNaturalist ratios >= 100"),
        measure_ratios,
        judge_natural_tails,
        _ALL,
    ),
    Check(
        Claim(62, "S2 L28", "T", "99.5 % accuracy can hide that the rare class is never found", "exact"),
        measure_constant_classifier,
        judge_constant_classifier,
        _ALL,
    ),
    Check(
        Claim(103, "S3 L16-31", "Q", "Privacy, rarity and cost make large data sets long-tailed", "documentation"),
        measure_ratios,
        judge_causes,
        _ALL,
    ),
)
