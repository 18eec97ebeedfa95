"""Trainings behind the claims on re-sampling and re-weighting: ten paired seeds each, quick profile only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from lt_lib.data import Dataset, Split
    from lt_lib.recipes import RunConfig

Array = np.ndarray
NUM_SEEDS = 10
# Balanced Bayes error 10, 20 and 5 %; the first is the default world.
WORLDS = ("gaussian", "gaussian:0.20", "gaussian:0.05")
# A third of the preset's length, which leaves the tail of plain training unfitted, and all of it, which does not.
EPOCHS, LONG_EPOCHS = 10, 30
# About as many updates as in the short run above, and five times as many.
FINE_EPOCHS = (12, 60)
METHODS: dict[str, dict[str, Any]] = {
    "ERM": {},
    "RS sqrt": {"sampling": "sqrt"},
    "RS": {"sampling": "inverse"},
    "RW": {"weighting": "inverse", "normalization": "weights"},
}
# Separation at which 100 classes with three clusters each in 32 dimensions have a balanced Bayes error of 10 %.
FINE_SEPARATION = 0.8346


@dataclass(frozen=True)
class Runs:
    """Trained models of one world, method by method.

    Attributes:
        class_counts: training samples per class, `(classes,)`.
        recall: method -> test recall, `(seeds, classes)`.
        train_recall: method -> recall on the training samples, `(seeds, classes)`; only where it was measured.
        predicted: method -> share of each class among the predictions on the balanced test set, `(seeds, classes)`.
    """

    class_counts: Array
    recall: dict[str, Array]
    train_recall: dict[str, Array] = field(default_factory=dict)
    predicted: dict[str, Array] = field(default_factory=dict)

    def error(self, method: str) -> Array:
        """Balanced test error in percent, `(seeds,)`."""
        return 100 * (1 - self.recall[method].mean(axis=1))

    def group_error(self, method: str, group: str, split: str = "test") -> Array:
        """Mean error in percent over a third of the classes, `(seeds,)`.

        Args:
            method: a key of `recall`.
            group: "head" (the most frequent third, rounded down) or "tail" (the rarest).
            split: "test" or "train".
        """
        third = len(self.class_counts) // 3
        order = np.argsort(-self.class_counts, kind="stable")
        classes = order[:third] if group == "head" else order[-third:]
        recall = self.recall if split == "test" else self.train_recall
        return 100 * (1 - recall[method][:, classes].mean(axis=1))

    def gap(self, method: str, group: str) -> Array:
        """Generalisation gap: test error minus training error of a third of the classes, in points, `(seeds,)`."""
        return self.group_error(method, group) - self.group_error(method, group, "train")

    def train_error(self, method: str) -> Array:
        """Balanced training error in percent, `(seeds,)`."""
        return 100 * (1 - self.train_recall[method].mean(axis=1))

    def excess(self, method: str, reference: str) -> Array:
        """Balanced test error of `method` minus that of `reference`, in points, `(seeds,)`."""
        return self.error(method) - self.error(reference)


@dataclass(frozen=True)
class Arm:
    """A training set of its own making, and how it is trained on."""

    split: Split
    config: RunConfig


def long_tailed_runs(
    methods: Mapping[str, Mapping[str, Any]], *, world: str = WORLDS[0], ratio: float = 100.0, epochs: int = EPOCHS
) -> Runs:
    """Train methods on a ten-class Gaussian world with 1,000 samples in its largest class.

    Args:
        methods: name -> fields that differ from plain training.
        world: one of `WORLDS`.
        ratio: imbalance ratio.
        epochs: passes over the training set.
    """
    from lt_lib.recipes import preset, run_many

    base = preset("gaussian-quick", dataset=world, imbalance_ratio=ratio, epochs=epochs, evaluate_every=epochs)
    configs = {
        name: [base.changed(**fields, seed=seed, split_seed=seed) for seed in range(NUM_SEEDS)]
        for name, fields in methods.items()
    }
    results = iter(run_many([config for group in configs.values() for config in group]))
    grouped = {name: [next(results) for _ in group] for name, group in configs.items()}
    first = next(iter(grouped.values()))[0]
    return Runs(
        np.asarray(first.class_counts),
        {name: np.stack([result.recall for result in group]) for name, group in grouped.items()},
        {name: np.asarray([result.train_recall for result in group]) for name, group in grouped.items()},
        {name: np.stack([_shares(result.confusion) for result in group]) for name, group in grouped.items()},
    )


def undersampled_runs() -> Runs:
    """The same world after random under-sampling to the ten samples of its rarest class, with as many updates."""
    # Two batches in an epoch of a hundred samples, twenty in one of the whole set.
    fields = {"imbalance_type": "balanced", "n_max": 10, "batch_size": 50}
    return long_tailed_runs({"US": fields}, epochs=10 * EPOCHS)


def smote_runs() -> Runs:
    """The long-tailed world filled up to balance by SMOTE, with as many updates as the other methods."""
    from lt_lib import samplers
    from lt_lib.data import Split, load
    from lt_lib.recipes import draw_subset, preset

    dataset = load("gaussian")
    arms = []
    for seed in range(NUM_SEEDS):
        config = preset("gaussian-quick", seed=seed, split_seed=seed, epochs=EPOCHS)
        rows = draw_subset(config, dataset).train
        filled = samplers.smote(dataset.train.inputs[rows], dataset.train.targets[rows], seed=seed)
        arms.append(Arm(Split(*filled), config))
    counts = np.bincount(dataset.train.targets[rows])
    return Runs(counts, {"SMOTE": train_arms(arms, dataset, epoch_size=int(counts.sum()))})


def fine_grained_runs(methods: Mapping[str, Mapping[str, Any]], *, epochs: int) -> Runs:
    """One hundred classes instead of ten, imbalance ratio 100, the rarest class with one sample.

    Args:
        methods: name -> fields that differ from plain training.
        epochs: passes over the training set.
    """
    from lt_lib import counts
    from lt_lib.data import Dataset, gaussian_world
    from lt_lib.recipes import preset

    world = gaussian_world(num_classes=100, separation=FINE_SEPARATION)
    class_counts = counts.exponential_counts(100, 100, 100.0)
    test = world.sample(25, np.random.default_rng([0, 2]))
    splits = [world.sample(class_counts, np.random.default_rng([0, 1, seed])) for seed in range(NUM_SEEDS)]
    dataset = Dataset("fine", splits[0], test, 100, tuple(str(label) for label in range(100)))
    arms = [
        Arm(split, preset("gaussian-quick", **fields, seed=seed, epochs=epochs))
        for fields in methods.values()
        for seed, split in enumerate(splits)
    ]
    recall = train_arms(arms, dataset, epoch_size=int(class_counts.sum()))
    return Runs(class_counts, dict(zip(methods, recall.reshape(len(methods), NUM_SEEDS, -1), strict=True)))


def subset_runs() -> Runs:
    """What a sample is worth: copies against fresh samples, prototypes against random and peripheral ones.

    "base" has half of the long-tailed counts, "copies" every sample of "base" twice, "fresh" as many samples as
    "copies" without repetition. "prototypes", "random" and "periphery" are ten samples per class out of three hundred:
    those nearest to ten k-means centres, any, and those farthest from the centres.
    """
    from lt_lib import counts
    from lt_lib.data import Split, load, long_tail_indices
    from lt_lib.recipes import preset

    dataset = load("gaussian")
    x, y = np.asarray(dataset.train.inputs), dataset.train.targets
    full = 2 * counts.exponential_counts(500, 10, 100.0)
    arms: dict[str, list[Arm]] = {}
    for seed in range(NUM_SEEDS):
        config = preset("gaussian-quick", seed=seed, epochs=10, batch_size=64)
        base = long_tail_indices(y, full // 2, seed=seed)
        rows = {"base": base, "copies": np.tile(base, 2), "fresh": long_tail_indices(y, full, seed=seed)}
        rows |= _chosen(x, y, np.random.default_rng([7, seed]))
        for name, picked in rows.items():
            arms.setdefault(name, []).append(Arm(Split(x[picked], y[picked]), config))
    recall: dict[str, Array] = {}
    for names, size in ((("base", "copies", "fresh"), int(full.sum())), (("prototypes", "random", "periphery"), 640)):
        values = train_arms([arm for name in names for arm in arms[name]], dataset, epoch_size=size)
        recall |= dict(zip(names, values.reshape(len(names), NUM_SEEDS, -1), strict=True))
    return Runs(full, recall)


def train_arms(arms: Sequence[Arm], dataset: Dataset, *, epoch_size: int) -> Array:
    """Train one model per arm, all with the same number of updates, and return the test recall `(arms, classes)`.

    Args:
        arms: training sets, of any sizes, with the same classes; their configurations share all but seeds, weighting
            and the numbers of the loss. Every arm is passed over in random order, so `sampling` must be "uniform".
        dataset: gives the test set and the number of classes.
        epoch_size: samples drawn per epoch, whatever the size of the set.

    Raises:
        ValueError: an arm asks for another sampling.
    """
    import torch

    from lt_lib import metrics, models, training
    from lt_lib.recipes import build
    from lt_lib.training.unequal import TrainingSet, fit_sets

    first = arms[0].config
    if any(arm.config.sampling != "uniform" for arm in arms):
        names = sorted({arm.config.sampling for arm in arms})
        raise ValueError(f'`sampling` must be "uniform" in every arm, got {names}.')
    losses: dict[Any, Any] = {}
    sets = []
    for arm in arms:
        class_counts = np.bincount(arm.split.targets, minlength=dataset.num_classes)
        # One loss for all seeds: neighbours that share it are computed in one call.
        key = (arm.config.changed(seed=0, split_seed=0), tuple(class_counts))
        if key not in losses:
            losses[key] = build.build_loss(arm.config, class_counts, "cpu")
        inputs, targets = torch.from_numpy(np.asarray(arm.split.inputs)).double(), torch.from_numpy(arm.split.targets)
        sets.append(TrainingSet(inputs, targets, losses[key], torch.Generator().manual_seed(arm.config.seed)))
    shape = tuple(sets[0].inputs.shape[1:])
    stack = models.StackedModel([build.build_model(arm.config, shape, dataset.num_classes) for arm in arms]).double()
    fit_sets(
        stack,
        sets,
        epoch_size=epoch_size,
        learning_rate_at=build.build_learning_rate(first),
        epochs=first.epochs,
        parameters=stack.parameter_groups(first.weight_decay),
        batch_size=first.batch_size,
        momentum=first.momentum,
    )
    logits = training.predict_stacked(stack, torch.from_numpy(np.asarray(dataset.test.inputs)).double())
    return np.stack(
        [metrics.per_class_recall(dataset.test.targets, row.argmax(dim=1), dataset.num_classes) for row in logits]
    )


def _chosen(x: Array, y: Array, rng: np.random.Generator, *, size: int = 10, candidates: int = 300) -> dict[str, Array]:
    """Three ways to pick `size` samples of each class from the same random candidates."""
    from sklearn.cluster import KMeans

    picked: dict[str, list[Array]] = {"prototypes": [], "random": [], "periphery": []}
    for label in range(int(y.max()) + 1):
        rows = rng.choice(np.flatnonzero(y == label), candidates, replace=False)
        distance = KMeans(size, n_init=1, random_state=int(rng.integers(2**31))).fit(x[rows]).transform(x[rows])
        picked["prototypes"].append(rows[distance.argmin(axis=0)])
        picked["random"].append(rows[:size])
        picked["periphery"].append(rows[np.argsort(-distance.min(axis=1))[:size]])
    return {name: np.concatenate(parts) for name, parts in picked.items()}


def _shares(confusion: Any) -> Array:
    matrix = np.asarray(confusion, dtype=np.float64)
    return matrix.sum(axis=0) / matrix.sum()
