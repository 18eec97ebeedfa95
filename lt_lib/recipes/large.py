"""`run_large(config)` trains one residual network on images that are decoded batch by batch, on one or more devices."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lt_lib import counts, models, training
from lt_lib._checks import check_integer
from lt_lib._paths import write_whole
from lt_lib.data import augment
from lt_lib.data.image_files import ImageFiles, ImageFileSet, load_image_files
from lt_lib.data.streaming import ImageStream
from lt_lib.recipes import build
from lt_lib.recipes._fields import check_kind
from lt_lib.recipes.config import RunConfig
from lt_lib.recipes.large_config import SCHEDULES, LargeConfig
from lt_lib.recipes.result import read_result, selected_accuracy, versions

_STRIDE = 32  # pixels of a side that become one number in the network's last maps


@dataclass(frozen=True)
class LargeResult:
    """Outcome of `run_large`. Accuracies and recalls are fractions in [0, 1] on the test files.

    Attributes:
        config: what was run.
        class_counts: training images per class.
        test_counts: test images per class.
        accuracy_last: top-1 accuracy after the last epoch, over all test images as in the papers: the judged number.
        accuracy_validation: at the evaluated epoch with the best validation accuracy; None without validation files.
        accuracy_best_on_test: best over the evaluated epochs. Optimistic: it looks at the test set.
        top5_last: top-5 accuracy after the last epoch.
        mean_recall_last: mean recall over the classes after the last epoch; differs from the accuracy where the test
            set is not balanced, as on iNaturalist 2017.
        recall: recall per class after the last epoch; None for a class without test images.
        curves: per-epoch lists of `lt_lib.training.History`.
        seconds: wall time of training and evaluation.
        device: name of the device.
        precision: number format of the products.
        data_hash: digest of the file lists.
        versions: Python, torch, numpy and lt_lib.
    """

    config: LargeConfig
    class_counts: list[int]
    test_counts: list[int]
    accuracy_last: float
    accuracy_validation: float | None
    accuracy_best_on_test: float
    top5_last: float
    mean_recall_last: float
    recall: list[float | None]
    curves: dict[str, Any]
    seconds: float
    device: str
    precision: str
    data_hash: str
    versions: dict[str, str]

    def to_row(self) -> dict[str, Any]:
        """One tidy row: the columns that all result tables share, with top-5 and mean recall.

        Thousands of classes do not fit into columns: recalls are given for the classes with many (over 100), medium and
        few (under 20) training images; an empty group is None.
        """
        config = self.config
        recall = np.array([np.nan if value is None else value for value in self.recall])
        groups: dict[str, float | None] = {}
        for group, classes in counts.shot_groups(self.class_counts).items():
            scored = recall[classes][~np.isnan(recall[classes])]
            groups[f"recall_{group}"] = float(scored.mean()) if scored.size else None
        occupied = [count for count in self.class_counts if count]
        return {
            "dataset": config.dataset,
            "profile": config.profile,
            "model": f"resnet{config.depth}",
            "method": config.method,
            "imbalance_type": "natural",
            "imbalance_ratio": max(occupied) / min(occupied),
            "loss": config.loss,
            "beta": config.beta if config.weighting == "effective_number" else None,
            "gamma": config.gamma if "focal" in config.loss else None,
            "seed": config.seed,
            "accuracy_last": self.accuracy_last,
            "accuracy_validation": self.accuracy_validation,
            "accuracy_best_on_test": self.accuracy_best_on_test,
            "top5_last": self.top5_last,
            "mean_recall_last": self.mean_recall_last,
            **groups,
            "image_size": config.image_size,
            "seconds": self.seconds,
            "device": self.device,
            "config_hash": config.hash(),
            "data_hash": self.data_hash,
            "version": self.versions["lt_lib"],
        }

    def save(self, folder: str | os.PathLike) -> Path:
        """Write `result.json` into `folder`, in one step, and return the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = asdict(self) | {
            "method": self.config.method,
            "config_hash": self.config.hash(),
            "row": self.to_row(),
        }
        write_whole(folder / "result.json", json.dumps(content, indent=1, sort_keys=True) + "\n")
        return folder


def load_large_result(folder: str | os.PathLike) -> LargeResult:
    """Read what `LargeResult.save` wrote.

    Raises:
        ValueError: `result.json` is missing or damaged.
    """

    def make(content: dict[str, Any]) -> LargeResult:
        values = {name: value for name, value in content.items() if name not in {"method", "config_hash", "row"}}
        values["config"] = LargeConfig(**values["config"])
        return LargeResult(**values)

    return read_result(folder, make)


def run_large(
    config: LargeConfig,
    *,
    checkpoint: str | os.PathLike | None = None,
    files: ImageFileSet | None = None,
    stop_after: int | None = None,
    report: Callable[[training.History], None] | None = None,
) -> LargeResult | None:
    """Train and evaluate one model, in as many processes as `config.num_devices` says.

    With several, this process starts the others with the command that started itself, as Lightning Fabric does for
    scripts and modules: the unit is a command, because a notebook's kernel cannot be started again like that. Processes
    that `torchrun` or Slurm started are found and used.

    Args:
        config: what to run.
        checkpoint: file for the state after every epoch, which the first process writes; an existing one is continued.
            None keeps nothing.
        files: the images of `config.dataset`, if they are listed already.
        stop_after: leave after this many finished epochs in all, >= 1; None to finish.
        report: called in the first process with the history after every epoch.

    Returns:
        The measured result, in the first process; None in the others, and for a run left before its last epoch.

    Raises:
        TypeError: a configuration of another kind of run.
        NonFiniteLossError: the loss became infinite or NaN.
        CheckpointError: the checkpoint is damaged or of another configuration.
        ValueError, MissingDataError: a name or a number that does not fit, files of another data set, data that is not
            there, a damaged image.
    """
    check_kind(config, LargeConfig)
    if stop_after is not None:
        check_integer(stop_after, "stop_after", minimum=1)
    device = training.resolve_device(config.device)
    precision = config.precision
    if precision == "auto":
        precision = "bfloat16" if training.computes_bfloat16(device) else "float32"
    fabric = training.make_fabric(device, precision, num_devices=config.num_devices)
    fabric.launch()
    files = files or load_image_files(config.dataset, config.data_root or None)
    if files.name != config.dataset:
        raise ValueError(f"`files` must be those of {config.dataset!r}, got those of {files.name!r}.")
    _check_passes(config, len(files.train))
    model = build_large_model(config, files.num_classes).to(memory_format=torch.channels_last)
    place = str(fabric.device)
    prepare = _standardise(files, place, torch.float64 if precision == "float64" else torch.float32)
    held = {"test": files.test} | ({"validation": files.validation} if files.validation is not None else {})
    evaluation = {
        name: (_stream(config, part, fabric, crop="centre"), torch.from_numpy(part.targets))
        for name, part in held.items()
    }
    settings: dict[str, Any] = {"prepare": prepare, "fabric": fabric}
    history = training.fit_stream(
        model,
        _stream(config, files.train, fabric, crop=config.crop),
        torch.from_numpy(files.train.targets),
        loss_at=build_large_loss(config, files.class_counts, place),
        learning_rate_at=training.progress_learning_rate(
            config.epochs, config.learning_rate, warmup=config.warmup, milestones=SCHEDULES[config.schedule]
        ),
        epochs=config.epochs,
        num_classes=files.num_classes,
        parameters=_groups(model, config),
        momentum=config.momentum,
        nesterov=config.nesterov,
        micro_batch=config.micro_batch,
        evaluation=evaluation,
        evaluate_every=config.evaluate_every,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        identity=f"{config.hash()}-{files.hash()[:12]}",
        stop_after=stop_after,
        report=report,
        **settings,
    )
    if history.epochs < config.epochs:
        return None
    hits = training.count_hits(model, *evaluation["test"], files.num_classes, **settings)
    if not fabric.is_global_zero:
        return None
    return _result(config, files, history, hits, device=device, precision=precision)


def _check_passes(config: LargeConfig, images: int) -> None:
    """Refuse a pass of one image whose last maps are single numbers: batch normalisation finds no deviation in one."""
    if config.image_size > _STRIDE:
        return
    steps = -(-images // config.batch_size)
    batches = {images // steps, -(-images // steps)}
    shares = {part for batch in batches for part in (batch // config.num_devices, -(-batch // config.num_devices))}
    for share in sorted(shares - {0}):
        size = config.micro_batch or share
        if min(size, share) == 1 or share % size == 1:
            name = "micro_batch" if config.micro_batch and share > 1 else "batch_size"
            raise ValueError(
                f"`{name}` must leave two or more images in every forward pass with an `image_size` of up to "
                f"{_STRIDE}, got {getattr(config, name)} with {images} training images."
            )


def build_large_model(config: LargeConfig, num_classes: int) -> nn.Module:
    """The network of `config` with initial weights drawn from `config.seed`.

    A head for sigmoid and focal losses starts at the prior, as Cui et al. have it.
    """

    def make() -> nn.Module:
        model = models.ImageResNet(config.depth, num_classes, head="cosine" if config.loss == "ldam" else "linear")
        if config.loss in ("sigmoid", "focal"):
            models.initialise_prior_bias(model.head, num_classes)  # type: ignore[arg-type]
        return model

    return models.seeded(make, config.seed)


class BatchLoss:
    r"""An `Objective` in two parts: the weighted sum over some samples, and what the whole batch divides it by.

    Several devices, or several passes on one, then add up to the loss of the batch; a mean over each part would weight
    the parts alike, whatever the classes in them.
    """

    def __init__(self, objective: build.Objective) -> None:
        self.objective = objective

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted sum of the losses, a scalar."""
        loss = self.objective.per_sample(logits, targets)
        weight = self.objective.weight
        return loss.sum() if weight is None else (loss * weight.to(loss.dtype)[targets]).sum()

    def divisor(self, targets: Tensor) -> Tensor | float:
        """Size of the batch, or the sum of its weights."""
        if self.objective.weight is None or self.objective.normalization == "batch":
            return float(len(targets))
        return self.objective.weight[targets].sum().float()


def build_large_loss(config: LargeConfig, class_counts: np.ndarray, device: str) -> Callable[[int], BatchLoss]:
    """Loss of `config` as a function of the epoch: unweighted before `defer_until`, weighted after."""
    shared = (
        "loss",
        "gamma",
        "max_margin",
        "scale",
        "tau",
        "weighting",
        "beta",
        "normalization",
        "defer_until",
        "epochs",
    )
    given = {name: getattr(config, name) for name in shared}
    # The defaults of a large run are others, so it has values that this one must leave alone where nothing reads them.
    unread = RunConfig.unread_fields({**vars(RunConfig()), **given})
    same = RunConfig(**{name: value for name, value in given.items() if name not in unread})
    loss_at = build.build_loss(same, class_counts, device)
    return lambda epoch: BatchLoss(loss_at(epoch))


def _groups(model: nn.Module, config: LargeConfig) -> list[dict]:
    if config.decay_on == "kernels":
        return models.decay_kernels(model, config.weight_decay)
    return models.parameter_groups(model, config.weight_decay)


def _stream(config: LargeConfig, files: ImageFiles, fabric: Any, *, crop: str) -> ImageStream:
    return ImageStream(
        files,
        size=config.image_size,
        crop=crop,
        batch_size=config.batch_size,
        seed=config.seed,
        rank=fabric.global_rank,
        processes=fabric.world_size,
        workers=config.workers,
        pinned=fabric.device.type == "cuda",
    )


def _standardise(files: ImageFileSet, device: str, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    mean, deviation = (
        torch.tensor(values, dtype=torch.float32, device=device) for values in (files.channel_mean, files.channel_std)
    )
    return lambda images: augment.normalise(images, mean, deviation).to(dtype)


def _result(
    config: LargeConfig,
    files: ImageFileSet,
    history: training.History,
    hits: training.HitCounts,
    *,
    device: str,
    precision: str,
) -> LargeResult:
    scores = history.accuracy["test"]
    return LargeResult(
        config=config,
        class_counts=files.class_counts.tolist(),
        test_counts=hits.samples.tolist(),
        accuracy_last=hits.accuracy,
        accuracy_validation=selected_accuracy(history.accuracy),
        accuracy_best_on_test=max(scores),
        top5_last=hits.top5_accuracy,
        mean_recall_last=hits.mean_recall,
        recall=[None if np.isnan(value) else float(value) for value in hits.recall],
        curves=dict(vars(history)),
        seconds=history.seconds,
        device=training.describe_device(device),
        precision=precision,
        data_hash=files.hash(),
        versions=versions(),
    )
