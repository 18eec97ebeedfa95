import re
from dataclasses import fields

import pytest

from lt_lib.recipes import SEMI_METHODS, SEMI_PRESETS, SemiConfig, semi_config, semi_method_name, semi_preset
from lt_lib.recipes.semi_config import model_numbers

_DARP = {"family": "darp", "n_labelled": 50, "n_unlabelled": 100}


def test_the_defaults_are_the_authors_choices():
    config = SemiConfig()
    assert config.steps == 6 * 65536
    assert config.protocol.name == "crest (5000, 10 %)"
    expected = {
        "model": "wrn-28-2",
        "threshold": 0.95,
        "target_temperature": 0.0,
        "unlabelled_ratio": 7,
        "unlabelled_weight": 1.0,
        "labelled_in_stream": True,
        "one_forward": True,
        "t_min": 0.5,
        "prior": "true",
        "alignment_window": 128,
        "alpha": 1 / 3,
        "selection": "top",
        "keep": "rebuild",
        "initialise": "fresh",
        "source": "ema",
        "align_selection": False,
        "rounding": "ceil",
        "batch_size": 64,
        "learning_rate": 0.03,
        "lr_level": 1.0,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "ema_decay": 0.999,
    }
    assert {name: getattr(config, name) for name in expected} == expected


def test_the_control_has_as_many_steps_as_all_generations():
    base = SemiConfig(generations=5, epochs=3, steps_per_epoch=7)
    control = semi_config("fixmatch equal-compute", base)
    assert control.steps == semi_config("crest", base).steps == 5 * semi_config("fixmatch", base).steps
    assert (control.generations, control.epochs) == (1, 15)
    assert control.label == "fixmatch equal-compute"


def test_the_methods_differ_where_they_should():
    base = SemiConfig(generations=3, seed=4)
    crest, plus = semi_config("crest", base), semi_config("crest+", base)
    assert plus.changed(alignment="none", label="crest") == crest
    assert (crest.generations, crest.alignment, plus.alignment) == (3, "none", "adaptive")
    assert semi_config("fixmatch", base).changed(generations=3, label="crest") == crest
    learners = {name: semi_config(name, base).learner for name in SEMI_METHODS}
    assert learners["supervised"] == "supervised"
    assert learners["mean teacher"] == "mean_teacher"
    assert learners["pseudo-label"] == "pseudo_label"
    assert all(semi_config(name, base).seed == 4 for name in SEMI_METHODS)


def test_changes_come_last():
    assert semi_config("crest+", alignment="constant").alignment == "constant"
    assert semi_config("mean teacher", unlabelled_weight=3.0).unlabelled_weight == 3.0
    assert semi_config("fixmatch equal-compute", generations=2, epochs=5).epochs == 10


def test_names_come_from_the_label_or_from_the_fields():
    for method in SEMI_METHODS:
        assert semi_method_name(semi_config(method)) == method
    for method in set(SEMI_METHODS) - {"fixmatch equal-compute"}:
        assert semi_method_name(semi_config(method).changed(label="")) == method
    assert semi_method_name(SemiConfig(alpha=0.0)) == "self-training"
    assert semi_method_name(SemiConfig(alignment="constant")) == "crest, constant alignment"
    assert semi_method_name(SemiConfig(learner="mean_teacher")) == "mean teacher, 6 generations"


@pytest.mark.parametrize("name", SEMI_PRESETS)
def test_the_presets_are_whole(name):
    config = semi_preset(name, "crest+")
    assert config.alignment == "adaptive"
    assert config.generations > 1


def test_the_hash_changes_with_every_field_but_place_and_name():
    base = SemiConfig(family="daso", n_max=0, n_labelled=50, n_unlabelled=400, alignment="constant")
    texts = {"profile": "small", "model": "cnn", "learner": "mean_teacher", "prior": "estimated", "source": "model"}
    texts |= {"selection": "random", "keep": "accumulate", "initialise": "continue", "alignment": "adaptive"}
    texts |= {"views": "noise", "precision": "float32", "dataset": "digits", "family": "darp"}
    texts |= {"data_root": "elsewhere", "device": "cpu", "label": "x"}
    numbers = {"unlabelled_imbalance_ratio": 7.0, "threshold": 0.5, "t_min": 0.25, "momentum": 0.5, "ema_decay": 0.5}
    numbers |= {"ramp_up": 0.5, "strong_drop": 0.5, "lr_level": 7.0}
    same = []
    for field in fields(SemiConfig):
        value = getattr(base, field.name)
        if field.name in ("n_max", "label_fraction", "rounding"):
            continue  # of the other family
        other = texts.get(field.name, numbers.get(field.name))
        if other is None:
            other = not value if isinstance(value, bool) else value + 1
        if base.changed(**{field.name: other}).hash() == base.hash():
            same.append(field.name)
    assert same == ["data_root", "label", "device"]
    assert SemiConfig(n_max=10).hash() != SemiConfig(n_max=11).hash()


def test_results_from_before_the_hold_out_keep_their_hash():
    assert SemiConfig().hash() == "882af84b77e2"
    assert SemiConfig(validation_per_class=5).hash() != "882af84b77e2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_fraction": 0.0}, r"`label_fraction` must be in \(0, 1\), got 0.0"),
        ({"label_fraction": 1.0}, r"`label_fraction` must be in \(0, 1\), got 1.0"),
        ({"label_fraction": 1.5}, r"`label_fraction` must be in \(0, 1\), got 1.5"),
        ({"alpha": -0.1}, "`alpha` must be finite and >= 0, got -0.1"),
        ({"alpha": float("nan")}, "`alpha` must be finite"),
        ({"t_min": 0.0}, r"`t_min` must be in \(0, 1\], got 0.0"),
        ({"t_min": 1.2}, r"`t_min` must be in \(0, 1\], got 1.2"),
        ({"generations": 0}, "`generations` must be finite and >= 1, got 0"),
        ({"threshold": 1.1}, r"`threshold` must be in \[0, 1\], got 1.1"),
        ({"learner": "fixmach"}, "Did you mean 'fixmatch'"),
        ({"alignment": "adaptiv"}, "Did you mean 'adaptive'"),
        ({"model": "wrn-28"}, "`model` must be 'wrn-DEPTH-WIDTH', 'mlp', 'mlp-HIDDEN' or 'cnn', got 'wrn-28'"),
        ({"model": "resnet32"}, "`model` must be 'wrn-DEPTH-WIDTH'"),
        ({"n_labelled": 5}, "`n_labelled` must be left out with family 'crest'"),
        ({"family": "darp"}, "`n_labelled` must be an integer of at least 1, got 0"),
        ({"unlabelled_imbalance_ratio": 5.0}, "`unlabelled_imbalance_ratio` must be 0 with family 'crest'"),
        ({"validation_per_class": -1}, "`validation_per_class` must be finite and >= 0, got -1"),
        ({"align_selection": True}, "`align_selection` must be False with alignment 'none', .* got True"),
        ({"align_selection": True, "alignment": "running"}, "`align_selection` must be False with alignment 'running'"),
        ({"learner": "supervised", "alignment": "adaptive"}, "`alignment` must be 'none' with .*, got 'adaptive'"),
        ({"momentum": 0.0}, r"`momentum` must be in \(0, 1\), got 0.0"),
    ],
)
def test_wrong_values_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SemiConfig(**changes)


def test_wrong_types_and_methods_are_refused():
    with pytest.raises(TypeError, match="`generations` must be of type int, got 2.5"):
        SemiConfig(generations=2.5)
    with pytest.raises(ValueError, match=r"`method` must be one of .* Did you mean 'crest"):
        semi_config("crest++")
    with pytest.raises(ValueError, match="`name` must be one of 'gaussian-quick'"):
        semi_preset("cifar")


def test_model_names_hold_their_numbers():
    assert model_numbers("wrn-28-2") == ("wrn", (28, 2))
    assert model_numbers("mlp") == ("mlp", (64,))
    assert model_numbers("mlp-16") == ("mlp", (16,))
    assert model_numbers("cnn") == ("cnn", ())


def test_what_the_other_family_uses_may_stay_at_its_default():
    assert SemiConfig(**_DARP).protocol == SemiConfig(**_DARP, n_max=0, label_fraction=0.5).protocol


def test_a_label_that_the_fields_contradict_is_not_the_name():
    crest = semi_preset("gaussian-quick", "crest")
    for config, name in (
        (semi_preset("gaussian-quick", "crest", alignment="adaptive"), "crest+"),
        (semi_preset("gaussian-quick", "fixmatch", generations=4), "crest"),
        (crest.changed(alpha=0.0), "self-training"),
        (crest.changed(generations=1), "fixmatch"),
        (crest.changed(label="fixmatch equal-compute"), "crest"),
        (semi_config("fixmatch equal-compute", crest), "fixmatch equal-compute"),
        (crest.changed(label="crest, my way"), "crest, my way"),
    ):
        assert semi_method_name(config) == name
    assert semi_preset("gaussian-quick", "crest", alignment="adaptive").hash() == semi_config("crest+", crest).hash()


def test_a_method_is_applied_together_with_the_changes():
    both = semi_config("crest+", SemiConfig(), align_selection=True)
    assert (both.alignment, both.align_selection) == ("adaptive", True)
    assert semi_config("fixmatch equal-compute", SemiConfig(generations=3), epochs=5).epochs == 15


_METHODS = [name for name in SEMI_METHODS if name != "fixmatch equal-compute"]
_SEVERAL = ("crest", "crest+")


@pytest.mark.parametrize("before", _METHODS)
def test_a_method_leaves_nothing_of_the_one_before(before):
    base = semi_preset("gaussian-quick", before)
    for method in _METHODS:
        direct = semi_preset("gaussian-quick", method)
        unsaid = method in _SEVERAL and before not in _SEVERAL
        found = semi_config(method, base, **{"generations": 4} if unsaid else {})
        assert found == direct
        assert semi_method_name(found) == method


@pytest.mark.parametrize("method", _SEVERAL)
def test_a_base_of_one_training_does_not_say_how_many_generations_there_are(method):
    for base, changes in ((semi_preset("gaussian-quick", "fixmatch"), {}), (SemiConfig(), {"generations": 1})):
        with pytest.raises(ValueError, match=re.escape(f"`generations` must be >= 2 for method '{method}', got 1")):
            semi_config(method, base, **changes)


@pytest.mark.parametrize("method", [name for name in SEMI_METHODS if name != "crest+"])
def test_every_method_can_be_made_of_a_base_that_aligns_its_selection(method):
    base = semi_config("crest+", align_selection=True)
    assert semi_method_name(semi_config(method, base)) == method


def test_presets_serve_the_other_families_too():
    config = semi_preset("gaussian-quick", "fixmatch", **_DARP)
    assert config.protocol == SemiConfig(**_DARP).protocol
