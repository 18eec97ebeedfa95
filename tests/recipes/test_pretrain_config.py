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
from lt_lib.recipes.pretrain import CLASSIFIERS, PRETEXTS, build_pretext

SHORT = {"n_max": 40, "epochs": 2, "pretrain_epochs": 2, "evaluate_every": 2, "device": "cpu", "batch_size": 32}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


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
    scratch = run_pretrain(replace(config, pretext="none", pretrain_epochs=0), dataset=digits)
    assert found.trained.curves["train_loss"] != scratch.trained.curves["train_loss"]


def test_shuffled_labels_leave_pretraining_as_it_is(digits):
    config = PretrainConfig(**SHORT)
    subset = build.draw_subset(config, digits)
    shuffled = np.random.default_rng(0).permutation(digits.train.targets)
    other = replace(digits, train=replace(digits.train, targets=shuffled))
    states = []
    for dataset in (digits, other):
        problem = build.build_problem(config, "cpu", dataset, subset)
        task, network = build_pretext(config, problem.input_shape, lambda x, _: x)
        training.pretrain(
            network.double(), problem.train, task, learning_rate_at=lambda _: 0.1, epochs=1,
            rng=torch.Generator().manual_seed(0),
        )  # fmt: skip
        states.append(network.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


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


def test_both_stages_resume(digits, tmp_path):
    config = PretrainConfig(**SHORT)
    whole = run_pretrain(config, dataset=digits)
    first = run_pretrain(config, dataset=digits, checkpoint=tmp_path / "state.pt")
    assert (tmp_path / "state.pt.pretext").exists()
    again = run_pretrain(config, dataset=digits, checkpoint=tmp_path / "state.pt")
    assert whole.trained.confusion == first.trained.confusion == again.trained.confusion
    assert again.pretext_curves["train_loss"] == whole.pretext_curves["train_loss"]


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="`dataset` must hold images"):
        run_pretrain(PretrainConfig(dataset="gaussian", n_max=20, epochs=1, pretrain_epochs=1))
