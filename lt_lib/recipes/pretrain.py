"""`run_pretrain(config)`: pre-train without labels, transfer, train, and perhaps choose a new classifier."""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lt_lib import data, metrics, models, training
from lt_lib._checks import check_known
from lt_lib.data import augment
from lt_lib.recipes import build
from lt_lib.recipes._fields import INFINITY, check_choices, check_kind, check_left, check_ranges, defaults_of
from lt_lib.recipes.config import RunConfig
from lt_lib.recipes.methods import method_config, method_name
from lt_lib.recipes.result import RunResult, numbers, read_result, result_values
from lt_lib.recipes.run import train_and_measure
from lt_lib.training.pretraining import View, crop_and_jitter, shift_and_noise

PRETEXTS = ("none", "rotation", "jigsaw", "autoencoder", "simsiam")
CLASSIFIERS = ("head", "crt", "tau", "lws", "ncm")
SCHEDULES = ("step", "cosine")
# Fields that say how a task is learned; without one they say nothing.
_OF_THE_TASK = (
    "pretrain_batch_size", "pretrain_learning_rate", "pretrain_schedule", "pretrain_weight_decay", "pretrain_noise",
    "embedding",
)  # fmt: skip


@dataclass(frozen=True)
class PretrainConfig(RunConfig):
    """A training run with self-supervised pre-training on the same images before it.

    All fields of `RunConfig` describe the training with labels. Some steer pre-training too: those of the samples,
    `model`, `augment`, `seed`, `precision` and `momentum`, and with the schedule "step" `warmup` and `lr_decay`; it is
    always by SGD. The defaults of the others are those of the code of Yang and Xu for rotation: as long, as fast and in
    the same batches as the training that follows.
    """

    pretext: str = "rotation"  # none, rotation, jigsaw, autoencoder or simsiam
    pretrain_epochs: int = 40  # passes over the images without labels, >= 0; 0 with pretext none
    pretrain_batch_size: int = 128  # images per step, >= 2
    pretrain_learning_rate: float = 0.1  # after warm-up, > 0
    pretrain_schedule: str = "step"  # step or cosine: as the training with labels, or down to 0
    pretrain_weight_decay: float = 2e-4  # coefficient of the squared norm / 2, >= 0
    pretrain_noise: float = 0.5  # deviation of the noise to remove (autoencoder), on standardised pixels, >= 0
    embedding: int = 64  # length of SimSiam's projection, >= 2
    classifier: str = "head"  # head, crt, tau, lws or ncm: as trained, or chosen anew on the frozen features

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, _CHOICES)
        check_task(self)
        check_ranges(self, _RANGES)
        if self.pretext == "none":
            check_left(self, _OF_THE_TASK, "with pretext 'none'")
        if self.num_devices != 1:
            raise ValueError(f"`num_devices` must be 1 for pre-training, got {self.num_devices}.")
        if self.classifier != "head" and (self.loss == "ldam" or not self.validation_per_class):
            raise ValueError(
                f"`classifier` must be 'head' for a cosine head or without validation images, got {self.classifier!r} "
                f"with loss {self.loss!r} and validation_per_class {self.validation_per_class}."
            )

    @property
    def total_epochs(self) -> int:
        """Passes over the images before and after the transfer together."""
        return training.equal_length(self.pretrain_epochs, self.epochs)

    def control(self) -> "PretrainConfig":
        """The run from scratch that is as long as this one in all.

        Example:
            >>> control = PretrainConfig(epochs=200, pretrain_epochs=200).control()
            >>> control.pretext, control.epochs, control.total_epochs
            ('none', 400, 400)
        """
        defaults = defaults_of(type(self), _OF_THE_TASK)
        return replace(self, **defaults, pretext="none", pretrain_epochs=0, epochs=self.total_epochs)


def check_task(config: Any) -> None:
    """Refuse a task without epochs, epochs without a task, and a task for another optimiser than SGD.

    Args:
        config: a `RunConfig` with the fields `pretext` and `pretrain_epochs`.

    Raises:
        ValueError: naming the field.
    """
    if (config.pretext == "none") != (config.pretrain_epochs == 0):
        raise ValueError(
            "`pretrain_epochs` must be 0 with pretext 'none' and >= 1 with a task, "
            f"got {config.pretrain_epochs} with {config.pretext!r}."
        )
    if config.pretext != "none" and config.optimizer != "sgd":
        raise ValueError(f"`optimizer` must be 'sgd' for pre-training, got {config.optimizer!r}.")


_CHOICES: dict[str, tuple[str, ...]] = {
    "pretext": PRETEXTS,
    "classifier": CLASSIFIERS,
    "pretrain_schedule": SCHEDULES,
}
_RANGES = (
    ("pretrain_epochs", 0, INFINITY),
    ("pretrain_batch_size", 2, INFINITY),
    ("pretrain_learning_rate", 1e-12, INFINITY),
    ("pretrain_weight_decay", 0, INFINITY),
    ("pretrain_noise", 0, INFINITY),
    ("embedding", 2, INFINITY),
)


@dataclass(frozen=True)
class PretrainResult:
    """Outcome of `run_pretrain`.

    Attributes:
        trained: of the training with labels, with the accuracy and confusion of the classifier that was asked for.
        pretext_curves: loss, rate and score of pre-training by epoch; empty without.
        pretext_score: how well the task is done on (at most 1,000) test images, on the task's own scale; None without a
            task, and for SimSiam with augmented images, whose views need the stored ones.
        probe_accuracy: balanced test accuracy of a linear probe on the features before any training with labels.
        chosen: what validation chose for the classifier, by name.
        seconds: wall time of everything.
    """

    trained: RunResult
    pretext_curves: dict[str, Any]
    pretext_score: float | None
    probe_accuracy: float
    chosen: dict[str, Any]
    seconds: float

    @property
    def config(self) -> PretrainConfig:
        """What was run."""
        config = self.trained.config
        assert isinstance(config, PretrainConfig)
        return config

    @property
    def method(self) -> str:
        """Name for tables: the base method, where it started, and the classifier if it is another one.

        A run from scratch is named as such, so that a control of double length is not taken for the base method.
        """
        config = self.config
        start = "from scratch" if config.pretext == "none" else f"+ {config.pretext}"
        suffix = "" if config.classifier == "head" else f", {config.classifier}"
        return f"{method_name(config)} {start}{suffix}"

    def to_row(self) -> dict[str, Any]:
        """One tidy row: the columns that all result tables share, and those of pre-training."""
        config = self.config
        return self.trained.to_row() | {
            "method": self.method,
            "base": method_name(config),
            "pretext": config.pretext,
            "classifier": config.classifier,
            "epochs": config.epochs,
            "pretrain_epochs": config.pretrain_epochs,
            "total_epochs": config.total_epochs,
            "pretext_score": self.pretext_score,
            "probe_accuracy": self.probe_accuracy,
            "seconds": self.seconds,
        }

    def save(self, folder: str | os.PathLike) -> Path:
        """Write `result.json`, `curves.csv` and, after pre-training, `pretext.csv` into `folder`; return the folder."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "trained"}
        tables = {"pretext.csv": self._pretext_csv()} if self.pretext_curves else {}
        return self.trained.save(folder, own=own | {"method": self.method, "row": self.to_row()}, tables=tables)

    def _pretext_csv(self) -> str:
        columns = zip(
            self.pretext_curves["learning_rate"],
            self.pretext_curves["train_loss"],
            self.pretext_curves["accuracy"]["pretext"],
            strict=True,
        )
        lines = ["epoch,learning_rate,loss,score"]
        lines += [f"{epoch},{rate:.8g},{loss:.6g},{score:.6g}" for epoch, (rate, loss, score) in enumerate(columns)]
        return "\n".join(lines) + "\n"


def run_pretrain(
    config: PretrainConfig,
    *,
    checkpoint: str | Path | None = None,
    progress: bool = False,
    dataset: data.Dataset | None = None,
) -> PretrainResult:
    """Pre-train on the images of the long-tailed subset, transfer all but the last layer, train, evaluate.

    The images get no other labels than the subset's own, and pre-training reads none. With `augment`, images are
    cropped and mirrored before a task turns, cuts or blurs them; SimSiam makes its own views instead.

    Args:
        config: what to run.
        checkpoint: file for the state after every epoch; pre-training keeps its own beside it as `NAME.pretext`.
        progress: show progress bars.
        dataset: the loaded data set, if the caller has it already.

    Raises:
        TypeError: a configuration of another kind of run.
        NonFiniteLossError: the loss became infinite or NaN.
        CheckpointError: a checkpoint is damaged or of another configuration.
        ValueError, MissingDataError: vectors instead of images, another misfit, data of another name, or data that is
            not there.
    """
    check_kind(config, PretrainConfig)
    device = training.resolve_device(config.device)
    precision = build.resolve_precision(config, device)
    fabric = training.make_fabric(device, precision)
    fabric.launch()
    place = str(fabric.device)
    dataset = build.given_dataset(config, dataset)
    problem = build.build_problem(config, place, dataset)
    plain = build.unaugmented(problem)
    if len(problem.input_shape) != 3:
        raise ValueError(f"`dataset` must hold images for pre-training, got vectors in {config.dataset!r}.")
    identity = f"{config.hash()}-{problem.data_hash}"
    dtype = plain.train.dtype
    model = build.build_model(config, problem.input_shape, len(problem.class_counts)).to(place, dtype)
    model = model.to(memory_format=torch.channels_last)
    curves: dict[str, Any] = {}
    score, seconds = None, 0.0
    if config.pretext != "none":
        task, network, history = learn_pretext(config, problem, dataset, fabric, checkpoint, identity, progress)
        carry_over(config.pretext, network, model)
        curves, seconds = dict(vars(history)), history.seconds
        if config.pretext != "simsiam" or problem.augment is None:
            rng = torch.Generator(place).manual_seed(config.seed)
            score = float(training.pretext_score(network.to(dtype), problem.test[0][:1000], task, rng))
    probe = _probe_accuracy(model, config, plain)
    trained = train_and_measure(
        config, model, problem, fabric, labelled=plain, checkpoint=checkpoint, identity=identity, progress=progress
    )
    chosen: dict[str, Any] = {}
    if config.classifier != "head":
        trained, chosen = _with_classifier(config, model, plain, trained)
    return PretrainResult(trained, curves, score, probe, chosen, seconds + trained.seconds)


def learn_pretext(
    config: PretrainConfig,
    problem: build.Problem,
    dataset: data.Dataset,
    fabric: Any,
    checkpoint: str | Path | None,
    identity: str,
    progress: bool,
) -> tuple[training.PretextTask, nn.Module, training.History]:
    """The task of `config` and a network that has learned it; the state is kept as `NAME.pretext`."""
    task, network = build_pretext(config, problem.input_shape, _view(config, dataset))
    history = training.pretrain(
        network,
        problem.train,
        task,
        learning_rate_at=_pretrain_rate(config),
        epochs=config.pretrain_epochs,
        rng=torch.Generator(str(fabric.device)).manual_seed(config.seed),
        batch_size=config.pretrain_batch_size,
        momentum=config.momentum,
        parameters=models.parameter_groups(network, config.pretrain_weight_decay),
        augment=None if config.pretext == "simsiam" else problem.augment,
        fabric=fabric,
        checkpoint=None if checkpoint is None else f"{checkpoint}.pretext",
        identity=identity,
        progress=progress,
    )
    return task, network, history


def carry_over(pretext: str, network: nn.Module, model: nn.Module) -> None:
    """Give `model` what `network` has learned, in all layers but the last.

    Args:
        pretext: the task.
        network: from `build_pretext`, trained.
        model: a network of the same kind for the classes; changed in place.
    """
    training.transfer(network.state_dict(), model, prefix="encoder." if pretext == "simsiam" else "")


def build_pretext(
    config: PretrainConfig, input_shape: tuple[int, ...], view: View
) -> tuple[training.PretextTask, nn.Module]:
    """The task of `config` and a network for it, with initial weights drawn from `config.seed`.

    Args:
        config: the run, with a task.
        input_shape: channels, height, width.
        view: SimSiam's random view.

    Raises:
        ValueError: no task.
    """
    tasks = {
        "rotation": training.rotation_task,
        "jigsaw": training.jigsaw_task,
        "autoencoder": lambda: training.autoencoder_task(int(np.prod(input_shape)), config.pretrain_noise),
        "simsiam": lambda: training.simsiam_task(view, config.embedding),
    }
    check_known(config.pretext, "pretext", tasks)
    task = tasks[config.pretext]()
    plain = method_config("ERM", config, bias_init="zero", decay_on="all")
    if config.pretext == "simsiam":
        encoder = build.build_model(plain, input_shape, 2)
        width = encoder.head.in_features  # type: ignore[union-attr]
        return task, models.seeded(lambda: training.SiameseNet(encoder, width, config.embedding), config.seed)  # type: ignore[arg-type]
    network = build.build_model(plain, input_shape, task.outputs)
    training.start_decoder(task, network)
    return task, network


def _view(config: PretrainConfig, dataset: data.Dataset) -> View:
    """SimSiam's view: of photographs where the run augments, of small drawings without colour elsewhere."""
    if not config.augment:
        return shift_and_noise
    mean, deviation = augment.channel_statistics(np.asarray(dataset.train.inputs))

    def view(images: Tensor, rng: torch.Generator) -> Tensor:
        values = crop_and_jitter(images.float() / 255, rng)
        centre, spread = (torch.as_tensor(v, dtype=values.dtype, device=values.device) for v in (mean, deviation))
        return (values - centre[:, None, None]) / spread[:, None, None]

    return view


def _pretrain_rate(config: PretrainConfig) -> Any:
    epochs, base = config.pretrain_epochs, config.pretrain_learning_rate
    if config.pretrain_schedule == "step":
        return training.step_learning_rate(epochs, base, warmup=config.warmup, decay=config.lr_decay)
    return lambda epoch: base * 0.5 * (1 + float(np.cos(np.pi * epoch / epochs)))


def _features(model: nn.Module, inputs: Tensor, targets: Tensor) -> training.FeatureSet:
    return training.FeatureSet(training.extract_features(model, inputs), targets)


def _probe_accuracy(model: nn.Module, config: PretrainConfig, plain: build.Problem) -> float:
    """Of a linear classifier with class-balanced draws on the features as they are before training with labels."""
    num_classes = len(plain.class_counts)
    probe = training.retrain_classifier(
        _features(model, plain.train, plain.train_targets),
        num_classes,
        rng=torch.Generator(plain.train.device).manual_seed(config.seed),
        batch_size=config.batch_size,
    )
    predicted = probe(training.extract_features(model, plain.test[0])).argmax(dim=1)
    return metrics.balanced_accuracy(plain.test[1], predicted, num_classes)


def _with_classifier(
    config: PretrainConfig, model: nn.Module, plain: build.Problem, trained: RunResult
) -> tuple[RunResult, dict[str, Any]]:
    """The result with a new classifier on the frozen features; the accuracy is the only one there is to select."""
    assert plain.validation is not None  # `PretrainConfig` asks for validation images
    train = _features(model, plain.train, plain.train_targets)
    found = training.decouple(
        config.classifier,
        model.head,  # type: ignore[arg-type]
        train,
        _features(model, *plain.validation),
        seed=config.seed,
        batch_size=config.batch_size,
    )
    logits = found(training.extract_features(model, plain.test[0]))
    num_classes = len(plain.class_counts)
    truth, predicted = (value.cpu().numpy() for value in (plain.test[1], logits.argmax(dim=1)))
    accuracy = metrics.balanced_accuracy(truth, predicted, num_classes)
    fitted = metrics.per_class_recall(
        train.targets.cpu().numpy(), found(train.features).argmax(dim=1).cpu().numpy(), num_classes
    )
    changed = replace(
        trained,
        accuracy_last=accuracy,
        accuracy_validation=accuracy,
        accuracy_best_on_test=accuracy,
        confusion=np.asarray(metrics.confusion_matrix(truth, predicted, num_classes)).astype(int).tolist(),
        train_recall=[float(value) for value in fitted],
        test_logits=logits.cpu().numpy(),
    )
    return changed, dict(found.chosen or {})


def pretext_numbers(curves: dict[str, Any]) -> dict[str, Any]:
    """The curves of pre-training as they were before they were written: a score can be not a number.

    Args:
        curves: from a `result.json`; empty without a task.
    """
    if not curves:
        return curves
    return curves | {"accuracy": {name: numbers(values) for name, values in curves["accuracy"].items()}}


def load_pretrain_result(folder: str | os.PathLike) -> PretrainResult:
    """Read what `PretrainResult.save` wrote.

    Raises:
        ValueError: `result.json` is missing or damaged.
    """

    def make(content: dict[str, Any]) -> PretrainResult:
        trained = RunResult(**result_values(content, PretrainConfig(**content["config"])))
        own = {field.name: content[field.name] for field in fields(PretrainResult) if field.name != "trained"}
        return PretrainResult(trained=trained, **own | {"pretext_curves": pretext_numbers(own["pretext_curves"])})

    return read_result(folder, make)
