"""`run_self_train(config)`: train on labels, label an unlabelled pool, train from scratch on both."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lt_lib import data, training
from lt_lib._checks import check_integer, check_known
from lt_lib.data.base import array_hash
from lt_lib.data.pools import OUTSIDE, Pool, PoolSpec, drawn_pool
from lt_lib.recipes import build
from lt_lib.recipes._fields import INFINITY, check_choices, check_kind, check_left, check_ranges, defaults_of
from lt_lib.recipes.config import RunConfig
from lt_lib.recipes.methods import METHODS, method_changes, method_name, method_values
from lt_lib.recipes.pretrain import (
    PRETEXTS,
    PretrainConfig,
    carry_over,
    check_task,
    learn_pretext,
    pretext_numbers,
)
from lt_lib.recipes.result import RunResult, load_result, plain_values, read_result, result_values
from lt_lib.recipes.run import train_and_measure
from lt_lib.training.loop import Order
from lt_lib.training.self_training import self_train

POOL_SOURCES = ("none", "holdout", *data.extra_names())
NOISE = "noise"
# Fields that say what pool there is, and how the model that learns from it is trained; without a pool they say nothing.
_OF_THE_POOL = (
    "pool_amount", "pool_imbalance_ratio", "relevance", "outside", "omega", "counts_from", "base_method",
    "student_batch_size",
)  # fmt: skip
_NOISE_STREAM, _STUDENT_STREAM = 2, 3  # second word of the seed


@dataclass(frozen=True)
class SelfTrainConfig(RunConfig):
    """A training run with an unlabelled pool: a base model labels it, a fresh model learns from labels and pool.

    All fields of `RunConfig` describe the base model, and the final one where none of the fields below says otherwise.
    The defaults of the latter are those of the code of Yang and Xu, on the embedded digits; `n_max` leaves a pool over.
    Not as in their code: images are standardised by the statistics of the whole training split, where theirs has fixed
    constants, on SVHN .5 and .5. A field counts where one of the two models reads it.
    """

    n_max: int = 40  # labelled samples of the largest class, >= 0; 0: as many as every class has
    class_order: str = ""  # classes from frequent to rare, as "1 2 3 4 5 6 7 8 9 0"; empty: native order
    pool_source: str = "holdout"  # none, holdout, svhn_extra or cinic10 (holdout: the rest of the training split)
    pool_amount: float = 5.0  # size of the pool as a multiple of the labelled set, > 0
    pool_imbalance_ratio: float = 1.0  # largest / smallest class of the pool, >= 1; outside samples apart
    relevance: float = 1.0  # share of the pool that belongs to the classes of the task, in [0, 1]
    outside: str = ""  # where the other samples come from: noise, or a name understood by lt_lib.data.load
    omega: float = 1.0  # weight of a pseudo-labelled sample, >= 0
    counts_from: str = "joined"  # joined or labelled: class counts for the final loss; joined counts pseudo-labels too
    base_method: str = ""  # name in lt_lib.recipes.METHODS of the model that labels the pool; empty: the same method
    student_epochs: int = 40  # passes of the final model over labels and pool, >= 0; 0 with pool_source none
    student_batch_size: int = 256  # samples per step of the final model, >= 1
    pretext: str = "none"  # none, rotation, jigsaw, autoencoder or simsiam: what both models learn first, see 920
    pretrain_epochs: int = 0  # passes of it over the labelled images, >= 0; 0 with pretext none

    def __post_init__(self) -> None:
        if self.imbalance_type == "natural":
            raise ValueError("`imbalance_type` must be one that is drawn, so that a pool is left, got 'natural'.")
        super().__post_init__()
        check_choices(self, _CHOICES)
        if self.base_method:
            check_known(self.base_method, "base_method", METHODS)
        check_ranges(self, _RANGES)
        self._check_pool()
        check_task(self)
        if self.num_devices != 1:
            raise ValueError(f"`num_devices` must be 1 for self-training, got {self.num_devices}.")
        try:
            _ = self.base_config
        except ValueError as error:
            raise ValueError(f"`base_method` must fit the other fields, got {self.base_method!r}: {error}") from error
        if self.class_order:
            words = self.class_order.split()
            if sorted(words) != sorted(map(str, range(len(words)))):
                raise ValueError(f"`class_order` must hold each of 0 ... C - 1 once, got {self.class_order!r}.")
            if self.permute_classes:
                raise ValueError(f"`permute_classes` must be False with a `class_order`, got {self.class_order!r}.")

    def _check_pool(self) -> None:
        if (self.pool_source == "none") != (self.student_epochs == 0):
            raise ValueError(
                "`student_epochs` must be 0 with pool_source 'none' and >= 1 with a pool, "
                f"got {self.student_epochs} with {self.pool_source!r}."
            )
        if self.pool_source == "none":
            check_left(self, _OF_THE_POOL, "with pool_source 'none'")
        _ = self.pool_spec
        if (self.relevance < 1) != bool(self.outside):
            raise ValueError(
                "`outside` must name a source where `relevance` is below 1, and be empty where it is 1, "
                f"got {self.outside!r} with {self.relevance:g}."
            )
        if self.omega != 1 and self.sampling != "uniform":
            raise ValueError(
                f"`omega` must be 1 with sampling by class, which sets the shares itself, got {self.omega:g} "
                f"with {self.sampling!r}."
            )

    @classmethod
    def unread_fields(cls, values: Mapping[str, Any]) -> dict[str, str]:
        """Fields that neither model reads, see `RunConfig.unread_fields`."""
        unread = super().unread_fields(values)
        if values["base_method"] not in METHODS:  # none, or a name that is refused later
            return unread
        of_base = method_values(values["base_method"])
        # What the base method sets itself it does not take from here either.
        left = {*of_base, *super().unread_fields({**values, **of_base})}
        return {name: needed for name, needed in unread.items() if name in left}

    @property
    def pool_spec(self) -> PoolSpec:
        """Size, imbalance and relevance of the pool."""
        return PoolSpec(self.pool_amount, self.pool_imbalance_ratio, self.relevance)

    @property
    def base_config(self) -> RunConfig:
        """The run on the labels alone whose model labels the pool."""
        own = {field.name: getattr(self, field.name) for field in fields(RunConfig)}
        return RunConfig(**own | (method_changes(self.base_method, RunConfig, own) if self.base_method else {}))

    @property
    def final_config(self) -> "SelfTrainConfig":
        """The training of the final model, with its length and batches; without a pool, of the only one."""
        if self.pool_source == "none":
            return self
        return replace(self, epochs=self.student_epochs, batch_size=self.student_batch_size)

    @property
    def pretrain_config(self) -> PretrainConfig:
        """The pre-training that both models start from; it needs a task."""
        plain = {field.name: getattr(self, field.name) for field in fields(RunConfig)}
        plain |= defaults_of(RunConfig, RunConfig.unread_fields(plain))  # what the base method alone reads
        return PretrainConfig(**plain, pretext=self.pretext, pretrain_epochs=self.pretrain_epochs)

    def frequency_order(self, num_classes: int) -> np.ndarray | None:
        """Classes from the most frequent to the rarest; None where `class_order` does not say.

        Raises:
            ValueError: `class_order` is for another number of classes.
        """
        if not self.class_order:
            return None
        order = np.array(self.class_order.split(), dtype=np.int64)
        if len(order) != num_classes:
            raise ValueError(f"`class_order` must hold each of 0 ... {num_classes - 1} once, got {self.class_order!r}.")
        return order

    def control(self, labelled: int | None = None) -> "SelfTrainConfig":
        """The method on the labels alone, for as many updates as base and final model together.

        Args:
            labelled: size of the labelled set, so that the last, smaller batch of an epoch counts as one; None counts
                batches of full size, which is near enough for large sets.

        Returns:
            A configuration without a pool. Its epochs are whole, so that its updates differ by at most half an epoch.

        Example:
            >>> config = SelfTrainConfig(epochs=200, student_epochs=200)
            >>> config.control().epochs, config.control(12406).epochs, config.control(159).epochs
            (800, 800, 600)
        """
        if labelled is None:
            passes = self.student_epochs * (1 + self.pool_amount) * self.batch_size / self.student_batch_size
        else:
            check_integer(labelled, "labelled", minimum=1)
            both = labelled + round(labelled * self.pool_amount)
            steps = -(-labelled // self.batch_size), -(-both // self.student_batch_size)
            passes = self.student_epochs * steps[1] / steps[0]
        changes = defaults_of(type(self), _OF_THE_POOL)
        changes |= {"pool_source": "none", "student_epochs": 0, "epochs": self.epochs + round(passes)}
        unread = self.unread_fields({**vars(self), **changes})  # what the base method alone read goes with it
        return replace(self, **defaults_of(type(self), unread), **changes)


_CHOICES: dict[str, tuple[str, ...]] = {
    "pool_source": POOL_SOURCES,
    "counts_from": ("joined", "labelled"),
    "pretext": PRETEXTS,
}
_RANGES = (
    ("omega", 0, INFINITY),
    ("student_epochs", 0, INFINITY),
    ("student_batch_size", 1, INFINITY),
    ("pretrain_epochs", 0, INFINITY),
)


@dataclass(frozen=True)
class SelfTrainResult:
    """Outcome of `run_self_train`.

    Attributes:
        trained: of the final model; without a pool, of the only one. Its class counts are those of the labelled set.
        base: of the model that labelled the pool; None without a pool.
        pool: what the pool was and what its pseudo-labels are worth: `source`, `size`, `relevance`, and lists by class
            `class_counts`, `predicted_counts`, `precision` and `recall` (None where there is nothing to judge);
            `loss_counts`, the class counts that the final loss was given; empty without a pool. Known to those who made
            the pool, and to no training step.
        updates: optimiser steps of all trainings with labels or pseudo-labels.
        pretext_curves: loss, rate and score of pre-training by epoch; empty without.
        seconds: wall time of everything.
    """

    trained: RunResult
    base: RunResult | None
    pool: dict[str, Any]
    updates: int
    pretext_curves: dict[str, Any]
    seconds: float

    @property
    def config(self) -> SelfTrainConfig:
        """What was run."""
        config = self.trained.config
        assert isinstance(config, SelfTrainConfig)
        return config

    @property
    def method(self) -> str:
        """Name for tables: the method, where it started, and whether it had a pool."""
        config = self.config
        start = "" if config.pretext == "none" else f" + {config.pretext}"
        return f"{method_name(config.final_config)}{start}" + (" on labels alone" if self.base is None else " + pool")

    @property
    def pool_error(self) -> float | None:
        """Share of the pool's relevant samples with a wrong pseudo-label; None without any."""
        size = sum(self.pool.get("class_counts", []))
        return (1 - self.pool["right"] / size) if size else None

    def to_row(self) -> dict[str, Any]:
        """One tidy row: the columns that all result tables share, those of the pool, and the base model's numbers."""
        config, base = self.config, self.base
        pooled = base is not None
        recalls = {} if base is None else {f"base_recall_{c}": float(value) for c, value in enumerate(base.recall)}
        return self.trained.to_row() | {
            "method": self.method,
            "base": method_name(config.final_config),
            "base_method": None if base is None else base.method,
            "pretext": config.pretext,
            "pool_source": config.pool_source,
            "pool_amount": config.pool_amount if pooled else 0.0,
            "pool_imbalance_ratio": config.pool_imbalance_ratio if pooled else None,
            "relevance": config.relevance if pooled else None,
            "outside": config.outside,
            "omega": config.omega if pooled else None,
            "counts_from": config.counts_from if pooled else None,
            "labelled": sum(self.trained.class_counts),
            "pool_size": self.pool.get("size", 0),
            "pool_error": self.pool_error,
            "base_accuracy_last": None if base is None else base.accuracy_last,
            **recalls,
            "epochs": config.epochs,
            "student_epochs": config.student_epochs,
            "total_epochs": config.pretrain_epochs + config.epochs + config.student_epochs,
            "updates": self.updates,
            "seconds": self.seconds,
        }

    def save(self, folder: str | os.PathLike) -> Path:
        """Write `result.json`, `curves.csv` and, with a pool, `pool.csv` and the folder `base`; return the folder.

        `base` holds what `RunResult.save` writes.
        """
        tables = {}
        if self.base is not None:
            self.base.save(Path(folder) / "base")
            tables["pool.csv"] = self._pool_csv()
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("trained", "base")}
        return self.trained.save(folder, own=own | {"method": self.method, "row": self.to_row()}, tables=tables)

    def _pool_csv(self) -> str:
        names = ("class_counts", "predicted_counts", "precision", "recall")
        rows = zip(self.trained.class_counts, *(self.pool[name] for name in names), strict=True)
        lines = ["class,labelled,pool,predicted,precision,recall"]
        lines += [
            ",".join([str(label), *("" if value is None else f"{value:.6g}" for value in row)])
            for label, row in enumerate(rows)
        ]
        return "\n".join(lines) + "\n"


def load_self_train_result(folder: str | os.PathLike) -> SelfTrainResult:
    """Read what `SelfTrainResult.save` wrote.

    Raises:
        ValueError: `result.json`, or that of the base model, is missing or damaged.
    """

    def make(content: dict[str, Any]) -> SelfTrainResult:
        config = SelfTrainConfig(**content["config"])
        own = {f.name: content[f.name] for f in fields(SelfTrainResult) if f.name not in ("trained", "base")}
        own["pretext_curves"] = pretext_numbers(own["pretext_curves"])
        base = None if config.pool_source == "none" else load_result(Path(folder) / "base")
        return SelfTrainResult(trained=RunResult(**result_values(content, config)), base=base, **own)

    return read_result(folder, make)


def draw_self_training(config: SelfTrainConfig, dataset: data.Dataset) -> tuple[build.Subset, Pool | None]:
    """Draw the labelled set of `config` and its pool.

    Args:
        config: the run.
        dataset: the data set of the labelled images.

    Returns:
        The subset, and the pool; None without one.

    Raises:
        ValueError, MissingDataError: as `build_pool`.
    """
    subset = build.draw_subset(config, dataset, class_order=config.frequency_order(dataset.num_classes))
    return subset, None if config.pool_source == "none" else build_pool(config, dataset, subset)


def build_pool(config: SelfTrainConfig, dataset: data.Dataset, subset: build.Subset) -> Pool:
    """Draw the pool of `config`.

    Args:
        config: the run, with a pool.
        dataset: the labelled set's data set.
        subset: the labelled set and its hold-out, which the pool "holdout" leaves alone.

    Raises:
        ValueError: no pool, a source with other classes, or fewer samples than asked.
        MissingDataError: the source is not on disk.
    """
    if config.pool_source == "none":
        raise ValueError("`pool_source` must not be 'none' where a pool is drawn, got 'none'.")
    inputs = np.asarray(dataset.train.inputs)
    root = config.data_root or None
    split, used = dataset.train, np.concatenate([subset.train, subset.validation])
    if config.pool_source != "holdout":
        extra = data.load_extra(config.pool_source, root)
        if extra.class_names != dataset.class_names:
            raise ValueError(
                f"`pool_source` must have the classes of {config.dataset!r} ({', '.join(dataset.class_names)}), "
                f"got {config.pool_source!r} ({', '.join(extra.class_names)})."
            )
        split, used = extra.split, np.empty(0, dtype=np.int64)
    labelled = len(subset.train)
    wanted = config.pool_spec.sizes(labelled, dataset.num_classes)[1]
    listed = config.frequency_order(dataset.num_classes)
    return drawn_pool(
        split,
        dataset.num_classes,
        labelled,
        config.pool_spec,
        seed=config.split_seed,
        source=config.pool_source,
        outside=_outside(config, inputs, wanted) if wanted else None,
        exclude=used,
        class_order=build.frequency_order(config, dataset.num_classes) if listed is None else listed,
    )


def _outside(config: SelfTrainConfig, inputs: np.ndarray, wanted: int) -> np.ndarray:
    """Samples that belong to none of the classes."""
    if config.outside == NOISE:
        if inputs.dtype != np.uint8:
            raise ValueError(f"`outside` must name a data set where the samples are vectors, got {NOISE!r}.")
        rng = np.random.default_rng([config.split_seed, _NOISE_STREAM])
        return rng.integers(256, size=(wanted, *inputs.shape[1:]), dtype=np.uint8)
    found = build.load_dataset(RunConfig(dataset=config.outside, data_root=config.data_root)).train.inputs
    if isinstance(found, list):
        raise ValueError(f"`outside` must be a data set of images or vectors, got texts in {config.outside!r}.")
    return found


def run_self_train(
    config: SelfTrainConfig,
    *,
    checkpoint: str | Path | None = None,
    progress: bool = False,
    dataset: data.Dataset | None = None,
    pool: Pool | None = None,
) -> SelfTrainResult:
    """Train the base model, label the pool with it, train the final model, evaluate both.

    The final model starts from random weights of its own and sees its samples in an order of its own (`student_seed`),
    as in the authors' code, which trains it in a run of its own; after pre-training only its last layer is random.

    Training sees the inputs of the pool and pseudo-labels; the classes that a `Pool` carries are read for the report.

    Args:
        config: what to run.
        checkpoint: file for the state of the final model after every epoch; the base model keeps its own beside it as
            `NAME.base`, pre-training as `NAME.pretext`. What they hold of the same run is continued, and on a CPU ends
            in the same bits as without the break.
        progress: show progress bars.
        dataset: the loaded data set, if the caller has it already.
        pool: the pool, if the caller has it already; `build_pool` draws it otherwise.

    Raises:
        TypeError: a configuration of another kind of run.
        NonFiniteLossError: the loss became infinite or NaN.
        CheckpointError: a checkpoint is damaged or of another run.
        ValueError, MissingDataError: a name or a number that does not fit, data of another name, a pool from another
            source, or data that are not there.
    """
    check_kind(config, SelfTrainConfig)
    if pool is not None and config.pool_source == "none":
        raise ValueError(f"`pool` must be left out with pool_source 'none', got one from {pool.source!r}.")
    if pool is not None and pool.source != config.pool_source:
        raise ValueError(
            f"`pool` must be from the source of the configuration, {config.pool_source!r}, got one from "
            f"{pool.source!r}."
        )
    device = training.resolve_device(config.device)
    precision = build.resolve_precision(config, device)
    fabric = training.make_fabric(device, precision)
    fabric.launch()
    place = str(fabric.device)
    dataset = build.given_dataset(config, dataset)
    if isinstance(dataset.train.inputs, list):
        raise ValueError(f"`dataset` must hold images or vectors for self-training, got texts in {config.dataset!r}.")
    if pool is None:
        subset, pool = draw_self_training(config, dataset)
    else:
        subset = build.draw_subset(config, dataset, class_order=config.frequency_order(dataset.num_classes))
    problem = build.build_problem(config, place, dataset, subset)
    plain = build.unaugmented(problem)
    identity = f"{config.hash()}-{problem.data_hash}"
    if pool is not None:
        identity += f"-{array_hash(pool.inputs)[:12]}"
    results: list[RunResult] = []
    start, curves, seconds = None, {}, 0.0
    if config.pretext != "none":
        if len(problem.input_shape) != 3:
            raise ValueError(f"`dataset` must hold images for pre-training, got vectors in {config.dataset!r}.")
        _, start, history = learn_pretext(
            config.pretrain_config, problem, dataset, fabric, checkpoint, f"{identity}-pretext", progress
        )
        curves, seconds = dict(vars(history)), history.seconds
    updates = 0

    def train_one(own: RunConfig, given: build.Problem, name: str, order: Order | None = None) -> nn.Module:
        nonlocal updates
        model = build.build_model(own, problem.input_shape, dataset.num_classes).to(place, plain.train.dtype)
        if len(problem.input_shape) == 3:
            model = model.to(memory_format=torch.channels_last)
        if start is not None:
            carry_over(config.pretext, start, model)
        path = None if checkpoint is None else f"{checkpoint}{name}"
        # A state of a final model with other initial weights is of another run.
        mine = f"{identity}{name}" if own.seed == config.seed else f"{identity}{name}-seed{own.seed}"
        result = train_and_measure(
            own,
            model,
            given,
            fabric,
            labelled=plain,
            order_at=order,
            checkpoint=path,
            identity=mine,
            progress=progress,
        )
        results.append(result)
        updates += own.epochs * -(-len(given.train_targets) // own.batch_size)
        return _Prepared(model, problem, fabric)

    def train(inputs: Tensor, targets: Tensor, class_counts: np.ndarray, order: Order) -> nn.Module:
        if not results:
            return train_one(config.base_config, problem, ".base")
        own = replace(config.final_config, seed=student_seed(config.seed))
        joined = replace(problem, train=inputs, train_targets=targets, class_counts=class_counts)
        # Drawn by class, the order is a matter of the configuration; with omega 1 there is nothing else to weigh.
        return train_one(own, joined, "", order if config.sampling == "uniform" else None)

    if pool is None:
        train_one(config, problem, "")
        return SelfTrainResult(results[0], None, {}, updates, curves, seconds + results[0].seconds)
    found = self_train(
        (problem.train, problem.train_targets),
        problem.store(pool.inputs),
        num_classes=dataset.num_classes,
        train=train,
        omega=config.omega,
        counts_from=config.counts_from,  # type: ignore[arg-type]  # a name that the configuration has checked
    )
    base, last = results
    report = judge_pool(pool, found.pseudo_labels.cpu().numpy()) | {"loss_counts": found.class_counts.tolist()}
    # What was trained on is the pool too, and the configuration the whole one.
    trained = replace(last, config=config, data_hash=identity.removeprefix(f"{config.hash()}-"))
    return SelfTrainResult(trained, base, report, updates, curves, seconds + base.seconds + last.seconds)


def student_seed(seed: int) -> int:
    """Seed of the final model's weights, order and augmentation in a run of this seed.

    Args:
        seed: of the run, which is that of its base model.
    """
    return int(np.random.SeedSequence([seed, _STUDENT_STREAM]).generate_state(1)[0])


def judge_pool(pool: Pool, pseudo_labels: np.ndarray) -> dict[str, Any]:
    """Compare pseudo-labels with the classes that the pool's owner knows.

    A sample from outside the task is wrong whatever its label, and counts in the precision of that label's class.

    Args:
        pool: the pool.
        pseudo_labels: class indices `(pool,)`.

    Returns:
        See `SelfTrainResult.pool`, but for the counts of the loss.
    """
    right = pseudo_labels == pool.targets
    hits = np.bincount(pseudo_labels[right], minlength=pool.num_classes)
    predicted = np.bincount(pseudo_labels, minlength=pool.num_classes)
    nothing = np.full(pool.num_classes, np.nan)
    return plain_values(
        {
            "source": pool.source,
            "size": len(pool),
            "relevance": pool.relevance,
            "right": int(hits.sum()),
            "class_counts": pool.class_counts,
            "predicted_counts": predicted,
            "outside_counts": np.bincount(pseudo_labels[pool.targets == OUTSIDE], minlength=pool.num_classes),
            "precision": np.divide(hits, predicted, out=nothing.copy(), where=predicted > 0),
            "recall": np.divide(hits, pool.class_counts, out=nothing.copy(), where=pool.class_counts > 0),
        }
    )


class _Prepared(nn.Module):
    """A trained network for samples in the form in which they are stored for training."""

    def __init__(self, model: nn.Module, problem: build.Problem, fabric: Any) -> None:
        super().__init__()
        self.model, self.problem, self.fabric = model, problem, fabric

    def forward(self, stored: Tensor) -> Tensor:
        """Logits, in the number format that the accuracies are computed in."""
        with self.fabric.autocast():
            return self.model(self.problem.prepare(stored))
