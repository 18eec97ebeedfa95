"""Trainings behind the claims on self-supervised pre-training: ten paired seeds each, quick profile only.

The world is the embedded digits with 120 images in the largest class. Which digit is rare is drawn anew for every
seed, and the classes are numbered by frequency, so that class 9 is the rarest whatever it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lt_lib.data import Dataset
    from lt_lib.recipes import RunConfig
    from lt_lib.training.pretraining import PretextTask

Array = np.ndarray
NUM_SEEDS = 10
CLASSES = 10
N_MAX = 120
PRETRAIN_EPOCHS = EPOCHS = 15
RATIOS = (1.0, 10.0, 20.0)
# Learning rate of each task: the best of 0.02, 0.05, 0.1 and 0.2 by the task's own score on test images, no label used.
TASKS = {"rotation": 0.1, "jigsaw": 0.05, "autoencoder": 0.2, "simsiam": 0.2}
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

    from lt_lib import counts

    train, test = prepared_digits(dataset)
    class_counts = counts.exponential_counts(N_MAX, CLASSES, ratio)
    images, targets, tests = [], [], []
    for seed in range(num_seeds):
        labels, picked = drawn_digits(train.targets, class_counts, seed)
        images.append(train.inputs[torch.from_numpy(picked)])
        targets.append(torch.from_numpy(labels[picked]))
        tests.append(class_ranks(seed)[test.targets])
    rows = torch.arange(num_seeds * int(class_counts.sum())).reshape(num_seeds, -1)
    return DigitWorld(ratio, class_counts, torch.cat(images), torch.cat(targets), rows, test.inputs, np.stack(tests))


class Prepared(NamedTuple):
    """Digits as the networks take them: standardised images `(samples, 1, 8, 8)`, float64, and the digit of each."""

    inputs: Tensor
    targets: Array


def prepared_digits(dataset: Dataset | None = None) -> tuple[Prepared, Prepared]:
    """All images for training, and those for testing.

    Args:
        dataset: the digits, if the caller has them.
    """
    from lt_lib import data
    from lt_lib.recipes import Subset, build_problem

    dataset = dataset or data.load("digits")
    everything = np.arange(len(dataset.train.targets))
    whole = Subset(everything, everything[:0], np.bincount(dataset.train.targets), "")
    problem = build_problem(base_config("CE", 1.0, 1).changed(device="cpu"), "cpu", dataset, whole)
    return Prepared(problem.train, dataset.train.targets), Prepared(problem.test[0], dataset.test.targets)


def class_ranks(seed: int) -> Array:
    """Rank by frequency of every digit in the draw of a seed, int64 `(classes,)`: 0 is the most frequent."""
    return np.random.default_rng([110, seed]).permutation(CLASSES)


def drawn_digits(digits: Array, class_counts: Array, seed: int) -> tuple[Array, Array]:
    """Class numbers of all images, by frequency, and positions of a long-tailed draw from them.

    Args:
        digits: the digit of every image `(samples,)`.
        class_counts: images wanted per class, most frequent first.
        seed: of the draw, and of which digit is rare.
    """
    from lt_lib import data

    labels = class_ranks(seed)[digits]
    return labels, data.long_tail_indices(labels, class_counts, seed=seed)


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
    network = models.seeded(lambda: models.MLP(64, task.outputs), seed)
    pretraining.start_decoder(task, network)
    return task, network


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
        learning_rate_at=training.step_learning_rate(epochs, TASKS[name]),
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


def probe_digits(world: DigitWorld, start: Pretrained | None, *, epochs: int = EPOCHS) -> Array:
    """Balanced test accuracy of a linear probe with class-balanced draws on frozen features, one per seed.

    Args:
        world: from `digit_world`.
        start: pre-trained networks; None for random weights.
        epochs: passes of the linear layer.
    """
    import torch

    from lt_lib import metrics
    from lt_lib.training import decoupling

    accuracy = []
    for seed, rows in enumerate(world.rows):
        network = start_network(base_config("CE", world.ratio, epochs).changed(seed=seed), start, seed)
        train = decoupling.FeatureSet(decoupling.extract_features(network, world.images[rows]), world.targets[rows])
        classifier = decoupling.retrain_classifier(
            train, len(world.class_counts), rng=torch.Generator().manual_seed(seed), epochs=epochs, batch_size=64
        )
        predicted = classifier(decoupling.extract_features(network, world.test)).argmax(dim=1)
        accuracy.append(metrics.balanced_accuracy(world.test_targets[seed], predicted, len(world.class_counts)))
    return np.array(accuracy)


def decoupled_runs(
    world: str, kinds: Sequence[str] = ("crt",), *, num_seeds: int = NUM_SEEDS, epochs: int = 10
) -> tuple[Array, dict[str, Array], dict[str, list[Any]]]:
    """Joint training and new classifiers on its representation, in a Gaussian world at ratio 100.

    "ERM" and "RW" (weights 1/n) train everything together; every kind of `kinds` keeps the representation of "ERM" and
    makes a new classifier, chosen on 20 validation samples per class that the draw left over; the largest class, which
    the draw uses up, gives 20 of its 1,000.

    Args:
        world: name of a Gaussian world.
        kinds: of `lt_lib.training.decoupling.CLASSIFIERS`.
        num_seeds: draws.
        epochs: of the joint training; the classifiers get as many.

    Returns:
        Class counts; name -> test recall `(seeds, classes)`; kind -> what validation chose, one per seed.
    """
    import torch

    from lt_lib import data, metrics, models, training
    from lt_lib.recipes import build, preset
    from lt_lib.training import decoupling

    base = preset(
        "gaussian-quick", dataset=world, imbalance_ratio=100.0, epochs=epochs, validation_per_class=20, device="cpu"
    )
    dataset = data.load(world)
    inputs = torch.from_numpy(np.asarray(dataset.train.inputs)).double()
    targets = torch.from_numpy(dataset.train.targets)
    test = torch.from_numpy(np.asarray(dataset.test.inputs)).double()
    draws = [build.draw_subset(base.changed(split_seed=seed), dataset) for seed in range(num_seeds)]
    networks, members = [], []
    for name in ("ERM", "RW"):
        config = preset("gaussian-quick", name, dataset=world, epochs=epochs)
        loss_at = build.build_loss(config, draws[0].class_counts, "cpu")
        for seed, draw in enumerate(draws):
            networks.append(build.build_model(config.changed(seed=seed), tuple(inputs.shape[1:]), 10).double())
            rng = torch.Generator().manual_seed(seed)
            members.append(training.Member(torch.from_numpy(draw.train), loss_at, rng))
    stack = models.StackedModel(networks)
    training.fit_stacked(
        stack, inputs, targets, members,
        learning_rate_at=build.build_learning_rate(base), epochs=epochs,
        parameters=stack.parameter_groups(base.weight_decay), batch_size=base.batch_size, momentum=base.momentum,
        evaluate_every=epochs,
    )  # fmt: skip
    recall: dict[str, list[Array]] = {}
    chosen: dict[str, list[Any]] = {kind: [] for kind in kinds}
    predicted = training.predict_stacked(stack, test).argmax(dim=2)
    for member, row in enumerate(predicted):
        name = "ERM" if member < num_seeds else "RW"
        recall.setdefault(name, []).append(metrics.per_class_recall(dataset.test.targets, row, 10))
    for seed, draw in enumerate(draws):
        networks[seed].load_state_dict(stack.member(seed))
        train, validation = (
            decoupling.FeatureSet(decoupling.extract_features(networks[seed], inputs[rows]), targets[rows])
            for rows in (torch.from_numpy(draw.train), torch.from_numpy(draw.validation))
        )
        features = decoupling.extract_features(networks[seed], test)
        for kind in kinds:
            head: Any = networks[seed].head
            found = decoupling.decouple(kind, head, train, validation, seed=seed, epochs=epochs, batch_size=256)
            guess = found(features).argmax(dim=1)
            recall.setdefault(kind, []).append(metrics.per_class_recall(dataset.test.targets, guess, 10))
            chosen[kind].append(next(iter((found.chosen or {}).values())))
    return draws[0].class_counts, {name: np.stack(values) for name, values in recall.items()}, chosen
