"""`PretrainConfig` and `run_pretrain`: what is refused, what is equal, what depends on what."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from lt_lib import data, training
from lt_lib.recipes import (
    PretrainConfig,
    RunConfig,
    build,
    load_pretrain_result,
    load_result,
    run,
    run_pretrain,
)
from lt_lib.recipes.pretrain import CLASSIFIERS, PRETEXTS, learn_pretext

SHORT = {"n_max": 40, "epochs": 2, "pretrain_epochs": 2, "evaluate_every": 2, "device": "cpu", "batch_size": 32}
NO_TASK = {"pretext": "none", "pretrain_epochs": 0}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture
def epochs_trained(monkeypatch):
    """The stage of every epoch that is really trained, in order."""
    seen = []

    def counted(module, name, stage):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *arguments: seen.append(stage) or real(*arguments))

    counted(training.pretraining, "_record", "pretrain")
    counted(training.loop, "_train_epoch", "fit")
    return seen


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pretext": "rotations"}, "Did you mean 'rotation'"),
        ({"classifier": "CRT"}, "`classifier` must be one of"),
        ({"pretrain_schedule": "linear"}, "`pretrain_schedule` must be one of"),
        ({"pretext": "none"}, "`pretrain_epochs` must be 0 with pretext 'none'"),
        ({"pretrain_epochs": 0}, "got 0 with 'rotation'"),
        ({"pretrain_learning_rate": 0.0}, "`pretrain_learning_rate` must be"),
        ({"pretrain_batch_size": 1}, "`pretrain_batch_size` must be finite and >= 2"),
        ({"pretrain_noise": float("nan")}, "`pretrain_noise` must be"),
        ({"embedding": 1}, "`embedding` must be"),
        ({"num_devices": 2}, "`num_devices` must be 1"),
        ({"classifier": "crt"}, "without validation images"),
        ({"classifier": "tau", "loss": "ldam", "validation_per_class": 5}, "cosine head"),
        ({"epochs": 0}, "`epochs` must be"),
        ({"optimizer": "adam"}, "`optimizer` must be 'sgd' for pre-training, got 'adam'"),
        (
            {**NO_TASK, "pretrain_learning_rate": 7.0},
            "`pretrain_learning_rate` must be left at 0.1 with pretext 'none'",
        ),
        ({**NO_TASK, "pretrain_batch_size": 7}, "`pretrain_batch_size` must be left at 128 with .*, got 7"),
        ({**NO_TASK, "pretrain_schedule": "cosine"}, "`pretrain_schedule` must be left at 'step' with"),
        ({**NO_TASK, "pretrain_weight_decay": 0.0}, "`pretrain_weight_decay` must be left at 0.0002 with"),
        ({**NO_TASK, "pretrain_noise": 3.0}, "`pretrain_noise` must be left at 0.5 with"),
        ({**NO_TASK, "embedding": 99}, "`embedding` must be left at 64 with"),
    ],
)
def test_bad_fields_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        PretrainConfig(**change)


def test_it_is_a_run_config_with_more_fields_and_a_hash_of_its_own():
    config = PretrainConfig(imbalance_ratio=20)
    assert isinstance(config, RunConfig)
    assert config.imbalance_ratio == 20.0
    own = [field.name for field in fields(PretrainConfig) if field.name not in RunConfig.__dataclass_fields__]
    assert own[0] == "pretext"
    assert len({config.hash(), RunConfig(imbalance_ratio=20).hash(), replace(config, embedding=32).hash()}) == 3
    assert config.hash() == replace(config, device="cpu").hash()
    with pytest.raises(TypeError, match="`pretrain_epochs` must be of type int"):
        PretrainConfig(pretrain_epochs=2.5)


def test_control_is_as_long_in_all_and_otherwise_the_same():
    config = PretrainConfig(epochs=30, pretrain_epochs=50, loss="ldam")
    control = config.control()
    assert control.total_epochs == config.total_epochs == control.epochs == 80
    assert (control.pretext, control.loss) == ("none", "ldam")
    assert control.control() == control


def test_without_a_task_it_is_the_plain_run(digits):
    config = PretrainConfig(**SHORT | {"pretext": "none", "pretrain_epochs": 0})
    plain = {field.name: getattr(config, field.name) for field in fields(RunConfig)}
    expected = run(RunConfig(**plain), dataset=digits)
    found = run_pretrain(config, dataset=digits)
    assert found.trained.confusion == expected.confusion
    assert found.trained.curves["train_loss"] == expected.curves["train_loss"]
    assert found.pretext_score is None
    assert found.method == "ERM from scratch"


@pytest.mark.parametrize("pretext", [name for name in PRETEXTS if name != "none"])
@pytest.mark.parametrize("model", ["mlp", "resnet8"])
def test_every_task_runs_on_every_kind_of_network(digits, pretext, model):
    config = PretrainConfig(**SHORT | {"pretext": pretext, "model": model, "n_max": 20})
    found = run_pretrain(config, dataset=digits)
    assert found.method == f"ERM + {pretext}"
    assert np.isfinite([found.pretext_score, found.probe_accuracy, found.trained.accuracy_last]).all()
    assert len(found.pretext_curves["train_loss"]) == 2


@pytest.mark.parametrize(
    "method",
    [
        {"loss": "focal", "gamma": 2.0, "weighting": "effective_number", "beta": 0.9, "decay_on": "head_bias_only"},
        {"loss": "ldam", "max_margin": 0.3, "scale": 10.0, "margin_rule": "uniform"},
    ],
)
def test_pretraining_has_nothing_of_the_method_after_it(digits, method):
    found = [run_pretrain(PretrainConfig(**SHORT | change | {"n_max": 20}), dataset=digits) for change in ({}, method)]
    assert found[0].pretext_curves["train_loss"] == found[1].pretext_curves["train_loss"]
    assert found[0].trained.curves["train_loss"] != found[1].trained.curves["train_loss"]


@pytest.mark.parametrize("pretext", ["rotation", "simsiam"])
def test_augmented_images(digits, pretext):
    config = PretrainConfig(**SHORT | {"pretext": pretext, "model": "cnn", "augment": True, "precision": "float32"})
    found = run_pretrain(config, dataset=digits)
    assert (found.pretext_score is None) == (pretext == "simsiam")
    assert np.isfinite(found.pretext_curves["train_loss"]).all()


def test_pretraining_learns_its_task_and_training_starts_from_it(digits):
    config = PretrainConfig(**SHORT | {"n_max": 100, "pretrain_epochs": 15, "pretrain_batch_size": 32, "epochs": 1})
    found = run_pretrain(config, dataset=digits)
    assert found.pretext_score > 0.7  # chance is 0.25
    scratch = run_pretrain(replace(config.control(), epochs=1), dataset=digits)
    assert found.trained.curves["train_loss"] != scratch.trained.curves["train_loss"]


def test_shuffled_labels_leave_pretraining_as_it_is(digits):
    config = PretrainConfig(**SHORT | {"augment": True, "model": "cnn"})
    subset = build.draw_subset(config, digits)
    shuffled = np.random.default_rng(0).permutation(digits.train.targets)
    other = replace(digits, train=replace(digits.train, targets=shuffled))
    fabric = training.make_fabric("cpu", "float64")
    learned = []
    for dataset in (digits, other):
        problem = build.build_problem(config, "cpu", dataset, subset)
        learned.append(learn_pretext(config, problem, dataset, fabric, None, "", False))
    (_, one, history), (_, two, again) = learned
    assert history.train_loss == again.train_loss
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("classifier", CLASSIFIERS[1:])
def test_new_classifiers_replace_the_accuracy_and_the_confusion(digits, classifier):
    config = PretrainConfig(**SHORT | {"n_max": 100, "imbalance_ratio": 20.0, "validation_per_class": 10, "epochs": 4})
    head = run_pretrain(config, dataset=digits)
    found = run_pretrain(replace(config, classifier=classifier), dataset=digits)
    assert found.trained.curves["train_loss"] == head.trained.curves["train_loss"]
    assert found.trained.confusion != head.trained.confusion
    assert found.trained.recall.mean() == pytest.approx(found.trained.accuracy_last)
    assert len(found.chosen) == 1
    assert found.method.endswith(f", {classifier}")


def test_result_is_written_and_read_back_and_no_plain_result(digits, tmp_path):
    found = run_pretrain(PretrainConfig(**SHORT), dataset=digits)
    found.save(tmp_path)
    assert load_pretrain_result(tmp_path).to_row() == found.to_row()
    content = json.loads((tmp_path / "result.json").read_text())
    assert content["row"]["total_epochs"] == 4
    assert content["config"]["pretext"] == "rotation"
    lines = (tmp_path / "pretext.csv").read_text().splitlines()
    assert lines[0] == "epoch,learning_rate,loss,score"
    assert len(lines) == 3
    with pytest.raises(ValueError, match=r"whole result\.json"):
        load_result(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ValueError, match=r"whole result\.json"):
        load_pretrain_result(tmp_path)


def test_a_save_writes_the_result_once_and_last(digits, tmp_path, written_files):
    found = run_pretrain(PretrainConfig(**SHORT), dataset=digits)
    written_files.clear()
    found.save(tmp_path)
    assert written_files == ["curves.csv", "pretext.csv", "result.json"]


def interrupted_at(monkeypatch, stage):
    """Training of a stage stops after one epoch, as if the machine had gone."""
    real = getattr(training, stage)

    def stopped(*arguments, **options):
        real(*arguments, **options, stop_after=1)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, stage, stopped)


@pytest.mark.parametrize("stage", ["pretrain", "fit"])
@pytest.mark.parametrize("change", [{}, {"pretext": "simsiam", "model": "cnn", "augment": True}])
def test_a_stage_goes_on_to_the_same_bits(digits, tmp_path, monkeypatch, epochs_trained, stage, change):
    config = PretrainConfig(**SHORT | change | {"n_max": 20})
    whole = run_pretrain(config, dataset=digits)
    with monkeypatch.context() as context:
        interrupted_at(context, stage)
        with pytest.raises(KeyboardInterrupt):
            run_pretrain(config, dataset=digits, checkpoint=tmp_path / "state.pt")
    names = {"state.pt.pretext"} | ({"state.pt"} if stage == "fit" else set())
    assert {path.name for path in tmp_path.iterdir()} == names
    epochs_trained.clear()
    again = run_pretrain(config, dataset=digits, checkpoint=tmp_path / "state.pt")
    # One of two epochs is left of the stage that was interrupted; what came before it is not trained again.
    assert epochs_trained == (["pretrain", "fit", "fit"] if stage == "pretrain" else ["fit"])
    np.testing.assert_array_equal(again.trained.test_logits, whole.trained.test_logits)
    for name in ("train_loss", "learning_rate", "accuracy"):
        assert again.pretext_curves[name] == whole.pretext_curves[name]
        assert again.trained.curves[name] == whole.trained.curves[name]


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="`dataset` must hold images"):
        run_pretrain(PretrainConfig(dataset="gaussian", n_max=20, epochs=1, pretrain_epochs=1))


def test_data_of_another_name_are_refused(digits):
    with pytest.raises(ValueError, match="`dataset` must be that of the configuration, 'svhn', got 'digits'"):
        run_pretrain(PretrainConfig(**SHORT, dataset="svhn"), dataset=digits)


def test_the_control_of_a_task_with_settings_of_its_own_leaves_them():
    config = PretrainConfig(pretext="simsiam", embedding=32, pretrain_schedule="cosine", pretrain_epochs=5, epochs=3)
    control = config.control()
    assert (control.embedding, control.pretrain_schedule, control.epochs) == (64, "step", 8)
    assert control.control() == control
    assert PretrainConfig(**NO_TASK, optimizer="adam").optimizer == "adam"


def test_a_score_that_is_not_a_number_is_written_and_read_back(digits, tmp_path):
    found = run_pretrain(PretrainConfig(**SHORT | {"n_max": 20}), dataset=digits)
    scores = {**found.pretext_curves["accuracy"], "pretext": [0.5, float("nan")]}
    blank = replace(found, pretext_curves=found.pretext_curves | {"accuracy": scores})
    blank.save(tmp_path / "one")
    text = (tmp_path / "one" / "result.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(word))
    read = load_pretrain_result(tmp_path / "one")
    np.testing.assert_array_equal(read.pretext_curves["accuracy"]["pretext"], [0.5, np.nan])
    read.save(tmp_path / "two")
    for name in ("result.json", "pretext.csv", "curves.csv"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
