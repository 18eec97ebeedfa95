"""`SemiConfig`: everything that decides the outcome of one semi-supervised run, and the methods as differences."""

from dataclasses import dataclass, replace
from typing import Any

from lt_lib._checks import check_known
from lt_lib.data.protocols import FAMILIES, ROUNDINGS, Protocol
from lt_lib.recipes._fields import (
    ABOVE_ZERO,
    BELOW_ONE,
    INFINITY,
    check_choices,
    check_ranges,
    check_types,
    defaults_of,
    experiment_hash,
)
from lt_lib.recipes.config import PROFILES

LEARNERS = ("supervised", "pseudo_label", "mean_teacher", "fixmatch")
ALIGNMENTS = ("none", "running", "constant", "adaptive")
_CHOICES: dict[str, tuple[str, ...]] = {
    "profile": PROFILES,
    "family": FAMILIES,
    "rounding": ROUNDINGS,
    "learner": LEARNERS,
    "alignment": ALIGNMENTS,
    "prior": ("true", "estimated"),
    "selection": ("top", "random"),
    "keep": ("rebuild", "accumulate"),
    "initialise": ("fresh", "continue"),
    "source": ("ema", "model"),
    "views": ("auto", "noise", "image"),
    "precision": ("auto", "float64", "float32", "bfloat16"),
    "device": ("auto", "cpu", "cuda"),
}
# Where the run is placed and what it is called, not what it computes.
_NOT_HASHED = {"data_root", "device", "label"}
# Fields that came after the first results: at these values the run, and so its hash, is the one from before.
_LATER = {"validation_per_class": 0}


@dataclass(frozen=True)
class SemiConfig:
    """One run of FixMatch, CReST or a relative. The defaults are CReST as its authors configured it, on CIFAR-10.

    Where published ports decide differently from the authors, the decision is a field of its own, and the authors'
    choice its default. Every field is checked on construction; `changed` makes variants.

    `label_fraction` lies in (0, 1), in the other families too, which do not read it: with 1 nothing is left to learn
    without labels, and a run has to leave at least one such sample. `label` names what no field tells, such as the
    control of equal compute; it does not rename a method.
    """

    dataset: str = "cifar10"  # name understood by lt_lib.data.load
    data_root: str = ""  # folder of the data sets; empty: LT_DATA, else data/
    profile: str = "paper"  # label of the cost class: quick, small or paper
    label: str = ""  # name in tables; empty: found from the fields
    # Which samples.
    family: str = "crest"  # crest, darp or daso: see lt_lib.data.protocols
    n_max: int = 5000  # crest: samples of the largest class, labelled or not
    label_fraction: float = 0.1  # crest: labelled share of every class, in (0, 1)
    rounding: str = "ceil"  # ceil, floor or nearest: crest: of the number of labelled samples
    n_labelled: int = 0  # darp, daso: labelled samples of the largest class
    n_unlabelled: int = 0  # darp, daso: unlabelled samples of the largest class
    imbalance_ratio: float = 100.0  # largest / smallest class count, >= 1
    unlabelled_imbalance_ratio: float = 0.0  # darp, daso: of the unlabelled set, >= 0; 0: as the labelled one
    reversed_unlabelled: bool = False  # darp, daso: the labelled head is the unlabelled tail
    permute_classes: bool = False  # True: which class is rare is drawn from subset_seed
    subset_seed: int = 0  # draw of the long-tailed set, >= 0
    split_seed: int = 0  # draw of what is labelled, >= 0; fixed for all generations
    validation_per_class: int = 0  # images per class, of those that are neither labelled nor unlabelled, >= 0
    # The learner inside a generation.
    learner: str = "fixmatch"  # supervised, pseudo_label, mean_teacher or fixmatch
    model: str = "wrn-28-2"  # wrn-DEPTH-WIDTH, cnn, or mlp (mlp-HIDDEN; mlp is mlp-64)
    threshold: float = 0.95  # confidence from which an unlabelled sample counts, in [0, 1]
    target_temperature: float = 0.0  # 0: hard pseudo-labels; 1: soft ones, the default of the code before a fix; >= 0
    unlabelled_ratio: int = 7  # unlabelled samples per labelled one in a batch, >= 1; the README's command has 1
    unlabelled_weight: float = 1.0  # of the unlabelled loss, >= 0
    ramp_up: float = 0.0  # fraction of a generation over which that weight rises from 0, in [0, 1]
    labelled_in_stream: bool = True  # labelled images are also among the unlabelled ones
    one_forward: bool = True  # labelled, weak and strong images share batch statistics
    views: str = "auto"  # auto, noise or image (of vectors; of images: reflected crop, RandAugment and Cutout)
    flip: bool = True  # image views: mirror
    weak_noise: float = 0.1  # noise views: standard deviation of the weak one, >= 0
    strong_noise: float = 0.5  # noise views: standard deviation of the strong one, >= 0
    strong_drop: float = 0.0  # noise views: share of coordinates set to zero in the strong one, in [0, 1)
    # Distribution alignment.
    alignment: str = "none"  # none, running, constant or adaptive (CReST+)
    t_min: float = 0.5  # exponent of the last generation (adaptive), or of all (constant), in (0, 1]
    prior: str = "true"  # true or estimated: ideal exponential profile, or labelled counts; for alignment and selection
    alignment_window: int = 128  # steps over which the model's class distribution is averaged, >= 1
    # Generations.
    generations: int = 6  # trainings in a row, >= 1; 1 is the learner alone
    alpha: float = 1 / 3  # exponent of the inclusion rates, >= 0; the authors' flag is its reciprocal, 3
    selection: str = "top"  # top or random: the most confident, or any
    keep: str = "rebuild"  # rebuild or accumulate: the selection, in every generation
    initialise: str = "fresh"  # fresh or continue: new weights in every generation, or the last ones
    source: str = "ema"  # ema or model: whose predictions become pseudo-labels, the averaged model's or the model's
    align_selection: bool = False  # True: predictions are aligned before they become pseudo-labels
    # Optimisation of one generation.
    epochs: int = 64  # of steps_per_epoch steps each, >= 1
    steps_per_epoch: int = 1024  # steps between two checkpoints, >= 1
    batch_size: int = 64  # labelled samples per step, >= 1
    learning_rate: float = 0.03  # of the first step, > 0
    lr_level: float = 1.0  # part of the cosine arc, in sixteenths of pi, in [0, 8]; 7 is FixMatch's own
    momentum: float = 0.9  # Nesterov, in (0, 1)
    weight_decay: float = 5e-4  # coefficient of the squared norm / 2, >= 0, batch normalisation spared
    ema_decay: float = 0.999  # of the averaged model, in [0, 1]
    evaluate_every: int = 1  # epochs between evaluations, >= 1
    seed: int = 0  # weights, sample order, views, random selection, >= 0; with the number of the generation
    precision: str = "auto"  # auto, float64, float32 or bfloat16; auto: float64 for mlp on a CPU, else by hardware
    device: str = "auto"  # auto, cpu or cuda

    def __post_init__(self) -> None:
        check_types(self)
        check_choices(self, _CHOICES)
        check_ranges(self, _RANGES)
        if not 0 < self.t_min <= 1:
            raise ValueError(f"`t_min` must be in (0, 1], got {self.t_min}.")
        if self.align_selection and self.alignment not in ("constant", "adaptive"):
            raise ValueError(
                f"`align_selection` must be False with alignment {self.alignment!r}, which has no target of its own, "
                "got True."
            )
        if self.learner == "supervised" and self.alignment != "none" and not self.align_selection:
            raise ValueError(
                "`alignment` must be 'none' with learner 'supervised' where the selection is not aligned either, "
                f"got {self.alignment!r}."
            )
        _ = self.protocol
        if self.family == "crest" and self.unlabelled_imbalance_ratio:
            raise ValueError(
                "`unlabelled_imbalance_ratio` must be 0 with family 'crest', where one profile serves both sets, "
                f"got {self.unlabelled_imbalance_ratio}."
            )
        if 0 < self.unlabelled_imbalance_ratio < 1:
            raise ValueError(f"`unlabelled_imbalance_ratio` must be 0 or >= 1, got {self.unlabelled_imbalance_ratio}.")
        model_numbers(self.model)

    @property
    def protocol(self) -> Protocol:
        """The protocol that the data fields describe."""
        crest = self.family == "crest"
        return Protocol(
            self.family,
            n_max=self.n_max if crest else 0,
            label_fraction=self.label_fraction if crest else 0.0,
            n_labelled=self.n_labelled,
            n_unlabelled=self.n_unlabelled,
            reversed_unlabelled=self.reversed_unlabelled,
            rounding=self.rounding,
        )

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.generations * self.epochs * self.steps_per_epoch

    def changed(self, **changes: Any) -> "SemiConfig":
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def hash(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of all fields but `data_root`, `device` and `label`.

        A field that was added later counts where it is not at its default, so that older results keep their names.
        """
        return experiment_hash(self, placement=_NOT_HASHED, later=_LATER)


_RANGES = (
    ("label_fraction", ABOVE_ZERO, BELOW_ONE),
    ("imbalance_ratio", 1, INFINITY),
    ("unlabelled_imbalance_ratio", 0, INFINITY),
    ("subset_seed", 0, INFINITY),
    ("split_seed", 0, INFINITY),
    ("validation_per_class", 0, INFINITY),
    ("threshold", 0, 1),
    ("target_temperature", 0, INFINITY),
    ("unlabelled_ratio", 1, INFINITY),
    ("unlabelled_weight", 0, INFINITY),
    ("ramp_up", 0, 1),
    ("weak_noise", 0, INFINITY),
    ("strong_noise", 0, INFINITY),
    ("strong_drop", 0, 1 - 1e-9),
    ("alignment_window", 1, INFINITY),
    ("generations", 1, INFINITY),
    ("alpha", 0, INFINITY),
    ("epochs", 1, INFINITY),
    ("steps_per_epoch", 1, INFINITY),
    ("batch_size", 1, INFINITY),
    ("learning_rate", 1e-12, INFINITY),
    ("lr_level", 0, 8),
    ("momentum", ABOVE_ZERO, BELOW_ONE),  # Nesterov momentum has to be there
    ("weight_decay", 0, INFINITY),
    ("ema_decay", 0, 1),
    ("evaluate_every", 1, INFINITY),
    ("seed", 0, INFINITY),
)

# The one method that no field tells: FixMatch, only longer.
EQUAL_COMPUTE = "fixmatch equal-compute"
# Table name -> fields that differ from the base. What is left out stays as the base has it, the number of generations
# of the two CReST methods for one.
_ALONE = {"generations": 1, "alignment": "none", "align_selection": False}
SEMI_METHODS: dict[str, dict[str, Any]] = {
    "supervised": {"learner": "supervised", **_ALONE},
    "pseudo-label": {"learner": "pseudo_label", **_ALONE},
    "mean teacher": {"learner": "mean_teacher", "unlabelled_weight": 50.0, "ramp_up": 0.4, **_ALONE},
    "fixmatch": {"learner": "fixmatch", **_ALONE},
    EQUAL_COMPUTE: {"learner": "fixmatch", **_ALONE},
    "crest": {"learner": "fixmatch", "alignment": "none", "align_selection": False},
    "crest+": {"learner": "fixmatch", "alignment": "adaptive"},
}
_GAUSSIAN = {
    "dataset": "gaussian",
    "profile": "quick",
    "n_max": 1000,
    "imbalance_ratio": 50.0,
    "model": "mlp-32",
    "weak_noise": 0.2,
    "strong_noise": 1.0,
    "learning_rate": 0.1,
    "generations": 4,
    "epochs": 4,
    "steps_per_epoch": 75,
    "batch_size": 32,
    "unlabelled_ratio": 2,
    "alignment_window": 32,
    "ema_decay": 0.98,
    "evaluate_every": 4,
}
# `crest-paper` is the authors' run.sh: 6 generations of 65,536 steps with 960 images each. `crest-small` is a reduced
# protocol, a twentieth of the steps in half the generations.
SEMI_PRESETS: dict[str, dict[str, Any]] = {
    "gaussian-quick": _GAUSSIAN,
    "digits-quick": {**_GAUSSIAN, "dataset": "digits", "n_max": 120, "imbalance_ratio": 20.0, "flip": False},
    "crest-small": {"profile": "small", "generations": 3, "epochs": 16, "steps_per_epoch": 205, "ema_decay": 0.99},
    "crest-paper": {},
}


def semi_config(method: str, base: SemiConfig | None = None, **changes: Any) -> SemiConfig:
    """Configuration of a method, with the data and the length of a base.

    "fixmatch equal-compute" is FixMatch for as many steps as all generations of the base together, in one training
    with a learning-rate schedule over its whole length; the control that belongs beside CReST.

    A method of the base does not stay: all fields that `SEMI_METHODS` names go back to their defaults first, except the
    number of generations, which is a length; other values of these are `changes`.

    Args:
        method: a key of `SEMI_METHODS`.
        base: configuration that the method is applied to; `SemiConfig()` if not given. One of a single training does
            not say how many generations CReST would have: give `generations` with it.
        changes: further fields; those that the method sets too have the last word.

    Raises:
        ValueError: unknown method (with the nearest names), a method of several generations with one, or a field out of
            range.

    Example:
        >>> [semi_config(name).steps for name in ("fixmatch", "fixmatch equal-compute", "crest")]
        [65536, 393216, 393216]
    """
    check_known(method, "method", SEMI_METHODS)
    start = base or SemiConfig()
    named = {name for difference in SEMI_METHODS.values() for name in difference if name != "generations"}
    fields = {**defaults_of(SemiConfig, named), **SEMI_METHODS[method], **changes, "label": method}
    generations = fields.get("generations", start.generations)
    if "generations" not in SEMI_METHODS[method] and generations == 1:
        raise ValueError(f"`generations` must be >= 2 for method {method!r}, got 1; 1 is its learner alone.")
    if method == EQUAL_COMPUTE:
        length = changes.get("epochs", start.epochs) * changes.get("generations", start.generations)
        fields |= {"epochs": length, "generations": 1}
    # All at once: a field of the method may need a change, and a change a field of the method.
    return start.changed(**fields)


def semi_preset(name: str, method: str = "crest", **changes: Any) -> SemiConfig:
    """Configuration of a named starting point (`SEMI_PRESETS`) with a method applied to it.

    Raises:
        ValueError: unknown preset or method (with the nearest names).
    """
    check_known(name, "name", SEMI_PRESETS)
    return semi_config(method, SemiConfig(**SEMI_PRESETS[name]), **changes)


def semi_method_name(config: SemiConfig) -> str:
    """The name of a configuration in tables: what its fields say, or its label.

    A label that is a method of `SEMI_METHODS` is no name by itself, since the fields may say that it is another method;
    "fixmatch equal-compute" counts where they say FixMatch, whose length they do not judge.

    Example:
        >>> semi_method_name(SemiConfig(alignment="adaptive")), semi_method_name(SemiConfig(label="fixmatch"))
        ('crest+', 'crest')
    """
    if config.label and config.label not in SEMI_METHODS:
        return config.label
    found = _name_from_fields(config)
    return EQUAL_COMPUTE if config.label == EQUAL_COMPUTE and found == "fixmatch" else found


def _name_from_fields(config: SemiConfig) -> str:
    name = config.learner.replace("_", " ") if config.learner != "pseudo_label" else "pseudo-label"
    if config.learner == "fixmatch" and config.generations > 1:
        name = "self-training" if config.alpha == 0 else "crest"
        if config.alignment == "adaptive":
            return f"{name}+"
    elif config.generations > 1:
        name = f"{name}, {config.generations} generations"
    return name if config.alignment == "none" else f"{name}, {config.alignment} alignment"


def model_numbers(model: str) -> tuple[str, tuple[int, ...]]:
    """Kind of a model name and the numbers in it: ("wrn", (28, 2)), ("mlp", (64,)) or ("cnn", ()).

    Raises:
        ValueError: a name of another form.
    """
    kind, *rest = model.split("-")
    numbers = tuple(int(part) for part in rest if part.isdigit())
    if len(numbers) == len(rest):
        if kind == "wrn" and len(numbers) == 2:
            return kind, numbers
        if kind == "mlp" and len(numbers) < 2:
            return kind, numbers or (64,)
        if model == "cnn":
            return kind, ()
    raise ValueError(f"`model` must be 'wrn-DEPTH-WIDTH', 'mlp', 'mlp-HIDDEN' or 'cnn', got {model!r}.")
