import csv
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lt_lib import data, training
from lt_lib.data import Dataset, Split
from lt_lib.recipes import METHODS, PRESETS, RunConfig, method_config, preset
from tools import measure

SMALL = {
    "dataset": "tiny",
    "model": "resnet8",
    "augment": True,
    "imbalance_ratio": 4.0,
    "validation_per_class": 2,
    "epochs": 5,
    "batch_size": 16,
    "evaluate_every": 2,
}


@pytest.fixture(scope="module")
def tiny():
    rng = np.random.default_rng(0)

    def split(per_class):
        targets = np.repeat(np.arange(3), per_class)
        pixels = 60 * targets[:, None, None, None] + rng.integers(0, 90, (len(targets), 8, 8, 1))
        return Split(pixels.astype(np.uint8), targets.astype(np.int64))

    return Dataset("tiny", split(16), split(10), 3, ("a", "b", "c"))


@pytest.fixture
def epochs_trained(monkeypatch):
    """Epochs that are really trained, in order."""
    seen, real = [], training.loop._train_epoch
    monkeypatch.setattr(training.loop, "_train_epoch", lambda *arguments: seen.append(1) or real(*arguments))
    return seen


def test_the_first_stage_of_a_deferred_method_is_its_partner():
    for method, partner in (("DRW", "ERM"), ("DRS", "ERM"), ("LDAM-DRW", "LDAM"), ("LDAM-DRS", "LDAM")):
        config = method_config(method, RunConfig(**SMALL), seed=3)
        assert measure.first_stage(config) == method_config(partner, RunConfig(**SMALL), seed=3)
    # Uniform margins without weights are a method of their own, which no table names.
    assert measure.first_stage(method_config("M-DRW")).margin_rule == "uniform"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--seeds 0 --methods ERM LDM-DRW", "`method` must be one of .* got 'LDM-DRW'. Did you mean .*'LDAM-DRW'"),
        ("--seeds -1 --methods ERM", "`seed` must be .*, got -1"),
        ("--seeds 0 --methods ERM --set seed=5", "`set` must leave `seed` to --seeds, got seed=5"),
        ("--seeds 0 --methods ERM --set dataset=svhn", "`set` must leave `dataset` to --dataset, got dataset=svhn"),
        ("--seeds 0 --methods ERM --set loss=ldam", "`set` must leave the method as it is, ERM"),
    ],
)
def test_wrong_words_are_one_line_before_anything_is_loaded(monkeypatch, tmp_path, capsys, words, message):
    monkeypatch.setattr(data, "load", lambda *_, **__: pytest.fail("loaded"))
    options = ["--preset", "cifar-small", "--dataset", "digits", "--out", str(tmp_path / "rows.csv")]
    assert measure.main([*options, *words.split()]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "rows.csv").exists()


def test_a_draw_that_the_data_cannot_give_is_one_line_that_names_the_preset(tmp_path, tiny, monkeypatch, capsys):
    monkeypatch.setattr(measure.data, "load", lambda *args, **kwargs: tiny)
    words = [
        "--preset",
        "cifar-small",
        "--dataset",
        "digits",
        "--methods",
        "ERM",
        "--seeds",
        "0",
        "--set",
        "n_max=100000",
    ]
    assert measure.main([*words, "--out", str(tmp_path / "rows.csv"), "--checkpoints", str(tmp_path)]) == 2
    assert re.search(
        r"`n_max` must .* got 100000\. \(Preset cifar-small; --set changes its fields\.\)", capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []


def test_data_that_are_not_there_are_looked_for_in_the_given_root(tmp_path, capsys):
    options = ["--preset", "cifar-small", "--dataset", "cifar10", "--out", str(tmp_path / "rows.csv")]
    assert measure.main([*options, "--methods", "ERM", "--seeds", "0", "--set", f"data_root={tmp_path}"]) == 2
    assert f"not found in {tmp_path}" in capsys.readouterr().err


def test_runs_are_planned_seeds_first():
    found = measure.plan("cifar-small", ["ERM", "LDAM"], [0, 1], dataset="digits", model="resnet8")
    assert [(method, config.seed, config.loss, config.model) for method, config in found] == [
        ("ERM", 0, "softmax", "resnet8"), ("LDAM", 0, "ldam", "resnet8"),
        ("ERM", 1, "softmax", "resnet8"), ("LDAM", 1, "ldam", "resnet8"),
    ]  # fmt: skip
    [(_, changed)] = measure.plan("cifar-small", ["CB-focal"], [0], beta=0.99, imbalance_type="step")
    assert (changed.beta, changed.imbalance_type) == (0.99, "step")
    assert measure.plan("cifar-small", ["ERM"], [0], dataset="digits") == [
        ("ERM", preset("cifar-small", dataset="digits"))
    ]


def test_a_field_that_makes_another_method_is_refused():
    with pytest.raises(ValueError, match="`set` must leave the method as it is, ERM; got fields that make it LDAM"):
        measure.plan("cifar-small", ["ERM"], [0], loss="ldam")


@pytest.mark.parametrize("method", ["LDAM-DRW", "LDAM-DRS"])
def test_a_run_from_the_partners_snapshot_has_the_bits_of_a_run_from_scratch(tmp_path, tiny, epochs_trained, method):
    config = method_config(method, RunConfig(**SMALL))
    scratch = measure.measure(config, tiny, tmp_path / "scratch")
    assert len(epochs_trained) == 5
    partner = measure.measure(method_config("LDAM", RunConfig(**SMALL)), tiny, tmp_path / "shared")
    epochs_trained.clear()
    shared = measure.measure(config, tiny, tmp_path / "shared")
    assert len(epochs_trained) == 1  # the four epochs before the switch come from the partner
    np.testing.assert_array_equal(shared.test_logits, scratch.test_logits)
    for name in ("train_loss", "learning_rate", "evaluated", "accuracy"):
        assert shared.curves[name] == scratch.curves[name]
    assert not np.array_equal(partner.test_logits, shared.test_logits)
    assert shared.to_row()["config_hash"] == scratch.to_row()["config_hash"] == config.hash()


def test_a_method_that_is_not_deferred_does_not_share(tmp_path, tiny, epochs_trained):
    base = RunConfig(**SMALL | {"epochs": 2, "model": "mlp", "augment": False})
    measure.measure(method_config("ERM", base), tiny, tmp_path)
    measure.measure(method_config("RW", base), tiny, tmp_path)
    assert len(epochs_trained) == 4


def test_an_own_checkpoint_comes_before_the_partners_snapshot(tmp_path, tiny, epochs_trained):
    base = RunConfig(**SMALL | {"model": "mlp", "augment": False})
    config = method_config("DRW", base)
    first = measure.measure(config, tiny, tmp_path)
    measure.measure(method_config("ERM", base), tiny, tmp_path)
    epochs_trained.clear()
    again = measure.measure(config, tiny, tmp_path)
    assert epochs_trained == []
    np.testing.assert_array_equal(again.test_logits, first.test_logits)


def test_a_snapshot_of_other_data_is_refused(tmp_path, tiny):
    base = RunConfig(**SMALL | {"model": "mlp", "augment": False})
    measure.measure(method_config("ERM", base), tiny, tmp_path)
    darker = Dataset("tiny", Split(tiny.train.inputs // 2, tiny.train.targets), tiny.test, 3, tiny.class_names)
    with pytest.raises(training.CheckpointError, match="belongs to another configuration"):
        measure.measure(method_config("DRW", base), darker, tmp_path)


@pytest.fixture
def result(tmp_path, tiny):
    base = RunConfig(**SMALL | {"model": "mlp", "augment": False, "epochs": 1})
    return lambda method, **changes: measure.measure(method_config(method, base, **changes), tiny, tmp_path / "runs")


def test_rows_are_appended_once(tmp_path, result):
    table = tmp_path / "deep" / "table.csv"
    assert measure.read_rows(table) == []
    first, second = result("ERM"), result("CB-focal")
    measure.append_row(table, first)
    measure.append_row(table, second)
    before = table.read_bytes(), table.with_suffix(".json").read_bytes()
    measure.append_row(table, second)
    assert (table.read_bytes(), table.with_suffix(".json").read_bytes()) == before
    rows = measure.read_rows(table)
    assert [row["method"] for row in rows] == ["ERM", "CB-focal"]
    assert rows[0]["beta"] == rows[0]["gamma"] == ""
    assert float(rows[1]["accuracy_last"]) == pytest.approx(second.accuracy_last, abs=1e-6)
    assert rows[0]["config_hash"] == first.config.hash()
    assert b"\r" not in table.read_bytes()
    assert sorted(entry.name for entry in table.parent.iterdir()) == [".table.csv.lock", "table.csv", "table.json"]


def test_two_writers_of_one_table_lose_no_row(tmp_path, result, monkeypatch):
    table, real, read = tmp_path / "table.csv", measure.read_rows, threading.Event()

    def read_slowly(path):
        rows = real(path)
        read.set()
        time.sleep(0.3)
        return rows

    first, second = result("ERM"), result("CB-focal")
    monkeypatch.setattr(measure, "read_rows", read_slowly)
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(measure.append_row, table, first)
        assert read.wait(timeout=30)
        measure.append_row(table, second)
        writing.result(timeout=30)
    assert [row["method"] for row in real(table)] == ["ERM", "CB-focal"]
    assert set(json.loads(table.with_suffix(".json").read_text())) == {first.config.hash(), second.config.hash()}


def test_provenance_stands_beside_the_table(tmp_path, result):
    table = tmp_path / "table.csv"
    one = result("ERM", data_root="a/private/place")
    measure.append_row(table, one)
    known = json.loads((tmp_path / "table.json").read_text())
    entry = known[one.config.hash()]
    assert entry["config"]["epochs"] == 1
    assert entry["confusion"] == one.confusion
    assert entry["versions"]["torch"]
    assert "private" not in (tmp_path / "table.json").read_text() + table.read_text()


def test_tables_of_other_width_keep_all_columns(tmp_path, result):
    table = tmp_path / "table.csv"
    table.write_text("dataset,config_hash,recall_9\nold,0123,0.5\n")
    measure.append_row(table, result("ERM"))
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recall_9"] for row in rows] == ["0.5", ""]
    assert [row["accuracy_last"] == "" for row in rows] == [True, False]


def test_the_command_measures_what_the_table_lacks(tmp_path, tiny, monkeypatch, capsys, epochs_trained):
    settings = {name: value for name, value in SMALL.items() if name != "dataset"}
    monkeypatch.setitem(PRESETS, "tiny", settings | {"model": "mlp", "augment": False, "epochs": 2})
    monkeypatch.setattr(data, "load", lambda name, root: tiny)
    table = tmp_path / "out.csv"
    words = ["--preset", "tiny", "--dataset", "tiny", "--seeds", "0", "1", "--out", str(table)]
    words += ["--checkpoints", str(tmp_path / "runs")]
    assert measure.main([*words, "--methods", "ERM"]) == 0
    assert len(epochs_trained) == 4
    assert measure.main([*words, "--methods", "ERM", "RS"]) == 0
    assert len(epochs_trained) == 8
    rows = measure.read_rows(table)
    assert [(row["method"], row["seed"]) for row in rows] == [("ERM", "0"), ("ERM", "1"), ("RS", "0"), ("RS", "1")]
    assert {row["model"] for row in rows} == {"mlp"}
    # A second --set adds to the first.
    assert measure.main([*words, "--methods", "ERM", "--set", "model=cnn", "--set", "epochs=1"]) == 0
    assert [row["model"] for row in measure.read_rows(table)] == ["mlp"] * 4 + ["cnn"] * 2
    assert len(epochs_trained) == 10
    assert "ERM, seed 0: in the table already" in capsys.readouterr().out
    assert (tmp_path / "runs" / rows[0]["config_hash"] / "result.json").exists()


def test_an_error_inside_a_training_keeps_its_traceback(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(data, "load", lambda name, root: tiny)
    monkeypatch.setattr(measure, "measure", lambda *_: len(3))
    words = [
        "--preset",
        "digits-quick",
        "--dataset",
        "tiny",
        "--methods",
        "ERM",
        "--seeds",
        "0",
        "--set",
        "n_max=16",
        "imbalance_ratio=2",
    ]
    with pytest.raises(TypeError, match="has no len"):
        measure.main([*words, "--out", str(tmp_path / "out.csv")])


def test_the_switch_of_every_deferred_method_is_where_its_partner_is_kept():
    for method, fields in METHODS.items():
        if fields.get("defer_until", 0) > 0:
            config = preset("cifar-small", method)
            assert training.change_epoch(config.epochs, config.defer_until) == 32
