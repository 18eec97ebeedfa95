"""The methods of the papers' tables as differences from plain training, and the three cost profiles."""

from collections.abc import Mapping
from typing import Any

from lt_lib._checks import check_known
from lt_lib.recipes._fields import defaults_of
from lt_lib.recipes.config import RunConfig
from lt_lib.training import change_epoch

# Table name -> the fields that differ from empirical risk minimisation. Sources: Cui et al. 2019 (CB-*), Cao et al.
# 2019 (the rest, names as in its table 2), Ren et al. 2020 (balanced softmax), Menon et al. 2021 (logit adjustment).
METHODS: dict[str, dict[str, Any]] = {
    "ERM": {},
    "Sigmoid": {"loss": "sigmoid"},
    "Focal": {"loss": "focal", "gamma": 1.0},
    "Softmax focal": {"loss": "softmax_focal", "gamma": 1.0},
    "RS": {"sampling": "inverse"},
    "RW": {"weighting": "inverse", "normalization": "weights"},
    "CB-softmax": {"weighting": "effective_number"},
    "CB-sigmoid": {"loss": "sigmoid", "weighting": "effective_number"},
    "CB-focal": {"loss": "focal", "gamma": 1.0, "weighting": "effective_number"},
    "CB RS": {"sampling": "effective_number"},
    "CB RW": {"weighting": "effective_number", "normalization": "weights"},
    "DRW": {"weighting": "effective_number", "normalization": "weights", "defer_until": 0.8},
    "DRS": {"sampling": "inverse", "defer_until": 0.8},
    "LDAM": {"loss": "ldam"},
    "LDAM-RW": {"loss": "ldam", "weighting": "effective_number", "normalization": "weights"},
    "LDAM-DRW": {"loss": "ldam", "weighting": "effective_number", "normalization": "weights", "defer_until": 0.8},
    "LDAM-DRS": {"loss": "ldam", "sampling": "inverse", "defer_until": 0.8},
    "M-DRW": {
        "loss": "ldam",
        "margin_rule": "uniform",
        "weighting": "effective_number",
        "normalization": "weights",
        "defer_until": 0.8,
    },
    "HG-DRS": {"loss": "hinge", "margin_rule": "uniform", "sampling": "inverse", "defer_until": 0.8},
    "LDAM-HG-DRS": {"loss": "hinge", "sampling": "inverse", "defer_until": 0.8},
    "Balanced softmax": {"loss": "balanced_softmax"},
    "Logit adjustment": {"loss": "logit_adjusted"},
}
_CIFAR = {
    "model": "resnet32",
    "augment": True,
    "imbalance_ratio": 100.0,
    "split_scheme": "ldam",
}
# Cao et al. 2019 publish the split (nine in ten negative reviews removed), the two bidirectional LSTM layers and Adam;
# widths, words, batch, rate, length and the rest are ours. The rate is constant: no drop hides what the switch does.
_IMDB = {
    "dataset": "imdb",
    "imbalance_type": "reversed_step",
    "imbalance_ratio": 10.0,
    "batch_size": 64,
    "optimizer": "adam",
    "weight_decay": 0.0,
    "warmup": 0.0,
    "lr_decay": 1.0,
}
# Named starting points. `cifar-paper` is the protocol of the tables; `cifar-small` shortens it to 40 epochs with every
# change point at the same fraction and keeps 100 images per class for model selection: a reduced protocol. It has no
# warm-up: the five of 200 epochs become one of 40, which starts at the full rate, as in the two quick presets.
PRESETS: dict[str, dict[str, Any]] = {
    "digits-quick": {"dataset": "digits", "n_max": 120, "imbalance_ratio": 20.0, "evaluate_every": 5},
    "gaussian-quick": {
        "dataset": "gaussian",
        "n_max": 1000,
        "imbalance_ratio": 100.0,
        "epochs": 30,
        "weight_decay": 5e-4,
        "learning_rate": 0.05,
        "evaluate_every": 5,
    },
    "cifar-small": {**_CIFAR, "profile": "small", "epochs": 40, "validation_per_class": 100, "evaluate_every": 8},
    "cifar-paper": {**_CIFAR, "profile": "paper", "epochs": 200},
    "imdb-small": {
        **_IMDB,
        "profile": "small",
        "model": "lstm64",
        "tokens": 100,
        "learning_rate": 0.002,
        "epochs": 4,
        "validation_per_class": 100,
        "evaluate_every": 2,
    },
    "imdb-paper": {
        **_IMDB,
        "profile": "paper",
        "model": "lstm128",
        "tokens": 200,
        "learning_rate": 0.001,
        "epochs": 10,
    },
}


def method_config(method: str, base: RunConfig | None = None, **changes: Any) -> RunConfig:
    """Configuration of a method from the papers' tables.

    A method of the base does not stay: all fields that `METHODS` names go back to their defaults first, gamma and the
    normalisation included; other values of these are `changes`. Other numbers of the base, such as beta, stay where the
    method reads them, and go back where it does not.

    Args:
        method: a key of `METHODS`, such as "LDAM-DRW".
        base: configuration, of this or of another kind of run, that the method is applied to; `RunConfig()` if not
            given.
        changes: further fields, applied last.

    Raises:
        ValueError: unknown method (with the nearest names), a field out of range, or one among the changes that nothing
            reads.

    Example:
        >>> method_config("LDAM-DRW", epochs=10).defer_until
        0.8
    """
    check_known(method, "method", METHODS)
    start = base or RunConfig()
    return start.changed(**method_changes(method, type(start), vars(start), **changes))


def method_values(method: str) -> dict[str, Any]:
    """All fields that `METHODS` names, as a method has them.

    Args:
        method: a key of `METHODS`.
    """
    named = {name for difference in METHODS.values() for name in difference}
    return {**defaults_of(RunConfig, named), **METHODS[method]}


def method_changes(method: str, kind: type[RunConfig], values: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """What to change to apply a method: its own fields, those of the base that it does not read, and the changes.

    Args:
        method: a key of `METHODS`.
        kind: class of the configuration.
        values: all its fields before.
        changes: further fields; one that nothing reads stays among them, for the configuration to refuse.
    """
    fields = {**method_values(method), **changes}
    return {**defaults_of(kind, kind.unread_fields({**values, **fields})), **fields}


def preset(name: str, method: str = "ERM", **changes: Any) -> RunConfig:
    """Configuration of a named starting point (`PRESETS`) with a method applied to it.

    Raises:
        ValueError: unknown preset or method (with the nearest names).
    """
    check_known(name, "name", PRESETS)
    return method_config(method, RunConfig(**PRESETS[name]), **changes)


def method_name(config: RunConfig) -> str:
    """The table name of a configuration, or a description made of its fields if no table has it.

    Numbers (beta, gamma, margins, scale, tau) do not change the name: they have columns of their own.

    Example:
        >>> method_name(RunConfig(loss="ldam"))
        'LDAM'
    """
    structure = _structure(config)
    for name, difference in METHODS.items():
        if structure == _structure(RunConfig(**difference)):
            return name
    return ", ".join(f"{key}={value}" for key, value in structure.items())


def _structure(config: RunConfig) -> dict[str, Any]:
    """The fields that name a method, without those that this configuration does not use."""
    structure: dict[str, Any] = {"loss": config.loss}
    if config.loss in ("ldam", "hinge"):
        structure["margin_rule"] = config.margin_rule
    # A switch that rounds to the end never happens: the method is its undeferred first stage. One that rounds to the
    # start leaves no first stage.
    change = change_epoch(config.epochs, config.defer_until)
    switched = change < config.epochs
    if config.weighting != "none" and switched:
        structure |= {"weighting": config.weighting, "normalization": config.normalization}
    if config.sampling != "uniform" and switched:
        structure["sampling"] = config.sampling
    if "weighting" in structure or "sampling" in structure:
        structure["deferred"] = change > 0
    return structure
