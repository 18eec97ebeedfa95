"""`run(config)` trains one model; `run_many(configs)` trains small ones side by side as stacked models."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lt_lib import data, metrics, models, training
from lt_lib.recipes import build
from lt_lib.recipes._fields import check_kind
from lt_lib.recipes.config import RunConfig
from lt_lib.recipes.result import RunResult, selected_accuracy, versions
from lt_lib.recipes.side_by_side import side_by_side
from lt_lib.training.loop import Order

# Fields in which the members of one stack may differ; all others are shared by the stacked computation.
_PER_MEMBER = (
    "profile", "permute_classes", "split_seed", "gamma", "max_margin", "margin_rule", "scale", "tau", "weighting",
    "beta", "normalization", "sampling", "defer_until", "seed",
)  # fmt: skip
# Where the data come from, and all that decides which samples are drawn from them.
_SOURCE = ("dataset", "data_root")
_SPLIT = (
    *_SOURCE, "imbalance_type", "imbalance_ratio", "n_max", "permute_classes", "split_seed", "split_scheme",
    "validation_per_class",
)  # fmt: skip


# Members trained together. With 40 the stacked parameters and activations of a small network still fit the cache of a
# laptop's CPU; 80 took half as long again per model.
_STACK_SIZE = 40


def run(
    config: RunConfig,
    *,
    checkpoint: str | Path | None = None,
    snapshots: Collection[int] = (),
    execution: str = "auto",
    progress: bool = False,
    dataset: data.Dataset | None = None,
) -> RunResult:
    """Train and evaluate one model.

    Args:
        config: what to run.
        checkpoint: file for the state after every epoch; an existing one of the same configuration is continued.
        snapshots: numbers of finished epochs whose checkpoint is kept, see `lt_lib.training.fit`.
        execution: how steps are run, see `lt_lib.training.resolve_execution`; results differ by rounding only.
        progress: show a progress bar.
        dataset: the loaded data set, if the caller has it already.

    Returns:
        The measured `RunResult`.

    Raises:
        TypeError: a configuration of another kind of run, whose further fields would not count.
        NonFiniteLossError: the loss became infinite or NaN.
        CheckpointError: `checkpoint` is damaged or of another configuration.
        ValueError, MissingDataError: a name or a number that does not fit, data of another name, data that is not
            there.
    """
    check_kind(config, RunConfig)
    device = training.resolve_device(config.device)
    precision = build.resolve_precision(config, device)
    fabric = training.make_fabric(device, precision, num_devices=config.num_devices)
    fabric.launch()
    place = str(fabric.device)  # of several GPUs, every process has its own
    dataset = build.given_dataset(config, dataset)
    problem = build.build_problem(config, place, dataset)
    model = build.build_model(config, problem.input_shape, len(problem.class_counts))
    if len(problem.input_shape) == 3:
        model = model.to(memory_format=torch.channels_last)
    return train_and_measure(
        config,
        model,
        problem,
        fabric,
        checkpoint=checkpoint,
        identity=f"{config.hash()}-{problem.data_hash}",
        snapshots=snapshots,
        execution=execution,
        progress=progress,
    )


def train_and_measure(
    config: RunConfig,
    model: nn.Module,
    problem: build.Problem,
    fabric: Any,
    *,
    labelled: build.Problem | None = None,
    order_at: Order | None = None,
    checkpoint: str | Path | None = None,
    identity: str,
    snapshots: Collection[int] = (),
    execution: str = "auto",
    progress: bool = False,
) -> RunResult:
    """Train `model` from the weights that it has, and measure it.

    Args:
        config: what to run.
        model: the network; changed in place.
        problem: what it is trained on, and evaluated.
        fabric: placement, launched.
        labelled: the labelled samples, unaugmented, of which the result tells counts and recalls in training; those of
            `problem` if not given.
        order_at: order of the samples, in place of the one that the configuration describes.
        checkpoint: file for the state after every epoch, see `lt_lib.training.fit`, as for the next four.
        identity: of the run.
        snapshots: epochs whose checkpoint is kept.
        execution: how steps are run.
        progress: show a progress bar.
    """
    place, precision = str(fabric.device), build.resolve_precision(config, fabric.device.type)
    evaluation = {"test": problem.test}
    if problem.validation is not None:
        evaluation["validation"] = problem.validation
    history = training.fit(
        model,
        problem.train,
        problem.train_targets,
        loss_at=build.build_loss(config, problem.class_counts, place),
        learning_rate_at=build.build_learning_rate(config),
        epochs=config.epochs,
        rng=torch.Generator(place).manual_seed(config.seed),
        batch_size=config.batch_size,
        momentum=config.momentum,
        make_optimizer=build.build_optimizer(config),
        parameters=models.parameter_groups(model, config.weight_decay, decay_on=build.decay_rule(config)),
        order_at=order_at or build.build_order(config, problem.train_targets, problem.class_counts),
        augment=problem.augment,
        evaluation=evaluation,
        evaluate_every=config.evaluate_every,
        fabric=fabric,
        execution=execution,
        checkpoint=checkpoint,
        identity=identity,
        snapshots=snapshots,
        progress=progress,
    )
    labelled = labelled or build.unaugmented(problem)  # only now: as numbers the images take four times the memory
    with fabric.autocast():  # in the number format that the accuracies of the history were computed in
        test_logits, train_logits = (training.predict(model, inputs) for inputs in (problem.test[0], labelled.train))
    return _result(
        config,
        labelled.class_counts,
        history,
        test=(test_logits, problem.test[1]),
        train=(train_logits, labelled.train_targets),
        device=fabric.device.type,
        precision=precision,
        data_hash=problem.data_hash,
    )


def run_many(configs: Sequence[RunConfig], *, dataset: data.Dataset | None = None, workers: int = 1) -> list[RunResult]:
    """Train many models, as few stacked models as possible; results in the order of `configs`.

    Configurations that share data set, class counts, architecture, loss and optimiser settings, and differ only in
    seed, subset, weighting, sampling or the numbers of the loss, are trained as one batched model. Residual networks,
    which hold batch statistics, LSTMs, and runs with augmentation, with Adam, in bfloat16 or on several devices are
    trained one by one, `workers` at a time. Every member gives the result that `run` gives for it alone, up to
    rounding.

    Args:
        configs: what to run.
        dataset: the data set of all of them, if the caller has it already; loaded by name otherwise.
        workers: runs that cannot be stacked and are trained at the same time, >= 1: in threads of this process on a
            GPU, in processes with equal shares of the threads on a CPU (`lt_lib.recipes.side_by_side`).

    Raises:
        TypeError: a configuration of another kind of run, whose further fields would not count.
        NonFiniteLossError: a loss became infinite or NaN.
        ValueError, MissingDataError: a name or a number that does not fit, data of another name, data that is not
            there.
    """
    for config in configs:
        check_kind(config, RunConfig)
    datasets: dict[tuple, data.Dataset] = {}
    subsets: dict[tuple, build.Subset] = {}
    groups: dict[Any, list[int]] = {}
    for position, config in enumerate(configs):
        source, split = _fields(config, _SOURCE), _fields(config, _SPLIT)
        if source not in datasets:
            datasets[source] = build.given_dataset(config, dataset)
        if not _stackable(config):
            continue
        if split not in subsets:
            subsets[split] = build.draw_subset(config, datasets[source])
        shared = tuple(value for name, value in asdict(config).items() if name not in _PER_MEMBER)
        # A hold-out can leave one subset smaller than another, and a stack takes its steps together.
        key = (*shared, len(subsets[split].train), len(subsets[split].validation))
        groups.setdefault(key, []).append(position)
    results: dict[int, RunResult] = {}
    stacks = [
        group[first : first + _STACK_SIZE] for group in groups.values() for first in range(0, len(group), _STACK_SIZE)
    ]
    alone = [position for position, config in enumerate(configs) if not _stackable(config)]
    jobs = [(configs[position], datasets[_fields(configs[position], _SOURCE)]) for position in alone]
    gpu = any(training.resolve_device(config.device) == "cuda" for config, _ in jobs)
    outcomes = side_by_side(_run_job, jobs, workers=workers, way="threads" if gpu else "processes")
    results |= zip(alone, outcomes, strict=True)
    for positions in stacks:
        members = [configs[position] for position in positions]
        loaded = datasets[_fields(members[0], _SOURCE)]
        outcomes = _run_stack(members, loaded, [subsets[_fields(config, _SPLIT)] for config in members])
        results |= zip(positions, outcomes, strict=True)
    return [results[position] for position in range(len(configs))]


def _run_job(job: tuple[RunConfig, data.Dataset]) -> RunResult:
    config, dataset = job
    return run(config, dataset=dataset)


def _fields(config: RunConfig, names: Sequence[str]) -> tuple:
    return tuple(getattr(config, name) for name in names)


def _stackable(config: RunConfig) -> bool:
    small = config.model in ("mlp", "cnn") and config.optimizer == "sgd"
    return small and not config.augment and config.num_devices == 1 and config.precision != "bfloat16"


def _run_stack(configs: Sequence[RunConfig], dataset: data.Dataset, subsets: Sequence[build.Subset]) -> list[RunResult]:
    first = configs[0]
    device = training.resolve_device(first.device)
    precision = build.resolve_precision(first, device)
    dtype = torch.float64 if precision == "float64" else torch.float32
    # Everything is drawn from the prepared training split, so that members with different subsets share one pool.
    pool, pool_targets, test = _whole_split(first, dataset, device)
    losses: dict[tuple, Any] = {}
    members = []
    for config, subset in zip(configs, subsets, strict=True):
        # Neighbours that differ in seeds only share the loss object, hence one call for all of them.
        loss_key = (config.changed(seed=0, split_seed=0), tuple(subset.class_counts))
        if loss_key not in losses:
            losses[loss_key] = build.build_loss(config, subset.class_counts, device)
        indices = torch.from_numpy(subset.train).to(device)
        members.append(
            training.Member(
                indices=indices,
                loss_at=losses[loss_key],
                rng=torch.Generator(device).manual_seed(config.seed),
                order_at=build.build_order(config, pool_targets[indices], subset.class_counts),
                validation=torch.from_numpy(subset.validation).to(device) if len(subset.validation) else None,
            )
        )
    shape = tuple(test[0].shape[1:])
    model = models.StackedModel([build.build_model(config, shape, dataset.num_classes) for config in configs])
    model = model.to(device, dtype)
    histories, test_logits = training.fit_stacked(
        model,
        pool,
        pool_targets,
        members,
        learning_rate_at=build.build_learning_rate(first),
        epochs=first.epochs,
        parameters=model.parameter_groups(first.weight_decay, decay_on=build.decay_rule(first)),
        batch_size=first.batch_size,
        momentum=first.momentum,
        test=test,
        evaluate_every=first.evaluate_every,
    )
    assert test_logits is not None  # a test set was given
    rows = torch.stack([member.indices for member in members])
    with torch.no_grad():
        train_logits = model(pool[rows])
    return [
        _result(
            config,
            subset.class_counts,
            history,
            test=(test_logits[position], test[1]),
            train=(train_logits[position], pool_targets[rows[position]]),
            device=device,
            precision=precision,
            data_hash=subset.hash,
        )
        for position, (config, subset, history) in enumerate(zip(configs, subsets, histories, strict=True))
    ]


def _whole_split(
    config: RunConfig, dataset: data.Dataset, device: str
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """The whole training split, prepared, with the test set."""
    available = np.bincount(dataset.train.targets, minlength=dataset.num_classes)
    everything = build.Subset(np.arange(len(dataset.train.targets)), np.empty(0, dtype=np.int64), available, "")
    problem = build.build_problem(config, device, dataset, subset=everything)
    return problem.train, problem.train_targets, problem.test


def _result(
    config: RunConfig,
    class_counts: np.ndarray,
    history: training.History,
    *,
    test: tuple[torch.Tensor, torch.Tensor],
    train: tuple[torch.Tensor, torch.Tensor],
    device: str,
    precision: str,
    data_hash: str,
) -> RunResult:
    num_classes = len(class_counts)
    confusion = metrics.confusion_matrix(_array(test[1]), _array(test[0].argmax(dim=1)), num_classes)
    train_recall = metrics.per_class_recall(_array(train[1]), _array(train[0].argmax(dim=1)), num_classes)
    scores = history.accuracy["test"]
    return RunResult(
        config=config,
        class_counts=[int(count) for count in class_counts],
        accuracy_last=scores[-1],
        accuracy_validation=selected_accuracy(history.accuracy),
        accuracy_best_on_test=max(scores),
        confusion=np.asarray(confusion).astype(int).tolist(),
        train_recall=[float(value) for value in train_recall],
        curves=dict(vars(history)),
        seconds=history.seconds,
        device=training.describe_device(device),
        precision=precision,
        data_hash=data_hash,
        versions=versions(),
        test_logits=_array(test[0]),
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
