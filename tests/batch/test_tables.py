"""Collected tables: one row per run, the same bytes every time, and honest about what is missing."""

import csv
import io
import json
import os

import pandas as pd
import pytest
from batch.cases import fail, keep_plan, publish

from lt_lib.batch.tables import collect, csv_text, write_table

ROW = {"row": {"x": 1.0, "beta": None, "method": "m", "accuracy_last": 0.25, "recall_0": 0.5, "recall_1": None}}


@pytest.fixture
def grid_of_four(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1, 2]}\nseeds: 2\n")
    keep_plan(place, plan)
    return plan


def rows(table):
    return list(csv.DictReader(io.StringIO(csv_text(table))))


def test_one_row_per_run_in_grid_order(place, grid_of_four):
    for position in (3, 1, 0, 2):  # finished in another order
        run = grid_of_four.runs[position]
        publish(place, grid_of_four, run, {"row": {**ROW["row"], "x": run.parameters["x"], "accuracy_last": position}})
    table = collect(place)
    assert table.complete
    assert (table.expected, table.got, table.missing) == (4, 4, [])
    assert [float(row["accuracy_last"]) for row in rows(table)] == [0, 1, 2, 3]
    assert [(row["x"], row["seed"], row["flag"]) for row in rows(table)] == [
        ("1.0", "0", "false"), ("1.0", "1", "false"), ("2.0", "0", "false"), ("2.0", "1", "false"),
    ]  # fmt: skip
    assert {row["complete"] for row in rows(table)} == {"true"}
    assert {(row["host"], row["environment"], row["run_seconds"]) for row in rows(table)} == {("here", "e" * 12, "2.0")}
    assert {row["recall_1"] for row in rows(table)} == {""}


def test_a_result_that_says_something_else_than_the_parameter_keeps_both(place, grid_of_four):
    for run in grid_of_four.runs:
        publish(place, grid_of_four, run, {"row": {"label": None, "seed": run.parameters["seed"], "run": 7}})
    first = rows(collect(place))[0]
    assert (first["label"], first["parameter_label"], first["seed"]) == ("", "a", "0")
    assert "parameter_seed" not in first
    assert (first["result_run"], first["run"]) == ("7", grid_of_four.runs[0].id)


def test_a_result_without_a_row_gives_its_own_scalars(place, grid_of_four):
    for run in grid_of_four.runs:
        publish(place, grid_of_four, run, {"accuracy": 0.5, "curve": [1, 2], "note": "n"})
    first = rows(collect(place))[0]
    assert (first["accuracy"], first["note"]) == ("0.5", "n")
    assert "curve" not in first


@pytest.mark.faults
def test_an_incomplete_grid_says_so_in_every_row(place, grid_of_four, tmp_path):
    done, failed, damaged, missing = grid_of_four.runs
    publish(place, grid_of_four, done, ROW)
    fail(place, failed, "notebook-error")
    (publish(place, grid_of_four, damaged, ROW) / "notebook.ipynb").unlink()
    table = collect(place)
    assert not table.complete
    assert [row["state"] for row in rows(table)] == ["done", "failed", "damaged", "pending"]
    assert {row["complete"] for row in rows(table)} == {"false"}
    assert [row["accuracy_last"] for row in rows(table)] == ["0.25", "", "", ""]
    write_table(table, tmp_path / "t.csv")
    about = json.loads((tmp_path / "t.csv.json").read_text())
    assert (about["complete"], about["expected"], about["got"]) == (False, 4, 1)
    assert [entry["run"] for entry in about["missing"]] == [failed.id, damaged.id, missing.id]


@pytest.mark.faults
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_same_place_gives_the_same_bytes(place, grid_of_four, tmp_path, ending):
    for run in grid_of_four.runs[:3]:
        publish(place, grid_of_four, run, ROW)
    paths = [tmp_path / name / f"t.{ending}" for name in ("one", "two")]
    for path in paths:
        write_table(collect(place), path)
        os.utime(place.folder / "runs")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert (tmp_path / "one" / f"t.{ending}.json").read_bytes() == (tmp_path / "two" / f"t.{ending}.json").read_bytes()


def test_parquet_holds_the_same_as_csv_with_types(place, grid_of_four, tmp_path):
    import pyarrow.parquet

    for run in grid_of_four.runs[1:]:
        publish(place, grid_of_four, run, {"row": {**ROW["row"], "x": run.parameters["x"]}})
    write_table(collect(place), tmp_path / "t.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert (metadata["complete"], metadata["expected"], metadata["got"]) == ("false", "4", "3")
    kinds = {field.name: str(field.type) for field in table.schema}
    assert [kinds[name] for name in ("x", "seed", "flag", "label", "recall_1", "complete")] == [
        "double", "int64", "bool", "string", "double", "bool",
    ]  # fmt: skip
    written = pd.read_csv(io.StringIO(csv_text(collect(place))))
    pd.testing.assert_frame_equal(
        table.to_pandas()[["run", "x", "seed", "accuracy_last"]],
        written[["run", "x", "seed", "accuracy_last"]],
        check_dtype=False,
    )


def test_only_the_named_grids_are_collected(place, grid_of_four):
    assert collect(place, ["g"]).expected == 4
    with pytest.raises(ValueError, match="`grid` must be one of g, got 'h'"):
        collect(place, ["h"])


def test_another_ending_is_refused(place, grid_of_four, tmp_path):
    with pytest.raises(ValueError, match=r"`output` must end in \.csv or \.parquet"):
        write_table(collect(place), tmp_path / "t.xlsx")
