import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from lt_lib import counts, data, metrics, training
from lt_lib.recipes import (
    METHODS,
    RunConfig,
    build,
    load_result,
    method_config,
    run,
    run_many,
)
from lt_lib.recipes.build import load_dataset
from lt_lib.recipes.result import RunResult

FAST = {"dataset": "tiny", "imbalance_ratio": 8.0, "epochs": 3, "batch_size": 16, "learning_rate": 0.05}


@pytest.fixture(autouse=True)
def _sets(loaded):
    """All runs here find their data by name, in memory."""


def same(one, two, rel=1e-9):
    assert one.class_counts == two.class_counts
    assert one.data_hash == two.data_hash
    assert one.confusion == two.confusion
    assert one.train_recall == two.train_recall
    assert one.precision == two.precision
    assert one.curves["train_loss"] == pytest.approx(two.curves["train_loss"], rel=rel)
    assert one.curves["accuracy"] == {name: pytest.approx(values) for name, values in two.curves["accuracy"].items()}
    assert one.curves["evaluated"] == two.curves["evaluated"]
    for name in ("accuracy_last", "accuracy_validation", "accuracy_best_on_test"):
        assert getattr(one, name) == pytest.approx(getattr(two, name))
    np.testing.assert_allclose(one.test_logits, two.test_logits, rtol=1e-7, atol=1e-8)


def test_a_result_says_what_the_model_does(tiny):
    result = run(RunConfig(**FAST, validation_per_class=4))
    predictions = result.test_logits.argmax(axis=1)
    truth = tiny.test.targets
    assert result.confusion == metrics.confusion_matrix(truth, predictions, 3).tolist()
    np.testing.assert_allclose(result.recall, metrics.per_class_recall(truth, predictions, 3))
    assert result.accuracy_last == pytest.approx(result.recall.mean())
    assert result.class_counts == [36, 14, 5]
    assert result.curves["evaluated"] == [0, 1, 2]
    assert len(result.curves["train_loss"]) == 3
    assert result.precision == "float64"
    assert result.device.startswith("CPU (")


def test_the_three_numbers_are_last_selected_and_best(monkeypatch):
    def fit(model, *_arguments, **_options):
        return training.History(
            train_loss=[1.0] * 4,
            learning_rate=[0.1] * 4,
            evaluated=[0, 1, 2, 3],
            accuracy={"test": [0.2, 0.9, 0.5, 0.4], "validation": [0.1, 0.3, 0.8, 0.8]},
        )

    monkeypatch.setattr(training, "fit", fit)
    result = run(RunConfig(**FAST, validation_per_class=4, precision="float32"))
    assert (result.accuracy_last, result.accuracy_best_on_test) == (0.4, 0.9)
    assert result.accuracy_validation == 0.5  # test accuracy where validation is best first, not the best on test


def test_without_holdout_there_is_no_selected_number():
    result = run_many([RunConfig(**FAST)])[0]
    assert result.accuracy_validation is None
    assert set(result.curves["accuracy"]) == {"test"}


def test_many_runs_equal_single_runs_for_every_method():
    configs = [
        method_config(method, RunConfig(**FAST), seed=seed, epochs=5, validation_per_class=4, **changes)
        for method, changes in (
            *((name, {}) for name in ("ERM", "RS")),
            *((name, {"beta": 0.9}) for name in ("CB RW", "DRW", "LDAM-DRW", "M-DRW", "CB-focal")),
        )
        for seed in (0, 1)
    ]
    for config, together in zip(configs, run_many(configs), strict=True):
        assert together.config == config
        same(together, run(config))


@pytest.mark.parametrize("dataset", ["uneven", "vectors"])
def test_many_runs_may_differ_in_subset_and_size(dataset):
    base = RunConfig(**FAST | {"dataset": dataset}, validation_per_class=12, permute_classes=True, weighting="inverse")
    configs = [base.changed(split_seed=seed) for seed in range(4)]
    results = run_many(configs)
    assert len({tuple(result.class_counts) for result in results}) > 1
    for config, together in zip(configs, results, strict=True):
        same(together, run(config))


def test_many_runs_of_convolutions_and_of_what_cannot_be_stacked():
    base = RunConfig(**FAST | {"epochs": 1})
    configs = [
        base.changed(model="cnn"),
        base.changed(precision="bfloat16"),
        base.changed(augment=True),
        base.changed(model="cnn", seed=1),
        base.changed(model="resnet8"),
        base.changed(precision="float32"),
    ]
    results = run_many(configs)
    assert [result.config for result in results] == configs
    assert [result.precision for result in results[:4]] == ["float64", "bfloat16", "float64", "float64"]
    same(results[0], run(configs[0]))
    same(results[1], run(configs[1]))


def test_many_runs_read_each_data_root(monkeypatch, loaded):
    roots = {"": loaded["tiny"], "elsewhere": loaded["uneven"]}
    monkeypatch.setattr(build, "load_dataset", lambda config: roots[config.data_root])
    base = RunConfig(**FAST)
    results = run_many([base, base.changed(data_root="elsewhere")])
    assert results[0].data_hash != results[1].data_hash


def test_no_runs_are_no_results():
    assert run_many([]) == []


def test_a_run_in_bfloat16_reports_one_accuracy():
    result = run(RunConfig(**FAST | {"epochs": 2}, model="resnet8", precision="bfloat16"))
    assert result.accuracy_last == pytest.approx(result.recall.mean(), abs=1e-12)
    assert result.precision == "bfloat16"
    # The final predictions are made in the number format of the history: a bfloat16 product has eight digits.
    logits = torch.from_numpy(result.test_logits)
    assert torch.equal(logits.bfloat16().float(), logits)


def test_an_interrupted_run_with_augmentation_ends_in_the_same_result(tmp_path, monkeypatch):
    config = RunConfig(**FAST | {"epochs": 3}, augment=True, model="resnet8")
    whole = run(config, checkpoint=tmp_path / "whole.pt")
    real = training.fit
    monkeypatch.setattr(training, "fit", lambda *a, **o: real(*a, **o, stop_after=2))
    run(config, checkpoint=tmp_path / "run.pt")
    monkeypatch.setattr(training, "fit", real)
    resumed = run(config, checkpoint=tmp_path / "run.pt", snapshots={3})
    np.testing.assert_array_equal(resumed.test_logits, whole.test_logits)
    assert resumed.curves["train_loss"] == whole.curves["train_loss"]
    assert (tmp_path / "run.pt.epoch3").exists()
    with pytest.raises(training.CheckpointError, match="belongs to another configuration"):
        run(config.changed(seed=1), checkpoint=tmp_path / "run.pt")


# A change of the field, and what it must act on. The base has everything switched on that the field needs.
WEIGHTED = {"weighting": "effective_number", "beta": 0.9}
DIFFERENT = {
    "dataset": ({}, "uneven"),
    "imbalance_type": ({}, "step"),
    "imbalance_ratio": ({}, 4.0),
    "n_max": ({}, 20),
    "permute_classes": ({}, True),
    "split_seed": ({}, 1),
    "split_scheme": ({}, "ldam"),
    "validation_per_class": ({}, 5),
    "tokens": ({"dataset": "texts", "model": "lstm64"}, 2),
    "model": ({}, "cnn"),
    "loss": ({}, "sigmoid"),
    "gamma": ({"loss": "focal"}, 3.0),
    "max_margin": ({"loss": "ldam"}, 0.1),
    "margin_rule": ({"loss": "ldam"}, "uniform"),
    "scale": ({"loss": "ldam"}, 5.0),
    "tau": ({"loss": "logit_adjusted"}, 0.5),
    "weighting": ({}, "inverse"),
    "beta": (WEIGHTED, 0.99),
    "normalization": (WEIGHTED, "weights"),
    "sampling": ({}, "sqrt"),
    "defer_until": (WEIGHTED, 0.5),
    "epochs": ({}, 2),
    "batch_size": ({}, 8),
    "optimizer": ({}, "adam"),
    "learning_rate": ({}, 0.01),
    "momentum": ({}, 0.5),
    "weight_decay": ({}, 0.1),
    "warmup": ({}, 1.0),
    "lr_decay": ({}, 0.5),
    "bias_init": ({"loss": "sigmoid"}, "zero"),
    "decay_on": ({"loss": "sigmoid", "weight_decay": 0.1}, "all"),
    "augment": ({}, True),
    "seed": ({}, 1),
    "evaluate_every": ({}, 2),
    "precision": ({}, "float32"),
}
NOT_IN_THE_OUTCOME = {"profile", "data_root", "device", "num_devices"}


def test_every_field_is_examined():
    assert set(DIFFERENT) | NOT_IN_THE_OUTCOME == {field.name for field in fields(RunConfig)}


@pytest.mark.parametrize("name", DIFFERENT)
def test_no_field_is_dead(name):
    needed, value = DIFFERENT[name]
    base = RunConfig(**FAST | {"lr_decay": 0.1, "device": "cpu"} | needed)
    one, two = run_many([base, base.changed(**{name: value})])
    outcomes = [
        (result.curves["train_loss"], result.curves["evaluated"], result.data_hash, result.precision)
        for result in (one, two)
    ]
    assert outcomes[0] != outcomes[1]
    if name not in {"evaluate_every", "validation_per_class"}:
        assert one.test_logits.shape == two.test_logits.shape
        assert not np.array_equal(one.test_logits, two.test_logits)


def test_the_profile_labels_the_row():
    assert run_many([RunConfig(**FAST, profile="paper")])[0].to_row()["profile"] == "paper"


def test_the_data_root_is_where_data_are_looked_for(monkeypatch):
    seen = []
    monkeypatch.setattr(data, "load", lambda name, root: seen.append((name, root)))
    load_dataset(RunConfig(dataset="svhn", data_root="there"))
    load_dataset(RunConfig(dataset="svhn"))
    assert seen == [("svhn", "there"), ("svhn", None)]


class StopHereError(Exception):
    pass


def test_the_placement_reaches_fabric(monkeypatch):
    seen = []

    def make_fabric(device, precision, *, num_devices):
        seen.append((device, precision, num_devices))
        raise StopHereError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(training, "make_fabric", make_fabric)
    with pytest.raises(StopHereError):
        run(RunConfig(num_devices=3, precision="float32"))
    assert seen == [("cpu", "float32", 3)]
    with pytest.raises(ValueError, match="got 'cuda' without a usable GPU"):
        run(RunConfig(device="cuda"))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_learns(method):
    base = RunConfig(**FAST | {"epochs": 8, "learning_rate": 0.05})
    (result,) = run_many([method_config(method, base)])
    assert all(np.isfinite(result.curves["train_loss"]))
    assert np.mean(result.train_recall) > 0.5  # a third by chance
    assert result.method == method


def test_a_row_has_the_columns_that_all_tables_share():
    result = run_many([method_config("CB-focal", RunConfig(**FAST), gamma=0.5, profile="small")])[0]
    row = result.to_row()
    assert list(row) == [
        *(
            "dataset",
            "profile",
            "model",
            "method",
            "imbalance_type",
            "imbalance_ratio",
            "n_max",
            "class_counts",
            "loss",
            "beta",
            "gamma",
            "seed",
        ),
        *("accuracy_last", "accuracy_validation", "accuracy_best_on_test", "recall_0", "recall_1", "recall_2"),
        *("seconds", "device", "config_hash", "data_hash", "version"),
    ]
    assert row["class_counts"] == " ".join(map(str, result.class_counts))
    assert (row["method"], row["beta"], row["gamma"], row["profile"]) == ("CB-focal", 0.9999, 0.5, "small")
    assert row["config_hash"] == result.config.hash()
    assert 0 <= row["recall_2"] <= 1


def result_of(**changes):
    values = {
        "config": RunConfig(dataset="folder:somewhere/cifar10-jpeg"),
        "class_counts": [3, 2],
        "accuracy_last": 0.5,
        "accuracy_validation": None,
        "accuracy_best_on_test": 0.75,
        "confusion": [[1, 1], [1, 1]],
        "train_recall": [1.0, 0.5],
        "curves": {
            "train_loss": [1.0, 0.5],
            "learning_rate": [0.1, 0.001],
            "evaluated": [1],
            "accuracy": {"test": [0.5]},
            "seconds": 2.0,
        },
        "seconds": 2.0,
        "device": "CPU",
        "precision": "float32",
        "data_hash": "abc",
        "versions": {"lt_lib": "0.1"},
        "test_logits": np.zeros((4, 2)),
    }
    return RunResult(**(values | changes))


def test_rows_leave_out_what_does_not_apply_and_name_data_not_places():
    row = result_of().to_row()
    assert (row["dataset"], row["beta"], row["gamma"]) == ("cifar10-jpeg", None, None)
    balanced = result_of(config=RunConfig(imbalance_type="balanced", sampling="effective_number", loss="softmax_focal"))
    assert (balanced.to_row()["imbalance_ratio"], balanced.to_row()["beta"]) == (1.0, 0.9999)
    assert balanced.to_row()["gamma"] == 1.0


def test_a_class_without_test_samples_has_no_recall():
    np.testing.assert_array_equal(result_of(confusion=[[3, 1], [0, 0]]).recall, [0.75, np.nan])


def test_saved_results_are_read_back(tmp_path):
    result = result_of()
    assert result.save(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    read = load_result(tmp_path / "a" / "b")
    assert read == result
    assert read.test_logits is None
    content = json.loads((tmp_path / "a" / "b" / "result.json").read_text())
    assert content["row"]["method"] == content["method"] == "ERM"
    assert content["config_hash"] == result.config.hash()
    assert (tmp_path / "a" / "b" / "curves.csv").read_text() == (
        "epoch,learning_rate,train_loss,accuracy_test\n0,0.1,1,\n1,0.001,0.5,0.500000\n"
    )
    assert sorted(entry.name for entry in (tmp_path / "a" / "b").iterdir()) == ["curves.csv", "result.json"]


def test_a_failed_write_leaves_the_old_result(tmp_path, monkeypatch):
    result_of().save(tmp_path)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}

    def fail(*_arguments):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        result_of(accuracy_last=0.9).save(tmp_path)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


REFUSED = '{"config": {"epochs": -1}}'


@pytest.mark.parametrize("content", ["", '{"config": {', "[]", "{}", '{"config": {"losses": 1}}', REFUSED])
def test_a_damaged_result_is_named(tmp_path, content):
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(ValueError, match=r"`folder` must hold a whole result\.json, got .*result\.json"):
        load_result(tmp_path)


def test_a_missing_result_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"`folder` must hold a whole result\.json, got .*absent"):
        load_result(tmp_path / "absent")


@pytest.mark.parametrize("method", ["ERM", "RS", "RW", "LDAM-DRW"])
def test_the_methods_of_the_imdb_table_learn_from_texts(method):
    base = RunConfig(**FAST | {"dataset": "texts", "model": "lstm64", "tokens": 6, "optimizer": "adam"})
    (result,) = run_many([method_config(method, base, imbalance_type="reversed_step", learning_rate=0.01)])
    assert result.class_counts == counts.step_counts(40, 3, 8).tolist()[::-1]
    assert result.precision == "float32"
    assert np.mean(result.train_recall) > 0.9
    assert result.accuracy_last > 0.9


def test_an_interrupted_run_with_adam_ends_in_the_same_bits(tmp_path, monkeypatch):
    config = RunConfig(**FAST | {"dataset": "texts", "model": "lstm64"}, tokens=6, optimizer="adam")
    whole = run(config)
    real = training.fit
    monkeypatch.setattr(training, "fit", lambda *a, **o: real(*a, **o, stop_after=2))
    run(config, checkpoint=tmp_path / "run.pt")
    monkeypatch.setattr(training, "fit", real)
    np.testing.assert_array_equal(run(config, checkpoint=tmp_path / "run.pt").test_logits, whole.test_logits)


def test_data_of_another_name_are_refused_before_anything_is_trained(loaded, monkeypatch):
    config = RunConfig(**FAST)
    monkeypatch.setattr(training, "fit", None)
    monkeypatch.setattr(training, "fit_stacked", None)
    with pytest.raises(ValueError, match="`dataset` must be that of the configuration, 'tiny', got 'uneven'"):
        run(config, dataset=loaded["uneven"])
    with pytest.raises(ValueError, match="`dataset` must be that of the configuration, 'uneven', got 'tiny'"):
        run_many([config, config.changed(dataset="uneven")], dataset=loaded["tiny"])
    assert build.given_dataset(config, loaded["tiny"]) is loaded["tiny"]


def test_an_image_folder_goes_by_its_own_name_and_by_that_of_a_link_to_it(tiny, tmp_path):
    for split in ("train", "test"):
        (tmp_path / "photos" / split).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    photos = replace(tiny, name="photos")
    for name in ("photos", "photos/", "link"):
        config = RunConfig(dataset=f"folder:{name}", data_root=str(tmp_path))
        assert build.given_dataset(config, photos) is photos
    assert build.given_dataset(RunConfig(dataset="folder:elsewhere/photos"), photos) is photos
    for name in ("folder:elsewhere/link", "digits"):
        with pytest.raises(ValueError, match=f"`dataset` must be that of the configuration, '{name}', got 'photos'"):
            build.given_dataset(RunConfig(dataset=name), photos)


def test_what_is_not_a_number_is_written_as_null_and_read_as_before(tmp_path):
    result = result_of(confusion=[[3, 1], [0, 0]], train_recall=[1.0, float("nan")])
    result.save(tmp_path)
    content = json.loads((tmp_path / "result.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert (content["row"]["recall_1"], content["train_recall"]) == (None, [1.0, None])
    read = load_result(tmp_path)
    np.testing.assert_array_equal(read.train_recall, [1.0, np.nan])
    assert replace(read, train_recall=result.train_recall) == result
    # Before, such a number was written as NaN, which is not JSON but was read back.
    text = (tmp_path / "result.json").read_text().replace("null\n ]", "NaN\n ]")
    assert "NaN" in text
    (tmp_path / "result.json").write_text(text)
    np.testing.assert_array_equal(load_result(tmp_path).train_recall, [1.0, np.nan])
