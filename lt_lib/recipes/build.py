"""From names to objects: data on the device, model, loss, schedules. Nothing else turns a name into these."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lt_lib import counts, data, losses, models, samplers
from lt_lib._checks import check_permutation
from lt_lib.data import augment, words
from lt_lib.data.folder import find_folder
from lt_lib.recipes.config import RunConfig
from lt_lib.recipes.result import dataset_label
from lt_lib.training import computes_bfloat16, deferred, shuffled, step_learning_rate

# Numbers that words can have, padding and unknown included.
VOCABULARY = 10_000


@dataclass(frozen=True)
class Problem:
    """The data of one run, ready for training.

    Attributes:
        train: inputs as `augment` (if any) or the model expects them, on the device.
        train_targets: class indices, on the device.
        test: prepared inputs and targets.
        validation: prepared inputs and targets, or None.
        class_counts: training samples per class after any hold-out, int64 `(classes,)`.
        augment: batch function that also normalises, or None.
        store: inputs of the data set's kind -> the form that `train` has, on the device.
        prepare: that form -> what the model expects.
        input_shape: shape of one prepared input.
        data_hash: digest of data set, subset and hold-out.
    """

    train: Tensor
    train_targets: Tensor
    test: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor] | None
    class_counts: np.ndarray
    augment: Callable[[Tensor, torch.Generator], Tensor] | None
    store: Callable[[np.ndarray], Tensor]
    prepare: Callable[[Tensor], Tensor]
    input_shape: tuple[int, ...]
    data_hash: str


@dataclass(frozen=True)
class Subset:
    """Which samples of a data set a configuration trains and validates on.

    Attributes:
        train: indices into the training split.
        validation: indices into the training split; empty without hold-out.
        class_counts: training samples per class after the hold-out.
        hash: digest of data set and both index lists.
    """

    train: np.ndarray
    validation: np.ndarray
    class_counts: np.ndarray
    hash: str


def class_profile(config: RunConfig, available: np.ndarray) -> np.ndarray:
    """Class counts that `config` asks for, largest class first; with "reversed_step" the small classes come first.

    "natural" asks for all samples that there are.

    Args:
        config: fields `imbalance_type`, `imbalance_ratio` and `n_max`.
        available: samples of each class in the training split; `n_max=0` takes as many as every class has.

    Raises:
        ValueError: a class without a sample, of which every profile takes at least one.
    """
    if not available.all():
        raise ValueError(
            f"`dataset` must have a training sample in every class, got none of class {int(available.argmin())}."
        )
    if config.imbalance_type == "natural":
        return np.sort(available)[::-1]
    n_max = config.n_max or int(available.min())
    if config.imbalance_type == "balanced":
        return counts.exponential_counts(n_max, len(available), 1.0)
    if config.imbalance_type == "exponential":
        return counts.exponential_counts(n_max, len(available), config.imbalance_ratio)
    profile = counts.step_counts(n_max, len(available), config.imbalance_ratio)
    return profile[::-1] if config.imbalance_type == "reversed_step" else profile


def frequency_order(config: RunConfig, num_classes: int) -> np.ndarray | None:
    """Classes from the most frequent to the rarest, if they are permuted; None for the native order."""
    return np.random.default_rng(config.split_seed).permutation(num_classes) if config.permute_classes else None


def check_available(n_max: int, wanted: np.ndarray, available: np.ndarray, class_order: np.ndarray | None) -> None:
    """Refuse an `n_max` whose profile asks for more samples than there are.

    Args:
        n_max: samples of the largest class.
        wanted: class counts by rank.
        available: samples of each class.
        class_order: the class of each rank; None for the native order.

    Raises:
        ValueError: naming the first class with too few.
    """
    order = np.arange(len(wanted)) if class_order is None else class_order
    short = np.flatnonzero(wanted > available[order])
    if len(short):
        label = int(order[short[0]])
        raise ValueError(f"`n_max` must not ask for more than class {label} has ({available[label]}), got {n_max}.")


def draw_subset(config: RunConfig, dataset: data.Dataset, class_order: np.ndarray | None = None) -> Subset:
    """Draw the long-tailed training subset of `config`, and its validation samples.

    Args:
        config: the run.
        dataset: the data set.
        class_order: classes from the most frequent to the rarest; None for what `config` says. Without effect on a
            "natural" set, which has an order of its own.

    Raises:
        ValueError: a class without a sample, fewer samples than `config` asks for, or an order that does not hold every
            class once.
    """
    targets = dataset.train.targets
    available = np.bincount(targets, minlength=dataset.num_classes)
    profile = class_profile(config, available)
    order = frequency_order(config, dataset.num_classes)
    if config.imbalance_type == "natural":
        order = np.argsort(-available, kind="stable")
    elif class_order is not None:
        order = check_permutation(class_order, "class_order", dataset.num_classes)
    check_available(config.n_max, profile, available, order)
    scheme: Any = config.split_scheme  # one of the two names, which `RunConfig` has checked
    indices = data.long_tail_indices(
        targets,
        profile,
        seed=config.split_seed,
        class_order=order,
        scheme=scheme,
    )
    validation = np.empty(0, dtype=np.int64)
    if config.validation_per_class:
        indices, validation, _ = data.holdout_indices(
            targets, indices, config.validation_per_class, seed=config.split_seed
        )
    digest = "-".join([data.data_hash(dataset)[:12], data.split_hash(indices)[:12], data.split_hash(validation)[:12]])
    return Subset(indices, validation, np.bincount(targets[indices], minlength=dataset.num_classes), digest)


def load_dataset(config: RunConfig) -> data.Dataset:
    """The data set of `config`; never downloads."""
    return data.load(config.dataset, root=config.data_root or None)


def given_dataset(config: RunConfig, dataset: data.Dataset | None) -> data.Dataset:
    """The data set of a caller who has it already, if it is the one that result rows will name; loaded otherwise.

    An image folder goes by its name in `config` or, behind a link, by the one that it has on disk.

    Args:
        config: the run.
        dataset: the caller's, or None.

    Raises:
        ValueError: a data set of another name.
        MissingDataError: there is none, and it is not on disk.
    """
    if dataset is None:
        return load_dataset(config)
    if dataset.name not in _names(config):
        raise ValueError(f"`dataset` must be that of the configuration, {config.dataset!r}, got {dataset.name!r}.")
    return dataset


def _names(config: RunConfig) -> set[str]:
    """What the data set of `config` is called in tables, and by `lt_lib.data.load`."""
    label = dataset_label(config.dataset)
    if not config.dataset.startswith("folder:"):
        return {label}
    try:
        folder = find_folder(config.dataset.removeprefix("folder:"), data.data_root(config.data_root or None))
    except data.MissingDataError:
        return {label}
    return {label, folder.resolve().name}


def build_problem(
    config: RunConfig, device: str, dataset: data.Dataset | None = None, subset: Subset | None = None
) -> Problem:
    """Load, draw the subset, prepare the inputs and move everything to `device` once.

    Images are standardised with the channel statistics of the whole training split. With `augment`, training images
    stay uint8 on the device, and crop, flip and standardisation are done per batch. Texts become rows of word numbers;
    the vocabulary is that of the training subset (`lt_lib.data.words`).

    Args:
        config: the run.
        device: "cpu", "cuda" or one of several GPUs, such as "cuda:1".
        dataset: the loaded data set, if the caller has it already.
        subset: the samples to use, instead of those that `config` draws.

    Raises:
        ValueError: texts without an LSTM or an LSTM without texts, or `augment` for what is no image.
    """
    dataset = load_dataset(config) if dataset is None else dataset
    subset = subset or draw_subset(config, dataset)
    train_inputs, test_inputs = _arrays(config, dataset, subset)
    dtype = torch.float64 if resolve_precision(config, device) == "float64" else torch.float32
    images, texts = train_inputs.ndim == 4, _reads_texts(config)
    if config.augment and not images:
        kind = "texts" if texts else "vectors"
        raise ValueError(f"`augment` must be False for a data set of {kind}, got True for {config.dataset!r}.")
    statistics = _channel_statistics(train_inputs, device) if images else None

    def prepare(inputs: np.ndarray) -> Tensor:
        values = torch.from_numpy(np.ascontiguousarray(inputs)).to(device)
        if statistics is None:
            return values if texts else values.to(dtype)
        return augment.normalise(_to_nchw(values), *statistics).to(dtype)

    def labels(targets: np.ndarray) -> Tensor:
        return torch.from_numpy(targets).to(device)

    def normalised(stored: Tensor) -> Tensor:
        assert statistics is not None
        return augment.normalise(stored, *statistics).to(dtype)

    def augmented(batch: Tensor, rng: torch.Generator) -> Tensor:
        return normalised(augment.pad_crop_flip(batch, rng))

    def store(inputs: np.ndarray) -> Tensor:
        if config.augment:
            return _to_nchw(torch.from_numpy(np.ascontiguousarray(inputs)).to(device))
        return prepare(inputs)

    test = prepare(test_inputs), labels(dataset.test.targets)
    validation = prepare(train_inputs[subset.validation]), labels(dataset.train.targets[subset.validation])
    return Problem(
        train=store(train_inputs[subset.train]),
        train_targets=labels(dataset.train.targets[subset.train]),
        test=test,
        validation=validation if len(subset.validation) else None,
        class_counts=subset.class_counts,
        augment=augmented if config.augment else None,
        store=store,
        prepare=normalised if config.augment else lambda stored: stored,
        input_shape=tuple(test[0].shape[1:]),
        data_hash=subset.hash,
    )


def unaugmented(problem: Problem) -> Problem:
    """The problem with its training inputs as the model expects them, by the same operations as in training."""
    if problem.augment is None:
        return problem
    return replace(
        problem,
        train=problem.prepare(problem.train),
        augment=None,
        store=lambda inputs: problem.prepare(problem.store(inputs)),
        prepare=lambda stored: stored,
    )


def _arrays(config: RunConfig, dataset: data.Dataset, subset: Subset) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of both splits as numbers."""
    train, test = dataset.train.inputs, dataset.test.inputs
    if isinstance(train, list) != _reads_texts(config):
        raise ValueError(
            f"`model` must be an LSTM for a data set of texts and nothing else for others, got {config.model!r} "
            f"for {config.dataset!r}."
        )
    if isinstance(train, list) and isinstance(test, list):
        vocabulary = words.make_vocabulary((train[index] for index in subset.train), VOCABULARY)
        return words.encode(train, vocabulary, config.tokens), words.encode(test, vocabulary, config.tokens)
    return np.asarray(train), np.asarray(test)


def _reads_texts(config: RunConfig) -> bool:
    return config.model.startswith("lstm")


def _channel_statistics(images: np.ndarray, device: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation on the device: numbers from the host would be copied, and waited for, in every step."""
    mean, deviation = (
        torch.as_tensor(value, dtype=torch.float32, device=device) for value in augment.channel_statistics(images)
    )
    return mean, deviation


def _to_nchw(images: Tensor) -> Tensor:
    """NHWC storage read as NCHW: what PyTorch calls channels_last, the fast layout for convolutions."""
    return images.permute(0, 3, 1, 2)


def resolve_precision(config: RunConfig, device: str) -> str:
    """Number format of a run: see the field `precision`.

    Small networks train in float64 on a CPU, so that rounding moves the results of the quick profile as little as
    possible; large ones in bfloat16 where the hardware multiplies it, else in float32. An LSTM adds up small changes of
    its state over hundreds of words, and PyTorch has no bfloat16 form of it on a CPU: float32.
    """
    kind = torch.device(device).type
    if config.precision != "auto":
        return config.precision
    if config.model in ("mlp", "cnn"):
        return "float64" if kind == "cpu" else "float32"
    if _reads_texts(config):
        return "float32"
    return "bfloat16" if computes_bfloat16(kind) else "float32"


def build_model(config: RunConfig, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """The network of `config` with initial weights drawn from `config.seed`.

    Raises:
        ValueError: a convolutional network for vectors, or a prior bias for a head without bias.
    """
    if config.model != "mlp" and not _reads_texts(config) and len(input_shape) != 3:
        raise ValueError(f"`model` must be 'mlp' for a data set of vectors, got {config.model!r}.")
    head = "cosine" if config.loss == "ldam" else "linear"

    def build() -> nn.Module:
        if config.model == "mlp":
            model: nn.Module = models.MLP(int(np.prod(input_shape)), num_classes, head=head)
        elif _reads_texts(config):
            hidden = int(config.model.removeprefix("lstm"))
            model = models.TextLSTM(VOCABULARY, num_classes, hidden=hidden, head=head)
        elif config.model == "cnn":
            model = models.SmallCNN(input_shape[0], num_classes, head=head)
        else:
            depth = int(config.model.removeprefix("resnet"))
            model = models.CifarResNet(depth, num_classes, head=head, in_channels=input_shape[0])
        if config.bias_init == "prior" or (config.bias_init == "auto" and _is_sigmoid(config)):
            models.initialise_prior_bias(model.head, num_classes)  # type: ignore[arg-type]
        return model

    return models.seeded(build, config.seed)


def decay_rule(config: RunConfig) -> str:
    """Which parameters are decayed: see the field `decay_on`."""
    if config.decay_on != "auto":
        return config.decay_on
    return "all_but_head_bias" if _is_sigmoid(config) else "all"


def _is_sigmoid(config: RunConfig) -> bool:
    return config.loss in ("sigmoid", "focal")


class Objective:
    r"""Mean loss over the last axis of the targets, weighted by class.

    .. math:: \frac{\sum_i w_{y_i}\,\ell_i}{B} \quad\text{or}\quad \frac{\sum_i w_{y_i}\,\ell_i}{\sum_i w_{y_i}}

    The same reduction contract as `lt_lib.losses`, kept separate per model of a stack: `(members, batch)` ->
    `(members,)`.

    Args:
        per_sample: (logits, targets) -> unreduced loss, the shape of the targets.
        weight: class weights `(classes,)`, or None.
        normalization: "batch" (first form) or "weights" (second form).
    """

    def __init__(
        self, per_sample: Callable[[Tensor, Tensor], Tensor], weight: Tensor | None, normalization: str
    ) -> None:
        self.per_sample, self.weight, self.normalization = per_sample, weight, normalization

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of logits `(..., batch, classes)` and targets `(..., batch)`, shape `(...)`."""
        loss = self.per_sample(logits, targets)
        if self.weight is None:
            return loss.mean(dim=-1)
        weights = self.weight.to(loss.dtype)[targets]
        weighted = (loss * weights).sum(dim=-1)
        if self.normalization == "weights":
            # A batch of zero weights has the loss zero, not 0 / 0.
            return weighted / weights.sum(dim=-1).clamp_min(torch.finfo(weights.dtype).tiny)
        return weighted / targets.shape[-1]


def build_loss(config: RunConfig, class_counts: np.ndarray, device: str) -> Callable[[int], Objective]:
    """Loss of `config` as a function of the epoch: unweighted before `defer_until`, weighted after."""
    per_sample = _per_sample_loss(config, class_counts, device)
    plain = Objective(per_sample, None, config.normalization)
    if config.weighting == "none":
        return lambda _epoch: plain
    # A sweep over beta is meant to reach its ends, so the warning about ineffective values stays with `counts`.
    beta = config.beta if config.weighting == "effective_number" else None
    scheme: Any = config.weighting  # a known name, as above
    weights = counts.class_weights(class_counts, scheme, beta=beta, on_ineffective_beta="ignore")
    weighted = Objective(per_sample, torch.as_tensor(weights, device=device), config.normalization)
    return deferred(config.epochs, config.defer_until, plain, weighted)


def _per_sample_loss(config: RunConfig, class_counts: np.ndarray, device: str) -> Callable[[Tensor, Tensor], Tensor]:
    if config.loss in ("ldam", "hinge"):
        if config.margin_rule == "ldam":
            values = counts.ldam_margins(class_counts, config.max_margin)
        else:
            values = np.full(len(class_counts), config.max_margin)
        margins = torch.as_tensor(values, device=device)
        if config.loss == "hinge":
            return lambda z, y: losses.hinge_loss(z, y, margins, reduction="none")
        return lambda z, y: losses.ldam_loss(z, y, margins, scale=config.scale, reduction="none")
    if config.loss in ("balanced_softmax", "logit_adjusted"):
        prior = torch.as_tensor(counts.class_prior(class_counts), device=device)
        tau = config.tau if config.loss == "logit_adjusted" else 1.0
        return lambda z, y: losses.logit_adjusted_loss(z, y, prior, tau=tau, reduction="none")
    if config.loss == "focal":
        return lambda z, y: losses.focal_loss(z, y, gamma=config.gamma, reduction="none")
    if config.loss == "softmax_focal":
        return lambda z, y: losses.softmax_focal_loss(z, y, gamma=config.gamma, reduction="none")
    plain = losses.sigmoid_loss if config.loss == "sigmoid" else losses.softmax_loss
    return lambda z, y: plain(z, y, reduction="none")


def build_order(
    config: RunConfig, targets: Tensor, class_counts: np.ndarray
) -> Callable[[int, torch.Generator], Tensor]:
    """Sample order of `config` as a function of the epoch: shuffled before `defer_until`, drawn by class after.

    A re-sampled epoch draws, with replacement, as many samples as the subset has.
    """
    plain = shuffled(len(targets))
    if config.sampling == "uniform":
        return plain

    def drawn(epoch: int, rng: torch.Generator) -> Tensor:
        progress = epoch / max(config.epochs - 1, 1) if config.sampling == "progressive" else None
        beta = config.beta if config.sampling == "effective_number" else None
        scheme: Any = config.sampling  # a known name, as above
        probabilities = samplers.sampling_probabilities(class_counts, scheme, beta=beta, progress=progress)
        return samplers.draw_indices(targets, probabilities, len(targets), rng)

    stage = deferred(config.epochs, config.defer_until, plain, drawn)
    return lambda epoch, rng: stage(epoch)(epoch, rng)


def build_optimizer(config: RunConfig) -> Callable[..., torch.optim.Optimizer] | None:
    """What makes the optimiser, see `lt_lib.training.fit`; None for SGD, which that function makes itself."""
    if config.optimizer == "sgd":
        return None

    def adam(groups: list[dict], *, lr: float, foreach: bool, fused: bool) -> torch.optim.Optimizer:
        recorded = fused and groups[0]["params"][0].is_cuda
        return torch.optim.Adam(
            groups, lr=lr, betas=(config.momentum, 0.999), foreach=foreach, fused=fused, capturable=recorded
        )

    return adam


def build_learning_rate(config: RunConfig) -> Callable[[int], float]:
    """Learning-rate schedule of `config`."""
    return step_learning_rate(config.epochs, config.learning_rate, warmup=config.warmup, decay=config.lr_decay)
