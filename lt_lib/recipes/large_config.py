"""`LargeConfig`: everything that decides the outcome of one run on iNaturalist, ILSVRC or ImageNet-LT; its presets."""

from dataclasses import dataclass, replace
from typing import Any

from lt_lib._checks import check_known
from lt_lib.data.image_files import image_file_names
from lt_lib.models.resnet_image import DEPTHS
from lt_lib.recipes._fields import (
    BELOW_ONE,
    INFINITY,
    check_choices,
    check_ranges,
    check_seed,
    check_types,
    experiment_hash,
)
from lt_lib.recipes.config import LOSSES, PROFILES, WEIGHTINGS
from lt_lib.training import change_epoch

# Fractions of the run at which the rate falls to a tenth; None is half a cosine down to 0.
SCHEDULES: dict[str, tuple[float, ...] | None] = {
    "three_steps": (1 / 3, 2 / 3, 8 / 9),
    "two_steps": (1 / 3, 2 / 3),
    "cosine": None,
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "dataset": image_file_names(),
    "profile": PROFILES,
    "crop": ("area", "shorter_side"),
    "loss": LOSSES,
    "weighting": WEIGHTINGS,
    "normalization": ("batch", "weights"),
    "schedule": tuple(SCHEDULES),
    "decay_on": ("all", "kernels"),
    "precision": ("auto", "float64", "float32", "bfloat16"),
    "device": ("auto", "cpu", "cuda"),
}
# Where and how the run is placed. `micro_batch` and `num_devices` cut the batch that batch normalisation sees, as the
# number of accelerators did in the papers; the mean of the gradients is the same.
_PLACEMENT = {"data_root", "device", "num_devices", "workers", "micro_batch"}


@dataclass(frozen=True)
class LargeConfig:
    """One training run on a data set whose images are decoded batch by batch. Every field is checked on construction.

    The defaults are those of the large-scale table of Cui et al. for the softmax loss; see `large_preset`.
    """

    dataset: str = "inaturalist"  # name understood by lt_lib.data.load_image_files
    data_root: str = ""  # folder of the data sets; empty: LT_DATA, else data/
    profile: str = "paper"  # label of the cost class: quick, small or paper
    depth: int = 50  # of the residual network: 18, 50, 101 or 152
    image_size: int = 224  # side of the square that the network sees, in pixels, >= 16
    crop: str = "area"  # area or shorter_side: random part, resized, or random square of the resized image
    loss: str = "softmax"  # see lt_lib.recipes.config.LOSSES
    gamma: float = 0.5  # focal exponent, >= 0 (focal losses)
    max_margin: float = 0.3  # largest margin, >= 0 (ldam, hinge)
    scale: float = 30.0  # factor on cosine logits, > 0 (ldam)
    tau: float = 1.0  # strength of logit adjustment, >= 0
    weighting: str = "none"  # none, inverse, inverse_sqrt or effective_number: class weights of the loss
    beta: float = 0.999  # effective-number parameter of the weighting, in [0, 1]
    normalization: str = "batch"  # batch or weights: what a weighted batch is divided by, its size or its weights
    defer_until: float = 0.0  # fraction of the run before the weighting starts, in [0, 1]
    epochs: int = 90  # passes over the training images, >= 1
    batch_size: int = 1024  # images per step over all devices, >= 1
    base_learning_rate: float = 0.1  # after warm-up, per 256 images of a batch, > 0
    schedule: str = "three_steps"  # three_steps, two_steps or cosine: a tenth at 1/3, 2/3, 8/9; at 1/3, 2/3; down to 0
    warmup: float = 5 / 90  # fraction of the run with a rising rate, in [0, 1]
    momentum: float = 0.9  # of SGD, in [0, 1)
    nesterov: bool = True  # gradient ahead of the momentum
    weight_decay: float = 1e-4  # coefficient of the squared norm / 2, >= 0
    decay_on: str = "kernels"  # all or kernels: with or without batch normalisation and biases
    seed: int = 0  # initial weights, order, crops, >= 0
    evaluate_every: int = 1  # epochs between evaluations, >= 1
    precision: str = "auto"  # auto, float64, float32 or bfloat16; auto: bfloat16 if the hardware has it, else float32
    device: str = "auto"  # auto, cpu or cuda
    num_devices: int = 1  # processes for data-parallel training, >= 1
    workers: int = 8  # processes that decode images, for each device, >= 0; 0: none besides the training
    micro_batch: int = 0  # images per forward pass on a device, to fit its memory, >= 0; 0: all at once

    def __post_init__(self) -> None:
        check_types(self)
        check_choices(self, _CHOICES)
        check_ranges(self, _RANGES)
        check_seed(self)
        if self.depth not in DEPTHS:
            raise ValueError(f"`depth` must be one of {DEPTHS}, got {self.depth}.")
        if self.nesterov and self.momentum == 0:
            raise ValueError("`nesterov` must be False without momentum, got True.")

    @property
    def learning_rate(self) -> float:
        """Rate after warm-up, `base_learning_rate * batch_size / 256` (Goyal et al. 2017).

        Example:
            >>> LargeConfig(batch_size=1024).learning_rate
            0.4
        """
        return self.base_learning_rate * self.batch_size / 256

    @property
    def method(self) -> str:
        """Table name of the configuration (`LARGE_METHODS`), or a description made of its fields if no table has it."""
        structure = _structure(self)
        for name, difference in LARGE_METHODS.items():
            if structure == _structure(LargeConfig(**difference)):
                return name
        return ", ".join(f"{key}={value}" for key, value in structure.items())

    def changed(self, **changes: Any) -> "LargeConfig":
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def hash(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of all fields that do not only place the run."""
        return experiment_hash(self, placement=_PLACEMENT, later={})


_RANGES = (
    ("image_size", 16, INFINITY),
    ("gamma", 0, INFINITY),
    ("max_margin", 0, INFINITY),
    ("scale", 1e-6, INFINITY),
    ("tau", 0, INFINITY),
    ("beta", 0, 1),
    ("defer_until", 0, 1),
    ("epochs", 1, INFINITY),
    ("batch_size", 1, INFINITY),
    ("base_learning_rate", 1e-12, INFINITY),
    ("warmup", 0, 1),
    ("momentum", 0, BELOW_ONE),
    ("weight_decay", 0, INFINITY),
    ("seed", 0, INFINITY),
    ("evaluate_every", 1, INFINITY),
    ("num_devices", 1, INFINITY),
    ("workers", 0, INFINITY),
    ("micro_batch", 0, INFINITY),
)

# Table name -> the fields that differ from empirical risk minimisation, as the two papers have them at this scale: Cui
# et al. 2019, table 3 (CB-focal, and Focal, its control without weights, which the table lacks), Cao et al. 2019,
# table 3 (the others; the weights of the second stage are those of their code).
_SECOND_STAGE = {"weighting": "effective_number", "beta": 0.9999, "normalization": "weights", "defer_until": 2 / 3}
LARGE_METHODS: dict[str, dict[str, Any]] = {
    "ERM": {},
    "Focal": {"loss": "focal", "gamma": 0.5},
    "CB-focal": {"loss": "focal", "gamma": 0.5, "weighting": "effective_number", "beta": 0.999},
    "DRW": _SECOND_STAGE,
    "LDAM": {"loss": "ldam", "max_margin": 0.3, "scale": 30.0},
    "LDAM-DRW": {"loss": "ldam", "max_margin": 0.3, "scale": 30.0, **_SECOND_STAGE},
}
# Cui et al., all from the paper, which refers to Goyal et al., and its code: batch 1024, rate 0.1 per 256 images with
# five epochs of warm-up and a tenth at 30, 60 and 80 of 90, Nesterov momentum 0.9, decay 1e-4 without batch
# normalisation and the last bias.
_CUI: dict[str, Any] = {
    "epochs": 90,
    "crop": "area",
    "batch_size": 1024,
    "base_learning_rate": 0.1,
    "warmup": 5 / 90,
    "schedule": "three_steps",
    "nesterov": True,
    "weight_decay": 1e-4,
    "decay_on": "kernels",
}
# Named starting points. What a paper leaves open is our choice, and said to be.
LARGE_PRESETS: dict[str, dict[str, Any]] = {
    "cb-inat17": {**_CUI, "dataset": "inaturalist:2017"},
    "cb-inat18": {**_CUI, "dataset": "inaturalist"},
    "cb-ilsvrc": {**_CUI, "dataset": "imagenet"},
    # Cao et al.: 90 epochs, rate 0.1, lower at 30 and 60, random 224 of a shorter side of 256, largest margin 0.3,
    # second stage from 60. Our choice, as He et al.: a tenth each time, batch 256, decay 1e-4 on everything, plain
    # momentum; and the warm-up of five epochs that the paper has on CIFAR.
    "ldam-inat18": {
        "dataset": "inaturalist",
        "epochs": 90,
        "crop": "shorter_side",
        "batch_size": 256,
        "base_learning_rate": 0.1,
        "warmup": 5 / 90,
        "schedule": "two_steps",
        "nesterov": False,
        "weight_decay": 1e-4,
        "decay_on": "all",
    },
    # The code of Yang and Xu: 90 epochs, batch 128, rate 0.2 along a cosine, decay 5e-4. Our choice: depth 50, plain
    # momentum, no change of colours.
    "imagenet-lt": {
        "dataset": "imagenet_lt",
        "epochs": 90,
        "crop": "area",
        "batch_size": 128,
        "base_learning_rate": 0.4,
        "schedule": "cosine",
        "warmup": 0.0,
        "nesterov": False,
        "weight_decay": 5e-4,
        "decay_on": "all",
    },
}
# Cui et al. raise the rate for the focal loss, whose values are smaller: four times on iNaturalist, twice on ILSVRC.
_FOCAL_FACTORS = {"inaturalist": 4.0, "imagenet": 2.0}


def large_preset(name: str, method: str = "ERM", **changes: Any) -> LargeConfig:
    """Configuration of a named starting point with a method applied to it.

    On the presets of Cui et al. a focal loss also raises the rate, as theirs does; the table therefore compares two
    methods at two rates. `base_learning_rate` among the changes has the last word.

    Args:
        name: a key of `LARGE_PRESETS`.
        method: a key of `LARGE_METHODS`.
        changes: further fields, applied last.

    Raises:
        ValueError: unknown preset or method (with the nearest names), or a field out of range.

    Example:
        >>> large_preset("cb-inat18", "CB-focal").learning_rate
        1.6
    """
    check_known(name, "name", LARGE_PRESETS)
    check_known(method, "method", LARGE_METHODS)
    values = {**LARGE_PRESETS[name], **LARGE_METHODS[method]}
    config = LargeConfig(**values)
    if name.startswith("cb-") and config.loss == "focal":
        factor = _FOCAL_FACTORS[config.dataset.partition(":")[0]]
        config = config.changed(base_learning_rate=config.base_learning_rate * factor)
    return config.changed(**changes)


def _structure(config: LargeConfig) -> dict[str, Any]:
    """The fields that name a method, without those that this configuration does not use."""
    structure: dict[str, Any] = {"loss": config.loss}
    # A switch that rounds to the end never happens: the method is its undeferred first stage.
    change = change_epoch(config.epochs, config.defer_until)
    if config.weighting != "none" and change < config.epochs:
        structure |= {
            "weighting": config.weighting,
            "normalization": config.normalization,
            "deferred": change > 0,
        }
    return structure
