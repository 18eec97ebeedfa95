"""`RunConfig`: everything that decides the outcome of one training run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lt_lib.recipes._fields import (
    BELOW_ONE,
    INFINITY,
    check_choices,
    check_left,
    check_ranges,
    check_seed,
    check_types,
    experiment_hash,
)

IMBALANCE_TYPES = ("exponential", "step", "reversed_step", "balanced", "natural")
LOSSES = (
    "softmax", "sigmoid", "focal", "softmax_focal", "ldam", "hinge", "balanced_softmax", "logit_adjusted",
)  # fmt: skip
WEIGHTINGS = ("none", "inverse", "inverse_sqrt", "effective_number")
SAMPLINGS = ("uniform", "inverse", "sqrt", "effective_number", "progressive")
MODELS = (
    "mlp", "cnn", "resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110",
    "lstm64", "lstm128",
)  # fmt: skip
OPTIMIZERS = ("sgd", "adam")
PROFILES = ("quick", "small", "paper")
_CHOICES: dict[str, tuple[str, ...]] = {
    "profile": PROFILES,
    "imbalance_type": IMBALANCE_TYPES,
    "split_scheme": ("numpy", "ldam"),
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "loss": LOSSES,
    "margin_rule": ("ldam", "uniform"),
    "weighting": WEIGHTINGS,
    "normalization": ("batch", "weights"),
    "sampling": SAMPLINGS,
    "bias_init": ("auto", "zero", "prior"),
    "decay_on": ("auto", "all", "all_but_head_bias", "head_bias_only"),
    "precision": ("auto", "float64", "float32", "bfloat16"),
    "device": ("auto", "cpu", "cuda"),
}
# Where and how the run is placed, not what it computes: two machines give the same hash to the same experiment.
_PLACEMENT = {"data_root", "device", "num_devices"}
# Fields that came after the first results: at these values the run, and so its hash, is the one from before.
_LATER = {"optimizer": "sgd", "tokens": 200}
_A_DRAW: tuple[str, Callable[[Mapping[str, Any]], bool]] = (
    "a draw: imbalance_type 'natural' takes every sample",
    lambda of: of["imbalance_type"] != "natural",
)
# Field -> what a run needs to read it, in words, and whether the values of its fields have that.
_READ: dict[str, tuple[str, Callable[[Mapping[str, Any]], bool]]] = {
    "n_max": _A_DRAW,
    "permute_classes": _A_DRAW,
    "gamma": ("a focal loss", lambda of: of["loss"] in ("focal", "softmax_focal")),
    "max_margin": ("loss 'ldam' or 'hinge'", lambda of: of["loss"] in ("ldam", "hinge")),
    "margin_rule": ("loss 'ldam' or 'hinge'", lambda of: of["loss"] in ("ldam", "hinge")),
    "scale": ("loss 'ldam'", lambda of: of["loss"] == "ldam"),
    "tau": ("loss 'logit_adjusted'", lambda of: of["loss"] == "logit_adjusted"),
    "beta": (
        "weighting or sampling 'effective_number'",
        lambda of: "effective_number" in (of["weighting"], of["sampling"]),
    ),
    "normalization": ("weighting", lambda of: of["weighting"] != "none"),
    "defer_until": ("weighting or sampling", lambda of: (of["weighting"], of["sampling"]) != ("none", "uniform")),
    "tokens": ("an LSTM", lambda of: of["model"].startswith("lstm")),
}


@dataclass(frozen=True)
class RunConfig:
    """One training run. The defaults are plain training on the embedded digits, seconds on a CPU.

    Every field is checked on construction; `changed` makes variants, an unknown field is Python's `TypeError`. Whole
    numbers given for real fields become floats: 100 and 100.0 are the same experiment.

    A field of this class that the run does not read must be left at its default, or one experiment would have two
    hashes: the numbers
    of other losses, `beta`, `normalization` and `defer_until` without what they belong to, `tokens` without an LSTM,
    `n_max` and `permute_classes` where the whole training split is taken as it is.
    Exempt is what is changed along with other fields: `imbalance_ratio`, which presets carry into other sets, and
    the fields of a weighting or sampling that is deferred past the last epoch, as a sweep of `defer_until` has it.

    With "step" the last classes are rare, with "reversed_step" the first.

    `tau` is read by the loss "logit_adjusted" alone; "balanced_softmax" is that loss at 1. `warmup` and `defer_until`
    are rounded to whole epochs. The rate of the first of W epochs of warm-up is a W-th of `learning_rate`, so one epoch
    of warm-up is none: with 0.025, runs of fewer than 60 epochs start at the full rate.
    """

    dataset: str = "digits"  # name understood by lt_lib.data.load
    data_root: str = ""  # folder of the data sets; empty: LT_DATA, else data/
    profile: str = "quick"  # label of the cost class: quick, small or paper
    imbalance_type: str = "exponential"  # exponential, step, reversed_step, balanced or natural (every sample there is)
    imbalance_ratio: float = 10.0  # largest / smallest class count, >= 1
    n_max: int = 0  # samples of the largest class, >= 0; 0: as many as every class has
    permute_classes: bool = False  # True: which class is rare is drawn from split_seed
    split_seed: int = 0  # draw of the training subset, >= 0
    split_scheme: str = "numpy"  # numpy or ldam: ours, or the draw of the LDAM authors' code
    validation_per_class: int = 0  # images per class held out for model selection, >= 0
    tokens: int = 200  # words kept of a text, from its end, >= 1
    model: str = "mlp"  # see MODELS
    loss: str = "softmax"  # softmax, sigmoid, focal, softmax_focal, ldam, hinge, balanced_softmax or logit_adjusted
    gamma: float = 1.0  # focal exponent, >= 0 (focal losses)
    max_margin: float = 0.5  # largest margin, >= 0 (ldam, hinge)
    margin_rule: str = "ldam"  # ldam or uniform: falling as n^(-1/4), or max_margin for every class
    scale: float = 30.0  # factor on cosine logits, > 0 (ldam)
    tau: float = 1.0  # strength of logit adjustment, >= 0
    weighting: str = "none"  # none, inverse, inverse_sqrt or effective_number: class weights of the loss
    beta: float = 0.9999  # effective-number parameter of weighting and sampling, in [0, 1]
    normalization: str = "batch"  # batch or weights: what a weighted batch is divided by, its size or its weights
    sampling: str = "uniform"  # uniform, inverse, sqrt, effective_number or progressive: how training samples are drawn
    defer_until: float = 0.0  # fraction of the run before weighting and sampling start, in [0, 1]
    epochs: int = 40  # passes over the training subset, >= 1
    batch_size: int = 128  # samples per step, >= 1
    optimizer: str = "sgd"  # sgd or adam
    learning_rate: float = 0.1  # after warm-up, > 0
    momentum: float = 0.9  # of SGD, in [0, 1); of Adam the first beta
    weight_decay: float = 2e-4  # coefficient of the squared norm / 2, >= 0
    warmup: float = 0.025  # fraction of the run with a rising rate, in [0, 1]
    lr_decay: float = 0.01  # factor at 80 % and at 90 % of the run, in (0, 1]
    bias_init: str = "auto"  # auto, zero or prior; auto: prior for sigmoid and focal, zero for the others
    decay_on: str = "auto"  # auto, all, all_but_head_bias or head_bias_only; auto: all, for sigmoid and focal the third
    augment: bool = False  # pad by 4, random crop, horizontal flip
    seed: int = 0  # initial weights, sample order, augmentation, >= 0
    evaluate_every: int = 1  # epochs between evaluations, >= 1
    precision: str = "auto"  # auto, float64, float32 or bfloat16; auto: float64 for mlp, cnn on a CPU; else by hardware
    device: str = "auto"  # auto, cpu or cuda
    num_devices: int = 1  # processes for data-parallel training, >= 1

    def __post_init__(self) -> None:
        check_types(self)
        check_choices(self, _CHOICES)
        check_ranges(self, _RANGES)
        check_seed(self)
        if self.loss == "ldam":
            for name, plain in (("bias_init", ("auto", "zero")), ("decay_on", ("auto", "all"))):
                if getattr(self, name) not in plain:
                    raise ValueError(
                        f"`{name}` must be one of {plain} with loss 'ldam', whose cosine head has no bias, "
                        f"got {getattr(self, name)!r}."
                    )
        for name, needed in self.unread_fields(vars(self)).items():
            check_left(self, [name], f"without {needed}")

    @classmethod
    def unread_fields(cls, values: Mapping[str, Any]) -> dict[str, str]:
        """Fields that a run does not read, each with what the run would need to read it.

        Args:
            values: all fields of a configuration of this kind by name; those that are not read may have any value.

        Example:
            >>> RunConfig.unread_fields(vars(RunConfig(loss="ldam")))["tau"]
            "loss 'logit_adjusted'"
        """
        return {name: needed for name, (needed, reads) in _READ.items() if not reads(values)}

    def changed(self, **changes: Any) -> "RunConfig":
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def hash(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of all fields but `data_root`, `device` and `num_devices`.

        A field that was added later counts where it is not at its default, so that older results keep their names.
        """
        return experiment_hash(self, placement=_PLACEMENT, later=_LATER)


_RANGES = (
    ("imbalance_ratio", 1, INFINITY),
    ("n_max", 0, INFINITY),
    ("split_seed", 0, INFINITY),
    ("validation_per_class", 0, INFINITY),
    ("tokens", 1, INFINITY),
    ("gamma", 0, INFINITY),
    ("max_margin", 0, INFINITY),
    ("scale", 1e-6, INFINITY),
    ("tau", 0, INFINITY),
    ("beta", 0, 1),
    ("defer_until", 0, 1),
    ("epochs", 1, INFINITY),
    ("batch_size", 1, INFINITY),
    ("learning_rate", 1e-12, INFINITY),
    ("momentum", 0, BELOW_ONE),
    ("weight_decay", 0, INFINITY),
    ("warmup", 0, 1),
    ("lr_decay", 1e-12, 1),
    ("seed", 0, INFINITY),
    ("evaluate_every", 1, INFINITY),
    ("num_devices", 1, INFINITY),
)
