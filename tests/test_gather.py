"""Finished runs of a batch as a results table."""

import csv
import json

import pytest

from lt_lib.batch.place import Place
from lt_lib.recipes import RunConfig, method_config, run_many
from tools import gather

SMALL = RunConfig(dataset="digits", n_max=20, epochs=1)


@pytest.fixture
def batch(tmp_path):
    """Three finished runs and one that is not, in folders as the batch engine names them."""
    configs = [method_config(method, SMALL, seed=seed) for seed, method in ((1, "ERM"), (0, "RW"), (0, "ERM"))]
    place = Place(tmp_path / "batch")
    for name, result in zip(("c", "a", "b"), run_many(configs), strict=True):
        result.save(place.run_folder(name) / "out")
    place.run_folder("d").mkdir(parents=True)
    return tmp_path / "batch"


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_finished_runs_become_rows_with_their_provenance(batch, tmp_path, capsys):
    out = tmp_path / "results" / "digits-quick.csv"
    assert gather.main([str(batch), "--out", str(out)]) == 0
    assert "3 finished runs" in capsys.readouterr().out
    rows = rows_of(out)
    assert [(row["seed"], row["method"]) for row in rows] == [("0", "ERM"), ("0", "RW"), ("1", "ERM")]
    provenance = json.loads(out.with_suffix(".json").read_text())
    assert set(provenance) == {row["config_hash"] for row in rows}
    for row in rows:
        matrix = provenance[row["config_hash"]]["confusion"]
        assert float(row["recall_0"]) == pytest.approx(matrix[0][0] / sum(matrix[0]), rel=1e-5)


def test_a_second_call_adds_what_has_been_finished_since(batch, tmp_path):
    out = tmp_path / "digits-quick.csv"
    gather.main([str(batch), "--out", str(out)])
    (late,) = run_many([method_config("RW", SMALL, seed=1)])
    late.save(Place(batch).run_folder("d") / "out")
    gather.main([str(batch), "--out", str(out)])
    assert sorted((row["seed"], row["method"]) for row in rows_of(out)) == [
        ("0", "ERM"), ("0", "RW"), ("1", "ERM"), ("1", "RW"),
    ]  # fmt: skip


def test_a_place_without_finished_runs_writes_nothing(tmp_path, capsys):
    assert gather.main([str(tmp_path), "--out", str(tmp_path / "x.csv")]) == 2
    assert "no finished run" in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()


def test_runs_of_another_notebook_are_named_and_nothing_is_written(batch, tmp_path, capsys):
    path = next(batch.glob("runs/*/out/result.json"))
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "config": {**content["config"], "pretext": "rotation"}}))
    assert gather.main([str(batch), "--out", str(tmp_path / "x.csv")]) == 2
    assert "take `lt-lib collect` for others" in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()


def test_two_results_of_one_configuration_are_refused(batch, tmp_path, capsys):
    (again,) = run_many([method_config("ERM", SMALL, seed=1)])
    again.save(Place(batch).run_folder("e") / "out")
    assert gather.main([str(batch), "--out", str(tmp_path / "x.csv")]) == 2
    assert "must hold one result of a configuration, got runs c and e of the same" in capsys.readouterr().err
    assert not (tmp_path / "x.csv").exists()
