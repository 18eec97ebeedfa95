import json
import math
import re
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from lt_lib.recipes import (
    METHODS,
    PRESETS,
    LargeConfig,
    PretrainConfig,
    RunConfig,
    SelfTrainConfig,
    SemiConfig,
    build,
    class_profile,
    large_preset,
    method_config,
    method_name,
    parse_changes,
    preset,
)

FROZEN = {"small": "57517c572ece", "default": "cf7d33e717e3"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 2.0}, r"`epochs` must be of type int, got 2.0 \(float\)"),
        ({"epochs": True}, r"`epochs` must be of type int, got True \(bool\)"),
        ({"learning_rate": "0.1"}, r"`learning_rate` must be of type float, got '0.1' \(str\)"),
        ({"beta": False}, r"`beta` must be of type float, got False \(bool\)"),
        ({"augment": 1}, r"`augment` must be of type bool, got 1 \(int\)"),
        ({"loss": None}, r"`loss` must be of type str, got None \(NoneType\)"),
        ({"seed": "0"}, r"`seed` must be of type int"),
    ],
)
def test_a_wrong_type_is_refused(change, message):
    with pytest.raises(TypeError, match=message):
        RunConfig(**change)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("imbalance_ratio", 0.5, "finite and >= 1"),
        ("imbalance_ratio", math.inf, "finite and >= 1"),
        ("n_max", -1, "finite and >= 0"),
        ("split_seed", -1, "finite and >= 0"),
        ("validation_per_class", -1, "finite and >= 0"),
        ("tokens", 0, "finite and >= 1"),
        ("gamma", -0.1, "finite and >= 0"),
        ("max_margin", -0.1, "finite and >= 0"),
        ("scale", 0.0, "finite and >= 1e-06"),
        ("tau", -1.0, "finite and >= 0"),
        ("beta", 1.5, r"in \[0, 1\]"),
        ("beta", math.nan, r"in \[0, 1\]"),
        ("defer_until", -0.1, r"in \[0, 1\]"),
        ("epochs", 0, "finite and >= 1"),
        ("batch_size", 0, "finite and >= 1"),
        ("learning_rate", 0.0, "finite and >= 1e-12"),
        ("learning_rate", math.inf, "finite and >= 1e-12"),
        ("momentum", 1.0, r"in \[0, 1\)"),
        ("weight_decay", -1e-4, "finite and >= 0"),
        ("warmup", 1.1, r"in \[0, 1\]"),
        ("lr_decay", 0.0, r"in \[1e-12, 1\]"),
        ("seed", -1, "finite and >= 0"),
        ("evaluate_every", 0, "finite and >= 1"),
        ("num_devices", 0, "finite and >= 1"),
    ],
)
def test_a_number_out_of_range_is_refused(name, value, expected):
    with pytest.raises(ValueError, match=rf"`{name}` must be {expected}, got {value}\."):
        RunConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "nearest"),
    [
        ("loss", "softmx", "'softmax'"),
        ("model", "resnet23", "'resnet32'"),
        ("weighting", "inverse_squared", "'inverse_sqrt'"),
        ("sampling", "unifrom", "'uniform'"),
        ("imbalance_type", "exponentail", "'exponential'"),
        ("profile", "quik", "'quick'"),
        ("precision", "float46", "'float64'"),
        ("margin_rule", "unifrm", "'uniform'"),
        ("decay_on", "all_but_bias", "'all_but_head_bias'"),
        ("device", "gpu", ""),
        ("bias_init", "priors", "'prior'"),
        ("normalization", "weight", "'weights'"),
        ("split_scheme", "numpi", "'numpy'"),
        ("optimizer", "adamw", "'adam'"),
    ],
)
def test_an_unknown_name_brings_the_nearest_ones(name, value, nearest):
    with pytest.raises(ValueError, match=rf"`{name}` must be one of .*, got '{value}'.*{nearest}"):
        RunConfig(**{name: value})


def test_an_unknown_field_is_a_type_error():
    with pytest.raises(TypeError, match="learning_rte"):
        RunConfig(learning_rte=0.1)
    with pytest.raises(TypeError, match="learning_rte"):
        RunConfig().changed(learning_rte=0.1)


def test_a_configuration_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        RunConfig().epochs = 3  # type: ignore[misc]


def test_changes_are_checked_too():
    with pytest.raises(ValueError, match="`epochs` must be"):
        RunConfig().changed(epochs=0)
    assert RunConfig().changed(epochs=3).epochs == 3


def other(field):
    """A valid value that differs from the default."""
    special = {
        "dataset": "gaussian",
        "imbalance_type": "step",
        "profile": "paper",
        "split_scheme": "ldam",
        "model": "cnn",
        "optimizer": "adam",
        "loss": "ldam",
        "margin_rule": "uniform",
        "weighting": "inverse",
        "normalization": "weights",
        "sampling": "sqrt",
        "bias_init": "zero",
        "decay_on": "all",
        "precision": "float32",
        "device": "cpu",
        "data_root": "elsewhere",
        "beta": 0.9,
        "defer_until": 0.5,
        "momentum": 0.5,
        "warmup": 0.5,
        "lr_decay": 0.5,
    }
    if field.name in special:
        return special[field.name]
    return not field.default if field.type is bool else field.default + 1


# Field -> a change of another field, after which it is read, and what the message asks for without.
NEEDED = {
    "gamma": ({"loss": "focal"}, "a focal loss"),
    "max_margin": ({"loss": "hinge"}, "loss 'ldam' or 'hinge'"),
    "margin_rule": ({"loss": "ldam"}, "loss 'ldam' or 'hinge'"),
    "scale": ({"loss": "ldam"}, "loss 'ldam'"),
    "tau": ({"loss": "logit_adjusted"}, "loss 'logit_adjusted'"),
    "beta": ({"sampling": "effective_number"}, "weighting or sampling 'effective_number'"),
    "normalization": ({"weighting": "inverse"}, "weighting"),
    "defer_until": ({"sampling": "inverse"}, "weighting or sampling"),
    "tokens": ({"model": "lstm64"}, "an LSTM"),
}
READER = {name: reader for name, (reader, _) in NEEDED.items()}


@pytest.mark.parametrize("field", fields(RunConfig), ids=lambda field: field.name)
def test_the_hash_sees_every_field_but_placement(field):
    changes = {field.name: other(field)}
    base = RunConfig(**{k: v for k, v in READER.get(field.name, {}).items() if k not in changes})
    placement = field.name in {"data_root", "device", "num_devices"}
    assert (base.changed(**changes).hash() == base.hash()) is placement


def test_a_whole_number_and_a_float_are_the_same_experiment():
    assert RunConfig(imbalance_ratio=100).hash() == RunConfig(imbalance_ratio=100.0).hash()
    assert isinstance(RunConfig(learning_rate=1).learning_rate, float)
    assert isinstance(RunConfig(epochs=3).epochs, int)


def test_the_hash_of_stored_results_is_frozen():
    # Result tables name their runs by these digits: a change would orphan them.
    assert preset("cifar-small", "LDAM-DRW", dataset="folder:data/cifar10-jpeg").hash() == FROZEN["small"]
    assert RunConfig().hash() == FROZEN["default"]


def test_every_stored_result_can_be_configured_again_under_its_hash(repository):
    stored = {}
    for file in (repository / "results").glob("*.json"):
        for name, entry in json.loads(file.read_text()).items():
            if isinstance(entry, dict) and "config" in entry:
                stored[name] = RunConfig(**entry["config"]).hash()
    assert len(stored) >= 44
    assert all(name == found for name, found in stored.items())


def test_configurations_survive_json():
    config = method_config("LDAM-DRW", seed=3)
    assert RunConfig(**json.loads(json.dumps(vars(config)))) == config


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_valid_and_keeps_its_name(name):
    assert method_name(method_config(name)) == name
    # Numbers have columns of their own.
    unread = RunConfig.unread_fields(vars(method_config(name)))
    numbers = {"gamma": 0.5, "beta": 0.9, "tau": 2.0, "scale": 10.0, "max_margin": 0.1}
    read = {key: value for key, value in numbers.items() if key not in unread}
    assert method_name(method_config(name, **read, epochs=3)) == name


def test_methods_differ_from_each_other():
    configs = [method_config(name) for name in METHODS]
    assert len({config.hash() for config in configs}) == len(configs)


def test_an_unlisted_combination_is_described_by_its_fields():
    config = RunConfig(loss="sigmoid", weighting="inverse_sqrt", normalization="weights", sampling="sqrt")
    assert method_name(config) == (
        "loss=sigmoid, weighting=inverse_sqrt, normalization=weights, sampling=sqrt, deferred=False"
    )


def test_normalization_does_not_change_the_name_of_sampling():
    assert method_name(method_config("DRW", sampling="inverse", weighting="none", normalization="batch")) == "DRS"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_apply_before_the_method_and_changes_last(name):
    config = preset(name, "LDAM-DRW", epochs=7)
    assert config.epochs == 7
    assert (config.loss, config.defer_until) == ("ldam", 0.8)
    rest = {key: value for key, value in PRESETS[name].items() if key != "epochs"}
    assert {key: getattr(config, key) for key in rest} == rest


def test_the_paper_preset_is_the_published_protocol():
    config = preset("cifar-paper", "CB-softmax")
    assert (config.model, config.epochs, config.batch_size, config.augment) == ("resnet32", 200, 128, True)
    assert (config.learning_rate, config.momentum, config.weight_decay) == (0.1, 0.9, 2e-4)
    assert (config.validation_per_class, config.beta, config.profile) == (0, 0.9999, "paper")
    short = preset("cifar-small")
    assert (short.epochs, short.validation_per_class, short.profile) == (40, 100, "small")


def test_unknown_presets_and_methods_bring_the_nearest_names():
    with pytest.raises(ValueError, match="`method` must be one of .*Did you mean .*'LDAM-DRW'"):
        method_config("LDAM-DWR")
    with pytest.raises(ValueError, match="`name` must be one of .*Did you mean 'cifar-paper'"):
        preset("cifar-papr")


def test_a_switch_that_never_comes_leaves_the_first_stage():
    assert method_name(method_config("DRW", defer_until=1.0)) == "ERM"
    assert method_name(method_config("LDAM-DRS", defer_until=1.0)) == "LDAM"


@pytest.mark.parametrize(("name", "value"), [("bias_init", "prior"), ("decay_on", "head_bias_only")])
def test_fields_of_a_bias_are_refused_where_there_is_none(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be one of .* with loss 'ldam'"):
        RunConfig(loss="ldam", **{name: value})


def test_the_imdb_presets_are_the_published_split_with_the_stated_network():
    for name, hidden, words in (("imdb-small", "lstm64", 100), ("imdb-paper", "lstm128", 200)):
        config = preset(name, "RW")
        assert class_profile(config, np.array([12_500, 12_500])).tolist() == [1_250, 12_500]  # negative, positive
        assert (config.dataset, config.model, config.tokens, config.optimizer) == ("imdb", hidden, words, "adam")
        assert (config.weighting, config.profile) == ("inverse", name.removeprefix("imdb-"))
        rate = build.build_learning_rate(config)
        assert {rate(epoch) for epoch in range(config.epochs)} == {config.learning_rate}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["beta"], "`set` must be FIELD=VALUE, got 'beta'"),
        (["bet=0.5"], "`set` must be one of .*got 'bet'. Did you mean 'beta'"),
        (["epochs=fifty"], "`epochs` must be of type int, got 'fifty'"),
        (["augment=1"], "`augment` must be of type bool, got '1'"),
        (["beta=0.5", "beta=0.9"], "`set` must name each field once, got `beta` twice"),
    ],
)
def test_fields_on_the_command_line_are_checked(pairs, message):
    with pytest.raises(ValueError, match=message):
        parse_changes(RunConfig, pairs)


def test_fields_on_the_command_line_get_the_type_of_the_field():
    pairs = ["weight_decay=1e-3", "model=resnet8", "augment=true", "epochs=3"]
    changes = parse_changes(RunConfig, pairs)
    assert changes == {"weight_decay": 1e-3, "model": "resnet8", "augment": True, "epochs": 3}
    assert parse_changes(LargeConfig, ["depth=152", "nesterov=false"]) == {"depth": 152, "nesterov": False}


@pytest.mark.parametrize(
    ("method", "changes", "name"),
    [
        ("LDAM-DRW", {"epochs": 1}, "LDAM"),
        ("LDAM-DRW", {"epochs": 2}, "LDAM"),
        ("LDAM-DRW", {"epochs": 3}, "LDAM-DRW"),
        ("DRW", {"epochs": 3, "defer_until": 0.9}, "ERM"),
        ("DRW", {"epochs": 3, "defer_until": 0.1}, "CB RW"),
        ("DRS", {"epochs": 3, "defer_until": 0.1}, "RS"),
    ],
)
def test_a_switch_is_named_by_the_epoch_at_which_it_comes(method, changes, name):
    assert method_name(method_config(method, **changes)) == name


def test_a_large_run_is_named_by_the_epoch_of_its_switch_too():
    methods = {epochs: large_preset("ldam-inat18", "LDAM-DRW", epochs=epochs).method for epochs in (1, 2, 90)}
    assert methods == {1: "LDAM", 2: "LDAM-DRW", 90: "LDAM-DRW"}
    early = large_preset("ldam-inat18", "LDAM-DRW", epochs=3, defer_until=0.1)
    assert early.method == "loss=ldam, weighting=effective_number, normalization=weights, deferred=False"


@pytest.mark.parametrize("before", METHODS)
def test_a_method_leaves_nothing_of_the_one_before(before):
    base = RunConfig(epochs=7, seed=3)
    numbers = {"beta": 0.9, "gamma": 2.0, "max_margin": 0.1, "scale": 10.0, "tau": 0.5}
    read = {key for key in numbers if key not in RunConfig.unread_fields(vars(method_config(before)))}
    own = method_config(before, base, **{key: numbers[key] for key in read})
    for method in METHODS:
        found, expected = method_config(method, own), method_config(method, base)
        # Numbers stay where both methods read them, but for gamma, which is part of a method.
        stay = read - {"gamma"} - RunConfig.unread_fields(vars(expected)).keys()
        assert found == expected.changed(**{key: numbers[key] for key in stay})
    own = method_config("RW", PretrainConfig(sampling="inverse", pretrain_epochs=3))
    assert (own.pretrain_epochs, own.sampling, method_name(own)) == (3, "uniform", "RW")


def test_a_seed_that_no_generator_takes_is_refused():
    for kind in (RunConfig, LargeConfig):
        assert kind(seed=2**64 - 1).seed == 2**64 - 1
        with pytest.raises(ValueError, match=rf"`seed` must be below 2\*\*64, got {2**64}\."):
            kind(seed=2**64)


@pytest.mark.parametrize("kind", [RunConfig, PretrainConfig, SelfTrainConfig, SemiConfig, LargeConfig])
def test_momentum_is_below_one_in_every_kind_of_run(kind):
    # Nesterov's momentum has to be there.
    least, first = {SemiConfig: (1e-9, r"\(0"), LargeConfig: (1e-9, r"\[0")}.get(kind, (0.0, r"\[0"))
    for momentum in (least, 0.999):
        assert kind(momentum=momentum).momentum == momentum
    for momentum in (1.0, 5.0, -0.1, math.nan):
        with pytest.raises(ValueError, match=rf"`momentum` must be in {first}, 1\), got {momentum}\."):
            kind(momentum=momentum)
    if kind is RunConfig:
        with pytest.raises(ValueError, match=r"`momentum` must be in \[0, 1\), got 1\.0\."):
            RunConfig(optimizer="adam", momentum=1.0)


@pytest.mark.parametrize("name", NEEDED)
def test_a_field_that_a_run_does_not_read_must_be_left_alone(name):
    reader, needed = NEEDED[name]
    field = RunConfig.__dataclass_fields__[name]
    message = f"`{name}` must be left at {field.default!r} without {needed}, got {other(field)!r}."
    for kind in (RunConfig, PretrainConfig, SelfTrainConfig):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            kind(**{name: other(field)})
        assert getattr(RunConfig(**{name: other(field)} | reader), name) == other(field)
    with pytest.raises(ValueError, match=f"`{name}` must be left at"):
        RunConfig(**{name: other(field)} | reader).changed(**{key: getattr(RunConfig(), key) for key in reader})


def test_no_other_field_is_refused_without_another():
    for field in fields(RunConfig):
        if field.name not in NEEDED:
            RunConfig(**{field.name: other(field)})


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_changed_along_with_others_is_exempt(name):
    assert preset(name, imbalance_type="balanced").imbalance_ratio == PRESETS[name]["imbalance_ratio"]
    assert method_config("DRW", defer_until=1.0, beta=0.9).beta == 0.9


def test_a_change_that_the_method_does_not_read_is_refused_and_a_number_of_the_base_dropped():
    base = RunConfig(weighting="effective_number", beta=0.9, loss="ldam", scale=10.0)
    with pytest.raises(ValueError, match="`beta` must be left at 0.9999 without weighting or sampling"):
        method_config("ERM", base, beta=0.9)
    assert method_config("ERM", base) == RunConfig()
    assert method_config("ERM", base, weighting="effective_number").beta == 0.9
