import json
import os
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import image_trees
import numpy as np
import pytest
import torch

from lt_lib import cli, counts, training
from lt_lib.data.image_files import load_image_files
from lt_lib.recipes import build, large
from lt_lib.recipes.config import LOSSES, WEIGHTINGS
from lt_lib.recipes.large import (
    BatchLoss,
    LargeResult,
    build_large_loss,
    build_large_model,
    load_large_result,
    run_large,
)
from lt_lib.recipes.large_config import LARGE_METHODS, LARGE_PRESETS, LargeConfig, large_preset

SCRIPT = Path(__file__).with_name("large_script.py")
SIZES = {"train": (12, 10, 8, 5, 4, 3), "val": (3, 3, 2, 2, 2, 1)}
TINY = {
    "profile": "quick", "depth": 18, "image_size": 32, "epochs": 2, "batch_size": 8, "device": "cpu", "workers": 0,
    "precision": "float32",
}  # fmt: skip


@pytest.fixture
def imported():
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import large_script
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return large_script


@pytest.mark.timeout(900)  # two fresh processes import everything, on a machine that may be busy
def test_two_processes_train_stop_resume_and_evaluate_as_one_does(tmp_path, repository, imported):
    image_trees.write_inaturalist(tmp_path, **SIZES)
    two = tmp_path / "two"
    two.mkdir()
    environment = os.environ | {"PYTHONPATH": str(repository), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), "2", str(tmp_path), str(two)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    # Without batch normalisation, two processes with gradients in parts are one process with whole batches.
    imported.train_linear(1, tmp_path, tmp_path / "linear")
    weights, losses, hits = torch.load(tmp_path / "linear.0")
    for rank in (0, 1):
        found = torch.load(two / f"linear.{rank}")
        for name, value in weights.items():
            torch.testing.assert_close(found[0][name], value, rtol=1e-10, atol=1e-12)
        assert found[1] == pytest.approx(losses, rel=1e-10)
        assert found[2] == hits

    # Broken off after two epochs of three and resumed: the same bits.
    whole, resumed = (load_large_result(two / name) for name in ("whole", "broken"))
    assert replace(resumed, seconds=0, curves={}) == replace(whole, seconds=0, curves={})
    assert resumed.curves | {"seconds": 0} == whole.curves | {"seconds": 0}
    states = [torch.load(two / name / "checkpoint.pt")["model"] for name in ("whole", "broken")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

    # The trained model, evaluated by one process on each image once.
    files = load_image_files("inaturalist", tmp_path)
    model = build_large_model(whole.config, files.num_classes)
    model.load_state_dict(states[0])
    fabric = training.make_fabric("cpu", "float32")
    stream = large._stream(whole.config, files.test, fabric, crop="centre")
    alone = training.count_hits(
        model, stream, torch.from_numpy(files.test.targets), files.num_classes,
        prepare=large._standardise(files, "cpu", torch.float32), fabric=fabric,
    )  # fmt: skip
    assert alone.samples.tolist() == list(SIZES["val"]) == whole.test_counts
    np.testing.assert_array_equal(alone.recall, whole.recall)
    assert (alone.accuracy, alone.top5_accuracy) == (whole.accuracy_last, whole.top5_last)
    assert whole.accuracy_last == whole.curves["accuracy"]["test"][-1] == whole.to_row()["accuracy_last"]
    assert whole.class_counts == list(SIZES["train"])
    assert whole.curves["train_loss"][-1] < whole.curves["train_loss"][0]


def test_the_command_trains_writes_and_goes_on(tmp_path, capsys):
    image_trees.write_imagenet_lt(tmp_path)
    fixed = [f"{name}={value}" for name, value in (TINY | {"data_root": tmp_path}).items()]
    command = ["train-large", "imagenet-lt", "--method", "CB-focal", "--out", str(tmp_path / "out"), "--set", *fixed]
    assert cli.main([*command, "--stop-after", "1"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("epoch 1 of 2: loss ")
    assert "validation_top5 " in first
    assert "wrote" not in first
    assert cli.main(command) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("epoch 2 of 2: loss ")
    assert out[1].startswith("CB-focal on imagenet_lt: top-1 error ")
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    assert content["row"]["method"] == content["method"] == "CB-focal"
    assert content["accuracy_validation"] is not None
    read = load_large_result(tmp_path / "out")
    assert read.config == large_preset("imagenet-lt", "CB-focal", **TINY, data_root=str(tmp_path))
    assert read.to_row() == content["row"]
    assert cli.main([*command, "seed=1"]) == 2
    assert "the checkpoint belongs to another configuration" in capsys.readouterr().err


def test_devices_of_the_command_reach_the_placement(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(large, "run_large", lambda config, **options: seen.append((config, options)))
    assert cli.main(["train-large", "cb-inat18", "--out", str(tmp_path), "--devices", "4"]) == 0
    config, options = seen[0]
    assert config == large_preset("cb-inat18", num_devices=4)
    assert (options["checkpoint"], options["stop_after"]) == (tmp_path / "checkpoint.pt", None)


def test_the_command_names_what_is_missing_or_wrong(tmp_path, capsys):
    command = [
        "train-large",
        "cb-inat18",
        "--out",
        str(tmp_path / "out"),
        "--set",
        f"data_root={tmp_path}",
        "device=cpu",
    ]
    assert cli.main(command) == 1
    assert "Data set `inaturalist` is missing: inaturalist/2018/" in capsys.readouterr().err
    assert cli.main([*command, "depth=34"]) == 2
    assert "`depth` must be one of (18, 50, 101, 152), got 34" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert cli.main(["train-large", "cb-inat18", "--out", str(tmp_path / "file")]) == 2
    assert "`out` must be a folder that can be written to" in capsys.readouterr().err
    assert cli.main([*command, "num_devices=3", "--devices", "2"]) == 2
    assert "`devices` must stand alone, got 2 and `set` num_devices" in capsys.readouterr().err
    assert cli.main([*command, "--stop-after", "0"]) == 2
    assert "`stop_after` must be an integer of at least 1, got 0" in capsys.readouterr().err
    assert cli.main(["train-large", "cb-inat", "--out", "x"]) == 2
    assert "Did you mean 'cb-inat18'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "method", "expected"),
    [
        ("cb-inat18", "ERM", {"learning_rate": 0.4, "batch_size": 1024, "nesterov": True, "crop": "area"}),
        ("cb-inat18", "CB-focal", {"learning_rate": 1.6, "beta": 0.999, "gamma": 0.5, "normalization": "batch"}),
        ("cb-inat17", "Focal", {"learning_rate": 1.6, "dataset": "inaturalist:2017", "weighting": "none"}),
        ("cb-ilsvrc", "CB-focal", {"learning_rate": 0.8, "decay_on": "kernels", "weight_decay": 1e-4}),
        ("ldam-inat18", "LDAM-DRW", {"learning_rate": 0.1, "max_margin": 0.3, "beta": 0.9999, "crop": "shorter_side"}),
        (
            "ldam-inat18",
            "DRW",
            {"loss": "softmax", "defer_until": 2 / 3, "normalization": "weights", "nesterov": False},
        ),
        ("imagenet-lt", "ERM", {"learning_rate": 0.2, "schedule": "cosine", "weight_decay": 5e-4, "batch_size": 128}),
    ],
)
def test_presets_are_the_papers(name, method, expected):
    config = large_preset(name, method)
    assert {field: getattr(config, field) for field in expected} == pytest.approx(expected)
    assert (config.epochs, config.depth, config.image_size) == (90, 50, 224)


@pytest.mark.parametrize("method", LARGE_METHODS)
def test_methods_have_one_name_in_every_preset(method):
    for name in LARGE_PRESETS:
        assert large_preset(name, method, depth=152).method == method
    assert large_preset("cb-inat18", method, base_learning_rate=0.1).learning_rate == 0.4
    assert LargeConfig(loss="hinge").method == "loss=hinge"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dataset": "cifar10"}, ValueError, "`dataset` must be one of 'inaturalist'"),
        ({"crop": "centre"}, ValueError, "`crop` must be one of 'area', 'shorter_side'"),
        ({"schedule": "step"}, ValueError, "`schedule` must be one of 'three_steps'"),
        ({"decay_on": "head"}, ValueError, "`decay_on` must be one of"),
        ({"image_size": 8}, ValueError, r"`image_size` must be finite and >= 16, got 8"),
        ({"warmup": 1.5}, ValueError, r"`warmup` must be in \[0, 1\], got 1.5"),
        ({"momentum": 0}, ValueError, "`nesterov` must be False without momentum"),
        ({"epochs": 90.0}, TypeError, "`epochs` must be of type int"),
    ],
)
def test_configurations_are_checked(changes, error, message):
    with pytest.raises(error, match=message):
        LargeConfig(**changes)


PLACEMENT = {"data_root": "x", "device": "cpu", "num_devices": 2, "workers": 1, "micro_batch": 3}
DIFFERENT = {
    "dataset": "imagenet", "profile": "quick", "depth": 101, "image_size": 320, "crop": "shorter_side", "loss": "focal",
    "gamma": 1.0, "max_margin": 0.5, "scale": 10.0, "tau": 2.0, "weighting": "inverse", "beta": 0.9,
    "normalization": "weights", "defer_until": 0.5, "epochs": 10, "batch_size": 256, "base_learning_rate": 0.4,
    "schedule": "cosine", "warmup": 0.0, "momentum": 0.5, "nesterov": False, "weight_decay": 1e-3, "decay_on": "all",
    "seed": 1, "evaluate_every": 5, "precision": "float32",
}  # fmt: skip


def test_the_hash_follows_the_experiment_and_not_its_place():
    assert set(PLACEMENT) | set(DIFFERENT) == {field.name for field in fields(LargeConfig)}
    base = LargeConfig()
    assert {base.changed(**{name: value}).hash() for name, value in PLACEMENT.items()} == {base.hash()}
    hashes = {base.changed(**{name: value}).hash() for name, value in DIFFERENT.items()}
    assert len(hashes | {base.hash()}) == len(DIFFERENT) + 1


def test_the_settings_reach_the_loop(tmp_path, monkeypatch):
    """Every field ends where it acts; what it does there is tested beside the loop, the stream and the losses."""
    image_trees.write_inaturalist(tmp_path, **SIZES)
    seen = {}

    def fit_stream(model, stream, targets, **options):
        seen.update(options, model=model, stream=stream, targets=targets)
        return training.History()

    monkeypatch.setattr(training, "fit_stream", fit_stream)
    base = large_preset("ldam-inat18", "LDAM-DRW", **TINY | {"epochs": 9}, data_root=str(tmp_path), micro_batch=4)
    assert run_large(base, stop_after=1) is None
    assert [seen[name] for name in ("epochs", "micro_batch", "momentum", "nesterov", "stop_after")] == [
        9,
        4,
        0.9,
        False,
        1,
    ]
    assert seen["evaluate_every"] == 1
    assert seen["stream"].shuffled
    assert not seen["evaluation"]["test"][0].shuffled
    assert (seen["stream"].steps, seen["stream"].seed) == (6, 0)
    images, _, _ = next(seen["stream"].epoch(0))
    assert images.shape == (7, 3, 32, 32)
    standard = seen["prepare"](torch.full((1, 3, 1, 1), 119, dtype=torch.uint8)).flatten()
    assert standard.tolist() == pytest.approx([(119 / 255 - 0.466) / 0.195, (119 / 255 - 0.471) / 0.194,
                                               (119 / 255 - 0.380) / 0.192], abs=1e-5)  # fmt: skip
    rates = [
        seen["learning_rate_at"](progress) for progress in (0, 2.9, 3, 6, 8.9)
    ]  # no whole epoch of warm-up in nine
    assert rates == pytest.approx([0.1 * 8 / 256 * factor for factor in (1, 1, 0.1, 0.01, 0.01)])
    assert [len(group["params"]) for group in seen["parameters"]] == [len(list(seen["model"].parameters()))]
    assert seen["parameters"][0]["weight_decay"] == 1e-4
    assert seen["loss_at"](5).objective.weight is None
    assert seen["loss_at"](6).objective.normalization == "weights"
    assert seen["loss_at"](6).objective.weight is not None
    run_large(base.changed(loss="softmax", decay_on="kernels", nesterov=True, momentum=0.8, evaluate_every=4, seed=3))
    assert [group["weight_decay"] for group in seen["parameters"]] == [1e-4, 0.0]
    assert [seen[name] for name in ("momentum", "nesterov", "evaluate_every")] == [0.8, True, 4]
    assert seen["stream"].seed == 3
    assert seen["prepare"](images).dtype == torch.float32
    listed = load_image_files("inaturalist", tmp_path)
    run_large(base.changed(precision="float64", data_root="nowhere"), files=listed, stop_after=1)
    assert seen["prepare"](images).dtype == torch.float64
    assert seen["fabric"].setup(seen["model"]).module.head.weight.dtype == torch.float64
    assert seen["stream"].files is listed.train


def test_files_of_another_data_set_are_refused(tmp_path):
    image_trees.write_inaturalist(tmp_path, **SIZES)
    files = load_image_files("inaturalist", tmp_path)
    with pytest.raises(ValueError, match="`files` must be those of 'imagenet', got those of 'inaturalist'"):
        run_large(large_preset("cb-ilsvrc", **TINY), files=files)


def test_heads_start_as_their_losses_ask():
    focal = build_large_model(LargeConfig(depth=18, loss="focal"), 100).head
    assert focal.bias.tolist() == pytest.approx([-np.log(99)] * 100)
    assert focal.weight.std().item() == pytest.approx(0.01, rel=0.05)
    softmax = build_large_model(LargeConfig(depth=18), 100).head
    assert not softmax.bias.any()
    assert torch.equal(softmax.weight, focal.weight)
    cosine = build_large_model(LargeConfig(depth=18, loss="ldam"), 100).head
    assert not hasattr(cosine, "bias")
    assert not torch.equal(build_large_model(LargeConfig(depth=18, seed=1), 100).head.weight, softmax.weight)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_every_loss_and_weighting_of_a_large_run_can_be_built(loss, weighting):
    # Whose numbers have other defaults than those of a small run.
    config = LargeConfig(loss=loss, weighting=weighting)
    assert isinstance(build_large_loss(config, np.array([5000, 200, 50]), "cpu")(0), BatchLoss)


@pytest.mark.parametrize("method", LARGE_METHODS)
def test_the_parts_of_a_loss_add_up_to_the_loss_of_the_batch(method):
    class_counts = np.array([5000, 200, 50])
    config = large_preset("ldam-inat18", method, epochs=3)
    rng = torch.Generator().manual_seed(0)
    logits = torch.rand(7, 3, generator=rng, dtype=torch.float64)
    targets = torch.tensor([0, 0, 0, 1, 1, 2, 0])
    for epoch in (0, 2):
        loss = build_large_loss(config, class_counts, "cpu")(epoch)
        assert isinstance(loss, BatchLoss)
        assert isinstance(loss.objective, build.Objective)
        parts = sum(loss.total(logits[part], targets[part]) for part in (slice(0, 4), slice(4, 5), slice(5, 7)))
        whole = loss.objective(logits, targets)
        assert float(parts / loss.divisor(targets)) == pytest.approx(float(whole), rel=1e-6)
    weighted = "CB" in method or "DRW" in method
    assert (loss.objective.weight is not None) == weighted
    if weighted:
        expected = counts.class_balanced_weights(class_counts, config.beta)
        np.testing.assert_allclose(loss.objective.weight.numpy(), expected)


def result_of(**changes):
    values = {
        "config": LargeConfig(), "class_counts": [200, 150, 50, 5], "test_counts": [4, 4, 2, 0], "accuracy_last": 0.5,
        "accuracy_validation": None, "accuracy_best_on_test": 0.6, "top5_last": 0.9, "mean_recall_last": 0.5,
        "recall": [1.0, 0.25, 0.0, None], "curves": {"accuracy": {"test": [0.5]}}, "seconds": 1.0, "device": "CPU",
        "precision": "float32", "data_hash": "abc", "versions": {"lt_lib": "0.1"},
    }  # fmt: skip
    return LargeResult(**values | changes)


def test_a_row_has_the_shared_columns_and_those_of_its_scale():
    row = result_of().to_row()
    for shared, value in {
        "dataset": "inaturalist", "profile": "paper", "model": "resnet50", "method": "ERM", "imbalance_type": "natural",
        "imbalance_ratio": 40.0, "loss": "softmax", "beta": None, "gamma": None, "seed": 0, "accuracy_last": 0.5,
        "accuracy_validation": None, "accuracy_best_on_test": 0.6, "top5_last": 0.9, "mean_recall_last": 0.5,
        "recall_many": 0.625, "recall_medium": 0.0, "recall_few": None, "image_size": 224, "seconds": 1.0,
        "device": "CPU", "config_hash": LargeConfig().hash(), "data_hash": "abc", "version": "0.1",
    }.items():  # fmt: skip
        assert row[shared] == value
    focal = result_of(config=large_preset("cb-inat18", "CB-focal")).to_row()
    assert (focal["method"], focal["beta"], focal["gamma"]) == ("CB-focal", 0.999, 0.5)


def test_saved_results_are_read_back_and_damage_is_named(tmp_path):
    result = result_of()
    assert load_large_result(result.save(tmp_path / "a")) == result
    assert sorted(asdict(result)) == sorted(field.name for field in fields(LargeResult))
    for content in ("", "[]", "{}", '{"config": {"losses": 1}}'):
        (tmp_path / "result.json").write_text(content)
        with pytest.raises(ValueError, match=r"`folder` must hold a whole result\.json, got .*result\.json"):
            load_large_result(tmp_path)


@pytest.mark.parametrize(
    ("changes", "images", "message"),
    [
        ({"micro_batch": 1}, 64, "`micro_batch` must leave two or more images .* of up to 32, got 1 with 64 training"),
        ({"micro_batch": 3}, 64, None),
        ({"micro_batch": 3}, 63, "`micro_batch` must leave .* got 3 with 63"),  # batches of 8 and 7, 7 = 3 + 3 + 1
        ({"batch_size": 1}, 64, "`batch_size` must leave .* got 1 with 64"),
        ({"num_devices": 5, "micro_batch": 2}, 64, "`batch_size` must leave .* got 8 with 64"),  # 8 = 2 + 2 + 2 + 1 + 1
        ({"num_devices": 4}, 64, None),
        ({"image_size": 33, "micro_batch": 1}, 64, None),
    ],
)
def test_a_pass_of_one_image_without_a_deviation_is_refused(changes, images, message):
    config = LargeConfig(**TINY | {"image_size": 16} | changes)
    if message is None:
        large._check_passes(config, images)
    else:
        with pytest.raises(ValueError, match=message):
            large._check_passes(config, images)


def test_a_run_of_no_epoch_is_refused():
    with pytest.raises(ValueError, match="`stop_after` must be an integer of at least 1, got 0"):
        run_large(LargeConfig(**TINY), stop_after=0)
