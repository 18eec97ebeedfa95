r"""Trainings behind the two open questions of the notes: self-training and pre-training together, ten paired seeds.

Two worlds. "gaussian" is that of the claims on self-training, "digits" that of the claims on pre-training; both are
trained by the recipe of the former: a fixed number of updates whatever the size of a set, and fresh noise on every
input. What a network starts from, and what labels the pool, are the two factors.

Every network gets equally many updates in all: `STEPS` on its task and `STEPS` with labels where it is pre-trained,
twice as many with labels where it is not. A teacher is a network of its own, as in the published method.

A third world is that of the theory, two centred Gaussians: there a network learns from labels alone, and the feature
that theorem 3 is given has an exact error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_lib import counts
from lt_lib.claims import _pretraining_runs as pretrainings
from lt_lib.claims import _self_training_runs as trainings
from lt_lib.claims._self_training_runs import Setting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lt_lib.models import StackedModel
    from lt_lib.training.pretraining import PretextTask
    from lt_lib.training.stacked import MemberLoss

Array = np.ndarray
State = Mapping[str, "Tensor"]
NUM_SEEDS = trainings.NUM_SEEDS
CLASSES = trainings.CLASSES
BATCH, EPOCHS = trainings.BATCH, trainings.EPOCHS
STEPS = {"gaussian": trainings.STEPS, "digits": trainings.STEPS // 2}
# What a network starts from: random weights, or a task solved on the labelled samples, or on these and the pool.
RANDOM, LABELLED, POOL = "random", "labelled", "labelled and pool"
LARGEST = {"gaussian": trainings.HEAD, "digits": pretrainings.N_MAX}
TASKS = {"gaussian": "autoencoder", "digits": "rotation"}
# The best of 0.02, 0.05, 0.1 and 0.2 by the task's own score on test samples, no label used.
RATES = {"gaussian": 0.2, "digits": 0.1}
PRETRAINING_DECAY = 2e-4
FEATURE_DIM, FEATURE_VARIANCE = 10, 5.0


@dataclass(frozen=True, order=True)
class Arm:
    """One way of training in one place.

    Attributes:
        world: "gaussian" or "digits".
        data: the labelled set and the pool; `amount` 0 is no pool. The labelled set of the digits has `labelled` times
            120 images in its largest class.
        start: what the network starts from.
        teacher: start of the network that labels the pool; empty without self-training.
    """

    world: str = "gaussian"
    data: Setting = Setting()
    start: str = RANDOM
    teacher: str = ""

    @property
    def source(self) -> Arm:
        """Where the task is learned: the same start, with the pool only if it has seen it."""
        return Arm(self.world, self.data if self.start == POOL else self.data.base, self.start)

    @property
    def labelling(self) -> Arm:
        """The arm without self-training whose network labels the pool."""
        return Arm(self.world, self.data, self.teacher).source

    @property
    def baseline(self) -> Arm:
        """Labels alone, from random weights."""
        return Arm(self.world, self.data.base)

    @property
    def length(self) -> float:
        """Updates with labels, in the units of `Setting.length`."""
        return STEPS[self.world] / trainings.STEPS * self.data.length * (2 if self.start == RANDOM else 1)


@dataclass(frozen=True)
class Runs:
    """Trained models, arm by arm.

    Attributes:
        recall: arm -> test recall, `(seeds, classes)`, most frequent class first.
        pool_error: arm -> share of the relevant pool samples that got a wrong label, `(seeds,)`.
        score: source -> how well its task is done on test samples, `(seeds,)`.
    """

    recall: dict[Arm, Array]
    pool_error: dict[Arm, Array] = field(default_factory=dict)
    score: dict[Arm, Array] = field(default_factory=dict)

    def error(self, arm: Arm) -> Array:
        """Balanced test error in percent, `(seeds,)`."""
        return 100 * (1 - self.recall[arm].mean(axis=1))

    def worst(self, arm: Arm) -> Array:
        """Error of the worst class in percent, `(seeds,)`."""
        return 100 * (1 - self.recall[arm].min(axis=1))

    def gain(self, arm: Arm) -> Array:
        """Points that the arm is better than labels alone from random weights, `(seeds,)`."""
        return self.error(arm.baseline) - self.error(arm)


def run_arms(
    arms: Sequence[Arm],
    *,
    seeds: Sequence[int] = range(NUM_SEEDS),
    states_of: Callable[[State], State] | None = None,
) -> Runs:
    """Train all arms, and what they rest on: the tasks, the teachers, and labels alone from random weights.

    In a pair all arms have the same labelled set, and the same random weights where those are used.

    Args:
        arms: what is wanted.
        seeds: of draws, weights and order.
        states_of: pre-trained weights -> weights used in their place; for worlds in which pre-training is worthless.
    """
    wanted = {*arms, *(each.labelling for each in arms if each.teacher), *(each.baseline for each in arms)}
    runs = Runs({})
    for world in sorted({arm.world for arm in wanted}):
        here = sorted(arm for arm in wanted if arm.world == world)
        sets = _Sets(world, seeds)
        starts = _pretrain(runs, sets, sorted({arm.source for arm in here if arm.start != RANDOM}))
        if states_of is not None:
            starts = {arm: [states_of(state) for state in states] for arm, states in starts.items()}
        teachers: dict[Arm, list[State]] = {}
        # Teachers first: without one sorts before with one.
        for part in _stacks(here, lambda arm: (bool(arm.teacher), arm.length), len(seeds)):
            teachers |= _train(runs, sets, part, starts, teachers)
    return runs


class _Sets:
    """Labelled sets, pools and test set of one world as tensors, each drawn once."""

    def __init__(self, world: str, seeds: Sequence[int]) -> None:
        self.world, self.seeds = world, list(seeds)
        self._labelled: dict[tuple[Setting, int], tuple[Tensor, Tensor]] = {}
        self._pools: dict[tuple[Setting, int], tuple[Tensor, Array]] = {}

    def labelled(self, setting: Setting, seed: int) -> tuple[Tensor, Tensor]:
        """Inputs and classes."""
        key = (setting.base, seed)
        if key not in self._labelled:
            self._labelled[key] = labelled_set(self.world, setting, seed)
        return self._labelled[key]

    def pool(self, setting: Setting, seed: int) -> tuple[Tensor, Array]:
        """Inputs, and the classes that only a diagnosis may see."""
        key = (setting, seed)
        if key not in self._pools:
            self._pools[key] = unlabelled_pool(self.world, setting, seed)
        return self._pools[key]

    def seen(self, source: Arm, seed: int) -> Tensor:
        """Inputs on which a task is learned."""
        import torch

        inputs = self.labelled(source.data, seed)[0]
        return torch.cat([inputs, self.pool(source.data, seed)[0]]) if source.start == POOL else inputs


@cache
def _digits() -> tuple[pretrainings.Prepared, pretrainings.Prepared]:
    return pretrainings.prepared_digits()


def labelled_set(world: str, setting: Setting, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs and classes of the labelled set of a seed.

    Args:
        world: "gaussian" or "digits".
        setting: its `ratio` and `labelled`.
        seed: of the draw.
    """
    import torch

    if world == "gaussian":
        split = trainings.labelled_set(setting, seed)
        return torch.from_numpy(np.asarray(split.inputs)).double(), torch.from_numpy(split.targets)
    train = _digits()[0]
    labels, picked = pretrainings.drawn_digits(train.targets, class_counts(world, setting), seed)
    return train.inputs[torch.from_numpy(picked)], torch.from_numpy(labels[picked])


def class_counts(world: str, setting: Setting) -> Array:
    """Labelled samples per class, most frequent first.

    Args:
        world: "gaussian" or "digits".
        setting: its `ratio` and `labelled`.
    """
    return counts.exponential_counts(round(LARGEST[world] * setting.labelled), CLASSES, setting.ratio)


def unlabelled_pool(world: str, setting: Setting, seed: int) -> tuple[Tensor, Array]:
    """Inputs of the pool of a seed and, for diagnosis, its classes; digits come from what the labelled draw left.

    Args:
        world: "gaussian" or "digits".
        setting: labelled set and pool.
        seed: of the draw.
    """
    import torch

    from lt_lib.data import Split
    from lt_lib.data.pools import PoolSpec, drawn_pool

    if world == "gaussian":
        pool = trainings.unlabelled_pool(setting, seed)
        return torch.from_numpy(pool.inputs).double(), pool.targets
    train = _digits()[0]
    labels, picked = pretrainings.drawn_digits(train.targets, class_counts(world, setting), seed)
    spec = PoolSpec(setting.amount, setting.pool_ratio, setting.relevance)
    images = Split(train.inputs.numpy(), labels)
    pool = drawn_pool(images, CLASSES, len(picked), spec, seed=seed, source="digits", exclude=picked)
    return torch.from_numpy(pool.inputs), pool.targets


def test_sets(world: str, seed: int) -> tuple[Tensor, Array]:
    """Balanced test inputs and their classes; the classes of the digits depend on the seed, which ranks them.

    Args:
        world: "gaussian" or "digits".
        seed: of the pair.
    """
    import torch

    if world == "gaussian":
        test = trainings.test_set()
        return torch.from_numpy(np.asarray(test.inputs)).double(), test.targets
    images = _digits()[1]
    return images.inputs, pretrainings.class_ranks(seed)[images.targets]


def pretext_task(world: str) -> PretextTask:
    """The task of a world: vectors without their noise, or which way a digit was turned.

    Args:
        world: "gaussian" or "digits".
    """
    from lt_lib.training import pretraining

    if TASKS[world] == "autoencoder":
        return pretraining.autoencoder_task(trainings.WORLD["dim"])
    return pretraining.rotation_task()


def network(world: str, outputs: int, seed: int) -> nn.Module:
    """A fresh float64 network with two hidden layers.

    Args:
        world: "gaussian" or "digits".
        outputs: of its last layer.
        seed: of the weights.
    """
    from lt_lib import models

    values = trainings.WORLD["dim"] if world == "gaussian" else 64
    return models.seeded(lambda: models.MLP(values, outputs, hidden=trainings.HIDDEN), seed).double()


def _pretrain(runs: Runs, sets: _Sets, sources: Sequence[Arm]) -> dict[Arm, list[State]]:
    """Pre-trained weights of every source, one per seed."""
    found: dict[Arm, list[State]] = {}
    for part in _stacks(sources, lambda source: source.data.length, len(sets.seeds)):
        seen = [sets.seen(source, seed) for source in part for seed in sets.seeds]
        states, scores = pretrain(sets.world, seen, sets.seeds * len(part), length=part[0].data.length)
        for place, source in enumerate(part):
            rows = slice(place * len(sets.seeds), (place + 1) * len(sets.seeds))
            found[source], runs.score[source] = states[rows], scores[rows]
    return found


def _stacks(arms: Sequence[Arm], kind: Callable[[Arm], Any], seeds: int) -> list[list[Arm]]:
    """Arms in groups of one kind that are trained side by side."""
    size, groups = max(1, trainings.STACK // seeds), []
    for value in sorted({kind(arm) for arm in arms}):
        same = [arm for arm in arms if kind(arm) == value]
        groups += [same[first : first + size] for first in range(0, len(same), size)]
    return groups


def pretrain(
    world: str, seen: Sequence[Tensor], seeds: Sequence[int], *, length: float = 1.0
) -> tuple[list[State], Array]:
    """Learn the task of a world, one network per entry of `seen`.

    Args:
        world: "gaussian" or "digits".
        seen: inputs of every network.
        seeds: of weights and order.
        length: updates as a multiple of `STEPS`.

    Returns:
        Weights, and the score on the test inputs.
    """
    import torch

    from lt_lib import models, training
    from lt_lib.training import pretraining
    from lt_lib.training.unequal import whole_passes

    task = pretext_task(world)
    networks = [network(world, task.outputs, seed) for seed in seeds]
    for each in networks:
        pretraining.start_decoder(task, each)
    stack = models.StackedModel(networks)
    sizes = [len(inputs) for inputs in seen]
    starts = np.cumsum([0, *sizes[:-1]])
    epoch_size = round(STEPS[world] * length) * BATCH // EPOCHS
    members = [
        pretraining.PretextMember(
            torch.arange(start, start + size),
            torch.Generator().manual_seed(1000 + seed),
            whole_passes(size, epoch_size),
        )
        for start, size, seed in zip(starts.tolist(), sizes, seeds, strict=True)
    ]
    pretraining.pretrain_stacked(
        stack, torch.cat(list(seen)), members, task,
        learning_rate_at=training.step_learning_rate(EPOCHS, RATES[world], warmup=0.1, decay=0.1), epochs=EPOCHS,
        parameters=stack.parameter_groups(PRETRAINING_DECAY), batch_size=BATCH,
    )  # fmt: skip
    test = test_sets(world, 0)[0]
    score = pretraining.pretext_score(stack, test, task, torch.Generator().manual_seed(0), members=len(members))
    return [stack.member(place) for place in range(len(members))], score.numpy()


def start_network(world: str, seed: int, state: State | None) -> nn.Module:
    """A fresh network for the classes, with all but its last layer from pre-trained weights, if there are any."""
    from lt_lib.training import pretraining

    fresh = network(world, CLASSES, seed)
    if state is not None:
        pretraining.transfer(state, fresh)
    return fresh


def _train(
    runs: Runs,
    sets: _Sets,
    arms: Sequence[Arm],
    starts: Mapping[Arm, list[State]],
    teachers: Mapping[Arm, list[State]],
) -> dict[Arm, list[State]]:
    """Train arms of one length, with a teacher all or none; record their recall and return their weights."""
    import torch

    from lt_lib.training.unequal import TrainingSet

    pairs = [(arm, seed) for arm in arms for seed in sets.seeds]
    fresh = [
        start_network(sets.world, seed, starts[arm.source][sets.seeds.index(seed)] if arm.start != RANDOM else None)
        for arm, seed in pairs
    ]
    setting = Setting(length=arms[0].length)

    def fit(training_sets: list[TrainingSet]) -> StackedModel:
        return trainings.fit_networks(training_sets, [seed for _, seed in pairs], setting, fresh)

    if arms[0].teacher:
        stack = _self_train(runs, sets, pairs, teachers, fit, setting)
    else:
        loss_at = trainings.losses_for("CE", [np.ones(CLASSES)])[0]
        stack = fit(
            [
                TrainingSet(*sets.labelled(arm.data, seed), loss_at, torch.Generator().manual_seed(seed))
                for arm, seed in pairs
            ]
        )
    _record(runs, sets, arms, stack)
    states: list[State] = [stack.member(place) for place in range(len(pairs))]
    size = len(sets.seeds)
    return {arm: states[place * size : (place + 1) * size] for place, arm in enumerate(arms)}


def _self_train(
    runs: Runs,
    sets: _Sets,
    pairs: Sequence[tuple[Arm, int]],
    teachers: Mapping[Arm, list[State]],
    fit: Callable[[Any], StackedModel],
    setting: Setting,
) -> StackedModel:
    """Label the pools by the teachers, and train on labels and pseudo-labels."""
    import torch

    from lt_lib import models
    from lt_lib.training.self_training import Task, self_train_stacked

    labelling = sorted({arm.labelling for arm, _ in pairs})
    stack = []
    for arm in labelling:
        for state in teachers[arm]:
            each = network(sets.world, CLASSES, 0)
            each.load_state_dict(dict(state))
            stack.append(each)
    pools = [sets.pool(arm.data, seed) for arm, seed in pairs]
    tasks = [
        Task(
            sets.labelled(arm.data, seed),
            inputs,
            labelling.index(arm.labelling) * len(sets.seeds) + sets.seeds.index(seed),
            torch.Generator().manual_seed(seed),
        )
        for (arm, seed), (inputs, _) in zip(pairs, pools, strict=True)
    ]
    students = self_train_stacked(
        models.StackedModel(stack),
        network(sets.world, CLASSES, 0),
        tasks,
        num_classes=CLASSES,
        fit=fit,
        losses_for=lambda sizes: trainings.losses_for("CE", sizes),
        epoch_size=trainings.epoch_size(setting),
    )
    for place, (labels, (_, true)) in enumerate(zip(students.pseudo_labels, pools, strict=True)):
        relevant = true >= 0
        wrong = float(np.mean((true != labels.numpy())[relevant])) if relevant.any() else np.nan
        arm, seed = pairs[place]
        runs.pool_error.setdefault(arm, np.full(len(sets.seeds), np.nan))[sets.seeds.index(seed)] = wrong
    return students.stack


def _record(runs: Runs, sets: _Sets, arms: Sequence[Arm], stack: StackedModel) -> None:
    from lt_lib.training import predict_stacked

    tests = [test_sets(sets.world, seed) for seed in sets.seeds]
    predicted = predict_stacked(stack, tests[0][0]).argmax(dim=2).numpy()
    for place, arm in enumerate(arms):
        rows = predicted[place * len(sets.seeds) : (place + 1) * len(sets.seeds)]
        runs.recall[arm] = np.stack(
            [
                np.bincount(true[guess == true], minlength=CLASSES) / np.bincount(true, minlength=CLASSES)
                for guess, (_, true) in zip(rows, tests, strict=True)
            ]
        )


def feature_runs(
    cells: Sequence[tuple[int, int]],
    *,
    seeds: Sequence[int] = range(NUM_SEEDS),
    steps: int = trainings.STEPS,
    adjusted: bool = False,
) -> Array:
    """Balanced test error in percent of networks that learn the theory's two Gaussians from labels, `(seeds, cells)`.

    Args:
        cells: samples of the wide, frequent class and of the narrow, rare one.
        seeds: of draws, weights and order.
        steps: updates of every network.
        adjusted: whether the training prior is added to the logits, so that what is learned is free of it.
    """
    import torch

    from lt_lib import models, training
    from lt_lib.training.unequal import TrainingSet, fit_sets

    networks, sets = [], []
    for wide, narrow in cells:
        loss_at = trainings.losses_for("CE", [np.ones(2)])[0]
        if adjusted:
            loss_at = _adjusted_loss(np.array([wide, narrow]) / (wide + narrow))
        for seed in seeds:
            inputs, targets = two_gaussians(wide, narrow, np.random.default_rng([4, seed]))
            networks.append(models.seeded(lambda: models.MLP(FEATURE_DIM, 2, hidden=trainings.HIDDEN), seed))
            rng = torch.Generator().manual_seed(seed)
            sets.append(TrainingSet(torch.from_numpy(inputs), torch.from_numpy(targets), loss_at, rng))
    test, truth = two_gaussians(1000, 1000, np.random.default_rng([4, 0, 1]))
    errors = []
    for first in range(0, len(sets), trainings.STACK):
        stack = models.StackedModel(networks[first : first + trainings.STACK]).double()
        fit_sets(
            stack, sets[first : first + trainings.STACK], epoch_size=steps * BATCH // EPOCHS, epochs=EPOCHS,
            learning_rate_at=training.step_learning_rate(EPOCHS, trainings.LEARNING_RATE, warmup=0.1, decay=0.1),
            parameters=stack.parameter_groups(trainings.WEIGHT_DECAY), batch_size=BATCH,
        )  # fmt: skip
        guess = training.predict_stacked(stack, torch.from_numpy(test)).argmax(dim=2).numpy()
        errors.append(100 * (guess != truth).mean(axis=1))
    return np.concatenate(errors).reshape(len(cells), len(seeds)).T


def _adjusted_loss(prior: Array) -> Callable[[int], MemberLoss]:
    """Logit-adjusted loss as a function of the epoch; one object, hence one call for all seeds of a cell."""
    import torch

    from lt_lib import losses

    shares = torch.from_numpy(prior)

    def adjusted(logits: Tensor, targets: Tensor) -> Tensor:
        return losses.logit_adjusted_loss(logits, targets, shares, reduction="none").mean(dim=-1)

    return lambda _epoch: adjusted


def two_gaussians(wide: int, narrow: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Inputs and classes: 0 is wide, with `FEATURE_VARIANCE` times the variance of 1; both are centred.

    Args:
        wide: samples of class 0.
        narrow: samples of class 1.
        rng: source of randomness.
    """
    scale = np.repeat([np.sqrt(FEATURE_VARIANCE), 1.0], [wide, narrow])
    inputs = scale[:, None] * rng.standard_normal((wide + narrow, FEATURE_DIM))
    return inputs, np.repeat([0, 1], [wide, narrow])
