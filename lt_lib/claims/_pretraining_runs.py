"""Trainings behind the claims on self-supervised pre-training: ten paired seeds each, quick profile only.

The world is the embedded digits with 120 images in the largest class. Which digit is rare is drawn anew for every
seed, and the classes are numbered by frequency, so that class 9 is the rarest whatever it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lt_lib.data import Dataset
    from lt_lib.recipes import RunConfig
    from lt_lib.training.pretraining import PretextTask

Array = np.ndarray
NUM_SEEDS = 10
N_MAX = 120
PRETRAIN_EPOCHS = EPOCHS = 20
RATIOS = (1.0, 10.0, 20.0)
TASKS = ("rotation", "jigsaw", "autoencoder", "simsiam")
# Names of the paper's base methods -> names in `lt_lib.recipes.METHODS`.
BASES = {"CE": "ERM", "RW": "RW", "LDAM": "LDAM", "DRW": "DRW"}
SCRATCH, CONTROL = "scratch", "scratch, equal length"
_STACK = 40  # members trained together


@dataclass(frozen=True)
class DigitWorld:
    """Ten draws of a long-tailed subset of the digits, one per seed.

    Attributes:
        ratio: imbalance ratio.
        class_counts: training images per class `(classes,)`, the same for all seeds.
        images: prepared training images of all seeds, one after the other `(seeds x samples, 1, 8, 8)`, float64.
        targets: class numbers by frequency `(seeds x samples,)`.
        rows: positions of the images of each seed `(seeds, samples)`.
        test: prepared test images, balanced.
        test_targets: their class numbers for each seed `(seeds, samples)`.
    """

    ratio: float
    class_counts: Array
    images: Tensor
    targets: Tensor
    rows: Tensor
    test: Tensor
    test_targets: Array


def base_config(base: str, ratio: float, epochs: int) -> RunConfig:
    """Configuration of a base method in this world."""
    from lt_lib.recipes import RunConfig, method_config

    plain = RunConfig(
        dataset="digits", n_max=N_MAX, imbalance_ratio=ratio, epochs=epochs, batch_size=64, learning_rate=0.05
    )
    return method_config(BASES[base], plain)


def digit_world(ratio: float, *, num_seeds: int = NUM_SEEDS, dataset: Dataset | None = None) -> DigitWorld:
    """Draw the training sets.

    Args:
        ratio: imbalance ratio, >= 1.
        num_seeds: draws.
        dataset: the digits, if the caller has them.
    """
    import torch

    from lt_lib import counts, data
    from lt_lib.recipes import Subset, build_problem

    dataset = dataset or data.load("digits")
    everything = np.arange(len(dataset.train.targets))
    whole = Subset(everything, everything[:0], np.bincount(dataset.train.targets), "")
    problem = build_problem(base_config("CE", ratio, 1).changed(device="cpu"), "cpu", dataset, whole)
    class_counts = counts.exponential_counts(N_MAX, dataset.num_classes, ratio)
    images, targets, tests = [], [], []
    for seed in range(num_seeds):
        rank = np.random.default_rng([110, seed]).permutation(dataset.num_classes)
        labels = rank[dataset.train.targets]
        picked = data.long_tail_indices(labels, class_counts, seed=seed)
        images.append(problem.train[torch.from_numpy(picked)])
        targets.append(torch.from_numpy(labels[picked]))
        tests.append(rank[dataset.test.targets])
    rows = torch.arange(num_seeds * int(class_counts.sum())).reshape(num_seeds, -1)
    return DigitWorld(
        ratio, class_counts, torch.cat(images), torch.cat(targets), rows, problem.test[0], np.stack(tests)
    )


@dataclass(frozen=True)
class Pretrained:
    """Networks after pre-training on one task, one per seed.

    Attributes:
        states: state dictionaries of the encoder with whatever stands behind it.
        prefix: in front of the encoder's names.
        score: how well each does the task on the test images `(seeds,)`.
        curve: mean score on the training batches by epoch `(epochs,)`.
    """

    states: list[dict[str, Tensor]]
    prefix: str
    score: Array
    curve: Array


def task_and_network(name: str, seed: int) -> tuple[PretextTask, nn.Module]:
    """A pretext task on 8x8 images and a fresh network for it."""
    from lt_lib import models
    from lt_lib.training import pretraining

    if name == "simsiam":
        task = pretraining.simsiam_task(pretraining.shift_and_noise, dim=32)
        return task, models.seeded(lambda: pretraining.SiameseNet(models.MLP(64, 10), 64, dim=32), seed)
    tasks = {
        "rotation": pretraining.rotation_task,
        "jigsaw": pretraining.jigsaw_task,
        "autoencoder": lambda: pretraining.autoencoder_task(64),
    }
    task = tasks[name]()
    return task, models.seeded(lambda: models.MLP(64, task.outputs), seed)


def pretrain_digits(world: DigitWorld, name: str, *, epochs: int = PRETRAIN_EPOCHS) -> Pretrained:
    """Pre-train one network per seed on the images of that seed's training set.

    Args:
        world: from `digit_world`.
        name: one of `TASKS`.
        epochs: passes over the images.
    """
    import torch

    from lt_lib import models, training
    from lt_lib.training import pretraining

    made = [task_and_network(name, seed) for seed in range(len(world.rows))]
    task = made[0][0]
    stack = models.StackedModel([network for _, network in made]).double()
    members = [
        pretraining.PretextMember(rows, torch.Generator().manual_seed(1000 + seed))
        for seed, rows in enumerate(world.rows)
    ]
    histories = pretraining.pretrain_stacked(
        stack,
        world.images,
        members,
        task,
        learning_rate_at=training.step_learning_rate(epochs, 0.05),
        epochs=epochs,
        parameters=stack.parameter_groups(2e-4),
        batch_size=64,
    )
    rng = torch.Generator().manual_seed(0)
    score = pretraining.pretext_score(stack, world.test, task, rng, members=len(members))
    curves = [history.accuracy["pretext"] for history in histories]
    return Pretrained(
        [stack.member(seed) for seed in range(len(members))],
        "encoder." if name == "simsiam" else "",
        score.numpy(),
        np.mean(curves, axis=0),
    )


@dataclass(frozen=True)
class Arm:
    """One way of training: a base method, what it starts from (None: random weights), and its epochs."""

    base: str
    start: Pretrained | None
    epochs: int = EPOCHS


def train_arms(world: DigitWorld, arms: Mapping[Any, Arm]) -> dict[Any, Array]:
    """Train every arm with every seed; test recall by frequency `(seeds, classes)` per arm.

    Args:
        world: from `digit_world`.
        arms: name -> what to train.
    """
    recall: dict[Any, list[Array]] = {name: [] for name in arms}
    groups: dict[tuple[int, bool], list[Any]] = {}
    for name, arm in arms.items():
        groups.setdefault((arm.epochs, arm.base == "LDAM"), []).append(name)
    for (epochs, _), names in groups.items():
        per_stack = max(_STACK // len(world.rows), 1)
        for first in range(0, len(names), per_stack):
            part = names[first : first + per_stack]
            for name, values in zip(part, _train_stack(world, [arms[name] for name in part], epochs), strict=True):
                recall[name] = list(values)
    return {name: np.stack(values) for name, values in recall.items()}


def _train_stack(world: DigitWorld, arms: Sequence[Arm], epochs: int) -> Array:
    import torch

    from lt_lib import metrics, models, training
    from lt_lib.recipes import build

    networks, members = [], []
    for arm in arms:
        config = base_config(arm.base, world.ratio, epochs)
        loss_at = build.build_loss(config, world.class_counts, "cpu")
        for seed, rows in enumerate(world.rows):
            networks.append(start_network(config.changed(seed=seed), arm.start, seed))
            members.append(training.Member(rows, loss_at, torch.Generator().manual_seed(seed)))
    stack = models.StackedModel(networks)
    training.fit_stacked(
        stack,
        world.images,
        world.targets,
        members,
        learning_rate_at=build.build_learning_rate(config),
        epochs=epochs,
        parameters=stack.parameter_groups(config.weight_decay),
        batch_size=config.batch_size,
        momentum=config.momentum,
        evaluate_every=epochs,
    )
    predicted = training.predict_stacked(stack, world.test).argmax(dim=2).numpy()
    num_classes = len(world.class_counts)
    truth = np.tile(world.test_targets, (len(arms), 1))
    rows_ = [metrics.per_class_recall(true, guess, num_classes) for true, guess in zip(truth, predicted, strict=True)]
    return np.stack(rows_).reshape(len(arms), len(world.rows), num_classes)


def start_network(config: RunConfig, start: Pretrained | None, seed: int) -> nn.Module:
    """A fresh float64 network of `config`, with all but its last layer from the pre-trained one of the same seed."""
    from lt_lib.recipes import build
    from lt_lib.training import pretraining

    network = build.build_model(config, (1, 8, 8), 10).double()
    if start is not None:
        pretraining.transfer(start.states[seed], network, prefix=start.prefix)
    return network
