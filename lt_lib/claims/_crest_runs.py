"""Trainings behind the claims on FixMatch and CReST: ten paired seeds of every arm in one Gaussian world."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lt_lib.claims import crest_tables

if TYPE_CHECKING:
    from lt_lib.recipes import SemiConfig, SemiResult

Array = npt.NDArray[np.float64]
Trainer = Callable[[Sequence["SemiConfig"]], "list[SemiResult]"]
Temperature = Callable[[int, int, float], float]

NUM_SEEDS = 10
FIXMATCH, CONTROL = "fixmatch", "fixmatch equal-compute"
PLAIN, CONSTANT = "self-training", "crest, constant"
# Name of an arm -> method of `lt_lib.recipes.SEMI_METHODS` and the fields that differ from it. FixMatch is not among
# them: with the same seed it is generation 0 of CReST, bit for bit.
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "supervised": ("supervised", {}),
    "mean teacher": ("mean teacher", {}),
    CONTROL: (CONTROL, {}),
    PLAIN: ("crest", {"alpha": 0.0}),
    "crest": ("crest", {}),
    "crest+": ("crest+", {}),
    CONSTANT: ("crest", {"alignment": "constant"}),
}


@dataclass(frozen=True, eq=False)
class Arm:
    """Diagnostics of one method after every generation; NaN where there is nothing to judge.

    Attributes:
        test_recall: on the balanced test set, `(seeds, generations, classes)`, as all up to `selected_precision`.
        test_precision: on the balanced test set.
        pool_recall: on the unlabelled pool.
        pool_precision: on the unlabelled pool.
        mask_rate: share of the pool predicted as a class that is above the threshold.
        predicted_counts: pool samples predicted as each class.
        selected_counts: of those, the ones that join the next training set.
        selected_precision: share of the selected ones that are right.
        mask_rate_all: over the whole pool, `(seeds, generations)`, as the two below.
        kl_to_prior: divergence of the mean prediction on the pool from the class prior, nats.
        training_size: labelled and pseudo-labelled samples that the generation was trained on.
    """

    test_recall: Array
    test_precision: Array
    pool_recall: Array
    pool_precision: Array
    mask_rate: Array
    predicted_counts: Array
    selected_counts: Array
    selected_precision: Array
    mask_rate_all: Array
    kl_to_prior: Array
    training_size: Array

    def accuracy(self, generation: int = -1) -> Array:
        """Balanced test accuracy in percent, `(seeds,)`."""
        return 100 * self.test_recall[:, generation].mean(axis=-1)

    def first(self) -> "Arm":
        """The first generation alone."""
        return Arm(**{each.name: getattr(self, each.name)[:, :1] for each in fields(self)})


@dataclass(frozen=True, eq=False)
class Measured:
    """What the rows on FixMatch and CReST are judged on.

    Attributes:
        arms: every name in `ARMS`, and FixMatch.
        class_counts: labelled samples per class, `(classes,)`; the same for all seeds.
        pool_counts: unlabelled ones.
        rates: share of the pseudo-labels of each class that CReST keeps, `(classes,)`.
        schedule: largest deviation of the temperatures from their definition.
        cells: published accuracies, see `crest_tables.measure_table`.
        teachers: gains of FixMatch over the labels alone that others measured, see `crest_tables.measure_teachers`.
        chosen: whether the world was set so that FixMatch beats the labels alone; then it cannot say that it does.
        reduced: whether the runs are much shorter than those of the published table; then pseudo-labels may not have
            begun to help.
    """

    arms: dict[str, Arm]
    class_counts: Array
    pool_counts: Array
    rates: Array
    schedule: float
    cells: Any
    teachers: Array
    chosen: bool = False
    reduced: bool = False


def arm_configs(name: str, num_seeds: int = NUM_SEEDS) -> "list[SemiConfig]":
    """Configurations of an arm. A seed draws the long-tailed set, what is labelled of it, weights, order and views.

    Args:
        name: key of `ARMS`.
        num_seeds: seeds 0, 1, ...
    """
    from lt_lib.recipes import semi_preset

    method, changes = ARMS[name]
    made = []
    for seed in range(num_seeds):
        config = semi_preset("gaussian-quick", method, seed=seed, split_seed=seed, subset_seed=seed, **changes)
        made.append(config.changed(label=name))
    return made


def measure_runs(
    profile: str,
    _rng: np.random.Generator,
    *,
    num_seeds: int = NUM_SEEDS,
    train: Trainer | None = None,
    temperature: Temperature | None = None,
    folder: str | os.PathLike[str] = "",
) -> Measured:
    """Train every arm, side by side, at the quick profile; read the rows of measured runs at the others.

    Args:
        profile: "quick", "small" or "paper".
        num_seeds: seeds 0, 1, ... The trainings are seeded by number, so that pairs are pairs.
        train: replaces `lt_lib.recipes.run_semi_many`.
        temperature: the schedule of the alignment. Replaced by wrong ones in tests.
        folder: of the measured rows; `results/` of the source tree if empty.
    """
    if profile != "quick":
        from lt_lib.claims._crest_stored import stored_runs

        return stored_runs(profile, folder)
    from lt_lib.recipes import run_semi_many
    from lt_lib.training import crest

    planned = [config for name in ARMS for config in arm_configs(name, num_seeds)]
    results = (train or run_semi_many)(planned)
    starts = range(0, len(planned), num_seeds)
    arms = {name: gather(results[start : start + num_seeds]) for name, start in zip(ARMS, starts, strict=True)}
    arms[FIXMATCH] = arms["crest"].first()
    config = arm_configs("crest", 1)[0]
    ideal = crest.exponential_profile(len(results[0].class_counts), config.imbalance_ratio)
    return Measured(
        arms=arms,
        class_counts=np.array(results[0].class_counts, dtype=float),
        pool_counts=np.array(results[0].unlabelled_counts, dtype=float),
        rates=crest.inclusion_rates(ideal, config.alpha),
        schedule=schedule_deviation(temperature or crest.alignment_temperature),
        cells=crest_tables.measure_table("quick", np.random.default_rng(0)),
        teachers=crest_tables.measure_teachers(),
        chosen=True,
    )


def gather(results: "Sequence[SemiResult]") -> Arm:
    """Diagnostics of runs of one method.

    Args:
        results: one per seed, with equally many generations.
    """

    def stack(name: str) -> Array:
        # None, which stands for NaN in a file, becomes NaN again.
        return np.array([[entry[name] for entry in result.generations] for result in results], dtype=float)

    return Arm(**{each.name: stack(each.name) for each in fields(Arm)})


def schedule_deviation(temperature: Temperature) -> float:
    """Largest deviation from a straight line between 1 and the minimum, over lengths and minima; 0 if exact.

    Args:
        temperature: (generation, generations, minimum) -> exponent.
    """
    apart = []
    for generations in (1, 2, 4, 6, 15):
        for t_min in (0.1, 0.5, 0.8, 1.0):
            line = np.linspace(1.0, t_min, generations)
            apart += [abs(temperature(g, generations, t_min) - line[g]) for g in range(generations)]
    return float(np.max(apart).round(12))


def measure_trace(
    _profile: str, rng: np.random.Generator, *, alpha: float = 0.0, keep: str = "rebuild", generations: int = 4
) -> dict[str, int]:
    """Plain self-training with a learner that writes down what it gets: nearest class mean on the line.

    Args:
        rng: draws the points.
        alpha: exponent of the rates; 0 is plain self-training. Replaced by others in tests.
        keep: what is done with earlier selections. Replaced in tests.
        generations: trainings.

    Returns:
        "wrong": samples of all later training sets that are missing, superfluous or labelled otherwise than "labelled
        ones, then every candidate with its latest pseudo-label". "changed": pseudo-labels that changed from one
        generation to the next; without any, a stale label could not be told from a fresh one.
    """
    from lt_lib.training import crest

    labels = np.repeat([0, 1, 2], [12, 6, 3])
    pool = rng.normal(np.concatenate([labels, np.repeat([0, 1, 2], [120, 60, 30])]), 0.6)
    candidates = np.arange(len(labels), len(pool))
    seen: list[crest.Generation] = []
    guesses: list[npt.NDArray[np.int64]] = []

    def learn(tasks: list[crest.Generation]) -> list[crest.Outcome]:
        (task,) = tasks
        means = np.array([pool[task.labelled][task.labels == label].mean() for label in range(3)])
        scores = np.exp(-((pool[task.candidates][:, None] - means) ** 2))
        seen.append(task)
        guesses.append(scores.argmax(axis=1))
        return [crest.Outcome(scores / scores.sum(axis=1, keepdims=True), {})]

    rates = crest.inclusion_rates([12, 6, 3], alpha)
    plan = crest.Plan(np.arange(len(labels)), labels, candidates, rates, keep=keep)  # type: ignore[arg-type]
    crest.run_generations(learn, [plan], generations=generations)
    wrong = 0
    for task, guess in zip(seen[1:], guesses, strict=False):
        expected = {*zip(range(len(labels)), labels, strict=True), *zip(candidates, guess, strict=True)}
        wrong += len(expected ^ set(zip(task.labelled, task.labels, strict=True)))
    changed = sum(int((one != other).sum()) for one, other in zip(guesses, guesses[1:], strict=False))
    return {"wrong": wrong, "changed": changed}


def library_fold(fold: int) -> Any:
    """The split of one fold: one long-tailed set, another division into labelled and unlabelled samples."""
    from lt_lib.data import protocols

    targets, protocol = np.repeat(np.arange(10), 500), protocols.Protocol("crest", n_max=500, label_fraction=0.1)
    return protocols.make_split(protocol, targets, 10, 100.0, subset_seed=1, split_seed=fold)


def measure_folds(
    _profile: str,
    _rng: np.random.Generator,
    *,
    split: Callable[[int], Any] = library_fold,
    load: Callable[[str], Any] = crest_tables.published,
) -> dict[str, float]:
    """Five folds compared with the first, and how many published cells have a deviation over five folds.

    Args:
        split: fold -> split. Replaced by wrong ones in tests.
        load: where the published table comes from. Replaced by altered tables in tests.

    Returns:
        "moved": samples by which the whole sets differ, most. "counts": labelled samples of a class by which they
        differ, most. "shared": share of labelled samples that two folds have in common, most. "cells": published cells
        without a deviation over five folds.
    """
    folds = [split(fold) for fold in range(5)]
    whole = [{*part.labelled.tolist(), *part.unlabelled.tolist()} for part in folds]
    known = [set(part.labelled.tolist()) for part in folds]
    pairs = [(one, other) for i, one in enumerate(known) for other in known[i + 1 :]]
    cells = load("crest").query("table == 'crest'")
    complete = cells["std"].gt(0) & cells["note"].eq("mean over 5 folds")
    return {
        "moved": max(len(whole[0] ^ other) for other in whole),
        "counts": max(float(np.abs(part.class_counts - folds[0].class_counts).max()) for part in folds),
        "shared": max(len(one & other) / len(one) for one, other in pairs),
        "cells": float((~complete).sum()),
    }
