"""`run_semi(config)` runs FixMatch, CReST or a relative; `run_semi_many` many small ones side by side."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lt_lib import counts, data, models, training
from lt_lib._checks import check_integer
from lt_lib._paths import write_whole
from lt_lib.data import protocols, strong_augment
from lt_lib.models.wide_resnet import WideResNet, decay_without_norm
from lt_lib.recipes import build
from lt_lib.recipes._fields import check_kind
from lt_lib.recipes.config import RunConfig
from lt_lib.recipes.result import dataset_label, numbers, plain_values, read_result, selected_accuracy, versions
from lt_lib.recipes.semi_config import SemiConfig, model_numbers, semi_method_name
from lt_lib.training import consistency, crest, diagnostics, semi

# Fields in which the members of one stack may differ; all others are shared by the stacked computation.
_PER_MEMBER = (
    "profile", "label", "n_max", "label_fraction", "rounding", "n_labelled", "n_unlabelled", "imbalance_ratio",
    "family", "unlabelled_imbalance_ratio", "reversed_unlabelled", "permute_classes", "subset_seed", "split_seed",
    "threshold", "unlabelled_weight", "labelled_in_stream", "one_forward", "alignment", "t_min", "prior", "alpha",
    "selection", "keep", "source", "align_selection", "seed",
)  # fmt: skip
_SPLIT = (
    "dataset", "data_root", "n_max", "label_fraction", "rounding", "n_labelled", "n_unlabelled", "imbalance_ratio",
    "family", "unlabelled_imbalance_ratio", "reversed_unlabelled", "permute_classes", "subset_seed", "split_seed",
)  # fmt: skip
# What decides which samples are drawn.
_DRAW = (*(name for name in _SPLIT if name != "data_root"), "validation_per_class")
_STACK_SIZE = 40  # as for supervised stacks: what fits a processor's cache
_CHUNK = 1000  # stored images that are prepared and predicted at once


@dataclass(frozen=True, eq=False)
class SemiProblem:
    """The data of one run on the device, in positions of a pool that holds the drawn samples and no others.

    Attributes:
        pool: inputs as stored, labelled samples first.
        labelled: positions of the labelled samples.
        labels: their labels.
        candidates: positions of the unlabelled samples.
        candidate_targets: their true classes. For diagnostics alone: no training step and no selection reads them.
        test: inputs as the network takes them, and targets.
        validation: the same for samples that are neither labelled nor unlabelled; None without.
        profile: ideal profile in class order, largest class 1 (the "true" prior, unnormalised).
        split: where the samples come from.
        data_hash: digest of data set and split.
        drawn_with: fields of the configuration that say which samples these are.
    """

    pool: Tensor
    labelled: np.ndarray
    labels: np.ndarray
    candidates: np.ndarray
    candidate_targets: np.ndarray
    test: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor] | None
    profile: np.ndarray
    split: protocols.SemiSplit
    data_hash: str
    drawn_with: dict[str, Any]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.profile)

    @property
    def evaluation(self) -> dict[str, tuple[Tensor, Tensor]]:
        """What the averaged model is evaluated on during training."""
        held = {} if self.validation is None else {"validation": self.validation}
        return {"test": self.test, **held}


@dataclass(frozen=True, eq=False)
class SemiResult:
    """Outcome of `run_semi`. Accuracies and recalls are fractions, of the averaged model, on the balanced test set.

    Attributes:
        config: what was run.
        protocol: name of the protocol; results of different ones are not tabulated together.
        class_counts: labelled samples per class.
        unlabelled_counts: unlabelled samples per class.
        generations: one dictionary per generation: `generation`, `training_size`, `accuracy`, `predicted_counts`,
            `selected_counts` and `selected_precision` per class, `never_predicted`, `starved`, the entries of
            `lt_lib.training.diagnostics.PseudoLabelReport`, and the `history` of training; lists, with None for NaN.
        accuracy_last: after the last epoch of the last generation: the number that is judged.
        accuracy_best_on_test: best over all evaluated epochs of the last generation. Optimistic.
        seconds: wall time of training.
        device: name of the device.
        precision: number format of the products.
        data_hash: digest of data set and split.
        versions: Python, torch, numpy and lt_lib.
        accuracy_validation: at the evaluated epoch of the last generation with the best validation accuracy; None
            without hold-out.
        records: the generations with their selections and arrays; not part of the file.
    """

    config: SemiConfig
    protocol: str
    class_counts: list[int]
    unlabelled_counts: list[int]
    generations: list[dict[str, Any]]
    accuracy_last: float
    accuracy_best_on_test: float
    seconds: float
    device: str
    precision: str
    data_hash: str
    versions: dict[str, str]
    accuracy_validation: float | None = None
    records: list[crest.GenerationRecord] = field(default_factory=list, repr=False)

    @property
    def recall(self) -> np.ndarray:
        """Recall per class on the test set after the last generation; NaN for a class without test samples."""
        return np.asarray(numbers(self.generations[-1]["test_recall"]))

    def to_row(self) -> dict[str, Any]:
        """One tidy row with the columns that all result tables share, and the protocol."""
        config = self.config
        return {
            "dataset": dataset_label(config.dataset),
            "profile": config.profile,
            "protocol": self.protocol,
            "model": config.model,
            "method": semi_method_name(config),
            "imbalance_type": "exponential",
            "imbalance_ratio": config.imbalance_ratio,
            "generations": config.generations,
            "steps": config.steps,
            "seed": config.seed,
            "split_seed": config.split_seed,
            "accuracy_last": self.accuracy_last,
            "accuracy_validation": self.accuracy_validation,
            "accuracy_best_on_test": self.accuracy_best_on_test,
            **{f"recall_{label}": float(value) for label, value in enumerate(self.recall)},
            "seconds": self.seconds,
            "device": self.device,
            "config_hash": config.hash(),
            "data_hash": self.data_hash,
            "version": self.versions["lt_lib"],
        }

    def rows(self, **labels: Any) -> list[dict[str, Any]]:
        """Tidy rows per generation and class (`lt_lib.training.generation_rows`), with method and seed."""
        own = {"protocol": self.protocol, "method": semi_method_name(self.config), "seed": self.config.seed}
        return diagnostics.generation_rows(self.records, **(own | labels))

    def save(self, folder: str | os.PathLike) -> Path:
        """Write `result.json` into `folder` in one step and return the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = {name: value for name, value in vars(self).items() if name not in ("config", "records")}
        content |= {"config": asdict(self.config), "config_hash": self.config.hash(), "row": self.to_row()}
        text = json.dumps(plain_values(content), indent=1, sort_keys=True, allow_nan=False)
        write_whole(folder / "result.json", text + "\n")
        return folder


def load_semi_result(folder: str | os.PathLike) -> SemiResult:
    """Read what `SemiResult.save` wrote; the selections themselves are not part of the file.

    Raises:
        ValueError: `result.json` is missing or damaged.
    """

    def make(content: dict[str, Any]) -> SemiResult:
        values = {name: value for name, value in content.items() if name not in ("config_hash", "row")}
        values["config"] = SemiConfig(**values["config"])
        return SemiResult(**values)

    return read_result(folder, make)


def build_semi_problem(config: SemiConfig, device: str = "cpu", dataset: data.Dataset | None = None) -> SemiProblem:
    """Load, draw the split, and put what it needs on the device.

    Args:
        config: the run.
        device: "cpu" or "cuda".
        dataset: the loaded data set, if the caller has it already.

    Raises:
        ValueError: data of another name, a data set of texts, too few samples, views that do not fit the data.
        MissingDataError: the data are not on disk.
    """
    dataset = build.given_dataset(RunConfig(dataset=config.dataset, data_root=config.data_root), dataset)
    inputs = dataset.train.inputs
    if isinstance(inputs, list) or isinstance(dataset.test.inputs, list):
        raise ValueError(f"`dataset` must be a data set of images or vectors, got texts in {config.dataset!r}.")
    classes = dataset.num_classes
    rng = np.random.default_rng(config.subset_seed)
    order = rng.permutation(classes) if config.permute_classes else np.arange(classes)
    if config.family == "crest":
        wanted = counts.exponential_counts(config.n_max, classes, config.imbalance_ratio)
        available = np.bincount(dataset.train.targets, minlength=classes)
        build.check_available(config.n_max, wanted, available, order)
    split = protocols.make_split(
        config.protocol,
        dataset.train.targets,
        classes,
        config.imbalance_ratio,
        subset_seed=config.subset_seed,
        split_seed=config.split_seed,
        unlabelled_imbalance_ratio=config.unlabelled_imbalance_ratio or None,
        class_order=order,
    )
    rows = np.concatenate([split.labelled, split.unlabelled])
    if not len(split.unlabelled):
        raise ValueError(
            f"`label_fraction` must leave an unlabelled sample, got {config.label_fraction:g} of {len(rows)}."
        )
    profile = np.empty(classes)
    profile[order] = crest.exponential_profile(classes, config.imbalance_ratio)
    pool = _stored(inputs[rows], device)
    dtype = torch.float64 if _precision(config, device) == "float64" else torch.float32
    prepare = _prepare(dtype)
    test = prepare(_stored(dataset.test.inputs, device))
    validation = None
    suffix = ""
    if config.validation_per_class:
        held = _holdout(config, dataset.train.targets, rows, classes)
        validation = (
            prepare(_stored(inputs[held], device)),
            torch.from_numpy(dataset.train.targets[held]).to(device),
        )
        suffix = f"-{data.split_hash(held)[:12]}"
    number = len(split.labelled)
    _check_views(config, pool)
    return SemiProblem(
        pool=pool if pool.dtype == torch.uint8 else pool.to(dtype),
        labelled=np.arange(number),
        labels=dataset.train.targets[split.labelled],
        candidates=np.arange(number, len(rows)),
        candidate_targets=dataset.train.targets[split.unlabelled],
        test=(test, torch.from_numpy(dataset.test.targets).to(device)),
        validation=validation,
        profile=profile,
        split=split,
        data_hash=f"{data.data_hash(dataset)[:12]}-{split.hash[:12]}{suffix}",
        drawn_with={name: getattr(config, name) for name in _DRAW},
    )


def _check_views(config: SemiConfig, pool: Tensor) -> None:
    """Refuse views of images for vectors."""
    if config.views == "image" and pool.dtype != torch.uint8:
        raise ValueError("`views` must be 'noise' for a data set of vectors, got 'image'.")


def _check_problem(config: SemiConfig, problem: SemiProblem) -> None:
    """Refuse data that were drawn for another configuration: the row would name others than were used."""
    for name, value in problem.drawn_with.items():
        if getattr(config, name) != value:
            raise ValueError(f"`problem` must be drawn with `{name}` {getattr(config, name)!r}, got {value!r}.")
    _check_views(config, problem.pool)


def _holdout(config: SemiConfig, targets: np.ndarray, used: np.ndarray, num_classes: int) -> np.ndarray:
    """Up to `validation_per_class` samples of every class among those that are not used."""
    free = np.setdiff1d(np.arange(len(targets)), used)
    left = np.bincount(targets[free], minlength=num_classes)
    if not left.all():
        raise ValueError(
            f"`validation_per_class` must be 0 where a class has no sample beyond the labelled and unlabelled ones, "
            f"got {config.validation_per_class} with none left of class {int(left.argmin())}. A smaller long-tailed "
            "set leaves some."
        )
    sizes = np.minimum(left, config.validation_per_class)
    return free[data.long_tail_indices(targets[free], sizes, seed=config.subset_seed)]


def run_semi(
    config: SemiConfig,
    *,
    checkpoint: str | Path | None = None,
    problem: SemiProblem | None = None,
    execution: str = "auto",
    stop_after: int | None = None,
    progress: bool = False,
) -> SemiResult | None:
    """Train all generations of one run.

    Args:
        config: what to run.
        checkpoint: folder for the state after every epoch; what it holds of the same configuration is continued, in
            any generation, and on a CPU ends in the same bits as without the break.
        problem: the data, if the caller has them already.
        execution: how steps are run, see `lt_lib.training.resolve_execution`; results differ by rounding only.
        stop_after: leave after this many finished generations in all, >= 1 (the run can be continued); None to finish.
        progress: show a progress bar over the epochs of each generation.

    Returns:
        The measured `SemiResult`; None for a run left before its last generation.

    Raises:
        TypeError: a configuration of another kind of run.
        NonFiniteLossError: the loss became infinite or NaN.
        CheckpointError: `checkpoint` is damaged or of another configuration.
        ValueError, MissingDataError: a name or a number that does not fit, a problem of another configuration, data
            that are not there.
    """
    check_kind(config, SemiConfig)
    if stop_after is not None:
        check_integer(stop_after, "stop_after", minimum=1)
    device = training.resolve_device(config.device)
    if problem is None:
        problem = build_semi_problem(config, device)
    else:
        _check_problem(config, problem)
    identity = f"{config.hash()}-{problem.data_hash}"

    def learn(tasks: list[crest.Generation]) -> list[crest.Outcome]:
        return [_train_one(config, problem, tasks[0], device, identity, execution, progress)]

    runs = training.run_generations(
        learn,
        [_plan(config, problem)],
        generations=config.generations,
        checkpoint=checkpoint,
        identity=identity,
        stop_after=stop_after,
    )
    return _result(config, problem, runs[0], device) if len(runs[0]) == config.generations else None


def run_semi_many(configs: Sequence[SemiConfig], *, dataset: data.Dataset | None = None) -> list[SemiResult]:
    """Run many configurations, as few stacked models as possible; results in the order of `configs`.

    Multilayer perceptrons on one data set that share model, learner, length and optimiser settings are trained as one
    batched model in float64, generation by generation; seeds, splits, alignment and selection may differ. The others,
    and those with a hold-out, run one after the other. Every member gives the result that `run_semi` gives for it
    alone, up to rounding.

    Args:
        configs: what to run.
        dataset: the data set of all of them, if the caller has it already; loaded by name otherwise.

    Raises:
        TypeError: a configuration of another kind of run.
        NonFiniteLossError: a loss became infinite or NaN.
        ValueError, MissingDataError: a name or a number that does not fit, data of another name, data that are not
            there.
    """
    for config in configs:
        check_kind(config, SemiConfig)
    groups: dict[Any, list[int]] = {}
    datasets: dict[tuple, data.Dataset] = {}
    for position, config in enumerate(configs):
        shared = tuple(value for name, value in asdict(config).items() if name not in _PER_MEMBER)
        groups.setdefault(shared if _stackable(config) else position, []).append(position)
        source = (config.dataset, config.data_root)
        if source not in datasets:
            named = RunConfig(dataset=config.dataset, data_root=config.data_root)
            datasets[source] = build.given_dataset(named, dataset)
    results: dict[int, SemiResult] = {}
    for group in groups.values():
        for first in range(0, len(group), _STACK_SIZE):
            positions = group[first : first + _STACK_SIZE]
            members = [configs[position] for position in positions]
            outcomes = _run_stack(members, datasets[members[0].dataset, members[0].data_root])
            results |= zip(positions, outcomes, strict=True)
    return [results[position] for position in range(len(configs))]


def _stackable(config: SemiConfig) -> bool:
    if config.validation_per_class:
        return False  # every member would have validation samples of its own
    device = training.resolve_device(config.device)
    return model_numbers(config.model)[0] == "mlp" and device == "cpu" and _precision(config, device) == "float64"


def _run_stack(configs: Sequence[SemiConfig], dataset: data.Dataset) -> list[SemiResult]:
    device = training.resolve_device(configs[0].device)
    problems: dict[tuple, SemiProblem] = {}
    keys = [tuple(getattr(config, name) for name in _SPLIT) for config in configs]
    for config, key in zip(configs, keys, strict=True):
        if key not in problems:
            problems[key] = build_semi_problem(config, device, dataset)
    if len(configs) == 1:
        result = run_semi(configs[0], problem=problems[keys[0]])
        assert result is not None  # no generation was left out
        return [result]
    starts = dict(zip(problems, np.cumsum([0, *(len(problem.pool) for problem in problems.values())]), strict=False))
    pool = torch.cat([problem.pool for problem in problems.values()])
    own = [problems[key] for key in keys]
    offsets = [int(starts[key]) for key in keys]

    def learn(tasks: list[crest.Generation]) -> list[crest.Outcome]:
        return _train_stack(configs, own, offsets, pool, tasks, device)

    plans = [_plan(config, problem) for config, problem in zip(configs, own, strict=True)]
    runs = training.run_generations(learn, plans, generations=configs[0].generations)
    return [_result(*parts, device) for parts in zip(configs, own, runs, strict=True)]


def _plan(config: SemiConfig, problem: SemiProblem) -> crest.Plan:
    selection: Any = config.selection  # known names, which `SemiConfig` has checked
    keep: Any = config.keep
    return crest.Plan(
        labelled=problem.labelled,
        labels=problem.labels,
        candidates=problem.candidates,
        rates=crest.inclusion_rates(_prior(config, problem), config.alpha),
        how=selection,
        keep=keep,
        seed=config.seed,
    )


def _prior(config: SemiConfig, problem: SemiProblem) -> np.ndarray:
    return problem.profile if config.prior == "true" else problem.split.class_counts.astype(np.float64)


def _target(config: SemiConfig, problem: SemiProblem, generation: int) -> np.ndarray | None:
    """Distribution that a generation aligns to; None for no alignment, or for a running one."""
    if config.alignment not in ("constant", "adaptive"):
        return None
    temperature = config.t_min
    if config.alignment == "adaptive":
        temperature = crest.alignment_temperature(generation, config.generations, config.t_min)
    return crest.alignment_target(_prior(config, problem), temperature)


def _alignment(config: SemiConfig, problem: SemiProblem, generation: int) -> consistency.Target:
    if config.alignment == "running":
        return "running"
    target = _target(config, problem, generation)
    return None if target is None else torch.from_numpy(target)


def _settings(config: SemiConfig, dtype: torch.dtype) -> dict[str, Any]:
    """Arguments of a generation's training that a run shares with its whole stack."""
    steps = config.epochs * config.steps_per_epoch
    weak, strong = _views(config)
    return {
        "weak": lambda inputs, rng: weak(inputs, rng).to(dtype),
        "strong": lambda inputs, rng: strong(inputs, rng).to(dtype),
        "learning_rate_at": semi.cosine_learning_rate(config.learning_rate, steps, level=config.lr_level),
        "epochs": config.epochs,
        "steps_per_epoch": config.steps_per_epoch,
        "batch_size": config.batch_size,
        "unlabelled_ratio": config.unlabelled_ratio,
        "alignment_window": config.alignment_window,
        "ema_decay": config.ema_decay,
        "momentum": config.momentum,
        "evaluate_every": config.evaluate_every,
    }


def _rule(config: SemiConfig, threshold: float | Tensor) -> consistency.Rule | None:
    if config.learner == "supervised":
        return None
    if config.learner == "mean_teacher":
        return consistency.mean_teacher()
    make = consistency.fixmatch if config.learner == "fixmatch" else consistency.pseudo_label
    return make(threshold, temperature=config.target_temperature)


def _ramp(config: SemiConfig, weight: float | Tensor) -> Callable[[int], Any]:
    return semi.ramp_up(weight, round(config.ramp_up * config.epochs * config.steps_per_epoch))


def _stream(
    config: SemiConfig, problem: SemiProblem, task: crest.Generation, device: str, offset: int = 0
) -> semi.Stream:
    """Index lists of a generation; the unlabelled one is the same in all of them."""
    unlabelled = problem.candidates
    if config.labelled_in_stream:
        unlabelled = np.concatenate([problem.labelled, unlabelled])

    def place(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(device)

    return semi.Stream(
        labelled=place(task.labelled + offset),
        labels=place(task.labels),
        unlabelled=place(unlabelled + offset),
        rng=torch.Generator(device).manual_seed(_seed(config, task.index, 1)),
    )


def _seed(config: SemiConfig, generation: int, purpose: int) -> int:
    """Seeds for weights (purpose 0) and for order and views (1) of a generation."""
    return int(np.random.SeedSequence([config.seed, generation, purpose]).generate_state(1)[0])


def _model(config: SemiConfig, problem: SemiProblem, generation: int) -> nn.Module:
    shape = tuple(problem.test[0].shape[1:])
    kind, numbers = model_numbers(config.model)
    if kind != "mlp" and len(shape) != 3:
        raise ValueError(f"`model` must be an 'mlp' for a data set of vectors, got {config.model!r}.")

    def make() -> nn.Module:
        if kind == "mlp":
            return models.MLP(int(np.prod(shape)), problem.num_classes, hidden=numbers[0])
        if kind == "cnn":
            return models.SmallCNN(shape[0], problem.num_classes)
        depth, width = numbers
        return WideResNet(depth, width, problem.num_classes, in_channels=shape[0])

    return models.seeded(make, _seed(config, generation, 0))


def _train_one(
    config: SemiConfig,
    problem: SemiProblem,
    task: crest.Generation,
    device: str,
    identity: str,
    execution: str,
    progress: bool,
) -> crest.Outcome:
    precision = _precision(config, device)
    dtype = torch.float64 if precision == "float64" else torch.float32
    fabric = training.make_fabric(device, precision)
    model = _model(config, problem, task.index).to(device, dtype)
    if len(problem.test[0].shape) == 4:
        model = model.to(memory_format=torch.channels_last)
    if task.state is not None:
        model.load_state_dict(task.state)
    history, average = semi.fit_semi(
        model,
        problem.pool,
        _stream(config, problem, task, device),
        rule=_rule(config, config.threshold),
        unlabelled_weight_at=_ramp(config, config.unlabelled_weight),
        alignment=_alignment(config, problem, task.index),
        num_classes=problem.num_classes,
        one_forward=config.one_forward,
        parameters=decay_without_norm(model, config.weight_decay),
        evaluation=problem.evaluation,
        fabric=fabric,
        execution=execution,
        checkpoint=task.checkpoint,
        identity=f"{identity}-generation{task.index}",
        progress=progress,
        **_settings(config, dtype),
    )
    prepare = _prepare(dtype)

    @torch.no_grad()
    def probabilities(network: nn.Module, positions: np.ndarray) -> Tensor:
        parts = torch.from_numpy(positions).to(device).split(_CHUNK)
        with fabric.autocast():
            logits = [training.predict(network, prepare(problem.pool[part])) for part in parts]
        return torch.cat(logits).softmax(dim=1)

    with fabric.autocast():
        test = training.predict(average, problem.test[0]).softmax(dim=1)
    return _outcome(
        config,
        problem,
        task,
        history,
        test=test,
        judged=probabilities(average, task.candidates),
        used=None if config.source == "ema" else probabilities(model, task.candidates),
        state=None if config.initialise == "fresh" else _on_host(model),
    )


def _on_host(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in model.state_dict().items()}


def _train_stack(
    configs: Sequence[SemiConfig],
    problems: Sequence[SemiProblem],
    offsets: Sequence[int],
    pool: Tensor,
    tasks: Sequence[crest.Generation],
    device: str,
) -> list[crest.Outcome]:
    """One generation of all members."""
    first = configs[0]
    members = []
    for config, problem, task in zip(configs, problems, tasks, strict=True):
        member = _model(config, problem, task.index).to(device, torch.float64)
        if task.state is not None:
            member.load_state_dict(task.state)
        members.append(member)
    stack = models.StackedModel(members)
    threshold = torch.tensor([[config.threshold] for config in configs], dtype=torch.float64)
    weight = torch.tensor([config.unlabelled_weight for config in configs], dtype=torch.float64)
    triples = list(zip(configs, problems, tasks, strict=True))
    histories, average = semi.fit_semi_stacked(
        stack,
        pool,
        [_stream(*triple, device, offset) for triple, offset in zip(triples, offsets, strict=True)],
        rule=_rule(first, threshold),
        unlabelled_weight_at=_ramp(first, weight),
        alignment=[_alignment(config, problem, task.index) for config, problem, task in triples],
        num_classes=problems[0].num_classes,
        parameters=stack.parameter_groups(first.weight_decay),
        evaluation=problems[0].evaluation,
        **_settings(first, torch.float64),
    )
    rows = [torch.from_numpy(task.candidates + offset) for task, offset in zip(tasks, offsets, strict=True)]
    prepare = _prepare(torch.float64)
    judged = semi.predict_pool(average, pool, rows, prepare)
    used = None
    if any(config.source == "model" for config in configs):
        used = semi.predict_pool(stack, pool, rows, prepare)
    test = training.predict_stacked(average, problems[0].test[0]).softmax(dim=-1)
    return [
        _outcome(
            *triple,
            history,
            test=test[position],
            judged=judged[position],
            used=None if used is None or triple[0].source == "ema" else used[position],
            state=None if first.initialise == "fresh" else stack.member(position),
        )
        for position, (triple, history) in enumerate(zip(triples, histories, strict=True))
    ]


def _outcome(
    config: SemiConfig,
    problem: SemiProblem,
    task: crest.Generation,
    history: semi.SemiHistory,
    *,
    test: Tensor,
    judged: Tensor,
    used: Tensor | None,
    state: Any,
) -> crest.Outcome:
    """Predictions to select from, and the report about those of the averaged model."""
    target = _target(config, problem, task.index)
    chosen = judged if used is None else used
    if config.align_selection and target is not None:
        chosen = consistency.align_predictions(chosen, torch.from_numpy(target).to(chosen))
    prior = _prior(config, problem)
    report = diagnostics.pseudo_label_report(
        test_probabilities=test,
        test_targets=problem.test[1],
        pool_probabilities=judged,
        pool_targets=problem.candidate_targets,
        prior=prior / prior.sum(),
        threshold=config.threshold,
    )
    accuracy = float(np.nanmean(report.test_recall))
    content = {"accuracy": accuracy, "history": dict(vars(history)), "starved": list(history.starved), **vars(report)}
    return crest.Outcome(chosen, content, state)


def _result(config: SemiConfig, problem: SemiProblem, records: list[crest.GenerationRecord], device: str) -> SemiResult:
    generations = []
    for record in records:
        right = diagnostics.selection_precision(record.selection, problem.candidate_targets, problem.num_classes)
        record.report["selected_precision"] = right
        generations.append(
            {
                "generation": record.generation,
                "training_size": record.training_size,
                "predicted_counts": record.selection.predicted,
                "selected_counts": record.selection.selected,
                "never_predicted": list(record.selection.never_predicted),
                **record.report,
            }
        )
    scores = records[-1].report["history"]["accuracy"]
    return SemiResult(
        config=config,
        protocol=problem.split.protocol,
        class_counts=problem.split.class_counts.tolist(),
        unlabelled_counts=problem.split.unlabelled_counts.tolist(),
        generations=plain_values(generations),
        accuracy_last=records[-1].report["accuracy"],
        accuracy_best_on_test=max(scores["test"]),
        accuracy_validation=selected_accuracy(scores),
        seconds=sum(record.report["history"]["seconds"] for record in records),
        device=training.describe_device(device),
        precision=_precision(config, device),
        data_hash=problem.data_hash,
        versions=versions(),
        records=records,
    )


def _precision(config: SemiConfig, device: str) -> str:
    """Number format: as for supervised runs, see `lt_lib.recipes.build.resolve_precision`."""
    if config.precision != "auto":
        return config.precision
    if model_numbers(config.model)[0] == "mlp":
        return "float64" if device == "cpu" else "float32"
    return "bfloat16" if training.computes_bfloat16(device) else "float32"


def _views(config: SemiConfig) -> tuple[semi.View, semi.View]:
    noise = strong_augment.noise_view(config.weak_noise)
    strong_noise = strong_augment.noise_view(config.strong_noise, drop=config.strong_drop)
    weak, strong = strong_augment.weak_view(flip=config.flip), strong_augment.strong_view(flip=config.flip)

    def choose(of_vectors: semi.View, of_images: semi.View) -> semi.View:
        def view(inputs: Tensor, rng: torch.Generator) -> Tensor:
            if inputs.dtype != torch.uint8:
                return of_vectors(inputs, rng)
            if config.views == "noise":
                return of_vectors(strong_augment.to_unit_range(inputs), rng)
            return of_images(inputs, rng)

        return view

    return choose(noise, weak), choose(strong_noise, strong)


def _prepare(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Stored inputs as the network takes them, without randomness; any leading axes."""

    def prepared(inputs: Tensor) -> Tensor:
        return (strong_augment.to_unit_range(inputs) if inputs.dtype == torch.uint8 else inputs).to(dtype)

    return prepared


def _stored(inputs: np.ndarray | list[str], device: str) -> Tensor:
    """Arrays on the device; images stay uint8 and are read as NCHW."""
    values = torch.from_numpy(np.ascontiguousarray(inputs)).to(device)
    return values.permute(0, 3, 1, 2) if values.ndim == 4 else values
