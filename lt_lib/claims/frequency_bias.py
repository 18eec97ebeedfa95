"""Frequency bias in predictions: rows 5, 65 and 66, and all checks of the notebook on it in row order."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lt_lib import counts
from lt_lib.claims import class_gradients, federated, long_tail
from lt_lib.claims._ranks import rank_correlation
from lt_lib.claims._worlds import NUM_SEEDS, RATIO, WORLDS, worlds_in_words
from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.measured import MINIMUM_PAIRS, measured_rows, recalls_by_count, with_worlds
from lt_lib.claims.rules import positive_effect

if TYPE_CHECKING:
    from torch import Tensor

    from lt_lib.data import GaussianWorld

Array = npt.NDArray[np.float64]
SEPARATIONS = (0.5629, 1.0, 2.0, 3.5)  # the first is the world with Bayes error 20 %


def measure_long_tail_training(
    profile: str,
    _rng: np.random.Generator,
    *,
    worlds: Iterable[str] = WORLDS,
    ratio: float = RATIO,
    num_seeds: int = NUM_SEEDS,
    epochs: int = 10,
    folder: Path | None = None,
) -> dict[str, dict[str, Array]]:
    """Recall per class, most frequent first, after plain training on a long tail, and the share of predictions.

    Args:
        profile: at "quick" the Gaussian worlds are trained, at the others the rows of `results/` are read.
        worlds: data sets of the quick profile.
        ratio: imbalance ratio.
        num_seeds: subset, order of the classes and initial weights all follow the seed.
        epochs: of the quick profile.
        folder: of the result tables; the source tree's `results/` if None.

    Returns:
        By data set, or world and length of measured rows: "counts" (classes,), "recall" (seeds, classes) and, if
        trained here, "predicted" (seeds, classes), the share of balanced test samples that is predicted as each class.
        Empty without rows.

    Raises:
        ValueError: a seed stands twice in one world.
    """
    if profile != "quick":
        return _recorded_recalls(profile, folder or "")
    from lt_lib import recipes

    measured = {}
    for world in worlds:
        base = recipes.preset("gaussian-quick", dataset=world, imbalance_ratio=ratio, epochs=epochs)
        base = base.changed(permute_classes=True, evaluate_every=epochs)
        results = recipes.run_many([base.changed(seed=k, split_seed=k) for k in range(num_seeds)])
        orders = [np.argsort(-np.array(result.class_counts), kind="stable") for result in results]
        recall = [result.recall[order] for result, order in zip(results, orders, strict=True)]
        confusion = [np.array(result.confusion)[:, order] for result, order in zip(results, orders, strict=True)]
        measured[world] = {
            "counts": np.sort(results[0].class_counts)[::-1].astype(np.float64),
            "recall": np.stack(recall),
            "predicted": np.stack([matrix.sum(axis=0) / matrix.sum() for matrix in confusion]),
        }
    return measured


def _recorded_recalls(profile: str, folder: str | os.PathLike[str]) -> dict[str, dict[str, Array]]:
    """Plain training on the whole of CIFAR-10 at ratio 100 from the tables in a folder, by world and length."""
    rows = with_worlds(measured_rows(profile, folder))
    kept = (rows["method"] == "ERM") & rows["dataset"].astype(str).str.fullmatch("cifar10(-.*)?")
    kept &= (rows["imbalance_type"] == "exponential") & (rows["imbalance_ratio"] == RATIO) & (rows["n_max"] == 0)
    sizes = counts.exponential_counts(5000, 10, RATIO).astype(np.float64)
    lengths = [name for name in ("epochs", "total_epochs") if name in rows]
    measured = {}
    for (world, *epochs), group in rows[kept].groupby(["world", *lengths], dropna=False):
        # NaN where a table does not say.
        told = [f"{what} {number:g}" for what, number in zip(lengths, epochs, strict=True) if number == number]
        name = ", ".join([world, *told])
        if group["seed"].duplicated().any():
            raise ValueError(f"`folder` must hold every run once, got a seed of ERM twice in {name}.")
        measured[name] = {"counts": sizes, "recall": recalls_by_count(group)}
    return measured


def judge_recall(measured: dict[str, dict[str, Array]]) -> Judgement:
    """Row 5: in every world, recall follows the counts and the head beats the tail by 20 points.

    Worlds with fewer than `MINIMUM_PAIRS` seeds are left out.
    """
    seeds = max((len(part["recall"]) for part in measured.values()), default=0)
    if seeds < MINIMUM_PAIRS:
        why = f"needs {MINIMUM_PAIRS} measured seeds of ERM at ratio 100 on CIFAR-10, which 900_run makes; there "
        return Judgement("not judged", why=f"{why}{'is 1' if seeds == 1 else 'are none'}")
    parts = []
    for name, part in measured.items():
        if len(part["recall"]) < MINIMUM_PAIRS:
            continue
        ranks = [rank_correlation(part["counts"], row) for row in part["recall"]]
        gaps = 100 * (part["recall"][:, 0] - part["recall"][:, -1])
        parts.append(positive_effect(ranks, minimum=0.7, unit=f"(Spearman of count and recall, {name})"))
        parts.append(positive_effect(gaps, minimum=20, unit=f"points of recall (head - tail, {name})"))
    # Of all parts, two per world, the table shows the one that is nearest to failing.
    return worst(parts)


def judge_predictions(measured: dict[str, dict[str, Array]]) -> Judgement:
    """Row 65: the share of predictions on a balanced test set follows the training counts, in every world."""
    parts = [
        positive_effect([rank_correlation(part["counts"], row) for row in part["predicted"]], minimum=0.8)
        for part in measured.values()
    ]
    return worst(parts, threshold=f"Spearman > 0.8, one-sided 95% t, {worlds_in_words(measured)}")


def measure_separation(
    _profile: str,
    _rng: np.random.Generator,
    *,
    separations: tuple[float, ...] = SEPARATIONS,
    ratio: float = RATIO,
    num_seeds: int = NUM_SEEDS,
    epochs: int = 10,
) -> dict[str, Array]:
    """Balanced test error against the distance of the classes, for a long tail and for as many samples spread evenly.

    Args:
        separations: scales of one constellation of ten classes with three clusters each.
        ratio: of the long tail with 1,000 samples in its largest class.
        num_seeds: samples, order of the classes and initial weights follow the seed; paired between the profiles.
        epochs: of training.

    Returns:
        "separation" (points,); "long_tailed", "balanced" and "withheld": errors in percent (points, seeds), the last
        for the long tail with one cluster of the rarest class kept from the sample; "unseen" (seeds,): clusters without
        a member in the long-tailed sample, at the largest separation, where the nearest mean tells.
    """
    import torch

    from lt_lib import data, losses, models, training

    tail = counts.exponential_counts(1000, 10, ratio)
    even = np.full(10, tail.sum() // 10) + (np.arange(10) < tail.sum() % 10)
    splits: list[data.Split] = []
    tests: list[data.Split] = []
    members, unseen = [], []

    def loss(logits: "Tensor", targets: "Tensor") -> "Tensor":
        return losses.softmax_loss(logits, targets, reduction="none").mean(dim=-1)

    for separation in separations:
        world = data.gaussian_world(separation=separation)
        test = world.sample(200, np.random.default_rng([0, 2]))
        for seed in range(num_seeds):
            order = np.random.default_rng(seed).permutation(10)
            sources = ((world, tail), (world, even), (_without_one_cluster(world, order[-1]), tail))
            for source, profile in sources:
                members.append(
                    training.Member(
                        torch.arange(tail.sum()) + tail.sum() * len(splits),
                        lambda _epoch: loss,
                        torch.Generator().manual_seed(seed),
                    )
                )
                splits.append(source.sample(counts.permute_counts(profile, order), np.random.default_rng([seed, 1])))
                tests.append(test)
            unseen.append(_unseen_clusters(world.means, np.asarray(splits[-3].inputs)))
    networks = [models.seeded(lambda: models.MLP(32, 10), k // 3 % num_seeds) for k in range(len(splits))]
    stack = models.StackedModel(networks).double()
    training.fit_stacked(
        stack,
        torch.from_numpy(np.concatenate([split.inputs for split in splits])).double(),
        torch.from_numpy(np.concatenate([split.targets for split in splits])),
        members,
        learning_rate_at=training.step_learning_rate(epochs, 0.05),
        epochs=epochs,
        parameters=stack.parameter_groups(5e-4),
    )
    with torch.no_grad():
        inputs = torch.from_numpy(np.stack([np.asarray(test.inputs) for test in tests])).double()
        wrong = stack(inputs).argmax(dim=2).numpy() != np.stack([test.targets for test in tests])
    errors = 100 * wrong.mean(axis=1).reshape(len(separations), num_seeds, 3)
    return {
        "separation": np.array(separations),
        "long_tailed": errors[..., 0],
        "balanced": errors[..., 1],
        "withheld": errors[..., 2],
        "unseen": np.array(unseen[-num_seeds:]),
    }


def _without_one_cluster(world: "GaussianWorld", label: int) -> "GaussianWorld":
    """The world in which whatever a class would draw from its first cluster comes from its second one."""
    means = world.means.copy()
    means[label, 0] = means[label, 1]
    return replace(world, means=means)


def _unseen_clusters(means: Array, inputs: Array) -> int:
    """Number of clusters (classes, clusters, features) that are nearest to none of the inputs (samples, features)."""
    flat = means.reshape(-1, means.shape[-1])
    nearest = ((flat**2).sum(axis=1) - 2 * inputs @ flat.T).argmin(axis=1)
    return len(flat) - len(np.unique(nearest))


def judge_separation(measured: dict[str, Array]) -> Judgement:
    """Row 66: imbalance costs above 5 points at the smallest separation and below half a point at the largest."""
    price = measured["long_tailed"] - measured["balanced"]
    low, high = positive_effect(price[0], minimum=5), positive_effect(-price[-1], minimum=-0.5)
    # The statistic is the price itself, and not what it spares.
    high = replace(high, statistic=-high.statistic, low=-high.high, high=-high.low)
    rule = f"price of imbalance > 5 points at {measured['separation'][0]:g} and < 0.5 at {measured['separation'][-1]:g}"
    return worst([high, low], threshold=f"{rule}, one-sided 95% t")


_IN_WORLDS = "in each of three Gaussian worlds"
_OWN: tuple[Check, ...] = (
    Check(
        Claim(
            5,
            "S0 L74-99",
            "E",
            "Trained on 1,000 samples per head and 10 per tail class, a network recognises the tail badly",
            _IN_WORLDS,
        ),
        measure_long_tail_training,
        judge_recall,
        ("quick", "small", "paper"),
        recorded=True,
    ),
    Check(
        Claim(65, "S2 L44", "E", "Frequency bias: frequent classes are predicted too often", _IN_WORLDS),
        measure_long_tail_training,
        judge_predictions,
    ),
    Check(
        Claim(66, "S2 L46", "E", "With clearly separated classes imbalance does no harm", "price < 0.5 points"),
        measure_separation,
        judge_separation,
    ),
)
CHECKS: tuple[Check, ...] = tuple(
    sorted((*long_tail.CHECKS, *class_gradients.CHECKS, *federated.CHECKS, *_OWN), key=lambda check: check.claim.id)
)
